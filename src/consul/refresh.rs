//! What is fetched though nobody waits for it, as it is asked for and answered from memory: whose
//! turn it is.
//!
//! ```text
//!   ahead    results of prepared queries that are too old within a second
//!   behind   what was fetched a while ago, the oldest first, so many a second
//!   in vain  what is too old, where the datacenter is cut off: a few, by chance
//! ```
//! Once a second all that is in memory is looked at, and a list made for that second. What could not
//! be had is left out for a while, so that it is in no other's way.
//!
//! Starts nothing and reads no clock. How many are in flight is [`Waiting`]'s to say.
//!
//! [`Waiting`]: crate::consul::waiting::Waiting

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use prometheus::IntCounter;

use crate::answer::stale::is_away;
use crate::catalog::{Form, Held, Service, Snapshot};
use crate::clock;
use crate::config::CacheConfig;
use crate::consul::view::is_askable;
use crate::demand::Wanted;

/// Whose turn it is in this second.
#[derive(Debug)]
pub struct Refresh {
    /// How old a fetched service may be before it is fetched again; `None` is any age.
    age_ms: Option<u64>,
    per_second: usize,
    queue: VecDeque<Wanted>,
    /// What could not be had, and until when it is left out.
    resting: BTreeMap<Wanted, u64>,
    deferred: IntCounter,
}

/// A service that is due, and why.
#[derive(Clone, Copy)]
struct Due<'s> {
    reason: Reason,
    datacenter: &'s str,
    form: Form,
    service: &'s Service,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Reason {
    /// Its result is nearly too old.
    Ahead,
    /// It was fetched then, and is old enough to be fetched again.
    Behind { fetched_ms: u64 },
    /// It is too old, and its datacenter is cut off.
    InVain,
}

impl Refresh {
    /// With the bounds of `cache`; `deferred` counts what is beyond.
    pub fn new(cache: &CacheConfig, deferred: IntCounter) -> Self {
        Self {
            age_ms: (cache.refresh > Duration::ZERO).then(|| clock::millis(cache.refresh)),
            per_second: cache.refresh_per_second,
            queue: VecDeque::new(),
            resting: BTreeMap::new(),
            deferred,
        }
    }

    /// Makes the list of the second that begins at `now_ms`.
    pub fn tick(&mut self, snapshot: &Snapshot, now_ms: u64) {
        self.resting.retain(|_, until_ms| *until_ms > now_ms);
        let (mut ahead, mut behind, mut in_vain) = (Vec::new(), Vec::new(), Vec::new());
        for due in self.due(snapshot, now_ms) {
            match due.reason {
                Reason::Ahead => ahead.push(due),
                Reason::Behind { fetched_ms } => behind.push((fetched_ms, due)),
                Reason::InVain => in_vain.push(due),
            }
        }
        let beyond = behind.len().saturating_sub(self.per_second);
        self.deferred.inc_by((self.queue.len() + beyond) as u64);
        // As many more as may turn out to be resting.
        let most = self.per_second.saturating_add(self.resting.len());
        if behind.len() > most {
            behind.select_nth_unstable_by_key(most, |(fetched_ms, _)| *fetched_ms);
            behind.truncate(most);
        }
        behind.sort_unstable_by_key(|(fetched_ms, _)| *fetched_ms);
        let is_tried = |wanted: &Wanted| !self.resting.contains_key(wanted);
        let behind = behind.into_iter().map(|(_, due)| due.wanted()).filter(is_tried);
        let ahead = ahead.into_iter().map(Due::wanted).chain(behind.take(self.per_second));
        // Which ones is left to chance: all of them may be in vain.
        let in_vain = fastrand::choose_multiple(in_vain, IN_VAIN_MAX).into_iter();
        self.queue = ahead.chain(in_vain.map(Due::wanted)).collect();
    }

    /// The next that may be fetched now: the first of a datacenter that `has_place`.
    pub fn next(&mut self, has_place: impl Fn(&str) -> bool) -> Option<Wanted> {
        let at = self.queue.iter().position(|wanted| has_place(wanted.datacenter()))?;
        self.queue.remove(at)
    }

    /// Notes that a fetch brought nothing, be it one of these or one that a question waited for.
    pub fn rest(&mut self, wanted: &Wanted, now_ms: u64) {
        if self.resting.len() >= RESTING_MAX {
            self.resting.clear();
        }
        self.resting.insert(wanted.clone(), now_ms + REST_MS);
    }

    fn due<'s>(&self, snapshot: &'s Snapshot, now_ms: u64) -> impl Iterator<Item = Due<'s>> {
        let age_ms = self.age_ms;
        snapshot.datacenters().flat_map(move |datacenter| {
            let (is_cut_off, is_away) = (datacenter.is_cut_off(), is_away(snapshot, datacenter));
            let look = Look { is_cut_off, is_away, age_ms, now_ms };
            let listed = datacenter.services().map(|service| (Form::Service, service));
            listed.chain(datacenter.all_unlisted()).filter_map(move |(form, service)| {
                let reason = look.reason(form, service)?;
                let is_askable = is_askable(form, &service.name);
                is_askable.then_some(Due { reason, datacenter: &datacenter.name, form, service })
            })
        })
    }
}

impl Due<'_> {
    fn wanted(self) -> Wanted {
        Wanted::Service {
            datacenter: self.datacenter.to_owned(),
            form: self.form,
            service: self.service.name.to_string(),
        }
    }
}

/// What a service is looked at with.
#[derive(Clone, Copy)]
struct Look {
    is_cut_off: bool,
    is_away: bool,
    age_ms: Option<u64>,
    now_ms: u64,
}

impl Look {
    /// Why this one is to be fetched, if it is.
    fn reason(self, form: Form, service: &Service) -> Option<Reason> {
        let Self { is_cut_off, is_away, age_ms, now_ms } = self;
        service.rrsets.as_ref()?;
        let is_asked_lately = || service.usage.asked_ms() + ASKED_LATELY_MS > now_ms;
        if is_cut_off {
            let is_due = service.held.is_due(now_ms) && is_asked_lately();
            return is_due.then_some(Reason::InVain);
        }
        let Held::OnDemand { fetched_ms, fresh_until_ms } = service.held else { return None };
        // What is denied, a question has fetched.
        if is_away || service.instances.is_empty() {
            return None;
        }
        // A query says itself how long its result is to be answered.
        if form == Form::Query {
            let is_ending = (now_ms..now_ms + BEAT_MS).contains(&fresh_until_ms);
            return (is_ending && is_asked_lately()).then_some(Reason::Ahead);
        }
        // Who looks once a second is right to half a second.
        let is_old = fetched_ms.saturating_add(age_ms?) <= now_ms + BEAT_MS / 2;
        // In a later second: who had it fetched has asked in the same.
        let is_asked_since = || service.usage.asked_ms() > fetched_ms;
        (is_old && is_asked_since()).then_some(Reason::Behind { fetched_ms })
    }
}

/// How often the list is made.
const BEAT_MS: u64 = 1_000;

/// A query that was asked for within this time is executed again before anybody has to wait.
const ASKED_LATELY_MS: u64 = 5_000;

/// Of a datacenter that is cut off, in a second.
const IN_VAIN_MAX: usize = 4;

/// How long what could not be had is left out.
const REST_MS: u64 = 10_000;

/// What rests at once; the rest of them come sooner.
const RESTING_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::change::Executed;
    use crate::catalog::model::{Address, Health, Instance, Node, Weights};
    use crate::catalog::{Builder, Change, Rules, Usage};
    use crate::config::Config;
    use crate::consul::Key;
    use crate::consul::view::find;
    use crate::name::Zone;

    /// A catalogue of dc1 and dc2, and the clock.
    struct Stage {
        builder: Builder,
        refresh: Refresh,
        deferred: IntCounter,
    }

    impl Stage {
        fn new(age_ms: u64, per_second: usize, names: &[String]) -> Self {
            let mut cache = Config::default().cache;
            (cache.refresh, cache.refresh_per_second) = (Duration::from_millis(age_ms), per_second);
            let deferred = IntCounter::new("deferred", "help").unwrap();
            let rules = Rules::new(Zone::new("consul").unwrap());
            let mut builder = Builder::new(rules, 1, 0, Arc::new(Usage::new(1, false)));
            let datacenters = ["dc1", "dc2"].map(str::to_owned).to_vec();
            builder.apply(Change::Datacenters { local: "dc1".to_owned(), names: datacenters });
            for datacenter in ["dc1", "dc2"] {
                let listing = names.iter().map(|name| (name.clone(), Vec::new())).collect();
                builder.apply(Change::Services { datacenter: datacenter.to_owned(), listing });
            }
            Self { builder, refresh: Refresh::new(&cache, deferred.clone()), deferred }
        }

        fn hear(&mut self, datacenter: &str, form: Form, name: &str, held: Held) {
            let instance = Instance {
                id: name.to_owned(),
                node: Node::new("n1".to_owned(), Address::Ip([10, 0, 0, 1].into())),
                address: None,
                port: 80,
                ports: Vec::new(),
                tagged: None,
                tags: Vec::new(),
                weights: Weights::default(),
                health: Health::Passing,
                worst: None,
            };
            let (datacenter, service) = (datacenter.to_owned(), name.to_owned());
            let executed = (form == Form::Query).then(|| Executed {
                datacenter: datacenter.clone(),
                service: service.clone(),
                ttl_secs: None,
                is_sorted: false,
            });
            let instances = vec![instance];
            self.builder.apply(Change::Service {
                datacenter,
                form,
                service,
                instances,
                held,
                executed,
            });
        }

        fn ask(&self, datacenter: &str, form: Form, name: &str, at_ms: u64) {
            let snapshot = self.builder.snapshot();
            find(&snapshot, &Key::new(datacenter, form, name)).unwrap().usage.mark(at_ms);
        }

        fn tick(&mut self, now_ms: u64) {
            self.refresh.tick(&self.builder.snapshot(), now_ms);
        }

        /// What is left of the second's list, as `dc1/a dc2/b`.
        fn rest(&mut self) -> String {
            let names =
                std::iter::from_fn(|| self.refresh.next(|_| true)).map(|wanted| match wanted {
                    Wanted::Service { datacenter, service, .. } => {
                        format!("{datacenter}/{service}")
                    }
                    other => format!("{other:?}"),
                });
            names.collect::<Vec<_>>().join(" ")
        }
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("s{number}")).collect()
    }

    fn fetched(at_ms: u64) -> Held {
        Held::OnDemand { fetched_ms: at_ms, fresh_until_ms: at_ms + 30_000 }
    }

    #[test]
    fn what_is_old_and_was_asked_for_since_is_fetched() {
        for (held, asked_ms, now_ms, expected) in [
            (fetched(10_300), 11_000, 11_300, "dc1/s0"),
            (fetched(10_300), 11_000, 12_000, "dc1/s0"),
            // Asked for in the second of the fetch: it may have been fetched for that question.
            (fetched(10_300), 10_900, 12_000, ""),
            (fetched(10_300), 9_000, 12_000, ""),
            // The list is made once a second, so half a second is neither here nor there.
            (fetched(10_300), 11_000, 10_800, "dc1/s0"),
            (fetched(10_300), 11_000, 10_799, ""),
            // However long ago: the next answer is to be a new one.
            (fetched(10_300), 11_000, 39_000, "dc1/s0"),
            (fetched(10_300), 11_000, 60_000, "dc1/s0"),
            (Held::Watched, 11_000, 12_000, ""),
            (Held::Failing { since_ms: 9_000 }, 11_000, 12_000, ""),
            // The next question has these fetched.
            (Held::Due { since_ms: 9_000 }, 11_000, 12_000, ""),
            (Held::Loaded { since_ms: -9_000 }, 11_000, 12_000, ""),
        ] {
            let mut stage = Stage::new(1_000, 9, &names(1));
            stage.hear("dc1", Form::Service, "s0", held);
            stage.ask("dc1", Form::Service, "s0", asked_ms);
            stage.tick(now_ms);
            assert_eq!(stage.rest(), expected, "{held:?}, asked at {asked_ms}, now {now_ms}");
        }
    }

    #[test]
    fn what_is_not_in_memory_or_denied_is_not_fetched() {
        let mut stage = Stage::new(1_000, 9, &names(1));
        stage.ask("dc1", Form::Service, "s0", 11_000);
        let (datacenter, service) = ("dc1".to_owned(), "denied".to_owned());
        stage.builder.apply(Change::Service {
            datacenter,
            form: Form::Connect,
            service,
            instances: Vec::new(),
            held: fetched(10_000),
            executed: None,
        });
        stage.ask("dc1", Form::Connect, "denied", 11_000);
        stage.tick(12_000);
        assert_eq!(stage.rest(), "");
        stage.hear("dc1", Form::Connect, "denied", fetched(10_000));
        stage.tick(12_000);
        assert_eq!(stage.rest(), "dc1/denied", "it is not denied any more");
    }

    #[test]
    fn an_age_of_nothing_is_never() {
        let mut stage = Stage::new(0, 9, &names(1));
        stage.hear("dc1", Form::Service, "s0", fetched(0));
        stage.ask("dc1", Form::Service, "s0", 29_000);
        stage.tick(29_000);
        assert_eq!(stage.rest(), "");
    }

    #[test]
    fn so_many_a_second_and_the_oldest_go_first() {
        let mut stage = Stage::new(1_000, 3, &names(9));
        for number in 0..9 {
            let name = format!("s{number}");
            stage.hear("dc1", Form::Service, &name, fetched(10_900 - 100 * number));
            stage.ask("dc1", Form::Service, &name, 12_000);
        }
        stage.tick(12_000);
        assert_eq!(stage.deferred.get(), 6);
        assert_eq!(stage.rest(), "dc1/s8 dc1/s7 dc1/s6");
        // What could not be had is in no other's way, for ten seconds.
        for name in ["s8", "s7"] {
            let key = Key::new("dc1", Form::Service, name);
            stage.refresh.rest(&key.wanted(), 12_000);
        }
        stage.tick(13_000);
        assert_eq!(stage.rest(), "dc1/s6 dc1/s5 dc1/s4");
        stage.tick(21_999);
        assert_eq!(stage.rest(), "dc1/s6 dc1/s5 dc1/s4");
        stage.tick(22_000);
        assert_eq!(stage.rest(), "dc1/s8 dc1/s7 dc1/s6");
        // What had no place in its second is looked at anew in the next.
        let before = stage.deferred.get();
        stage.tick(23_000);
        stage.tick(24_000);
        assert_eq!(stage.deferred.get() - before, 6 + 3 + 6);
        assert_eq!(stage.rest(), "dc1/s8 dc1/s7 dc1/s6");
    }

    #[test]
    fn a_datacenter_without_places_holds_up_no_other() {
        let mut stage = Stage::new(1_000, 9, &names(1));
        for (datacenter, at_ms) in [("dc2", 9_000), ("dc1", 10_000)] {
            stage.hear(datacenter, Form::Service, "s0", fetched(at_ms));
            stage.ask(datacenter, Form::Service, "s0", 11_000);
        }
        stage.tick(12_000);
        let next = stage.refresh.next(|datacenter| datacenter == "dc1");
        assert_eq!(next, Some(Key::new("dc1", Form::Service, "s0").wanted()));
        assert_eq!(stage.refresh.next(|datacenter| datacenter == "dc1"), None);
        assert_eq!(stage.rest(), "dc2/s0");
    }

    #[test]
    fn a_query_is_executed_before_its_result_is_too_old() {
        let held = |until_ms| Held::OnDemand { fetched_ms: 9_000, fresh_until_ms: until_ms };
        for (until_ms, asked_ms, expected) in [
            (12_000, 11_000, "dc1/q"),
            (12_999, 11_000, "dc1/q"),
            (13_000, 11_000, ""),
            (11_999, 11_000, ""),
            (12_500, 7_000, ""),
        ] {
            let mut stage = Stage::new(1_000, 9, &[]);
            stage.hear("dc1", Form::Query, "q", held(until_ms));
            stage.ask("dc1", Form::Query, "q", asked_ms);
            stage.tick(12_000);
            assert_eq!(stage.rest(), expected, "until {until_ms}, asked at {asked_ms}");
        }
    }

    #[test]
    fn where_consul_is_away_a_few_of_what_is_too_old_are_tried() {
        let mut stage = Stage::new(1_000, 9, &names(20));
        for number in 0..20 {
            let name = format!("s{number}");
            for datacenter in ["dc1", "dc2"] {
                stage.hear(datacenter, Form::Service, &name, fetched(10_000));
                stage.ask(datacenter, Form::Service, &name, 41_000);
            }
        }
        let datacenter = "dc2".to_owned();
        stage.builder.apply(Change::Reach { datacenter, cut_off_ms: Some(39_000) });
        stage.tick(39_999);
        assert_eq!(stage.rest().matches("dc2/").count(), 0, "nothing of it is too old yet");
        stage.tick(41_000);
        let rest = stage.rest();
        assert_eq!((rest.matches("dc1/").count(), rest.matches("dc2/").count()), (9, 4));
    }
}
