//! What this server does not do yet. Each entry is to be deleted, never to be loosened.
//!
//! An entry excuses a difference that no rule explains, where it says so of the question; one that
//! excuses nothing any more fails the test of the fixed seeds. At present there is none.

use crate::differential::run::{Case, Run};

/// A difference that is known and will go.
#[derive(Debug)]
pub struct Pending {
    /// What is to be done.
    pub name: &'static str,
    /// Whether a difference of `case` is due to it.
    pub explains: fn(run: &Run, case: &Case) -> bool,
}

/// All that is to be done.
pub const PENDING: &[Pending] = &[];
