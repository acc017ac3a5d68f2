//! What the source shows no more and is answered all the same, until it is clear that it is gone.
//!
//! There is any only while something is held back; an answer looks for it then, and not otherwise.

use std::collections::BTreeSet;

/// Names in a datacenter, in lower case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Missed {
    /// Nodes.
    pub nodes: BTreeSet<String>,
    /// Services, and names of other forms, that are missing themselves or lack instances.
    pub services: BTreeSet<String>,
}

impl Missed {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty()
    }
}
