//! DNS over QUIC (RFC 9250): one connection, a stream for each query.
//!
//! ```text
//!   stream 0:  len16 query FIN  -->        --> len16 reply FIN
//!   stream 4:  len16 query FIN  -->  waits for Consul ...          --> len16 reply FIN
//!   stream 8:  RESET            -->  dropped, RESET back (§4.3.1)
//! ```
//! A client that does not keep to this is closed with DOQ_PROTOCOL_ERROR (§4.3.3): one that asks
//! twice on a stream, sends half a message, or counts its messages, which streams do.
//!
//! **Invariant:** whatever ends a connection in order, what was read of it is answered first, and
//! has arrived.

pub mod endpoint;
pub mod streams;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::task::consume_budget;
use tokio::time::timeout;
use tracing::debug;

use crate::dns::quic::streams::{Fault, Streams};
use crate::metrics::End;
use crate::wire::query::has_keepalive;

/// Serves one connection until something ends it.
pub async fn serve(connection: &Connection, streams: &Streams<'_>) -> End {
    let mut open = FuturesUnordered::new();
    let mut ending = None;
    let mut closed = std::pin::pin!(connection.closed());
    loop {
        // A client that sends without end must not keep the thread from all others.
        consume_budget().await;
        if streams.is_used_up() {
            ending.get_or_insert(End::Queries);
        }
        let is_full = streams.is_full(open.len());
        if let Some(end) = ending {
            streams.closing.cancel();
            if open.is_empty() {
                // Half a query, or one without an end, is a breach (§4.3.3).
                connection.close(if end == End::Message { PROTOCOL_ERROR } else { NO_ERROR }, b"");
                return end;
            }
        }
        tokio::select! {
            biased;
            Some(ended) = open.next(), if !open.is_empty() => match ended {
                Ok(()) | Err(Fault::Lost) => (),
                Err(Fault::Slow) => _ = ending.get_or_insert(End::Message),
                Err(fault) => {
                    connection.close(code(fault), b"");
                    return fault.end();
                }
            },
            error = &mut closed => return end_of(&error),
            () = streams.front.cancel.cancelled(), if ending.is_none() => {
                // What has come by now is answered.
                while let Some(Ok((send, receive))) = connection.accept_bi().now_or_never() {
                    open.push(exchange(streams, send, receive));
                }
                ending = Some(End::Stopped);
            }
            () = streams.place.crowded(), if ending.is_none() => ending = Some(End::Crowded),
            accepted = connection.accept_bi(), if ending.is_none() && !is_full => match accepted {
                Ok((send, receive)) => open.push(exchange(streams, send, receive)),
                Err(error) => return end_of(&error),
            },
            () = streams.idle(), if ending.is_none() => ending = Some(End::Idle),
        }
    }
}

/// Reads the query of one stream, answers it, and waits until the reply has arrived.
///
/// # Errors
///
/// Fails with what the whole connection is ended for.
async fn exchange(
    streams: &Streams<'_>,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), Fault> {
    let mut held = streams.hold();
    let reading = async {
        let mut message = Vec::new();
        loop {
            match receive.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => {
                    held.add(chunk.bytes.len())?;
                    message.extend_from_slice(&chunk.bytes);
                    check_length(&message)?;
                }
                Ok(None) => return Ok(Some(message)),
                Err(ReadError::ConnectionLost(_)) => return Err(Fault::Lost),
                Err(_) => return Ok(None),
            }
        }
    };
    let read = tokio::select! {
        biased;
        read = timeout(streams.limits.message_timeout, reading) => read.unwrap_or(Err(Fault::Slow)),
        () = streams.closing.cancelled() => Ok(None),
    };
    let Some(message) = read? else {
        send.reset(REQUEST_CANCELLED).ok();
        return streams.drop_query();
    };
    let reply = streams.answer(query(message)?).await.reply;
    let Some(len) = u16::try_from(reply.len()).ok().filter(|len| *len > 0) else {
        // What a server does not answer over UDP has no answer here either, and no code (§4.3).
        send.reset(UNSPECIFIED_ERROR).ok();
        return streams.drop_query();
    };
    drop(held);
    let sending = async {
        let len = Bytes::copy_from_slice(&len.to_be_bytes());
        send.write_all_chunks(&mut [len, reply.into()]).await?;
        send.finish()?;
        // An end of the connection would take with it what has not arrived.
        Ok(send.stopped().await?)
    };
    match streams.send(usize::from(len), sending).await? {
        Ok(None) => Ok(()),
        Ok(Some(_)) | Err(WriteError::Stopped(_)) => {
            // §4.3.1: the client wants it no more.
            send.reset(REQUEST_CANCELLED).ok();
            streams.drop_query()
        }
        Err(_) => Err(Fault::Lost),
    }
}

/// Stops a stream that goes on after its one message.
fn check_length(received: &[u8]) -> Result<(), Fault> {
    match received {
        [high, low, rest @ ..] if rest.len() > length(*high, *low) => Err(Fault::Broken),
        _ => Ok(()),
    }
}

/// The query in what came of a stream up to its end, if it is one that the protocol allows.
fn query(mut message: Vec<u8>) -> Result<Vec<u8>, Fault> {
    match message.as_slice() {
        // §4.2.1: the id is zero. §5.5.2: QUIC itself says how long a connection is kept.
        [high, low, query @ ..]
            if query.len() == length(*high, *low)
                && query.starts_with(&[0, 0])
                && !has_keepalive(query) =>
        {
            message.drain(..LENGTH_BYTES);
            Ok(message)
        }
        _ => Err(Fault::Broken),
    }
}

fn length(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high, low]))
}

fn code(fault: Fault) -> VarInt {
    match fault {
        Fault::Broken | Fault::Slow => PROTOCOL_ERROR,
        Fault::Excess => EXCESSIVE_LOAD,
        Fault::Lost | Fault::Unread => NO_ERROR,
    }
}

/// What to count the end of a connection as that did not come from us.
pub fn end_of(error: &ConnectionError) -> End {
    debug!(%error, "a connection is no more");
    match error {
        ConnectionError::ApplicationClosed(_) => End::Finished,
        ConnectionError::TimedOut => End::Idle,
        _ => End::Failed,
    }
}

/// RFC 1035 §4.2.2.
const LENGTH_BYTES: usize = 2;

// RFC 9250 §4.3.
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
/// DOQ_EXCESSIVE_LOAD.
pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);
const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);
