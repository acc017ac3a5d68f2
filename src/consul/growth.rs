//! How many watches there may be: few after a start, fewer when Consul lets no more in.
//!
//! ```text
//!   few --what an earlier start left is gone--> all --refused--> three quarters of what there is
//!    └--------- HTTP/2: a stream is no connection --^  ^-- a while later, each time twice as long --┘
//! ```
//! Consul lets so many connections of one address in and closes all others, those of other programs
//! too; and an abandoned query keeps its place until its wait is over. So what was refused is
//! taken for the limit, a part is left to others, and is tried again after a while only.
//!
//! Pure: knows numbers and times, and no watches.

use std::time::Duration;

use tokio::time::Instant;

/// How many requests there may be.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Watches until `grows_after` has passed.
    pub at_start: usize,
    /// Watches from then on.
    pub most: usize,
    /// Watches where each is a stream among others; at least `most`.
    pub streams: usize,
    /// Longer than Consul holds a query that nobody waits for any more.
    pub grows_after: Duration,
    /// Fetches.
    pub spare: usize,
}

/// The number of watches, as it changes.
#[derive(Debug)]
pub struct Growth {
    room: Room,
    allowed: usize,
    /// When more may be tried.
    due: Option<Instant>,
    /// How often Consul refused, since it was well.
    refusals: u32,
    /// When all is well again, if nothing is refused until then.
    well_at: Option<Instant>,
}

/// What is to be done about the number of watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// There may be so many more.
    More(usize),
    /// There may be so many fewer. `is_first` where all was well before.
    Fewer {
        /// How many places are lost.
        places: usize,
        /// Whether the log does not know yet.
        is_first: bool,
    },
    /// As before; nothing was refused for a while.
    Well,
}

/// What is seen of the connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Consul has refused some since the last look.
    pub is_refused: bool,
    /// Each request is a stream among others.
    pub has_streams: bool,
    /// Watches that hear Consul, lists included.
    pub hearing: usize,
}

impl Growth {
    /// Few, if there is anything to grow to.
    pub fn new(room: Room, now: Instant) -> Self {
        let allowed = room.at_start.min(room.most);
        let due = (allowed < room.most).then(|| now + room.grows_after);
        Self { room, allowed, due, refusals: 0, well_at: None }
    }

    /// How many there may be now.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether there will be more soon.
    pub fn is_growing(&self) -> bool {
        self.due.is_some()
    }

    /// Whether there is room at once where requests turn out to be streams: Consul refused none.
    pub fn awaits_streams(&self) -> bool {
        self.due.is_some() && self.refusals == 0
    }

    /// Says what follows from what is `seen`; to be asked once a second, and where streams that it
    /// [awaits](Self::awaits_streams) are there.
    pub fn step(&mut self, seen: Seen, now: Instant) -> Step {
        if seen.is_refused {
            return self.shrink(seen.hearing, now);
        }
        let is_due = self.due.is_some_and(|due| due <= now);
        let may_grow = is_due || seen.has_streams && self.awaits_streams();
        let may_stream = self.due.is_none() && seen.has_streams;
        let target = if seen.has_streams { self.room.streams } else { self.room.most };
        if may_grow || may_stream {
            self.due = None;
            let more = target.saturating_sub(self.allowed);
            self.allowed += more;
            if more > 0 {
                return Step::More(more);
            }
        }
        if self.due.is_none() && self.well_at.is_some_and(|at| at <= now) {
            (self.well_at, self.refusals) = (None, 0);
            return Step::Well;
        }
        Step::Keep
    }

    fn shrink(&mut self, hearing: usize, now: Instant) -> Step {
        let pause = self.room.grows_after * 2_u32.pow(self.refusals.min(DOUBLINGS_MAX));
        self.due = Some(now + pause);
        self.well_at = Some(now + pause + self.room.grows_after);
        let left = (hearing - hearing / 4).clamp(WATCHES_MIN.min(self.allowed), self.allowed);
        let places = self.allowed - left;
        self.allowed = left;
        let is_first = self.refusals == 0;
        self.refusals = self.refusals.saturating_add(1);
        match (places, is_first) {
            (0, false) => Step::Keep,
            (places, is_first) => Step::Fewer { places, is_first },
        }
    }
}

/// The lists of one datacenter, and a service.
const WATCHES_MIN: usize = 3;

/// The longest pause is sixteen times the first one.
const DOUBLINGS_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        at_start: 16,
        most: 72,
        streams: 1_992,
        grows_after: Duration::from_secs(64),
        spare: 8,
    };

    /// What happens second by second, and how many there may be then.
    fn steps(growth: &mut Growth, start: Instant, story: &[(u64, Seen, Step, usize)]) {
        for (secs, seen, step, allowed) in story {
            let got = growth.step(*seen, start + Duration::from_secs(*secs));
            assert_eq!((got, growth.allowed()), (*step, *allowed), "after {secs} s: {seen:?}");
        }
    }

    fn quiet() -> Seen {
        Seen::default()
    }

    fn refused(hearing: usize) -> Seen {
        Seen { is_refused: true, hearing, ..quiet() }
    }

    fn streams() -> Seen {
        Seen { has_streams: true, ..quiet() }
    }

    #[test]
    fn all_are_allowed_once_an_earlier_start_is_forgotten() {
        let start = Instant::now();
        let mut growth = Growth::new(ROOM, start);
        assert!(growth.is_growing());
        let story = [
            (1, quiet(), Step::Keep, 16),
            (63, quiet(), Step::Keep, 16),
            (64, quiet(), Step::More(56), 72),
            (65, quiet(), Step::Keep, 72),
        ];
        steps(&mut growth, start, &story);
        assert!(!growth.is_growing());
    }

    #[test]
    fn streams_need_not_wait() {
        let start = Instant::now();
        let mut growth = Growth::new(ROOM, start);
        let story = [(1, streams(), Step::More(1_976), 1_992), (2, streams(), Step::Keep, 1_992)];
        steps(&mut growth, start, &story);
        // Where HTTP/2 is heard late, they come late.
        let mut growth = Growth::new(ROOM, start);
        let story = [(64, quiet(), Step::More(56), 72), (65, streams(), Step::More(1_920), 1_992)];
        steps(&mut growth, start, &story);
    }

    #[test]
    fn what_is_refused_is_tried_again_later_and_later() {
        let start = Instant::now();
        let mut growth = Growth::new(ROOM, start);
        let fewer = |places, is_first| Step::Fewer { places, is_first };
        let story = [
            (64, quiet(), Step::More(56), 72),
            // Forty were let in; a quarter of them is left to others.
            (65, refused(40), fewer(42, true), 30),
            (66, refused(30), fewer(7, false), 23),
            // Twice as long, from the last refusal on.
            (193, quiet(), Step::Keep, 23),
            (194, quiet(), Step::More(49), 72),
            (195, refused(40), fewer(42, false), 30),
            (450, quiet(), Step::Keep, 30),
            (451, quiet(), Step::More(42), 72),
            (514, quiet(), Step::Keep, 72),
            (515, quiet(), Step::Well, 72),
            (516, refused(40), fewer(42, true), 30),
        ];
        steps(&mut growth, start, &story);
    }

    #[test]
    fn a_datacenter_is_always_left() {
        let start = Instant::now();
        let mut growth = Growth::new(ROOM, start);
        let fewer = Step::Fewer { places: 13, is_first: true };
        let story = [(1, refused(0), fewer, 3), (2, refused(0), Step::Keep, 3)];
        steps(&mut growth, start, &story);
    }
}
