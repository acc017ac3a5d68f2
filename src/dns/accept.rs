//! Accepts connections over TCP, and finds each a place and a task.
//!
//! ```text
//!   accepted --> a place is free, or another makes room --> handshake --> served
//!                else closed at once                        in time, else closed
//! ```
//! What is said on a connection is told in `stream` and `https`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::answer::Transport;
use crate::dns::hall::Hall;
use crate::dns::https::{self, Resource};
use crate::dns::peer::Peer;
use crate::dns::places::Place;
use crate::dns::stream;
use crate::metrics::End;

/// Opens a listening socket on `address`, alone: a second program there is refused.
///
/// # Errors
///
/// Fails when the system refuses it, as it does when the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Not SO_REUSEPORT. This one only lets a restart bind while old connections die down.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes use of a listener that others have opened.
///
/// # Errors
///
/// Fails when the system refuses it.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<std::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What is spoken on the connections of a listener.
#[derive(Clone, Debug)]
pub enum Speech {
    /// DNS over HTTPS.
    Https {
        /// Offers the versions of HTTP.
        tls: Arc<ServerConfig>,
        /// Where in the URL.
        path: Arc<str>,
    },
    /// DNS, as it is.
    Plain,
    /// DNS over TLS.
    Tls(Arc<ServerConfig>),
}

/// A listener, and what its connections share.
#[derive(Clone, Debug)]
pub struct Door {
    /// What they have in common with all others.
    pub hall: Hall,
    /// How they speak.
    pub speech: Speech,
}

impl Door {
    /// Accepts connections and serves each in a task, until the front is cancelled.
    pub async fn serve(self, listener: TcpListener) {
        let door = Arc::new(self);
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = door.hall.front.cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Descriptors have run out, most likely. Others are given time to close.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "cannot accept TCP connections");
                    }
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failing = false;
            let Some(place) = door.hall.places.take(client.ip(), door.speech.transport()) else {
                continue;
            };
            let serving = Arc::clone(&door);
            door.hall.front.tasks.spawn(async move {
                let end = serving.converse(stream, client, &place).await;
                debug!(%client, ?end, "connection ended");
                place.end(end);
            });
        }
    }

    async fn converse(&self, stream: TcpStream, client: SocketAddr, place: &Place) -> End {
        // A reply is written in one piece, so it need not wait for the next.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection ended before it began");
            return End::Failed;
        }
        let local = stream.local_addr().ok();
        let peer = Peer {
            transport: self.speech.transport(),
            client: client.ip(),
            client_port: client.port(),
            local: local.map(|address| address.ip()),
            local_port: local.map_or(0, |address| address.port()),
        };
        let Hall { front, tally, limits, .. } = &self.hall;
        let tls = match &self.speech {
            Speech::Plain => {
                return stream::serve(stream, front, tally, peer, *limits, place).await;
            }
            Speech::Https { tls, .. } | Speech::Tls(tls) => tls,
        };
        let stream = match self.shake_hands(stream, tls, place).await {
            Ok(stream) => stream,
            Err(end) => return end,
        };
        match &self.speech {
            Speech::Https { path, .. } => {
                let (path, limits) = (Arc::clone(path), *limits);
                let (front, tally) = (front.clone(), tally.clone());
                https::serve(stream, Resource { path, front, tally, peer, limits }, place).await
            }
            _ => stream::serve(stream, front, tally, peer, *limits, place).await,
        }
    }

    /// Begins TLS.
    ///
    /// # Errors
    ///
    /// Fails with what ended the connection.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        config: &Arc<ServerConfig>,
        place: &Place,
    ) -> Result<TlsStream<TcpStream>, End> {
        let shaking = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        tokio::select! {
            shaken = timeout(self.hall.limits.handshake_timeout, shaking) => match shaken {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => {
                    debug!(%error, "no TLS");
                    Err(End::Handshake)
                }
                Err(_) => Err(End::Handshake),
            },
            () = place.crowded() => Err(End::Crowded),
            () = self.hall.front.cancel.cancelled() => Err(End::Stopped),
        }
    }
}

impl Speech {
    fn transport(&self) -> Transport {
        match self {
            Self::Https { .. } => Transport::Https,
            Self::Plain => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
        }
    }
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
