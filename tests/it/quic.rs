//! DNS over QUIC as clients use and abuse it (RFC 9250).

mod limits;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;

use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;
use quinn::{Connection, ConnectionError, VarInt};
use rustls::pki_types::CertificateDer;

use crate::support::dns::{Udp, pipeline, question, with_edns, zone_text};
use crate::support::fake_consul::FakeConsul;
use crate::support::metrics::{scrape, value};
use crate::support::program;
use crate::support::quic::{
    self, NAME, Quic, Spoken, closed_with, exchange, framed, open, receive,
};
use crate::support::server::Server;
use crate::support::wait::{eventually, within};

pub const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

#[tokio::test]
async fn replies_are_those_of_tcp_with_an_id_of_zero() {
    let (server, client) = demo(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    for (name, qtype) in [
        ("n1.node.consul", RecordType::A),
        ("web.service.consul", RecordType::SRV),
        ("consul", RecordType::SOA),
        ("nobody.service.consul", RecordType::A),
        ("example.com", RecordType::A),
    ] {
        for edns in [false, true] {
            let query = question(name, qtype);
            let query = if edns { with_edns(query, 1232, true) } else { query };
            let expected = pipeline(server.dns(), std::slice::from_ref(&query)).await.remove(0);
            let reply = exchange(&connection, &with_id_zero(query)).await;
            assert_eq!(zone_text(&reply), zone_text(&expected), "{name} {qtype}");
            assert_eq!(reply.metadata.id, 0);
            assert_eq!(reply.queries, expected.queries);
        }
    }
    let requests = "fingerpost_dns_requests_total{protocol=\"quic\",type=\"A\"}";
    assert_eq!(value(&scrape(&server).await, requests), 6.0);
}

#[tokio::test]
async fn a_reply_may_have_64_kib() {
    let nodes: Vec<_> = (0..4_000_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            serde_json::json!({
                "name": format!("n{number:04}"),
                "address": format!("10.3.{high}.{low}"),
                "services": [{ "name": "big", "port": 80 }],
            })
        })
        .collect();
    let text = serde_json::json!({ "nodes": nodes }).to_string();
    let (server, client) = serve(|_| (), &text).await;
    let connection = client.connect(server.quic()).await;
    let reply = exchange(&connection, &query("big.service.consul")).await;
    assert_eq!((reply.answers.len(), reply.metadata.truncation), (4_000, false));
}

#[tokio::test]
async fn kdig_asks_over_one_connection_and_checks_the_name() {
    let Some(kdig) = program("kdig") else { return };
    let (server, client) = demo(|_| ()).await;
    let port = server.quic().port();
    let ca = client.authority.path("ca.pem");
    let ask = |name: &str, queries: &[&str]| {
        let mut command = Command::new(&kdig);
        command.args(["@127.0.0.1", &format!("-p{port}"), "+short", "+retry=0", "+keepopen"]);
        command.arg(format!("+tls-ca={}", ca.display()));
        command.args([&format!("+tls-hostname={name}"), "+quic"]).args(queries);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let queries = ["n1.node.consul", "A", "n2.node.consul", "A", "n3.node.consul", "A"];
    assert_eq!(ask(NAME, &queries), "10.0.0.1\n10.0.0.2\n10.0.0.3\n");
    let counted = async || ended(&server, "finished").await == 1.0;
    eventually("it was one connection, and was closed by the client", counted).await;
    assert_eq!(ask("other.example", &queries[..2]), "");
}

#[tokio::test]
async fn many_streams_are_answered_whatever_their_order() {
    let (server, client) = demo(|config| config.dns.connections.pipeline_max = 8).await;
    let connection = client.connect(server.quic()).await;
    let bytes = framed(&query("n1.node.consul").to_vec().unwrap());
    // The first halves of some in their order, then what is left the other way round.
    for _ in 0..20 {
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(open(&connection, &bytes[..5], false).await);
        }
        for (send, _) in streams.iter_mut().rev() {
            send.write_all(&bytes[5..]).await.unwrap();
            send.finish().unwrap();
        }
        for (_, stream) in streams {
            assert_eq!(zone_text(&receive(stream).await), NODE);
        }
    }
    assert_eq!(value(&scrape(&server).await, OPEN), 1.0);
}

#[tokio::test]
async fn a_query_that_waits_holds_up_no_other() {
    let (server, client, _consul) = slow(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    let (_, waiting) = open(&connection, &bytes("slow.service.consul"), true).await;
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 1.0;
    eventually("the query waits", waits).await;
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    assert_eq!(zone_text(&receive(waiting).await), "SERVFAIL aa rd");
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_with_its_code() {
    let (server, client) = demo(|_| ()).await;
    let good = bytes("n1.node.consul");
    let with_id = {
        let mut query = query("n1.node.consul");
        query.metadata.id = 7;
        framed(&query.to_vec().unwrap())
    };
    let with_keepalive = {
        let mut query = with_edns(query("n1.node.consul"), 1232, false);
        // RFC 7828 §3.1: a client sends the option without a time.
        let option = EdnsOption::Unknown(11, Vec::new());
        query.edns.as_mut().unwrap().options_mut().insert(option);
        framed(&query.to_vec().unwrap())
    };
    for (what, bytes, ends) in [
        ("an id that is not zero", &with_id, true),
        ("an edns-tcp-keepalive option", &with_keepalive, true),
        ("two queries on a stream", &[&*good, &*good].concat(), true),
        ("a byte after the query", &[&*good, &[0]].concat(), false),
        ("half a query", &good[..good.len() - 1].to_vec(), true),
        ("half a length", &vec![0], true),
        ("a message without an id", &vec![0, 1, 0], true),
        ("a stream without a query", &Vec::new(), true),
    ] {
        let connection = client.connect(server.quic()).await;
        let _streams = open(&connection, bytes, ends).await;
        assert_eq!(closed_with(&connection).await, PROTOCOL_ERROR, "{what}");
    }
    let failed = async || ended(&server, "failed").await == 8.0;
    eventually("each is counted", failed).await;
}

#[tokio::test]
async fn a_stream_of_one_direction_is_not_to_be_had() {
    let (server, client) = demo(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    let asked = query("n1.node.consul");
    let opened = tokio::select! {
        biased;
        _ = connection.open_uni() => true,
        reply = exchange(&connection, &asked) => {
            assert_eq!(zone_text(&reply), NODE);
            false
        }
    };
    assert!(!opened, "RFC 9250 §4.2 knows none");
}

#[tokio::test]
async fn what_is_no_query_resets_its_stream_alone() {
    let (server, client) = demo(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    // A response, and a message that ends within its header.
    let mut response = query("n1.node.consul");
    response.metadata.message_type = hickory_proto::op::MessageType::Response;
    for bytes in [response.to_vec().unwrap(), vec![0; 11]] {
        let (_, mut stream) = open(&connection, &framed(&bytes), true).await;
        let reset = within("a reset", stream.received_reset()).await.unwrap();
        assert_eq!(reset.map(VarInt::into_inner), Some(UNSPECIFIED_ERROR));
    }
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
}

#[tokio::test]
async fn a_query_that_is_given_up_is_dropped() {
    let (server, client, _consul) = slow(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    // Before it is whole, by a reset.
    let (mut send, mut stream) = open(&connection, &bytes("n1.node.consul")[..9], false).await;
    send.reset(REQUEST_CANCELLED).unwrap();
    let reset = within("a reset", stream.received_reset()).await.unwrap();
    assert_eq!(reset, Some(REQUEST_CANCELLED));
    // While it waits, by no more interest in the reply.
    let (send, mut stream) = open(&connection, &bytes("slow.service.consul"), true).await;
    stream.stop(REQUEST_CANCELLED).unwrap();
    let dropped = within("the end of the stream", send.stopped()).await.unwrap();
    assert_eq!(dropped, None, "the query was read");
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    let idle = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 0.0;
    eventually("nothing waits", idle).await;
    assert_eq!(value(&scrape(&server).await, OPEN), 1.0);
}

#[tokio::test]
async fn a_shutdown_answers_what_was_read_and_then_closes() {
    let (server, client, _consul) = slow(|_| ()).await;
    let idle = client.connect(server.quic()).await;
    let connection = client.connect(server.quic()).await;
    let (_, waiting) = open(&connection, &bytes("slow.service.consul"), true).await;
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 1.0;
    eventually("the query waits", waits).await;
    let address = server.quic();
    let (stopped, reply) = tokio::join!(server.stop(), receive(waiting));
    assert_eq!(stopped, ());
    assert_eq!(zone_text(&reply), "SERVFAIL aa rd");
    assert_eq!(closed_with(&connection).await, NO_ERROR);
    assert_eq!(closed_with(&idle).await, NO_ERROR);
    UdpSocket::bind(address).expect("the port is free again");
}

#[tokio::test]
async fn newcomers_are_shown_a_certificate_that_was_renewed() {
    let (server, client) = demo(|_| ()).await;
    let before = client.connect(server.quic()).await;
    let first = certificate(&before);
    client.authority.issue("dns", NAME);
    let renewed = async || certificate(&client.connect(server.quic()).await) != first;
    eventually("the new certificate is shown", renewed).await;
    assert_eq!(zone_text(&exchange(&before, &query("n1.node.consul")).await), NODE);
}

#[tokio::test]
async fn only_clients_of_this_protocol_are_let_in() {
    let (server, client) = demo(|_| ()).await;
    let other = Quic::new(client.authority, b"h3");
    let refused = other.try_connect(server.quic()).await.expect_err("h3 is spoken elsewhere");
    // RFC 9001 §8.1: no_application_protocol, 120, as a QUIC error.
    match refused {
        ConnectionError::ConnectionClosed(close) => {
            assert_eq!(u64::from(close.error_code), 0x100 + 120);
        }
        refused => panic!("{refused}"),
    }
    let counted = async || ended(&server, "handshake").await == 1.0;
    eventually("it is counted", counted).await;
    // A draft of QUIC (RFC 9250 is about that of RFC 9000).
    let drafted = other.of_version(0xff00_001d).try_connect(server.quic()).await;
    assert!(matches!(drafted, Err(ConnectionError::VersionMismatch)), "{drafted:?}");
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_asked() {
    // The system itself would reply to the second from 127.0.0.1. A client drops what is of others.
    for (wildcard, asked) in
        [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")]
    {
        let asked: IpAddr = asked.parse().unwrap();
        if UdpSocket::bind((asked, 0)).is_err() {
            // A machine without IPv6 cannot be asked over it.
            continue;
        }
        let wildcard = wildcard.parse().unwrap();
        let (server, client) = demo(|config| config.dns.quic_listen = vec![wildcard]).await;
        let client = Quic::from_address(client.authority, b"doq", asked);
        let address = SocketAddr::from((asked, server.quic().port()));
        let connection = client.connect(address).await;
        assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
        let udp = Udp::connect(address).await;
        udp.send(&client.first_packets(1).await[0]).await;
        assert!(!udp.receive().await.is_empty(), "{asked}");
    }
}

/// The certificate that the server has shown.
fn certificate(connection: &Connection) -> Vec<u8> {
    let identity = connection.peer_identity().unwrap();
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().unwrap();
    chain[0].to_vec()
}

pub fn bytes(name: &str) -> Vec<u8> {
    framed(&query(name).to_vec().unwrap())
}

pub fn query(name: &str) -> Message {
    with_id_zero(question(name, RecordType::A))
}

fn with_id_zero(mut query: Message) -> Message {
    query.metadata.id = 0;
    query
}

/// A server with the demo's catalogue, and a client that trusts it.
pub async fn demo(adjust: impl FnOnce(&mut Config)) -> (Server, Quic) {
    serve(adjust, file::DEMO).await
}

pub async fn serve(adjust: impl FnOnce(&mut Config), catalog: &str) -> (Server, Quic) {
    quic::serve(Spoken::Doq, adjust, catalog).await
}

/// A server whose Consul never tells what instances `slow` has.
pub async fn slow(adjust: impl FnOnce(&mut Config)) -> (Server, Quic, FakeConsul) {
    quic::slow(Spoken::Doq, adjust).await
}

/// QUIC connections that were ended by `reason`.
pub async fn ended(server: &Server, reason: &str) -> f64 {
    let labels = format!("protocol=\"quic\",reason=\"{reason}\"");
    value(&scrape(server).await, &format!("fingerpost_dns_connections_ended_total{{{labels}}}"))
}

pub const OPEN: &str = "fingerpost_dns_connections{protocol=\"quic\"}";

// RFC 9250 §4.3.
pub const NO_ERROR: u64 = 0;
pub const PROTOCOL_ERROR: u64 = 2;
pub const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
pub const EXCESSIVE_LOAD: u64 = 4;
pub const UNSPECIFIED_ERROR: u64 = 5;
