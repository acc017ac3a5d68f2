//! A server of DNS over HTTPS, with the authority behind its certificate, and clients of both.

use std::net::SocketAddr;
use std::sync::Arc;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::rr::RecordType;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::authority::{Authority, SERVER};
use crate::support::dns::question;
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::wait::within;

/// The server and its authority.
#[derive(Debug)]
pub struct Site {
    pub server: Server,
    pub authority: Authority,
}

impl Site {
    /// One of the demo's catalogue, configured as `adjust` says.
    pub async fn demo(adjust: impl FnOnce(&mut Config)) -> Self {
        let changes = file::parse(file::DEMO).unwrap().changes();
        let mut config = Config::default();
        adjust(&mut config);
        Self::start(config, |config| Server::start(config, Origin::Fixed(changes))).await
    }

    /// One that `start` starts.
    pub async fn start(mut config: Config, start: impl FnOnce(Config) -> Server) -> Self {
        let authority = Authority::new();
        authority.issue("server", SERVER);
        config.dns.https_listen = vec!["127.0.0.1:443".parse().unwrap()];
        config.dns.cert_file = Some(authority.path("server.pem"));
        config.dns.key_file = Some(authority.path("server.key"));
        let server = start(config);
        server.ready().await;
        Self { server, authority }
    }

    /// Where DNS is served.
    pub fn url(&self) -> String {
        self.url_of("/dns-query")
    }

    /// The URL of `path` there.
    pub fn url_of(&self, path: &str) -> String {
        format!("https://{SERVER}:{}{path}", self.server.https().port())
    }

    /// A client that speaks HTTP/2 or HTTP/1.1, and trusts the authority alone.
    pub fn client(&self, version: u8) -> reqwest::Client {
        let pem = std::fs::read(self.authority.path("ca.pem")).unwrap();
        let ca = reqwest::Certificate::from_pem(&pem).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        let client = client.resolve(SERVER, self.server.https());
        let client = if version == 1 { client.http1_only() } else { client };
        client.build().unwrap()
    }

    /// A connection over TLS on which the client is free to say what it wants.
    pub async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        self.try_connect(alpn).await.expect("the handshake succeeds")
    }

    /// The same; `None` where the handshake fails.
    pub async fn try_connect(&self, alpn: &str) -> Option<TlsStream<TcpStream>> {
        connect(self.server.https(), &self.authority, alpn).await
    }

    /// Connections over HTTPS that were ended by `reason`.
    pub async fn ended(&self, reason: &str) -> f64 {
        let labels = format!("protocol=\"https\",reason=\"{reason}\"");
        self.metric(&format!("fingerpost_dns_connections_ended_total{{{labels}}}")).await
    }

    /// Connections over HTTPS that are open.
    pub async fn open(&self) -> f64 {
        self.metric("fingerpost_dns_connections{protocol=\"https\"}").await
    }

    /// What the server counts.
    pub async fn metric(&self, name: &str) -> f64 {
        value(&scrape(&self.server).await, name)
    }
}

/// A connection to `address` over TLS that offers to speak `alpn`; `None` where the handshake fails.
pub async fn connect(
    address: SocketAddr,
    authority: &Authority,
    alpn: &str,
) -> Option<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    // Whoever resumes a session is not shown the certificate.
    config.resumption = Resumption::disabled();
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(SERVER).unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    within("the handshake", connecting).await.ok()
}

/// A query for `name` as a cache wants it: with the id 0 (RFC 8484 §4.1).
pub fn query(name: &str, qtype: RecordType) -> Vec<u8> {
    let mut query = question(name, qtype);
    query.metadata.id = 0;
    query.to_vec().unwrap()
}

/// `bytes` in base64url without padding (RFC 4648 §5).
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(word);
        for at in 0..=chunk.len() {
            let index = bits >> (18 - 6 * at) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// Sends `text` as HTTP/1.1 has it.
pub async fn send(stream: &mut TlsStream<TcpStream>, text: &[u8]) {
    within("room to send", async {
        stream.write_all(text).await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
}

/// All that comes until the server closes; an end without a word of TLS's is one too.
pub async fn read_all(stream: &mut TlsStream<TcpStream>) -> String {
    let mut bytes = Vec::new();
    within("the end of a connection", stream.read_to_end(&mut bytes)).await.ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A response's head.
pub async fn read_head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut bytes = Vec::new();
    within("a response", async {
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    String::from_utf8(bytes).unwrap()
}
