//! DNS over HTTPS (RFC 8484) by HTTP/2 and HTTP/1.1: one connection and its limits.
//!
//! ```text
//!   request  -->  exchange: where is its query?  -->  answered at once, or when something came
//!   response <--  exchange: what is said of it?  <--  a reply, or a status
//! ```
//! hyper reads and writes HTTP. What it leaves to others is here: which version is spoken, how many
//! bytes are held, and what ends a connection. Each request by HTTP/2 has a task of its own.
//!
//! **Invariant:** whatever ends a connection in order, requests whose head was read are answered
//! first. Of bodies it holds what flow control lets in and `BODY_SHORT` of each, and one that is
//! longer; of replies those of `send_bytes_max`, and one more for each that is made at once.

mod carrier;
mod frames;
mod traffic;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::answer::Draft;
use crate::config::ConnectionsConfig;
use crate::dns::exchange::{self, Body, Carried};
use crate::dns::front::{Begun, Front};
use crate::dns::https::carrier::Carrier;
use crate::dns::https::frames::Frames;
use crate::dns::https::traffic::{Open, Traffic};
use crate::dns::peer::Peer;
use crate::dns::places::Place;
use crate::metrics::{End, Tally};

/// What is served on a connection, and to whom.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The path of its URL.
    pub path: Arc<str>,
    /// What it answers from.
    pub front: Front,
    /// Where that is counted.
    pub tally: Tally,
    /// Who asks.
    pub peer: Peer,
    /// Bounds on the connection.
    pub limits: ConnectionsConfig,
}

/// Serves one connection until something ends it. The handshake chose the version of HTTP.
pub async fn serve<S>(stream: TlsStream<S>, resource: Resource, place: &Place) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // RFC 9113 §3.2: there is no other way to HTTP/2 over TLS.
    let has_frames = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (front, limits) = (resource.front.clone(), resource.limits);
    let traffic = Traffic::new(has_frames.then(Frames::new), limits, place.marker());
    let traffic = Arc::new(traffic);
    let desk = Arc::new(Desk::new(resource, &traffic));
    let service = service_fn(move |request| {
        // Noted now, not when a task first runs.
        let (desk, open) = (Arc::clone(&desk), desk.traffic.open());
        async move { Ok::<_, Infallible>(desk.respond(request, open).await) }
    });
    let carrier = TokioIo::new(Carrier::new(stream, Arc::clone(&traffic)));
    let http = http(has_frames, &limits, &front);
    let mut connection = pin!(http.serve_connection(carrier, service));
    let mut told = pin!(async {
        tokio::select! {
            () = place.crowded() => End::Crowded,
            () = front.cancel.cancelled() => End::Stopped,
        }
    });
    let mut timer = pin!(sleep(limits.idle));
    let mut ending = None;
    let end = poll_fn(|cx| {
        loop {
            // Before all else, so that what has come is read before it is told to stop.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                let ending = ending.or_else(|| traffic.end().filter(|_| ended.is_ok()));
                return Poll::Ready(ending.unwrap_or_else(|| reason(ended)));
            }
            let ((due, late), telling) = match ending {
                None => (traffic.deadline(), told.as_mut().poll(cx)),
                Some(ending) => (traffic.last_deadline(ending), Poll::Pending),
            };
            let end = match telling {
                Poll::Ready(end) => end,
                Poll::Pending if due <= Instant::now() => late,
                Poll::Pending => {
                    timer.as_mut().reset(due);
                    ready!(timer.as_mut().poll(cx));
                    late
                }
            };
            // Nothing can be said to one that does not read.
            if ending.is_some() || end == End::Unread {
                return Poll::Ready(end);
            }
            ending = Some(end);
            connection.as_mut().graceful_shutdown();
        }
    });
    let end = end.await;
    traffic.close();
    if end == End::Unread {
        front.metrics.dns.send_failures.inc();
    }
    end
}

/// What answers the requests of one connection.
#[derive(Debug)]
struct Desk {
    resource: Resource,
    traffic: Arc<Traffic>,
    /// As many queries as are answered at once.
    turns: Semaphore,
    /// Turns of those that are no usual queries.
    long_bodies: Semaphore,
}

/// A query that was received whole.
struct Collected<'d> {
    query: Vec<u8>,
    _long: Option<SemaphorePermit<'d>>,
}

impl Desk {
    fn new(resource: Resource, traffic: &Arc<Traffic>) -> Self {
        let turns = Semaphore::new(resource.limits.pipeline_max);
        let long_bodies = Semaphore::new(LONG_BODIES_MAX);
        Self { resource, traffic: Arc::clone(traffic), turns, long_bodies }
    }

    async fn respond(&self, request: Request<Incoming>, open: Open) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let carried = Carried::find(&head, &self.resource.path);
        let (method, version) = (head.method.clone(), head.version);
        let has_body = !body.is_end_stream();
        // A URL and headers may be many times what is in them.
        drop(head);
        let answered = match carried {
            Ok(carried) => self.answer(carried, body, open.since).await,
            Err(status) => {
                self.pass_over(body, version);
                Err(status)
            }
        };
        // Where a body is not read to its end, nothing can be read behind it.
        let is_last = self.traffic.end().is_some() || has_body && answered.is_err();
        let mut response = match answered {
            Ok(draft) => exchange::respond(&method, draft),
            Err(status) => exchange::refuse(status),
        };
        if !response.status().is_success() {
            let connections = &self.resource.front.metrics.dns.connections;
            connections.count_refused(self.resource.peer.transport, response.status().as_u16());
        }
        if version < Version::HTTP_2 && is_last {
            // It has no other way to say that the next request goes elsewhere.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Full::new(self.traffic.send(body)))
    }

    /// Lets the rest of a refused request come, where that is short: its stream is reset when nobody
    /// takes it, and some clients then drop the response that they had (RFC 9113 §8.1).
    fn pass_over(&self, mut body: Incoming, version: Version) {
        if version < Version::HTTP_2 || body.is_end_stream() {
            return;
        }
        let front = &self.resource.front;
        let deadline = Instant::now() + self.resource.limits.message_timeout;
        let passing = timeout_at(deadline, async move {
            let mut bytes = 0;
            while let Some(Ok(frame)) = body.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > PASSED_OVER_MAX {
                    return;
                }
            }
        });
        let cancel = front.cancel.clone();
        front.tasks.spawn(cancel.run_until_cancelled_owned(passing));
    }

    /// Answers the query of a request that began to come at `since`.
    ///
    /// # Errors
    ///
    /// Gives the status that says why there is none to answer.
    async fn answer(
        &self,
        carried: Carried,
        body: Incoming,
        mut since: Instant,
    ) -> Result<Draft, StatusCode> {
        let mut turn = self.turns.try_acquire().ok();
        if turn.is_none() {
            self.resource.front.metrics.dns.connections.pipeline_full.inc();
            turn = self.turns.acquire().await.ok();
            // Its body was not asked for until now.
            since = Instant::now();
        }
        let collected = match carried {
            Carried::InBody(query) => self.collect(query, body, since).await?,
            Carried::InUrl(query) => Collected { query, _long: None },
        };
        self.traffic.room().await?;
        let draft = self.reply(&collected.query).await;
        drop(turn);
        Ok(draft)
    }

    /// Reads a body that is whole in time.
    async fn collect(
        &self,
        mut query: Body,
        mut body: Incoming,
        since: Instant,
    ) -> Result<Collected<'_>, StatusCode> {
        let collecting = async {
            let mut long = None;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
                query.push(frame.data_ref().map_or(&[][..], |bytes| bytes))?;
                if query.len() > BODY_SHORT && long.is_none() {
                    long = self.long_bodies.acquire().await.ok();
                }
            }
            Ok(Collected { query: query.finish()?, _long: long })
        };
        let deadline = since + self.resource.limits.message_timeout;
        timeout_at(deadline, collecting).await.unwrap_or_else(|_| {
            self.traffic.note_late();
            Err(StatusCode::REQUEST_TIMEOUT)
        })
    }

    async fn reply(&self, query: &[u8]) -> Draft {
        let Resource { front, tally, peer, .. } = &self.resource;
        let (since, mut draft) = (Instant::now(), Draft::default());
        if let Begun::Waits { waiting, now_ms } = front.begin(query, peer, tally, since, &mut draft)
        {
            let _fetching = self.traffic.fetch();
            draft = front.complete(waiting, query, peer, tally, (since, now_ms)).await;
        }
        // What is no query is none of use either.
        if !draft.reply.is_empty() {
            self.traffic.note_use();
        }
        draft
    }
}

/// Runs the requests of HTTP/2.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, request: F) {
        self.0.spawn(request);
    }
}

/// HTTP within our bounds. Times are not among them: they are `traffic`'s.
fn http(has_frames: bool, limits: &ConnectionsConfig, front: &Front) -> Builder<Tasks> {
    let http = Builder::new(Tasks(front.tasks.clone()));
    let mut http = if has_frames { http.http2_only() } else { http.http1_only() };
    http.http1().half_close(true).header_read_timeout(None).max_buf_size(HEAD_MAX);
    let streams = limits.pipeline_max.max(STREAMS_MIN);
    http.http2()
        .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
        .max_header_list_size(HEAD_MAX as u32)
        .initial_stream_window_size(BODY_WINDOW)
        .initial_connection_window_size(BODY_WINDOW)
        .max_send_buf_size(limits.send_bytes_max)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERRORS_MAX);
    http
}

fn reason(ended: Result<(), Box<dyn Error + Send + Sync>>) -> End {
    match ended {
        Ok(()) => End::Finished,
        Err(error) => {
            debug!(%error, "a connection failed");
            End::Failed
        }
    }
}

/// How long a client may take to close when we have.
const LINGER: Duration = Duration::from_millis(200);

/// Of the body of a request that is refused for its head. Twice what could be a query.
const PASSED_OVER_MAX: usize = 131_072;

/// A request's URL and headers, in bytes: a query of 12 KB in base64.
const HEAD_MAX: usize = 16_384;

/// Streams that may be open: RFC 9113 §6.5.2 advises no fewer, and clients begin with as many before
/// they are told. Those past `pipeline_max` take turns.
const STREAMS_MIN: usize = 100;

/// What a client may send of bodies before some of it is taken: as RFC 9113 §6.9.2 has it.
const BODY_WINDOW: u32 = 65_535;

/// A body that no query of a client's needs more than.
const BODY_SHORT: usize = 4096;

/// Longer ones that are read at once.
const LONG_BODIES_MAX: usize = 1;

/// Streams that a client may reset before they are looked at, until the connection is ended
/// (CVE-2023-44487).
const RESETS_MAX: usize = 20;

/// Streams that it may make us reset (CVE-2025-8671): more than it may have opened before it is
/// told how many.
const ERRORS_MAX: usize = 2 * STREAMS_MIN;
