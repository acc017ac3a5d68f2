//! What a change lacks that the catalogue has, and how to put it back. Plain functions.

use std::collections::{BTreeMap, HashSet};

use tokio::time::Instant;

use crate::catalog::model::{Instance, Node};
use crate::catalog::queries::{Queries, QueryEntry};
use crate::catalog::{Change, Datacenter, Form, Found, Held, List, Service};
use crate::consul::{Key, Watched};

/// What can vanish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Of a service.
    Instances,
    /// Machines.
    Nodes,
    /// Prepared ones.
    Queries,
    /// By name.
    Services,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Instances, Self::Nodes, Self::Queries, Self::Services];

    /// What vanishes from this.
    pub fn of(watched: &Watched) -> Self {
        match watched {
            Watched::Nodes { .. } => Self::Nodes,
            Watched::Queries { .. } => Self::Queries,
            Watched::Service(_) => Self::Instances,
            Watched::Services { .. } => Self::Services,
        }
    }

    /// For the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instances => "instances",
            Self::Nodes => "nodes",
            Self::Queries => "prepared queries",
            Self::Services => "services",
        }
    }

    /// How many there are in memory.
    pub fn count(self, datacenter: &Datacenter) -> usize {
        match self {
            Self::Instances => datacenter.answerable_count(),
            Self::Nodes => datacenter.node_count(),
            Self::Queries => datacenter.queries().map_or(0, |queries| queries.entries().len()),
            Self::Services => datacenter.service_count(),
        }
    }
}

/// What a change is about, if something can vanish from it.
pub fn watched(change: &Change) -> Option<Watched> {
    match change {
        Change::Nodes { datacenter, .. } => Some(Watched::Nodes { datacenter: datacenter.clone() }),
        Change::Queries { datacenter, queries: Some(_) } => {
            Some(Watched::Queries { datacenter: datacenter.clone() })
        }
        Change::Service { datacenter, form, service, .. } => {
            Some(Watched::Service(Key::new(datacenter, *form, service)))
        }
        Change::Services { datacenter, .. } => {
            Some(Watched::Services { datacenter: datacenter.clone() })
        }
        _ => None,
    }
}

/// Whether there is still something of this in the catalogue that can be held back.
pub fn is_there(watched: &Watched, datacenter: &Datacenter) -> bool {
    match watched {
        Watched::Service(key) => held(datacenter, key.form, &key.service).is_some(),
        Watched::Nodes { .. } | Watched::Queries { .. } | Watched::Services { .. } => true,
    }
}

/// What `change` lacks and `datacenter` has, or `queries`. What only a snapshot file says is there, if that was
/// right at `right_since_ms` of the program's clock, or later.
pub fn gone(
    change: &Change,
    datacenter: &Datacenter,
    queries: &[QueryEntry],
    right_since_ms: i64,
) -> Vec<Box<str>> {
    let is_right = |list: List| {
        let old_since_ms = datacenter.old_since(list).filter(|_| !datacenter.has_heard(list));
        old_since_ms.is_none_or(|since_ms| since_ms >= right_since_ms)
    };
    let is_believed = |held: Held| match held {
        Held::Loaded { since_ms } => since_ms >= right_since_ms,
        _ => true,
    };
    match change {
        Change::Nodes { nodes: new, .. } if is_right(List::Nodes) => {
            let new: HashSet<Box<str>> = new.iter().map(node_key).collect();
            datacenter.nodes().map(node_key).filter(|key| !new.contains(key)).collect()
        }
        Change::Queries { queries: Some(new), .. } => lacking(queries, new.entries(), query_key),
        // A query leaves out itself what is not healthy: what it lacks need not have vanished.
        Change::Service { form: Form::Query, instances, .. } if !instances.is_empty() => Vec::new(),
        Change::Service { form, service, instances, .. } => {
            let old = held(datacenter, *form, &service.to_ascii_lowercase());
            let old = old.filter(|service| is_believed(service.held));
            let old = old.map_or(&[][..], |service| &*service.instances);
            let gone = lacking(old, instances, instance_key);
            if gone.is_empty() || old.iter().all(Instance::is_answerable) {
                return gone;
            }
            // Nobody is answered with one that is critical, so none is missed.
            let counted = old.iter().filter(|instance| instance.is_answerable());
            let counted: HashSet<_> = counted.map(instance_key).collect();
            gone.into_iter().filter(|key| counted.contains(key)).collect()
        }
        Change::Services { listing, .. } if is_right(List::Services) => {
            let new: HashSet<String> =
                listing.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            let old = datacenter.services().map(|service| service.name.to_ascii_lowercase());
            old.filter(|name| !new.contains(name)).map(String::into_boxed_str).collect()
        }
        _ => Vec::new(),
    }
}

/// Puts back into `change` what of `gone` is there.
pub fn put_back(
    change: &mut Change,
    gone: &BTreeMap<Box<str>, Instant>,
    datacenter: &Datacenter,
    queries: &[QueryEntry],
) {
    if gone.is_empty() {
        return;
    }
    match change {
        Change::Nodes { nodes: new, .. } => {
            let back = datacenter.nodes().filter(|node| gone.contains_key(&*node_key(node)));
            new.extend(back.cloned());
        }
        Change::Queries { queries: Some(new), .. } => {
            let back = queries.iter().filter(|query| gone.contains_key(&*query_key(query)));
            *new = Queries::new(new.entries().iter().chain(back).cloned().collect());
        }
        Change::Service { form, service, instances, .. } => {
            if let Some(old) = held(datacenter, *form, &service.to_ascii_lowercase()) {
                let old = old.instances.iter();
                let back = old.filter(|instance| gone.contains_key(&*instance_key(instance)));
                instances.extend(back.cloned());
            }
        }
        Change::Services { listing, .. } => {
            for key in gone.keys() {
                if let Found::Here(old) = datacenter.service(key.as_bytes()) {
                    let tags = old.listed_tags().map(str::to_owned);
                    listing.push((old.name.to_string(), tags.collect()));
                }
            }
        }
        _ => (),
    }
}

/// Whether it is a list of services that has `name`.
pub fn lists(change: &Change, name: &str) -> bool {
    match change {
        Change::Services { listing, .. } => listing.iter().any(|(listed, _)| listed == name),
        _ => false,
    }
}

/// How many instances the services of these names have in memory.
pub fn instances_of<'n>(
    names: impl IntoIterator<Item = &'n str>,
    datacenter: &Datacenter,
) -> usize {
    let names = names.into_iter();
    let services = names.filter_map(|name| held(datacenter, Form::Service, name));
    let answerable =
        |service: &Service| service.instances.iter().filter(|it| it.is_answerable()).count();
    services.map(answerable).sum()
}

fn lacking<T>(old: &[T], new: &[T], key: impl Fn(&T) -> Box<str>) -> Vec<Box<str>> {
    // Most changes lack nothing, and have everything in the same place.
    let is_in_place = |(old, new): (&T, &T)| key(old) == key(new);
    if old.len() <= new.len() && old.iter().zip(new).all(is_in_place) {
        return Vec::new();
    }
    let new: HashSet<Box<str>> = new.iter().map(&key).collect();
    old.iter().map(key).filter(|key| !new.contains(key)).collect()
}

fn held<'d>(datacenter: &'d Datacenter, form: Form, name: &str) -> Option<&'d Service> {
    let found = match form {
        Form::Service => datacenter.service(name.as_bytes()),
        _ => datacenter.unlisted(form, name.as_bytes()),
    };
    match found {
        Found::Here(service) => Some(service),
        Found::Missing | Found::Unheard => None,
    }
}

fn instance_key(instance: &Instance) -> Box<str> {
    format!("{}\0{}", instance.node.name, instance.id).into()
}

fn node_key(node: &Node) -> Box<str> {
    node.name.to_ascii_lowercase().into()
}

fn query_key(query: &QueryEntry) -> Box<str> {
    format!("{}\0{}", query.name, query.id).into()
}
