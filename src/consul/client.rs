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

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::de::Error as _;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{self, Instant};
use tracing::{debug, info};

use crate::config::ConsulConfig;
use crate::consul::address::{Address, AddressError};
use crate::consul::fetch::{Answer, FetchError, fetch};
use crate::consul::index::{Index, Position};
use crate::consul::tls::{self, TlsError};
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
    /// Reads the body of a reply with status 200.
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
    /// Never empty.
    addresses: Vec<Address>,
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
        let secure = config.addresses.iter().any(Address::is_secure);
        let tls = if secure { tls::configured(config)? } else { tls::unused()? };
        let costs = Costs::default();
        let addresses = config
            .addresses
            .iter()
            .map(|address| Address::new(address, config, &tls, &costs))
            .collect::<Result<_, _>>()?;
        let http_auth = config.http_auth.as_ref().map(|auth| {
            let auth = auth.reveal();
            let (user, password) = auth.split_once(':').unwrap_or((auth, ""));
            (user.to_owned(), password.to_owned())
        });
        let watches = config.connections_max.saturating_sub(config.connections_spare);
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
            watches: Semaphore::new(watches.max(1)),
            spare: Semaphore::new(config.connections_spare.max(1)),
            costs,
        })))
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
            Some(after) if after.address == address => Terms::After(after.index),
            Some(_) | None => Terms::Start,
        };
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
        let addresses = &self.0.addresses;
        let first = self.0.current.load(Ordering::Relaxed);
        let mut failures = 0;
        loop {
            let address = (first + failures) % addresses.len();
            match self.0.attempt(ask, address, terms(address)).await {
                Ok(reply) => {
                    self.settle(first, address);
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
        let labels: Vec<_> = self.0.addresses.iter().map(Address::label).collect();
        labels.join(", ")
    }

    /// Stays with the address that works, unless another request has chosen one meanwhile.
    fn settle(&self, first: usize, address: usize) {
        let Shared { current, addresses, .. } = &*self.0;
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

    /// Asks one address once.
    async fn attempt<T: Send + 'static>(
        &self,
        ask: &Ask<T>,
        address: usize,
        terms: Terms,
    ) -> Result<Reply<T>, FetchError> {
        let deadline = match terms {
            // Consul holds a query for up to a sixteenth longer than asked.
            Terms::After(_) => self.wait + self.wait / 16 + self.timeout,
            Terms::Leaderless | Terms::Start => self.timeout,
        };
        let lease = self.addresses[address].lease();
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
            let answer = fetch(request, deadline, self.response_bytes_max).await?;
            let Answer { body, index, known_leader, last_contact_ms, arrived } = answer;
            if known_leader == Some(false) && !terms.believe(last_contact_ms) {
                return Err(FetchError::NoLeader);
            }
            let bytes = body.len();
            let value = parse(ask.parse, body).await?;
            Ok(Reply { value, index, known_leader, last_contact_ms, address, bytes, arrived })
        };
        let read = reading.await.map_err(|error| self.without_secrets(error, token.as_ref()));
        if let Some(costs) = self.costs.get() {
            costs.count(ask.endpoint, read.as_ref().ok().map(|reply| reply.bytes));
        }
        read
    }

    /// Whoever answers in Consul's stead may send back what it was sent, so the beginning of an
    /// error's text is kept without it.
    fn without_secrets(&self, error: FetchError, token: Option<&HeaderValue>) -> FetchError {
        match error {
            // JSON that is whole, but of another type, is quoted in the error.
            FetchError::Body(source) if source.is_data() => {
                let text = self.without_secret(source.to_string(), token);
                FetchError::Body(serde_json::Error::custom(text))
            }
            FetchError::Status { status, body } => {
                FetchError::Status { status, body: self.without_secret(body, token) }
            }
            error => error,
        }
    }

    fn without_secret(&self, text: String, token: Option<&HeaderValue>) -> String {
        // Basic authentication travels in another spelling, which is not worth knowing here.
        if self.http_auth.is_some() {
            return "…".to_owned();
        }
        let text = match token.and_then(|token| token.to_str().ok()) {
            Some(token) => text.replace(token, "…"),
            None => text,
        };
        text.chars().take(CHARS_SHOWN).collect()
    }

    fn url<T>(&self, ask: &Ask<T>, address: usize, terms: Terms) -> Url {
        let mut url = self.addresses[address].url(&ask.path);
        let Scope::Datacenter(datacenter) = &ask.scope else { return url };

        let mut query = url.query_pairs_mut();
        // Watches ask with an index all day long, and any server may answer them, as for Consul's
        // own DNS: the leader would be a bottleneck.
        query.append_key_only(match terms {
            Terms::After(_) | Terms::Leaderless => "stale",
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
        if let Terms::After(index) = terms {
            query.append_pair("index", &index.get().to_string());
            query.append_pair("wait", &format!("{}ms", self.wait.as_millis()));
        }
        drop(query);
        url
    }
}

/// From where something is asked, and who may answer it.
#[derive(Clone, Copy, Debug)]
enum Terms {
    /// What changes after it, from any server.
    After(Index),
    /// What is there, from a server that has lost its leader.
    Leaderless,
    /// What is there, from the leader once it has read its whole log.
    Start,
}

impl Terms {
    /// Whether a server without a leader is believed that heard of its last one so long ago.
    ///
    /// One that has met none since its start has not read its log yet. 1.8.7 then answers with 500,
    /// and the time would be that since the year 1; one that met it just now may be reading still.
    fn believe(self, last_contact_ms: Option<u64>) -> bool {
        matches!(self, Self::Leaderless)
            && last_contact_ms.is_some_and(|ms| LEADER_LOST_MS.contains(&ms))
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
        let labels: Vec<_> = self.0.addresses.iter().map(Address::label).collect();
        f.debug_struct("Client").field("addresses", &labels).finish_non_exhaustive()
    }
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

/// How long ago a server may have lost the leader to be asked in its stead: 5 s to ten years.
const LEADER_LOST_MS: RangeInclusive<u64> = 5_000..=315_360_000_000;

/// As much of an error's text as is worth a log line.
const CHARS_SHOWN: usize = 200;

/// Above this, JSON takes longer than a runtime's thread should be kept from other tasks.
const PARSE_HERE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
