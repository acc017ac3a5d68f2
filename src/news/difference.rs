//! From two snapshots to what is different in the second.
//!
//! What did not change is shared by both, so this looks at what changed and no more: whole
//! datacenters, branches and leaves are passed over by their pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::answer::stale::is_away;
use crate::catalog::nodes::NodeRecord;
use crate::catalog::{Datacenter, Found, List, Service, Snapshot};
use crate::news::{Item, NAMES_MAX, Names, healths};

/// Tells each difference.
pub(in crate::news) fn find(before: &Snapshot, after: &Snapshot, tell: &mut dyn FnMut(Item)) {
    let local = |snapshot: &Snapshot| match snapshot.datacenter(None) {
        Found::Here(local) => Some(local.name.to_string()),
        Found::Missing | Found::Unheard => None,
    };
    let (old, new) = (by_name(before), by_name(after));
    let lacking = |one: &ByName<'_>, other: &ByName<'_>| {
        let names = one.keys().filter(|name| !other.contains_key(**name));
        names.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let (added, removed) = (lacking(&new, &old), lacking(&old, &new));
    if !added.is_empty() || !removed.is_empty() || local(before) != local(after) {
        tell(Item::Datacenters { added, removed, local: local(after) });
    }
    for (name, now) in new {
        let old = old.get(name);
        let reach = |snapshot, it: &Datacenter| (!is_away(snapshot, it), is_old(it));
        let (is_heard, is_old) = reach(after, now);
        if old.is_some_and(|old| reach(before, old) != (is_heard, is_old)) {
            tell(Item::Reach { datacenter: Arc::from(name), is_heard, is_old });
        }
        if old.is_none_or(|old| !Arc::ptr_eq(old, now)) {
            let (old, name) = (old.map(|old| &***old), Arc::from(name));
            services(old, now, &name, tell);
            nodes(old, now, &name, tell);
        }
    }
}

/// There may be a thousand of them.
type ByName<'s> = BTreeMap<&'s str, &'s Arc<Datacenter>>;

fn by_name(snapshot: &Snapshot) -> ByName<'_> {
    snapshot.datacenters().map(|it| (&*it.name, it)).collect()
}

fn is_old(datacenter: &Datacenter) -> bool {
    [List::Services, List::Nodes].into_iter().any(|list| datacenter.old_since(list).is_some())
}

fn services(
    old: Option<&Datacenter>,
    now: &Datacenter,
    datacenter: &Arc<str>,
    tell: &mut dyn FnMut(Item),
) {
    let mut names = Names::default();
    let mut changed = Vec::new();
    now.changed_services(old, &mut |before, after| match (before, after) {
        (Some(gone), None) => names.removed.push(gone.name.to_string()),
        (None, Some(new)) => {
            names.added.push(new.name.to_string());
            changed.push(Arc::clone(new));
        }
        (Some(before), Some(after)) if is_other(before, after) => changed.push(Arc::clone(after)),
        (Some(_), Some(_)) | (None, None) => (),
    });
    let is_first = now.has_services() && !old.is_some_and(Datacenter::has_services);
    each_part(names, is_first, |names| {
        tell(Item::Services { datacenter: Arc::clone(datacenter), names });
    });
    changed.sort_by(|a, b| a.name.cmp(&b.name));
    for service in changed {
        tell(Item::Service {
            datacenter: Arc::clone(datacenter),
            name: service.name.to_string(),
            health: healths(&service),
        });
    }
}

fn nodes(
    old: Option<&Datacenter>,
    now: &Datacenter,
    datacenter: &Arc<str>,
    tell: &mut dyn FnMut(Item),
) {
    let mut names = Names::default();
    let name = |record: &NodeRecord| record.node.name.clone();
    now.changed_nodes(old, &mut |before, after| match (before, after) {
        (Some(gone), None) => names.removed.push(name(gone)),
        (None, Some(new)) => names.added.push(name(new)),
        (Some(_), Some(after)) => names.changed.push(name(after)),
        (None, None) => (),
    });
    let is_first = now.has_nodes() && !old.is_some_and(Datacenter::has_nodes);
    each_part(names, is_first, |names| {
        tell(Item::Nodes { datacenter: Arc::clone(datacenter), names });
    });
}

/// Whether somebody who looks at a service sees a difference. One that was only fetched again, or is
/// kept fresh in another way, shows none.
fn is_other(before: &Service, after: &Service) -> bool {
    let is_same =
        Arc::ptr_eq(&before.instances, &after.instances) || before.instances == after.instances;
    !is_same
        || before.name != after.name
        || before.rrsets.is_some() != after.rrsets.is_some()
        || !before.listed_tags().eq(after.listed_tags())
}

/// Cuts `names`, which are sorted first, into parts of a bounded size. Of none there is one part if
/// it `is_first`.
fn each_part(mut names: Names, is_first: bool, mut tell: impl FnMut(Names)) {
    let mut lists = [&mut names.added, &mut names.changed, &mut names.removed];
    lists.iter_mut().for_each(|list| list.sort());
    let mut is_due = is_first;
    loop {
        let mut part = Names::default();
        let mut room = NAMES_MAX;
        let all = [&mut names.added, &mut names.changed, &mut names.removed];
        for (from, to) in
            all.into_iter().zip([&mut part.added, &mut part.changed, &mut part.removed])
        {
            to.extend(from.drain(..room.min(from.len())));
            room -= to.len();
        }
        if room == NAMES_MAX && !is_due {
            return;
        }
        is_due = false;
        tell(part);
    }
}

#[cfg(test)]
mod tests;
