//! TCP where a frame ends too early, and where a shutdown meets a client that has more to say.
//!
//! The grace is far longer than the tests' patience, so a stop that needed all of it fails here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use fingerpost::config::Config;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::dns::{Tcp, question, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, health};
use crate::support::wait::eventually;

#[tokio::test]
async fn half_a_query_holds_back_no_reply() {
    let (_consul, server) = serve(|config| config.dns.connections.idle = LONG).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    tcp.send_raw(&[query(7, "slow.service.consul"), half(0)].concat()).await;
    assert_eq!(reply(&mut tcp).await, (7, "SERVFAIL aa rd".to_owned()));
}

#[tokio::test]
async fn half_a_query_before_the_end_costs_no_reply() {
    let (_consul, server) = serve(|_| ()).await;
    for rest in [half(0), half(300), vec![0]] {
        let mut tcp = Tcp::connect(server.dns()).await;
        let whole = [query(7, "slow.service.consul"), query(8, "n1.node.consul")].concat();
        tcp.send_raw(&[whole, rest].concat()).await;
        tcp.finish().await;
        assert_eq!(reply(&mut tcp).await.0, 8);
        assert_eq!(reply(&mut tcp).await, (7, "SERVFAIL aa rd".to_owned()));
        tcp.ended().await;
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_no_half_query() {
    let (_consul, server) = serve(|config| config.dns.connections.idle = LONG).await;
    let mut connections = Vec::new();
    for rest in [half(0), half(300), vec![0], Vec::new()] {
        let mut tcp = Tcp::connect(server.dns()).await;
        tcp.send_raw(&[query(1, "n1.node.consul"), rest].concat()).await;
        assert_eq!(reply(&mut tcp).await, (1, NODE.to_owned()));
        connections.push(tcp);
    }
    server.stop().await;
    for mut tcp in connections {
        tcp.ended().await;
    }
}

#[tokio::test]
async fn a_shutdown_answers_all_that_wait_and_then_closes_in_order() {
    let (_consul, server) = serve(|_| ()).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    let queries = (1..=20).flat_map(|id| query(id, "slow.service.consul"));
    tcp.send_raw(&queries.collect::<Vec<_>>()).await;
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 20.0;
    eventually("all twenty wait", waits).await;
    let replies = async {
        let mut ids = Vec::new();
        for _ in 0..20 {
            let (id, text) = reply(&mut tcp).await;
            assert_eq!(text, "SERVFAIL aa rd");
            ids.push(id);
        }
        tcp.ended().await;
        ids
    };
    let (mut ids, ()) = tokio::join!(replies, server.stop());
    ids.sort_unstable();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_goes_on_asking_does_not_keep_the_program_from_stopping() {
    let (_consul, server) = serve(|_| ()).await;
    let address = server.dns();
    let mut asking = TcpStream::connect(address).unwrap();
    let mut reading = asking.try_clone().unwrap();
    let batch = query(1, "n1.node.consul").repeat(500);
    // Both end when the server closes.
    let asks = thread::spawn(move || while asking.write_all(&batch).is_ok() {});
    let reads = thread::spawn(move || {
        let mut replies = vec![0; 65_536];
        while reading.read(&mut replies).is_ok_and(|len| len > 0) {}
    });
    let answered = async || {
        let series = "fingerpost_dns_responses_total{rcode=\"NOERROR\"}";
        value(&scrape(&server).await, series) > 10_000.0
    };
    eventually("the client is being answered", answered).await;
    server.stop().await;
    asks.join().unwrap();
    reads.join().unwrap();
}

/// A server whose `slow.service.consul` waits in vain, for a short while.
async fn serve(adjust: impl FnOnce(&mut Config)) -> (FakeConsul, Server) {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    (config.shutdown.grace, config.cache.patience) = (LONG, Duration::from_millis(300));
    adjust(&mut config);
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());
    (consul, server)
}

/// The id and the text of the next reply.
async fn reply(tcp: &mut Tcp) -> (u16, String) {
    let bytes = tcp.receive().await.expect("the server closed before it had answered");
    let reply = Message::from_vec(&bytes).unwrap();
    (reply.metadata.id, zone_text(&reply))
}

/// A whole frame.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = question(name, RecordType::A);
    query.metadata.id = id;
    let bytes = query.to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes[..]].concat()
}

/// The first half of a frame.
fn half(id: u16) -> Vec<u8> {
    let mut whole = query(id, "n1.node.consul");
    whole.truncate(whole.len() / 2);
    whole
}

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

/// Longer than any test is patient.
const LONG: Duration = Duration::from_secs(60);
