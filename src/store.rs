//! Where the control plane and the data plane meet: the one file that names `ArcSwap`.
//!
//! A writer publishes a whole new value; readers take the one that is there, without a lock and
//! without copying it. Nothing is ever changed in place.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::answer::Policy;
use crate::catalog::Snapshot;

/// A value that is replaced whole while others read it.
#[derive(Debug)]
pub struct Cell<T>(ArcSwap<T>);

impl<T> Cell<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// The value that is there now. It stays as it is while the guard lives.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// Puts `value` in its place. Later loads see it.
    pub fn publish(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

/// What the answers are made from.
#[derive(Debug)]
pub struct Store {
    /// The catalogue as it was last heard.
    pub snapshot: Cell<Snapshot>,
    /// The configuration, as far as it concerns answers.
    pub policy: Cell<Policy>,
    /// What the source still waits for. One writer: the source.
    pub pending: Cell<Pending>,
}

/// What answers are made from, as it is at one moment.
#[derive(Debug)]
pub struct Seen {
    /// The catalogue.
    pub snapshot: Guard<Arc<Snapshot>>,
    /// What concerns answers of the configuration.
    pub policy: Guard<Arc<Policy>>,
}

/// What has to happen before the program is ready, a line each.
///
/// Once nothing is pending it stays so: a Consul that goes away later makes answers old, and does
/// not make all replicas unready at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending(pub Vec<String>);

impl Store {
    /// Starts with nothing heard.
    pub fn new(policy: Policy) -> Self {
        Self {
            snapshot: Cell::new(Snapshot::default()),
            policy: Cell::new(policy),
            pending: Cell::new(Pending(vec!["the source has not been started".to_owned()])),
        }
    }

    /// What there is to answer from now.
    pub fn see(&self) -> Seen {
        Seen { snapshot: self.snapshot.load(), policy: self.policy.load() }
    }
}
