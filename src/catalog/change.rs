//! What a source reports: each change replaces one part of the catalogue whole.
//!
//! A source never patches. It says "these are now all the names of dc1", or "these are now all
//! instances of web", so a change that is lost is mended by the next one of its kind.

use std::net::IpAddr;

use crate::catalog::form::Form;
use crate::catalog::missed::Missed;
use crate::catalog::model::{Instance, Node};
use crate::catalog::queries::Queries;

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
    /// How a service's instances are kept fresh from now on; they stay as they are.
    Hold {
        /// Where it is.
        datacenter: String,
        /// What kind of name it has.
        form: Form,
        /// Its name; of any letter case. Nothing changes for one without instances in memory.
        service: String,
        /// How long they may be believed.
        held: Held,
    },
    /// What is in memory of a datacenter was read from a snapshot file, all of it: its lists until
    /// they are heard, and the addresses of its services until they are read again.
    Loaded {
        /// Which one.
        datacenter: String,
        /// When it was last known to be right; as [`Held::Loaded`] has it.
        since_ms: i64,
    },
    /// All that is held back in a datacenter: the source shows it no more, and it is answered still.
    Missed {
        /// Which one.
        datacenter: String,
        /// By name.
        missed: Missed,
    },
    /// The addresses of its own that a service's instances have, whose are not kept otherwise.
    Owned {
        /// Where it is.
        datacenter: String,
        /// Its name; of any letter case.
        service: String,
        /// Each address with the node and the ID of the instance.
        addresses: Vec<(IpAddr, String, String)>,
    },
    /// All nodes of a datacenter.
    Nodes {
        /// Where they are.
        datacenter: String,
        /// Of two that differ in letter case only, the first counts.
        nodes: Vec<Node>,
    },
    /// The prepared queries of a datacenter.
    Queries {
        /// Where they are.
        datacenter: String,
        /// `None` where they cannot all be seen.
        queries: Option<Queries>,
    },
    /// All instances of a service, whatever their health; or of what else has instances.
    Service {
        /// Where it is.
        datacenter: String,
        /// What kind of name it has.
        form: Form,
        /// Its name; of any letter case. Of [`Form::Peer`], the service and the peer with a dot.
        service: String,
        /// In an order that stays the same while they do.
        instances: Vec<Instance>,
        /// How long this may be believed.
        held: Held,
        /// What a prepared query said besides; `None` for all else.
        executed: Option<Executed>,
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
        /// Since when it does not, in milliseconds of the program's clock; the first word of it
        /// counts. `None` while it does.
        cut_off_ms: Option<i64>,
    },
    /// What is known of a service's instances is newer than the list of names: tags that are
    /// listed and that no instance has are those of instances that cannot be seen.
    Settle {
        /// Where it is.
        datacenter: String,
        /// Its name; of any letter case.
        service: String,
    },
    /// The instances of a service are no longer kept; its name still is, where it is listed.
    Release {
        /// Where it is.
        datacenter: String,
        /// What kind of name it has.
        form: Form,
        /// Its name; of any letter case.
        service: String,
    },
    /// Everything of a datacenter was told: of what no list has, such as the mesh and prepared
    /// queries, all that was not told does not exist.
    Whole {
        /// Which one.
        datacenter: String,
    },
}

/// What a prepared query says besides its instances.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Executed {
    /// The datacenter that the instances are in, which a failover decides.
    pub datacenter: String,
    /// The service that they are of.
    pub service: String,
    /// The TTL that the query asks for; `None` is that of the service.
    pub ttl_secs: Option<u32>,
    /// Whether the nearest instance comes first.
    pub is_sorted: bool,
}

/// How a service's instances are kept fresh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// To be fetched before it is believed, as a newer list contradicts it.
    Due {
        /// Until when it would have been believed, in milliseconds of the program's clock.
        since_ms: i64,
    },
    /// Something should tell us of each change, and hears nothing at present.
    Failing {
        /// Since when, in milliseconds of the program's clock; the first word of it counts.
        since_ms: i64,
    },
    /// Read from a snapshot file, and to be fetched before it is believed.
    Loaded {
        /// When it was last known to be right, in milliseconds of the program's clock: negative, as
        /// that was before its start.
        since_ms: i64,
    },
    /// Fetched on demand: fetched again when asked for after this time of the program's clock.
    OnDemand {
        /// When that was, in milliseconds of the program's clock.
        fetched_ms: u64,
        /// In milliseconds of the program's clock.
        fresh_until_ms: u64,
    },
    /// Something tells us of each change.
    Watched,
}

impl Held {
    /// Not in memory, and to be fetched when it is asked for.
    pub const NEVER: Self = Self::OnDemand { fetched_ms: 0, fresh_until_ms: 0 };

    /// Whether the instances are to be fetched again before they are answered with.
    pub fn is_due(self, now_ms: u64) -> bool {
        match self {
            Self::Due { .. } | Self::Loaded { .. } => true,
            Self::OnDemand { fresh_until_ms, .. } => fresh_until_ms <= now_ms,
            Self::Failing { .. } | Self::Watched => false,
        }
    }

    /// The same for people.
    pub fn in_words(self, now_ms: u64) -> String {
        match self {
            Self::Due { .. } => {
                "in memory, to be fetched again: a newer list contradicts it".to_owned()
            }
            Self::Failing { .. } => "by a watch that does not hear Consul at present".to_owned(),
            Self::Loaded { .. } => "from the snapshot file, not heard of since".to_owned(),
            Self::OnDemand { fetched_ms: 0, fresh_until_ms: 0 } => {
                "by its name only: its instances were not fetched".to_owned()
            }
            Self::OnDemand { fetched_ms, .. } => {
                format!("on demand, fetched {} s ago", now_ms.saturating_sub(fetched_ms) / 1000)
            }
            Self::Watched => "by a watch, or a file, that tells of each change".to_owned(),
        }
    }

    /// Whether nothing was fetched since there was reason to.
    pub fn is_unsure(self) -> bool {
        matches!(self, Self::Due { .. } | Self::Loaded { .. })
    }

    /// Since when the instances may be old; `None` where they are not.
    pub fn old_since(self, now_ms: u64) -> Option<i64> {
        match self {
            Self::Due { since_ms } | Self::Failing { since_ms } | Self::Loaded { since_ms } => {
                Some(since_ms)
            }
            Self::OnDemand { fresh_until_ms, .. } => {
                self.is_due(now_ms).then(|| i64::try_from(fresh_until_ms).unwrap_or(i64::MAX))
            }
            Self::Watched => None,
        }
    }
}
