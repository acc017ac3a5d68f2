//! One blocking query, for ever: publish what changed, back off, end when told.
//!
//! Failure is a state, not an exit: the last good value stays published while Consul is away.
//! Spurious returns are common (a check's output text wakes the watch of its service), so values
//! are compared, by their digests, and what is the same is told as such. One Consul that goes away fails all watches, so
//! they log at `debug`; whoever hears the events says it once.
//!
//! **Invariant:** no Consul can make a watch spin. Rounds draw from a bucket of [`Pace::burst`]
//! tokens that is filled with one per [`Pace::floor`]; a reply without an index is followed by a pause
//! of [`Pace::poll`]; failures wait as [`Backoff`] says, but for once in an outage, when another
//! watch has heard Consul again ([`Wake`]).

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::sync::Notify;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::consul::backoff::Backoff;
use crate::consul::client::{Ask, Client, Place, Reply};
use crate::consul::fetch::FetchError;
use crate::consul::index::Position;

/// What a watch repeats: a query of Consul's, or a script in a test.
pub trait Source<T> {
    /// What is watched, for the log.
    fn name(&self) -> &str;

    /// One round. With `after`, it returns when something changed, or when the wait ran out.
    fn fetch(
        &mut self,
        after: Option<Position>,
    ) -> impl Future<Output = Result<Reply<T>, FetchError>> + Send;
}

/// One question put to a client time and again.
///
/// While nothing is known, what a cluster that has lost its leader still has is better than
/// nothing. From the first reply on it is not: the last good value is at least as new.
pub struct Repeated<T> {
    /// What is watched, for the log.
    pub name: String,
    /// The question.
    pub ask: Ask<T>,
    /// Whom it is put to.
    pub client: Client,
    /// Whose place each request takes.
    pub place: Place,
    /// Whether an earlier reply is known.
    pub is_known: bool,
}

/// How fast a watch may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// The pauses after failures.
    pub backoff: Backoff,
    /// How many rounds may follow each other at once. At least 1.
    pub burst: u32,
    /// The least time between two rounds, on average.
    pub floor: Duration,
    /// The pause after a reply without an index, which would not block.
    pub poll: Duration,
}

/// What a watch has to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event<T> {
    /// The first round that succeeded after failures. Any change follows as a `Value`.
    Back,
    /// A round that brought nothing. What was published stays valid.
    Failed {
        /// In a row, this one included: 1 for the first.
        failures: u32,
        /// What went wrong, for a log line.
        error: String,
    },
    /// The same contents as last, for whoever may have heard others meanwhile.
    Same(Round<T>),
    /// Contents that differ from the last ones.
    Value(Round<T>),
}

/// A round that brought something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Round<T> {
    /// The contents.
    pub value: T,
    /// When it began, and where it got to.
    pub read: Read,
    /// Whether it leaves out what the token may not read.
    pub is_filtered: bool,
    /// When the contents had been received in full.
    pub arrived: Instant,
}

/// What tells which of two replies is newer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Read {
    /// When it was asked for.
    pub asked: Instant,
    /// Where Consul's history stood; `None` where it does not say.
    pub position: Option<Position>,
}

impl Read {
    /// Whether a reply to this is known to be older than one at `other`, which was there before
    /// this one came.
    pub fn is_older(self, other: Position) -> bool {
        let same = self.position.filter(|position| position.address == other.address);
        same.is_some_and(|position| position.index.get() < other.index.get())
    }

    /// Whether a reply to this is known to hold nothing that is newer than `other`.
    pub fn is_within(self, other: Position) -> bool {
        let same = self.position.filter(|position| position.address == other.address);
        same.is_some_and(|position| position.index.get() <= other.index.get())
    }
}

impl Pace {
    /// The same, with pauses after failures that are short enough to notice soon that they are over.
    pub fn alert(self) -> Self {
        Self { backoff: self.backoff.at_most(ALERT_PAUSE_MAX), ..self }
    }
}

/// What ends a watch.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Ends it in the middle of a round, which Consul goes on with until its wait runs out.
    pub at_once: CancellationToken,
    /// Ends it when the round that it is in has returned, and has been published.
    pub after_round: CancellationToken,
}

impl From<CancellationToken> for Ends {
    fn from(at_once: CancellationToken) -> Self {
        let after_round = at_once.child_token();
        Self { at_once, after_round }
    }
}

/// Repeats `source` until it `ends`, passing each event to `publish`, which may take its time.
///
/// A round that failed is followed by one from the start: the Consul that answers next may have
/// another history, and would hold a query for an index that it has not reached yet until its
/// wait runs out. So is one whose index went back, and what it brought is not published: that is
/// what a server says whose wait ran out before it had read its own log. A reply without an index to
/// a question that had one may be as old.
///
/// When a snapshot is restored, Consul lets go of all queries and repeats what it said before. Asked
/// to go on from there it would hold the query, as its history now ends earlier; so a reply that
/// comes early and says nothing new is followed by a round from the start as well.
pub async fn watch<T: Hash>(
    source: impl Source<T>,
    pace: Pace,
    wake: Wake,
    ends: impl Into<Ends>,
    publish: impl AsyncFnMut(Event<T>),
) {
    let Ends { at_once, after_round } = ends.into();
    // Pinned here, as what is handed over has its room twice, and there are thousands.
    let repeating = pin!(repeat(source, pace, wake, &after_round, publish));
    at_once.run_until_cancelled(repeating).await;
}

async fn repeat<T: Hash>(
    mut source: impl Source<T>,
    pace: Pace,
    wake: Wake,
    last: &CancellationToken,
    mut publish: impl AsyncFnMut(Event<T>),
) {
    let mut after = None;
    let mut bucket = Bucket::new(pace.burst, pace.floor);
    let mut outage = Outage::default();
    let (same, mut published) = (Same::default(), None);
    loop {
        bucket.take().await;
        let asked = Instant::now();
        match source.fetch(after).await {
            Ok(reply) => {
                if outage.end(source.name(), &wake) {
                    publish(Event::Back).await;
                }
                let position = reply.position();
                let next = position.and_then(|position| position.next(after));
                let was_asked_on = after.is_some_and(|after| after.address == reply.address);
                if next.is_none() && (position.is_some() || was_asked_on) {
                    debug!(watch = source.name(), "the index went back, asking from the start");
                    after = None;
                    continue;
                }
                let took = reply.arrived.saturating_duration_since(asked);
                let is_early = reply.wait.is_some_and(|wait| took < wait);
                let is_let_go = is_early && position == after;
                let Reply { value, arrived, is_filtered, .. } = reply;
                let digest = same.digest(&value);
                let is_same = published.replace(digest) == Some(digest);
                let read = Read { asked, position };
                let round = Round { value, read, is_filtered, arrived };
                publish(if is_same { Event::Same(round) } else { Event::Value(round) }).await;
                if last.is_cancelled() {
                    return;
                }
                if position.is_none() {
                    time::sleep(pace.poll).await;
                }
                after = next.filter(|_| !is_let_go);
            }
            Err(error) => {
                // Whatever failed, the Consul that answers next may have another history.
                after = None;
                let failures = outage.add();
                let retry_after = error.retry_after();
                let (watch, error) = (source.name(), error.chain());
                debug!(watch, error, failures, "watch failed, retrying");
                publish(Event::Failed { failures, error }).await;
                // All watches are told the same, and must not come back together.
                let asked_for = retry_after.map(|pause| pause.mul_f64(1.0 + fastrand::f64() / 2.0));
                outage.rest(pace, asked_for.unwrap_or_default(), &wake).await;
            }
        }
    }
}

impl<T: Send + 'static> Source<T> for Repeated<T> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fetch(&mut self, after: Option<Position>) -> Result<Reply<T>, FetchError> {
        let read = match self.client.read(&self.ask, after, self.place).await {
            Err(error) if !self.is_known && error.is_of_leader() => {
                let old = self.client.read_leaderless(&self.ask, self.place).await;
                old.map_err(|_| error)
            }
            read => read,
        };
        self.is_known |= read.is_ok();
        read
    }
}

/// Tells whether two values are the same without keeping one: the catalogue has it already, and there
/// are thousands of watches. Two hashes of 64 bits, with seeds that are drawn for each watch.
#[derive(Debug, Default)]
struct Same([RandomState; 2]);

impl Same {
    fn digest(&self, value: &impl Hash) -> [u64; 2] {
        self.0.each_ref().map(|state| state.hash_one(value))
    }
}

/// A number of tokens, filled with one per `every`.
struct Bucket {
    every: Duration,
    /// How long it takes to gather all tokens but one.
    most: Duration,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Bucket {
    fn new(tokens: u32, every: Duration) -> Self {
        Self { every, most: every * tokens.saturating_sub(1), full_at: Instant::now() }
    }

    /// Takes a token, and waits for it where there is none.
    async fn take(&mut self) {
        // One token is there as soon as no more than all but one are missing.
        let missing = self.full_at.saturating_duration_since(Instant::now());
        if missing > self.most {
            time::sleep(missing - self.most).await;
        }
        self.full_at = self.full_at.max(Instant::now()) + self.every;
    }
}

/// The first who hears Consul again wakes those who wait for their next attempt.
///
/// Clones wake each other.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

/// Failures in a row, and when they began.
#[derive(Debug, Default)]
pub struct Outage {
    failures: u32,
    since: Option<Instant>,
    /// One wake an outage: a Consul that comes and goes must not undo the pauses.
    was_woken: bool,
}

impl Outage {
    /// Counts a failure; how many there are now.
    pub fn add(&mut self) -> u32 {
        self.since.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Whether there was one. If so, all others are woken.
    pub fn end(&mut self, watch: &str, wake: &Wake) -> bool {
        let Self { failures, since, .. } = std::mem::take(self);
        let Some(since) = since else { return false };
        let away_ms = since.elapsed().as_millis();
        debug!(watch, failures, away_ms, "watch is back");
        wake.0.notify_waiters();
        true
    }

    /// Waits for the next attempt, for the pause that is due, `least` at least, or until woken: who
    /// asked to be left alone has let another in.
    pub async fn rest(&mut self, pace: Pace, least: Duration, wake: &Wake) {
        let pause = pace.backoff.delay(self.failures, fastrand::f64()).max(least);
        if self.was_woken {
            return time::sleep(pause).await;
        }
        let mut woken = pin!(wake.0.notified());
        woken.as_mut().enable();
        let until = Instant::now() + pause;
        // Even who is woken does not ask more often than after a first failure.
        time::sleep(pause.min(pace.backoff.min)).await;
        tokio::select! {
            () = time::sleep_until(until) => (),
            () = woken => {
                self.was_woken = true;
                // Seventy watches must not all ask in the same millisecond.
                time::sleep(pace.floor.mul_f64(fastrand::f64())).await;
            }
        }
    }
}

/// With half of it again, by chance, and the time that the woken take: five seconds.
const ALERT_PAUSE_MAX: Duration = Duration::from_millis(2_500);

#[cfg(test)]
mod later;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
