//! What a source reports: each change replaces one part of the catalogue whole.
//!
//! A source never patches. It says "these are now all the names of dc1", or "these are now all
//! instances of web", so a change that is lost is mended by the next one of its kind.

use crate::catalog::model::{Instance, Node};

/// One part of the catalogue, as it is now.
#[derive(Clone, Debug)]
pub enum Change {
    /// All datacenters there are; `local` is the one meant where a name has none.
    Datacenters { local: String, names: Vec<String> },
    /// All nodes of a datacenter.
    Nodes { datacenter: String, nodes: Vec<Node> },
    /// All instances of a service, whatever their health.
    Service { datacenter: String, service: String, instances: Vec<Instance>, held: Held },
    /// All services of a datacenter by name, each with its tags. Proves that a name is unknown.
    Services { datacenter: String, listing: Vec<(String, Vec<String>)> },
    /// Whether the source hears of this datacenter at present.
    Reach { datacenter: String, reachable: bool },
    /// The instances of a service are no longer kept; its name still is.
    Release { datacenter: String, service: String },
}

/// How a service's instances are kept fresh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// Fetched on demand: fetched again when asked for after this time of the program's clock.
    OnDemand { fresh_until_ms: u64 },
    /// Something tells us of each change.
    Watched,
}
