//! The tasks that talk to Consul, and what they report.
//!
//! Each asks, and reports what it heard; none knows what the others do, or what is published.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::catalog::model::Instance;
use crate::catalog::{Change, Form, Held};
use crate::consul::client::{Ask, Client, Place, Reply};
use crate::consul::fetch::FetchError;
use crate::consul::index::Position;
use crate::consul::watch::{Event, Pace, Repeated, Source, watch};
use crate::consul::{Key, api};
use crate::metrics::Metrics;

/// What a task heard.
#[derive(Debug)]
pub struct Report {
    /// What it says of the catalogue.
    pub said: Said,
    /// When it had been received in full.
    pub arrived: Instant,
    /// When it was asked for, if it was fetched rather than watched.
    pub asked: Option<Instant>,
}

/// What a report says.
#[derive(Debug)]
pub enum Said {
    /// A part of the catalogue, as it is now.
    Change(Change),
    /// A fetch that is taking longer than a question waits.
    Late(Key),
    /// A fetch that brought nothing.
    Nothing(Key),
}

/// Starts tasks. They end when cancelled, and report to one channel.
#[derive(Clone, Debug)]
pub struct Tasks {
    client: Client,
    metrics: Metrics,
    pace: Pace,
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
        Self { client, metrics, pace, reports, cancel, tracker: TaskTracker::new() }
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
        let (tasks, name) = (self.clone(), datacenter.to_owned());
        let services = self.watched(format!("services of {name}"), api::services(Some(&name)));
        let publish = async move |event| tasks.report_services(&name, event).await;
        self.tracker.spawn(watch(services, self.pace, cancel.clone(), publish));

        let (tasks, name) = (self.clone(), datacenter.to_owned());
        let nodes = self.watched(format!("nodes of {name}"), api::nodes(Some(&name)));
        let publish = async move |event: Event<api::NodeList>| {
            if let Event::Value { value, arrived } = event {
                let change = Change::Nodes { datacenter: name.clone(), nodes: value.nodes };
                tasks.report(change, arrived, None).await;
            }
        };
        self.tracker.spawn(watch(nodes, self.pace, cancel.clone(), publish));
    }

    /// The watch of the names also tells whether the datacenter is heard of at all.
    async fn report_services(&self, datacenter: &str, event: Event<Listing>) {
        let name = datacenter.to_owned();
        let (change, arrived) = match event {
            Event::Back => {
                info!(datacenter, "consul tells of this datacenter again");
                (Change::Reach { datacenter: name, reachable: true }, Instant::now())
            }
            Event::Failed { failures: 1, error } => {
                warn!(datacenter, error, "consul does not tell of this datacenter, retrying");
                (Change::Reach { datacenter: name, reachable: false }, Instant::now())
            }
            Event::Failed { .. } => return,
            Event::Value { value, arrived } => {
                (Change::Services { datacenter: name, listing: value }, arrived)
            }
        };
        self.report(change, arrived, None).await;
    }

    /// Watches the instances of a service, until `cancel`.
    pub fn watch_service(&self, datacenter: &str, service: &str, cancel: CancellationToken) {
        let (tasks, dc, name) = (self.clone(), datacenter.to_owned(), service.to_owned());
        let source =
            self.watched(format!("service {name} in {dc}"), api::service(Some(&dc), &name));
        let publish = async move |event: Event<_>| {
            if let Event::Value { value, arrived } = event {
                tasks.report(instances(&dc, &name, value), arrived, None).await;
            }
        };
        let watching = watch(source, self.pace, cancel, publish);
        let watches = self.metrics.consul.watches.clone();
        self.tracker.spawn(async move {
            watches.inc();
            watching.await;
            watches.dec();
        });
    }

    /// Fetches the instances of a service once, and says so when that takes over `patience`.
    pub fn fetch_service(&self, datacenter: &str, service: &str, key: Key, patience: Duration) {
        let (tasks, dc, name) = (self.clone(), datacenter.to_owned(), service.to_owned());
        let name_of_ask = format!("service {name} in {dc}");
        let mut source = self.fetched(name_of_ask, api::service(Some(&dc), &name));
        let fetching = async move {
            let asked = Instant::now();
            let mut fetching = pin!(source.fetch(None));
            let fetched = match time::timeout(patience, &mut fetching).await {
                Ok(fetched) => fetched,
                Err(_) => {
                    tasks.say(Said::Late(key.clone())).await;
                    fetching.await
                }
            };
            match fetched {
                Ok(reply) => {
                    let change = instances(&dc, &name, reply.value);
                    tasks.report(change, reply.arrived, Some(asked)).await;
                }
                Err(error) => {
                    debug!(error = error.chain(), service = name, "cannot fetch a service");
                    tasks.say(Said::Nothing(key)).await;
                }
            }
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(fetching));
    }

    async fn poll(&self, configured: Option<String>) {
        let mut local = configured;
        let mut seen = BTreeMap::new();
        let mut failures = 0;
        loop {
            match self.datacenters(&mut local).await {
                Ok(Some((local, names, arrived))) => {
                    if failures > 0 {
                        info!(failures, "consul tells its datacenters");
                    }
                    failures = 0;
                    let names = remember(&mut seen, names, arrived);
                    self.report(Change::Datacenters { local, names }, arrived, None).await;
                    time::sleep(DATACENTERS_EVERY).await;
                    continue;
                }
                Ok(None) if failures == 0 => warn!(
                    "consul does not say which datacenter it is in: give the token agent:read \
                     or node:read, or set consul.datacenter"
                ),
                Err(error) if failures == 0 => {
                    let (error, consul) = (error.chain(), self.client.labels());
                    warn!(consul, error, "cannot ask consul for its datacenters, retrying");
                }
                Ok(None) | Err(_) => (),
            }
            failures += 1;
            time::sleep(self.pace.backoff.delay(failures, fastrand::f64())).await;
        }
    }

    /// The datacenters there are. `None` where it cannot be told in which one we are.
    async fn datacenters(
        &self,
        local: &mut Option<String>,
    ) -> Result<Option<(String, Vec<String>, Instant)>, FetchError> {
        let names = self.once("datacenters", api::datacenters()).await?;
        if local.is_none() {
            *local = api::fetch_self_datacenter(&self.client).await?;
        }
        if local.is_none() {
            // The agent's own datacenter is what its nodes are in where none is named.
            *local = self.once("nodes", api::nodes(None)).await?.value.datacenter;
        }
        Ok(local.clone().map(|local| (local, names.value, names.arrived)))
    }

    async fn once<T: Send + 'static>(
        &self,
        name: &str,
        ask: Ask<T>,
    ) -> Result<Reply<T>, FetchError> {
        self.fetched(name.to_owned(), ask).fetch(None).await
    }

    async fn report(&self, change: Change, arrived: Instant, asked: Option<Instant>) {
        let report = Report { said: Said::Change(change), arrived, asked };
        // The keeper hears until it is cancelled, and so are we.
        self.reports.send(report).await.ok();
    }

    async fn say(&self, said: Said) {
        let report = Report { said, arrived: Instant::now(), asked: None };
        self.reports.send(report).await.ok();
    }

    fn watched<T>(&self, name: String, ask: Ask<T>) -> Counted<T> {
        self.counted(name, ask, Place::Watch)
    }

    fn fetched<T>(&self, name: String, ask: Ask<T>) -> Counted<T> {
        self.counted(name, ask, Place::Spare)
    }

    fn counted<T>(&self, name: String, ask: Ask<T>, place: Place) -> Counted<T> {
        // Only a watch begins with nothing known.
        let is_known = place == Place::Spare;
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

/// The names of services, each with its tags.
type Listing = Vec<(String, Vec<String>)>;

/// The keeper says how they are held.
fn instances(datacenter: &str, service: &str, instances: Vec<Instance>) -> Change {
    Change::Service {
        datacenter: datacenter.to_owned(),
        form: Form::Service,
        service: service.to_owned(),
        instances,
        held: Held::Watched,
        executed: None,
    }
}

/// Consul has no blocking query for its datacenters.
const DATACENTERS_EVERY: Duration = Duration::from_secs(30);

/// How long a datacenter is known that Consul no longer lists.
const DATACENTER_KEPT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

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
