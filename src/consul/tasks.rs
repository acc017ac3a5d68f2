//! The tasks that talk to Consul, and what they report.
//!
//! Each asks, and reports what it heard; none knows what the others do, or what is published.

mod again;
mod datacenters;
mod quorum;

use std::hash::Hash;
use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::board::{Board, Line, Standing};
use crate::catalog::model::Instance;
use crate::catalog::{Change, Executed, Form, Held};
use crate::consul::client::{Ask, Client, Place, Reply};
use crate::consul::fetch::FetchError;
use crate::consul::index::Position;
use crate::consul::quorum::Verdict;
use crate::consul::watch::{Ends, Event, Pace, Read, Repeated, Source, Wake, watch};
use crate::consul::{Key, Watched, api};
use crate::demand::Wanted;
use crate::metrics::Metrics;

pub use again::Again;

/// What a task heard.
#[derive(Debug)]
pub struct Report {
    /// What it says.
    pub said: Said,
    /// When that had been received in full.
    pub arrived: Instant,
}

/// What a report says.
#[derive(Debug)]
pub enum Said {
    /// A watch that failed hears Consul again. What it heard follows.
    Back(Watched),
    /// A part of the catalogue, as a watch or a poll heard it, and when a watch had asked for it.
    Change(Change, Option<Read>),
    /// What is watched was read again, to be compared.
    Checked(Again),
    /// What was missing was read again.
    Confirmed(Again),
    /// A watch that hears nothing at present.
    Failed {
        /// Which one.
        watched: Watched,
        /// In a row, this one included: 1 for the first.
        failures: u32,
        /// What went wrong, for a log line.
        error: String,
    },
    /// What a fetch brought.
    Fetched(Fetched),
    /// The token may not read any more what it could.
    Hidden {
        /// Where that is.
        datacenter: String,
    },
    /// A list that lost the service `consul` was read again.
    Looked(Again),
    /// A fetch that brought nothing.
    Nothing(Wanted),
    /// The agent has no ACLs: every list of this datacenter is whole.
    Open {
        /// Its name.
        datacenter: String,
    },
    /// Whether the local servers can be believed.
    Quorum(Verdict),
    /// The addresses of a service were read, or could not be.
    Swept(Swept),
}

/// What came of reading the addresses of a service.
#[derive(Debug)]
pub enum Swept {
    /// These are they.
    Came {
        /// Which.
        change: Change,
        /// Whether Consul shows instances, be it without an address of their own.
        has_instances: bool,
    },
    /// Nothing, this time.
    Nothing,
    /// Consul does not tell them.
    Refused {
        /// That there are none.
        change: Change,
        /// What it says, for a log line.
        error: String,
    },
}

/// A part of the catalogue that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// What was to be fetched.
    pub wanted: Wanted,
    /// What came. The keeper says how it is held.
    pub change: Change,
    /// When it was asked for, and where it got to.
    pub read: Read,
    /// False where there was no leader: then it may be older than anything.
    pub is_vouched: bool,
}

/// Starts tasks. They end when cancelled, and report to one channel.
#[derive(Clone, Debug)]
pub struct Tasks {
    client: Client,
    metrics: Metrics,
    board: Arc<Board>,
    pace: Pace,
    wake: Wake,
    reports: mpsc::Sender<Report>,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Asks `client`, and reports to `reports`.
    pub fn new(
        client: Client,
        metrics: Metrics,
        board: Arc<Board>,
        pace: Pace,
        reports: mpsc::Sender<Report>,
        cancel: CancellationToken,
    ) -> Self {
        let (wake, tracker) = (Wake::default(), TaskTracker::new());
        Self { client, metrics, board, pace, wake, reports, cancel, tracker }
    }

    /// Whom they ask.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What ends all tasks.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Waits until all tasks have ended.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Watches the names of services and the nodes of a datacenter, until `cancel`.
    pub fn watch_lists(&self, datacenter: &str, cancel: &CancellationToken) {
        let name = datacenter.to_owned();
        let watched = Watched::Services { datacenter: name.clone() };
        let change = move |listing| Change::Services { datacenter: name.clone(), listing };
        let asked = api::services(Some(datacenter));
        self.watch(watched, asked, cancel.clone(), change);

        let name = datacenter.to_owned();
        let watched = Watched::Nodes { datacenter: name.clone() };
        let change = move |list: api::NodeList| Change::Nodes {
            datacenter: name.clone(),
            nodes: list.nodes,
        };
        let asked = api::nodes(Some(datacenter));
        self.watch(watched, asked, cancel.clone(), change);
    }

    /// Watches the instances of a service, until that `ends`.
    pub fn watch_service(&self, datacenter: &str, form: Form, service: &str, ends: Ends) {
        let (dc, name) = (datacenter.to_owned(), service.to_owned());
        let watched = Watched::Service(Key::new(datacenter, form, service));
        let change = move |value| instances(&dc, form, &name, value, None);
        let asked = api::health(Some(datacenter), form, service);
        self.watch(watched, asked, ends, change);
    }

    /// Watches the prepared queries of a datacenter, until `cancel`.
    pub fn watch_queries(&self, datacenter: &str, cancel: CancellationToken) {
        let name = datacenter.to_owned();
        let watched = Watched::Queries { datacenter: name.clone() };
        let change =
            move |queries| Change::Queries { datacenter: name.clone(), queries: Some(queries) };
        self.watch(watched, api::queries(Some(datacenter)), cancel, change);
    }

    /// Reads the addresses of a service once.
    pub fn sweep_service(&self, datacenter: &str, service: &str) {
        let (tasks, dc, name) = (self.clone(), datacenter.to_owned(), service.to_owned());
        let what = format!("the addresses of {name} in {dc}");
        let mut source =
            self.counted(what, api::addresses(Some(datacenter), service), Place::Spare, true);
        let sweeping = async move {
            let change =
                |addresses| Change::Owned { datacenter: dc, service: name.clone(), addresses };
            let swept = match source.fetch(None).await {
                Ok(reply) => {
                    let api::OwnAddresses { addresses, has_instances } = reply.value;
                    Swept::Came { change: change(addresses), has_instances }
                }
                Err(error) if error.is_of_name() => {
                    Swept::Refused { change: change(Vec::new()), error: error.chain() }
                }
                Err(error) => {
                    debug!(error = error.chain(), service = name, "cannot read addresses");
                    Swept::Nothing
                }
            };
            tasks.report(Said::Swept(swept), Instant::now()).await;
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(sweeping));
    }

    /// Reports what is watched each time that something is heard or nothing is, until that `ends`.
    fn watch<T: Hash + Send + 'static>(
        &self,
        watched: Watched,
        ask: Ask<T>,
        ends: impl Into<Ends>,
        change: impl Fn(T) -> Change + Send + Sync + 'static,
    ) {
        let watches = (!watched.is_list()).then(|| self.metrics.consul.watches.clone());
        let source = self.counted(watched.to_string(), ask, Place::Watch, false);
        // The lists are few; they notice that a datacenter can be heard again, and wake the rest.
        let pace = if watched.is_list() { self.pace.alert() } else { self.pace };
        let tasks = self.clone();
        let mut was_filtered = true;
        let line = self.board.begin(watched.line());
        let publish = async move |event: Event<T>| {
            note(&line, &event);
            let watched = watched.clone();
            if let Event::Same(round) | Event::Value(round) = &event {
                // A narrow token is one from the start on, and no news.
                let before = std::mem::replace(&mut was_filtered, round.is_filtered);
                if round.is_filtered && !before {
                    let datacenter = watched.datacenter().to_owned();
                    tasks.report(Said::Hidden { datacenter }, round.arrived).await;
                }
            }
            let (said, arrived) = match event {
                Event::Back => (Said::Back(watched), Instant::now()),
                Event::Failed { failures, error } => {
                    (Said::Failed { watched, failures, error }, Instant::now())
                }
                // Nobody but its watch tells of these lists. A service may have been fetched
                // meanwhile; and a list of queries that is not heard is forgotten.
                Event::Same(_)
                    if matches!(watched, Watched::Nodes { .. } | Watched::Services { .. }) =>
                {
                    return;
                }
                Event::Same(round) | Event::Value(round) => {
                    (Said::Change(change(round.value), Some(round.read)), round.arrived)
                }
            };
            tasks.report(said, arrived).await;
        };
        let (wake, ends) = (self.wake.clone(), ends.into());
        self.tracker.spawn(async move {
            watches.iter().for_each(IntGauge::inc);
            // Made here: a future that is moved in and then awaited has its room twice.
            watch(source, pace, wake, ends, publish).await;
            watches.iter().for_each(IntGauge::dec);
        });
    }

    /// Fetches the instances of a service once. `is_known` where they are in memory already.
    pub fn fetch_service(&self, datacenter: &str, form: Form, service: &str, is_known: bool) {
        let (dc, name) = (datacenter.to_owned(), service.to_owned());
        let wanted = Wanted::Service { datacenter: dc.clone(), form, service: name.clone() };
        match form {
            Form::Query => {
                let ask = api::execution(Some(datacenter), service);
                let change = move |found: api::Execution| {
                    instances(&dc, form, &name, found.instances, found.executed)
                };
                self.fetch(wanted, ask, is_known, change);
            }
            Form::Connect | Form::Ingress | Form::Peer | Form::Service => {
                let ask = api::health(Some(datacenter), form, service);
                let change = move |value| instances(&dc, form, &name, value, None);
                self.fetch(wanted, ask, is_known, change);
            }
        }
    }

    fn fetch<T: Default + Send + 'static>(
        &self,
        wanted: Wanted,
        ask: Ask<T>,
        is_known: bool,
        change: impl FnOnce(T) -> Change + Send + 'static,
    ) {
        let mut source = self.counted(format!("{wanted:?}"), ask, Place::Spare, is_known);
        let tasks = self.clone();
        let fetching = async move {
            let asked = Instant::now();
            let (said, arrived) = match source.fetch(None).await {
                Ok(reply) => {
                    let is_vouched = reply.known_leader != Some(false);
                    let read = Read { asked, position: reply.position() };
                    let change = change(reply.value);
                    let fetched = Fetched { wanted, change, read, is_vouched };
                    (Said::Fetched(fetched), reply.arrived)
                }
                Err(error) if is_denial(&error) => {
                    let change = change(T::default());
                    let read = Read { asked, position: None };
                    let fetched = Fetched { wanted, change, read, is_vouched: true };
                    (Said::Fetched(fetched), Instant::now())
                }
                Err(error) => {
                    debug!(error = error.chain(), ?wanted, "cannot fetch");
                    (Said::Nothing(wanted), Instant::now())
                }
            };
            tasks.report(said, arrived).await;
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(fetching));
    }

    async fn once<T: Send + 'static>(
        &self,
        name: &str,
        ask: Ask<T>,
    ) -> Result<Reply<T>, FetchError> {
        self.counted(name.to_owned(), ask, Place::Spare, true).fetch(None).await
    }

    async fn report(&self, said: Said, arrived: Instant) {
        // The keeper hears until it is cancelled, and so are we.
        self.reports.send(Report { said, arrived }).await.ok();
    }

    fn counted<T>(&self, name: String, ask: Ask<T>, place: Place, is_known: bool) -> Counted<T> {
        let inner = Repeated { name, ask, client: self.client.clone(), place, is_known };
        Counted { inner, metrics: self.metrics.clone() }
    }
}

fn note<T>(line: &Line, event: &Event<T>) {
    line.note(|standing| match event {
        Event::Back => (),
        Event::Failed { failures, error } => {
            (standing.failures, standing.error) = (*failures, Some(error.clone()));
        }
        Event::Same(round) | Event::Value(round) => {
            let is_new = matches!(event, Event::Value(_));
            let changed = if is_new { Some(round.arrived) } else { standing.changed };
            let index = round.read.position.map(|position| position.index.get());
            let (heard, is_filtered) = (Some(round.arrived), round.is_filtered);
            *standing = Standing { index, heard, changed, failures: 0, error: None, is_filtered };
        }
    });
}

/// A source whose requests are counted.
struct Counted<T> {
    inner: Repeated<T>,
    metrics: Metrics,
}

impl<T: Send + 'static> Source<T> for Counted<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn fetch(&mut self, after: Option<Position>) -> Result<Reply<T>, FetchError> {
        let _open = Open::new(&self.metrics);
        let fetched = self.inner.fetch(after).await;
        fetched.inspect_err(|error| self.metrics.consul.count_failure(error.kind()))
    }
}

/// A request in flight; it also ends by being dropped.
struct Open<'m>(&'m Metrics);

impl<'m> Open<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.consul.requests_in_flight.inc();
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.consul.requests_in_flight.dec();
    }
}

/// Of all that Consul answers with 404, a query is the only one that is asked for here.
fn is_denial(error: &FetchError) -> bool {
    matches!(error, FetchError::Status { status: 404, .. })
}

/// The keeper says how they are held.
fn instances(
    datacenter: &str,
    form: Form,
    service: &str,
    instances: Vec<Instance>,
    executed: Option<Executed>,
) -> Change {
    let (datacenter, service) = (datacenter.to_owned(), service.to_owned());
    Change::Service { datacenter, form, service, instances, held: Held::Watched, executed }
}
