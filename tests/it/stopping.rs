//! A stop as those see it who ask: first not ready, then silent; and one that is told twice.

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::dns;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::{eventually, within};

/// A demo with this lameduck, ready.
async fn demo(lameduck: &str) -> Program {
    let env = [("FINGERPOST_SHUTDOWN_LAMEDUCK", lameduck)];
    let demo = Program::start(&["demo", "--dns", ANY_PORT, "--admin", ANY_PORT], &env);
    demo.ready().await;
    demo
}

/// An HTTP connection that is kept.
struct Kept(TcpStream);

impl Kept {
    async fn connect(demo: &Program) -> Self {
        Self(TcpStream::connect(demo.admin_address().await).await.unwrap())
    }

    /// The status and the body for `path`; the same connection serves the next request.
    async fn get(&mut self, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.expect("the connection was closed"));
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let (_, length) = head.split_once("content-length: ").unwrap();
            let length = length.lines().next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            let status = head.split(' ').nth(1).unwrap().to_owned();
            (status, String::from_utf8(body).unwrap())
        };
        within("a reply on a connection that is kept", reading).await
    }
}

fn said(status: &str, body: &str) -> (String, String) {
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_lameduck_is_not_ready_and_answers_still() {
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let mut demo = demo("5m").await;
        let mut kept = Kept::connect(&demo).await;
        let mut tcp = dns::Tcp::connect(demo.dns_address().await).await;
        assert_eq!(kept.get("/ready").await, said("200", "ready\n"));
        let metric = "/metrics?name%5B%5D=fingerpost_ready";
        assert!(kept.get(metric).await.1.ends_with("\nfingerpost_ready 1\n"));
        demo.signal(signal);
        let stopping = async || kept.get("/ready").await == said("503", "stopping\n");
        eventually("a connection that is kept is told of the stop", stopping).await;
        assert_eq!(kept.get("/health").await, said("200", "ok\n"));
        assert!(kept.get(metric).await.1.ends_with("\nfingerpost_ready 0\n"));
        let mut fresh = Kept::connect(&demo).await;
        assert_eq!(fresh.get("/ready").await, said("503", "stopping\n"));

        let server = demo.dns_address().await;
        let name = "n1.node.consul";
        assert_eq!(dns::ask(server, name, RecordType::A).await.answers.len(), 1);
        assert_eq!(dns::ask_tcp(server, name, RecordType::A).await.answers.len(), 1);
        tcp.send(&dns::question(name, RecordType::A).to_vec().unwrap()).await;
        let reply = tcp.receive().await.expect("the connection was closed");
        assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 1);

        // Long before the lameduck is over.
        demo.signal(signal);
        assert_eq!(demo.status().await, Some(status), "SIG{signal}\n{}", demo.stderr());
    }
}

#[tokio::test]
async fn signals_of_both_kinds_are_two() {
    let mut demo = demo("5m").await;
    demo.signal("TERM");
    eventually("the stop begins", async || demo.stderr().contains("answering still")).await;
    demo.signal("INT");
    assert_eq!(demo.status().await, Some(130), "{}", demo.stderr());
    assert!(demo.stderr().contains("is dropped signal=\"SIGINT\""), "{}", demo.stderr());
}

#[tokio::test]
async fn when_the_lameduck_is_over_it_ends() {
    let mut demo = demo("300ms").await;
    let since = Instant::now();
    demo.signal("TERM");
    assert_eq!(demo.status().await, Some(0), "{}", demo.stderr());
    assert!(since.elapsed().as_millis() >= 300, "{:?}", since.elapsed());
    assert!(demo.stderr().contains("stopped"), "{}", demo.stderr());
}
