//! Whatever vanishes, comes back or turns critical, and whenever: random schedules, shrunk where one
//! of them breaks a rule.
//!
//! The truth is a set of services, each with some of two instances. What changes is heard as Consul
//! tells it, by a watch for each service and one for the list; what is read again is answered at
//! once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens, so long after what happened before.
#[derive(Clone, Debug)]
enum Act {
    /// These services are there, each with so many of its instances.
    Are(Vec<u8>),
    /// There is no leader, or there is again.
    Leads(bool),
    /// Time passes.
    Passes,
}

/// What is true, and what was shown of it.
struct World {
    trial: Trial,
    /// The instances of each service; `None` where it is not listed.
    truth: BTreeMap<&'static str, Option<u8>>,
    /// Since when something of a service has been missing.
    missing_since_ms: BTreeMap<&'static str, u64>,
    has_leader: bool,
    /// Whether something was read again just now, which is believed whenever it vanished.
    was_read_again: bool,
}

impl World {
    fn new() -> Self {
        let trial = Trial::of(&NAMES.join(" "));
        let truth = NAMES.iter().map(|name| (*name, Some(2))).collect();
        Self {
            trial,
            truth,
            missing_since_ms: BTreeMap::new(),
            has_leader: true,
            was_read_again: false,
        }
    }

    fn listed(&self) -> Change {
        let names = self.truth.iter().filter(|(_, it)| it.is_some()).map(|(name, _)| *name);
        services(&["consul"].into_iter().chain(names).collect::<Vec<_>>().join(" "))
    }

    fn of(&self, name: &str) -> Change {
        let count = self.truth[name].unwrap_or_default();
        instances(name, &["n1/1", "n2/2"][..usize::from(count)].join(" "))
    }

    fn happen(&mut self, act: &Act) {
        match act {
            Act::Are(counts) => {
                let before = self.truth.clone();
                for (name, count) in NAMES.iter().zip(counts) {
                    self.truth.insert(name, count.checked_sub(1));
                }
                let now_ms = self.trial.at_ms;
                for name in NAMES {
                    if self.truth[name] == Some(2) {
                        self.missing_since_ms.remove(name);
                    } else {
                        self.missing_since_ms.entry(name).or_insert(now_ms);
                    }
                }
                let names = |truth: &BTreeMap<_, Option<u8>>| -> Vec<&'static str> {
                    let listed = truth.iter().filter(|(_, count)| count.is_some());
                    listed.map(|(name, _)| *name).collect()
                };
                let (old, new) = (names(&before), names(&self.truth));
                // The watch of one that is new begins when it is listed.
                let is_new = new.iter().any(|name| !old.contains(name));
                if is_new {
                    self.trial.hear(self.listed());
                }
                for name in NAMES.iter().filter(|name| self.truth[*name] != before[*name]) {
                    self.trial.hear(self.of(name));
                }
                if !is_new && new != old {
                    self.trial.hear(self.listed());
                }
            }
            Act::Leads(true) => {
                self.has_leader = true;
                self.trial.lower();
            }
            Act::Leads(false) => {
                self.has_leader = false;
                self.trial.guard.raise("dc1");
            }
            Act::Passes => (),
        }
    }

    /// How many instances of each service are shown.
    fn shown(&self) -> BTreeMap<&'static str, u8> {
        let shown = self.trial.shown();
        let count = |name: &str| {
            let mut words = shown.split(' ');
            let count = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            count.map_or(0, |count| count.parse().unwrap())
        };
        NAMES.iter().map(|name| (*name, count(name))).collect()
    }

    /// Lets time pass, from event to event, and answers what is read again.
    fn pass(&mut self, ms: u64, mut look: impl FnMut(&Self)) {
        let end_ms = self.trial.at_ms + ms;
        loop {
            // What is due by now is asked for before time passes.
            let mut rechecks = self.trial.pass(self.trial.at_ms);
            if rechecks.is_empty() {
                let next = self.trial.guard.next(self.trial.now());
                let next_ms = next.map_or(end_ms, |at| (at - self.trial.start).as_millis() as u64);
                rechecks = self.trial.pass(next_ms.min(end_ms));
            }
            if !rechecks.is_empty() {
                look(self);
            }
            for read in rechecks.split(", ").filter(|read| !read.is_empty()) {
                let of_one =
                    NAMES.iter().find(|name| read == format!("the instances of {name} in dc1"));
                let change = match of_one {
                    Some(name) => self.of(name),
                    None => self.listed(),
                };
                self.trial.confirm(change);
                self.was_read_again = true;
            }
            look(self);
            self.was_read_again = false;
            // What was read may lead to more reads.
            if rechecks.is_empty() && self.trial.at_ms >= end_ms {
                return;
            }
        }
    }
}

/// Runs a schedule, and says what was wrong.
fn run(turns: &[(u64, Act)]) -> Result<(), String> {
    let mut world = World::new();
    let mut wrong = None;
    for (after_ms, act) in turns {
        let mut last = world.shown();
        let mut look = |world: &World| {
            let (shown, now_ms) = (world.shown(), world.trial.at_ms);
            for name in NAMES.iter().filter(|name| shown[*name] < last[*name]) {
                let since_ms = world.missing_since_ms.get(name);
                let is_settled = since_ms
                    .is_some_and(|since_ms| since_ms + SETTLE_MS <= now_ms || world.was_read_again);
                if !is_settled || !world.has_leader {
                    let leads = world.has_leader;
                    wrong = wrong.take().or_else(|| {
                        Some(format!(
                            "{name} has {} at {now_ms} ms, missing since {since_ms:?}, leader: {leads}",
                            shown[*name]
                        ))
                    });
                }
            }
            last = shown;
        };
        world.pass(*after_ms, &mut look);
        world.happen(act);
        look(&world);
    }
    world.happen(&Act::Leads(true));
    world.pass(6 * HOLD_MS, |_| ());
    let truth = world.truth.iter().map(|(name, count)| (*name, count.unwrap_or_default()));
    let (truth, shown) = (truth.collect(), world.shown());
    if shown != truth || world.trial.guard.is_holding("dc1") || world.trial.is_uneasy() {
        wrong = wrong.or_else(|| Some(format!("{shown:?} is shown in the end, {truth:?} is true")));
    }
    wrong.map_or(Ok(()), Err)
}

fn any_turn() -> impl Strategy<Value = (u64, Act)> {
    let act = prop_oneof![
        8 => prop::collection::vec(0..=3_u8, NAMES.len()).prop_map(Act::Are),
        3 => Just(Act::Are(vec![0; NAMES.len()])),
        3 => Just(Act::Are(vec![3; NAMES.len()])),
        1 => any::<bool>().prop_map(Act::Leads),
        2 => Just(Act::Passes),
    ];
    let after_ms =
        prop_oneof![2 => Just(0), 4 => 0..1_500_u64, 3 => 0..20_000_u64, 1 => 0..90_000_u64];
    (after_ms, act)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_vanishes_at_once_or_for_ever_stays(turns in prop::collection::vec(any_turn(), 0..12)) {
        let ran = run(&turns);
        prop_assert!(ran.is_ok(), "{}", ran.unwrap_err());
    }

    /// However small the pieces in which it comes.
    #[test]
    fn a_catalogue_that_empties_is_shown_until_the_hold_is_over(
        order in Just(NAMES).prop_shuffle(),
        gaps_ms in prop::collection::vec(0..400_u64, NAMES.len()),
        list_at in 0..=NAMES.len(),
    ) {
        let mut world = World::new();
        let whole = world.shown();
        for (at, (name, gap_ms)) in order.iter().zip(gaps_ms).enumerate() {
            if at == list_at {
                world.trial.hear(services(""));
            }
            world.truth.insert(name, None);
            world.trial.hear(instances(name, ""));
            world.pass(gap_ms, |_| ());
        }
        world.trial.hear(services(""));
        let begun_ms = world.trial.at_ms;
        let mut lost = None;
        world.pass(HOLD_MS - 400 * NAMES.len() as u64, |world| {
            if world.shown() != whole {
                lost = lost.or(Some(world.trial.at_ms));
            }
        });
        prop_assert_eq!(lost, None, "it emptied by {} ms", begun_ms);
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// As the trial has them.
const SETTLE_MS: u64 = 1_000;
const HOLD_MS: u64 = 60_000;
