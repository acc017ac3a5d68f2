//! Watches of a Consul to which random things happen at random times, with the clock stopped.
//!
//! The scripts in `tests` say what each round brings. Here only what happens to Consul is given, in
//! the order and at the times of a [`Turn`] each; rounds fall on it as they may. The Consul keeps to
//! the rules of a real one: questions from the beginning are answered consistently, others by a
//! server that may lag; who asks for an index that is not reached yet is held; who is held when a
//! snapshot is restored is told again what was so before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::*;
use crate::consul::index::Index;

const PACE: Pace = Pace {
    backoff: Backoff { min: Duration::from_millis(500), max: Duration::from_secs(8) },
    burst: 3,
    floor: Duration::from_millis(250),
    poll: Duration::from_secs(1),
};

/// How long Consul holds a question, and how long it may take for one that it does not hold.
const WAIT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Something that happens to Consul.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The catalogue changes.
    Changes,
    /// Every question gets a 500.
    Fails { ms: u64 },
    /// Nothing is answered.
    Hangs { ms: u64 },
    /// Whoever goes on from an index is answered by a server that has not heard of the last change.
    Lags { ms: u64 },
    /// Another server is asked from now on.
    Moves,
    /// A snapshot is restored: other contents, and an index that starts over.
    Restores,
    /// Whoever is held is answered that nothing has changed.
    Wakes,
    /// Replies have no index.
    HasNoIndex { ms: u64 },
}

/// An act, and the time that passes before it.
#[derive(Clone, Copy, Debug)]
struct Turn {
    after_ms: u64,
    act: Act,
}

/// Consul as it is now.
#[derive(Debug)]
struct Truth {
    /// Counts the catalogues that there were. It is what is published.
    version: u64,
    index: u64,
    /// The version and the index before the last change.
    before: (u64, u64),
    address: usize,
    restores: u32,
    wakes: u32,
    failing_until: Instant,
    hanging_until: Instant,
    lagging_until: Instant,
    without_index_until: Instant,
}

/// Shared between what happens and who asks.
#[derive(Debug)]
struct World {
    truth: Mutex<Truth>,
    happened: Notify,
    /// When each round began.
    rounds: Mutex<VecDeque<Instant>>,
}

struct Asking(Arc<World>);

impl World {
    fn new() -> Arc<Self> {
        let now = Instant::now();
        let truth = Truth {
            version: 1,
            index: 10,
            before: (1, 10),
            address: 0,
            restores: 0,
            wakes: 0,
            failing_until: now,
            hanging_until: now,
            lagging_until: now,
            without_index_until: now,
        };
        let (happened, rounds) = (Notify::new(), Mutex::default());
        Arc::new(Self { truth: Mutex::new(truth), happened, rounds })
    }

    fn act(&self, act: Act) {
        let truth = &mut *self.truth.lock().unwrap();
        let until = |ms| Instant::now() + Duration::from_millis(ms);
        match act {
            Act::Changes => {
                truth.before = (truth.version, truth.index);
                truth.version += 1;
                truth.index += 1;
            }
            Act::Fails { ms } => truth.failing_until = until(ms),
            Act::Hangs { ms } => truth.hanging_until = until(ms),
            Act::Lags { ms } => truth.lagging_until = until(ms),
            Act::Moves => truth.address = 1 - truth.address,
            Act::Restores => {
                truth.version += 1;
                truth.index = 5;
                truth.before = (truth.version, truth.index);
                truth.restores += 1;
            }
            Act::Wakes => truth.wakes += 1,
            Act::HasNoIndex { ms } => truth.without_index_until = until(ms),
        }
        self.happened.notify_waiters();
    }

    /// One request, up to its reply.
    async fn answer(&self, after: Option<Position>) -> Result<Reply<u64>, FetchError> {
        let (address, restores, wakes, told) = {
            let truth = self.truth.lock().unwrap();
            (truth.address, truth.restores, truth.wakes, truth.seen(after))
        };
        let after = after.filter(|after| after.address == address);
        let wait = after.map(|_| WAIT);
        let held_until = Instant::now() + WAIT;
        loop {
            let mut happened = pin!(self.happened.notified());
            happened.as_mut().enable();
            let look_again_at = {
                let (truth, now) = (self.truth.lock().unwrap(), Instant::now());
                let is_let_go = truth.wakes > wakes;
                let (version, index) = truth.seen(after);
                let is_held = after.is_some_and(|after| after.index.get() >= index);
                if now < truth.hanging_until {
                    truth.hanging_until
                } else if now < truth.failing_until {
                    return Err(FetchError::Status { status: 500, body: String::new() });
                } else if after.is_some() && truth.restores > restores {
                    return Ok(Reply { wait, ..truth.reply(told.0, told.1, address) });
                } else if is_held && !is_let_go && now < held_until {
                    // A server that lags catches up without anything happening.
                    let soon =
                        if now < truth.lagging_until { truth.lagging_until } else { held_until };
                    soon.min(held_until)
                } else {
                    return Ok(Reply { wait, ..truth.reply(version, index, address) });
                }
            };
            tokio::select! {
                () = happened => (),
                () = time::sleep_until(look_again_at) => (),
            }
        }
    }
}

impl Truth {
    /// The version and the index that whoever goes on from `after` is shown.
    fn seen(&self, after: Option<Position>) -> (u64, u64) {
        match after.is_some() && Instant::now() < self.lagging_until {
            true => self.before,
            false => (self.version, self.index),
        }
    }

    fn reply(&self, version: u64, index: u64, address: usize) -> Reply<u64> {
        let has_index = Instant::now() >= self.without_index_until;
        Reply {
            value: version,
            index: Index::from_header(&index.to_string()).filter(|_| has_index),
            is_filtered: false,
            wait: None,
            known_leader: Some(true),
            last_contact_ms: Some(0),
            address,
            bytes: 1,
            arrived: Instant::now(),
        }
    }
}

impl Source<u64> for Asking {
    fn name(&self) -> &str {
        "a schedule"
    }

    async fn fetch(&mut self, after: Option<Position>) -> Result<Reply<u64>, FetchError> {
        self.0.rounds.lock().unwrap().push_back(Instant::now());
        let deadline = if after.is_some() { WAIT + WAIT / 16 + TIMEOUT } else { TIMEOUT };
        let answer = time::timeout(deadline, self.0.answer(after)).await;
        answer.unwrap_or(Err(FetchError::Timeout { after: deadline }))
    }
}

/// What came of a schedule.
#[derive(Debug)]
struct Outcome {
    /// The versions that were published.
    published: Vec<u64>,
    /// The last one that there was.
    truth: u64,
    /// When each round began, since the start.
    rounds: Vec<Duration>,
}

/// Lets all turns happen, and then nothing more for as long as it takes to hear of it.
async fn run(turns: &[Turn]) -> Outcome {
    let (world, start, cancel) = (World::new(), Instant::now(), CancellationToken::new());
    let published = Arc::new(Mutex::new(Vec::new()));
    let (tasks, publishing) = (TaskTracker::new(), Arc::clone(&published));
    let publish = async move |event: Event<u64>| match event {
        Event::Same(round) | Event::Value(round) => publishing.lock().unwrap().push(round.value),
        Event::Back | Event::Failed { .. } => (),
    };
    tasks.spawn(watch(Asking(world.clone()), PACE, Wake::default(), cancel.clone(), publish));
    tasks.close();
    for turn in turns {
        time::sleep(Duration::from_millis(turn.after_ms)).await;
        world.act(turn.act);
    }
    time::sleep(Duration::from_millis(FAULT_MS_MAX) + CONVERGED_WITHIN).await;
    cancel.cancel();
    tasks.wait().await;
    let rounds = world.rounds.lock().unwrap().iter().map(|at| *at - start).collect();
    let published = published.lock().unwrap().clone();
    let truth = world.truth.lock().unwrap().version;
    Outcome { published, truth, rounds }
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let ms = 1..FAULT_MS_MAX;
    let act = prop_oneof![
        6 => Just(Act::Changes),
        2 => ms.clone().prop_map(|ms| Act::Fails { ms }),
        2 => ms.clone().prop_map(|ms| Act::Hangs { ms }),
        2 => ms.clone().prop_map(|ms| Act::Lags { ms }),
        1 => Just(Act::Moves),
        2 => Just(Act::Restores),
        1 => Just(Act::Wakes),
        1 => ms.prop_map(|ms| Act::HasNoIndex { ms }),
    ];
    // Most things happen while others do, some in the same moment.
    let after_ms = prop_oneof![1 => Just(0), 4 => 0..500_u64, 2 => 0..30_000_u64];
    (after_ms, act).prop_map(|(after_ms, act)| Turn { after_ms, act })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn whatever_happens_a_watch_comes_to_the_truth_and_never_goes_back(
        turns in prop::collection::vec(any_turn(), 0..16)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let Outcome { published, truth, rounds } = runtime.block_on(run(&turns));

        prop_assert_eq!(published.last(), Some(&truth), "{:?}", published);
        prop_assert!(published.is_sorted(), "it went back: {:?}", published);
        // Three at once, then one per floor.
        for four in rounds.windows(4) {
            prop_assert!(four[3] - four[0] >= PACE.floor, "it spins: {:?}", rounds);
        }
        let most = rounds.last().map_or(0, |last| last.as_millis() / PACE.floor.as_millis());
        prop_assert!(rounds.len() as u128 <= most + 3, "it spins: {:?}", rounds);
    }
}

/// How long a fault lasts at most.
const FAULT_MS_MAX: u64 = 40_000;

/// How long it may take to hear the truth: a question hangs until it is given up, the longest
/// pause, and a question for an index that Consul no longer has.
const CONVERGED_WITHIN: Duration =
    Duration::from_millis(12_625 + 12_000 + 10_625 + 2 * PACE.floor.as_millis() as u64);
