//! Whether memory is what Consul has: all that is watched is read again, one by one, and compared.
//!
//! ```text
//!   read --same--> the next one
//!     └--differs--> its watch speaks, or two seconds pass --> read again --differs--> memory is wrong
//!                                                                └--same--> it was on its way
//! ```
//! A watch tells of a change within milliseconds, so a difference is no mistake until it has
//! outlived that. What is heard while something is read makes the comparison void, since it may be
//! newer than what was read; and a reply that has got further than the last word of the watch
//! differs by right.
//!
//! Starts nothing and reads no clock; knows whose turn it is, and what to think of a difference.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::Change;
use crate::consul::index::Position;
use crate::consul::view::Heard;
use crate::consul::watch::Read;
use crate::consul::{Key, Watched};

/// Whose turn it is, and what is known of it.
#[derive(Debug)]
pub struct Check {
    /// How long a pass takes; zero never begins one.
    every: Duration,
    /// Between two of a pass.
    step: Duration,
    queue: VecDeque<Watched>,
    next_at: Instant,
    exam: Option<Exam>,
}

/// The one that is looked at.
#[derive(Debug)]
struct Exam {
    watched: Watched,
    state: State,
    /// How often a change came between.
    restarts: u32,
}

#[derive(Debug)]
enum State {
    /// Being read.
    Reading {
        /// How memory differed before, if it did.
        suspect: Option<Suspect>,
        /// What was heard of it meanwhile.
        heard: Option<Option<Position>>,
    },
    /// It differs, perhaps because a change is on its way.
    Waiting {
        suspect: Suspect,
        /// When it is read again, whatever comes.
        until: Instant,
    },
}

/// A difference that was seen.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// Where the watch stood when it spoke since; `None` if it has not.
    spoke: Option<Option<Position>>,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Memory is wrong.
    Diverged,
    /// It is as it should be, or nobody can tell.
    Sound,
    /// It is to be read again before anybody knows.
    Unsettled,
}

impl Check {
    /// A pass takes `every`; zero is none.
    pub fn new(every: Duration, now: Instant) -> Self {
        let next_at = now + every.min(QUIET_AT_START);
        Self { every, step: every, queue: VecDeque::new(), next_at, exam: None }
    }

    /// What is to be read now, if it is its turn. `telling` gives all that can be compared, and
    /// `is_free` whether nobody else wants to ask Consul. It is being read until [`Check::judge`]
    /// or [`Check::fail`].
    pub fn begin(
        &mut self,
        telling: impl FnOnce() -> Vec<Watched>,
        is_free: bool,
        now: Instant,
    ) -> Option<Watched> {
        if !is_free || self.every.is_zero() {
            return None;
        }
        match &mut self.exam {
            Some(Exam { state: State::Reading { .. }, .. }) => None,
            Some(Exam { watched, state, .. }) => {
                let State::Waiting { suspect, until } = state else { return None };
                if *until > now {
                    return None;
                }
                *state = State::Reading { suspect: Some(*suspect), heard: None };
                Some(watched.clone())
            }
            None => self.next(telling, now),
        }
    }

    /// Notes that memory is about to be what `change` says, which was heard at `position`.
    pub fn note(&mut self, change: &Change, position: Option<Position>, now: Instant) {
        let Some(exam) = &mut self.exam else { return };
        if subject(change).as_ref() != Some(&exam.watched) {
            return;
        }
        match &mut exam.state {
            State::Reading { heard, .. } => *heard = Some(position),
            State::Waiting { suspect, until } => {
                suspect.spoke = Some(position);
                *until = now;
            }
        }
    }

    /// Says what to think of `watched`, as `read`, where it `differs` from memory or does not.
    pub fn judge(&mut self, watched: &Watched, read: Read, differs: bool, now: Instant) -> Verdict {
        let Some(exam) = self.exam.as_mut().filter(|exam| exam.watched == *watched) else {
            return Verdict::Sound;
        };
        let State::Reading { suspect, heard } = exam.state else { return Verdict::Sound };
        if !differs || heard.flatten().is_some_and(|heard| read.is_older(heard)) {
            self.exam = None;
            return Verdict::Sound;
        }
        let has_outlived = match (heard, suspect) {
            (Some(_), _) | (None, None) => false,
            // Two seconds long nothing was heard of it.
            (None, Some(Suspect { spoke: None })) => true,
            // Its watch has spoken, and nothing has changed since.
            (None, Some(Suspect { spoke: Some(at) })) => at.is_some_and(|at| read.is_within(at)),
        };
        if has_outlived {
            self.exam = None;
            return Verdict::Diverged;
        }
        if suspect.is_some() || heard.is_some() {
            exam.restarts += 1;
        }
        if exam.restarts > RESTARTS_MAX {
            // It changes all the time, so it is heard of.
            self.exam = None;
            return Verdict::Sound;
        }
        let until = now + PATIENCE;
        exam.state = State::Waiting { suspect: Suspect { spoke: None }, until };
        Verdict::Unsettled
    }

    /// Notes that `watched` could not be read.
    pub fn fail(&mut self, watched: &Watched) {
        self.exam.take_if(|exam| exam.watched == *watched);
    }

    fn next(&mut self, telling: impl FnOnce() -> Vec<Watched>, now: Instant) -> Option<Watched> {
        if self.next_at > now {
            return None;
        }
        if self.queue.is_empty() {
            self.queue = telling().into();
            self.step = self.every / u32::try_from(self.queue.len()).unwrap_or(u32::MAX).max(1);
        }
        // Whoever had no turn for a while does not get them all at once.
        self.next_at = (self.next_at + self.step).max(now.checked_sub(LATE_MAX).unwrap_or(now));
        let watched = self.queue.pop_front()?;
        let state = State::Reading { suspect: None, heard: None };
        self.exam = Some(Exam { watched: watched.clone(), state, restarts: 0 });
        Some(watched)
    }
}

/// What a change is all about.
fn subject(change: &Change) -> Option<Watched> {
    match change {
        Change::Queries { datacenter, .. } => {
            Some(Watched::Queries { datacenter: datacenter.clone() })
        }
        _ => match Heard::of(change) {
            Heard::Nodes { datacenter } => Some(Watched::Nodes { datacenter }),
            Heard::Service { key: key @ Key { .. }, .. } => Some(Watched::Service(key)),
            Heard::Services { datacenter } => Some(Watched::Services { datacenter }),
            Heard::Datacenters { .. } | Heard::Other => None,
        },
    }
}

/// After a start there is enough to ask for.
const QUIET_AT_START: Duration = Duration::from_secs(60);

/// How long a change may take on its way, if its watch does not speak before.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often something else may come between, before it is left to the next pass.
const RESTARTS_MAX: u32 = 5;

/// Turns that were missed are made up for as far back as this.
const LATE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Form;
    use crate::consul::index::Index;

    const PASS: Duration = Duration::from_secs(600);

    /// Checks of `web` alone.
    struct Desk {
        check: Check,
        now: Instant,
    }

    fn web() -> Watched {
        Watched::Service(Key::new("dc1", Form::Service, "web"))
    }

    fn at(index: u64) -> Option<Position> {
        Some(Position { address: 0, index: Index::from_header(&index.to_string()).unwrap() })
    }

    impl Desk {
        fn new() -> Self {
            let start = Instant::now();
            Self { check: Check::new(PASS, start), now: start + QUIET_AT_START }
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        fn begins(&mut self) -> bool {
            self.check.begin(|| vec![web()], true, self.now).is_some()
        }

        fn hears(&mut self, index: u64) {
            let change = Change::Service {
                datacenter: "dc1".to_owned(),
                form: Form::Service,
                service: "Web".to_owned(),
                instances: Vec::new(),
                held: crate::catalog::Held::Watched,
                executed: None,
            };
            self.check.note(&change, at(index), self.now);
        }

        /// What a reply at `index` comes to that `differs` from memory.
        fn judge(&mut self, index: u64, differs: bool) -> Verdict {
            let read = Read { asked: self.now, position: at(index) };
            self.check.judge(&web(), read, differs, self.now)
        }
    }

    #[test]
    fn a_difference_that_outlives_two_seconds_is_one() {
        let mut desk = Desk::new();
        assert!(desk.begins());
        assert_eq!(desk.judge(7, true), Verdict::Unsettled);
        desk.pass(1_999);
        assert!(!desk.begins());
        desk.pass(1);
        assert!(desk.begins());
        assert_eq!(desk.judge(9, true), Verdict::Diverged);
    }

    #[test]
    fn a_change_on_its_way_is_none() {
        let mut desk = Desk::new();
        assert!(desk.begins());
        assert_eq!(desk.judge(7, true), Verdict::Unsettled);
        desk.hears(7);
        assert!(desk.begins(), "its watch has spoken: read at once");
        assert_eq!(desk.judge(7, false), Verdict::Sound);
    }

    #[test]
    fn what_differs_from_what_its_watch_just_said_is_one_if_nothing_changed() {
        for (index, expected) in [(7, Verdict::Diverged), (8, Verdict::Unsettled)] {
            let mut desk = Desk::new();
            assert!(desk.begins());
            assert_eq!(desk.judge(7, true), Verdict::Unsettled);
            desk.hears(7);
            assert!(desk.begins());
            assert_eq!(desk.judge(index, true), expected, "read at {index}");
        }
    }

    #[test]
    fn what_is_heard_while_it_is_read_decides_nothing() {
        let mut desk = Desk::new();
        assert!(desk.begins());
        desk.hears(8);
        assert_eq!(desk.judge(7, true), Verdict::Sound, "memory is newer");
        desk.pass(600_000);
        assert!(desk.begins());
        desk.hears(8);
        assert_eq!(desk.judge(9, true), Verdict::Unsettled);
        // What never rests is let go.
        for round in 2..=RESTARTS_MAX {
            desk.hears(9);
            assert!(desk.begins());
            desk.hears(9);
            assert_eq!(desk.judge(10, true), Verdict::Unsettled, "round {round}");
        }
        desk.pass(2_000);
        assert!(desk.begins());
        desk.hears(9);
        assert_eq!(desk.judge(10, true), Verdict::Sound);
    }

    #[test]
    fn all_have_their_turn_within_the_time_and_never_two_at_once() {
        let names: Vec<_> = (0..60).map(|number| format!("s{number:02}")).collect();
        let all =
            || names.iter().map(|name| Watched::Service(Key::new("dc1", Form::Service, name)));
        let start = Instant::now();
        let mut check = Check::new(PASS, start);
        let (mut begun, mut at) = (Vec::new(), start);
        while at < start + QUIET_AT_START + PASS {
            if let Some(watched) = check.begin(|| all().collect(), true, at) {
                assert_eq!(check.begin(|| all().collect(), true, at + PASS), None, "one at a time");
                check.fail(&watched);
                begun.push(watched);
            }
            at += Duration::from_secs(1);
        }
        assert_eq!(begun, all().collect::<Vec<_>>());
    }

    #[test]
    fn nothing_begins_while_others_wait_or_where_it_is_off() {
        let start = Instant::now();
        let later = start + PASS;
        let mut check = Check::new(PASS, start);
        assert_eq!(check.begin(|| vec![web()], true, start), None);
        assert_eq!(check.begin(|| vec![web()], false, later), None);
        assert_eq!(check.begin(|| vec![web()], true, later), Some(web()));
        let mut check = Check::new(Duration::ZERO, start);
        assert_eq!(check.begin(|| vec![web()], true, later), None);
    }
}
