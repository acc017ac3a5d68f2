//! A client of DNS over QUIC: a connection that trusts one authority, and streams to misuse.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::op::Message;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::UdpSocket;

use crate::support::authority::Authority;
use crate::support::choose_crypto;
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::server::Server;
use crate::support::stage::{self, health};
use crate::support::wait::within;

/// A client with a socket of its own.
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    config: ClientConfig,
    /// Whom it trusts.
    pub authority: Authority,
}

impl Quic {
    /// Trusts `authority`, and speaks `protocol` (ALPN).
    pub fn new(authority: Authority, protocol: &[u8]) -> Self {
        Self::from_address(authority, protocol, Ipv4Addr::UNSPECIFIED.into())
    }

    /// The same from an address of this machine.
    pub fn from_address(authority: Authority, protocol: &[u8], address: IpAddr) -> Self {
        let endpoint = Endpoint::client((address, 0).into()).unwrap();
        Self { endpoint, config: client_config(&authority.path("ca.pem"), protocol), authority }
    }

    /// The same with bounds of its own.
    pub fn bounded(mut self, change: impl FnOnce(&mut TransportConfig)) -> Self {
        let mut transport = TransportConfig::default();
        change(&mut transport);
        self.config.transport_config(Arc::new(transport));
        self
    }

    /// Speaks another version of QUIC.
    pub fn of_version(mut self, version: u32) -> Self {
        self.config.version(version);
        self
    }

    /// Goes on from another port, without a word.
    pub fn move_away(&self) {
        let ip = self.endpoint.local_addr().unwrap().ip();
        self.endpoint.rebind(std::net::UdpSocket::bind((ip, 0)).unwrap()).unwrap();
    }

    /// Connects to `server`, which is to be called [`NAME`].
    ///
    /// # Errors
    ///
    /// Fails when it does not let this client in.
    pub async fn try_connect(&self, server: SocketAddr) -> Result<Connection, ConnectionError> {
        let connecting = self.endpoint.connect_with(self.config.clone(), server, NAME).unwrap();
        within("a QUIC connection", connecting).await
    }

    /// The packets with which `count` connections would begin, none of which is gone on with.
    pub async fn first_packets(&self, count: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for _ in 0..count {
            // Of its own, as one that is given up says so.
            let own = self.endpoint.local_addr().unwrap();
            let loopback = if own.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { own.ip() };
            let trap = UdpSocket::bind((loopback, 0)).await.unwrap();
            let target = trap.local_addr().unwrap();
            let connecting = self.endpoint.connect_with(self.config.clone(), target, NAME).unwrap();
            let mut packet = vec![0; 2_048];
            let len = within("a first packet", trap.recv(&mut packet)).await.unwrap();
            packet.truncate(len);
            packets.push(packet);
            drop(connecting);
        }
        packets
    }

    /// The same where it is let in.
    pub async fn connect(&self, server: SocketAddr) -> Connection {
        self.try_connect(server).await.unwrap()
    }
}

/// What is spoken over QUIC.
#[derive(Clone, Copy, Debug)]
pub enum Spoken {
    /// DNS, a stream for each query.
    Doq,
    /// DNS over HTTP/3.
    Http3,
}

/// A server of `catalog` that speaks so, with what `adjust` says, and a client that trusts it.
pub async fn serve(
    spoken: Spoken,
    adjust: impl FnOnce(&mut Config),
    catalog: &str,
) -> (Server, Quic) {
    let mut config = Config::default();
    let client = secure(spoken, &mut config);
    adjust(&mut config);
    let changes = file::parse(catalog).unwrap().changes();
    let server = Server::start(config, Origin::Fixed(changes));
    server.ready().await;
    (server, client)
}

/// The same of a Consul that never tells what instances `slow` has.
pub async fn slow(spoken: Spoken, adjust: impl FnOnce(&mut Config)) -> (Server, Quic, FakeConsul) {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    config.cache.patience = Duration::from_secs(1);
    let client = secure(spoken, &mut config);
    adjust(&mut config);
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());
    (server, client, consul)
}

/// Has `config` listen with a certificate of an authority of its own, and gives a client of that.
fn secure(spoken: Spoken, config: &mut Config) -> Quic {
    choose_crypto();
    let authority = Authority::new();
    authority.issue("dns", NAME);
    config.dns.cert_file = Some(authority.path("dns.pem"));
    config.dns.key_file = Some(authority.path("dns.key"));
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    match spoken {
        Spoken::Doq => config.dns.quic_listen = listen,
        Spoken::Http3 => config.dns.https3_listen = listen,
    }
    Quic::new(authority, if let Spoken::Doq = spoken { b"doq" } else { b"h3" })
}

fn client_config(ca: &Path, protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// Opens a stream and sends `bytes` on it as they are, and then its end if `ends`.
pub async fn open(connection: &Connection, bytes: &[u8], ends: bool) -> (SendStream, RecvStream) {
    let opening = within("a stream", connection.open_bi());
    let (mut send, receive) = opening.await.unwrap();
    within("room to send over QUIC", send.write_all(bytes)).await.unwrap();
    if ends {
        send.finish().unwrap();
    }
    (send, receive)
}

/// The one message that comes on a stream.
pub async fn receive(mut stream: RecvStream) -> Message {
    let bytes = within("a reply over QUIC", stream.read_to_end(65_537)).await.unwrap();
    let (len, message) = bytes.split_first_chunk::<2>().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*len)), message.len(), "the length before it");
    Message::from_vec(message).unwrap()
}

/// Asks `query`, whose id is to be 0, on a stream of its own.
pub async fn exchange(connection: &Connection, query: &Message) -> Message {
    let (_, stream) = open(connection, &framed(&query.to_vec().unwrap()), true).await;
    receive(stream).await
}

/// With the two bytes of its length before it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The code with which the server closes the connection in time.
///
/// # Panics
///
/// When it ends in another way.
pub async fn closed_with(connection: &Connection) -> u64 {
    match within("the end of a QUIC connection", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("not closed by the server: {other}"),
    }
}

/// What the server is called.
pub const NAME: &str = "dns.example";
