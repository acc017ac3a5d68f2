//! Keeps the catalogue: the one task that hears all reports and publishes what they change.
//!
//! ```text
//!   watches, polls, fetches --Report--> keeper --> Publisher --> snapshot
//!                 ^                       | roster, shelf, who waits
//!                 └────── starts ─────────┘<--Demand-- listeners
//! ```
//! Reports that came together are published together, so a burst of changes costs a few
//! snapshots. Reports are bounded: when the keeper is behind, the watches wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::catalog::model::{Health, Instance};
use crate::catalog::{Change, Form, Found, Held, Snapshot};
use crate::clock::Clock;
use crate::config::CacheConfig;
use crate::consul::Key;
use crate::consul::roster::Roster;
use crate::consul::shelf::Shelf;
use crate::consul::tasks::{Report, Said, Tasks};
use crate::consul::view::{Heard, find, is_askable, warn_of_nothing};
use crate::demand::{Demand, Supply, Wanted};
use crate::metrics::{Metrics, Operation};
use crate::publisher::Publisher;

/// The keeper's state between two reports.
pub struct Keeper {
    publisher: Publisher,
    metrics: Metrics,
    clock: Clock,
    tasks: Tasks,
    roster: Roster,
    shelf: Shelf,
    /// How long a fetched service is answered without asking again.
    kept: Duration,
    /// How long a question waits for a fetch.
    patience: Duration,
    /// Datacenters whose lists are watched, and what ends that.
    in_use: BTreeMap<String, CancellationToken>,
    fetching: BTreeMap<Key, Fetching>,
    waiting_for_lists: Vec<(String, oneshot::Sender<Supply>)>,
    /// Services watched at start that have not answered yet; `None` before the first list.
    starting: Option<BTreeSet<Key>>,
    is_ready: bool,
    /// When all of the room may be used, and the places that are held back until then.
    growth: Option<(Instant, usize)>,
}

impl Keeper {
    /// Publishes to `publisher` what `tasks` report, with as many blocking queries as `room` says.
    pub fn new(
        publisher: Publisher,
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
        cache: &CacheConfig,
        room: Room,
    ) -> Self {
        let held_back = room.most.saturating_sub(room.at_start);
        let mut roster = Roster::new(room.most);
        roster.reserve(held_back);
        Self {
            publisher,
            metrics,
            clock,
            tasks,
            roster,
            shelf: Shelf::new(cache.services_max, cache.idle),
            kept: cache.kept,
            patience: cache.patience,
            in_use: BTreeMap::new(),
            fetching: BTreeMap::new(),
            waiting_for_lists: Vec::new(),
            starting: None,
            is_ready: false,
            growth: (held_back > 0).then(|| (Instant::now() + room.grows_after, held_back)),
        }
    }

    /// Hears `reports` and `demands` until cancelled.
    pub async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        mut demands: mpsc::Receiver<Demand>,
        cancel: CancellationToken,
    ) {
        self.tell_pending();
        let mut sweeps = time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(demand) = demands.recv() => self.meet(demand),
                count = reports.recv_many(&mut batch, BATCH_MAX) => match count {
                    0 => return,
                    _ => self.hear(std::mem::take(&mut batch)),
                },
                _ = sweeps.tick() => {
                    self.grow();
                    self.sweep();
                }
            }
        }
    }

    /// Publishes what `reports` say, and does what follows from it.
    fn hear(&mut self, reports: Vec<Report>) {
        let mut heard = Vec::with_capacity(reports.len());
        let mut changes = Vec::with_capacity(reports.len());
        // Services whose watch speaks in this batch.
        let mut told = BTreeSet::new();
        for report in reports {
            let Report { said, arrived, asked } = report;
            match said {
                Said::Change(mut change) => {
                    heard.push((Heard::of(&change), arrived, asked));
                    if self.is_outdated(&change, asked.is_some(), &mut told) {
                        continue;
                    }
                    self.set_held(&mut change, asked.is_some());
                    changes.push(change);
                }
                Said::Late(key) => {
                    self.fetching.entry(key).and_modify(|fetching| *fetching = Fetching::Late);
                }
                Said::Nothing(key) => {
                    let rested = Instant::now() + REST_AFTER_FAILURE;
                    self.fetching.insert(key, Fetching::Resting(rested));
                }
            }
        }
        let changed = self.publisher.publish(changes);
        let snapshot = self.publisher.snapshot();
        for (heard, arrived, asked) in heard {
            if changed {
                self.metrics.consul.propagation.observe(arrived.elapsed().as_secs_f64());
            }
            self.follow(heard, arrived, asked, &snapshot);
        }
        self.tell_pending();
    }

    /// Whether `change` is a fetch that a watch has overtaken. The watch speaks only when
    /// something changes, so what it said must not be replaced by what was asked before.
    fn is_outdated(&self, change: &Change, was_fetched: bool, told: &mut BTreeSet<Key>) -> bool {
        let Change::Service { datacenter, service, .. } = change else { return false };
        let key = Key::new(datacenter, service);
        if !self.roster.has(&key) {
            return false;
        }
        if !was_fetched {
            told.insert(key);
            return false;
        }
        let has_told = matches!(
            find(&self.publisher.snapshot(), &key),
            Some(service) if service.held == Held::Watched
        );
        has_told || told.contains(&key)
    }

    /// Whether a service's instances were fetched or are watched is known here alone.
    fn set_held(&self, change: &mut Change, was_fetched: bool) {
        if let Change::Service { datacenter, service, instances, held, .. } = change {
            let key = Key::new(datacenter, service);
            *held = match self.roster.has(&key) && !was_fetched {
                true => Held::Watched,
                false => Held::OnDemand { fresh_until_ms: self.fresh_until_ms(instances) },
            };
        }
    }

    /// How long a service that was fetched now is answered without asking again. One that is only
    /// waiting for its watch, or that has nothing to answer with, is asked about soon.
    fn fresh_until_ms(&self, instances: &[Instance]) -> u64 {
        let is_empty = instances.iter().all(|instance| instance.health == Health::Critical);
        let is_short = self.growth.is_some() || is_empty;
        self.clock.after_ms(if is_short { self.kept.min(KEPT_SHORT) } else { self.kept })
    }

    /// What a published change leads to: more watches, fewer, and answers for those who wait.
    fn follow(
        &mut self,
        heard: Heard,
        arrived: Instant,
        asked: Option<Instant>,
        snapshot: &Snapshot,
    ) {
        match heard {
            Heard::Datacenters { local } => {
                self.leave_datacenters(snapshot);
                self.use_datacenter(&local);
            }
            Heard::Nodes { datacenter } => {
                warn_of_nothing(&datacenter, snapshot);
                self.answer_lists(&datacenter, snapshot);
            }
            Heard::Other => (),
            Heard::Service { key, name } => {
                match self.roster.has(&key) {
                    true => self.shelf.take(&key),
                    false => self.shelf.put(key.clone()),
                }
                let (operation, since) = match asked {
                    Some(asked) => (Operation::Fetch, asked),
                    None => (Operation::Watch, arrived),
                };
                self.metrics.consul.observe(&name, operation, since.elapsed());
                if let Some(starting) = &mut self.starting {
                    starting.remove(&key);
                }
                if let Some(Fetching::Awaited(waiting)) = self.fetching.remove(&key) {
                    // Those whose question was abandoned meanwhile do not listen any more.
                    waiting.into_iter().for_each(|done| drop(done.send(Supply::Published)));
                }
            }
            Heard::Services { datacenter } => {
                warn_of_nothing(&datacenter, snapshot);
                self.staff(&datacenter, snapshot);
                self.answer_lists(&datacenter, snapshot);
            }
        }
    }

    /// Watches the lists of a datacenter, once.
    fn use_datacenter(&mut self, datacenter: &str) {
        if self.in_use.contains_key(datacenter) {
            return;
        }
        let cancel = self.tasks.cancel().child_token();
        self.tasks.watch_lists(datacenter, &cancel);
        self.in_use.insert(datacenter.to_owned(), cancel);
        let ended = self.roster.reserve(LISTS);
        if let Some(starting) = &mut self.starting {
            starting.retain(|key| !ended.contains(key));
        }
        // What an ended watch said is as good as if it had just been fetched.
        let snapshot = self.publisher.snapshot();
        let changes: Vec<_> = ended.iter().filter_map(|key| self.loosen(key, &snapshot)).collect();
        self.publisher.publish(changes);
        ended.into_iter().for_each(|key| self.shelf.put(key));
    }

    /// Ends what concerns datacenters that are no longer there. Should one come back, it starts
    /// from nothing, as the snapshot does.
    fn leave_datacenters(&mut self, snapshot: &Snapshot) {
        let is_there =
            |name: &str| matches!(snapshot.datacenter(Some(name.as_bytes())), Found::Here(_));
        let gone: Vec<_> = self.in_use.keys().filter(|name| !is_there(name)).cloned().collect();
        for name in gone {
            if let Some(cancel) = self.in_use.remove(&name) {
                cancel.cancel();
            }
            self.roster.retain(&name, |_| false);
            self.roster.give_back(LISTS);
        }
    }

    fn loosen(&self, key: &Key, snapshot: &Snapshot) -> Option<Change> {
        let service = find(snapshot, key)?;
        service.rrsets.as_ref()?;
        Some(Change::Service {
            datacenter: key.datacenter.clone(),
            form: Form::Service,
            service: key.service.clone(),
            executed: None,
            instances: service.instances.to_vec(),
            held: Held::OnDemand { fresh_until_ms: self.fresh_until_ms(&service.instances) },
        })
    }

    /// Ends the watches of services that are gone, and starts new ones while there is room.
    fn staff(&mut self, datacenter: &str, snapshot: &Snapshot) {
        let name = datacenter.as_bytes();
        let Found::Here(listed) = snapshot.datacenter(Some(name)) else { return };
        let is_listed =
            |service: &str| matches!(listed.service(service.as_bytes()), Found::Here(_));
        self.roster.retain(datacenter, is_listed);
        if let Some(starting) = &mut self.starting {
            starting.retain(|key| key.datacenter != datacenter || is_listed(&key.service));
        }
        let mut entered = BTreeSet::new();
        if self.roster.has_room() {
            let names = listed.services().map(|service| &*service.name);
            let services: BTreeSet<_> = names.filter(|name| is_askable(name)).collect();
            for service in services {
                let key = Key::new(datacenter, service);
                if let Some(cancel) = self.roster.enter(&key, self.tasks.cancel()) {
                    self.tasks.watch_service(datacenter, service, cancel);
                    entered.insert(key);
                }
            }
        }
        let is_local =
            matches!(snapshot.datacenter(None), Found::Here(local) if *local.name == *datacenter);
        if self.starting.is_none() && is_local {
            self.starting = Some(entered);
        }
    }

    fn answer_lists(&mut self, datacenter: &str, snapshot: &Snapshot) {
        let is_in = matches!(
            snapshot.datacenter(Some(datacenter.as_bytes())),
            Found::Here(datacenter) if datacenter.has_services() && datacenter.has_nodes()
        );
        if is_in {
            let waiting = std::mem::take(&mut self.waiting_for_lists);
            let (done, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(wanted, _)| wanted == datacenter);
            self.waiting_for_lists = rest;
            done.into_iter().for_each(|(_, done)| drop(done.send(Supply::Published)));
        }
    }

    /// Fetches what a listener lacks; one fetch at a time for each service, whoever asks.
    fn meet(&mut self, demand: Demand) {
        let Demand { wanted, done } = demand;
        match wanted {
            Wanted::Datacenter { datacenter } => {
                self.use_datacenter(&datacenter);
                self.waiting_for_lists.retain(|(_, done)| !done.is_closed());
                self.waiting_for_lists.push((datacenter, done));
            }
            // Dropped: such a name cannot be put into a question to Consul.
            Wanted::Service { service, .. } if !is_askable(&service) => drop(done),
            Wanted::Service { form, .. } if form != Form::Service => drop(done),
            Wanted::Service { datacenter, service, .. } => {
                let key = Key::new(&datacenter, &service);
                let now = Instant::now();
                if matches!(self.fetching.get(&key), Some(Fetching::Resting(at)) if *at <= now) {
                    self.fetching.remove(&key);
                }
                let fetching = self.fetching.entry(key.clone()).or_insert_with(|| {
                    self.tasks.fetch_service(&datacenter, &service, key, self.patience);
                    Fetching::Awaited(Vec::new())
                });
                match fetching {
                    Fetching::Awaited(waiting) => {
                        waiting.retain(|done| !done.is_closed());
                        waiting.push(done);
                    }
                    // Dropped at once: what is in memory is the answer.
                    Fetching::Late | Fetching::Resting(_) => drop(done),
                }
            }
            // The forwarder's.
            Wanted::Foreign { .. } | Wanted::Host { .. } => drop(done),
        }
    }

    /// Lets go of services that nobody asks for, unless Consul could not tell us of them again.
    fn sweep(&mut self) {
        let now = Instant::now();
        self.fetching.retain(|_, at| !matches!(at, Fetching::Resting(until) if *until <= now));
        let removed = self.shelf.sweep();
        self.metrics.consul.on_demand.set(self.shelf.count() as i64);
        if removed.is_empty() {
            return;
        }
        let snapshot = self.publisher.snapshot();
        let mut changes = Vec::new();
        for removed in removed {
            let Key { datacenter, service } = removed.key.clone();
            let is_cut_off = matches!(
                snapshot.datacenter(Some(datacenter.as_bytes())),
                Found::Here(datacenter) if !datacenter.reachable
            );
            if self.roster.has(&removed.key) {
                continue;
            }
            if removed.crowded_out {
                self.metrics.consul.evictions.inc();
            } else if is_cut_off {
                self.shelf.put(removed.key);
                continue;
            }
            changes.push(Change::Release { datacenter, form: Form::Service, service });
        }
        self.publisher.publish(changes);
    }

    /// Takes the places that were held back, once what an earlier start left at Consul is gone.
    fn grow(&mut self) {
        let Some((_, places)) = self.growth.take_if(|(at, _)| *at <= Instant::now()) else {
            return;
        };
        self.roster.give_back(places);
        let snapshot = self.publisher.snapshot();
        let in_use: Vec<_> = self.in_use.keys().cloned().collect();
        in_use.iter().for_each(|datacenter| self.staff(datacenter, &snapshot));
    }

    /// Says what is still to come before we are ready.
    fn tell_pending(&mut self) {
        if self.is_ready {
            return;
        }
        let pending = self.pending();
        if pending.is_empty() {
            self.is_ready = true;
            let snapshot = self.publisher.snapshot();
            let services: usize = snapshot.datacenters().map(|dc| dc.service_count()).sum();
            let nodes: usize = snapshot.datacenters().map(|dc| dc.node_count()).sum();
            let watched = self.roster.keys().count();
            let on_demand = services.saturating_sub(watched);
            info!(services, nodes, watched, on_demand, "ready");
        }
        self.publisher.set_pending(pending);
    }

    fn pending(&self) -> Vec<String> {
        let snapshot = self.publisher.snapshot();
        let Found::Here(local) = snapshot.datacenter(None) else {
            return vec!["Consul has not said which datacenter it is in".to_owned()];
        };
        let mut pending = Vec::new();
        if !local.has_services() {
            pending.push(format!("the list of services of {} is not in", local.name));
        }
        if !local.has_nodes() {
            pending.push(format!("the list of nodes of {} is not in", local.name));
        }
        let starting = self.starting.iter().flatten();
        pending.extend(starting.map(|key| {
            format!("the instances of {} in {} are not in", key.service, key.datacenter)
        }));
        pending
    }
}

/// How many blocking queries there may be.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Until `grows_after` has passed.
    pub at_start: usize,
    /// From then on.
    pub most: usize,
    /// Longer than Consul holds a query that nobody waits for any more.
    pub grows_after: Duration,
}

/// A service that is being fetched.
enum Fetching {
    /// And who is told when it is there.
    Awaited(Vec<oneshot::Sender<Supply>>),
    /// For longer than a question waits. Nobody else does until Consul has answered.
    Late,
    /// It brought nothing, and is not tried again before this.
    Resting(Instant),
}

/// The lists of a datacenter: its services and its nodes.
const LISTS: usize = 2;

/// Reports that are published together at most.
const BATCH_MAX: usize = 256;

/// How long a fetched service is kept that is better asked about soon.
const KEPT_SHORT: Duration = Duration::from_secs(1);

/// How long after a failure the same service is not fetched, however often it is asked for.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(500);

const SWEEP_EVERY: Duration = Duration::from_secs(1);
