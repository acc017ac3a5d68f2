//! `/v1/events`: what somebody who looks on is told, and what that may cost.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::fake_consul::Reply;
use crate::support::metrics::{find, scrape};
use crate::support::stage::{self, NODES, SERVICES, fill, health, list, nodes};
use crate::support::wait::{eventually, within};

/// A client that reads a stream of events.
struct Stream {
    stream: TcpStream,
    read: String,
}

impl Stream {
    /// Connects, and waits until the server says that it will be told.
    async fn open(admin: SocketAddr) -> Self {
        let mut stream = Self::ask(admin).await;
        stream.until(": listening\n").await;
        stream
    }

    async fn ask(admin: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nHost: {admin}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, read: String::new() }
    }

    /// Reads until `text` has come, and gives what came up to there.
    async fn until(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                if let Some(at) = self.read.find(text) {
                    let rest = self.read.split_off(at + text.len());
                    return std::mem::replace(&mut self.read, rest);
                }
                assert!(self.more().await, "it ends before {text:?}: {}", self.read);
            }
        };
        within(format!("{text:?} comes"), reading).await
    }

    /// Reads what there is, once there is something. False at the end.
    async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 1 << 16];
        let len = self.stream.read(&mut bytes).await.unwrap();
        self.read += str::from_utf8(&bytes[..len]).unwrap();
        len > 0
    }

    /// The data of the next event of this name; others are passed over.
    async fn next(&mut self, name: &str) -> Value {
        self.until(&format!("event: {name}\ndata: ")).await;
        let data = self.until("\n\n").await;
        serde_json::from_str(&data).unwrap()
    }
}

#[tokio::test]
async fn what_consul_tells_is_told() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    let mut stream = Stream::open(server.admin()).await;

    fill(&consul, 11, "web", "10.0.0.9");
    let one = json!({ "passing": 1, "warning": 0, "unknown": 0, "critical": 0 });
    let expected = json!({ "datacenter": "dc1", "name": "web", "health": one });
    assert_eq!(stream.next("service").await, expected);

    fill(&consul, 11, "db", "10.0.0.8");
    list(&consul, 11, &["web", "db"]);
    let expected = json!({ "datacenter": "dc1", "added": ["db"], "removed": [] });
    assert_eq!(stream.next("services").await, expected);
    let expected = json!({ "datacenter": "dc1", "name": "db", "health": null });
    assert_eq!(stream.next("service").await, expected, "its instances come later");
    let expected = json!({ "datacenter": "dc1", "name": "db", "health": one });
    assert_eq!(stream.next("service").await, expected);

    nodes(&consul, 11, &[("n1", "10.0.0.3"), ("n2", "10.0.0.2")]);
    let expected =
        json!({ "datacenter": "dc1", "added": ["n2"], "changed": ["n1"], "removed": [] });
    assert_eq!(stream.next("nodes").await, expected);

    consul.set("/v1/catalog/datacenters", 2, &json!(["dc1", "dc2"]));
    let expected = json!({ "added": ["dc2"], "removed": [], "local": "dc1" });
    assert_eq!(stream.next("datacenters").await, expected);

    for path in [SERVICES, NODES, &health("web"), &health("db")] {
        (0..1000).for_each(|_| consul.script(path, Reply::status(500, "No cluster leader")));
    }
    let expected = json!({ "datacenter": "dc1", "is_heard": false, "is_old": true });
    assert_eq!(stream.next("reach").await, expected);
    for path in [SERVICES, NODES, &health("web"), &health("db")] {
        consul.unscript(path);
    }
    let expected = json!({ "datacenter": "dc1", "is_heard": true, "is_old": false });
    assert_eq!(stream.next("reach").await, expected);
}

/// A client that reads too slowly learns how much it has missed, and what comes then.
#[tokio::test]
async fn who_is_slow_is_told_so_and_goes_on() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    let mut stream = Stream::open(server.admin()).await;
    // Far more than is kept, in one publication: nobody can read so fast.
    let names: Vec<String> = (0..6000).map(|at| format!("service-{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["web"]).collect();
    list(&consul, 11, &names);
    let missed = stream.next("lagged").await["missed"].as_u64().unwrap();
    assert!(missed > 1000, "{missed}");
    list(&consul, 12, &[&names[..], &["late"]].concat());
    let expected = json!({ "datacenter": "dc1", "added": ["late"], "removed": [] });
    assert_eq!(stream.next("services").await, expected);
    let counted = find(&scrape(&server).await, "fingerpost_admin_events_missed_total").unwrap();
    assert!(counted >= missed as f64, "{counted} {missed}");
}

#[tokio::test]
async fn one_too_many_is_refused_until_a_place_is_free() {
    let consul = stage::consul(&["web"]).await;
    let mut config = stage::config(&consul);
    config.admin.events_max = 1;
    let server = stage::serve(config).await;
    let counts = async |listeners: u8, refused: u8| {
        let text = scrape(&server).await;
        text.contains(&format!("\nfingerpost_admin_listeners {listeners}\n"))
            && text.contains(&format!("\nfingerpost_admin_listeners_refused_total {refused}\n"))
    };
    let first = Stream::open(server.admin()).await;
    let mut second = Stream::ask(server.admin()).await;
    let head = second.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    second.until(r#"{"error":"admin.events_max streams are open"}"#).await;
    assert!(counts(1, 1).await);
    drop(first);
    eventually("the place is given back", async || counts(0, 1).await).await;
    Stream::open(server.admin()).await;
}

/// The stream is complete then, and the program does not wait for it.
#[tokio::test]
async fn a_stream_ends_when_the_program_does() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    let mut stream = Stream::open(server.admin()).await;
    server.stop().await;
    within("it ends", async { while stream.more().await {} }).await;
    assert!(stream.read.ends_with("\r\n0\r\n\r\n"), "{:?}", stream.read);
}

/// A page that a name of somebody else's leads here may not listen.
#[tokio::test]
async fn who_asks_under_another_name_hears_nothing() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    let client = reqwest::Client::new();
    for path in ["/", "/v1/events"] {
        let url = format!("http://{}{path}", server.admin());
        let reply = client.get(url).header("Host", "evil.example").send().await.unwrap();
        assert_eq!(reply.status(), 421, "{path}");
    }
}
