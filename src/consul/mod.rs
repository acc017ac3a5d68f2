//! The only module that knows Consul's HTTP API: it keeps the catalogue fresh by blocking
//! queries, and fetches what is not watched when an answer lacks it.
//!
//! ```text
//!   addresses, tls, token -> client -> fetch    one request, bounded in time and bytes
//!   api                                         what is asked, and what the JSON means
//!   index, backoff, watch                       one blocking query, for ever
//!   roster, lists, failing -> watches           who is watched; whose watch hears nothing
//!   waiting, refresh, shelf                     what is fetched on demand or behind the answers,
//!                                               and what is held so
//!   guard                                       what vanishes, until it is believed to be gone
//!   sweep, check                                what is read besides, a little at a time
//!   tasks -> keeper                             what is heard, and what follows from it
//! ```
//! No DNS query ever asks Consul; only a name that is known to exist, and whose instances or whose
//! tag is not in memory, makes one fetch, shared by all who ask.
//!
//! **Invariant:** what is denied was denied by a consistent reply, or by a blocking one that is not
//! older than what was heard before. What Consul is asked is bounded by places and by time, not by
//! what is asked of us.

pub mod absence;
pub mod address;
pub mod addresses;
pub mod api;
pub mod backoff;
pub mod check;
pub mod client;
pub mod failing;
pub mod fetch;
pub mod growth;
pub mod guard;
pub mod index;
pub mod keeper;
pub mod lane;
pub mod lists;
pub mod quorum;
pub mod refresh;
pub mod roster;
#[cfg(test)]
mod samples;
pub mod shelf;
pub mod sweep;
pub mod tasks;
pub mod tls;
pub mod token;
pub mod unlisted;
pub mod view;
pub mod waiting;
pub mod watch;
pub mod watches;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Watch, What};
use crate::catalog::Form;
use crate::clock::Clock;
use crate::config::{CacheConfig, ConsulConfig, GuardConfig};
use crate::consul::backoff::Backoff;
use crate::consul::growth::Room;
use crate::consul::guard::Guard;
use crate::consul::keeper::Keeper;
use crate::consul::tasks::Tasks;
use crate::consul::watch::Pace;
use crate::demand::{Demand, Wanted};
use crate::metrics::Metrics;
use crate::publisher::Publisher;

pub use client::Client;

/// What has instances in a datacenter, in lower case: Consul tells names apart without regard to it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The datacenter's name.
    pub datacenter: String,
    /// What kind of name it is.
    pub form: Form,
    /// The service's name, or what else has instances.
    pub service: String,
}

impl Key {
    /// The key of what is registered, or was asked, as `service`.
    pub fn new(datacenter: &str, form: Form, service: &str) -> Self {
        let lower = str::to_ascii_lowercase;
        Self { datacenter: lower(datacenter), form, service: lower(service) }
    }

    /// The wish for it. As spelled here: the source's own.
    pub fn wanted(&self) -> Wanted {
        let Self { datacenter, form, service } = self.clone();
        Wanted::Service { datacenter, form, service }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { datacenter, form, service } = self;
        match form {
            Form::Service => write!(f, "{service} in {datacenter}"),
            Form::Peer => write!(f, "{service}.peer in {datacenter}"),
            Form::Connect | Form::Ingress | Form::Query => {
                write!(f, "{service}.{} in {datacenter}", form.as_str())
            }
        }
    }
}

/// What a watch follows.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Watched {
    /// All nodes of a datacenter.
    Nodes {
        /// Its name.
        datacenter: String,
    },
    /// The instances of a service.
    Service(Key),
    /// The prepared queries of a datacenter.
    Queries {
        /// Its name.
        datacenter: String,
    },
    /// The names of a datacenter's services.
    Services {
        /// Its name.
        datacenter: String,
    },
}

impl Watched {
    /// Where it is.
    pub fn datacenter(&self) -> &str {
        match self {
            Self::Nodes { datacenter }
            | Self::Queries { datacenter }
            | Self::Services { datacenter } => datacenter,
            Self::Service(key) => &key.datacenter,
        }
    }

    /// The line that it has on the board.
    pub fn line(&self) -> Watch {
        let what = match self {
            Self::Nodes { .. } => What::Nodes,
            Self::Queries { .. } => What::Queries,
            Self::Services { .. } => What::Services,
            Self::Service(Key { form, service, .. }) => {
                What::Instances { form: *form, service: service.clone() }
            }
        };
        Watch { datacenter: self.datacenter().to_ascii_lowercase(), what }
    }

    /// Whether it is one of a datacenter's lists.
    pub fn is_list(&self) -> bool {
        !matches!(self, Self::Service(_))
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes { datacenter } => write!(f, "the nodes of {datacenter}"),
            Self::Service(key) => write!(f, "the instances of {key}"),
            Self::Queries { datacenter } => write!(f, "the prepared queries of {datacenter}"),
            Self::Services { datacenter } => write!(f, "the services of {datacenter}"),
        }
    }
}

/// What the source works with.
#[derive(Debug)]
pub struct Parts {
    /// Asks Consul.
    pub client: Client,
    /// Publishes what Consul said.
    pub publisher: Publisher,
    /// What the listeners lack.
    pub demands: mpsc::Receiver<Demand>,
    /// All metrics.
    pub metrics: Metrics,
    /// Where the watches say how they stand.
    pub board: Arc<Board>,
    /// The clock that the answers are given.
    pub clock: Clock,
}

/// Keeps the catalogue fresh until cancelled.
pub async fn run(
    parts: Parts,
    config: &ConsulConfig,
    cache: &CacheConfig,
    guard: GuardConfig,
    cancel: CancellationToken,
) {
    let Parts { client, publisher, demands, metrics, board, clock } = parts;
    client.count_in(metrics.cost.clone());
    let backoff = Backoff { min: config.backoff_min, max: config.backoff_max };
    let pace = Pace { backoff, burst: ROUND_BURST, floor: ROUND_FLOOR, poll: POLL };
    let (sender, reports) = mpsc::channel(REPORTS_MAX);
    let tasks_cancel = cancel.child_token();
    let tasks = Tasks::new(client, metrics.clone(), board, pace, sender, tasks_cancel);
    let loaded = publisher.snapshot();
    let loaded = loaded.datacenters().map(|datacenter| datacenter.name.to_string());
    tasks.poll_datacenters(config.datacenter.clone(), loaded.collect());
    tasks.watch_quorum(guard.min_nodes);
    let room = Room {
        at_start: ROOM_AT_START,
        most: config.connections_max - config.connections_spare,
        streams: client::watches_max(config),
        // Consul holds a query for up to a sixteenth longer than asked.
        grows_after: config.wait + config.wait / 16,
        spare: config.connections_spare,
    };
    let guard = Guard::new(guard, metrics.guard.clone());
    let keeper = Keeper::new(publisher, metrics, clock, tasks.clone(), guard, cache, room);
    keeper.run(reports, demands, cancel).await;
    tasks.wait().await;
}

/// A service that changes eight times in a row, as one does that is being restarted, is followed
/// change by change. Consul's own advice is two; eight cost it no more in the long run.
const ROUND_BURST: u32 = 8;

/// Blocking queries in the first while. Consul lets 200 connections of one client in, and an
/// abandoned query keeps its connection until its wait is over: programs that are started again
/// and again must not add up to that, or other programs of the machine lose their agent too.
const ROOM_AT_START: usize = 16;

/// After that a watch goes round four times a second at most.
const ROUND_FLOOR: Duration = Duration::from_millis(250);

/// Where a reply has no index, so that the next query would not block.
const POLL: Duration = Duration::from_secs(1);

/// Reports that wait for the keeper; past it, the watches do.
const REPORTS_MAX: usize = 1024;
