//! Reads the addresses of services that are not watched, one by one, so that a reverse name can be
//! answered or denied.
//!
//! The list of services names no addresses, and a service that nobody asks for is not in memory.
//! So each is read once after it was listed, and again in every pass; at such a pace that a pass
//! takes its time, after all that DNS itself asks for. What is watched tells its addresses anyway.
//!
//! Starts nothing; knows only whose turn it is.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::Datacenter;

/// Whose turn it is.
#[derive(Debug)]
pub struct Sweep {
    within: Duration,
    every: Duration,
    queue: VecDeque<String>,
    queued: BTreeSet<String>,
    in_flight: usize,
    /// How many may begin before the next tick.
    credit: usize,
    /// When all are read again.
    next_pass: Instant,
}

impl Sweep {
    /// A pass takes `within`, and begins `every` so often.
    pub fn new(within: Duration, every: Duration, now: Instant) -> Self {
        Self {
            within,
            every,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            in_flight: 0,
            credit: 0,
            next_pass: now + every,
        }
    }

    /// To be called once a second, with the services of the local datacenter.
    pub fn tick(&mut self, local: &Datacenter, is_watched: impl Fn(&str) -> bool, now: Instant) {
        let is_due = now >= self.next_pass;
        if is_due {
            self.next_pass = now + self.every;
        }
        for service in local.services().filter(|service| is_due || !service.is_swept()) {
            if is_watched(&service.name) || !self.queued.insert(service.name.to_string()) {
                continue;
            }
            match service.is_swept() {
                true => self.queue.push_back(service.name.to_string()),
                false => self.queue.push_front(service.name.to_string()),
            }
        }
        let seconds = usize::try_from(self.within.as_secs()).unwrap_or(usize::MAX).max(1);
        self.credit = local.service_count().div_ceil(seconds).max(CREDIT_MIN);
    }

    /// The service to be read now, if there is one. It is in flight until [`Sweep::end`].
    pub fn begin(&mut self) -> Option<String> {
        if self.in_flight >= IN_FLIGHT_MAX || self.credit == 0 {
            return None;
        }
        let name = self.queue.pop_front()?;
        self.queued.remove(&name);
        self.in_flight += 1;
        self.credit -= 1;
        Some(name)
    }

    /// One was read, or could not be: it has its turn again if it is still unknown.
    pub fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// A quarter of the places that fetches have by default.
const IN_FLIGHT_MAX: usize = 2;

/// However few services there are, they need not wait.
const CREDIT_MIN: usize = 10;
