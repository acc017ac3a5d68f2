//! What a snapshot file says, between the catalogue's own words and JSON.
//!
//! ```text
//! { "datacenters": [ { "name", "since_unix_ms",         the local one first
//!     "nodes":    [ { "name", "address", "tagged", "meta" } ],
//!     "services": [ { "name", "tags", "settled", "since_unix_ms", "addresses",
//!                     "instances": [ { "id", "on": NODE, … } ] } ],
//!     "unlisted": [ { "form", … } ] } ] }               as services
//! ```
//! An instance names its node where that is as it is listed, and has it in full where it is not.
//! `since_unix_ms` is there for what may be old already. Left out is what only a Consul that
//! answers can say: which names there are not, beside those of the lists; and which prepared
//! queries there are, with their results for single clients' networks.

pub mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::catalog::model::{Instance, Node};
use crate::catalog::{Change, Datacenter, Form, Held, List, Service, Snapshot};
use crate::warm::Refusal;
use crate::warm::contents::text::{ExecutedText, InstanceText, NodeText, Text};

/// A catalogue, as a file holds it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Contents<'a> {
    datacenters: Vec<Place<'a>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Place<'a> {
    name: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_unix_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeText<'a>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    services: Option<Vec<Entry<'a>>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unlisted: Vec<Entry<'a>>,
}

/// A service, or what else has instances.
#[derive(Debug, Deserialize, Serialize)]
struct Entry<'a> {
    name: Text<'a>,
    /// Of what is in no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    form: Option<Text<'a>>,
    /// Those of the list of names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Text<'a>>,
    /// `None` where they were not in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instances: Option<Vec<InstanceText<'a>>>,
    /// Whether a tag that is listed, and that no instance has, was asked for and denied.
    #[serde(default)]
    settled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_unix_ms: Option<i64>,
    /// Addresses of its own that it has, each with the node and the ID of an instance, where the
    /// instances are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    addresses: Option<Vec<(IpAddr, Text<'a>, Text<'a>)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executed: Option<ExecutedText<'a>>,
}

/// What is known of a file beside its contents.
#[derive(Clone, Copy, Debug)]
pub struct Loading<'l> {
    /// What the program's clock counts from, by the clock that the file's times are of.
    pub start_unix_ms: i64,
    /// When the file was last known to be right, in milliseconds of the program's clock.
    pub right_ms: i64,
    /// The datacenter meant where a name has none; `None` is the file's own.
    pub local: Option<&'l str>,
}

impl<'a> Contents<'a> {
    /// What `snapshot` holds; `start_unix_ms` is what the program's clock counts from.
    pub fn of(snapshot: &'a Snapshot, start_unix_ms: i64) -> Self {
        let places = snapshot.datacenters().map(|it| Place::of(it, start_unix_ms));
        Self { datacenters: places.collect() }
    }

    /// Reads what [`Contents::to_payload`] has made.
    ///
    /// # Errors
    ///
    /// Fails on everything else.
    pub fn read(payload: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(payload).map_err(|error| Refusal::Damaged(error.to_string()))
    }

    /// The bytes for a file. Equal contents have equal bytes.
    pub fn to_payload(&self) -> Vec<u8> {
        // Text and numbers: nothing that JSON could not hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What makes this catalogue out of nothing, known to be old.
    ///
    /// # Errors
    ///
    /// Fails where it says what no catalogue can.
    pub fn changes(&self, loading: &Loading<'_>) -> Result<Vec<Change>, Refusal> {
        let first = self.datacenters.first().map(|place| &*place.name);
        let Some(local) = loading.local.or(first) else {
            return Err(Refusal::Damaged("it has no datacenter".to_owned()));
        };
        let names = self.datacenters.iter().map(|place| place.name.clone().into_owned());
        let mut changes =
            vec![Change::Datacenters { local: local.to_owned(), names: names.collect() }];
        for place in &self.datacenters {
            place.add_changes(loading, &mut changes)?;
        }
        Ok(changes)
    }
}

impl<'a> Place<'a> {
    fn of(datacenter: &'a Datacenter, start_unix_ms: i64) -> Self {
        let mut nodes: Vec<&Node> = datacenter.nodes().collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let listed: BTreeMap<&str, &Node> = nodes.iter().map(|node| (&*node.name, *node)).collect();
        let entry = |service| Entry::of(service, None, &listed, start_unix_ms);
        let mut services: Vec<_> = datacenter.services().map(|service| entry(service)).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        // What Consul denied, only Consul can deny; and whose network a result is for, only the list
        // of queries tells.
        let is_kept =
            |service: &Service| !service.instances.is_empty() && !service.name.contains('\0');
        let kept = datacenter.all_unlisted().filter(|(_, service)| is_kept(service));
        let unlisted =
            kept.map(|(form, service)| Entry::of(service, Some(form), &listed, start_unix_ms));
        let mut unlisted: Vec<_> = unlisted.collect();
        unlisted.sort_by(|a, b| (&a.form, &a.name).cmp(&(&b.form, &b.name)));
        let since = datacenter.old_since(List::Services);
        Self {
            name: Cow::Borrowed(&datacenter.name),
            since_unix_ms: since.map(|since_ms| start_unix_ms.saturating_add(since_ms)),
            nodes: datacenter.has_nodes().then(|| nodes.into_iter().map(NodeText::of).collect()),
            services: datacenter.has_services().then_some(services),
            unlisted,
        }
    }

    fn add_changes(&self, loading: &Loading<'_>, changes: &mut Vec<Change>) -> Result<(), Refusal> {
        let datacenter = || self.name.clone().into_owned();
        let since_ms = loading.since_ms(self.since_unix_ms);
        let nodes: Vec<Node> =
            self.nodes.iter().flatten().map(NodeText::read).collect::<Result<_, _>>()?;
        let listed: BTreeMap<&str, &Node> = nodes.iter().map(|node| (&*node.name, node)).collect();
        if let Some(services) = &self.services {
            let listing = services.iter().map(|entry| {
                let tags = entry.tags.iter().map(|tag| tag.clone().into_owned());
                (entry.name.clone().into_owned(), tags.collect())
            });
            changes.push(Change::Services { datacenter: datacenter(), listing: listing.collect() });
        }
        for entry in self.services.iter().flatten().chain(&self.unlisted) {
            entry.add_changes(&self.name, &listed, since_ms, loading, changes)?;
        }
        if self.nodes.is_some() {
            changes.push(Change::Nodes { datacenter: datacenter(), nodes });
        }
        changes.push(Change::Loaded { datacenter: datacenter(), since_ms });
        Ok(())
    }
}

impl<'a> Entry<'a> {
    fn of(
        service: &'a Service,
        form: Option<Form>,
        listed: &BTreeMap<&str, &Node>,
        start_unix_ms: i64,
    ) -> Self {
        let since_ms = match service.held {
            Held::Due { since_ms } | Held::Failing { since_ms } | Held::Loaded { since_ms } => {
                Some(since_ms)
            }
            Held::OnDemand { fresh_until_ms, .. } => {
                let whole_ms = fresh_until_ms - fresh_until_ms % STEP_MS;
                Some(i64::try_from(whole_ms).unwrap_or(i64::MAX))
            }
            Held::Watched => None,
        };
        let has_instances = service.rrsets.is_some();
        let instances =
            || service.instances.iter().map(|it| InstanceText::of(it, listed)).collect();
        let addresses = service.addresses().filter(|_| !has_instances);
        let borrowed = |(ip, node, id)| (ip, Cow::Borrowed(node), Cow::Borrowed(id));
        Self {
            name: Cow::Borrowed(&service.name),
            form: form.map(|form| Cow::Borrowed(form.as_str())),
            tags: service.listed_tags().map(Cow::Borrowed).collect(),
            instances: has_instances.then(instances),
            settled: !service.awaits_some(),
            since_unix_ms: since_ms
                .filter(|_| has_instances)
                .map(|since_ms| start_unix_ms.saturating_add(since_ms)),
            addresses: addresses.map(|all| all.map(borrowed).collect()),
            executed: service.executed().map(ExecutedText::of),
        }
    }

    fn add_changes(
        &self,
        datacenter: &str,
        listed: &BTreeMap<&str, &Node>,
        right_ms: i64,
        loading: &Loading<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refusal> {
        let (name, place) = (|| self.name.clone().into_owned(), || datacenter.to_owned());
        let form = match self.form.as_deref() {
            None => Form::Service,
            Some(word) => Form::UNLISTED
                .into_iter()
                .find(|form| form.as_str() == word)
                .ok_or_else(|| Refusal::Damaged(format!("it has a form {word:?}")))?,
        };
        if let Some(instances) = &self.instances {
            let instances = instances.iter().map(|instance| instance.read(listed));
            let since_ms = match self.since_unix_ms {
                Some(_) => loading.since_ms(self.since_unix_ms),
                None => right_ms,
            };
            changes.push(Change::Service {
                datacenter: place(),
                form,
                service: name(),
                instances: instances.collect::<Result<Vec<Instance>, _>>()?,
                held: Held::Loaded { since_ms },
                executed: self.executed.as_ref().map(ExecutedText::read),
            });
            if self.settled && form == Form::Service {
                changes.push(Change::Settle { datacenter: place(), service: name() });
            }
        }
        if let Some(addresses) = &self.addresses {
            let owned = |(ip, node, id): &(IpAddr, Text<'_>, Text<'_>)| {
                (*ip, node.clone().into_owned(), id.clone().into_owned())
            };
            let addresses = addresses.iter().map(owned).collect();
            changes.push(Change::Owned { datacenter: place(), service: name(), addresses });
        }
        Ok(())
    }
}

impl Loading<'_> {
    /// Since when something may be old: since the file was right, if nothing else is said. Never in
    /// the future, should the clock have been set.
    fn since_ms(&self, since_unix_ms: Option<i64>) -> i64 {
        let since_ms = since_unix_ms.map(|unix_ms| unix_ms.saturating_sub(self.start_unix_ms));
        since_ms.map_or(self.right_ms, |since_ms| since_ms.min(self.right_ms))
    }
}

/// What is asked for is fetched again all the time, mostly to be as it was. The file is not written
/// anew for that more often than this; it says that such things are older by as much.
const STEP_MS: u64 = 60_000;

#[cfg(test)]
mod tests;
