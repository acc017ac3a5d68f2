//! What every listener shares: the answers, the counts, and the waiting.
//!
//! ```text
//!   first turn: answered from memory, at once
//!               wants something --> a place among those that wait, or SERVFAIL
//!   last turn:  when it came, or when patience ends; a whole reply that came goes out itself
//! ```
//! **Invariant:** a query that waits holds up no other. A panic in an answer costs that answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{self, Asked, Draft, Outcome, Policy, Turn, Want};
use crate::catalog::Snapshot;
use crate::clock::Clock;
use crate::demand::{Demands, Server, Supply};
use crate::metrics::{Metrics, Protocol, Tally};
use crate::store::Store;

/// What a listener answers from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Front {
    /// The catalogue and the policy.
    pub store: Arc<Store>,
    /// All metrics.
    pub metrics: Metrics,
    /// The program's clock.
    pub clock: Clock,
    /// Told when to stop.
    pub cancel: CancellationToken,
    /// The tasks that shutdown waits for.
    pub tasks: TaskTracker,
    demands: Demands,
    source: Bounds,
    forwarder: Bounds,
}

/// Places for those that wait for one of the servers of wishes.
#[derive(Clone, Debug)]
struct Bounds {
    places: Arc<Semaphore>,
    patience: Duration,
}

/// Bounds on waiting: for what Consul knows, and for what the recursors do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For Consul.
    pub source: Limit,
    /// For the recursors.
    pub forwarder: Limit,
}

/// Bounds on waiting for one of the two.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Queries that may wait at once, over all listeners.
    pub waiting_max: usize,
    /// How long one may.
    pub patience: Duration,
}

/// A query that waits for something.
#[derive(Debug)]
pub struct Waiting {
    answered: oneshot::Receiver<Supply>,
    patience: Duration,
    /// Whether the answer may lack something else once this is there: a datacenter's lists come
    /// before the instances of its services.
    is_step: bool,
    _place: OwnedSemaphorePermit,
}

impl Front {
    /// Answers from `store`, and asks `demands` for what is not there.
    pub fn new(
        store: Arc<Store>,
        metrics: Metrics,
        clock: Clock,
        demands: Demands,
        limits: Limits,
    ) -> Self {
        Self {
            store,
            metrics,
            clock,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            demands,
            source: Bounds::new(limits.source),
            forwarder: Bounds::new(limits.forwarder),
        }
    }

    /// The counts of worker `lane`.
    pub fn tally(&self, lane: usize) -> Tally {
        self.metrics.dns.tally(lane, &self.metrics.other)
    }

    /// Decides one answer. A panic is counted and answered with SERVFAIL.
    pub fn respond<'s>(
        &self,
        snapshot: &'s Snapshot,
        policy: &Policy,
        asked: &Asked<'_>,
        draft: &mut Draft,
    ) -> Outcome<'s> {
        // Unwind safety: the draft's buffers are cleared before they are used again.
        let decide = AssertUnwindSafe(|| answer::respond(snapshot, policy, asked, draft));
        catch_unwind(decide).unwrap_or_else(|_| {
            self.metrics.dns.panics.inc();
            *draft = Draft::default();
            answer::fail(policy, asked, draft)
        })
    }

    /// Asks for `want`, which the query `message` lacks. `None` if too many wait already; the query then has its last turn.
    pub fn ask(&self, want: &Want<'_>, message: &[u8]) -> Option<Waiting> {
        let bounds = match Server::of(want) {
            Server::Forwarder => &self.forwarder,
            Server::Source => &self.source,
        };
        let place = Arc::clone(&bounds.places).try_acquire_owned().ok();
        let is_step = matches!(want, Want::Datacenter { .. });
        let waiting = place.and_then(|place| {
            let answered = self.demands.ask(want, message)?;
            Some(Waiting { answered, patience: bounds.patience, is_step, _place: place })
        });
        if waiting.is_none() {
            self.metrics.dns.waiting_refused.inc();
        }
        waiting
    }

    /// Waits, then gives `query` its last turn. The reply is in the draft that is returned.
    pub async fn finish(&self, waiting: Waiting, query: &Late<'_>, tally: &Tally) -> Draft {
        self.metrics.dns.waiting.inc();
        let came = timeout(waiting.patience, self.fulfill(waiting, query)).await.ok().flatten();
        self.metrics.dns.waiting.dec();
        if came.is_none() {
            self.metrics.dns.waiting_expired.inc();
        }
        let mut draft = Draft::default();
        let (snapshot, policy) = (self.store.snapshot.load(), self.store.policy.load());
        let asked = self.turn(query, Turn::Last);
        let outcome = match came {
            Some(Supply::Message(message)) => {
                answer::deliver(&policy, &asked, &message, &mut draft)
            }
            Some(Supply::Published | Supply::Records { .. }) | None => {
                self.respond(&snapshot, &policy, &asked, &mut draft)
            }
        };
        tally.count(query.protocol, &outcome, query.since.elapsed(), asked.now_ms);
        draft
    }

    /// Waits for what is wanted, and for what is wanted then. `None` if it cannot be had.
    async fn fulfill(&self, waiting: Waiting, query: &Late<'_>) -> Option<Supply> {
        // The sender is dropped without a word where there will be nothing.
        let supply = waiting.answered.await.ok()?;
        let next = if waiting.is_step { self.ask_again(query) } else { None };
        match next {
            Some(answered) => answered.await.ok(),
            None => Some(supply),
        }
    }

    fn ask_again(&self, query: &Late<'_>) -> Option<oneshot::Receiver<Supply>> {
        let (snapshot, policy) = (self.store.snapshot.load(), self.store.policy.load());
        let asked = self.turn(query, Turn::First);
        match self.respond(&snapshot, &policy, &asked, &mut Draft::default()) {
            Outcome::Wants(want) => self.demands.ask(&want, asked.bytes),
            Outcome::Replied(_) | Outcome::Silence => None,
        }
    }

    fn turn<'q>(&self, query: &Late<'q>, turn: Turn) -> Asked<'q> {
        Asked { seed: fastrand::u64(..), now_ms: self.clock.now_ms(), turn, ..query.asked }
    }
}

impl Bounds {
    fn new(limit: Limit) -> Self {
        Self { places: Arc::new(Semaphore::new(limit.waiting_max)), patience: limit.patience }
    }
}

/// A query that was not answered at once.
#[derive(Clone, Copy, Debug)]
pub struct Late<'q> {
    /// The query as it was asked the first time.
    pub asked: Asked<'q>,
    /// How it came.
    pub protocol: Protocol,
    /// When it came.
    pub since: Instant,
}
