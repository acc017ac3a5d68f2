//! The client against a scripted HTTP server, one request a connection.

use std::path::PathBuf;

use Act::{Closes, Hangs, Sends};
use Place::{Spare, Watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::catalog::Form;
use crate::config::{ConsulAddress, Secret};
use crate::consul::api;
use crate::consul::samples::{Act, Server, config, ok, sends};

fn client(server: &Server) -> Client {
    Client::new(&config(&[&server.address])).unwrap()
}

/// The error's message with its sources, and its word for metrics.
async fn failure(client: &Client) -> (FetchError, String) {
    let error = client.read(&api::datacenters(), None, Spare).await.unwrap_err();
    let text = format!("{} ({})", error.chain(), error.kind());
    (error, text)
}

#[tokio::test]
async fn headers_count_in_any_letter_case() {
    for (headers, expected) in [
        (
            "X-Consul-Index: 33\r\nX-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 12\r\n",
            "Some(33) Some(true) Some(12)",
        ),
        (
            "x-consul-index: 33\r\nX-CONSUL-KNOWNLEADER: true\r\nX-Consul-LastContact: 0\r\n",
            "Some(33) Some(true) Some(0)",
        ),
        ("X-Consul-Index: 0\r\n", "Some(1) None None"),
        ("X-Consul-Index: many\r\nX-Consul-LastContact: -1\r\n", "None None None"),
        ("", "None None None"),
    ] {
        let server = Server::start([sends("200 OK", headers, r#"["east"]"#)]).await;
        let reply = client(&server).read(&api::datacenters(), None, Spare).await.unwrap();
        let index = reply.index.map(Index::get);
        let got = format!("{index:?} {:?} {:?}", reply.known_leader, reply.last_contact_ms);
        assert_eq!(got, expected, "headers: {headers:?}");
        assert_eq!((reply.value, reply.bytes, reply.address), (vec!["east".to_owned()], 8, 0));
    }
}

#[tokio::test]
async fn a_server_without_a_leader_is_not_believed() {
    let headers = "X-Consul-Index: 1\r\nX-CONSUL-KNOWNLEADER: false\r\n";
    let server = Server::start([sends("200 OK", headers, "[]")]).await;
    assert_eq!(failure(&client(&server)).await.1, "consul has no leader (no_leader)");
}

#[tokio::test]
async fn a_server_that_lost_its_leader_is_believed_where_that_is_asked_for() {
    for (contact, expected) in [
        ("X-Consul-LastContact: 8506\r\n", "[\"n1\"]"),
        // Just met, and its log may not be read yet.
        ("X-Consul-LastContact: 400\r\n", "no_leader"),
        // Never met since its start: Go's largest duration.
        ("X-Consul-LastContact: 9223372036854\r\n", "no_leader"),
        ("", "no_leader"),
    ] {
        let headers = format!("X-Consul-Index: 12\r\nX-Consul-KnownLeader: false\r\n{contact}");
        let nodes = r#"[{"Node": "n1", "Address": "10.0.0.1"}]"#;
        let server = Server::start([sends("200 OK", &headers, nodes)]).await;
        let got = match client(&server).read_leaderless(&api::nodes(None), Watch).await {
            Ok(reply) => {
                let names = reply.value.nodes.into_iter().map(|node| node.name);
                format!("{:?}", names.collect::<Vec<_>>())
            }
            Err(error) => error.kind().to_owned(),
        };
        assert_eq!(got, expected, "{contact}");
        assert_eq!(server.asked(), ["/v1/catalog/nodes?stale"]);
    }
}

#[tokio::test]
async fn a_name_is_one_segment_whatever_it_holds() {
    for (name, expected) in [
        ("web", "/v1/health/service/web?consistent"),
        ("a/b", "/v1/health/service/a%2Fb?consistent"),
        ("two words?x=1#y", "/v1/health/service/two%20words%3Fx=1%23y?consistent"),
        ("100%", "/v1/health/service/100%25?consistent"),
        ("grün", "/v1/health/service/gr%C3%BCn?consistent"),
    ] {
        let server = Server::start([ok(7, "[]")]).await;
        client(&server).read(&api::health(None, Form::Service, name), None, Spare).await.unwrap();
        assert_eq!(server.asked(), [expected], "name: {name}");
    }
}

#[tokio::test]
async fn parameters_say_whose_catalog_and_since_when() {
    let server = Server::start([ok(7, "{}"), ok(8, "{}"), ok(9, "[]")]).await;
    let client = Client::new(&ConsulConfig {
        datacenter: Some("east".to_owned()),
        namespace: Some("team a".to_owned()),
        partition: Some("p1".to_owned()),
        ..config(&[&server.address])
    })
    .unwrap();

    let first = client.read(&api::services(None), None, Spare).await.unwrap();
    client.read(&api::services(Some("west")), first.position(), Watch).await.unwrap();
    client.read(&api::datacenters(), None, Spare).await.unwrap();
    assert_eq!(
        server.asked(),
        [
            "/v1/catalog/services?consistent&dc=east&ns=team+a&partition=p1",
            "/v1/catalog/services?stale&dc=west&ns=team+a&partition=p1&index=7&wait=10000ms",
            "/v1/catalog/datacenters",
        ],
    );
}

#[tokio::test]
async fn token_and_password_are_sent() {
    let server = Server::start([ok(7, "[]")]).await;
    let client = Client::new(&ConsulConfig {
        token: Some(Secret::new("t0ken".to_owned())),
        http_auth: Some(Secret::new("user:pass:word".to_owned())),
        ..config(&[&server.address])
    })
    .unwrap();
    client.read(&api::datacenters(), None, Spare).await.unwrap();
    let head = server.head().to_lowercase();
    assert!(head.contains("\r\nx-consul-token: t0ken\r\n"), "{head}");
    // base64 of `user:pass:word`
    assert!(server.head().contains("Basic dXNlcjpwYXNzOndvcmQ="), "{head}");
}

#[tokio::test]
async fn no_token_is_no_header() {
    let server = Server::start([ok(7, "[]")]).await;
    client(&server).read(&api::datacenters(), None, Spare).await.unwrap();
    assert!(!server.head().to_lowercase().contains("x-consul-token"), "{}", server.head());
}

#[tokio::test]
async fn a_secret_that_lies_across_the_end_of_what_is_shown_is_hidden() {
    let echo = format!("{}t0ken", "x".repeat(197));
    for (auth, expected) in [(None, format!("{}…", "x".repeat(197))), (Some("u:p"), "…".to_owned())]
    {
        let server = Server::start([sends("418 Teapot", "", &echo)]).await;
        let client = Client::new(&ConsulConfig {
            token: Some(Secret::new("t0ken".to_owned())),
            http_auth: auth.map(|auth| Secret::new(auth.to_owned())),
            ..config(&[&server.address])
        })
        .unwrap();
        let (_, text) = failure(&client).await;
        assert_eq!(text, format!("consul answered with status 418: {expected:?} (status)"));
    }
}

#[tokio::test]
async fn json_of_another_type_is_quoted_briefly_and_without_secrets() {
    let long = format!("\"{}\"", "x".repeat(100_000));
    for (auth, json, expected) in [
        (None, "\"t0ken\"", "invalid type: string \"…\", expected a sequence".to_owned()),
        (Some("u:p"), "\"p\"", "…".to_owned()),
        (None, &*long, format!("invalid type: string \"{} (body)", "x".repeat(178))),
    ] {
        let server = Server::start([ok(7, json)]).await;
        let client = Client::new(&ConsulConfig {
            token: Some(Secret::new("t0ken".to_owned())),
            http_auth: auth.map(|auth| Secret::new(auth.to_owned())),
            ..config(&[&server.address])
        })
        .unwrap();
        let (_, text) = failure(&client).await;
        let expected = format!("cannot read consul's reply as JSON: {expected}");
        assert!(text.starts_with(&expected) && !text.contains("t0ken"), "{text}");
    }
}

#[tokio::test]
async fn a_token_is_in_no_error_and_no_debug() {
    let echo = || sends("403 Forbidden", "", "ACL not found: t0ken");
    let server = Server::start([echo(), Closes]).await;
    let client = Client::new(&ConsulConfig {
        token: Some(Secret::new("t0ken".to_owned())),
        http_auth: Some(Secret::new("user:passw0rd".to_owned())),
        ..config(&[&server.address])
    })
    .unwrap();
    for _ in 0..2 {
        let (error, text) = failure(&client).await;
        let shown = format!("{text} {error:?} {client:?}");
        assert!(!shown.contains("t0ken") && !shown.contains("passw0rd"), "{shown}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_answer() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[\"east\"".to_owned();
    let cut_chunk =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n[\"east\"".to_owned();
    for (act, beginning, kind) in [
        (ok(7, ""), "cannot read consul's reply as JSON: EOF", "body"),
        (ok(7, r#"["east""#), "cannot read consul's reply as JSON: EOF", "body"),
        (ok(7, "<html>"), "cannot read consul's reply as JSON: expected value", "body"),
        (Sends(cut), "consul's reply ends too early: ", "cut"),
        (Sends(cut_chunk), "consul's reply ends too early: ", "cut"),
        (Closes, "consul closed a new connection before it replied: ", "exchange"),
        (Sends("garbage\r\n\r\n".to_owned()), "consul broke off before it replied: ", "exchange"),
    ] {
        let server = Server::start([act]).await;
        let (error, text) = failure(&client(&server)).await;
        assert!(text.starts_with(beginning), "{text}");
        assert_eq!(error.kind(), kind, "{text}");
    }
}

#[tokio::test]
async fn other_statuses_are_failures_with_consuls_words() {
    let long = "x".repeat(10_000);
    for (status, body, expected) in [
        ("500 Internal Server Error", "No cluster leader", r#"500: "No cluster leader" (status)"#),
        ("429 Too Many Requests", "", r#"429: "" (status)"#),
        ("403 Forbidden", "a\r\n\u{1b}[31mb", r#"403: "a[31mb" (status)"#),
        ("404 Not Found", &long, &format!("404: \"{}\" (status)", &long[..200])),
        ("301 Moved Permanently", "", r#"301: "" (status)"#),
        ("204 No Content", "", r#"204: "" (status)"#),
    ] {
        // The headers of an error are not to be believed, and a redirect leads nowhere.
        let headers = "X-Consul-Index: 1\r\nLocation: /ui/\r\nRetry-After: 7\r\n";
        let server = Server::start([sends(status, headers, body)]).await;
        let (error, text) = failure(&client(&server)).await;
        assert_eq!(text, format!("consul answered with status {expected}"));
        assert_eq!(
            (error.retry_after(), error.is_refusal()),
            (Some(Duration::from_secs(7)), false)
        );
    }
}

#[tokio::test]
async fn consul_may_say_that_it_lets_no_more_connections_in_or_for_how_long_to_wait() {
    let too_many = "Your IP is issuing too many concurrent connections, please rate limit your \
                    calls\n";
    for (headers, body, refusal, secs) in [
        ("Connection: close\r\n", too_many, true, None),
        ("", "rate limit exceeded, try again later", false, None),
        ("Retry-After: 86400\r\n", "", false, Some(60)),
        ("Retry-After: Fri, 31 Dec 2099 23:59:59 GMT\r\n", "", false, None),
    ] {
        let server = Server::start([sends("429 Too Many Requests", headers, body)]).await;
        let (error, _) = failure(&client(&server)).await;
        let got = (error.is_refusal(), error.retry_after().map(|after| after.as_secs()));
        assert_eq!(got, (refusal, secs), "{headers}");
    }
}

#[tokio::test]
async fn a_body_is_bounded_whether_its_length_is_told_or_not() {
    let body = format!("[\"{}\"]", "x".repeat(100));
    let told = ok(7, &body);
    let untold = Sends(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"));
    for (act, bytes_max, expected) in [
        (told, 50, "consul's reply is larger than 50 bytes (too_large)"),
        (untold, 50, "consul's reply is larger than 50 bytes (too_large)"),
    ] {
        let server = Server::start([act]).await;
        let config = ConsulConfig { response_bytes_max: bytes_max, ..config(&[&server.address]) };
        let (_, text) = failure(&Client::new(&config).unwrap()).await;
        assert_eq!(text, expected);
    }
}

#[tokio::test]
async fn a_large_body_is_read_as_a_small_one() {
    let names: Vec<_> = (10_000..30_000).map(|n| format!("dc{n}")).collect();
    let server = Server::start([ok(7, &format!("[\"{}\"]", names.join("\",\"")))]).await;
    let reply = client(&server).read(&api::datacenters(), None, Spare).await.unwrap();
    assert!(reply.bytes > PARSE_HERE_BYTES_MAX);
    assert_eq!(reply.value, names);
}

#[tokio::test]
async fn a_consul_that_hangs_is_given_up() {
    let server = Server::start([Hangs]).await;
    let config = ConsulConfig { timeout: Duration::from_millis(80), ..config(&[&server.address]) };
    let (_, text) = failure(&Client::new(&config).unwrap()).await;
    assert_eq!(text, "consul did not reply within 80 ms (timeout)");
}

#[tokio::test]
async fn a_blocking_query_is_given_up_a_sixteenth_past_its_wait() {
    let server = Server::start([ok(7, "[]"), Hangs]).await;
    let config = ConsulConfig {
        wait: Duration::from_millis(160),
        timeout: Duration::from_millis(90),
        ..config(&[&server.address])
    };
    let client = Client::new(&config).unwrap();
    let first = client.read(&api::nodes(None), None, Spare).await.unwrap();
    let error = client.read(&api::nodes(None), first.position(), Watch).await.unwrap_err();
    assert_eq!(error.chain(), "consul did not reply within 260 ms");
}

#[tokio::test]
async fn nobody_there_is_a_failure_to_connect() {
    // A port that was ours a moment ago, so that nobody else listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(&config(&[&format!("http://{closed}")])).unwrap();
    let (_, text) = failure(&client).await;
    assert!(text.starts_with("cannot reach consul: "), "{text}");
}

#[tokio::test]
async fn the_next_address_is_asked_from_the_start_and_kept() {
    let one = Server::start([ok(700, "[]"), Closes, ok(701, "[]")]).await;
    let two = Server::start([ok(20, "[]"), ok(21, "[]")]).await;
    let client = Client::new(&config(&[&one.address, &two.address])).unwrap();
    let ask = api::nodes(None);

    let mut after = None;
    let mut replied = Vec::new();
    for _ in 0..3 {
        let reply = client.read(&ask, after, Watch).await.unwrap();
        after = reply.position();
        replied.push(format!("{}/{}", reply.address, reply.index.unwrap().get()));
    }
    assert_eq!(replied, ["0/700", "1/20", "1/21"]);
    assert_eq!(
        one.asked(),
        ["/v1/catalog/nodes?consistent", "/v1/catalog/nodes?stale&index=700&wait=10000ms"]
    );
    assert_eq!(
        two.asked(),
        ["/v1/catalog/nodes?consistent", "/v1/catalog/nodes?stale&index=20&wait=10000ms"]
    );
}

#[tokio::test]
async fn a_position_at_an_address_no_longer_in_use_starts_over() {
    let one = Server::start([ok(700, "[]"), Closes]).await;
    let two = Server::start([ok(20, "[]"), ok(20, "[]")]).await;
    let client = Client::new(&config(&[&one.address, &two.address])).unwrap();
    let held = client.read(&api::nodes(None), None, Spare).await.unwrap().position();
    // Another question finds that the first address is gone.
    client.read(&api::datacenters(), None, Spare).await.unwrap();
    client.read(&api::nodes(None), held, Watch).await.unwrap();
    assert_eq!(two.asked()[1], "/v1/catalog/nodes?consistent");
}

#[tokio::test]
async fn what_makes_another_address_worth_a_try() {
    for (act, expected) in [
        (Closes, "1"),
        (ok(7, ""), "1"),
        (ok(7, "[\"ea"), "1"),
        (sends("500 Internal Server Error", "", "No cluster leader"), "1"),
        (sends("503 Service Unavailable", "", ""), "1"),
        (sends("429 Too Many Requests", "", ""), "1"),
        // these are the same everywhere
        (sends("403 Forbidden", "", "ACL not found"), "status"),
        (sends("400 Bad Request", "", "Invalid index"), "status"),
    ] {
        let one = Server::start([act]).await;
        let two = Server::start([ok(7, "[]")]).await;
        let client = Client::new(&config(&[&one.address, &two.address])).unwrap();
        let got = match client.read(&api::datacenters(), None, Spare).await {
            Ok(reply) => reply.address.to_string(),
            Err(error) => error.kind().to_owned(),
        };
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn each_address_is_tried_once_and_the_last_failure_told() {
    let one = Server::start([sends("500 Internal Server Error", "", "one")]).await;
    let two = Server::start([sends("500 Internal Server Error", "", "two")]).await;
    let client = Client::new(&config(&[&one.address, &two.address])).unwrap();
    let (_, text) = failure(&client).await;
    assert_eq!(text, "consul answered with status 500: \"two\" (status)");
    assert_eq!((one.asked().len(), two.asked().len()), (1, 1));
}

#[tokio::test]
async fn questions_do_not_queue_behind_watches() {
    // One blocking query at a time; two are wanted, and a question besides.
    let server = Server::start([ok(7, "[]"), Hangs, ok(8, r#"["east"]"#)]).await;
    let config =
        ConsulConfig { connections_max: 2, connections_spare: 1, ..config(&[&server.address]) };
    let client = Client::new(&config).unwrap();
    let after = client.read(&api::nodes(None), None, Spare).await.unwrap().position();

    let (one, two) = (client.clone(), client.clone());
    let held = async move { one.read(&api::nodes(None), after, Watch).await.map(drop) };
    let queued = async move { two.read(&api::nodes(None), after, Watch).await.map(drop) };
    let question = async {
        while server.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
        client.read(&api::datacenters(), None, Spare).await.unwrap().value
    };
    tokio::select! {
        biased;
        _ = held => panic!("held"),
        _ = queued => panic!("queued"),
        names = question => assert_eq!(names, ["east"]),
    }
    assert_eq!(server.asked().len(), 3, "the second watch was not sent: {:?}", server.asked());
}

#[tokio::test]
async fn nobody_waits_for_a_place_without_end() {
    let server = Server::start([Hangs, ok(7, "[]")]).await;
    let config = ConsulConfig {
        connections_spare: 1,
        timeout: Duration::from_millis(80),
        ..config(&[&server.address])
    };
    let client = Client::new(&config).unwrap();
    let _place = client.0.spare.acquire().await.unwrap();
    assert_eq!(failure(&client).await.1, "no request to consul could begin within 80 ms (crowded)");
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn the_agents_datacenter_is_unknown_where_the_token_may_not_ask() {
    let server = Server::start([
        ok(1, r#"{"Config": {"Datacenter": "east"}}"#),
        sends("403 Forbidden", "", "Permission denied"),
        sends("500 Internal Server Error", "", ""),
    ])
    .await;
    let client = client(&server);
    let name = api::fetch_self(&client).await.unwrap().datacenter;
    assert_eq!(name.as_deref(), Some("east"));
    assert_eq!(api::fetch_self(&client).await.unwrap(), api::Agent::default());
    assert_eq!(api::fetch_self(&client).await.unwrap_err().kind(), "status");
    assert_eq!(server.asked()[0], "/v1/agent/self");
}

#[tokio::test]
async fn a_unix_socket_is_an_address_too() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("consul.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let config = ConsulConfig { addresses: vec![ConsulAddress::Unix(path)], ..config(&[]) };
    let client = Client::new(&config).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n[\"east\"]").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let ask = api::datacenters();
    let (head, reply) = tokio::join!(serve, client.read(&ask, None, Spare));
    assert!(head.starts_with("GET /v1/catalog/datacenters HTTP/1.1\r\n"), "{head}");
    assert_eq!(reply.unwrap().value, ["east"]);
}
