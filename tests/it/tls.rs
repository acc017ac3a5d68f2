//! DNS over TLS as clients use it: the same bytes as over TCP, within the same bounds.

use std::sync::Arc;
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::checklist::table::{Carrier, check};
use crate::support::authority::{Authority, SERVER};
use crate::support::dns::{Tcp, ask, question, zone_text};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::wait::{eventually, within};

#[tokio::test]
async fn replies_are_those_of_tcp() {
    let (authority, server) = serve(|_| ()).await;
    let mut tls = connect(&server, &authority).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    for (id, name, qtype) in [
        (1, "n1.node.consul", RecordType::A),
        (2, "web.service.consul", RecordType::SRV),
        (3, "nothing.service.consul", RecordType::A),
        (4, "consul", RecordType::SOA),
    ] {
        let query = query(id, name, qtype);
        send(&mut tls, &query).await;
        tcp.send(&query).await;
        let (got, expected) = (receive(&mut tls).await.unwrap(), tcp.receive().await.unwrap());
        let sorted = |bytes: &[u8]| {
            let text = zone_text(&Message::from_vec(bytes).unwrap());
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&got), sorted(&expected), "{name}");
        assert_eq!(got.len(), expected.len(), "{name}");
    }
    let requests = "fingerpost_dns_requests_total{protocol=\"tls\",type=\"A\"}";
    assert_eq!(value(&scrape(&server).await, requests), 2.0);
    assert_eq!(value(&scrape(&server).await, OPEN), 1.0);
}

#[tokio::test]
async fn the_checklist_of_rfc_8906_holds() {
    let (authority, server) = serve(|_| ()).await;
    let mut tls = connect(&server, &authority).await;
    let exchange = async |query: Vec<u8>| {
        send(&mut tls, &query).await;
        receive(&mut tls).await.expect("the server closed the connection")
    };
    check("TLS", Carrier::Stream, exchange).await;
}

#[tokio::test]
async fn many_queries_in_one_write_are_all_answered() {
    let (authority, server) = serve(|_| ()).await;
    let mut tls = connect(&server, &authority).await;
    let queries = (0..100).flat_map(|id| framed(&query(id, "n1.node.consul", RecordType::A)));
    tls.write_all(&queries.collect::<Vec<_>>()).await.unwrap();
    for id in 0..100 {
        let reply = receive(&mut tls).await.unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, id);
    }
    tls.shutdown().await.unwrap();
    assert_eq!(receive(&mut tls).await, None, "then the server closes too");
}

#[tokio::test]
async fn a_client_that_begins_no_tls_is_closed() {
    let handshake = |config: &mut Config| {
        config.dns.connections.handshake_timeout = Duration::from_millis(200);
    };
    let (_authority, server) = serve(handshake).await;
    let mut silent = Tcp::connect(server.tls()).await;
    let mut plain = Tcp::connect(server.tls()).await;
    plain.send(&query(1, "n1.node.consul", RecordType::A)).await;
    silent.ended().await;
    while plain.receive().await.is_some() {}
    let closed = async || ended(&server, "handshake").await == 2.0;
    eventually("both are gone", closed).await;
    assert_eq!(zone_text(&ask(server.dns(), "n1.node.consul", RecordType::A).await), NODE);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_clients_and_open_connections_stay() {
    let (mut authority, server) = serve(|_| ()).await;
    let old = client(&authority);
    let mut before = open(&server, &old).await.unwrap();
    exchange(&mut before).await;
    // Another authority: only those who trust the new one get in.
    authority.replace();
    let loads = "fingerpost_dns_certificate_loads_total";
    let read = async || value(&scrape(&server).await, loads) >= 1.0;
    eventually("the new certificate is read", read).await;
    assert!(open(&server, &old).await.is_none());
    exchange(&mut connect(&server, &authority).await).await;
    exchange(&mut before).await;

    // Half a file changes nothing.
    std::fs::write(authority.path("server.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    let failures = "fingerpost_dns_certificate_failures_total";
    let failed = async || value(&scrape(&server).await, failures) >= 1.0;
    eventually("the broken file is seen", failed).await;
    exchange(&mut connect(&server, &authority).await).await;
}

#[tokio::test]
async fn a_shutdown_says_goodbye() {
    let (authority, server) = serve(|_| ()).await;
    let mut tls = connect(&server, &authority).await;
    exchange(&mut tls).await;
    let ((), last) = tokio::join!(server.stop(), receive(&mut tls));
    assert_eq!(last, None, "a close_notify, not a reset");
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    authority.issue("other", SERVER);
    let files = ["server.pem", "server.key", "other.key", "missing"];
    let [cert, key, other, missing] = files.map(|name| authority.path(name));
    let chain = authority.path("chain.pem");
    let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&chain, std::fs::read_to_string(&cert).unwrap() + block).unwrap();
    for (cert, key, expected) in [
        (
            &cert,
            &other,
            format!("{} and {} do not fit each other", cert.display(), other.display()),
        ),
        (&missing, &key, format!("cannot read {}", missing.display())),
        (&cert, &missing, format!("cannot read {}", missing.display())),
        (&key, &key, format!("no certificate in {}", key.display())),
        (&chain, &key, format!("certificate 2 of {} cannot be read", chain.display())),
    ] {
        let error = fingerpost::dns::Certificate::read(cert, key).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

/// A server of the demo's catalogue that speaks TLS, and the authority behind its certificate.
async fn serve(adjust: impl FnOnce(&mut Config)) -> (Authority, Server) {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let mut config = Config::default();
    config.dns.tls_listen = vec!["127.0.0.1:853".parse().unwrap()];
    config.dns.cert_file = Some(authority.path("server.pem"));
    config.dns.key_file = Some(authority.path("server.key"));
    adjust(&mut config);
    let server = Server::start(config, Origin::Fixed(file::parse(file::DEMO).unwrap().changes()));
    server.ready().await;
    (authority, server)
}

/// How a client of `authority` speaks TLS.
fn client(authority: &Authority) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"dot".to_vec()];
    // Whoever resumes a session is not shown the certificate.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// `None` where the server's certificate is not trusted.
async fn open(server: &Server, client: &TlsConnector) -> Option<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.tls()).await.unwrap();
    let name = ServerName::try_from(SERVER).unwrap();
    within("the handshake", client.connect(name, stream)).await.ok()
}

async fn connect(server: &Server, authority: &Authority) -> TlsStream<TcpStream> {
    open(server, &client(authority)).await.expect("the certificate is trusted")
}

async fn exchange(tls: &mut TlsStream<TcpStream>) {
    send(tls, &query(7, "n1.node.consul", RecordType::A)).await;
    let reply = receive(tls).await.unwrap();
    assert_eq!(zone_text(&Message::from_vec(&reply).unwrap()), NODE);
}

async fn send(tls: &mut TlsStream<TcpStream>, message: &[u8]) {
    tls.write_all(&framed(message)).await.unwrap();
}

/// `None` at an orderly end.
async fn receive(tls: &mut TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let receiving = async {
        let mut len = [0; 2];
        match tls.read(&mut len[..1]).await.unwrap() {
            0 => return None,
            _ => tls.read_exact(&mut len[1..]).await.unwrap(),
        };
        let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
        tls.read_exact(&mut message).await.unwrap();
        Some(message)
    };
    within("a reply over TLS", receiving).await
}

fn query(id: u16, name: &str, qtype: RecordType) -> Vec<u8> {
    let mut query = question(name, qtype);
    query.metadata.id = id;
    query.to_vec().unwrap()
}

/// With the two bytes of its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// TLS connections that were ended by `reason`.
async fn ended(server: &Server, reason: &str) -> f64 {
    let labels = format!("protocol=\"tls\",reason=\"{reason}\"");
    value(&scrape(server).await, &format!("fingerpost_dns_connections_ended_total{{{labels}}}"))
}

const OPEN: &str = "fingerpost_dns_connections{protocol=\"tls\"}";

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";
