//! DNS over HTTPS as clients use it: the same bytes as over TCP, and what HTTP says of them.

use std::process::Command;
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use futures_util::future::join_all;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use reqwest::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Client, Method, Response, Version};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::authority::{Authority, SERVER};
use crate::support::dns::{Tcp, question, with_edns, zone_text};
use crate::support::fake_consul::Reply;
use crate::support::http2::{ACK, GOAWAY, HEADERS, Http2, PING};
use crate::support::https::{Site, base64url, connect, query, read_all, read_head, send};
use crate::support::program::{ANY_PORT, Program};
use crate::support::server::Server;
use crate::support::stage::{self, health};
use crate::support::wait::{eventually, within};
use crate::support::{dnspython, program};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.json");

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

#[tokio::test]
async fn each_way_to_ask_gives_the_bytes_of_tcp() {
    let site = Site::demo(|_| ()).await;
    let mut tcp = Tcp::connect(site.server.dns()).await;
    let edns = with_edns(question("n1.node.consul", RecordType::A), 1232, true);
    let queries = [
        query("n1.node.consul", RecordType::A),
        query("N1.node.CONSUL", RecordType::TXT),
        query("cache.service.consul", RecordType::SRV),
        query("nothing.service.consul", RecordType::A),
        query("example.com", RecordType::A),
        edns.to_vec().unwrap(),
        // No question, which is FORMERR.
        vec![0; 12],
    ];
    let clients = [site.client(1), site.client(2)];
    for (version, client) in (1..).zip(&clients) {
        for query in &queries {
            tcp.send(query).await;
            let expected = tcp.receive().await.unwrap();
            for response in [get(&site, client, query).await, post(&site, client, query).await] {
                assert_eq!(response.status(), 200);
                let http = if version == 1 { Version::HTTP_11 } else { Version::HTTP_2 };
                assert_eq!(response.version(), http);
                assert_eq!(header(&response, CONTENT_TYPE.as_str()), "application/dns-message");
                assert_eq!(response.bytes().await.unwrap(), expected);
            }
            let head = client.head(url(&site, query)).send().await.unwrap();
            let len = expected.len().to_string();
            assert_eq!(header(&head, CONTENT_LENGTH.as_str()), len);
            assert_eq!(head.bytes().await.unwrap().len(), 0);
        }
    }
    let count = async |kind: &str| {
        let labels = format!("protocol=\"https\",type=\"{kind}\"");
        site.metric(&format!("fingerpost_dns_requests_total{{{labels}}}")).await
    };
    assert_eq!((count("SRV").await, count("none").await), (6.0, 6.0));
    // All of a client's on one connection.
    assert_eq!(site.open().await, 2.0);
}

#[tokio::test]
async fn what_is_no_query_has_a_status_that_says_why() {
    let site = Site::demo(|_| ()).await;
    let good = query("n1.node.consul", RecordType::A);
    let whole = format!("/dns-query?dns={}", base64url(&good));
    let padded = format!("{whole}==");
    let short = format!("/dns-query?dns={}", base64url(&good[..11]));
    let reply = [&good[..2], &[0x84], &good[3..]].concat();
    let reply = format!("/dns-query?dns={}", base64url(&reply));
    let dns = Some("application/dns-message");
    let long = vec![0; 65_536];
    for version in [1, 2] {
        let client = site.client(version);
        for (method, path, kind, body, expected) in [
            ("GET", &*whole, None, &[][..], 200),
            ("POST", "/dns-query", dns, &good[..], 200),
            ("GET", "/dns-query", None, &[], 400),
            ("GET", &padded, None, &[], 400),
            ("GET", &short, None, &[], 400),
            ("HEAD", &short, None, &[], 400),
            ("GET", &reply, None, &[], 400),
            ("POST", "/dns-query", dns, &[], 400),
            ("POST", "/dns-query", dns, &good[..11], 400),
            ("GET", "/", None, &[], 404),
            ("POST", "/dns-query/", dns, &good, 404),
            ("PUT", "/dns-query", dns, &good, 405),
            ("OPTIONS", "/dns-query", None, &[], 405),
            ("POST", "/dns-query", dns, &long, 413),
            ("POST", "/dns-query", Some("text/plain"), &good, 415),
            ("POST", "/dns-query", None, &good, 415),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = client.request(method.clone(), site.url_of(path));
            if let Some(kind) = kind {
                request = request.header(CONTENT_TYPE, kind);
            }
            let response = request.body(body.to_vec()).send().await.unwrap();
            let shown = format!("HTTP/{version} {method} {path}, {} bytes", body.len());
            assert_eq!(response.status(), expected, "{shown}");
            if expected == 405 {
                assert_eq!(header(&response, "allow"), "GET, HEAD, POST", "{shown}");
            }
            if expected != 200 {
                assert_eq!(header(&response, CACHE_CONTROL.as_str()), "no-store", "{shown}");
            }
        }
    }
    for (status, expected) in [(400, 14.0), (404, 4.0), (405, 4.0), (413, 2.0), (415, 4.0)] {
        let labels = format!("protocol=\"https\",status=\"{status}\"");
        let refused = site.metric(&format!("fingerpost_dns_http_refused_total{{{labels}}}")).await;
        assert_eq!(refused, expected, "{status}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_read_as_far_as_a_message_goes() {
    let site = Site::demo(|_| ()).await;
    for (len, expected) in [(65_535, "200"), (65_536, "413")] {
        let mut stream = site.connect("http/1.1").await;
        let head = "POST /dns-query HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                    Content-Type: application/dns-message\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut body = query("n1.node.consul", RecordType::A);
        body.resize(len, 0);
        let mut text = head.as_bytes().to_vec();
        for chunk in body.chunks(8_000) {
            text.extend(format!("{:x}\r\n", chunk.len()).bytes());
            text.extend(chunk);
            text.extend(b"\r\n");
        }
        text.extend(b"0\r\n\r\n");
        send(&mut stream, &text).await;
        let response = read_all(&mut stream).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {expected} ")), "{len}: {response}");
    }
}

#[tokio::test]
async fn a_reply_may_be_kept_as_long_as_its_records() {
    let mut config = Config::default();
    config.answers.node_ttl_secs = 30;
    config.answers.service_ttl_secs = vec![("web".to_owned(), 7)];
    config.answers.soa.min_ttl_secs = 20;
    let consul = stage::consul(&["a", "b", "c", "d", "web", "slow"]).await;
    let source = stage::config(&consul).consul;
    config.consul = source;
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    config.cache.patience = Duration::from_millis(100);
    let site = Site::start(config, stage::start).await;
    consul.script(&health("slow"), Reply::hang());
    let client = site.client(2);
    for (name, qtype, expected) in [
        ("n1.node.consul", RecordType::A, "max-age=30"),
        ("web.service.consul", RecordType::A, "max-age=7"),
        // The addresses beside an SRV record are not the answer.
        ("web.service.consul", RecordType::SRV, "max-age=7"),
        ("a.service.consul", RecordType::A, "max-age=0"),
        ("n1.node.consul", RecordType::AAAA, "max-age=20"),
        ("nothing.service.consul", RecordType::A, "max-age=20"),
        ("slow.service.consul", RecordType::A, "no-store"),
        ("example.com", RecordType::A, "no-store"),
    ] {
        let query = query(name, qtype);
        for response in [get(&site, &client, &query).await, post(&site, &client, &query).await] {
            assert_eq!(response.status(), 200, "{name} {qtype}");
            assert_eq!(header(&response, CACHE_CONTROL.as_str()), expected, "{name} {qtype}");
        }
    }
}

#[tokio::test]
async fn a_hundred_queries_at_once_share_a_connection() {
    let site = Site::demo(|_| ()).await;
    let client = site.client(2);
    // So that all know that there is a connection to share.
    let first = query("n1.node.consul", RecordType::A);
    assert_eq!(get(&site, &client, &first).await.status(), 200);
    let asking = (0..100).map(async |number: u32| {
        let name = format!("n{}.node.consul", number % 4 + 1);
        let query = query(&name, RecordType::A);
        let response = match number % 2 {
            0 => get(&site, &client, &query).await,
            _ => post(&site, &client, &query).await,
        };
        let reply = Message::from_vec(&response.bytes().await.unwrap()).unwrap();
        let address = format!("10.0.0.{}", number % 4 + 1);
        assert_eq!(zone_text(&reply), format!("NOERROR aa rd\nanswer {name}. 0 IN A {address}"));
    });
    within("all are answered", join_all(asking)).await;
    assert_eq!(site.open().await, 1.0);
}

#[tokio::test]
async fn a_large_reply_comes_whole() {
    let nodes: Vec<_> = (0..3_000_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            let services = json!([{ "name": "big", "port": 80 }]);
            json!({ "name": format!("n{number}"), "address": format!("10.3.{high}.{low}"), "services": services })
        })
        .collect();
    let changes = file::parse(&json!({ "nodes": nodes }).to_string()).unwrap().changes();
    let start = |config| Server::start(config, Origin::Fixed(changes));
    let site = Site::start(Config::default(), start).await;
    let query = query("big.service.consul", RecordType::A);
    for client in [site.client(1), site.client(2)] {
        // Many at once, so that more than a window is on its way.
        let asking = (0..20).map(async |_: u32| {
            let bytes = get(&site, &client, &query).await.bytes().await.unwrap();
            assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 3_000);
        });
        within("all are answered", join_all(asking)).await;
    }
}

#[tokio::test]
async fn a_query_that_waits_holds_up_no_other() {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let site = Site::start(config, stage::start).await;
    consul.script(&health("slow"), Reply::hang());
    let client = site.client(2);
    let slow = async {
        let query = query("slow.service.consul", RecordType::A);
        let response = post(&site, &client, &query).await;
        zone_text(&Message::from_vec(&response.bytes().await.unwrap()).unwrap())
    };
    let others = async {
        let waits = async || site.metric("fingerpost_dns_waiting").await == 1.0;
        eventually("the query waits", waits).await;
        for _ in 0..50 {
            let query = query("n1.node.consul", RecordType::A);
            let response = get(&site, &client, &query).await;
            let reply = Message::from_vec(&response.bytes().await.unwrap()).unwrap();
            assert_eq!(zone_text(&reply), NODE);
        }
        assert_eq!(site.metric("fingerpost_dns_waiting_expired_total").await, 0.0);
    };
    let (slow, ()) = tokio::join!(slow, others);
    assert_eq!(slow, "SERVFAIL aa rd");
    assert_eq!(site.open().await, 1.0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let site = Site::demo(|_| ()).await;
    let mut stream = site.connect("http/1.1").await;
    let request = |name: &str| {
        let query = base64url(&query(name, RecordType::A));
        format!("GET /dns-query?dns={query} HTTP/1.1\r\nHost: x\r\n\r\n")
    };
    let last = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let text = [&*request("n1.node.consul"), &request("nothing.node.consul"), last].concat();
    send(&mut stream, text.as_bytes()).await;
    // It says that nothing more comes, and hears all the same.
    stream.shutdown().await.unwrap();
    let read = read_all(&mut stream).await;
    let statuses: Vec<_> = read.split("HTTP/1.1 ").skip(1).map(|text| &text[..3]).collect();
    assert_eq!(statuses, ["200", "200", "404"]);
}

/// A client that is not told would send its next request into a connection that closes.
#[tokio::test]
async fn a_body_that_is_not_read_is_the_last_on_its_connection() {
    let site = Site::demo(|_| ()).await;
    for (head, body, is_last) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", false),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "abc", true),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "", true),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "", false),
    ] {
        let mut stream = site.connect("http/1.1").await;
        send(&mut stream, format!("{head}{body}").as_bytes()).await;
        let response = read_head(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
        assert_eq!(response.contains("connection: close\r\n"), is_last, "{head}: {response}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_clients_and_open_connections_stay() {
    let mut site = Site::demo(|_| ()).await;
    let mut before = site.connect("http/1.1").await;
    let query = base64url(&query("n1.node.consul", RecordType::A));
    let request = format!("HEAD /dns-query?dns={query} HTTP/1.1\r\nHost: x\r\n\r\n");
    send(&mut before, request.as_bytes()).await;
    assert!(read_head(&mut before).await.starts_with("HTTP/1.1 200 OK"));

    site.authority.replace();
    let read = async || site.metric("fingerpost_dns_certificate_loads_total").await >= 1.0;
    eventually("the new certificate is read", read).await;
    let mut after = site.connect("http/1.1").await;
    for stream in [&mut before, &mut after] {
        send(stream, request.as_bytes()).await;
        assert!(read_head(stream).await.starts_with("HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn the_path_is_the_one_that_is_configured() {
    let site = Site::demo(|config| config.dns.https_path = "/resolve".to_owned()).await;
    let client = site.client(2);
    let query = base64url(&query("n1.node.consul", RecordType::A));
    for (path, expected) in [("/resolve", 200), ("/dns-query", 404)] {
        let url = format!("{}?dns={query}", site.url_of(path));
        assert_eq!(client.get(url).send().await.unwrap().status(), expected, "{path}");
    }
}

#[tokio::test]
async fn what_a_client_does_wrong_is_not_in_the_log() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let file = |name: &str| authority.path(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("server.pem"), file("server.key"));
    let args = ["serve", "--catalog", DEMO, "--dns", ANY_PORT, "--admin", ANY_PORT];
    let program = Program::start(
        &args,
        &[
            ("FINGERPOST_DNS_HTTPS_LISTEN", ANY_PORT),
            ("FINGERPOST_DNS_CERT_FILE", &cert),
            ("FINGERPOST_DNS_KEY_FILE", &key),
        ],
    );
    program.ready().await;
    let log = program.stderr();
    let (_, address) = log.split_once(" https=[").unwrap();
    let address = address.split(']').next().unwrap().parse().unwrap();
    let stream = connect(address, &authority, "h2").await.unwrap();
    let mut http = Http2::begin(stream, &[]).await;
    // Answers to what was not asked, and then what is nothing at all.
    for _ in 0..10 {
        http.send(PING, ACK, 0, &[7; 8]).await;
    }
    http.send(HEADERS, 0, 0, &[]).await;
    assert!(http.receive_kind(GOAWAY).await.is_some());
    assert_eq!(program.stderr(), log);
}

#[tokio::test]
async fn curl_is_answered_by_either_version() {
    let Some(curl) = program("curl") else { return };
    let site = Site::demo(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let (body, reply) = (folder.path().join("query"), folder.path().join("reply"));
    let query = query("n1.node.consul", RecordType::A);
    std::fs::write(&body, &query).unwrap();
    let at = site.server.https();
    let get = url(&site, &query);
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for is_post in [false, true] {
            let mut command = Command::new(&curl);
            command.args(["--silent", "--show-error", version, "--max-time", "10", "--noproxy"]);
            command.args(["*", "--write-out", "%{http_code} %{http_version} %{content_type}"]);
            command.arg("--cacert").arg(site.authority.path("ca.pem"));
            command.arg("--resolve").arg(format!("{SERVER}:{}:{}", at.port(), at.ip()));
            command.arg("--output").arg(&reply);
            match is_post {
                true => {
                    command.args(["--header", "content-type: application/dns-message"]);
                    command.arg("--data-binary").arg(format!("@{}", body.display()));
                    command.arg(site.url());
                }
                false => drop(command.arg(&get)),
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(said, format!("200 {number} application/dns-message"), "{errors}");
            let reply = Message::from_vec(&std::fs::read(&reply).unwrap()).unwrap();
            assert_eq!(zone_text(&reply), NODE);
        }
    }
}

#[tokio::test]
async fn kdig_is_answered_by_either_method() {
    let Some(kdig) = program("kdig") else { return };
    let site = Site::demo(|_| ()).await;
    let port = site.server.https().port().to_string();
    let (ca, host) = (
        format!("+tls-ca={}", site.authority.path("ca.pem").display()),
        format!("+tls-host={SERVER}"),
    );
    for method in ["+https", "+https-get"] {
        let output = Command::new(&kdig)
            .args(["@127.0.0.1", "-p", &port, "+retry=0", "+https", method, &ca, &host])
            .args(["n1.node.consul", "A"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let record = text.lines().find(|line| line.starts_with("n1.node.consul."));
        let fields: Vec<_> = record.unwrap_or_default().split_whitespace().collect();
        assert_eq!(fields, ["n1.node.consul.", "0", "IN", "A", "10.0.0.1"], "{method}:\n{text}");
    }
}

/// Needs the Python package httpx beside dnspython, which alone speaks no HTTP.
#[tokio::test]
async fn dnspython_is_answered_by_either_method() {
    let Some(python) = dnspython() else { return };
    let site = Site::demo(|_| ()).await;
    let port = site.server.https().port().to_string();
    let ca = site.authority.path("ca.pem");
    let output = Command::new(python)
        .args(["-c", ASK, &port, ca.to_str().unwrap(), SERVER])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = ["False", "True"].map(|post| format!("{post} NOERROR {RECORD}\n")).concat();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{errors}");
}

const ASK: &str = r#"
import sys
import dns.message, dns.query, dns.rcode
port, ca, host = int(sys.argv[1]), sys.argv[2], sys.argv[3]
for post in (False, True):
    query = dns.message.make_query("n1.node.consul", "A", use_edns=0, payload=1232)
    reply = dns.query.https(query, f"https://{host}:{port}/dns-query", 5, port, post=post,
        verify=ca, bootstrap_address="127.0.0.1", http_version=dns.query.HTTPVersion.HTTP_2)
    assert query.is_response(reply)
    answers = ", ".join(str(rrset) for rrset in reply.answer)
    print(post, dns.rcode.to_text(reply.rcode()), answers)
"#;

const RECORD: &str = "n1.node.consul. 0 IN A 10.0.0.1";

fn url(site: &Site, query: &[u8]) -> String {
    format!("{}?dns={}", site.url(), base64url(query))
}

async fn get(site: &Site, client: &Client, query: &[u8]) -> Response {
    within("a response", client.get(url(site, query)).send()).await.unwrap()
}

async fn post(site: &Site, client: &Client, query: &[u8]) -> Response {
    let request = client.post(site.url()).header(CONTENT_TYPE, "application/dns-message");
    within("a response", request.body(query.to_vec()).send()).await.unwrap()
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}
