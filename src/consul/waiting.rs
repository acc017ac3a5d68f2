//! What is fetched on demand: who waits for it, and whose turn it is.
//!
//! ```text
//!   join --> queue of its datacenter --next--> in flight --end--> those who wait are told
//!                    \-- nobody waits for it any more: dropped
//! ```
//! A fetch that hangs takes a place until its deadline, and a datacenter that hangs all that it
//! may have. So one that is far has half of the places at most, and all of them leave the local
//! one a quarter.
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
    in_flight: Vec<(Wanted, Instant)>,
    /// Datacenters whose last fetch hung.
    suspects: BTreeSet<String>,
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
            Some(State::Asked(waiting) | State::Queued(waiting)) => return waiting.push(done),
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
            let rank = |name: &&String| (self.held(Share::Own, name).count(), self.is_far(name));
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
            self.in_flight.push((wanted.clone(), now));
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
        let took = self.in_flight.iter().find(|(other, _)| other == wanted);
        let took = took.map_or(Duration::ZERO, |(_, since)| now - *since);
        match outcome {
            Ended::Failed if took >= self.patience => {
                self.suspects.insert(wanted.datacenter().to_owned());
            }
            // Refused at once: somebody is there.
            Ended::Failed => (),
            Ended::Again | Ended::Came => {
                self.suspects.remove(wanted.datacenter());
            }
        }
        self.in_flight.retain(|(other, _)| other != wanted);
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
        let since = self.in_flight.iter().find(|(other, _)| other == wanted).map(|(_, at)| *at);
        let has_left = match self.wanted.get(wanted) {
            Some(State::Asked(waiting)) => waiting.iter().any(oneshot::Sender::is_closed),
            Some(State::Queued(_) | State::Resting(_)) | None => false,
        };
        has_left || since.is_some_and(|since| now - since >= self.patience)
    }

    /// Whether every place that `datacenter` could get is held by something late.
    fn is_stuck(&self, datacenter: &str, now: Instant) -> bool {
        self.shares(datacenter).iter().any(|share| {
            let mut held = self.held(*share, datacenter);
            !self.has_free(*share, datacenter) && held.all(|wanted| self.is_late(wanted, now))
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
        let places = match share {
            Share::All => self.places,
            Share::Far => self.places - (self.places / 4).max(1),
            Share::Own => self.places / 2,
        };
        self.held(share, datacenter).count() < places.max(1)
    }

    fn held(&self, share: Share, datacenter: &str) -> impl Iterator<Item = &Wanted> {
        let is_in = move |name: &str| match share {
            Share::All => true,
            Share::Far => self.is_far(name),
            Share::Own => name == datacenter,
        };
        let in_flight = self.in_flight.iter().map(|(wanted, _)| wanted);
        in_flight.filter(move |wanted| is_in(wanted.datacenter()))
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
mod tests {
    use tokio::sync::oneshot::Receiver;

    use super::*;
    use crate::catalog::Form;

    struct Desk {
        waiting: Waiting,
        now: Instant,
    }

    fn service(datacenter: &str, service: &str) -> Wanted {
        Wanted::Service {
            datacenter: datacenter.to_owned(),
            form: Form::Service,
            service: service.to_owned(),
        }
    }

    impl Desk {
        /// With `places`, and patience for a second; dc1 is near.
        fn new(places: usize) -> Self {
            let mut waiting = Waiting::new(places, Duration::from_secs(1));
            waiting.set_local("dc1");
            Self { waiting, now: Instant::now() }
        }

        fn join(&mut self, datacenter: &str, name: &str) -> Receiver<Supply> {
            let (done, answered) = oneshot::channel();
            self.waiting.join(Demand { wanted: service(datacenter, name), done }, self.now);
            answered
        }

        /// `dc1/a dc2/b`: what begins now.
        fn begin(&mut self) -> String {
            let begun = std::iter::from_fn(|| self.waiting.next(self.now));
            let names = begun.map(|wanted| match wanted {
                Wanted::Service { datacenter, service, .. } => format!("{datacenter}/{service}"),
                Wanted::Datacenter { datacenter } => datacenter,
                other => format!("{other:?}"),
            });
            names.collect::<Vec<_>>().join(" ")
        }

        fn end(&mut self, datacenter: &str, name: &str, outcome: Ended) {
            self.waiting.end(&service(datacenter, name), outcome, self.now);
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }
    }

    /// Whether a question still waits, was told, or was sent away.
    fn state(answered: &mut Receiver<Supply>) -> &'static str {
        match answered.try_recv() {
            Ok(_) => "told",
            Err(oneshot::error::TryRecvError::Closed) => "sent away",
            Err(oneshot::error::TryRecvError::Empty) => "waits",
        }
    }

    #[test]
    fn one_fetch_is_for_all_who_ask() {
        let mut desk = Desk::new(4);
        let mut one = desk.join("dc1", "a");
        assert_eq!(desk.begin(), "dc1/a");
        let mut other = desk.join("dc1", "a");
        assert_eq!(desk.begin(), "");
        desk.end("dc1", "a", Ended::Came);
        assert_eq!((state(&mut one), state(&mut other)), ("told", "told"));
        let _again = desk.join("dc1", "a");
        assert_eq!(desk.begin(), "dc1/a");
    }

    #[test]
    fn a_far_datacenter_that_hangs_leaves_places_to_the_others() {
        let mut desk = Desk::new(8);
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let mut waiting = Vec::new();
        for datacenter in ["dc2", "dc3"] {
            waiting.extend(names.iter().map(|name| desk.join(datacenter, name)));
        }
        assert_eq!(desk.begin(), "dc2/0 dc3/0 dc2/1 dc3/1 dc2/2 dc3/2", "six of eight");
        desk.end("dc3", "0", Ended::Came);
        assert_eq!(desk.begin(), "dc3/3");
        waiting.extend(names.iter().map(|name| desk.join("dc1", name)));
        assert_eq!(desk.begin(), "dc1/0 dc1/1");
        desk.end("dc2", "0", Ended::Failed);
        assert_eq!(desk.begin(), "dc1/2", "who has least goes first, and then who is near");
    }

    #[test]
    fn one_far_datacenter_has_half_of_the_places() {
        let mut desk = Desk::new(8);
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let _waiting: Vec<_> = names.iter().map(|name| desk.join("dc2", name)).collect();
        assert_eq!(desk.begin(), "dc2/0 dc2/1 dc2/2 dc2/3");
        let mut desk = Desk::new(2);
        let _waiting: Vec<_> = names.iter().map(|name| desk.join("dc2", name)).collect();
        assert_eq!(desk.begin(), "dc2/0");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_begun() {
        let mut desk = Desk::new(1);
        let _held = desk.join("dc1", "a");
        assert_eq!(desk.begin(), "dc1/a");
        let left: Vec<_> = (0..100).map(|number| desk.join("dc1", &number.to_string())).collect();
        drop(left);
        let _stays = desk.join("dc1", "b");
        desk.end("dc1", "a", Ended::Came);
        assert_eq!(desk.begin(), "dc1/b");
        desk.waiting.sweep(desk.now);
        assert_eq!((desk.waiting.wanted.len(), desk.waiting.queues.len()), (1, 0));
    }

    #[test]
    fn nobody_waits_for_what_another_has_given_up() {
        let mut desk = Desk::new(4);
        let mut first = desk.join("dc1", "a");
        desk.begin();
        assert_eq!(state(&mut desk.join("dc1", "a")), "waits");
        drop(first);
        assert_eq!(state(&mut desk.join("dc1", "a")), "sent away");
        // Until it has come after all.
        desk.end("dc1", "a", Ended::Came);
        first = desk.join("dc1", "a");
        assert_eq!(state(&mut first), "waits");
    }

    #[test]
    fn nobody_waits_where_every_place_is_late() {
        let mut desk = Desk::new(4);
        let _hanging: Vec<_> = ["a", "b"].map(|name| desk.join("dc2", name)).into();
        assert_eq!(desk.begin(), "dc2/a dc2/b");
        assert_eq!(state(&mut desk.join("dc2", "c")), "waits", "they may still come");
        desk.pass(1_000);
        assert_eq!(state(&mut desk.join("dc2", "d")), "sent away");
        assert_eq!(state(&mut desk.join("dc1", "d")), "waits", "another has its places");
    }

    #[test]
    fn where_a_fetch_hung_as_many_wait_as_there_are_places() {
        let mut desk = Desk::new(4);
        let _hung = desk.join("dc1", "a");
        desk.begin();
        desk.pass(10_000);
        desk.end("dc1", "a", Ended::Failed);
        desk.pass(500);
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let mut waiting = Vec::new();
        for name in &names {
            waiting.extend([desk.join("dc1", name), desk.join("dc1", name)]);
            desk.begin();
        }
        let count = |waiting: &mut Vec<Receiver<Supply>>| {
            waiting.iter_mut().filter_map(|one| (state(one) == "waits").then_some(())).count()
        };
        assert_eq!(count(&mut waiting), 4, "one for each place");
        desk.end("dc1", "0", Ended::Came);
        assert_eq!(state(&mut desk.join("dc1", "1")), "waits", "it answers again");
    }

    #[test]
    fn what_failed_rests() {
        let mut desk = Desk::new(4);
        let mut asked = desk.join("dc1", "a");
        desk.begin();
        desk.end("dc1", "a", Ended::Failed);
        assert_eq!(state(&mut asked), "sent away");
        desk.pass(499);
        assert_eq!(state(&mut desk.join("dc1", "a")), "sent away");
        desk.pass(1);
        let _asked = desk.join("dc1", "a");
        assert_eq!(desk.begin(), "dc1/a");
    }

    #[test]
    fn what_a_watch_brings_is_told_too() {
        let mut desk = Desk::new(1);
        let (mut asked, mut queued) = (desk.join("dc1", "a"), desk.join("dc1", "b"));
        assert_eq!(desk.begin(), "dc1/a");
        for name in ["a", "b"] {
            desk.waiting.tell(&service("dc1", name));
        }
        assert_eq!((state(&mut asked), state(&mut queued)), ("told", "told"));
        desk.end("dc1", "a", Ended::Came);
        assert_eq!(desk.begin(), "", "b is there");
    }

    #[test]
    fn what_is_asked_once_more_keeps_those_who_wait() {
        let mut desk = Desk::new(1);
        let mut asked = desk.join("dc1", "a");
        desk.begin();
        desk.end("dc1", "a", Ended::Again);
        assert_eq!((state(&mut asked), &*desk.begin()), ("waits", "dc1/a"));
        drop(asked);
        desk.end("dc1", "a", Ended::Again);
        assert_eq!(desk.begin(), "", "nobody waits");
    }
}
