//! DNS over HTTPS by HTTP/3, as clients use and abuse it (RFC 8484, RFC 9114).

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, Bytes};
use fingerpost::config::Config;
use fingerpost::file;
use h3::client::{RequestStream, SendRequest};
use h3_quinn::OpenStreams;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use hyper::{HeaderMap, Method, Request};
use quinn::{Connection, VarInt};

use crate::checklist::table::{Carrier, check};
use crate::support::dns::{pipeline, question, with_edns, zone_text};
use crate::support::fake_consul::FakeConsul;
use crate::support::metrics::{scrape, value};
use crate::support::quic::{self, NAME, Quic, Spoken, closed_with, open};
use crate::support::server::Server;
use crate::support::wait::{eventually, within};

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

#[tokio::test]
async fn replies_are_those_of_tcp() {
    let (server, client) = demo(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    for (name, qtype) in [
        ("n1.node.consul", RecordType::A),
        ("web.service.consul", RecordType::SRV),
        ("nobody.service.consul", RecordType::A),
        ("example.com", RecordType::A),
    ] {
        let query = with_edns(question(name, qtype), 1232, true);
        let expected = pipeline(server.dns(), std::slice::from_ref(&query)).await.remove(0);
        let bytes = query.to_vec().unwrap();
        for request in [get(&bytes), post(&bytes)] {
            let response = http.exchange(request).await;
            assert_eq!(response.status, 200, "{name} {qtype}");
            assert_eq!(response.headers["content-type"], "application/dns-message");
            let reply = Message::from_vec(&response.body).unwrap();
            assert_eq!(zone_text(&reply), zone_text(&expected), "{name} {qtype}");
            assert_eq!(reply.metadata.id, expected.metadata.id);
        }
    }
    let requests = "fingerpost_dns_requests_total{protocol=\"https3\",type=\"A\"}";
    assert_eq!(value(&scrape(&server).await, requests), 6.0);
}

#[tokio::test]
async fn the_checklist_of_rfc_8906_holds() {
    let (server, client) = demo(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let exchange = async |query: Vec<u8>| {
        let response = http.exchange(post(&query)).await;
        assert_eq!(response.status, 200);
        response.body
    };
    check("HTTP/3", Carrier::Stream, exchange).await;
}

#[tokio::test]
async fn what_is_no_query_has_a_status() {
    let (server, client) = demo(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let query = bytes("n1.node.consul");
    let typed = |method: Method, path: &str, kind: &str| {
        let request = Request::builder().method(method).uri(format!("https://{NAME}{path}"));
        request.header("content-type", kind).body(()).unwrap()
    };
    let good = "application/dns-message";
    for (request, body, expected) in [
        (typed(Method::POST, "/dns-query", good), query.clone(), 200),
        (typed(Method::GET, "/dns-query", good), vec![], 400),
        (typed(Method::POST, "/dns-query", good), vec![0; 11], 400),
        (typed(Method::POST, "/other", good), query.clone(), 404),
        (typed(Method::PUT, "/dns-query", good), query.clone(), 405),
        (typed(Method::POST, "/dns-query", good), vec![0; 65_536], 413),
        (typed(Method::POST, "/dns-query", "text/plain"), query.clone(), 415),
    ] {
        let shown = format!("{} {} of {}", request.method(), request.uri(), body.len());
        let response = http.exchange((request, body)).await;
        assert_eq!(response.status, expected, "{shown}");
    }
    for (status, count) in [(400, 2.0), (404, 1.0), (405, 1.0), (413, 1.0), (415, 1.0)] {
        let labels = format!("protocol=\"https3\",status=\"{status}\"");
        let counted = format!("fingerpost_dns_http_refused_total{{{labels}}}");
        assert_eq!(value(&scrape(&server).await, &counted), count, "{status}");
    }
    let mut head = get(&query);
    *head.0.method_mut() = Method::HEAD;
    let response = http.exchange(head).await;
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(http.ask("n1.node.consul").await, NODE, "none of it has cost the connection");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_alone() {
    let (server, client) = demo(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    // A frame of headers (RFC 9114 §7.2.2) of 20,008 bytes, which are a field (RFC 9204 §4.5.6) of
    // the name `x` and a value of 20,000 bytes.
    let head = [0x01, 0x80, 0, 0x4e, 0x28, 0, 0, 0x21, b'x', 0x7f, 0xa1, 0x9b, 0x01];
    let mut bytes = head.to_vec();
    bytes.resize(bytes.len() + 20_000, b'y');
    let (_, mut stream) = open(&http.connection, &bytes, true).await;
    let response = within("a response", stream.read_to_end(1_000)).await.unwrap();
    assert_eq!(response.first(), Some(&0x01), "a head comes back: {response:?}");
    assert_eq!(http.ask("n1.node.consul").await, NODE);
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
    let (server, client) = quic::serve(Spoken::Http3, |_| (), &text).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let response = http.exchange(post(&bytes("big.service.consul"))).await;
    let reply = Message::from_vec(&response.body).unwrap();
    assert_eq!((reply.answers.len(), reply.metadata.truncation), (4_000, false));
    assert_eq!(response.headers["content-length"], response.body.len().to_string());
}

#[tokio::test]
async fn a_request_that_waits_holds_up_no_other() {
    let (server, client, _consul) = slow(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let waiting = http.begin(post(&bytes("slow.service.consul"))).await;
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 1.0;
    eventually("the query waits", waits).await;
    assert_eq!(http.ask("n1.node.consul").await, NODE);
    let late = Response::of(waiting).await;
    assert_eq!(zone_text(&Message::from_vec(&late.body).unwrap()), "SERVFAIL aa rd");
}

#[tokio::test]
async fn no_more_are_answered_at_once_than_a_pipeline_has() {
    let (server, client, _consul) = slow(|config| config.dns.connections.pipeline_max = 2).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let mut waiting = Vec::new();
    for name in ["slow.service.consul", "slow.service.consul", "n1.node.consul"] {
        waiting.push(http.begin(post(&bytes(name))).await);
    }
    let last = Response::of(waiting.pop().unwrap()).await;
    let expired = value(&scrape(&server).await, "fingerpost_dns_waiting_expired_total");
    assert!(expired >= 1.0, "the third was answered before the first two: {expired}");
    assert_eq!(zone_text(&Message::from_vec(&last.body).unwrap()), NODE);
    for waiting in waiting {
        let late = Response::of(waiting).await;
        assert_eq!(zone_text(&Message::from_vec(&late.body).unwrap()), "SERVFAIL aa rd");
    }
    let full = value(&scrape(&server).await, "fingerpost_dns_pipeline_full_total");
    assert!(full >= 1.0, "it was counted");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_alone() {
    let patience = Duration::from_millis(200);
    let adjust = |config: &mut Config| config.dns.connections.message_timeout = patience;
    let (server, client) = demo(adjust).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let (request, _) = post(&[]);
    let stream = within("a request", http.requests.send_request(request)).await.unwrap();
    assert_eq!(Response::of(stream).await.status, 408);
    assert_eq!(http.ask("n1.node.consul").await, NODE);
}

#[tokio::test]
async fn a_head_that_does_not_come_costs_the_connection() {
    let patience = Duration::from_millis(200);
    let adjust = |config: &mut Config| config.dns.connections.message_timeout = patience;
    let (server, client) = demo(adjust).await;
    let connection = client.connect(server.https3()).await;
    // A frame of headers whose hundred bytes never come.
    let _streams = open(&connection, &[0x01, 0x40, 100], false).await;
    assert_eq!(closed_with(&connection).await, REQUEST_INCOMPLETE);
    let counted = async || ended(&server, "message").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn frames_that_say_they_are_long_hold_a_bounded_room() {
    let (server, client) = demo(|_| ()).await;
    // The type of a frame, and a length of 2^30 - 1.
    let frame = |kind: u8| [&[kind, 0xbf, 0xff, 0xff, 0xff][..], &[0; 200_000]].concat();
    // Headers, and a frame that means nothing.
    for kind in [0x01, 0x21] {
        let connection = client.connect(server.https3()).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let _ = within("an end", send.write_all(&frame(kind))).await;
        assert_eq!(closed_with(&connection).await, EXCESSIVE_LOAD, "{kind}");
    }
    // The same on the control stream, after the settings.
    let connection = client.connect(server.https3()).await;
    let mut send = connection.open_uni().await.unwrap();
    let bytes = [&[0x00, 0x04, 0x00][..], &frame(0x21)].concat();
    let _ = within("an end", send.write_all(&bytes)).await;
    assert_eq!(closed_with(&connection).await, EXCESSIVE_LOAD);
    let failed = async || ended(&server, "failed").await == 3.0;
    eventually("each is counted", failed).await;
}

#[tokio::test]
async fn what_breaks_http_ends_the_connection_with_its_code() {
    let (server, client) = demo(|_| ()).await;
    for (what, bytes, expected) in [
        ("a body without a head", &[0x00, 0x01, 0xff][..], FRAME_UNEXPECTED),
        ("settings in a request", &[0x04, 0x00], FRAME_UNEXPECTED),
        ("headers that are none", &[0x01, 0x03, 0xff, 0xff, 0xff], DECOMPRESSION_FAILED),
    ] {
        let connection = client.connect(server.https3()).await;
        let _streams = open(&connection, bytes, true).await;
        assert_eq!(closed_with(&connection).await, expected, "{what}");
    }
}

#[tokio::test]
async fn requests_that_are_given_up_are_dropped() {
    let (server, client) = demo(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    for _ in 0..100 {
        let (request, _) = post(&[]);
        let mut stream = within("a request", http.requests.send_request(request)).await.unwrap();
        stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
    }
    assert_eq!(http.ask("n1.node.consul").await, NODE);
    assert_eq!(value(&scrape(&server).await, OPEN), 1.0);
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_though_it_is_kept_up() {
    let idle = Duration::from_millis(300);
    let (server, client) = demo(|config| config.dns.connections.idle = idle).await;
    let client = client.bounded(|transport| {
        transport.keep_alive_interval(Some(Duration::from_millis(50)));
    });
    let mut http = Http::connect(&client, server.https3()).await;
    assert_eq!(http.ask("n1.node.consul").await, NODE);
    assert_eq!(closed_with(&http.connection).await, NO_ERROR);
    let counted = async || ended(&server, "idle").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_client_that_takes_no_responses_is_given_up() {
    let idle = Duration::from_millis(400);
    let (server, client) = demo(|config| config.dns.connections.idle = idle).await;
    let deaf = client.bounded(|transport| {
        transport.keep_alive_interval(Some(Duration::from_millis(50)));
        transport.stream_receive_window(VarInt::from_u32(20));
    });
    let mut http = Http::connect(&deaf, server.https3()).await;
    let _waiting = http.begin(post(&bytes("n1.node.consul"))).await;
    closed_with(&http.connection).await;
    let counted = async || ended(&server, "unread").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_client_that_takes_no_streams_is_not_served() {
    let patience = Duration::from_millis(200);
    let adjust = |config: &mut Config| config.dns.connections.handshake_timeout = patience;
    let (server, client) = demo(adjust).await;
    let client = client.bounded(|transport| {
        transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    });
    let connection = client.connect(server.https3()).await;
    assert_eq!(closed_with(&connection).await, GENERAL_PROTOCOL_ERROR);
    let counted = async || ended(&server, "handshake").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_read_and_then_closes() {
    let (server, client, _consul) = slow(|_| ()).await;
    let mut http = Http::connect(&client, server.https3()).await;
    let waiting = http.begin(post(&bytes("slow.service.consul"))).await;
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 1.0;
    eventually("the query waits", waits).await;
    let (stopped, late) = tokio::join!(server.stop(), Response::of(waiting));
    assert_eq!(stopped, ());
    assert_eq!(zone_text(&Message::from_vec(&late.body).unwrap()), "SERVFAIL aa rd");
    assert_eq!(closed_with(&http.connection).await, NO_ERROR);
}

#[tokio::test]
async fn its_connections_take_the_places_of_all() {
    let (server, client) = demo(|config| config.dns.connections.connections_max = 1).await;
    let mut http = Http::connect(&client, server.https3()).await;
    assert_eq!(http.ask("n1.node.consul").await, NODE);
    let second = client.connect(server.https3()).await;
    assert_eq!(closed_with(&second).await, EXCESSIVE_LOAD);
    assert_eq!(ended(&server, "refused").await, 1.0);
}

/// A connection of a client of HTTP/3.
struct Http {
    connection: Connection,
    requests: SendRequest<OpenStreams, Bytes>,
    /// Reads what the server says of the connection.
    _driver: tokio::task::JoinSet<()>,
}

impl Http {
    async fn connect(client: &Quic, server: SocketAddr) -> Self {
        let connection = client.connect(server).await;
        let carried = h3_quinn::Connection::new(connection.clone());
        let (mut driver, requests) = within("HTTP/3", h3::client::new(carried)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            driver.wait_idle().await;
        });
        Self { connection, requests, _driver: tasks }
    }

    /// Sends a request whole.
    async fn begin(&mut self, (request, body): (Request<()>, Vec<u8>)) -> Stream {
        let sending = within("a request", self.requests.send_request(request));
        let mut stream = sending.await.unwrap();
        // The server may have answered, and want no more of it.
        if !body.is_empty() {
            let _ = within("a body", stream.send_data(body.into())).await;
        }
        let _ = stream.finish().await;
        stream
    }

    async fn exchange(&mut self, request: (Request<()>, Vec<u8>)) -> Response {
        Response::of(self.begin(request).await).await
    }

    async fn ask(&mut self, name: &str) -> String {
        let response = self.exchange(get(&bytes(name))).await;
        zone_text(&Message::from_vec(&response.body).unwrap())
    }
}

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

struct Response {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Response {
    async fn of(mut stream: Stream) -> Self {
        let head = within("a response", stream.recv_response()).await.unwrap();
        let mut body = Vec::new();
        while let Some(mut data) = within("a body", stream.recv_data()).await.unwrap() {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        Self { status: head.status().as_u16(), headers: head.headers().clone(), body }
    }
}

fn get(query: &[u8]) -> (Request<()>, Vec<u8>) {
    let url = format!("https://{NAME}/dns-query?dns={}", URL_SAFE_NO_PAD.encode(query));
    (Request::get(url).body(()).unwrap(), Vec::new())
}

fn post(query: &[u8]) -> (Request<()>, Vec<u8>) {
    let request = Request::post(format!("https://{NAME}/dns-query"));
    let request = request.header("content-type", "application/dns-message");
    (request.body(()).unwrap(), query.to_vec())
}

fn bytes(name: &str) -> Vec<u8> {
    question(name, RecordType::A).to_vec().unwrap()
}

async fn demo(adjust: impl FnOnce(&mut Config)) -> (Server, Quic) {
    quic::serve(Spoken::Http3, adjust, file::DEMO).await
}

/// A server whose Consul never tells what instances `slow` has.
async fn slow(adjust: impl FnOnce(&mut Config)) -> (Server, Quic, FakeConsul) {
    quic::slow(Spoken::Http3, adjust).await
}

/// Connections of HTTP/3 that were ended by `reason`.
async fn ended(server: &Server, reason: &str) -> f64 {
    let labels = format!("protocol=\"https3\",reason=\"{reason}\"");
    value(&scrape(server).await, &format!("fingerpost_dns_connections_ended_total{{{labels}}}"))
}

const OPEN: &str = "fingerpost_dns_connections{protocol=\"https3\"}";

// RFC 9114 §8.1, RFC 9204 §6.
const NO_ERROR: u64 = 0x100;
const GENERAL_PROTOCOL_ERROR: u64 = 0x101;
const FRAME_UNEXPECTED: u64 = 0x105;
const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const DECOMPRESSION_FAILED: u64 = 0x200;
