//! Accepts connections over QUIC, and finds each a place and a task.
//!
//! ```text
//!   from an address that may be forged --> few at once: handshake --> a place --> served
//!                                          else sent back for a token (RFC 9000 §8.1.2)
//!   with such a token  ------------------> a place --> handshake --> served
//! ```
//! What is said on a connection is told in `quic` and `https3`. There is no 0-RTT: what comes in it
//! may be a copy that somebody else sends (RFC 9250 §4.5), and a round trip is little where servers
//! are near. Nor may a connection move to another address: its place, and what its client may ask,
//! are those of the address that it came from.
//!
//! **Invariant:** an address that is not proved costs no place, and pushes nobody out.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::answer::Transport;
use crate::config::ConnectionsConfig;
use crate::dns::hall::Hall;
use crate::dns::https3;
use crate::dns::peer::Peer;
use crate::dns::places::Place;
use crate::dns::quic;
use crate::dns::quic::streams::{LINGER, Streams};
use crate::metrics::End;

/// Opens a socket for QUIC on `address`, alone.
///
/// # Errors
///
/// Fails when the system refuses it, as it does when the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Not SO_REUSEPORT: a connection's packets must all come to the one socket that knows it.
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Makes `socket` speak QUIC. To be called on the runtime.
///
/// # Errors
///
/// Fails when the runtime does not take the socket.
pub fn open(socket: UdpSocket, config: ServerConfig) -> io::Result<Endpoint> {
    let mut endpoint = EndpointConfig::default();
    // Its drafts are nobody's any more.
    endpoint.supported_versions(vec![QUIC_V1]);
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
}

/// What is spoken on the connections of a socket.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// DNS over QUIC.
    Doq,
    /// DNS over HTTPS by HTTP/3.
    Http3 {
        /// Where DNS is served, as in a URL.
        path: Arc<str>,
    },
}

/// A socket's way in, and what its connections share.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// What they have in common with all others.
    pub hall: Hall,
    /// How they speak.
    pub dialect: Dialect,
}

impl Entrance {
    /// How QUIC is spoken at this entrance, with the certificate of `tls`.
    ///
    /// # Errors
    ///
    /// Fails when `tls` has no TLS 1.3.
    pub fn configure(
        &self,
        tls: rustls::ServerConfig,
    ) -> Result<ServerConfig, NoInitialCipherSuite> {
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config
            .transport_config(Arc::new(transport(&self.hall.limits, &self.dialect)))
            .migration(false)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_MAX as u64 * INCOMING_BYTES_MAX);
        Ok(config)
    }

    /// Accepts connections and serves each in a task, until the front is cancelled.
    pub async fn serve(self, endpoint: Endpoint) {
        let entrance = Arc::new(self);
        // Only told, never needed.
        let port = endpoint.local_addr().map_or(0, |address| address.port());
        let unproved = Arc::new(Semaphore::new(UNPROVED_MAX));
        let served = TaskTracker::new();
        let cancel = &entrance.hall.front.cancel;
        while let Some(incoming) = cancel.run_until_cancelled(endpoint.accept()).await {
            let Some(incoming) = incoming else {
                error!(transport = ?entrance.dialect.transport(), "a socket for QUIC broke");
                break;
            };
            let Some((incoming, pass)) = entrance.admit(incoming, &unproved) else { continue };
            let serving = Arc::clone(&entrance);
            served.spawn(async move { serving.converse(incoming, pass, port).await });
        }
        endpoint.set_server_config(None);
        served.close();
        served.wait().await;
        // That they are closed must still reach the clients, or they would wait to no end.
        timeout(LINGER, endpoint.wait_idle()).await.ok();
    }

    /// Decides about a newcomer from its first packet alone.
    fn admit(&self, incoming: Incoming, unproved: &Arc<Semaphore>) -> Option<(Incoming, Pass)> {
        if incoming.remote_address_validated() {
            let client = incoming.remote_address().ip();
            let Some(place) = self.hall.places.take(client, self.dialect.transport()) else {
                incoming.refuse();
                return None;
            };
            return Some((incoming, Pass::Place(Box::new(place))));
        }
        match Arc::clone(unproved).try_acquire_owned() {
            Ok(permit) => Some((incoming, Pass::Unproved(permit))),
            Err(_) => {
                // Costs nothing: all there is to know then is in the token that comes back.
                incoming.retry().ok();
                None
            }
        }
    }

    async fn converse(&self, incoming: Incoming, pass: Pass, port: u16) {
        let address = incoming.remote_address();
        let transport = self.dialect.transport();
        let connection = match self.shake_hands(incoming, &pass).await {
            Ok(connection) => connection,
            Err(end) => {
                self.hall.front.metrics.dns.connections.count_end(transport, end);
                return;
            }
        };
        let place = match pass {
            Pass::Place(place) => Some(*place),
            Pass::Unproved(permit) => {
                // Its address is proved by now.
                drop(permit);
                self.hall.places.take(address.ip(), transport)
            }
        };
        let Some(place) = place else {
            connection.close(self.dialect.excess(), b"no room");
            return;
        };
        let peer = Peer {
            transport,
            client: address.ip(),
            client_port: address.port(),
            local: connection.local_ip(),
            local_port: port,
        };
        let Hall { front, tally, limits, .. } = &self.hall;
        let streams = Streams::new(front, tally, peer, *limits, &place);
        let end = match &self.dialect {
            Dialect::Doq => quic::serve(&connection, &streams).await,
            Dialect::Http3 { path } => https3::serve(&connection, &streams, path).await,
        };
        debug!(client = %address, ?end, "connection ended");
        place.end(end);
    }

    /// Sets the connection up.
    ///
    /// # Errors
    ///
    /// Fails with what ended it.
    async fn shake_hands(&self, incoming: Incoming, pass: &Pass) -> Result<Connection, End> {
        let shaking = async {
            let connecting = incoming.accept()?;
            connecting.await
        };
        tokio::select! {
            shaken = timeout(self.hall.limits.handshake_timeout, shaking) => match shaken {
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => {
                    debug!(%error, "no QUIC");
                    Err(End::Handshake)
                }
                Err(_) => Err(End::Handshake),
            },
            () = pass.crowded() => Err(End::Crowded),
            () = self.hall.front.cancel.cancelled() => Err(End::Stopped),
        }
    }
}

impl Dialect {
    /// What clients call it (ALPN).
    pub fn protocol(&self) -> &'static [u8] {
        match self {
            Self::Doq => b"doq",
            Self::Http3 { .. } => b"h3",
        }
    }

    /// How queries come that are spoken so.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Doq => Transport::Quic,
            Self::Http3 { .. } => Transport::Https3,
        }
    }

    /// The code that tells a client that we have too much to do.
    fn excess(&self) -> VarInt {
        match self {
            Self::Doq => quic::EXCESSIVE_LOAD,
            Self::Http3 { .. } => https3::EXCESSIVE_LOAD,
        }
    }

    /// Streams of queries that a client may have open.
    fn streams_max(&self, pipeline_max: usize) -> VarInt {
        let streams = match self {
            Self::Doq => pipeline_max,
            // RFC 9114 §6.1 advises no fewer. Those past the pipeline's are not read yet.
            Self::Http3 { .. } => pipeline_max.max(REQUESTS_MIN),
        };
        VarInt::from_u32(u32::try_from(streams).unwrap_or(u32::MAX))
    }

    /// Streams of one direction that a client may have open.
    fn one_way_max(&self) -> VarInt {
        match self {
            // RFC 9250 §4.2: there are none. QUIC itself then ends whoever opens one.
            Self::Doq => VarInt::from_u32(0),
            // RFC 9114 §6.2: the three that it needs, and one that means nothing.
            Self::Http3 { .. } => VarInt::from_u32(4),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Doq => "QUIC",
            Self::Http3 { .. } => "HTTP/3",
        })
    }
}

/// What a newcomer holds while it shakes hands.
enum Pass {
    /// Its place; it has proved its address.
    Place(Box<Place>),
    /// One of the few handshakes with those that have not.
    Unproved(OwnedSemaphorePermit),
}

impl Pass {
    async fn crowded(&self) {
        match self {
            Self::Place(place) => place.crowded().await,
            Self::Unproved(_) => std::future::pending().await,
        }
    }
}

/// Bounds on one connection. What it may hold of memory is told in `streams`.
fn transport(limits: &ConnectionsConfig, dialect: &Dialect) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(dialect.streams_max(limits.pipeline_max))
        .max_concurrent_uni_streams(dialect.one_way_max())
        .max_idle_timeout(limits.idle.try_into().ok())
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(limits.send_bytes_max as u64)
        .datagram_receive_buffer_size(None)
        // A client that wants a connection to last keeps it up itself.
        .keep_alive_interval(None)
        // Looking for larger packets costs a few of them, more than most connections send.
        .mtu_discovery_config(None);
    transport
}

/// Streams of requests over HTTP/3 that there may be at least.
const REQUESTS_MIN: usize = 100;

/// What may come on a stream before it is read, and on all streams. Whatever is read makes room
/// for as much, so that longer queries get through too.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;
const WINDOW_BYTES: u32 = 64 * 1024;

/// RFC 9000 §15.
const QUIC_V1: u32 = 1;

/// Handshakes at once with addresses that may be forged. Each costs a signature.
const UNPROVED_MAX: usize = 64;

/// First packets that wait for the accepting loop, and what may come after each meanwhile.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES_MAX: u64 = 16 * 1024;
