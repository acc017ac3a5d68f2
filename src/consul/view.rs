//! What the keeper reads off changes and snapshots. Plain functions: nothing here waits or keeps.

use std::collections::BTreeSet;

use tracing::warn;

use crate::catalog::model::{Health, Instance};
use crate::catalog::{Change, Found, Service, Snapshot};
use crate::consul::Key;
use crate::consul::tasks::{Report, Said};

/// What a change was about, once it is published.
#[derive(Debug)]
pub enum Heard {
    /// There may be others now.
    Datacenters {
        /// The local one.
        local: String,
    },
    /// All nodes of a datacenter.
    Nodes {
        /// Its name.
        datacenter: String,
    },
    /// Nothing follows from it.
    Other,
    /// The instances of a service.
    Service {
        /// Which one.
        key: Key,
        /// As registered.
        name: String,
    },
    /// The names of a datacenter's services.
    Services {
        /// Its name.
        datacenter: String,
    },
}

impl Heard {
    /// The instances of a service registered as `name`.
    pub fn of_service(key: &Key, name: &str) -> Self {
        Self::Service { key: key.clone(), name: name.to_owned() }
    }

    /// What `change` is about.
    pub fn of(change: &Change) -> Self {
        match change {
            Change::Datacenters { local, .. } => Self::Datacenters { local: local.clone() },
            Change::Nodes { datacenter, .. } => Self::Nodes { datacenter: datacenter.clone() },
            Change::Hold { .. }
            | Change::Reach { .. }
            | Change::Release { .. }
            | Change::Settle { .. } => Self::Other,
            Change::Service { datacenter, service, .. } => {
                Self::Service { key: Key::new(datacenter, service), name: service.clone() }
            }
            Change::Services { datacenter, .. } => {
                Self::Services { datacenter: datacenter.clone() }
            }
        }
    }
}

/// The service of `key`, if it is listed.
pub fn find<'s>(snapshot: &'s Snapshot, key: &Key) -> Option<&'s Service> {
    let Found::Here(datacenter) = snapshot.datacenter(Some(key.datacenter.as_bytes())) else {
        return None;
    };
    match datacenter.service(key.service.as_bytes()) {
        Found::Here(service) => Some(service),
        Found::Missing | Found::Unheard => None,
    }
}

/// Leaves out every list of names that a later one of `reports` replaces.
///
/// A service that one list lacks and the next has again was watched all the while. Its instances
/// must not be forgotten between the two, as its watch would not tell of them again.
pub fn without_replaced_lists(reports: Vec<Report>) -> Vec<Report> {
    let mut later = BTreeSet::new();
    let mut kept: Vec<_> = reports
        .into_iter()
        .rev()
        .filter(|report| match &report.said {
            Said::Change(Change::Services { datacenter, .. }, _) => {
                later.insert(datacenter.clone())
            }
            _ => true,
        })
        .collect();
    kept.reverse();
    kept
}

/// Whether a question about these instances may be answered that there is none: for all of them,
/// or for a tag that only instances have that are not shown.
pub fn hides_some(instances: &[Instance], shows: impl Fn(Health) -> bool) -> bool {
    let (shown, hidden): (Vec<_>, Vec<_>) =
        instances.iter().partition(|instance| shows(instance.health));
    let tags = |instances: Vec<&Instance>| -> BTreeSet<String> {
        let tags = instances.into_iter().flat_map(|instance| &instance.tags);
        tags.map(|tag| tag.to_ascii_lowercase()).collect()
    };
    shown.is_empty() || !tags(hidden).is_subset(&tags(shown))
}

/// Whether a service's name can be a label of DNS and a segment of a URL.
///
/// Consul's catalogue takes any name. One with a dot or over 63 bytes is in no question; one with
/// an empty segment or a control character would ask for another service, or for none.
pub fn is_askable(name: &str) -> bool {
    let is_label = (1..=63).contains(&name.len()) && !name.contains('.');
    is_label && !name.contains("//") && !name.chars().any(char::is_control)
}

/// A datacenter whose lists are in has the servers' own service and nodes at the least. Where one
/// of them is empty, it is the token that sees nothing, and Consul does not say so.
pub fn warn_of_nothing(datacenter: &str, snapshot: &Snapshot) {
    let Found::Here(listed) = snapshot.datacenter(Some(datacenter.as_bytes())) else { return };
    let (services, nodes) = (listed.service_count(), listed.node_count());
    if listed.has_services() && listed.has_nodes() && (services == 0 || nodes == 0) {
        warn!(
            datacenter,
            services,
            nodes,
            "consul shows no services or no nodes: does the token have service:read and node:read?"
        );
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::catalog::model::{Address, Node, Weights};

    fn list(datacenter: &str, names: &[&str]) -> Report {
        let listing = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        let change = Change::Services { datacenter: datacenter.to_owned(), listing };
        Report { said: Said::Change(change, None), arrived: Instant::now() }
    }

    #[test]
    fn a_list_that_another_replaces_is_left_out() {
        let nodes = Change::Nodes { datacenter: "dc1".to_owned(), nodes: Vec::new() };
        let nodes = Report { said: Said::Change(nodes, None), arrived: Instant::now() };
        let reports = vec![list("dc1", &["a"]), list("dc2", &[]), nodes, list("dc1", &["a", "b"])];
        let kept = without_replaced_lists(reports).into_iter().map(|report| match report.said {
            Said::Change(Change::Services { datacenter, listing }, _) => {
                format!("{datacenter} {}", listing.len())
            }
            _ => "other".to_owned(),
        });
        assert_eq!(kept.collect::<Vec<_>>(), ["dc2 0", "other", "dc1 2"]);
    }

    #[test]
    fn what_may_be_denied_of_a_service() {
        for (instances, only_passing, expected) in [
            ("", false, true),
            ("passing v1", false, false),
            ("critical v1", false, true),
            ("warning v1", false, false),
            ("warning v1", true, true),
            ("passing v1, critical V1", false, false),
            ("passing v1, critical v2", false, true),
            ("passing v1, warning v2", false, false),
            ("passing v1, warning v2", true, true),
        ] {
            let given: Vec<_> = instances
                .split(", ")
                .filter_map(|text| text.split_once(' '))
                .map(|(health, tag)| Instance {
                    id: tag.to_owned(),
                    node: Node { name: "n1".to_owned(), address: Address::Host("h".to_owned()) },
                    address: None,
                    port: 80,
                    tags: vec![tag.to_owned()],
                    weights: Weights::default(),
                    health: Health::from_status(health),
                })
                .collect();
            let shows = |health| match health {
                Health::Critical => false,
                Health::Passing => true,
                Health::Unknown | Health::Warning => !only_passing,
            };
            assert_eq!(hides_some(&given, shows), expected, "{instances:?} {only_passing}");
        }
    }

    #[test]
    fn names_that_can_be_asked_for() {
        for (name, expected) in [
            ("web", true),
            ("a/b", true),
            ("two words", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a.b", false),
            ("a//b", false),
            ("a\tb", false),
            (&"x".repeat(64), false),
        ] {
            assert_eq!(is_askable(name), expected, "{name:?}");
        }
    }
}
