//! What the keeper reads off changes and snapshots. Plain functions: nothing here waits or keeps.

use tracing::warn;

use crate::catalog::{Change, Found, Service, Snapshot};
use crate::consul::Key;

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
    /// What `change` is about.
    pub fn of(change: &Change) -> Self {
        match change {
            Change::Datacenters { local, .. } => Self::Datacenters { local: local.clone() },
            Change::Nodes { datacenter, .. } => Self::Nodes { datacenter: datacenter.clone() },
            Change::Hold { .. }
            | Change::Queries { .. }
            | Change::Reach { .. }
            | Change::Release { .. }
            | Change::Swept { .. } => Self::Other,
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
    use super::*;

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
