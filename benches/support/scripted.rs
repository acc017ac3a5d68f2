//! A scripted Consul with a catalog of any size, over HTTPS and HTTP/2 as a real one.
//!
//! It is for what a real one on the same two cores cannot be: ten thousand services that are there at
//! once, a thousand changes a second that cost next to nothing. It keeps a version for each service
//! and writes a body when it is asked for, or has all of them at hand; blocking queries are held until the version is higher
//! than `index`, or `wait` is over, and as many streams share a connection as in Consul.
//!
//! It knows the paths that a server of names asks for, and no faults.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;
use tokio_rustls::TlsAcceptor;

use crate::catalog::Catalog;

/// A listening one; it stops, and breaks its connections, when this is dropped.
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    catalog: Catalog,
    /// By service.
    versions: Vec<watch::Sender<u64>>,
    /// Of the lists, and it stays.
    lists: watch::Sender<u64>,
    connections: AtomicUsize,
    /// By service, those of even and of odd versions, once they are [prepared](Scripted::prepare).
    bodies: OnceLock<Vec<[Bytes; 2]>>,
}

impl Scripted {
    /// Listens on a free loopback port with a certificate and its key, both PEM.
    pub async fn start(catalog: Catalog, cert: &[u8], key: &[u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
        let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.expect("a certificate"), key)
            .expect("a key of its certificate");
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let shared = Arc::new(Shared {
            catalog,
            versions: (0..catalog.services).map(|_| watch::Sender::new(0)).collect(),
            lists: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
            bodies: OnceLock::new(),
        });
        let mut accepting = JoinSet::new();
        let tls = TlsAcceptor::from(Arc::new(tls));
        accepting.spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared, _accepting: accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were let in so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Writes all bodies of services, once: from now on a change costs what it takes to send one.
    pub fn prepare(&self) {
        let Shared { catalog, bodies, .. } = &*self.shared;
        let both = |service| [0, 1].map(|version| catalog.health(service, version).into());
        bodies.get_or_init(|| (0..catalog.services).map(both).collect());
    }

    /// Makes the next version of a service.
    pub fn change(&self, service: usize) {
        self.shared.versions[service].send_modify(|version| *version += 1);
    }
}

impl Shared {
    async fn reply(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let asked = Asked::of(request.uri().query().unwrap_or_default());
        let (index, body): (u64, Bytes) = match request.uri().path() {
            "/v1/agent/self" => (1, r#"{"Config":{"Datacenter":"dc1"}}"#.into()),
            "/v1/catalog/datacenters" => (1, r#"["dc1"]"#.into()),
            "/v1/catalog/services" => {
                (asked.wait(&self.lists).await + 1, self.catalog.names().into())
            }
            "/v1/catalog/nodes" => (asked.wait(&self.lists).await + 1, self.catalog.nodes().into()),
            "/v1/health/service/consul" => (asked.wait(&self.lists).await + 1, CONSUL.into()),
            path => {
                let service = path.strip_prefix("/v1/health/service/web-");
                let service = service.and_then(|service| service.parse::<usize>().ok());
                let Some(service) = service.filter(|at| *at < self.catalog.services) else {
                    return missing();
                };
                let version = asked.wait(&self.versions[service]).await;
                (version + 1, self.health(service, version))
            }
        };
        let reply = Response::builder()
            .header("Content-Type", "application/json")
            .header("X-Consul-Index", index.to_string())
            .header("X-Consul-KnownLeader", "true")
            .header("X-Consul-LastContact", "0");
        reply.body(Full::from(body)).expect("headers of text")
    }

    fn health(&self, service: usize, version: u64) -> Bytes {
        match self.bodies.get() {
            Some(bodies) => bodies[service][version as usize % 2].clone(),
            None => self.catalog.health(service, version).into(),
        }
    }
}

/// What a blocking query says beside its path. The index of a version is one higher.
struct Asked {
    index: u64,
    wait: Duration,
}

impl Asked {
    fn of(query: &str) -> Self {
        let value = |key| query.split('&').find_map(|pair| pair.strip_prefix(key));
        let index = value("index=").and_then(|index| index.parse().ok()).unwrap_or(0);
        let wait = value("wait=").and_then(|wait| wait.strip_suffix("ms")?.parse().ok());
        Self { index, wait: wait.map_or(WAIT, Duration::from_millis) }
    }

    /// The version to send, once it is due.
    async fn wait(&self, versions: &watch::Sender<u64>) -> u64 {
        let mut seen = versions.subscribe();
        if self.index > 0 {
            let newer = seen.wait_for(|version| version + 1 > self.index);
            // Over or not, what is sent is what there is.
            time::timeout(self.wait, newer).await.ok();
        }
        *versions.borrow()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        stream.set_nodelay(true).ok();
        connections.spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let answer = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.reply(&request).await) }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    // How a connection ends is its client's affair.
    http.serve_connection(TokioIo::new(stream), answer).await.ok();
}

fn missing() -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NOT_FOUND;
    reply
}

/// Streams of a connection, as Go has them.
const STREAMS_MAX: u32 = 250;

/// Consul's own, where a query does not say.
const WAIT: Duration = Duration::from_secs(300);

/// The service that a Consul has of itself.
const CONSUL: &str = r#"[{"Node":{"Node":"node-0000","Address":"10.0.0.1","Datacenter":"dc1"},"Service":{"ID":"consul","Service":"consul","Tags":[],"Address":"","Port":8300},"Checks":[]}]"#;
