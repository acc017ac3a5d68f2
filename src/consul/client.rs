//! Asks Consul: which address, with which token and parameters, within which budget.
//!
//! ```text
//!   Ask<T> --> address in use --fails--> next address --> ... --> the last failure
//!                   \--works--> Reply<T>, with the address that gave it
//! ```
//! The address that works stays in use. **Invariant:** an index is sent to no address but the
//! one that it came from; asked elsewhere, a question is asked from the beginning.
//!
//! **Invariant:** a question from the beginning is `consistent`, one with an index `stale`. A server
//! that has just been restarted replays its log, and answers both `stale` and plain questions from
//! the part that it has, with status 200 and a leader (seen on 1.8.7). A consistent question waits
//! for the whole; one with an index is held until the server has come that far.
//!
//! Requests open at once are bounded, those of watches and all others apart: fetches must not queue
//! behind watches that are held for a minute, nor behind all watches that start over. Consul's
//! agent closes connections past 200 of one client without a word, and then for other programs
//! of this machine too.
//!
//! Knows nothing of what the JSON means; that comes with the [`Ask`].

pub mod secrets;
pub mod terms;

use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Url;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use crate::config::ConsulConfig;
use crate::consul::address::{Address, AddressError};
use crate::consul::addresses::Addresses;
use crate::consul::client::terms::Terms;
use crate::consul::fetch::{Answer, FetchError, fetch};
use crate::consul::index::{Index, Position};
use crate::consul::lane::Leased;
use crate::consul::tls::TlsError;
use crate::consul::token::{Token, TokenError};
use crate::metrics::CostMetrics;

/// Talks to Consul. Cheap to clone; clones share connections, budget and the address in use.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

/// A question to Consul, with how to read what comes back.
pub struct Ask<T> {
    /// What is counted: one of a fixed set of words, whatever is asked about.
    pub endpoint: &'static str,
    /// The segments of the path, not encoded.
    pub path: Vec<String>,
    /// Whom it is about.
    pub scope: Scope,
    /// The cluster peer that exports it; `None` for what is the datacenter's own.
    pub peer: Option<String>,
    /// For whom it is asked, where the answer depends on that. Consul takes it from the header that
    /// proxies set.
    pub client: Option<IpAddr>,
    /// Whether Consul reports with status 429 too, where all is not well.
    pub may_report: bool,
    /// Reads the body of a reply.
    pub parse: fn(&[u8]) -> Result<T, serde_json::Error>,
}

/// Whom a question is about; decides on its parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The agent, or all datacenters.
    Agent,
    /// One datacenter; `None` is the configured one, else the agent's own.
    Datacenter(Option<String>),
}

/// Among which requests one counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Those that come and go: fetches and polls.
    Spare,
    /// A watch's own, whether it is a round that blocks or not.
    Watch,
}

/// What Consul said.
#[derive(Clone, Debug)]
pub struct Reply<T> {
    /// The body, read.
    pub value: T,
    /// Where Consul's history stood; `None` where the endpoint does not block.
    pub index: Option<Index>,
    /// False while the cluster has no leader; `None` where the endpoint does not say.
    pub known_leader: Option<bool>,
    /// How long ago the answering server heard of the leader.
    pub last_contact_ms: Option<u64>,
    /// Whether it leaves out what the token may not read. Consul says so from 1.11 on.
    pub is_filtered: bool,
    /// How long Consul was asked to hold the question; `None` where it was to answer at once.
    pub wait: Option<Duration>,
    /// The place in the configured list of the address that replied, from 0.
    pub address: usize,
    /// The length of the body.
    pub bytes: usize,
    /// When the last byte of the body was in.
    pub arrived: Instant,
}

/// Where it is counted what we cost Consul; empty until somebody wants to know.
pub type Costs = Arc<OnceLock<CostMetrics>>;

/// Why there is no client. For the operator to mend.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SetupError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

struct Shared {
    addresses: Addresses,
    /// The address to ask first.
    current: AtomicUsize,
    token: Token,
    /// User and password.
    http_auth: Option<(String, String)>,
    datacenter: Option<String>,
    namespace: Option<String>,
    partition: Option<String>,
    wait: Duration,
    timeout: Duration,
    response_bytes_max: usize,
    watches: Semaphore,
    spare: Semaphore,
    /// When it was made.
    since: Instant,
    /// Whether no query is to be held any more.
    has_ended: AtomicBool,
    /// Whether the last reply was a stream of a connection that has many.
    has_streams: AtomicBool,
    /// Whether the log knows that Consul hides something.
    is_filtered: AtomicBool,
    /// New connections in a row that were closed at once.
    refusals: AtomicUsize,
    /// Counts what we cost Consul, once there is somebody who wants to know.
    costs: Costs,
}

impl Client {
    /// Reads certificates and token; opens no connection.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be read, or when an address is none.
    pub fn new(config: &ConsulConfig) -> Result<Self, SetupError> {
        let costs = Costs::default();
        let addresses = Addresses::new(config, Arc::clone(&costs))?;
        let http_auth = config.http_auth.as_ref().map(|auth| {
            let auth = auth.reveal();
            let (user, password) = auth.split_once(':').unwrap_or((auth, ""));
            (user.to_owned(), password.to_owned())
        });
        let watches = watches_max(config);
        Ok(Self(Arc::new(Shared {
            addresses,
            current: AtomicUsize::new(0),
            token: Token::new(config.token.as_ref(), config.token_file.as_deref())?,
            http_auth,
            datacenter: config.datacenter.clone(),
            namespace: config.namespace.clone(),
            partition: config.partition.clone(),
            wait: config.wait,
            timeout: config.timeout,
            response_bytes_max: config.response_bytes_max,
            watches: Semaphore::new(watches),
            spare: Semaphore::new(config.connections_spare.max(1)),
            since: Instant::now(),
            has_ended: AtomicBool::new(false),
            has_streams: AtomicBool::new(false),
            is_filtered: AtomicBool::new(false),
            refusals: AtomicUsize::new(0),
            costs,
        })))
    }

    /// Whether what was asked last was a stream of a connection that has many.
    pub fn has_streams(&self) -> bool {
        self.0.has_streams.load(Ordering::Relaxed)
    }

    /// Whether Consul lets no more connections in, as far as was seen since it was asked last. One
    /// may be closed for another reason; two in a row, and none let in between, are the limit.
    pub fn take_refusals(&self) -> bool {
        let refusals = self.0.refusals.load(Ordering::Relaxed);
        let is_refused = refusals >= REFUSALS_MIN;
        if is_refused {
            self.0.refusals.store(0, Ordering::Relaxed);
        }
        is_refused
    }

    /// Lets no further query be held: it would keep its place at Consul after our end.
    pub fn hold_no_more(&self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }

    /// Counts in `metrics` what is asked from here on. The first to say so counts.
    pub fn count_in(&self, metrics: CostMetrics) {
        self.0.costs.set(metrics).ok();
    }

    /// Asks until an address replies, each once, the one in use first.
    ///
    /// With `after`, Consul holds the reply until something changed, or for the configured wait;
    /// without, it replies at once. Compare [`Reply::address`] with what was asked after.
    ///
    /// # Errors
    ///
    /// The failure of the address asked last, or that no place was free in time. To be retried.
    pub async fn read<T: Send + 'static>(
        &self,
        ask: &Ask<T>,
        after: Option<Position>,
        place: Place,
    ) -> Result<Reply<T>, FetchError> {
        let terms = |address| match after {
            Some(after) if after.address == address => Terms::After(after.index, self.0.wait()),
            Some(_) | None => Terms::Start,
        };
        if after.is_some() && self.0.has_ended.load(Ordering::Relaxed) {
            // Whoever asks is about to end too.
            std::future::pending::<()>().await;
        }
        self.ask_around(ask, place, terms).await
    }

    /// Asks for what is left in a cluster that has lost its leader, of no use where there is one.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub async fn read_leaderless<T: Send + 'static>(
        &self,
        ask: &Ask<T>,
        place: Place,
    ) -> Result<Reply<T>, FetchError> {
        self.ask_around(ask, place, |_| Terms::Leaderless).await
    }

    async fn ask_around<T: Send + 'static>(
        &self,
        ask: &Ask<T>,
        place: Place,
        terms: impl Fn(usize) -> Terms,
    ) -> Result<Reply<T>, FetchError> {
        let _place = self.0.take(place).await?;
        let addresses = self.0.addresses.current();
        let first = self.0.current.load(Ordering::Relaxed);
        let mut failures = 0;
        loop {
            let address = (first + failures) % addresses.len();
            match self.0.attempt(ask, (address, &addresses[address]), terms(address)).await {
                Ok(reply) => {
                    self.settle(first, address, &addresses);
                    return Ok(reply);
                }
                Err(error) if error.is_of_address() && failures + 1 < addresses.len() => {
                    failures += 1;
                    let address = addresses[address].label();
                    debug!(
                        address,
                        error = error.chain(),
                        "consul address failed, trying the next"
                    );
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The addresses in the order in which they are tried, for a log line.
    pub fn labels(&self) -> String {
        let addresses = self.0.addresses.current();
        addresses.iter().map(Address::label).collect::<Vec<_>>().join(", ")
    }

    /// Stays with the address that works, unless another request has chosen one meanwhile.
    fn settle(&self, first: usize, address: usize, addresses: &[Address]) {
        let current = &self.0.current;
        let settled = first != address
            && current
                .compare_exchange(first, address, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if settled {
            let (from, to) = (addresses[first].label(), addresses[address].label());
            info!(from, to, "consul address changed");
        }
    }
}

impl Shared {
    /// Waits for a place, for no longer than for a reply.
    async fn take(&self, place: Place) -> Result<SemaphorePermit<'_>, FetchError> {
        let places = match place {
            Place::Spare => &self.spare,
            Place::Watch => &self.watches,
        };
        // The semaphores are never closed, so that only time can run out.
        match time::timeout(self.timeout, places.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(FetchError::Crowded { after: self.timeout }),
        }
    }

    /// How long the next query is to be held.
    fn wait(&self) -> Duration {
        terms::wait(self.wait, self.since.elapsed(), fastrand::f64())
    }

    /// Learns from a reply, or from its absence, what the connections are like.
    fn note(&self, endpoint: &str, lease: &Leased<'_>, answer: &Result<Answer, FetchError>) {
        match answer {
            Ok(answer) => {
                if let Some(costs) = self.costs.get() {
                    costs.set_filtered(endpoint, answer.is_filtered);
                }
                if answer.is_filtered && !self.is_filtered.swap(true, Ordering::Relaxed) {
                    warn!(endpoint, "consul hides from the token what it may not read");
                }
                self.has_streams.store(lease.note(answer.version), Ordering::Relaxed);
                if answer.is_first {
                    self.refusals.store(0, Ordering::Relaxed);
                }
            }
            Err(error) if error.is_refusal() => {
                self.costs.get().iter().for_each(|costs| costs.refusals.inc());
                // A proxy whose Consul is gone closes new connections too, and all others.
                if lease.has_held() {
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                }
                lease.forget();
            }
            Err(error) if error.is_of_connection() => {
                self.refusals.store(0, Ordering::Relaxed);
                lease.forget();
            }
            Err(_) => (),
        }
    }

    /// Asks one address once.
    async fn attempt<T: Send + 'static>(
        &self,
        ask: &Ask<T>,
        (place, address): (usize, &Address),
        terms: Terms,
    ) -> Result<Reply<T>, FetchError> {
        let deadline = terms.deadline(self.timeout);
        let crowded = |_| FetchError::Crowded { after: self.timeout };
        let leasing = time::timeout(self.timeout, address.lease());
        let mut lease = leasing.await.map_err(crowded)?;
        let token = self.token.header();
        let mut request = lease.http().get(self.url(ask, address, terms));
        if let Some(token) = &token {
            request = request.header("X-Consul-Token", token);
        }
        if let Some(client) = ask.client {
            request = request.header("X-Forwarded-For", client.to_string());
        }
        if let Some((user, password)) = &self.http_auth {
            request = request.basic_auth(user, Some(password));
        }
        let reading = async {
            let mut fetching =
                pin!(fetch(request, deadline, self.response_bytes_max, ask.may_report));
            let answer = match time::timeout(SETTLED, &mut fetching).await {
                Ok(answer) => answer,
                Err(_) => {
                    lease.settle();
                    fetching.await
                }
            };
            self.note(ask.endpoint, &lease, &answer);
            let Answer { body, index, known_leader, last_contact_ms, is_filtered, arrived, .. } =
                answer?;
            let is_denied = terms.is_denied(ask.endpoint, index, &body);
            let known_leader = known_leader.filter(|_| !is_denied);
            if known_leader == Some(false) && !terms.believe(last_contact_ms) {
                return Err(FetchError::NoLeader);
            }
            let bytes = body.len();
            let value = parse(ask.parse, body).await?;
            let address = place;
            Ok(Reply {
                value,
                index,
                known_leader,
                last_contact_ms,
                is_filtered,
                wait: terms.wait(),
                address,
                bytes,
                arrived,
            })
        };
        let read = reading.await.map_err(|error| self.without_secrets(error, token.as_ref()));
        if let Some(costs) = self.costs.get() {
            costs.count(ask.endpoint, read.as_ref().ok().map(|reply| reply.bytes));
        }
        read
    }

    fn url<T>(&self, ask: &Ask<T>, address: &Address, terms: Terms) -> Url {
        let mut url = address.url(&ask.path);
        let Scope::Datacenter(datacenter) = &ask.scope else { return url };

        let mut query = url.query_pairs_mut();
        // Watches ask with an index all day long, and any server may answer them, as for Consul's
        // own DNS: the leader would be a bottleneck.
        query.append_key_only(match terms {
            Terms::After(..) | Terms::Leaderless => "stale",
            Terms::Start => "consistent",
        });
        for (key, value) in [
            ("dc", datacenter.as_ref().or(self.datacenter.as_ref())),
            ("ns", self.namespace.as_ref()),
            ("partition", self.partition.as_ref()),
            ("peer", ask.peer.as_ref()),
        ] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        if let Terms::After(index, wait) = terms {
            query.append_pair("index", &index.get().to_string());
            query.append_pair("wait", &format!("{}ms", wait.as_millis()));
        }
        drop(query);
        url
    }
}

impl<T> Reply<T> {
    /// Where to go on from; `None` where the endpoint does not block.
    pub fn position(&self) -> Option<Position> {
        self.index.map(|index| Position { address: self.address, index })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("addresses", &self.labels()).finish_non_exhaustive()
    }
}

/// How many watches there may be at most. Whether requests really are streams is seen later.
pub fn watches_max(config: &ConsulConfig) -> usize {
    let is_secure = config.addresses.iter().all(Address::is_secure);
    let all = if is_secure { config.streams_max } else { config.connections_max };
    all.saturating_sub(config.connections_spare).max(1)
}

/// Parses here what is small, and what is large on a thread that may take its time.
async fn parse<T: Send + 'static>(
    parse: fn(&[u8]) -> Result<T, serde_json::Error>,
    body: Vec<u8>,
) -> Result<T, FetchError> {
    let parsed = match body.len() > PARSE_HERE_BYTES_MAX {
        true => spawn_blocking(move || parse(&body)).await.map_err(FetchError::Interrupted)?,
        false => parse(&body),
    };
    parsed.map_err(FetchError::Body)
}

/// Within this time a connection is open, if it ever will be.
const SETTLED: Duration = Duration::from_secs(1);

/// New connections closed at once, in a row, that are no accident.
const REFUSALS_MIN: usize = 2;

/// Above this, JSON takes longer than a runtime's thread should be kept from other tasks.
const PARSE_HERE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
