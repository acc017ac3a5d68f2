//! Who is watched: the lists of the datacenters in use, and services as far as there is room.
//!
//! Keeps the books of what runs and starts the tasks that run. What they say is the keeper's.

mod again;
mod duty;
mod room;

use std::collections::{BTreeMap, BTreeSet};

use prometheus::IntGauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::catalog::{Form, Found, Snapshot};
use crate::consul::failing::{FAILURES_UNSAID, Failing};
use crate::consul::growth::{Growth, Room};
use crate::consul::index::Position;
use crate::consul::lists::Lists;
use crate::consul::roster::Roster;
use crate::consul::tasks::Tasks;
use crate::consul::watch::Read;
use crate::consul::{Key, Watched};

/// The watches that run.
#[derive(Debug)]
pub struct Watches {
    /// The datacenters in use.
    pub lists: Lists,
    tasks: Tasks,
    roster: Roster,
    failing: Failing,
    /// Lists of prepared queries, and what ends their watches.
    queries: BTreeMap<Watched, CancellationToken>,
    /// Services watched at start that have not answered yet; `None` before the first list.
    starting: Option<BTreeSet<Key>>,
    /// Whether the log knows that there was no room for a datacenter.
    is_full_said: bool,
    /// How many watches there may be.
    growth: Growth,
}

impl Watches {
    /// None yet. `tasks` run them, and `failing` shows how many hear nothing.
    pub fn new(tasks: Tasks, room: Room, failing: IntGauge) -> Self {
        let growth = Growth::new(room, Instant::now());
        let roster = Roster::new(growth.allowed());
        Self {
            lists: Lists::default(),
            tasks,
            roster,
            failing: Failing::new(failing),
            queries: BTreeMap::new(),
            starting: None,
            is_full_said: false,
            growth,
        }
    }

    /// Watches the lists of a datacenter, once. Returns the services whose watches ended for it;
    /// `None` if there is no room.
    pub fn use_datacenter(&mut self, datacenter: &str) -> Option<Vec<Key>> {
        if self.lists.has(datacenter) {
            return Some(Vec::new());
        }
        if !self.roster.could_reserve(LISTS) {
            // While there will be more room soon, it is no matter for the operator.
            if !self.is_growing() && !std::mem::replace(&mut self.is_full_said, true) {
                warn!(datacenter, "no room to watch a datacenter: raise consul.connections_max");
            }
            return None;
        }
        let ended = self.roster.reserve(LISTS);
        if let Some(starting) = &mut self.starting {
            starting.retain(|key| !ended.contains(key));
        }
        let cancel = self.tasks.cancel().child_token();
        self.tasks.watch_lists(datacenter, &cancel);
        self.lists.enter(datacenter, cancel);
        self.forget_ended();
        Some(ended)
    }

    /// Ends what concerns datacenters that are no longer there. Should one come back, it starts
    /// from nothing, as the snapshot does.
    pub fn leave_datacenters(&mut self, snapshot: &Snapshot) {
        let is_there =
            |name: &str| matches!(snapshot.datacenter(Some(name.as_bytes())), Found::Here(_));
        let gone = self.lists.retain(is_there);
        for name in &gone {
            self.roster.retain(name, |_| false);
            self.roster.give_back(LISTS);
            let place = Watched::Queries { datacenter: name.clone() };
            if let Some(cancel) = self.queries.remove(&place) {
                cancel.cancel();
                self.roster.give_back(1);
            }
        }
        if !gone.is_empty() {
            self.forget_ended();
            self.staff(snapshot);
        }
    }

    /// Ends the watches of a datacenter's services that are gone; others take their places.
    pub fn follow_list(&mut self, datacenter: &str, snapshot: &Snapshot) {
        let Found::Here(listed) = snapshot.datacenter(Some(datacenter.as_bytes())) else { return };
        let is_listed =
            |service: &str| matches!(listed.service(service.as_bytes()), Found::Here(_));
        self.roster.retain(datacenter, |key| key.form != Form::Service || is_listed(&key.service));
        if let Some(starting) = &mut self.starting {
            starting.retain(|key| key.datacenter != datacenter || is_listed(&key.service));
        }
        self.forget_ended();
        self.staff(snapshot);
    }

    /// Watches the prepared queries of a datacenter, if there is room. The token sees them all.
    pub fn use_queries(&mut self, datacenter: &str) -> Vec<Key> {
        let place = Watched::Queries { datacenter: datacenter.to_owned() };
        if self.queries.contains_key(&place) || !self.roster.could_reserve(1) {
            return Vec::new();
        }
        let ended = self.roster.reserve(1);
        let cancel = self.tasks.cancel().child_token();
        self.tasks.watch_queries(datacenter, cancel.clone());
        self.queries.insert(place, cancel);
        self.forget_ended();
        ended
    }

    /// Watches what is in no list, if there is room. False if it is watched already, or cannot be.
    pub fn enter(&mut self, key: &Key) -> bool {
        if self.is_growing() {
            return false;
        }
        let Some(ends) = self.roster.enter(key, self.tasks.cancel()) else { return false };
        self.tasks.watch_service(&key.datacenter, key.form, &key.service, ends);
        true
    }

    /// Ends the watch of what is in no list; who is listed and unwatched takes its place.
    pub fn leave(&mut self, key: &Key, snapshot: &Snapshot) -> bool {
        let has_left = self.roster.leave(key);
        if has_left {
            self.forget_ended();
            self.staff(snapshot);
        }
        has_left
    }

    /// The watches of what is in no list.
    pub fn unlisted(&self) -> impl Iterator<Item = &Key> {
        self.roster.keys().filter(|key| key.form != Form::Service)
    }

    /// Whether a service is watched.
    pub fn has(&self, key: &Key) -> bool {
        self.roster.has(key)
    }

    /// How many services are watched.
    pub fn count(&self) -> usize {
        self.roster.keys().count()
    }

    /// Notes that the watch of a service spoke. False if it has ended meanwhile.
    pub fn set_told(&mut self, key: &Key, at: Instant) -> bool {
        self.roster.set_told(key, at)
    }

    /// Notes that instances of a service were fetched, be it watched or not.
    pub fn set_fetched(&mut self, key: &Key, position: Option<Position>, at: Instant) {
        self.roster.set_fetched(key, position, at);
    }

    /// Whether the watch of a service says something older than what was fetched meanwhile.
    pub fn is_overtaken(&self, key: &Key, read: Option<Read>) -> bool {
        read.is_some_and(|read| self.roster.is_overtaken(key, read))
    }

    /// When the watch of a service last spoke; `None` if it has not yet, or there is none.
    pub fn told(&self, key: &Key) -> Option<Instant> {
        self.roster.told(key)
    }

    /// Notes that something was heard of a service, be it by a fetch.
    pub fn set_heard(&mut self, key: &Key) {
        if let Some(starting) = &mut self.starting {
            starting.remove(key);
        }
    }

    /// The services watched from the start of which nothing has been heard yet.
    pub fn starting(&self) -> impl Iterator<Item = &Key> {
        self.starting.iter().flatten()
    }

    /// Notes a failure, the `failures`th in a row. False if it is one of a watch that has ended.
    pub fn fail(&mut self, watched: &Watched, failures: u32, error: &str) -> bool {
        if !self.runs(watched) {
            return false;
        }
        self.failing.fail(watched, failures, error);
        if let (Watched::Service(key), Some(starting)) = (watched, &mut self.starting)
            // It must not keep the program from being ready for ever.
            && failures >= FAILURES_UNSAID
        {
            starting.remove(key);
        }
        true
    }

    /// Notes that a watch hears again.
    pub fn back(&mut self, watched: &Watched) {
        self.failing.back(watched);
    }

    /// Whether a watch hears nothing at present.
    pub fn is_failing(&self, watched: &Watched) -> bool {
        self.failing.has(watched)
    }

    /// Watches that have ended fail no more.
    fn forget_ended(&mut self) {
        let Self { roster, lists, queries, .. } = self;
        self.failing.retain(|watched| runs(roster, lists, queries, watched));
    }

    fn runs(&self, watched: &Watched) -> bool {
        runs(&self.roster, &self.lists, &self.queries, watched)
    }
}

fn runs(
    roster: &Roster,
    lists: &Lists,
    queries: &BTreeMap<Watched, CancellationToken>,
    watched: &Watched,
) -> bool {
    match watched {
        Watched::Service(key) => roster.has(key),
        Watched::Nodes { datacenter } | Watched::Services { datacenter } => lists.has(datacenter),
        Watched::Queries { .. } => queries.contains_key(watched),
    }
}

/// The lists of a datacenter: its services and its nodes.
const LISTS: usize = 2;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::answer::Policy;
    use crate::catalog::{Builder, Change, Rules, Usage};
    use crate::clock::Clock;
    use crate::consul::Client;
    use crate::consul::backoff::Backoff;
    use crate::consul::samples::config;
    use crate::consul::view::find;
    use crate::consul::watch::Pace;
    use crate::metrics::Metrics;
    use crate::name::Zone;
    use crate::store::Store;

    /// Watches that hear nothing, and a catalogue that a test fills.
    struct Office {
        watches: Watches,
        builder: Builder,
    }

    impl Office {
        /// With room for `at_start` watches, and for `most` as soon as it grows. dc2 is near.
        fn new(at_start: usize, most: usize) -> Self {
            let pace = Pace {
                backoff: Backoff { min: HOUR, max: HOUR },
                burst: 1,
                floor: HOUR,
                poll: HOUR,
            };
            let zone = Zone::new("consul").unwrap();
            let rules = Rules::new(zone.clone());
            let store = Arc::new(Store::new(Policy::new(zone)));
            let metrics = Metrics::register(&store, Clock::start(), 1, 9).unwrap();
            let gauge = metrics.consul.watches_failing.clone();
            let client = Client::new(&config(&["http://127.0.0.1:9"])).unwrap();
            let (reports, _) = mpsc::channel(1);
            let tasks = Tasks::new(
                client,
                metrics,
                Arc::default(),
                pace,
                reports,
                CancellationToken::new(),
            );
            let room =
                Room { at_start, most, streams: most, grows_after: Duration::ZERO, spare: 2 };
            let mut builder = Builder::new(rules, 1, 0, Arc::new(Usage::new(1, false)));
            let names = ["dc1", "dc2", "dc3"].map(str::to_owned).to_vec();
            builder.apply(Change::Datacenters { local: "dc2".to_owned(), names });
            Self { watches: Watches::new(tasks, room, gauge), builder }
        }

        fn list(&mut self, datacenter: &str, names: &str) {
            let names = names.split_whitespace().map(|name| (name.to_owned(), Vec::new()));
            let (datacenter, listing) = (datacenter.to_owned(), names.collect());
            self.builder.apply(Change::Services { datacenter: datacenter.clone(), listing });
            self.watches.follow_list(&datacenter, &self.builder.snapshot());
        }

        /// Somebody asks for a service of dc2.
        fn ask(&self, name: &str, at_secs: u64) {
            let snapshot = self.builder.snapshot();
            let service = find(&snapshot, &Key::new("dc2", Form::Service, name)).unwrap();
            service.usage.mark(at_secs * 1_000);
        }

        /// `dc1/a dc2/b`: the services that are watched.
        fn watched(&self) -> String {
            let keys = self.watches.roster.keys();
            let names = keys.map(|key| format!("{}/{}", key.datacenter, key.service));
            names.collect::<Vec<_>>().join(" ")
        }
    }

    #[tokio::test]
    async fn a_freed_place_goes_to_whoever_is_listed_wherever_that_is() {
        let mut office = Office::new(8, 8);
        office.watches.use_datacenter("dc2").unwrap();
        office.watches.use_datacenter("dc1").unwrap();
        office.list("dc1", "a b c");
        office.list("dc2", "d e");
        assert_eq!(office.watched(), "dc1/a dc1/b dc1/c dc2/d");
        office.list("dc1", "a b");
        assert_eq!(office.watched(), "dc1/a dc1/b dc2/d dc2/e");
        office.list("dc2", "");
        office.list("dc1", "a b c");
        office.list("dc2", "d e");
        assert_eq!(office.watched(), "dc1/a dc1/b dc1/c dc2/d");
        office.list("dc1", "a");
        assert_eq!(office.watched(), "dc1/a dc2/d dc2/e");
        // A datacenter that goes frees its places too.
        office.list("dc2", "d e f g");
        assert_eq!(office.watched(), "dc1/a dc2/d dc2/e dc2/f");
        let names = vec!["dc2".to_owned()];
        office.builder.apply(Change::Datacenters { local: "dc2".to_owned(), names });
        office.watches.leave_datacenters(&office.builder.snapshot());
        assert_eq!(office.watched(), "dc2/d dc2/e dc2/f dc2/g");
    }

    #[tokio::test]
    async fn who_is_asked_for_is_watched_instead_of_those_whom_nobody_asks_for() {
        let mut office = Office::new(6, 6);
        office.watches.use_datacenter("dc2").unwrap();
        office.list("dc2", "a b c d e f");
        assert_eq!(office.watched(), "dc2/a dc2/b dc2/c dc2/d");
        let relieved = |office: &Office| {
            let keys = office.watches.roster.keys();
            let keys = keys.filter(|key| office.watches.is_relieved(key));
            keys.map(|key| key.service.to_string()).collect::<Vec<_>>().join(" ")
        };
        for (name, asked_secs) in [("a", 100), ("b", 40), ("c", 30), ("d", 41), ("f", 90)] {
            office.ask(name, asked_secs);
        }
        let snapshot = office.builder.snapshot();
        assert_eq!(
            office.watches.rotate(&snapshot, MINUTE, 89_000),
            0,
            "c was asked for within a minute"
        );
        assert_eq!(office.watches.rotate(&snapshot, MINUTE, 100_000), 1);
        assert_eq!((&*relieved(&office), &*office.watched()), ("c", "dc2/a dc2/b dc2/c dc2/d"));
        assert_eq!(office.watches.rotate(&snapshot, MINUTE, 100_000), 0, "only f is asked for");
        office.ask("e", 99);
        assert_eq!(office.watches.rotate(&snapshot, MINUTE, 100_000), 1);
        assert_eq!(relieved(&office), "b c");
        // Their rounds return.
        for name in ["b", "c"] {
            office.watches.leave(&Key::new("dc2", Form::Service, name), &snapshot);
        }
        assert_eq!(office.watched(), "dc2/a dc2/d dc2/e dc2/f");
    }

    #[tokio::test]
    async fn new_room_is_for_the_local_datacenter_first() {
        let mut office = Office::new(4, 6);
        office.watches.use_datacenter("dc2").unwrap();
        office.watches.use_datacenter("dc1").unwrap();
        office.list("dc1", "a b c");
        office.list("dc2", "d e");
        assert_eq!(office.watched(), "");
        office.watches.grow(&office.builder.snapshot());
        assert_eq!(office.watched(), "dc2/d dc2/e");
    }

    #[tokio::test]
    async fn a_datacenter_without_room_for_its_lists_is_not_used() {
        let mut office = Office::new(5, 5);
        office.watches.use_datacenter("dc2").unwrap();
        office.list("dc2", "d e f");
        assert_eq!(office.watched(), "dc2/d dc2/e dc2/f");
        let ended = office.watches.use_datacenter("dc1").unwrap();
        let key = |name| Key::new("dc2", Form::Service, name);
        assert_eq!(ended, [key("f"), key("e")]);
        assert_eq!(office.watches.use_datacenter("dc3"), None);
        assert_eq!(office.watched(), "dc2/d");
        assert!(office.watches.lists.has("dc1") && !office.watches.lists.has("dc3"));
        assert_eq!(office.watches.use_datacenter("dc1"), Some(Vec::new()), "it is in use");
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
}
