//! Watches of a scripted Consul, with the clock stopped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio_util::task::TaskTracker;

use super::*;
use crate::consul::index::Index;

const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(8) };
const PACE: Pace = Pace {
    backoff: BACKOFF,
    burst: 2,
    floor: Duration::from_millis(250),
    poll: Duration::from_secs(1),
};

/// What the scripted Consul does with one round.
#[derive(Clone, Debug)]
enum Step {
    /// A 500: the Consul that we know is in trouble.
    Fails,
    /// Nothing is heard within the deadline.
    Lost,
    /// A reply from an address with the value of `X-Consul-Index`, if any, after a hold.
    Says { address: usize, index: Option<u64>, value: &'static str, hold_ms: u64 },
}

use Step::{Fails, Lost};

fn says(index: u64, value: &'static str) -> Step {
    Step::Says { address: 0, index: Some(index), value, hold_ms: 0 }
}

fn from(address: usize, index: u64, value: &'static str) -> Step {
    Step::Says { address, index: Some(index), value, hold_ms: 0 }
}

fn without_index(value: &'static str) -> Step {
    Step::Says { address: 0, index: None, value, hold_ms: 0 }
}

fn held(hold_ms: u64, index: u64, value: &'static str) -> Step {
    Step::Says { address: 0, index: Some(index), value, hold_ms }
}

struct Script {
    steps: VecDeque<Step>,
    /// Of each round, when it began and from where.
    rounds: Arc<Mutex<Vec<(u64, String)>>>,
    began: Instant,
    done: CancellationToken,
}

impl Source<&'static str> for Script {
    fn name(&self) -> &str {
        "script"
    }

    async fn fetch(&mut self, after: Option<Position>) -> Result<Reply<&'static str>, FetchError> {
        let at_ms = self.began.elapsed().as_millis() as u64;
        let from = after.map_or_else(
            || "start".to_owned(),
            |after| format!("{}/{}", after.address, after.index.get()),
        );
        self.rounds.lock().unwrap().push((at_ms, from));
        match self.steps.pop_front() {
            Some(Fails) => Err(FetchError::Status { status: 500, body: String::new() }),
            Some(Lost) => Err(FetchError::Timeout { after: Duration::from_secs(1) }),
            Some(Step::Says { address, index, value, hold_ms }) => {
                time::sleep(Duration::from_millis(hold_ms)).await;
                Ok(Reply {
                    value,
                    index: index.and_then(|index| Index::from_header(&index.to_string())),
                    is_filtered: false,
                    wait: after.map(|_| Duration::from_secs(30)),
                    known_leader: Some(true),
                    last_contact_ms: Some(0),
                    address,
                    bytes: value.len(),
                    arrived: Instant::now(),
                })
            }
            None => {
                self.done.cancel();
                std::future::pending().await
            }
        }
    }
}

struct Seen {
    /// `a`, `failed 1`, `back`.
    events: Vec<String>,
    /// Where each round asked from: `start`, or address and index. One more than steps.
    asked: Vec<String>,
    /// When each round began.
    at_ms: Vec<u64>,
}

async fn run(steps: &[Step]) -> Seen {
    let rounds = Arc::default();
    let done = CancellationToken::new();
    let script = Script {
        steps: steps.iter().cloned().collect(),
        rounds: Arc::clone(&rounds),
        began: Instant::now(),
        done: done.clone(),
    };
    let mut events = Vec::new();
    watch(script, PACE, Wake::default(), done, async |event| {
        events.push(match event {
            Event::Same(round) => format!("{} again", round.value),
            Event::Back => "back".to_owned(),
            Event::Failed { failures, .. } => format!("failed {failures}"),
            Event::Value(round) => round.value.to_owned(),
        });
    })
    .await;
    let rounds = rounds.lock().unwrap().clone();
    let (at_ms, asked) = rounds.into_iter().unzip();
    Seen { events, asked, at_ms }
}

#[tokio::test(start_paused = true)]
async fn each_change_is_published_and_asked_on_from() {
    let seen = run(&[says(7, "a"), says(8, "b")]).await;
    assert_eq!(seen.events, ["a", "b"]);
    assert_eq!(seen.asked, ["start", "0/7", "0/8"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_round_is_followed_by_one_from_the_start() {
    let seen = run(&[says(7, "a"), Fails, says(8, "b")]).await;
    assert_eq!(seen.events, ["a", "failed 1", "back", "b"]);
    assert_eq!(seen.asked, ["start", "0/7", "start", "0/8"]);
}

#[tokio::test(start_paused = true)]
async fn a_consul_that_was_away_is_asked_from_the_start() {
    let seen = run(&[says(700, "a"), Lost, Fails, says(20, "b")]).await;
    assert_eq!(seen.events, ["a", "failed 1", "failed 2", "back", "b"]);
    assert_eq!(seen.asked, ["start", "0/700", "start", "start", "0/20"]);
}

#[tokio::test(start_paused = true)]
async fn an_index_that_went_back_starts_over_and_is_not_believed() {
    let seen = run(&[says(7, "a"), says(3, "part"), says(8, "b")]).await;
    assert_eq!(seen.events, ["a", "b"]);
    assert_eq!(seen.asked, ["start", "0/7", "start", "0/8"]);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_shorter_from_the_start_is_believed() {
    let seen = run(&[says(7, "a"), says(3, "b"), says(3, "b")]).await;
    assert_eq!(seen.events, ["a", "b"]);
    assert_eq!(seen.asked, ["start", "0/7", "start", "0/3"]);
    assert_eq!(seen.at_ms, [0, 0, 250, 500], "and no watch spins for it");
}

#[tokio::test(start_paused = true)]
async fn another_address_has_its_own_index() {
    let seen = run(&[says(700, "a"), from(1, 20, "a"), from(1, 21, "b")]).await;
    assert_eq!(seen.events, ["a", "a again", "b"]);
    assert_eq!(seen.asked, ["start", "0/700", "1/20", "1/21"]);
}

#[tokio::test(start_paused = true)]
async fn a_spurious_return_is_told_as_one() {
    let seen = run(&[says(7, "a"), says(8, "a"), says(8, "a"), says(9, "b")]).await;
    assert_eq!(seen.events, ["a", "a again", "a again", "b"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_contents_after_an_outage_are_no_change() {
    let seen = run(&[says(7, "a"), Fails, says(7, "a")]).await;
    assert_eq!(seen.events, ["a", "failed 1", "back", "a again"]);
}

#[tokio::test(start_paused = true)]
async fn a_consul_that_returns_at_once_is_held_to_the_floor() {
    let seen = run(&[says(7, "a"), says(8, "b"), says(9, "c"), says(10, "d")]).await;
    assert_eq!(seen.events, ["a", "b", "c", "d"]);
    assert_eq!(seen.at_ms, [0, 0, 250, 500, 750]);
}

#[tokio::test(start_paused = true)]
async fn after_a_quiet_time_two_changes_are_heard_at_once() {
    let seen = run(&[says(7, "a"), held(60_000, 8, "b"), says(9, "c"), says(10, "d")]).await;
    assert_eq!(seen.at_ms, [0, 0, 60_000, 60_000, 60_250]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_relieved_ends_when_its_round_has_returned() {
    let ends = Ends::from(CancellationToken::new());
    let script = Script {
        steps: [says(7, "a"), held(20_000, 8, "b"), says(9, "c")].into(),
        rounds: Arc::default(),
        began: Instant::now(),
        done: ends.at_once.clone(),
    };
    let (rounds, mut events) = (Arc::clone(&script.rounds), Vec::new());
    let relieve = async {
        time::sleep(Duration::from_secs(5)).await;
        ends.after_round.cancel();
    };
    let watching = watch(script, PACE, Wake::default(), ends.clone(), async |event| {
        if let Event::Value(round) = event {
            events.push(round.value);
        }
    });
    tokio::join!(watching, relieve);
    assert_eq!(events, ["a", "b"]);
    assert_eq!(rounds.lock().unwrap().len(), 2);
    assert!(!ends.at_once.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn who_is_let_go_early_with_nothing_new_asks_from_the_start() {
    // A snapshot was restored, whose history ends at 3.
    let seen = run(&[says(7, "a"), held(29_000, 7, "a"), says(3, "b"), held(30_001, 3, "b")]).await;
    assert_eq!(seen.events, ["a", "a again", "b", "b again"]);
    assert_eq!(seen.asked, ["start", "0/7", "start", "0/3", "0/3"]);
}

#[tokio::test(start_paused = true)]
async fn index_zero_is_asked_on_from_as_one_and_never_spins() {
    let seen = run(&[says(0, "a"), says(0, "a"), says(0, "a"), says(0, "a")]).await;
    assert_eq!(seen.asked, ["start", "0/1", "start", "0/1", "start"]);
    assert_eq!(seen.at_ms, [0, 0, 250, 500, 750]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_an_index_is_polled_for() {
    let seen = run(&[without_index("a"), without_index("b"), without_index("b")]).await;
    assert_eq!(seen.events, ["a", "b", "b again"]);
    assert_eq!(seen.asked, ["start", "start", "start", "start"]);
    assert_eq!(seen.at_ms, [0, 1_000, 2_000, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_missing_once_starts_over_and_is_not_believed() {
    let seen = run(&[says(7, "a"), without_index("old"), says(7, "a"), says(8, "b")]).await;
    assert_eq!(seen.events, ["a", "a again", "b"]);
    assert_eq!(seen.asked, ["start", "0/7", "start", "0/7", "0/8"]);
    // Another Consul was asked from the start, and is believed.
    let other = Step::Says { address: 1, index: None, value: "b", hold_ms: 0 };
    let seen = run(&[says(7, "a"), other]).await;
    assert_eq!(seen.events, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_spaced_out_and_forgotten_on_success() {
    let seen = run(&[Fails, Fails, Fails, says(7, "a"), Fails]).await;
    assert_eq!(seen.events, ["failed 1", "failed 2", "failed 3", "back", "a", "failed 1"]);
    let pauses: Vec<_> = seen.at_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, bounds) in
        pauses.iter().zip([500..=751, 1_000..=1_501, 2_000..=3_001, 0..=0, 500..=751])
    {
        assert!(bounds.contains(pause), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_alert_wakes_the_others_within_five_seconds() {
    let wake = Wake::default();
    let back_ms = 60_000;
    let script = |done: &CancellationToken| Script {
        steps: VecDeque::new(),
        rounds: Arc::default(),
        began: Instant::now(),
        done: done.clone(),
    };
    let done = CancellationToken::new();
    let (one, other) = (script(&done), script(&done));
    let heard = [Arc::clone(&one.rounds), Arc::clone(&other.rounds)];
    let away = |inner: Script| Away { inner, back_ms };
    tokio::join!(
        watch(away(one), PACE.alert(), wake.clone(), done.clone(), async |_| ()),
        watch(away(other), PACE, wake, done.clone(), async |_| ()),
        async {
            time::sleep(Duration::from_millis(back_ms + 5_000)).await;
            done.cancel();
        },
    );
    for rounds in heard {
        let last_ms = rounds.lock().unwrap().last().unwrap().0;
        assert!(last_ms >= back_ms, "{last_ms}");
    }
}

/// Fails until a time, and is held from then on.
struct Away {
    inner: Script,
    back_ms: u64,
}

impl Source<&'static str> for Away {
    fn name(&self) -> &str {
        "away"
    }

    async fn fetch(&mut self, after: Option<Position>) -> Result<Reply<&'static str>, FetchError> {
        let is_away = self.inner.began.elapsed() < Duration::from_millis(self.back_ms);
        let is_first = !is_away && after.is_none();
        self.inner.steps = match (is_away, is_first) {
            (true, _) => [Fails].into(),
            (false, true) => [says(7, "a")].into(),
            (false, false) => [held(3_600_000, 7, "a")].into(),
        };
        self.inner.fetch(after).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_hears_consul_again_wakes_the_others_once() {
    let wake = Wake::default();
    // Back after 24 s; then gone, and back again each eight seconds.
    let flaps = [held(23_000, 7, "a"), Fails, held(500, 8, "b"), held(7_000, 8, "b"), Fails]
        .into_iter()
        .chain([held(500, 8, "b"), held(7_000, 8, "b"), Fails, held(60_000, 8, "b")]);
    let one = Script {
        steps: std::iter::once(Fails).chain(flaps).collect(),
        rounds: Arc::default(),
        began: Instant::now(),
        done: CancellationToken::new(),
    };
    let done = CancellationToken::new();
    let other = Script {
        steps: std::iter::repeat_n(Fails, 9).collect(),
        rounds: Arc::default(),
        began: one.began,
        done: done.clone(),
    };
    let rounds = Arc::clone(&other.rounds);
    let mut back_ms = None;
    let began = one.began;
    let publish = async |event| {
        if event == Event::Back {
            back_ms.get_or_insert_with(|| began.elapsed().as_millis() as u64);
        }
    };
    tokio::join!(
        watch(one, PACE, wake.clone(), done.clone(), publish),
        watch(other, PACE, wake, done, async |_| ()),
    );
    let back_ms = back_ms.unwrap();
    let at_ms: Vec<_> = rounds.lock().unwrap().iter().map(|(at_ms, _)| *at_ms).collect();
    let woken = |at_ms: &&u64| (back_ms..=back_ms + 250).contains(*at_ms);
    assert_eq!(at_ms.iter().filter(woken).count(), 1, "back at {back_ms}: {at_ms:?}");
    // From the sixth failure on a pause is 8 s at least, unless it is cut short.
    let cut = at_ms.windows(2).skip(5).filter(|pair| pair[1] - pair[0] < 8_000).count();
    assert!(cut <= 1, "{at_ms:?}");
}

/// Runs a watch that gets `steps` and is then still going after `patience`.
async fn cancel_during(steps: &[Step], patience: Duration) {
    let cancel = CancellationToken::new();
    let script = Script {
        steps: steps.iter().cloned().collect(),
        rounds: Arc::default(),
        began: Instant::now(),
        // Of its own: this script does not end the watch.
        done: CancellationToken::new(),
    };
    // Spawned, so that it is proved to be `Send` too.
    let tasks = TaskTracker::new();
    let (sender, mut events) = tokio::sync::mpsc::channel(8);
    tasks.spawn(watch(script, PACE, Wake::default(), cancel.clone(), async move |event| {
        sender.send(event).await.ok();
    }));
    tasks.close();

    time::sleep(patience).await;
    assert_eq!(tasks.len(), 1, "it runs until it is told");
    let began = Instant::now();
    cancel.cancel();
    tasks.wait().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    while events.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_a_round_that_is_held() {
    cancel_during(&[says(7, "a")], Duration::from_secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_a_pause_after_a_failure() {
    cancel_during(&[Fails], Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_a_publish_that_waits() {
    let ten: Vec<_> = (1..=10).map(|n| says(n, if n % 2 == 0 { "a" } else { "b" })).collect();
    cancel_during(&ten, Duration::from_secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_publish_holds_the_next_round() {
    let done = CancellationToken::new();
    let rounds = Arc::default();
    let script = Script {
        steps: [says(7, "a"), says(8, "b")].into(),
        rounds: Arc::clone(&rounds),
        began: Instant::now(),
        done: done.clone(),
    };
    watch(script, PACE, Wake::default(), done, async |_| time::sleep(Duration::from_secs(5)).await)
        .await;
    let at_ms: Vec<_> = rounds.lock().unwrap().iter().map(|(at_ms, _)| *at_ms).collect();
    assert_eq!(at_ms, [0, 5_000, 10_000]);
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![Just("a"), Just("b")];
    let index = prop_oneof![Just(None), (0..9_u64).prop_map(Some)];
    prop_oneof![
        1 => Just(Fails),
        1 => Just(Lost),
        4 => (0..2_usize, index, value, 0..300_u64).prop_map(
            |(address, index, value, hold_ms)| Step::Says { address, index, value, hold_ms }
        ),
    ]
}

proptest! {
    #[test]
    fn no_script_makes_a_watch_spin_or_repeat_itself(
        steps in prop::collection::vec(any_step(), 0..24)
    ) {
        let seen = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(&steps));

        prop_assert_eq!(seen.asked.len(), steps.len() + 1, "each failure is survived");
        // Two at once, then one per floor: no three rounds within one floor.
        for three in seen.at_ms.windows(3) {
            prop_assert!(three[2] - three[0] >= 250, "{:?}", seen.at_ms);
        }
        // `a again` is no change.
        let values: Vec<_> = seen.events.iter().filter(|event| event.len() == 1).collect();
        prop_assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", seen.events);
        prop_assert!(seen.asked.iter().all(|from| !from.ends_with("/0")), "{:?}", seen.asked);
    }
}
