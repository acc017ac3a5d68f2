//! One request to one address of Consul, bounded in time and in bytes.
//!
//! ```text
//!   200  -> headers and the whole body, still as bytes
//!   429  -> the same, where the endpoint reports so that something is unwell, and says what
//!   else -> a FetchError; the headers of an error are not read: Consul 1.8.7 sends
//!           X-Consul-Index: 1 with its 500s
//! ```
//! Knows nothing of JSON, of other addresses, or of what is asked.

use std::cell::Cell;
use std::io;
use std::io::ErrorKind;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response, StatusCode, Version};
use thiserror::Error;
use tokio::time::{self, Instant};

use crate::consul::index::Index;

/// What Consul sent as its reply, complete.
#[derive(Debug)]
pub struct Answer {
    /// Not empty by rule: a reply of no bytes is for the parser to refuse.
    pub body: Vec<u8>,
    /// `None` where the endpoint does not block.
    pub index: Option<Index>,
    /// False while the cluster has no leader; `None` where the endpoint does not say.
    pub known_leader: Option<bool>,
    /// How long ago the answering server heard of the leader.
    pub last_contact_ms: Option<u64>,
    /// Whether the token may not read all that there is. Consul before 1.11 never says so, and none
    /// does to whoever has no token.
    pub is_filtered: bool,
    /// When the last byte of the body was in.
    pub arrived: Instant,
    /// Whether a connection was opened for it.
    pub is_first: bool,
    /// Which HTTP it came in.
    pub version: Version,
}

/// Why a request to Consul brought nothing.
///
/// Nothing here is fatal: watches retry them all, a single question goes without. They differ
/// for the log, for the metrics, and for whether another address is worth a try.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FetchError {
    #[error("cannot read consul's reply as JSON")]
    Body(#[source] serde_json::Error),
    #[error("cannot reach consul")]
    Connect(#[source] reqwest::Error),
    #[error("consul's reply ends too early")]
    Cut(#[source] reqwest::Error),
    /// All places for such requests were taken all the while.
    #[error("no request to consul could begin within {} ms", after.as_millis())]
    Crowded { after: Duration },
    /// No byte of a reply.
    #[error("consul broke off before it replied")]
    Exchange(#[source] reqwest::Error),
    /// A reply with status 200 from a server without a leader. Such a server may know nothing
    /// yet, just after its start, so it is not believed.
    #[error("consul has no leader")]
    NoLeader,
    /// A connection that was opened for this and closed at once: what Consul 1.8.7 does past its
    /// `http_max_conns_per_client`.
    #[error("consul closed a new connection before it replied")]
    Refused(#[source] reqwest::Error),
    #[error("reading consul's reply was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// `body` is the beginning of Consul's text, without control characters; `retry_after` is how
    /// long it wants to be left alone, if it says so.
    #[error("consul answered with status {status}: {body:?}")]
    Status { status: u16, body: String, retry_after: Option<Duration> },
    #[error("consul did not reply within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("consul's reply is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

impl FetchError {
    /// The word for this failure in metrics. One of ten.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Body(_) => "body",
            Self::Connect(_) => "connect",
            Self::Crowded { .. } => "crowded",
            Self::Cut(_) => "cut",
            Self::Exchange(_) | Self::Refused(_) => "exchange",
            Self::Interrupted(_) => "interrupted",
            Self::NoLeader => "no_leader",
            Self::Status { .. } => "status",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// Whether another address may do better.
    ///
    /// Consul documents 429 as "try a different server". Its other 4xx, a wrong token say, and
    /// a reply that is too large are the same everywhere.
    pub fn is_of_address(&self) -> bool {
        match self {
            Self::Body(_)
            | Self::Connect(_)
            | Self::Cut(_)
            | Self::Exchange(_)
            | Self::NoLeader
            | Self::Refused(_)
            | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::Crowded { .. } | Self::Interrupted(_) | Self::TooLarge { .. } => false,
        }
    }

    /// How long Consul, or a proxy before it, wants to be left alone (RFC 9110 §10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether Consul let a new connection in no further than to close it. Over TLS that is before
    /// the handshake, so that none is known to have been opened. A newer one says why.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Connect(error) => is_broken_off(error),
            Self::Refused(_) => true,
            Self::Status { status: 429, body, .. } => body.starts_with(TOO_MANY_CONNECTIONS),
            _ => false,
        }
    }

    /// Whether the connection is of no use any more.
    pub fn is_of_connection(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Cut(_) | Self::Exchange(_) | Self::Refused(_))
    }

    /// Whether this is what a cluster without a leader says to a question from the beginning.
    pub fn is_of_leader(&self) -> bool {
        match self {
            Self::NoLeader | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether Consul will not tell of this one thing, however often it is asked: it cannot read the
    /// name, or the token has no right to it. An unknown token, a login that lacks and a pause that
    /// is wanted say nothing of the thing.
    pub fn is_of_name(&self) -> bool {
        let Self::Status { status, body, .. } = self else { return false };
        match status {
            401 | 407 | 408 | 425 | 429 => false,
            403 => body.contains(PERMISSION_DENIED),
            status => (400..500).contains(status),
        }
    }

    /// The message with those of its sources, for a log line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// Sends `request` and reads the reply, within `deadline` and `bytes_max`. With `may_report`, a
/// JSON object that comes with status 429 is a reply too.
///
/// # Errors
///
/// Those of the exchange; none shows the URL, whose parameters may name more than a log should.
pub async fn fetch(
    request: RequestBuilder,
    deadline: Duration,
    bytes_max: usize,
    may_report: bool,
) -> Result<Answer, FetchError> {
    let fetching = async {
        match time::timeout(deadline, exchange(request, bytes_max, may_report)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout { after: deadline }),
        }
    };
    OPENED.scope(Cell::new(false), fetching).await
}

/// Notes that the request which is being sent has opened a connection.
pub fn note_opened() {
    // One that was opened and is not needed any more is nobody's.
    OPENED.try_with(|opened| opened.set(true)).ok();
}

async fn exchange(
    request: RequestBuilder,
    bytes_max: usize,
    may_report: bool,
) -> Result<Answer, FetchError> {
    let begun = Instant::now();
    let mut response = request.send().await.map_err(|error| {
        let error = error.without_url();
        let is_at_once = OPENED.with(Cell::get) && begun.elapsed() < AT_ONCE;
        match error.is_connect() {
            true => FetchError::Connect(error),
            false if is_at_once && is_broken_off(&error) => FetchError::Refused(error),
            false => FetchError::Exchange(error),
        }
    })?;
    let mut body = Vec::new();
    if response.status() != StatusCode::OK {
        let may_report = may_report && response.status() == StatusCode::TOO_MANY_REQUESTS;
        if may_report {
            body.extend(response.chunk().await.map_err(cut)?.unwrap_or_default());
        }
        // That there are too many connections, or requests, is said in words.
        if !may_report || body.first() != Some(&b'{') {
            return Err(status(response, body).await);
        }
    }

    // The length is the sender's word; it saves reading a body that says it is too large.
    if response.content_length().is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(FetchError::TooLarge { bytes_max });
    }
    while let Some(chunk) = response.chunk().await.map_err(cut)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge { bytes_max });
        }
        body.extend_from_slice(&chunk);
    }

    let headers = response.headers();
    Ok(Answer {
        body,
        index: text(headers, "x-consul-index").and_then(Index::from_header),
        known_leader: text(headers, "x-consul-knownleader").and_then(|text| text.parse().ok()),
        last_contact_ms: text(headers, "x-consul-lastcontact").and_then(|text| text.parse().ok()),
        is_filtered: text(headers, "x-consul-results-filtered-by-acls") == Some("true"),
        arrived: Instant::now(),
        is_first: OPENED.with(Cell::get),
        version: response.version(),
    })
}

/// Reads as much of an error's body as is worth a log line, after the `bytes` that were read.
async fn status(mut response: Response, mut bytes: Vec<u8>) -> FetchError {
    let status = response.status().as_u16();
    let retry_after = text(response.headers(), "retry-after").and_then(|text| text.parse().ok());
    let retry_after = retry_after.map(|secs: u64| RETRY_AFTER_MAX.min(Duration::from_secs(secs)));
    while bytes.len() < STATUS_BODY_BYTES {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(STATUS_BODY_BYTES);
    let body = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    FetchError::Status { status, body, retry_after }
}

/// Whether the other side closed the connection, rather than saying something.
fn is_broken_off(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)) {
            return true;
        }
        // hyper's own error has no kind that another crate could ask for.
        if matches!(&*error.to_string(), CLOSED | CANCELED) {
            return true;
        }
        source = error.source();
    }
    false
}

fn cut(error: reqwest::Error) -> FetchError {
    FetchError::Cut(error.without_url())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

tokio::task_local! {
    /// Whether the request that is being sent has opened a connection.
    static OPENED: Cell<bool>;
}

/// Consul's text where a token lacks a right. One that it does not know at all is `ACL not found`.
const PERMISSION_DENIED: &str = "Permission denied";

/// What a Consul says that lets no more connections of ours in, before it closes.
const TOO_MANY_CONNECTIONS: &str = "Your IP is issuing too many concurrent connections";

/// Before the first byte of a reply, and before the request was sent.
const CLOSED: &str = "connection closed before message completed";
const CANCELED: &str = "operation was canceled";

/// A connection that lives longer was let in.
const AT_ONCE: Duration = Duration::from_secs(1);

/// More than is shown: what is to be hidden is looked for first, and must not be cut through.
const STATUS_BODY_BYTES: usize = 8 * 1024;

/// Longer would be an outage of its own.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
