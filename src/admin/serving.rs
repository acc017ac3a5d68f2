//! The connections of the port: how many there may be, and how long each may keep us.
//!
//! ```text
//!   accepted   is a place free?                       else closed at once
//!   request    its head is whole within the idle time    else closed
//!   reply      some of it is read within the idle time   else closed
//!   stop       what is being answered is finished; the rest is closed at once
//! ```
//! It knows neither the routes nor what they say.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::metrics::AdminMetrics;

/// What is served to whom, and within which bounds.
#[derive(Debug)]
pub(in crate::admin) struct Serving {
    /// What answers a request.
    pub routes: Router,
    /// Connections open at once. At least 1.
    pub connections_max: usize,
    /// How long a connection may stay without a whole request, or without reading its reply.
    pub idle: Duration,
    /// What is counted.
    pub metrics: AdminMetrics,
}

impl Serving {
    /// Accepts connections until cancelled, then waits for the requests that are being answered.
    pub(in crate::admin) async fn run(self, listener: TcpListener, cancel: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        let tasks = TaskTracker::new();
        let serving = Arc::new(self);
        let mut failing = false;
        while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Descriptors have run out, most likely. Others are given time to close.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "cannot accept connections to the admin port");
                    }
                    cancel.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                    continue;
                }
            };
            failing = false;
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                serving.metrics.refused.inc();
                continue;
            };
            let (serving, cancel) = (Arc::clone(&serving), cancel.clone());
            tasks.spawn(async move {
                let _place = place;
                serving.metrics.connections.inc();
                serving.serve(stream, cancel).await;
                serving.metrics.connections.dec();
            });
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    async fn serve(&self, stream: TcpStream, cancel: CancellationToken) {
        let busy = Arc::new(Busy::default());
        let answering = Arc::clone(&busy);
        let service =
            service_fn(move |request| answer(self.routes.clone(), request, Arc::clone(&answering)));
        let stream = Patient { stream, idle: self.idle, stalled: None, busy: Arc::clone(&busy) };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.idle);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // hyper would wait for the rest of a request that was begun, for as long as it may
                // take; what has not been asked yet need not be answered.
                let finished = std::future::poll_fn(|cx| match connection.as_mut().poll(cx) {
                    Poll::Pending if !busy.is_any() => Poll::Ready(Ok(())),
                    polled => polled,
                });
                finished.await
            }
        };
        if let Err(error) = ended {
            debug!(error = &error as &dyn Error, "connection to the admin port ended");
            if error.is_timeout() || is_stall(&error) {
                self.metrics.idle_closed.inc();
            }
        }
    }
}

/// Whether a connection has something to finish.
#[derive(Debug, Default)]
struct Busy {
    /// A request is being answered.
    answering: AtomicBool,
    /// A part of a reply waits for the client to read.
    writing: AtomicBool,
}

impl Busy {
    fn is_any(&self) -> bool {
        self.answering.load(Ordering::Relaxed) || self.writing.load(Ordering::Relaxed)
    }
}

/// A stream on which nobody waits for ever to write.
#[derive(Debug)]
struct Patient {
    stream: TcpStream,
    idle: Duration,
    /// Since the client reads nothing: until when it may do so.
    stalled: Option<Pin<Box<Sleep>>>,
    busy: Arc<Busy>,
}

impl Patient {
    /// Bounds the wait for a client that does not read.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.busy.writing.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

async fn answer(
    routes: Router,
    request: hyper::Request<Incoming>,
    busy: Arc<Busy>,
) -> Result<Response, Infallible> {
    busy.answering.store(true, Ordering::Relaxed);
    let request: Request = request.map(Body::new);
    let reply = routes.oneshot(request).await;
    busy.answering.store(false, Ordering::Relaxed);
    reply
}

/// Whether the client did not read on.
fn is_stall(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// After an error, before the next connection is accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use prometheus::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// A port that answers `/slow` when it is told to, and `/large` with more than any buffer of
    /// the system's holds.
    struct Port {
        address: std::net::SocketAddr,
        asked: Arc<Notify>,
        go: Arc<Notify>,
        metrics: AdminMetrics,
        cancel: CancellationToken,
        ended: JoinHandle<()>,
    }

    impl Port {
        async fn open(connections_max: usize, idle: Duration) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (tell, wait) = (Arc::clone(&asked), Arc::clone(&go));
            let slow = async move || {
                tell.notify_one();
                wait.notified().await;
                "slow\n"
            };
            let routes = Router::new()
                .route("/fast", get(async || "fast\n"))
                .route("/large", get(async || vec![b'x'; LARGE]))
                .route("/slow", get(slow));
            let metrics = AdminMetrics::register(&Registry::new()).unwrap();
            let serving = Serving { routes, connections_max, idle, metrics: metrics.clone() };
            let cancel = CancellationToken::new();
            let ended = TaskTracker::new().spawn(serving.run(listener, cancel.clone()));
            Self { address, asked, go, metrics, cancel, ended }
        }

        /// A connection on which `text` was sent.
        async fn connect(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        async fn stop(self) {
            self.cancel.cancel();
            timeout(PATIENCE, self.ended).await.expect("it goes on").unwrap();
        }
    }

    fn request(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
    }

    /// All that comes until the connection is closed; a reset is an end too.
    async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reading = stream.read_to_end(&mut bytes);
        timeout(PATIENCE, reading).await.expect("the connection stays open").ok();
        bytes
    }

    #[tokio::test]
    async fn half_a_request_is_waited_for_no_longer_than_the_idle_time() {
        let port = Port::open(8, Duration::from_millis(50)).await;
        for text in ["", "GET /fast HTTP/1.1\r\nHost:", &request("/fast")] {
            read_all(&mut port.connect(text).await).await;
        }
        assert_eq!(port.metrics.idle_closed.get(), 3);
        port.stop().await;
    }

    #[tokio::test]
    async fn who_does_not_read_is_waited_for_no_longer_than_the_idle_time() {
        let port = Port::open(1, Duration::from_millis(50)).await;
        let stream = port.connect(&request("/large")).await;
        let is_closed = async {
            while port.metrics.idle_closed.get() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, is_closed).await.unwrap();
        drop(stream);
        port.stop().await;
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_at_once() {
        let port = Port::open(1, HOUR).await;
        let mut first = port.connect(&request("/slow")).await;
        port.asked.notified().await;
        assert_eq!(read_all(&mut port.connect(&request("/fast")).await).await, b"");
        assert_eq!((port.metrics.refused.get(), port.metrics.connections.get()), (1, 1));
        port.go.notify_one();
        port.cancel.cancel();
        assert!(read_all(&mut first).await.ends_with(b"slow\n"));
        assert_eq!(port.metrics.refused.get(), 1);
        port.stop().await;
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_was_asked_and_for_nothing_else() {
        let port = Port::open(8, HOUR).await;
        let silent = port.connect("").await;
        let half = port.connect("GET /fast HTTP/1.1\r\nHost:").await;
        let mut kept = port.connect(&request("/fast")).await;
        let mut large = port.connect(&request("/large")).await;
        let mut first = [0];
        kept.read_exact(&mut first).await.unwrap();
        large.read_exact(&mut first).await.unwrap();
        let mut slow = port.connect(&request("/slow")).await;
        port.asked.notified().await;

        port.cancel.cancel();
        for mut stream in [silent, half, kept] {
            read_all(&mut stream).await;
        }
        assert!(!port.ended.is_finished());
        port.go.notify_one();
        assert!(read_all(&mut slow).await.ends_with(b"slow\n"));
        let rest = read_all(&mut large).await;
        assert_eq!(rest.iter().filter(|byte| **byte == b'x').count(), LARGE);
        port.stop().await;
    }

    const HOUR: Duration = Duration::from_secs(3600);

    const LARGE: usize = 64 << 20;

    /// Only a failing test is ever this slow.
    const PATIENCE: Duration = Duration::from_secs(8);
}
