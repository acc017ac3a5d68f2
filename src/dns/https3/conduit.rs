//! A QUIC connection as `h3` wants it, with a bound on what a client can make it hold.
//!
//! `h3` reads HTTP/3's frames. It keeps a frame until it is whole, however long the client says
//! that it will be; so what comes is counted here, before `h3` has it:
//!
//! ```text
//!   a request      with all others of the connection that are not answered, see `quic::streams`
//!   control etc.   CONTROL_BYTES_MAX, and as much again for each so many requests
//! ```
//! Whoever goes past it is closed with H3_EXCESSIVE_LOAD. It knows nothing of DNS.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{Connection, ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use crate::dns::quic::streams::Held;

/// One connection.
pub struct Conduit {
    connection: Connection,
    bounds: Arc<Bounds>,
    accepting: Option<Accepting<(quinn::SendStream, quinn::RecvStream)>>,
    accepting_one_way: Option<Accepting<quinn::RecvStream>>,
    opening_one_way: Option<Accepting<quinn::SendStream>>,
}

/// A stream that is waited for.
type Accepting<S> = Pin<Box<dyn Future<Output = Result<S, ConnectionError>> + Send>>;

/// What the streams of a connection count together.
#[derive(Debug)]
struct Bounds {
    requests_bytes: Arc<AtomicUsize>,
    requests: AtomicUsize,
    control_bytes: AtomicUsize,
}

impl Conduit {
    /// Carries HTTP/3 over `connection`, whose requests are counted in `requests_bytes`.
    pub fn new(connection: Connection, requests_bytes: Arc<AtomicUsize>) -> Self {
        let (requests, control_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let bounds = Arc::new(Bounds { requests_bytes, requests, control_bytes });
        Self::with(connection, bounds)
    }

    fn with(connection: Connection, bounds: Arc<Bounds>) -> Self {
        Self { connection, bounds, accepting: None, accepting_one_way: None, opening_one_way: None }
    }

    fn inflow(
        &self,
        stream: quinn::RecvStream,
        counted: Counted,
    ) -> Result<Inflow, ConnectionErrorIncoming> {
        let id = id_of(stream.id())?;
        Ok(Inflow { stream, id, connection: self.connection.clone(), counted })
    }
}

impl quic::Connection<Bytes> for Conduit {
    type RecvStream = Inflow;
    type OpenStreams = Self;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Inflow, ConnectionErrorIncoming>> {
        let connection = self.connection.clone();
        let accepting = self
            .accepting_one_way
            .get_or_insert_with(|| Box::pin(async move { connection.accept_uni().await }));
        let accepted = ready!(accepting.as_mut().poll(context));
        self.accepting_one_way = None;
        let counted = Counted::Control(Arc::clone(&self.bounds));
        Poll::Ready(accepted.map_err(lost).and_then(|stream| self.inflow(stream, counted)))
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Both, ConnectionErrorIncoming>> {
        let connection = self.connection.clone();
        let accepting = self
            .accepting
            .get_or_insert_with(|| Box::pin(async move { connection.accept_bi().await }));
        let accepted = ready!(accepting.as_mut().poll(context));
        self.accepting = None;
        self.bounds.requests.fetch_add(1, Ordering::Relaxed);
        let counted = Counted::Request(Held::new(Arc::clone(&self.bounds.requests_bytes)));
        Poll::Ready(accepted.map_err(lost).and_then(|(send, receive)| {
            Ok(Both { send: Outflow::new(send)?, receive: self.inflow(receive, counted)? })
        }))
    }

    fn opener(&self) -> Self {
        Self::with(self.connection.clone(), Arc::clone(&self.bounds))
    }
}

impl quic::OpenStreams<Bytes> for Conduit {
    type BidiStream = Both;
    type SendStream = Outflow;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        // A server of HTTP/3 has nothing to ask (RFC 9114 §6.1).
        let connection_error = ConnectionErrorIncoming::InternalError("a server asks".to_owned());
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }))
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Outflow, StreamErrorIncoming>> {
        let connection = self.connection.clone();
        let opening = self
            .opening_one_way
            .get_or_insert_with(|| Box::pin(async move { connection.open_uni().await }));
        let opened = ready!(opening.as_mut().poll(context));
        self.opening_one_way = None;
        let opened = opened.map_err(lost).and_then(Outflow::new);
        Poll::Ready(opened.map_err(|connection_error| {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
        }))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(code_of(code.value()), reason);
    }
}

/// Both directions of a request's stream.
#[derive(Debug)]
pub struct Both {
    send: Outflow,
    receive: Inflow,
}

impl quic::RecvStream for Both {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(context)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for Both {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(context)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// What comes on a stream.
#[derive(Debug)]
pub struct Inflow {
    stream: quinn::RecvStream,
    id: StreamId,
    connection: Connection,
    counted: Counted,
}

/// Where it is counted.
#[derive(Debug)]
enum Counted {
    Control(Arc<Bounds>),
    Request(Held),
}

impl Counted {
    fn is_too_much(&mut self, bytes: usize) -> bool {
        let bytes = bytes + CHUNK_BYTES;
        match self {
            Self::Control(bounds) => {
                let before = bounds.control_bytes.fetch_add(bytes, Ordering::Relaxed);
                let shares = 1 + bounds.requests.load(Ordering::Relaxed) / REQUESTS_PER_SHARE;
                before + bytes > CONTROL_BYTES_MAX.saturating_mul(shares)
            }
            Self::Request(held) => held.add(bytes).is_err(),
        }
    }
}

impl quic::RecvStream for Inflow {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut buffer = [0; READ_BYTES];
        let read = ready!(self.stream.poll_read(context, &mut buffer));
        let bytes = match read {
            Ok(len) => buffer.get(..len).unwrap_or_default(),
            Err(ReadError::ConnectionLost(error)) => return Poll::Ready(Err(stream_lost(error))),
            Err(ReadError::Reset(code)) => return Poll::Ready(Err(terminated(code))),
            Err(error) => return Poll::Ready(Err(StreamErrorIncoming::Unknown(error.into()))),
        };
        if self.counted.is_too_much(bytes.len()) {
            self.connection.close(code_of(Code::H3_EXCESSIVE_LOAD.value()), b"");
            return Poll::Ready(Err(stream_lost(ConnectionError::LocallyClosed)));
        }
        // Nothing, into a buffer that has room, is the end.
        Poll::Ready(Ok(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Bytes::copy_from_slice)))
    }

    fn stop_sending(&mut self, code: u64) {
        self.stream.stop(code_of(code)).ok();
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// What is sent on a stream.
pub struct Outflow {
    stream: quinn::SendStream,
    id: StreamId,
    writing: Option<WriteBuf<Bytes>>,
    /// Set once the stream has its end: until it has arrived.
    arriving: Option<Arriving>,
}

type Arriving = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

impl Outflow {
    fn new(stream: quinn::SendStream) -> Result<Self, ConnectionErrorIncoming> {
        Ok(Self { id: id_of(stream.id())?, stream, writing: None, arriving: None })
    }
}

impl std::fmt::Debug for Outflow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outflow").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl quic::SendStream<Bytes> for Outflow {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) {
            let written = Pin::new(&mut self.stream).poll_write(context, data.chunk());
            match ready!(written) {
                Ok(len) => data.advance(len),
                Err(WriteError::ConnectionLost(error)) => {
                    return Poll::Ready(Err(stream_lost(error)));
                }
                Err(WriteError::Stopped(code)) => return Poll::Ready(Err(terminated(code))),
                Err(error) => return Poll::Ready(Err(StreamErrorIncoming::Unknown(error.into()))),
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.writing = Some(data.into());
        Ok(())
    }

    /// Waits until all has arrived, too: an end of the connection would take with it what has not.
    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let stream = &mut self.stream;
        let arriving = self.arriving.get_or_insert_with(|| {
            stream.finish().ok();
            Box::pin(stream.stopped())
        });
        Poll::Ready(match ready!(arriving.as_mut().poll(context)) {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(terminated(code)),
            Err(StoppedError::ConnectionLost(error)) => Err(stream_lost(error)),
            Err(error) => Err(StreamErrorIncoming::Unknown(error.into())),
        })
    }

    fn reset(&mut self, code: u64) {
        self.stream.reset(code_of(code)).ok();
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn stream_lost(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
}

fn terminated(code: VarInt) -> StreamErrorIncoming {
    StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
}

/// QUIC's codes and HTTP/3's have the same range.
fn code_of(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn id_of(id: quinn::StreamId) -> Result<StreamId, ConnectionErrorIncoming> {
    StreamId::try_from(u64::from(id))
        .map_err(|error| ConnectionErrorIncoming::InternalError(error.to_string()))
}

/// What it costs to keep what was read at once, however little that is.
const CHUNK_BYTES: usize = 64;

/// What is read at once.
const READ_BYTES: usize = 2048;

/// Settings, and priorities that clients may tell with each request (RFC 9218 §7).
const CONTROL_BYTES_MAX: usize = 16 * 1024;

/// Requests for which as much may come again.
const REQUESTS_PER_SHARE: usize = 64;
