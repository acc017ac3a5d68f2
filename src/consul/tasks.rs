//! The tasks that talk to Consul, and what they report.
//!
//! Each asks, and reports what it heard; none knows what the others do, or what is published.

mod check;
mod confirm;
mod quorum;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::catalog::model::Instance;
use crate::catalog::{Change, Executed, Form, Held};
use crate::consul::client::{Ask, Client, Place, Reply};
use crate::consul::fetch::FetchError;
use crate::consul::index::Position;
use crate::consul::quorum::Verdict;
use crate::consul::watch::{Event, Outage, Pace, Read, Repeated, Source, Wake, watch};
use crate::consul::{Key, Watched, api};
use crate::demand::Wanted;
use crate::metrics::Metrics;

pub use check::Checked;

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
    /// What was missing was read again, or could not be.
    Confirmed {
        /// What it is.
        watched: Watched,
        /// As it is now.
        change: Option<Change>,
        /// When it was asked for.
        asked: Instant,
    },
    /// What is watched was read again, to be compared.
    Checked(Checked),
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
    /// A fetch that brought nothing.
    Nothing(Wanted),
    /// The agent has no ACLs: every list of this datacenter is whole.
    Open {
        /// Its name.
        datacenter: String,
    },
    /// Whether the local servers can be believed is another thing now.
    Quorum(Verdict),
    /// The addresses of a service were read, or could not be.
    Swept(Option<Change>),
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
        pace: Pace,
        reports: mpsc::Sender<Report>,
        cancel: CancellationToken,
    ) -> Self {
        let (wake, tracker) = (Wake::default(), TaskTracker::new());
        Self { client, metrics, pace, wake, reports, cancel, tracker }
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

    /// Asks again and again which datacenters there are, and in which one we are.
    pub fn poll_datacenters(&self, configured: Option<String>) {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let polling = tasks.clone();
            tasks.cancel.run_until_cancelled(polling.poll(configured)).await;
        });
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

    /// Watches the instances of a service, until `cancel`.
    pub fn watch_service(
        &self,
        datacenter: &str,
        form: Form,
        service: &str,
        cancel: CancellationToken,
    ) {
        let (dc, name) = (datacenter.to_owned(), service.to_owned());
        let watched = Watched::Service(Key::new(datacenter, form, service));
        let change = move |value| instances(&dc, form, &name, value, None);
        let asked = api::health(Some(datacenter), form, service);
        self.watch(watched, asked, cancel, change);
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
            let read = source.fetch(None).await;
            let read = read.inspect_err(|error| {
                debug!(error = error.chain(), service = name, "cannot read addresses");
            });
            let change = read.ok().map(|reply| Change::Owned {
                datacenter: dc,
                service: name,
                addresses: reply.value,
            });
            tasks.report(Said::Swept(change), Instant::now()).await;
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(sweeping));
    }

    /// Reports what is watched each time that something is heard or nothing is, until `cancel`.
    fn watch<T: Clone + PartialEq + Send + 'static>(
        &self,
        watched: Watched,
        ask: Ask<T>,
        cancel: CancellationToken,
        change: impl Fn(T) -> Change + Send + Sync + 'static,
    ) {
        let watches = (!watched.is_list()).then(|| self.metrics.consul.watches.clone());
        let source = self.counted(watched.to_string(), ask, Place::Watch, false);
        // The lists are few; they notice that a datacenter can be heard again, and wake the rest.
        let pace = if watched.is_list() { self.pace.alert() } else { self.pace };
        let tasks = self.clone();
        let publish = async move |event: Event<T>| {
            let watched = watched.clone();
            let (said, arrived) = match event {
                Event::Back => (Said::Back(watched), Instant::now()),
                Event::Failed { failures, error } => {
                    (Said::Failed { watched, failures, error }, Instant::now())
                }
                // Nobody but its watch tells of a list; a service may have been fetched meanwhile.
                Event::Same(_) if watched.is_list() => return,
                Event::Same(round) | Event::Value(round) => {
                    (Said::Change(change(round.value), Some(round.read)), round.arrived)
                }
            };
            tasks.report(said, arrived).await;
        };
        let watching = watch(source, pace, self.wake.clone(), cancel, publish);
        self.tracker.spawn(async move {
            watches.iter().for_each(IntGauge::inc);
            watching.await;
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

    async fn poll(&self, configured: Option<String>) {
        let mut agent = api::Agent { datacenter: configured, is_open: false };
        let mut is_asked = false;
        let mut seen = BTreeMap::new();
        let mut outage = Outage::default();
        let mut rhythm = Rhythm::default();
        loop {
            let failed = match self.datacenters(&mut agent, &mut is_asked).await {
                Ok(Some((local, names, arrived))) => {
                    if outage.end("datacenters", &self.wake) {
                        info!("consul tells its datacenters");
                        rhythm = Rhythm::default();
                    }
                    let names = remember(&mut seen, names, arrived);
                    let pause = rhythm.pause(&names);
                    let datacenter = local.clone();
                    let change = Change::Datacenters { local, names };
                    self.report(Said::Change(change, None), arrived).await;
                    if std::mem::take(&mut agent.is_open) {
                        self.report(Said::Open { datacenter }, arrived).await;
                    }
                    time::sleep(pause).await;
                    continue;
                }
                Ok(None) => None,
                Err(error) => Some(error.chain()),
            };
            match (outage.add(), failed) {
                (1, None) => warn!(
                    "consul does not say which datacenter it is in: give the token agent:read \
                     or node:read, or set consul.datacenter"
                ),
                (1, Some(error)) => {
                    let consul = self.client.labels();
                    warn!(consul, error, "cannot ask consul for its datacenters, retrying");
                }
                _ => (),
            }
            outage.rest(self.pace.alert(), &self.wake).await;
        }
    }

    /// The datacenters there are. `None` where it cannot be told in which one we are.
    async fn datacenters(
        &self,
        agent: &mut api::Agent,
        is_asked: &mut bool,
    ) -> Result<Option<(String, Vec<String>, Instant)>, FetchError> {
        let names = self.once("datacenters", api::datacenters()).await?;
        if !*is_asked {
            match api::fetch_self(&self.client).await {
                Ok(said) => {
                    *is_asked = true;
                    agent.is_open = said.is_open;
                    agent.datacenter = agent.datacenter.take().or(said.datacenter);
                }
                // What it says besides can wait.
                Err(_) if agent.datacenter.is_some() => (),
                Err(error) => return Err(error),
            }
        }
        if agent.datacenter.is_none() {
            // The agent's own datacenter is what its nodes are in where none is named.
            agent.datacenter = self.once("nodes", api::nodes(None)).await?.value.datacenter;
        }
        Ok(agent.datacenter.clone().map(|local| (local, names.value, names.arrived)))
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

/// The datacenters of `names`, and those that were among them not long ago.
///
/// An agent that has just been restarted knows only its own datacenter until it has met the others
/// again. Their names must not be denied for it.
fn remember(seen: &mut BTreeMap<String, Instant>, names: Vec<String>, now: Instant) -> Vec<String> {
    seen.extend(names.into_iter().map(|name| (name, now)));
    seen.retain(|_, at| now.saturating_duration_since(*at) <= DATACENTER_KEPT);
    seen.keys().cloned().collect()
}

/// How often the datacenters are asked for: an agent that has just been started meets the others
/// one by one.
#[derive(Debug, Default)]
struct Rhythm {
    names: Vec<String>,
    pause: Duration,
}

impl Rhythm {
    /// The pause after having heard `names`.
    fn pause(&mut self, names: &[String]) -> Duration {
        if self.names != names {
            *self = Self { names: names.to_vec(), pause: Duration::ZERO };
        }
        self.pause = (self.pause * 2).clamp(DATACENTERS_SOON, DATACENTERS_EVERY);
        self.pause
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

/// The first pause, and the one after a change.
const DATACENTERS_SOON: Duration = Duration::from_secs(1);

/// Consul has no blocking query for its datacenters. One that is new is denied for no longer than
/// this, however often it is asked for: no question makes a poll.
const DATACENTERS_EVERY: Duration = Duration::from_secs(5);

/// How long a datacenter is known that Consul no longer lists.
const DATACENTER_KEPT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datacenters_are_asked_for_soon_after_a_start_and_a_change() {
        let mut rhythm = Rhythm::default();
        let mut pauses = |names: &[&str], times| -> Vec<u64> {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            (0..times).map(|_| rhythm.pause(&names).as_secs()).collect()
        };
        assert_eq!(pauses(&["dc1"], 5), [1, 2, 4, 5, 5]);
        assert_eq!(pauses(&["dc1", "dc2"], 3), [1, 2, 4]);
    }

    #[test]
    fn a_datacenter_that_is_not_listed_is_known_for_a_while() {
        let start = Instant::now();
        let mut seen = BTreeMap::new();
        let mut names = |names: &[&str], secs| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            remember(&mut seen, names, start + Duration::from_secs(secs)).join(" ")
        };
        assert_eq!(names(&["dc1", "dc2"], 0), "dc1 dc2");
        assert_eq!(names(&["dc1"], 600), "dc1 dc2");
        assert_eq!(names(&["dc1"], 630), "dc1");
        assert_eq!(names(&["dc1", "dc2"], 660), "dc1 dc2");
    }
}
