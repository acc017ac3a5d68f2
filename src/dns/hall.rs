//! What the connections of all listeners have in common, whatever they carry.

use crate::config::ConnectionsConfig;
use crate::dns::front::Front;
use crate::dns::places::Places;
use crate::metrics::Tally;

/// What connections come into.
#[derive(Clone, Debug)]
pub struct Hall {
    /// What they answer from.
    pub front: Front,
    /// Where they are counted.
    pub tally: Tally,
    /// Bounds on each.
    pub limits: ConnectionsConfig,
    /// Bounds on all.
    pub places: Places,
}
