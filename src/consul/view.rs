//! What the keeper reads off changes and snapshots. Plain functions: nothing here waits or keeps.

use std::collections::BTreeSet;

use tracing::warn;

use crate::catalog::model::{Health, Instance};
use crate::catalog::queries;
use crate::catalog::{Change, Form, Found, List, Service, Snapshot};
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
            | Change::Loaded { .. }
            | Change::Missed { .. }
            | Change::Owned { .. }
            | Change::Queries { .. }
            | Change::Reach { .. }
            | Change::Release { .. }
            | Change::Settle { .. }
            | Change::Whole { .. } => Self::Other,
            Change::Service { datacenter, form, service, .. } => {
                Self::Service { key: Key::new(datacenter, *form, service), name: service.clone() }
            }
            Change::Services { datacenter, .. } => {
                Self::Services { datacenter: datacenter.clone() }
            }
        }
    }
}

/// What is in memory for `key`, if it is listed or was heard of.
pub fn find<'s>(snapshot: &'s Snapshot, key: &Key) -> Option<&'s Service> {
    let Found::Here(datacenter) = snapshot.datacenter(Some(key.datacenter.as_bytes())) else {
        return None;
    };
    let name = key.service.as_bytes();
    let found = match key.form {
        Form::Service => datacenter.service(name),
        _ => datacenter.unlisted(key.form, name),
    };
    match found {
        Found::Here(service) => Some(service),
        Found::Missing | Found::Unheard => None,
    }
}

/// What is still to come before the program is ready, a line each; `starting` are services that
/// are watched from the start and of which nothing was heard yet.
pub fn pending<'k>(snapshot: &Snapshot, starting: impl Iterator<Item = &'k Key>) -> Vec<String> {
    let Found::Here(local) = snapshot.datacenter(None) else {
        return vec!["Consul has not said which datacenter it is in".to_owned()];
    };
    let mut pending = Vec::new();
    if !local.has_heard(List::Services) {
        pending.push(format!("the list of services of {} is not in", local.name));
    }
    if !local.has_heard(List::Nodes) {
        pending.push(format!("the list of nodes of {} is not in", local.name));
    }
    pending.extend(starting.map(|key| format!("the instances of {key} are not in")));
    pending
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

/// Whether a name can be a label of DNS and a segment of a URL.
///
/// Consul's catalogue takes any name. One with a dot or over 63 bytes is in no question; one with
/// an empty segment or a control character would ask for another service, or for none.
pub fn is_askable(form: Form, name: &str) -> bool {
    let (name, _) = queries::split(name);
    let is_name = match form {
        // Dots and all: a query's name is several labels, an exported service's is two.
        Form::Peer | Form::Query => (1..=255).contains(&name.len()),
        Form::Connect | Form::Ingress | Form::Service => {
            (1..=63).contains(&name.len()) && !name.contains('.')
        }
    };
    is_name && !name.contains("//") && !name.chars().any(char::is_control)
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
                    node: Node::new("n1".to_owned(), Address::Host("h".to_owned())),
                    address: None,
                    port: 80,
                    ports: Vec::new(),
                    tagged: None,
                    tags: vec![tag.to_owned()],
                    weights: Weights::default(),
                    health: Health::from_status(health),
                    worst: None,
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
            assert_eq!(is_askable(Form::Service, name), expected, "{name:?}");
        }
    }
}
