//! Compares what is in memory with what Consul has, and mends what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use tracing::warn;

use crate::catalog::model::Instance;
use crate::catalog::{Change, Datacenter, Found, Held, Snapshot};
use crate::consul::Key;
use crate::consul::Watched;
use crate::consul::check::Verdict;
use crate::consul::keeper::{Batch, Keeper};
use crate::consul::tasks::{Again, Said};
use crate::consul::view::{Heard, find};

impl Keeper {
    /// Reads the next of what is watched again, if it is time and nobody else wants to ask.
    pub fn begin_check(&mut self) {
        let is_free = self.is_ready && !self.waiting.has_queue();
        let telling = || self.watches.telling();
        let Some(watched) = self.check.begin(telling, is_free, Instant::now()) else { return };
        self.read_again(watched, Said::Checked);
    }

    /// Reads something again that is watched, to be reported as `said`.
    pub fn read_again(&self, watched: Watched, said: fn(Again) -> Said) {
        let snapshot = self.publisher.snapshot();
        // Consul is asked for a service as it is registered.
        let name = match &watched {
            Watched::Service(key) => {
                find(&snapshot, key).map_or(&*key.service, |service| &*service.name).to_owned()
            }
            _ => String::new(),
        };
        self.tasks.read_again(watched, &name, said);
    }

    /// Compares what was read with what is in memory. What stays different is believed.
    pub(in crate::consul::keeper) fn take_checked(
        &mut self,
        checked: Again,
        arrived: Instant,
        batch: &mut Batch,
    ) {
        let Again { watched, found } = checked;
        let Some((mut change, read)) = found.filter(|_| self.can_compare(&watched)) else {
            return self.check.fail(&watched);
        };
        if let Change::Service { held, .. } = &mut change {
            *held = Held::Watched;
        }
        self.metrics.check.checks.inc();
        let differs = self.publisher.would_change(change.clone());
        match self.check.judge(&watched, read, differs, Instant::now()) {
            Verdict::Diverged => (),
            Verdict::Sound | Verdict::Unsettled => return,
        }
        let snapshot = self.publisher.snapshot();
        let difference = difference(&change, &snapshot);
        self.metrics.check.divergences.inc();
        warn!(%watched, difference, "memory was not what consul has; mended");
        self.watches.renew(&watched, &snapshot);
        // What has vanished is believed as late as if a watch had told.
        self.weigh(&mut change);
        batch.heard.push((Heard::of(&change), arrived, None));
        batch.changes.push(change);
    }

    /// Whether what Consul has of `watched` should be in memory now.
    fn can_compare(&self, watched: &Watched) -> bool {
        let snapshot = self.publisher.snapshot();
        let listed = in_memory(&snapshot, watched.datacenter());
        let is_told = match watched {
            // A far datacenter may take its time before it says anything.
            Watched::Nodes { .. } => listed.is_some_and(Datacenter::has_nodes),
            Watched::Queries { .. } => listed.is_some(),
            Watched::Services { .. } => listed.is_some_and(Datacenter::has_services),
            Watched::Service(key) => {
                // The list of names says first whether it is there; that is compared by itself.
                let known = find(&snapshot, key).is_some_and(|it| it.held == Held::Watched);
                known && self.watches.told(key).is_some()
            }
        };
        is_told && !self.watches.is_failing(watched) && !self.guard.is_held_back(watched)
    }
}

/// What of `change` is not in memory, what is in memory alone, and what is another there.
fn difference(change: &Change, snapshot: &Snapshot) -> String {
    let (there, here) = match change {
        Change::Nodes { datacenter, nodes } => {
            let there = nodes.iter().map(|node| (node.name.to_ascii_lowercase(), String::new()));
            let here = in_memory(snapshot, datacenter).map(|datacenter| {
                datacenter.node_names().map(|name| (name.to_owned(), String::new())).collect()
            });
            (there.collect(), here)
        }
        Change::Service { datacenter, form, service, instances, .. } => {
            let known = find(snapshot, &Key::new(datacenter, *form, service));
            (each(instances), known.map(|service| each(&service.instances)))
        }
        Change::Services { datacenter, listing } => {
            let there = listing.iter().map(|(name, tags)| {
                let tags: BTreeSet<_> = tags.iter().map(|tag| tag.to_ascii_lowercase()).collect();
                (name.to_ascii_lowercase(), format!("{tags:?}"))
            });
            let here = in_memory(snapshot, datacenter).map(|datacenter| {
                let services = datacenter.services().map(|service| {
                    let tags: BTreeSet<_> = service.listed_tags().map(str::to_owned).collect();
                    (service.name.to_ascii_lowercase(), format!("{tags:?}"))
                });
                services.collect()
            });
            (there.collect(), here)
        }
        _ => (BTreeMap::new(), None),
    };
    told(&there, &here.unwrap_or_default())
}

fn in_memory<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Datacenter> {
    match snapshot.datacenter(Some(name.as_bytes())) {
        Found::Here(datacenter) => Some(datacenter),
        Found::Missing | Found::Unheard => None,
    }
}

/// By node and ID.
fn each(instances: &[Instance]) -> BTreeMap<String, String> {
    let name = |instance: &Instance| format!("{}/{}", instance.node.name, instance.id);
    instances.iter().map(|instance| (name(instance), format!("{instance:?}"))).collect()
}

fn told(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> String {
    let only = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        let names = one.keys().filter(|name| !other.contains_key(*name));
        names.cloned().collect::<Vec<_>>()
    };
    let both = there.iter().filter(|(name, text)| here.get(*name).is_some_and(|it| it != *text));
    let both = both.map(|(name, _)| name.clone()).collect();
    let parts =
        [("missing", only(there, here)), ("no longer there", only(here, there)), ("other", both)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
        let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        match names.len().saturating_sub(NAMES_SHOWN) {
            0 => format!("{what}: {shown}"),
            more => format!("{what}: {shown} and {more} more"),
        }
    });
    let text = parts.collect::<Vec<_>>().join("; ");
    // Nodes have nothing but their names here.
    if text.is_empty() { "contents".to_owned() } else { text }
}

/// More names than these are counted.
const NAMES_SHOWN: usize = 8;
