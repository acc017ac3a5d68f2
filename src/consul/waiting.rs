//! What is fetched on demand: who waits for it, and whose turn it is.
//!
//! ```text
//!   join --> queue of its datacenter --next--> in flight --end--> those who wait are told
//!                    \-- nobody waits for it any more: dropped
//! ```
//! A fetch that hangs takes a place until its deadline, and a datacenter that hangs all that it
//! may have. So one that is far has half of the places at most, and all of them leave the local
//! one a quarter. What nobody waits for takes no place in a queue, and has a quarter of the places that
//! there are for its datacenter, but never the last one.
//!
//! **Invariant:** nobody waits for what another has given up, and where a datacenter has let a fetch
//! hang, no more questions wait than there are places, until something comes from it. So those who
//! ask for what does not answer do not take the places of those who wait.
//!
//! Starts nothing and reads no clock; knows nothing of what is fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::demand::{Demand, Supply, Wanted};

/// The fetches that are wanted or under way.
#[derive(Debug)]
pub struct Waiting {
    /// How many may be in flight.
    places: usize,
    /// How long a question waits.
    patience: Duration,
    /// The datacenter that is near.
    local: String,
    wanted: BTreeMap<Wanted, State>,
    /// By datacenter, in the order in which they came. What has no place in `wanted` is over.
    queues: BTreeMap<String, VecDeque<Wanted>>,
    in_flight: Vec<Flight>,
    /// Datacenters whose last fetch hung.
    suspects: BTreeSet<String>,
}

/// A fetch under way.
#[derive(Debug)]
struct Flight {
    wanted: Wanted,
    since: Instant,
    /// Whether no question has waited for it yet.
    is_behind: bool,
}

#[derive(Debug)]
enum State {
    /// Being fetched, for those who wait.
    Asked(Vec<oneshot::Sender<Supply>>),
    /// Not begun; some may have left.
    Queued(Vec<oneshot::Sender<Supply>>),
    /// It brought nothing, and is not tried again before this.
    Resting(Instant),
}

impl Waiting {
    /// For `places` fetches at once, and questions that wait for `patience`.
    pub fn new(places: usize, patience: Duration) -> Self {
        Self {
            places: places.max(1),
            patience,
            local: String::new(),
            wanted: BTreeMap::new(),
            queues: BTreeMap::new(),
            in_flight: Vec::new(),
            suspects: BTreeSet::new(),
        }
    }

    /// Says which datacenter is near.
    pub fn set_local(&mut self, datacenter: &str) {
        datacenter.clone_into(&mut self.local);
    }

    /// Lets a question wait, unless that is in vain: its sender is dropped then.
    pub fn join(&mut self, demand: Demand, now: Instant) {
        let Demand { wanted, done } = demand;
        let is_suspect = self.suspects.contains(wanted.datacenter());
        let is_late = is_suspect || self.is_late(&wanted, now);
        match self.wanted.get_mut(&wanted) {
            Some(State::Asked(_) | State::Queued(_)) if is_late => return,
            Some(State::Asked(waiting) | State::Queued(waiting)) => {
                waiting.push(done);
                // From here on it is a question's, and not to be taken for one that may hang.
                let flights = self.in_flight.iter_mut().filter(|flight| flight.wanted == wanted);
                return flights.for_each(|flight| flight.is_behind = false);
            }
            Some(State::Resting(until)) if *until > now => return,
            Some(State::Resting(_)) | None => (),
        }
        let datacenter = wanted.datacenter();
        let has_hope = match is_suspect {
            true => self.has_place(datacenter),
            false => !self.is_stuck(datacenter, now),
        };
        if has_hope {
            let queue = self.queues.entry(datacenter.to_owned()).or_default();
            queue.push_back(wanted.clone());
            self.wanted.insert(wanted, State::Queued(vec![done]));
        }
    }

    /// Whether what nobody waits for may be fetched from `datacenter` now.
    pub fn has_place_behind(&self, datacenter: &str) -> bool {
        self.shares(datacenter).iter().all(|share| {
            let places = self.places(*share);
            let most = (places / 4).max(1).min(places - 1);
            let behind = self.flights(*share, datacenter).filter(|flight| flight.is_behind);
            self.has_free(*share, datacenter) && behind.count() < most
        })
    }

    /// Has this fetched though nobody waits for it, unless it is fetched already, or is about to be,
    /// or rests. It is in flight from here on, until [`Waiting::end`].
    pub fn begin_behind(&mut self, wanted: &Wanted, now: Instant) -> bool {
        match self.wanted.get(wanted) {
            Some(State::Asked(_) | State::Queued(_)) => return false,
            Some(State::Resting(until)) if *until > now => return false,
            Some(State::Resting(_)) | None => (),
        }
        self.wanted.insert(wanted.clone(), State::Asked(Vec::new()));
        self.in_flight.push(Flight { wanted: wanted.clone(), since: now, is_behind: true });
        true
    }

    /// Whether this is wanted already.
    pub fn has(&self, wanted: &Wanted) -> bool {
        matches!(self.wanted.get(wanted), Some(State::Asked(_) | State::Queued(_)))
    }

    /// Whether something waits for a place.
    pub fn has_queue(&self) -> bool {
        self.queues.values().any(|queue| !queue.is_empty())
    }

    /// What may be fetched now. It is in flight from here on, until [`Waiting::end`].
    pub fn next(&mut self, now: Instant) -> Option<Wanted> {
        loop {
            // Whoever has least goes first, so that one datacenter's many do not hold up another.
            let waiting = self.queues.iter().filter(|(_, queue)| !queue.is_empty());
            let free = waiting.map(|(name, _)| name).filter(|name| self.has_place(name));
            let rank = |name: &&String| (self.flights(Share::Own, name).count(), self.is_far(name));
            let datacenter = free.min_by_key(rank)?.clone();
            let wanted = self.queues.get_mut(&datacenter)?.pop_front()?;
            let Some(State::Queued(waiting)) = self.wanted.get_mut(&wanted) else { continue };
            waiting.retain(|done| !done.is_closed());
            if waiting.is_empty() {
                self.wanted.remove(&wanted);
                continue;
            }
            let waiting = std::mem::take(waiting);
            self.wanted.insert(wanted.clone(), State::Asked(waiting));
            self.in_flight.push(Flight { wanted: wanted.clone(), since: now, is_behind: false });
            return Some(wanted);
        }
    }

    /// Tells those who wait that it is there, however it came.
    pub fn tell(&mut self, wanted: &Wanted) {
        self.suspects.remove(wanted.datacenter());
        match self.wanted.get_mut(wanted) {
            Some(State::Asked(waiting)) => tell_all(std::mem::take(waiting)),
            Some(State::Queued(waiting)) => {
                tell_all(std::mem::take(waiting));
                self.wanted.remove(wanted);
            }
            Some(State::Resting(_)) | None => (),
        }
    }

    /// A fetch is over. One that brought nothing is not repeated for a while.
    pub fn end(&mut self, wanted: &Wanted, outcome: Ended, now: Instant) {
        let flight = self.in_flight.iter().find(|flight| flight.wanted == *wanted);
        let has_hung = flight.is_some_and(|it| !it.is_behind && now - it.since >= self.patience);
        match outcome {
            Ended::Failed if has_hung => {
                self.suspects.insert(wanted.datacenter().to_owned());
            }
            // Refused at once: somebody is there.
            Ended::Failed => (),
            Ended::Again | Ended::Came => {
                self.suspects.remove(wanted.datacenter());
            }
        }
        self.in_flight.retain(|flight| flight.wanted != *wanted);
        let Some(State::Asked(waiting)) = self.wanted.remove(wanted) else { return };
        match outcome {
            Ended::Again => {
                let queue = self.queues.entry(wanted.datacenter().to_owned()).or_default();
                queue.push_back(wanted.clone());
                self.wanted.insert(wanted.clone(), State::Queued(waiting));
            }
            Ended::Came => tell_all(waiting),
            Ended::Failed => {
                let state = State::Resting(now + REST_AFTER_FAILURE);
                self.wanted.insert(wanted.clone(), state);
            }
        }
    }

    /// Forgets what is over.
    pub fn sweep(&mut self, now: Instant) {
        self.wanted.retain(|_, state| match state {
            State::Asked(_) => true,
            State::Queued(waiting) => {
                waiting.retain(|done| !done.is_closed());
                !waiting.is_empty()
            }
            State::Resting(until) => *until > now,
        });
        let wanted = &self.wanted;
        self.queues.retain(|_, queue| {
            queue.retain(|wants| matches!(wanted.get(wants), Some(State::Queued(_))));
            !queue.is_empty()
        });
    }

    /// Whether somebody has waited for this as long as a question does, in vain.
    fn is_late(&self, wanted: &Wanted, now: Instant) -> bool {
        let flight = self.in_flight.iter().find(|flight| flight.wanted == *wanted);
        let has_left = match self.wanted.get(wanted) {
            Some(State::Asked(waiting)) => waiting.iter().any(oneshot::Sender::is_closed),
            Some(State::Queued(_) | State::Resting(_)) | None => false,
        };
        has_left || flight.is_some_and(|flight| now - flight.since >= self.patience)
    }

    /// Whether every place that `datacenter` could get is held by something late.
    fn is_stuck(&self, datacenter: &str, now: Instant) -> bool {
        self.shares(datacenter).iter().any(|share| {
            let mut flights = self.flights(*share, datacenter);
            let is_late = |flight: &Flight| self.is_late(&flight.wanted, now);
            !self.has_free(*share, datacenter) && flights.all(is_late)
        })
    }

    fn has_place(&self, datacenter: &str) -> bool {
        self.shares(datacenter).iter().all(|share| self.has_free(*share, datacenter))
    }

    /// The shares that a fetch of `datacenter` counts among.
    fn shares(&self, datacenter: &str) -> &'static [Share] {
        match self.is_far(datacenter) {
            true => &[Share::All, Share::Far, Share::Own],
            false => &[Share::All],
        }
    }

    fn has_free(&self, share: Share, datacenter: &str) -> bool {
        self.flights(share, datacenter).count() < self.places(share)
    }

    /// How many there are, at least one.
    fn places(&self, share: Share) -> usize {
        let places = match share {
            Share::All => self.places,
            Share::Far => self.places - (self.places / 4).max(1),
            Share::Own => self.places / 2,
        };
        places.max(1)
    }

    fn flights(&self, share: Share, datacenter: &str) -> impl Iterator<Item = &Flight> {
        let is_in = move |name: &str| match share {
            Share::All => true,
            Share::Far => self.is_far(name),
            Share::Own => name == datacenter,
        };
        self.in_flight.iter().filter(move |flight| is_in(flight.wanted.datacenter()))
    }

    fn is_far(&self, datacenter: &str) -> bool {
        datacenter != self.local
    }
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// With something that is to be asked once more.
    Again,
    /// With what was wanted.
    Came,
    /// With nothing.
    Failed,
}

/// Who shares a number of places.
#[derive(Clone, Copy)]
enum Share {
    /// All datacenters.
    All,
    /// All but the local one.
    Far,
    /// One alone.
    Own,
}

/// Those whose question was abandoned meanwhile do not listen any more.
fn tell_all(waiting: Vec<oneshot::Sender<Supply>>) {
    waiting.into_iter().for_each(|done| drop(done.send(Supply::Published)));
}

/// How long after a failure the same is not fetched, however often it is asked for.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
