//! Keeps the catalogue: the one task that hears all reports and publishes what they change.
//!
//! ```text
//!   watches, polls, fetches --Report--> keeper --> Publisher --> snapshot
//!                 ^                       | watches, waiting, shelf
//!                 └────── starts ─────────┘<--Demand-- listeners
//! ```
//! Reports that came together are published together, so a burst of changes costs a few
//! snapshots. Reports are bounded: when the keeper is behind, the watches wait for it.
//!
//! **Invariant:** what is newer wins. A fetch is consistent, so it is newer than all that arrived
//! before it was asked for; what arrived since may be newer, and then the fetch is not believed.

mod beyond;
mod check;
mod guarding;
mod leaving;
mod refreshing;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::catalog::model::Instance;
use crate::catalog::{Change, Form, Found, Held, Snapshot};
use crate::clock::Clock;
use crate::config::CacheConfig;
use crate::consul::absence::Absence;
use crate::consul::check::Check;
use crate::consul::growth::Room;
use crate::consul::guard::Guard;
use crate::consul::quorum::Verdict;
use crate::consul::refresh::Refresh;
use crate::consul::shelf::Shelf;
use crate::consul::sweep::Sweep;
use crate::consul::tasks::{Fetched, Report, Said, Tasks};
use crate::consul::unlisted::Unlisted;
use crate::consul::view::{self, Heard, is_askable, warn_of_nothing};
use crate::consul::waiting::{Ended, Waiting};
use crate::consul::watch::Read;
use crate::consul::watches::Watches;
use crate::consul::{Key, Watched};
use crate::demand::{Demand, Wanted};
use crate::metrics::{Metrics, OTHER, Operation};
use crate::publisher::{Publisher, told};

/// The keeper's state between two reports.
pub struct Keeper {
    publisher: Publisher,
    metrics: Metrics,
    clock: Clock,
    tasks: Tasks,
    watches: Watches,
    waiting: Waiting,
    shelf: Shelf,
    refresh: Refresh,
    unlisted: Unlisted,
    sweep: Sweep,
    guard: Guard,
    absence: Absence,
    check: Check,
    /// How long what nobody asks for is still watched.
    idle: Duration,
    /// How long the result of a query without a TTL is answered.
    query_kept: Duration,
    /// How long a fetched service is answered without asking again.
    kept: Duration,
    /// What was said last of the local servers, and since when.
    quorum: (Verdict, Instant),
    /// When lists that lost the service `consul` were read last.
    looked: Option<Instant>,
    /// When watches may make room for others again, by the program's clock.
    rotates_at_ms: u64,
    is_ready: bool,
}

/// What the reports of one batch come to.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is to be published.
    pub changes: Vec<Change>,
    /// What they are about, when it arrived, and when it was asked for if it was fetched.
    pub heard: Vec<(Heard, Instant, Option<Instant>)>,
    /// Fetches that are over, for those who wait for them.
    pub fetched: Vec<Wanted>,
}

impl Keeper {
    /// Publishes to `publisher` what `tasks` report, with as many requests as `room` says.
    pub fn new(
        publisher: Publisher,
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
        guard: Guard,
        cache: &CacheConfig,
        room: Room,
    ) -> Self {
        let now = Instant::now();
        Self {
            publisher,
            clock,
            refresh: Refresh::new(cache, metrics.consul.refreshes_deferred.clone()),
            unlisted: Unlisted::new(cache, metrics.consul.unlisted_refused.clone(), now),
            sweep: Sweep::new(cache.sweep_within, cache.sweep_every, now),
            guard,
            absence: Absence::default(),
            check: Check::new(cache.check_every, now),
            idle: cache.idle,
            query_kept: cache.query_kept,
            watches: Watches::new(tasks.clone(), room, metrics.consul.watches_failing.clone()),
            metrics,
            tasks,
            waiting: Waiting::new(room.spare, cache.patience),
            shelf: Shelf::new(cache.services_max, cache.bytes_max, cache.idle),
            kept: cache.kept,
            quorum: (Verdict::Unknown, now),
            looked: None,
            rotates_at_ms: 0,
            is_ready: false,
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
        let mut rules = self.publisher.rules();
        loop {
            let settles = self.guard.next(Instant::now());
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(demand) = demands.recv() => self.meet(demand),
                count = reports.recv_many(&mut batch, BATCH_MAX) => match count {
                    0 => return,
                    _ => self.hear(std::mem::take(&mut batch)),
                },
                () = until(settles) => self.settle(),
                () = told(&mut rules) => self.publisher.renew(),
                _ = sweeps.tick() => {
                    self.settle();
                    self.grow();
                    self.rotate();
                    self.sweep();
                    self.sweep_unlisted();
                    self.begin();
                    self.look_behind();
                    self.sweep_addresses();
                    self.look_for_rights();
                    self.begin_check();
                }
            }
        }
    }

    /// Publishes what `reports` say, and does what follows from it.
    fn hear(&mut self, reports: Vec<Report>) {
        let mut batch = Batch::default();
        for Report { said, arrived } in view::without_replaced_lists(reports) {
            match said {
                Said::Back(watched) => self.take_back(&watched, &mut batch),
                Said::Change(change, read) => self.take(change, read, arrived, &mut batch),
                Said::Confirmed(read) => self.take_confirmed(read, &mut batch),
                Said::Checked(checked) => self.take_checked(checked, arrived, &mut batch),
                Said::Failed { watched, failures, error } => {
                    self.lose(&watched, failures, &error, &mut batch);
                }
                Said::Fetched(fetched) => self.take_fetched(fetched, arrived, &mut batch),
                Said::Hidden { datacenter } => self.guard.alarm(&datacenter, Instant::now()),
                Said::Looked(read) => self.take_looked(read),
                Said::Nothing(wanted) => {
                    self.end_fetch(&wanted, Ended::Failed);
                }
                Said::Open { datacenter } => {
                    let ended = self.watches.use_queries(&datacenter);
                    self.loosen(ended);
                }
                Said::Quorum(verdict) => self.take_quorum(verdict),
                Said::Swept(swept) => self.take_swept(swept, &mut batch),
            }
        }
        batch.changes.extend(self.guard.news());
        self.publish(batch);
        self.settle();
        if self.watches.may_stream() {
            self.grow();
        }
        self.begin();
        self.begin_behind();
        self.begin_sweep();
        self.begin_check();
        self.tell_pending();
    }

    /// Takes what room there is for watches.
    fn grow(&mut self) {
        let ended = self.watches.grow(&self.publisher.snapshot());
        self.loosen(ended);
    }

    /// Publishes a batch, and does what follows from it.
    fn publish(&mut self, batch: Batch) {
        let Batch { changes, heard, fetched } = batch;
        let changed = self.publisher.publish(changes);
        let snapshot = self.publisher.snapshot();
        for (heard, arrived, asked) in heard {
            if changed {
                self.metrics.consul.propagation.observe(arrived.elapsed().as_secs_f64());
            }
            self.follow(heard, arrived, asked, &snapshot);
        }
        for wanted in fetched {
            self.end_fetch(&wanted, Ended::Came);
        }
    }

    /// Takes in what a watch or a poll heard.
    fn take(
        &mut self,
        mut change: Change,
        read: Option<Read>,
        arrived: Instant,
        batch: &mut Batch,
    ) {
        if let Change::Service { datacenter, form, service, .. } = &change {
            let key = Key::new(datacenter, *form, service);
            let is_overtaken = self.watches.is_overtaken(&key, read);
            if self.watches.is_relieved(&key) {
                self.watches.leave(&key, &self.publisher.snapshot());
                self.loosen(vec![key]);
            }
            if is_overtaken || self.doubts(&change, read.map(|read| read.asked)) {
                return;
            }
        }
        self.weigh(&mut change);
        match &mut change {
            Change::Service { datacenter, form, service, instances, held, .. } => {
                let key = Key::new(datacenter, *form, service);
                let is_watched = self.watches.set_told(&key, arrived);
                // Its watch may have ended while it spoke, and will if it denies the name.
                let is_denied = key.form != Form::Service && instances.is_empty();
                *held = match is_watched && !is_denied {
                    true => Held::Watched,
                    false => self.on_demand(instances),
                };
            }
            Change::Services { datacenter, .. } => {
                self.watches.lists.set_listed(datacenter, arrived)
            }
            _ => (),
        }
        self.check.note(&change, read.and_then(|read| read.position), Instant::now());
        batch.heard.push((Heard::of(&change), arrived, None));
        batch.changes.push(change);
    }

    /// Takes in what a fetch brought, unless what arrived since it was asked for is newer.
    fn take_fetched(&mut self, fetched: Fetched, arrived: Instant, batch: &mut Batch) {
        let Fetched { wanted, mut change, read: Read { asked, position }, is_vouched } = fetched;
        let Change::Service { datacenter, form, service, instances, .. } = &change else { return };
        let key = Key::new(datacenter, *form, service);
        let is_newer = |than: Option<Instant>| is_vouched && than.is_none_or(|than| than < asked);
        let told = self.watches.told(&key);
        let listed = self.watches.lists.listed(datacenter);
        // Names in no list are only Consul's to deny.
        let is_list_older = is_newer(listed.filter(|_| key.form == Form::Service));
        if instances.is_empty() && !is_list_older {
            // The list has the name, and what the list does not know is no reason to deny it.
            let outcome = if is_vouched { Ended::Again } else { Ended::Failed };
            self.end_fetch(&wanted, outcome);
            return;
        }
        let service = service.clone();
        let is_denied = instances.is_empty();
        if self.doubts(&change, Some(asked)) || is_denied && self.is_doubtful_denial(&key) {
            self.end_fetch(&wanted, Ended::Failed);
            return;
        }
        let Change::Service { instances, held, executed, .. } = &mut change else { return };
        batch.fetched.push(wanted);
        batch.heard.push((Heard::of_service(&key, &service), arrived, Some(asked)));
        if told.is_some() && !is_newer(told) {
            return;
        }
        let is_heard = told.is_some() && !self.watches.is_failing(&Watched::Service(key.clone()));
        *held = match executed {
            Some(executed) => self.on_query(&key, executed, instances),
            None if is_heard => Held::Watched,
            None => self.on_demand(instances),
        };
        self.watches.set_fetched(&key, position, arrived);
        self.weigh(&mut change);
        self.check.note(&change, position, Instant::now());
        batch.changes.push(change);
        if is_list_older && key.form == Form::Service {
            let Key { datacenter, service, .. } = key;
            batch.changes.push(Change::Settle { datacenter, service });
        }
    }

    /// A watch hears again; what it heard follows.
    fn take_back(&mut self, watched: &Watched, batch: &mut Batch) {
        self.watches.back(watched);
        if let Watched::Services { datacenter } = watched {
            let datacenter = datacenter.clone();
            batch.changes.push(Change::Reach { datacenter, cut_off_ms: None });
        }
    }

    /// A watch hears nothing: what it said last stays, and is known to be old.
    fn lose(&mut self, watched: &Watched, failures: u32, error: &str, batch: &mut Batch) {
        if !self.watches.fail(watched, failures, error) {
            return;
        }
        let since_ms = self.clock.signed_ms();
        match watched {
            Watched::Nodes { datacenter } => self.watches.lists.dismiss(datacenter),
            Watched::Service(key) => {
                if self.watches.told(key).is_some() {
                    batch.changes.push(hold(key, Held::Failing { since_ms }));
                }
            }
            // A list that grows old denies what is new.
            Watched::Queries { datacenter } => {
                let datacenter = datacenter.clone();
                batch.changes.push(Change::Queries { datacenter, queries: None });
            }
            Watched::Services { datacenter } => {
                self.watches.lists.dismiss(datacenter);
                let (datacenter, cut_off_ms) = (datacenter.clone(), Some(since_ms));
                batch.changes.push(Change::Reach { datacenter, cut_off_ms });
            }
        }
    }

    /// How a service that was fetched now is held: one that is only waiting for its watch, or of
    /// which something would be denied, is asked about soon.
    fn on_demand(&self, instances: &[Instance]) -> Held {
        let is_short = self.watches.is_growing()
            || view::hides_some(instances, |health| self.publisher.shows(health));
        let kept = if is_short { self.kept.min(KEPT_SHORT) } else { self.kept };
        self.fetched_for(kept)
    }

    fn fetched_for(&self, kept: Duration) -> Held {
        let (fetched_ms, fresh_until_ms) = (self.clock.now_ms(), self.clock.after_ms(kept));
        Held::OnDemand { fetched_ms, fresh_until_ms }
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
                self.waiting.set_local(&local);
                self.watches.leave_datacenters(snapshot);
                self.use_datacenter(&local);
            }
            Heard::Nodes { datacenter } => {
                warn_of_nothing(&datacenter, snapshot);
                self.answer_lists(&datacenter, snapshot);
            }
            Heard::Other => (),
            Heard::Service { key, name } => {
                self.place(&key, snapshot);
                let (operation, since) = match asked {
                    Some(asked) => (Operation::Fetch, asked),
                    None => (Operation::Watch, arrived),
                };
                let label = if key.form == Form::Service { &*name } else { OTHER };
                self.metrics.consul.observe(label, operation, since.elapsed());
                self.watches.set_heard(&key);
                let Key { datacenter, form, .. } = key;
                self.waiting.tell(&Wanted::Service { datacenter, form, service: name });
            }
            Heard::Services { datacenter } => {
                warn_of_nothing(&datacenter, snapshot);
                self.watches.follow_list(&datacenter, snapshot);
                self.adopt(&datacenter, snapshot);
                self.answer_lists(&datacenter, snapshot);
            }
        }
    }

    /// Watches the lists of a datacenter, once. False if there is no room for them.
    fn use_datacenter(&mut self, datacenter: &str) -> bool {
        let Some(ended) = self.watches.use_datacenter(datacenter) else { return false };
        self.loosen(ended);
        true
    }

    fn answer_lists(&mut self, datacenter: &str, snapshot: &Snapshot) {
        let is_in = matches!(
            snapshot.datacenter(Some(datacenter.as_bytes())),
            Found::Here(datacenter) if datacenter.is_heard()
        );
        if is_in {
            self.watches.lists.tell(datacenter);
        }
    }

    /// Lets a listener wait for what it lacks. A sender that is dropped says that it is in vain.
    fn meet(&mut self, demand: Demand) {
        match &demand.wanted {
            Wanted::Datacenter { datacenter } => {
                let datacenter = datacenter.clone();
                let fails = |watched| self.watches.is_failing(&watched);
                let is_failing = fails(Watched::Nodes { datacenter: datacenter.clone() })
                    || fails(Watched::Services { datacenter: datacenter.clone() });
                // A file's lists are answered until the watches have told others.
                let is_loaded = matches!(
                    self.publisher.snapshot().datacenter(Some(datacenter.as_bytes())),
                    Found::Here(datacenter) if datacenter.is_loaded()
                );
                if self.use_datacenter(&datacenter) && !is_failing && !is_loaded {
                    self.watches.lists.join(&datacenter, demand.done);
                }
            }
            // Such a name cannot be put into a question to Consul.
            Wanted::Service { form, service, .. } if !is_askable(*form, service) => (),
            Wanted::Service { datacenter, form, service } => {
                let key = Key::new(datacenter, *form, service);
                let now = Instant::now();
                if self.is_to_be_told(&key) {
                    return;
                }
                if self.is_known(&key)
                    || self.waiting.has(&demand.wanted)
                    || self.unlisted.admit(self.is_of_listed(&key), now)
                {
                    self.waiting.join(demand, now);
                    self.begin();
                }
            }
            // The forwarder's.
            Wanted::Foreign { .. } | Wanted::Host { .. } => (),
        }
    }

    /// Says what is still to come before we are ready.
    fn tell_pending(&mut self) {
        if self.is_ready {
            return;
        }
        let pending = view::pending(&self.publisher.snapshot(), self.watches.starting());
        if pending.is_empty() {
            self.is_ready = true;
            let snapshot = self.publisher.snapshot();
            let services: usize = snapshot.datacenters().map(|dc| dc.service_count()).sum();
            let nodes: usize = snapshot.datacenters().map(|dc| dc.node_count()).sum();
            let watched = self.watches.count();
            let on_demand = services.saturating_sub(watched);
            info!(services, nodes, watched, on_demand, "ready");
        }
        self.publisher.set_pending(pending);
    }
}

/// Never, where there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The change that a service is held as `held` from now on.
fn hold(key: &Key, held: Held) -> Change {
    let Key { datacenter, form, service } = key.clone();
    Change::Hold { datacenter, form, service, held }
}

/// Reports that are published together at most.
const BATCH_MAX: usize = 256;

/// How long a fetched service is kept that is better asked about soon.
const KEPT_SHORT: Duration = Duration::from_secs(1);

const SWEEP_EVERY: Duration = Duration::from_secs(1);
