//! What a source reports: each change replaces one part of the catalogue whole.
//!
//! A source never patches. It says "these are now all the names of dc1", or "these are now all
//! instances of web", so a change that is lost is mended by the next one of its kind.

use crate::catalog::model::{Instance, Node};

/// One part of the catalogue, as it is now.
#[derive(Clone, Debug)]
pub enum Change {
    /// All datacenters there are; `local` is the one meant where a name has none.
    Datacenters {
        /// One of `names`, or one more.
        local: String,
        /// In any order.
        names: Vec<String>,
    },
    /// All nodes of a datacenter.
    Nodes {
        /// Where they are.
        datacenter: String,
        /// Of two that differ in letter case only, the first counts.
        nodes: Vec<Node>,
    },
    /// All instances of a service, whatever their health.
    Service {
        /// Where it is.
        datacenter: String,
        /// Its name; of any letter case.
        service: String,
        /// In an order that stays the same while they do.
        instances: Vec<Instance>,
        /// How long this may be believed.
        held: Held,
    },
    /// All services of a datacenter by name, each with its tags. Proves that a name is unknown.
    Services {
        /// Where they are.
        datacenter: String,
        /// Each name with its tags, in any order.
        listing: Vec<(String, Vec<String>)>,
    },
    /// Whether the source hears of this datacenter at present.
    Reach {
        /// Which one.
        datacenter: String,
        /// False from the first failure until the next success.
        reachable: bool,
    },
    /// The instances of a service are no longer kept; its name still is.
    Release {
        /// Where it is.
        datacenter: String,
        /// Its name; of any letter case.
        service: String,
    },
}

/// How a service's instances are kept fresh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// Fetched on demand: fetched again when asked for after this time of the program's clock.
    OnDemand {
        /// In milliseconds of the program's clock.
        fresh_until_ms: u64,
    },
    /// Something tells us of each change.
    Watched,
}
