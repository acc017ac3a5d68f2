//! DNS over HTTPS by HTTP/3: one connection, a stream for each request.
//!
//! What is said in HTTP is told in `exchange`, as for HTTP/2 and HTTP/1.1. A request that does not
//! come whole in time is 408 where its head came, and costs the connection where not even that
//! did. What breaks HTTP/3 itself, `h3` closes with its codes (RFC 9114 §8.1).
//!
//! **Invariant:** whatever ends a connection in order, what was read of it is answered first, and
//! has arrived.

pub mod conduit;

use std::pin::pin;

use bytes::{Buf, Bytes};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use quinn::{Connection, VarInt};
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use crate::answer::Transport;
use crate::dns::exchange::{self, Carried};
use crate::dns::https3::conduit::{Both, Conduit};
use crate::dns::quic::end_of;
use crate::dns::quic::streams::{Fault, LINGER, Streams};
use crate::metrics::End;

/// Serves one connection until something ends it. DNS is at `path`.
pub async fn serve(connection: &Connection, streams: &Streams<'_>, path: &str) -> End {
    let mut http = match begin(connection, streams).await {
        Ok(http) => http,
        Err(end) => {
            connection.close(code(Code::H3_GENERAL_PROTOCOL_ERROR), b"");
            return end;
        }
    };
    let mut open = FuturesUnordered::new();
    let mut ending = None;
    let mut closed = pin!(connection.closed());
    loop {
        // A client that sends without end must not keep the thread from all others.
        consume_budget().await;
        if streams.is_used_up() {
            ending.get_or_insert(End::Queries);
        }
        let is_full = streams.is_full(open.len());
        if let Some(end) = ending {
            if !streams.closing.is_cancelled() {
                streams.closing.cancel();
                // Tells which requests will have no answer (RFC 9114 §5.2): those that come now.
                timeout(LINGER, http.shutdown(0)).await.ok();
            }
            if open.is_empty() {
                let in_order = end != End::Message;
                let said = if in_order { Code::H3_NO_ERROR } else { Code::H3_REQUEST_INCOMPLETE };
                connection.close(code(said), b"");
                return end;
            }
        }
        tokio::select! {
            biased;
            Some(ended) = open.next(), if !open.is_empty() => match ended {
                Ok(()) | Err(Fault::Lost) => (),
                Err(Fault::Slow) => _ = ending.get_or_insert(End::Message),
                Err(fault) => {
                    connection.close(code(code_of(fault)), b"");
                    return fault.end();
                }
            },
            error = &mut closed => return end_of(&error),
            () = streams.front.cancel.cancelled(), if ending.is_none() => {
                // What has come by now is answered.
                while let Some(Ok(Some(resolver))) = http.accept().now_or_never() {
                    open.push(converse(streams, path, resolver));
                }
                ending = Some(End::Stopped);
            }
            () = streams.place.crowded(), if ending.is_none() => ending = Some(End::Crowded),
            accepted = http.accept(), if !is_full && ending != Some(End::Finished) => match accepted {
                Ok(Some(resolver)) => open.push(converse(streams, path, resolver)),
                // The client has said that it asks no more.
                Ok(None) => _ = ending.get_or_insert(End::Finished),
                Err(error) => {
                    debug!(%error, "no HTTP/3");
                    return connection.close_reason().map_or(End::Failed, |error| end_of(&error));
                }
            },
            () = streams.idle(), if ending.is_none() => ending = Some(End::Idle),
        }
    }
}

/// Begins HTTP/3. A client that does not take the streams of ours that this needs is not served.
///
/// # Errors
///
/// Fails with what ended the connection.
async fn begin(connection: &Connection, streams: &Streams<'_>) -> Result<Http, End> {
    let conduit = Conduit::new(connection.clone(), streams.received());
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEAD_BYTES_MAX).send_grease(false);
    tokio::select! {
        built = timeout(streams.limits.handshake_timeout, builder.build(conduit)) => match built {
            Ok(Ok(http)) => Ok(http),
            Ok(Err(_)) | Err(_) => Err(End::Handshake),
        },
        () = streams.place.crowded() => Err(End::Crowded),
        () = streams.front.cancel.cancelled() => Err(End::Stopped),
    }
}

/// One connection, as `h3` has it.
type Http = h3::server::Connection<Conduit, Bytes>;

/// One request's stream.
type Stream = RequestStream<Both, Bytes>;

/// Reads one request, answers it, and waits until the response has arrived.
///
/// # Errors
///
/// Fails with what the whole connection is ended for.
async fn converse(
    streams: &Streams<'_>,
    path: &str,
    resolver: RequestResolver<Conduit, Bytes>,
) -> Result<(), Fault> {
    let deadline = Instant::now() + streams.limits.message_timeout;
    let resolved = tokio::select! {
        biased;
        resolved = timeout_at(deadline, resolver.resolve_request()) => resolved,
        () = streams.closing.cancelled() => return Ok(()),
    };
    let (head, mut stream) = match resolved {
        Ok(Ok((request, stream))) => (request.into_parts().0, stream),
        Ok(Err(error)) => return drop_request(streams, &error),
        Err(_) => return Err(Fault::Slow),
    };
    let read = tokio::select! {
        biased;
        read = timeout_at(deadline, read(&head, path, &mut stream)) => read,
        () = streams.closing.cancelled() => return Ok(()),
    };
    let response = match read {
        Ok(Ok(query)) => exchange::respond(&head.method, streams.answer(query).await),
        Ok(Err(Missing::Status(status))) => exchange::refuse(status),
        Ok(Err(Missing::Stream(error))) => return drop_request(streams, &error),
        Err(_) => exchange::refuse(StatusCode::REQUEST_TIMEOUT),
    };
    if !response.status().is_success() {
        let connections = &streams.front.metrics.dns.connections;
        connections.count_refused(Transport::Https3, response.status().as_u16());
    }
    let bytes = response.body().len();
    let sent = streams.send(bytes, send(&mut stream, response)).await?;
    // What may still come of a request is not read (RFC 9114 §4.1).
    stream.stop_sending(Code::H3_NO_ERROR);
    match sent {
        Ok(()) => Ok(()),
        Err(error) => drop_request(streams, &error),
    }
}

/// Why there is no query.
enum Missing {
    Status(StatusCode),
    Stream(StreamError),
}

/// Reads the query of a request.
async fn read(head: &Parts, path: &str, stream: &mut Stream) -> Result<Vec<u8>, Missing> {
    let mut body = match Carried::find(head, path).map_err(Missing::Status)? {
        Carried::InUrl(query) => return Ok(query),
        Carried::InBody(body) => body,
    };
    while let Some(mut data) = stream.recv_data().await.map_err(Missing::Stream)? {
        while data.has_remaining() {
            let chunk = data.chunk();
            body.push(chunk).map_err(Missing::Status)?;
            let len = chunk.len();
            data.advance(len);
        }
    }
    body.finish().map_err(Missing::Status)
}

/// Sends a response, and waits until it has arrived.
async fn send(stream: &mut Stream, response: Response<Bytes>) -> Result<(), StreamError> {
    let (head, body) = response.into_parts();
    stream.send_response(Response::from_parts(head, ())).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await
}

/// Gives up a request that was reset, or whose client has heard already what is wrong with it.
fn drop_request(streams: &Streams<'_>, error: &StreamError) -> Result<(), Fault> {
    debug!(%error, "a request was dropped");
    streams.drop_query()
}

fn code_of(fault: Fault) -> Code {
    match fault {
        Fault::Broken | Fault::Slow => Code::H3_REQUEST_INCOMPLETE,
        Fault::Excess => Code::H3_EXCESSIVE_LOAD,
        Fault::Lost | Fault::Unread => Code::H3_NO_ERROR,
    }
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

/// H3_EXCESSIVE_LOAD (RFC 9114 §8.1).
pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

/// A request's head, as RFC 9114 §4.2.2 counts it; enough for a query of 12 KiB in the URL.
const HEAD_BYTES_MAX: u64 = 16 * 1024;
