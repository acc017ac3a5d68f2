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
    /// Those that had their turn in this pass: one that cannot be read holds up no other.
    tried: BTreeSet<String>,
    in_flight: usize,
    /// How many may begin before the next tick.
    credit: usize,
    /// When all are read again.
    next_pass: Instant,
    /// Whether it was said that Consul does not tell of one: there may be any number.
    is_refusal_said: bool,
}

impl Sweep {
    /// A pass takes `within`, and begins `every` so often.
    pub fn new(within: Duration, every: Duration, now: Instant) -> Self {
        Self {
            within,
            every,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            tried: BTreeSet::new(),
            in_flight: 0,
            credit: 0,
            next_pass: now + every,
            is_refusal_said: false,
        }
    }

    /// To be called once a second, with the services of the local datacenter.
    pub fn tick(&mut self, local: &Datacenter, is_watched: impl Fn(&str) -> bool, now: Instant) {
        let is_due = now >= self.next_pass;
        if is_due {
            self.next_pass = now + self.every;
            self.tried.clear();
        }
        for service in local.services().filter(|service| is_due || !service.is_swept()) {
            if is_watched(&service.name) || !self.queued.insert(service.name.to_string()) {
                continue;
            }
            match service.is_swept() || self.tried.contains(&*service.name) {
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
        self.tried.insert(name.clone());
        self.in_flight += 1;
        self.credit -= 1;
        Some(name)
    }

    /// True once: the first time that Consul does not tell of one.
    pub fn is_first_refusal(&mut self) -> bool {
        !std::mem::replace(&mut self.is_refusal_said, true)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{Builder, Change, Found, Rules, Usage};
    use crate::name::Zone;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A datacenter with `count` services, of which the `known` first were heard of.
    fn snapshot(count: usize, known: usize) -> crate::catalog::Snapshot {
        let rules = Rules::new(Zone::new("consul").unwrap());
        let mut builder = Builder::new(rules, 1, 0, Arc::new(Usage::new(1, false)));
        let dc1 = || "dc1".to_owned();
        builder.apply(Change::Datacenters { local: dc1(), names: vec![dc1()] });
        let name = |number: usize| format!("s{number:04}");
        let listing = (0..count).map(|number| (name(number), Vec::new())).collect();
        builder.apply(Change::Services { datacenter: dc1(), listing });
        for number in 0..known {
            let (service, addresses) = (name(number), Vec::new());
            builder.apply(Change::Owned { datacenter: dc1(), service, addresses });
        }
        builder.snapshot()
    }

    /// How many are read before the next tick, if each is over at once.
    fn read(sweep: &mut Sweep) -> Vec<String> {
        let mut names: Vec<_> = std::iter::from_fn(|| {
            let name = sweep.begin()?;
            sweep.end();
            Some(name)
        })
        .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn tick(
        sweep: &mut Sweep,
        snapshot: &crate::catalog::Snapshot,
        watched: &[&str],
        now: Instant,
    ) {
        let Found::Here(local) = snapshot.datacenter(None) else { panic!("no datacenter") };
        sweep.tick(local, |name| watched.contains(&name), now);
    }

    #[test]
    fn what_is_unknown_is_read_within_the_time_and_what_is_watched_never() {
        let now = Instant::now();
        let mut sweep = Sweep::new(MINUTE, 10 * MINUTE, now);
        let snapshot = snapshot(1_200, 0);
        let mut names = Vec::new();
        for _ in 0..60 {
            tick(&mut sweep, &snapshot, &["s0003"], now);
            let these = read(&mut sweep);
            assert!(these.len() <= 20, "twelve hundred a minute are twenty a second");
            names.extend(these);
        }
        // None was told to be known, so they come again; each came in the first minute.
        names.sort();
        names.dedup();
        assert_eq!((names.len(), names.contains(&"s0003".to_owned())), (1_199, false));
    }

    #[test]
    fn what_is_new_comes_first_and_all_come_again() {
        let now = Instant::now();
        let mut sweep = Sweep::new(MINUTE, 10 * MINUTE, now);
        let known = snapshot(3, 3);
        tick(&mut sweep, &known, &[], now);
        assert_eq!(read(&mut sweep), [""; 0]);
        let one_more = snapshot(4, 3);
        tick(&mut sweep, &one_more, &[], now);
        assert_eq!(read(&mut sweep), ["s0003"]);
        tick(&mut sweep, &known, &[], now + 10 * MINUTE);
        assert_eq!(read(&mut sweep), ["s0000", "s0001", "s0002"]);
        tick(&mut sweep, &known, &[], now + 10 * MINUTE);
        assert_eq!(read(&mut sweep), [""; 0]);
    }

    #[test]
    fn few_are_in_flight() {
        let now = Instant::now();
        let mut sweep = Sweep::new(MINUTE, 10 * MINUTE, now);
        tick(&mut sweep, &snapshot(9, 0), &[], now);
        assert_eq!(std::iter::from_fn(|| sweep.begin()).count(), IN_FLIGHT_MAX);
        sweep.end();
        assert_eq!(std::iter::from_fn(|| sweep.begin()).count(), 1);
    }
}
