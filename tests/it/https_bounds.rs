//! DNS over HTTPS as it is abused: silence, halves, too much at once; and its end.

use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::dns::{ask, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::http2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, RST_STREAM,
    SETTINGS,
};
use crate::support::https::{Site, base64url, query, read_all, read_head, send};
use crate::support::stage::{self, health};
use crate::support::wait::{eventually, poll, within};

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

const WHOLE: u8 = END_HEADERS | END_STREAM;

#[tokio::test]
async fn a_request_by_http_1_is_whole_in_time_or_ends_its_connection() {
    let site = demo_with_message_timeout().await;
    let good = request("n1.node.consul");
    let mut half = site.connect("http/1.1").await;
    send(&mut half, &good.as_bytes()[..20]).await;
    let mut second = site.connect("http/1.1").await;
    send(&mut second, good.as_bytes()).await;
    read_reply(&mut second).await;
    send(&mut second, b"G").await;
    for mut stream in [half, second] {
        assert_eq!(read_all(&mut stream).await, "");
    }
    let mut body = site.connect("http/1.1").await;
    send(&mut body, &post("Content-Length: 32", &[0; 20])).await;
    let response = read_all(&mut body).await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    let closed = async || site.ended("message").await == 3.0;
    eventually("all are gone", closed).await;
    assert_eq!(site.open().await, 0.0);
}

#[tokio::test]
async fn a_request_by_http_2_is_whole_in_time_or_ends_its_connection() {
    let site = demo_with_message_timeout().await;
    let head = http2::get(&path("n1.node.consul"));
    let whole = http2::frame(HEADERS, WHOLE, 1, &head);
    for (name, bytes) in [
        ("half a frame", whole[..whole.len() - 1].to_vec()),
        ("a head that goes on", http2::frame(HEADERS, END_STREAM, 1, &head)),
        ("half a frame of what means nothing", vec![0, 0, 8, PING]),
    ] {
        let mut http = begin(&site).await;
        http.send_raw(&bytes).await;
        assert!(http.receive_kind(GOAWAY).await.is_some(), "{name}");
        assert!(http.receive_kind(DATA).await.is_none(), "{name}");
    }
    // One that goes on in time does no harm, in however many pieces.
    let mut http = begin(&site).await;
    http.send(HEADERS, END_STREAM, 1, &head[..3]).await;
    http.send(CONTINUATION, 0, 1, &head[3..9]).await;
    http.send(CONTINUATION, END_HEADERS, 1, &head[9..]).await;
    assert_eq!(http.receive_kind(DATA).await.unwrap().stream, 1);
    // The other stream's body never ends, and this one is answered all the same.
    http.send(HEADERS, END_HEADERS, 3, &http2::post()).await;
    http.send(DATA, 0, 3, &[0; 20]).await;
    http.send(HEADERS, WHOLE, 5, &head).await;
    assert_eq!(http.receive_kind(DATA).await.unwrap().stream, 5);
    let response = http.receive_kind(HEADERS).await.unwrap();
    assert_eq!((response.stream, response.flags & END_STREAM), (3, END_STREAM));
    assert!(has(&response.payload, STATUS_408), "{:02x?}", response.payload);
    assert!(http.receive_kind(GOAWAY).await.is_some());
    assert!(http.receive_kind(DATA).await.is_none());
    let closed = async || site.ended("message").await == 4.0;
    eventually("all are gone", closed).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_after_the_idle_time() {
    let site = Site::demo(|config| {
        config.dns.connections.idle = Duration::from_millis(300);
        config.dns.connections.message_timeout = Duration::from_secs(3600);
    })
    .await;
    let silent = site.connect("http/1.1").await;
    let mut half = site.connect("http/1.1").await;
    send(&mut half, b"GET /").await;
    let mut used = site.connect("http/1.1").await;
    send(&mut used, request("n1.node.consul").as_bytes()).await;
    read_reply(&mut used).await;
    for mut stream in [silent, half, used] {
        assert_eq!(read_all(&mut stream).await, "");
    }
    // Neither what keeps a connection alive nor what is no query is of use.
    let mut http = begin(&site).await;
    let mut stream = 1;
    let closed = async {
        loop {
            let bytes = [
                http2::frame(PING, 0, 0, &[7; 8]),
                http2::frame(HEADERS, WHOLE, stream, &http2::get("/")),
            ];
            if !http.try_send_raw(&bytes.concat()).await
                || http.receive_kind(HEADERS).await.is_none()
            {
                return;
            }
            stream += 2;
        }
    };
    within("it is closed all the same", closed).await;
    let closed = async || site.ended("idle").await == 4.0;
    eventually("all are gone", closed).await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_another() {
    let site = Site::demo(|config| config.dns.connections.connections_max = 1).await;
    let mut first = begin(&site).await;
    first.send(HEADERS, WHOLE, 1, &http2::get(&path("n1.node.consul"))).await;
    assert!(first.receive_kind(DATA).await.is_some());
    let answered = async || {
        let mut second = site.try_connect("http/1.1").await?;
        send(&mut second, request("n1.node.consul").as_bytes()).await;
        read_reply(&mut second).await;
        Some(())
    };
    poll(Duration::from_secs(10), answered).await.expect("there is room for the second");
    assert!(first.receive_kind(GOAWAY).await.is_some(), "the first is told");
    assert!(first.receive_kind(DATA).await.is_none());
    let counted = async || site.ended("crowded").await == 1.0;
    eventually("it is counted", counted).await;
    assert!(site.ended("refused").await >= 1.0, "for a second it was left alone");
}

#[tokio::test]
async fn one_that_makes_room_is_not_waited_for() {
    let site = Site::demo(|config| {
        config.dns.connections.connections_max = 1;
        config.dns.connections.message_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut first = begin(&site).await;
    first.send(HEADERS, END_HEADERS, 1, &http2::post()).await;
    first.send(DATA, 0, 1, &[0; 20]).await;
    let newcomer = async || site.try_connect("h2").await;
    assert!(poll(Duration::from_secs(10), newcomer).await.is_some());
    assert!(first.receive_kind(GOAWAY).await.is_some());
    assert!(first.receive_kind(HEADERS).await.is_none());
    let counted = async || site.ended("crowded").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_connection_for_which_something_is_fetched_is_left_alone() {
    let (consul, site) = slow(|config| {
        config.dns.connections.connections_max = 1;
        config.cache.patience = Duration::from_secs(3);
    })
    .await;
    let mut first = begin(&site).await;
    first.send(HEADERS, WHOLE, 1, &http2::get(&path("slow.service.consul"))).await;
    waiting(&site, 1.0).await;
    let newcomers = async { while site.try_connect("h2").await.is_none() {} };
    let reply = tokio::select! {
        reply = first.receive_kind(DATA) => reply.unwrap(),
        () = newcomers => panic!("its place was another's before it was answered"),
    };
    assert_eq!(text(&reply.payload), "SERVFAIL aa rd");
    let room = poll(Duration::from_secs(10), async || site.try_connect("h2").await);
    assert!(room.await.is_some(), "and then it makes room");
    drop(consul);
}

#[tokio::test]
async fn a_shutdown_answers_what_was_read_and_then_closes() {
    let (_consul, site) = slow(|_| ()).await;
    let mut idle = site.connect("http/1.1").await;
    let mut half = site.connect("http/1.1").await;
    send(&mut half, b"GET /dns-query").await;
    let mut first = site.connect("http/1.1").await;
    send(&mut first, request("slow.service.consul").as_bytes()).await;
    let mut second = begin(&site).await;
    second.send(HEADERS, WHOLE, 1, &http2::get(&path("slow.service.consul"))).await;
    waiting(&site, 2.0).await;
    let Site { server, authority: _authority } = site;
    let ((), first, reply) =
        tokio::join!(server.stop(), read_all(&mut first), second.receive_kind(DATA));
    assert!(first.starts_with("HTTP/1.1 200 OK"), "{first}");
    assert_eq!(text(&reply.unwrap().payload), "SERVFAIL aa rd");
    assert!(second.receive_kind(DATA).await.is_none());
    assert_eq!(read_all(&mut idle).await, "");
    assert_eq!(read_all(&mut half).await, "");
}

#[tokio::test]
async fn queries_of_a_connection_take_turns() {
    let (_consul, site) = slow(|config| {
        config.dns.connections.pipeline_max = 2;
        config.cache.patience = Duration::from_secs(2);
        // Waiting for a turn is not the client's fault.
        config.dns.connections.message_timeout = Duration::from_secs(1);
    })
    .await;
    let mut http = begin(&site).await;
    let head = http2::get(&path("slow.service.consul"));
    http.send(HEADERS, WHOLE, 1, &head).await;
    http.send(HEADERS, WHOLE, 3, &head).await;
    waiting(&site, 2.0).await;
    http.send(HEADERS, END_HEADERS, 5, &http2::post()).await;
    http.send(DATA, 0, 5, &node()[..20]).await;
    let first = http.receive_kind(DATA).await.unwrap();
    assert!(first.stream < 5, "the first two have their turns first: {first:?}");
    http.send(DATA, END_STREAM, 5, &node()[20..]).await;
    let mut last = first;
    while last.stream != 5 {
        last = http.receive_kind(DATA).await.unwrap();
    }
    assert_eq!(text(&last.payload), NODE);
    assert_eq!(site.metric("fingerpost_dns_pipeline_full_total").await, 1.0);
}

/// Clients take it for granted that there may be so many (RFC 9113 §6.5.2).
#[tokio::test]
async fn a_hundred_streams_that_come_with_the_preface_are_all_answered() {
    let site = Site::demo(|config| config.dns.connections.pipeline_max = 1).await;
    let mut stream = site.connect("h2").await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(http2::frame(SETTINGS, 0, 0, &[]));
    for number in 0..100 {
        let head = http2::get(&path("n1.node.consul"));
        bytes.extend(http2::frame(HEADERS, WHOLE, 2 * number + 1, &head));
    }
    send(&mut stream, &bytes).await;
    let mut http = Http2(stream);
    for _ in 0..100 {
        assert_eq!(text(&http.receive_kind(DATA).await.unwrap().payload), NODE);
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_waits_for_nothing() {
    let (_consul, site) = slow(|_| ()).await;
    let mut http = begin(&site).await;
    http.send(HEADERS, WHOLE, 1, &http2::get(&path("slow.service.consul"))).await;
    waiting(&site, 1.0).await;
    http.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
    waiting(&site, 0.0).await;
    assert_eq!(site.metric("fingerpost_dns_waiting_expired_total").await, 0.0);
    http.send(HEADERS, WHOLE, 3, &http2::get(&path("n1.node.consul"))).await;
    assert_eq!(text(&http.receive_kind(DATA).await.unwrap().payload), NODE);
}

#[tokio::test]
async fn a_connection_whose_only_stream_was_reset_is_idle() {
    let (_consul, site) =
        slow(|config| config.dns.connections.idle = Duration::from_millis(500)).await;
    let mut http = begin(&site).await;
    http.send(HEADERS, WHOLE, 1, &http2::get(&path("slow.service.consul"))).await;
    waiting(&site, 1.0).await;
    http.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
    assert!(http.receive_kind(GOAWAY).await.is_some());
    let closed = async || site.ended("idle").await == 1.0;
    eventually("it is gone", closed).await;
}

#[tokio::test]
async fn who_opens_no_window_is_asked_nothing_more_and_given_up() {
    let site = Site::demo(|config| {
        config.dns.connections.idle = Duration::from_millis(500);
        config.dns.connections.send_bytes_max = 1024;
    })
    .await;
    // No byte of a body may be sent.
    let mut http = Http2::begin(site.connect("h2").await, &[(4, 0)]).await;
    let head = http2::get(&path("many.service.consul"));
    for number in 0..20 {
        http.send(HEADERS, WHOLE, 2 * number + 1, &head).await;
    }
    assert!(http.receive_kind(DATA).await.is_none());
    let closed = async || site.ended("unread").await == 1.0;
    eventually("it is given up", closed).await;
    // Each is more than half of what may wait.
    let requests = "fingerpost_dns_requests_total{protocol=\"https\",type=\"A\"}";
    assert_eq!(site.metric(requests).await, 2.0);
    let reply = ask(site.server.dns(), "n1.node.consul", RecordType::A).await;
    assert_eq!(zone_text(&reply), NODE);
}

#[tokio::test]
async fn who_never_reads_is_given_up() {
    let site = Site::demo(|config| config.dns.connections.idle = Duration::from_millis(500)).await;
    let mut deaf = site.connect("http/1.1").await;
    let batch = request("many.service.consul").repeat(200);
    let stuffed = async {
        // Until the server's and both kernels' buffers are full, or the server has had enough.
        while try_send(&mut deaf, batch.as_bytes()).await {}
    };
    let closed = async || site.ended("unread").await == 1.0;
    tokio::select! {
        () = stuffed => (),
        () = eventually("it is given up", closed) => (),
    }
    eventually("it is given up", closed).await;
    assert_eq!(site.open().await, 0.0);
}

#[tokio::test]
async fn a_connection_has_its_share_of_queries() {
    let site = Site::demo(|config| config.dns.connections.connection_queries_max = 3).await;
    for version in [1, 2] {
        let client = site.client(version);
        for number in 0..7 {
            let url = format!("{}?dns={}", site.url(), base64url(&node()));
            let response = within("a response", client.get(url).send()).await.unwrap();
            assert_eq!(response.status(), 200, "HTTP/{version}, request {number}");
        }
    }
    let counted = async || site.ended("queries").await == 4.0;
    eventually("four had their share", counted).await;
}

#[tokio::test]
async fn who_speaks_no_http_is_refused_in_the_handshake() {
    let site = Site::demo(|_| ()).await;
    assert!(site.try_connect("dot").await.is_none());
    let counted = async || site.ended("handshake").await == 1.0;
    eventually("it is counted", counted).await;
    // What is no HTTP/2 after all breaks the connection.
    let mut stream = site.connect("h2").await;
    send(&mut stream, request("n1.node.consul").as_bytes()).await;
    read_all(&mut stream).await;
    let counted = async || site.ended("failed").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_head_has_a_bound() {
    let site = Site::demo(|_| ()).await;
    let mut stream = site.connect("http/1.1").await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    send(&mut stream, long.as_bytes()).await;
    let response = read_all(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");

    let mut http = begin(&site).await;
    let part = [http2::get("/"), b"\x00\x01x\x64".to_vec(), vec![b'x'; 100]].concat();
    let more = [&b"\x00\x01x\x64"[..], &[b'x'; 100]].concat().repeat(150);
    http.send(HEADERS, END_STREAM, 1, &part).await;
    http.send(CONTINUATION, 0, 1, &more).await;
    http.send(CONTINUATION, END_HEADERS, 1, &more).await;
    let response = http.receive_kind(HEADERS).await.unwrap();
    assert!(has(&response.payload, STATUS_431), "{:02x?}", response.payload);
    http.send(HEADERS, WHOLE, 3, &http2::get(&path("n1.node.consul"))).await;
    assert_eq!(text(&http.receive_kind(DATA).await.unwrap().payload), NODE);
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_their_connection() {
    let site = Site::demo(|_| ()).await;
    let mut http = begin(&site).await;
    let head = http2::get(&path("n1.node.consul"));
    let pair = |number: u32| {
        let stream = 2 * number + 1;
        let reset = http2::frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        [http2::frame(HEADERS, WHOLE, stream, &head), reset].concat()
    };
    let bytes: Vec<u8> = (0..500).flat_map(pair).collect();
    http.try_send_raw(&bytes).await;
    let goaway = http.receive_kind(GOAWAY).await.unwrap();
    // ENHANCE_YOUR_CALM (RFC 9113 §7).
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 11]);
    let counted = async || site.ended("failed").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn long_bodies_take_turns_and_all_are_read() {
    let site = Site::demo(|_| ()).await;
    let mut http = begin(&site).await;
    let mut body = node();
    body.resize(20_000, 0);
    for stream in [1, 3, 5] {
        http.send(HEADERS, END_HEADERS, stream, &http2::post()).await;
        http.send(DATA, 0, stream, &body[..10_000]).await;
    }
    for stream in [5, 3, 1] {
        http.send(DATA, END_STREAM, stream, &body[10_000..]).await;
    }
    let mut answered = Vec::new();
    for _ in 0..3 {
        answered.push(http.receive_kind(DATA).await.unwrap().stream);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3, 5]);
}

/// A server for which nothing but a message takes too long.
async fn demo_with_message_timeout() -> Site {
    Site::demo(|config| {
        config.dns.connections.message_timeout = Duration::from_millis(300);
        config.dns.connections.idle = Duration::from_secs(3600);
    })
    .await
}

/// A server whose Consul says nothing of `slow`.
async fn slow(adjust: impl FnOnce(&mut fingerpost::config::Config)) -> (FakeConsul, Site) {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    adjust(&mut config);
    let site = Site::start(config, stage::start).await;
    consul.script(&health("slow"), Reply::hang());
    consul.script(&health("slow"), Reply::hang());
    (consul, site)
}

async fn waiting(site: &Site, queries: f64) {
    let waits = async || site.metric("fingerpost_dns_waiting").await == queries;
    eventually(format!("{queries} queries wait"), waits).await;
}

async fn begin(site: &Site) -> Http2 {
    Http2::begin(site.connect("h2").await, &[]).await
}

fn node() -> Vec<u8> {
    query("n1.node.consul", RecordType::A)
}

/// The path of a query for `name`.
fn path(name: &str) -> String {
    format!("/dns-query?dns={}", base64url(&query(name, RecordType::A)))
}

fn request(name: &str) -> String {
    format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(name))
}

fn post(length: &str, body: &[u8]) -> Vec<u8> {
    let kind = "Content-Type: application/dns-message";
    let head = format!("POST /dns-query HTTP/1.1\r\nHost: x\r\n{kind}\r\n{length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads a response with the reply of [`NODE`].
async fn read_reply(stream: &mut TlsStream<TcpStream>) {
    let head = read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut reply = vec![0; len.parse().unwrap()];
    within("a reply", stream.read_exact(&mut reply)).await.unwrap();
    assert_eq!(text(&reply), NODE);
}

/// Whether the server takes it.
async fn try_send(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok()
}

fn text(reply: &[u8]) -> String {
    zone_text(&Message::from_vec(reply).unwrap())
}

/// Whether a header block has these three digits.
fn has(block: &[u8], digits: [u8; 3]) -> bool {
    block.windows(3).any(|three| three == digits)
}

/// In the Huffman code of RFC 7541, appendix B, with ones behind them.
const STATUS_408: [u8; 3] = [0b0110_1000, 0b0000_1111, 0b0111_1111];
const STATUS_431: [u8; 3] = [0b0110_1001, 0b1001_0000, 0b1111_1111];
