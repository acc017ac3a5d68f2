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

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{self, Asked, Draft, HOSTS_MAX, Host, Outcome, Policy, Transport, Turn, Want};
use crate::catalog::Snapshot;
use crate::clock::Clock;
use crate::demand::{Demands, HostRecord, Server, Supply};
use crate::dns::peer::Peer;
use crate::explain::{Explanation, explain, why};
use crate::metrics::{Metrics, Tally};
use crate::store::{Seen, Store};
use crate::tap::Tap;

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
    /// Who is told of queries.
    pub tap: Arc<Tap>,
    demands: Demands,
    source: Bounds,
    forwarder: Bounds,
    /// Places for questions that ask why.
    curious: Arc<Semaphore>,
    /// One explanation at a time: it looks at all instances of a service.
    explaining: Arc<Semaphore>,
}

/// What a front is made of.
#[derive(Debug)]
pub struct Parts {
    /// The catalogue and the policy.
    pub store: Arc<Store>,
    /// All metrics.
    pub metrics: Metrics,
    /// The program's clock.
    pub clock: Clock,
    /// Where what is not in memory is asked for.
    pub demands: Demands,
    /// Who is told of queries.
    pub tap: Arc<Tap>,
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
    for_what: Awaited,
    _place: OwnedSemaphorePermit,
}

/// What a query waits for.
#[derive(Debug)]
enum Awaited {
    Supply(Awaiting),
    /// An explanation of its name's answer of this type.
    Why {
        rtype: u16,
    },
}

/// Something that was asked for.
#[derive(Debug)]
struct Awaiting {
    answered: oneshot::Receiver<Supply>,
    patience: Duration,
    /// The host whose records are wanted, and their type, if it is that.
    host: Option<(Box<str>, u16)>,
}

/// What queries that come together are answered from: looked up once for all of them.
#[derive(Debug)]
pub struct Moment {
    seen: Seen,
    since: Instant,
    /// The same by the program's clock.
    now_ms: u64,
}

impl Moment {
    /// When they came.
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// What came of a query's first turn.
#[derive(Debug)]
pub enum Begun {
    /// The reply is in the draft; none where it is empty.
    Done,
    /// It has to wait.
    Waits {
        /// For what.
        waiting: Waiting,
        /// Since when, by the program's clock.
        now_ms: u64,
    },
}

impl Front {
    /// Answers from what `parts` hold, and asks there for what is not in memory.
    pub fn new(parts: Parts, limits: Limits) -> Self {
        let Parts { store, metrics, clock, demands, tap } = parts;
        Self {
            store,
            metrics,
            clock,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            tap,
            demands,
            source: Bounds::new(limits.source),
            forwarder: Bounds::new(limits.forwarder),
            curious: Arc::new(Semaphore::new(CURIOUS_MAX)),
            explaining: Arc::new(Semaphore::new(1)),
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

    /// What queries that came at `since` are answered from.
    pub fn moment(&self, since: Instant) -> Moment {
        Moment { seen: self.store.see(), since, now_ms: self.clock.ms_at(since) }
    }

    /// Answers `query`, which came at `since`, if that can be done at once, and counts it.
    pub fn begin(
        &self,
        query: &[u8],
        peer: &Peer,
        tally: &Tally,
        since: Instant,
        draft: &mut Draft,
    ) -> Begun {
        let begun = self.begin_at(&self.moment(since), query, peer, tally, draft);
        if matches!(begun, Begun::Done) && !draft.reply.is_empty() {
            tally.time(1, since.elapsed());
        }
        begun
    }

    /// The same for one of several that came together. How long they took is the caller's to count.
    pub fn begin_at(
        &self,
        moment: &Moment,
        query: &[u8],
        peer: &Peer,
        tally: &Tally,
        draft: &mut Draft,
    ) -> Begun {
        let Moment { seen, now_ms, .. } = moment;
        let asked = peer.asked(query, *now_ms);
        let mut outcome = self.respond(&seen.snapshot, &seen.policy, &asked, draft);
        if let Outcome::Wants(want) = &outcome {
            tally.count(peer.transport, &outcome, *now_ms);
            if let Some(waiting) = self.ask(want, query) {
                return Begun::Waits { waiting, now_ms: *now_ms };
            }
            let asked = Asked { turn: Turn::Last, ..asked };
            outcome = self.respond(&seen.snapshot, &seen.policy, &asked, draft);
        } else if let Outcome::Why { rtype } = outcome {
            if let Ok(place) = Arc::clone(&self.curious).try_acquire_owned() {
                let waiting = Waiting { for_what: Awaited::Why { rtype }, _place: place };
                return Begun::Waits { waiting, now_ms: *now_ms };
            }
            self.metrics.dns.waiting_refused.inc();
            outcome = answer::fail(&seen.policy, &asked, draft);
        }
        tally.count(peer.transport, &outcome, *now_ms);
        if self.tap.is_open() {
            peer.tell(&self.tap, (query, &draft.reply), &outcome, moment.since, false);
        }
        Begun::Done
    }

    /// Waits for what `query` lacks, and answers it. `begun` is when it came, by both clocks.
    pub async fn complete(
        &self,
        waiting: Waiting,
        query: &[u8],
        peer: &Peer,
        tally: &Tally,
        (since, now_ms): (Instant, u64),
    ) -> Draft {
        let asked = Asked { turn: Turn::Last, ..peer.asked(query, now_ms) };
        self.finish(waiting, &Late { asked, peer, since }, tally).await
    }

    /// Explains what `query` is answered with, after all waiting that it would do. Nothing is counted
    /// as answered. `None` where it cannot be read.
    pub async fn explain(&self, query: &[u8], peer: &Peer) -> Option<Explanation> {
        let since = Instant::now();
        let late = Late { asked: peer.asked(query, self.clock.ms_at(since)), peer, since };
        let (mut hosts, mut turn) = (Vec::new(), Turn::Last);
        let wanted = {
            let Seen { snapshot, policy } = self.store.see();
            match self.respond(&snapshot, &policy, &late.asked, &mut Draft::default()) {
                Outcome::Wants(want) => Some(self.ask(&want, query)),
                Outcome::Replied(_) | Outcome::Silence | Outcome::Why { .. } => None,
            }
        };
        let mut message = None;
        match wanted {
            Some(Some(Waiting { for_what: Awaited::Supply(awaiting), _place })) => {
                match self.fulfill(awaiting, &late, &mut hosts).await {
                    Supplied::All => turn = Turn::Again,
                    Supplied::Message(came) => message = Some(came),
                    Supplied::Nothing => (),
                }
            }
            Some(_) => (),
            None => turn = Turn::First,
        }
        let (front, query, peer) = (self.clone(), query.to_vec(), *peer);
        // It may take a while, and must hold up nobody.
        let _place = self.explaining.acquire().await.ok()?;
        let explaining = spawn_blocking(move || {
            let asked = Asked { hosts: &hosts, turn, ..peer.asked(&query, front.clock.now_ms()) };
            let Seen { snapshot, policy } = front.store.see();
            let explanation = explain(&snapshot, &policy, &asked)?;
            let Some(message) = message else { return Some(explanation) };
            let mut draft = Draft::default();
            answer::deliver(&policy, &asked, &message, &mut draft);
            Some(explanation.with_foreign(&draft.reply))
        });
        explaining.await.ok().flatten()
    }

    /// Answers a query that asks why.
    async fn tell_why(&self, rtype: u16, query: &Late<'_>, tally: &Tally) -> Draft {
        // As over UDP, whatever it came by: what is asked about is what clients see.
        let peer = Peer { transport: Transport::Udp, ..*query.peer };
        let explanation = match why::question(query.asked.bytes, rtype) {
            Some(question) => self.explain(&question, &peer).await,
            None => None,
        };
        let mut draft = Draft::default();
        let policy = self.store.policy.load();
        let asked = self.turn(query, Turn::Last);
        let outcome = why::answer(&policy, &asked, explanation.as_ref(), &mut draft);
        self.end(query, asked.now_ms, &outcome, &draft.reply, tally);
        draft
    }

    /// Asks for `want`, which the query `message` lacks. `None` if too many wait already; the query then has its last turn.
    fn ask(&self, want: &Want<'_>, message: &[u8]) -> Option<Waiting> {
        let bounds = self.bounds(want);
        let place = Arc::clone(&bounds.places).try_acquire_owned().ok();
        let waiting = place.and_then(|place| {
            let answered = self.demands.ask(want, message)?;
            let (patience, host) = (bounds.patience, host_of(want));
            let for_what = Awaited::Supply(Awaiting { answered, patience, host });
            Some(Waiting { for_what, _place: place })
        });
        if waiting.is_none() {
            self.metrics.dns.waiting_refused.inc();
        }
        waiting
    }

    /// Waits, then gives `query` its last turn. The reply is in the draft that is returned.
    async fn finish(&self, waiting: Waiting, query: &Late<'_>, tally: &Tally) -> Draft {
        let mut hosts = Vec::new();
        let counted = Counted::new(&self.metrics.dns.waiting);
        let Waiting { for_what, _place } = waiting;
        let awaiting = match for_what {
            Awaited::Supply(awaiting) => awaiting,
            Awaited::Why { rtype } => return self.tell_why(rtype, query, tally).await,
        };
        let supplied = self.fulfill(awaiting, query, &mut hosts).await;
        drop((counted, _place));
        let mut draft = Draft::default();
        let Seen { snapshot, policy } = self.store.see();
        let turn = if let Supplied::Nothing = supplied { Turn::Last } else { Turn::Again };
        let asked = Asked { hosts: &hosts, ..self.turn(query, turn) };
        let mut outcome = match supplied {
            Supplied::Message(message) => answer::deliver(&policy, &asked, &message, &mut draft),
            Supplied::All | Supplied::Nothing => {
                self.respond(&snapshot, &policy, &asked, &mut draft)
            }
        };
        // What came has gone again.
        if let Outcome::Wants(_) = outcome {
            let asked = Asked { turn: Turn::Last, ..asked };
            outcome = self.respond(&snapshot, &policy, &asked, &mut draft);
        }
        self.end(query, asked.now_ms, &outcome, &draft.reply, tally);
        draft
    }

    /// Counts a query that has waited, and tells of it.
    fn end(
        &self,
        late: &Late<'_>,
        now_ms: u64,
        outcome: &Outcome<'_>,
        reply: &[u8],
        tally: &Tally,
    ) {
        let Late { asked, peer, since } = late;
        tally.count(asked.transport, outcome, now_ms);
        tally.time(1, since.elapsed());
        if self.tap.is_open() {
            peer.tell(&self.tap, (asked.bytes, reply), outcome, *since, true);
        }
    }

    /// Waits for what is wanted, and for what is wanted then: a datacenter's lists come before the
    /// instances of its services, and those before the hosts that they are registered with.
    async fn fulfill(
        &self,
        awaiting: Awaiting,
        query: &Late<'_>,
        hosts: &mut Vec<Host>,
    ) -> Supplied {
        let Awaiting { mut answered, mut patience, mut host } = awaiting;
        for _ in 0..STEPS_MAX {
            // The sender is dropped without a word where there will be nothing.
            match (timeout(patience, answered).await, host) {
                (Ok(Ok(Supply::Message(message))), _) => return Supplied::Message(message),
                (Ok(Ok(Supply::Records { records, .. })), Some((name, rtype))) => {
                    let records = records.iter().map(HostRecord::tail).collect();
                    hosts.push(Host { name, rtype, records });
                }
                (Ok(Ok(_)), _) => (),
                (Ok(Err(_)) | Err(_), _) => {
                    self.metrics.dns.waiting_expired.inc();
                    return Supplied::Nothing;
                }
            }
            let Some(next) = self.next_want(query, hosts) else { return Supplied::All };
            (answered, patience, host) = next;
        }
        Supplied::Nothing
    }

    /// What the query lacks still, and where that will come.
    fn next_want(&self, query: &Late<'_>, hosts: &[Host]) -> Option<Next> {
        let Seen { snapshot, policy } = self.store.see();
        let asked = Asked { hosts, ..self.turn(query, Turn::Again) };
        match self.respond(&snapshot, &policy, &asked, &mut Draft::default()) {
            Outcome::Wants(want) => {
                let answered = self.demands.ask(&want, asked.bytes)?;
                Some((answered, self.bounds(&want).patience, host_of(&want)))
            }
            Outcome::Replied(_) | Outcome::Silence | Outcome::Why { .. } => None,
        }
    }

    fn bounds(&self, want: &Want<'_>) -> &Bounds {
        match Server::of(want) {
            Server::Forwarder => &self.forwarder,
            Server::Source => &self.source,
        }
    }

    fn turn<'q>(&self, query: &Late<'q>, turn: Turn) -> Asked<'q> {
        Asked { seed: fastrand::u64(..), now_ms: self.clock.now_ms(), turn, ..query.asked }
    }
}

/// One of those that wait, until it is dropped: also where its client gives it up.
struct Counted<'m>(&'m IntGauge);

impl<'m> Counted<'m> {
    fn new(gauge: &'m IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What came of what was wanted.
enum Supplied {
    /// All of it.
    All,
    /// A whole reply.
    Message(Vec<u8>),
    /// Not all of it.
    Nothing,
}

/// Where what is lacking will come, how long that may take, and the host that it is about.
type Next = (oneshot::Receiver<Supply>, Duration, Option<(Box<str>, u16)>);

fn host_of(want: &Want<'_>) -> Option<(Box<str>, u16)> {
    match want {
        Want::Host { name, rtype } => Some((name.clone(), *rtype)),
        _ => None,
    }
}

impl Bounds {
    fn new(limit: Limit) -> Self {
        Self { places: Arc::new(Semaphore::new(limit.waiting_max)), patience: limit.patience }
    }
}

/// A query that was not answered at once.
#[derive(Clone, Copy)]
struct Late<'q> {
    /// The query as it was asked the first time.
    asked: Asked<'q>,
    /// Who asked it.
    peer: &'q Peer,
    /// When it came.
    since: Instant,
}

/// Questions over DNS that are being explained, or wait for that.
const CURIOUS_MAX: usize = 4;

/// A datacenter, a service, and the hosts.
const STEPS_MAX: usize = 2 + HOSTS_MAX;
