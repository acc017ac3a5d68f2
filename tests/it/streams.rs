//! TCP as clients use and abuse it: pipelines, waits, silence, too many at once, the end.

use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use tokio::time::timeout;

use crate::support::dns::{Tcp, ask, ask_tcp, pipeline, question, with_edns, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, health};
use crate::support::wait::{eventually, within};

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

#[tokio::test]
async fn a_hundred_queries_in_one_write_are_all_answered() {
    let server = demo(|_| ()).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    let mut bytes = Vec::new();
    for id in 0..100 {
        bytes.extend(framed(&query(id, "n1.node.consul")));
    }
    tcp.send_raw(&bytes).await;
    let mut ids: Vec<u16> = Vec::new();
    for _ in 0..100 {
        ids.push(Message::from_vec(&tcp.receive().await.unwrap()).unwrap().metadata.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_query_may_come_byte_by_byte_and_the_client_may_close_its_side() {
    let server = demo(|_| ()).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    for byte in framed(&query(7, "n1.node.consul")) {
        tcp.send_raw(&[byte]).await;
    }
    tcp.send(&query(8, "n1.node.consul")).await;
    tcp.finish().await;
    for _ in 0..2 {
        let reply = Message::from_vec(&tcp.receive().await.unwrap()).unwrap();
        assert_eq!(zone_text(&reply), NODE);
    }
    assert_eq!(tcp.receive().await, None, "then the server closes too");
}

#[tokio::test]
async fn a_query_that_waits_holds_up_none_behind_it() {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());

    let mut tcp = Tcp::connect(server.dns()).await;
    let slow = with_edns(question("slow.service.consul", RecordType::A), 1232, false);
    tcp.send(&slow.to_vec().unwrap()).await;
    tcp.send(&query(9, "n1.node.consul")).await;
    let first = Message::from_vec(&tcp.receive().await.unwrap()).unwrap();
    assert_eq!((first.metadata.id, zone_text(&first)), (9, NODE.to_owned()));
    let second = Message::from_vec(&tcp.receive().await.unwrap()).unwrap();
    assert_eq!(second.metadata.id, slow.metadata.id);
    assert_eq!(zone_text(&second), "SERVFAIL aa rd");
    assert_eq!(value(&scrape(&server).await, "fingerpost_dns_waiting_expired_total"), 1.0);
}

#[tokio::test]
async fn too_many_that_wait_are_refused_at_once() {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    (config.dns.waiting_max, config.cache.patience) = (3, Duration::from_secs(2));
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());
    let slow = |id| {
        let mut slow = question("slow.service.consul", RecordType::A);
        slow.metadata.id = id;
        slow
    };
    for reply in pipeline(server.dns(), &[1, 2, 3, 4, 5].map(slow)).await {
        assert_eq!(zone_text(&reply), "SERVFAIL aa rd");
    }
    let metrics = scrape(&server).await;
    assert_eq!(value(&metrics, "fingerpost_dns_waiting_refused_total"), 2.0);
    assert_eq!(value(&metrics, "fingerpost_dns_waiting"), 0.0);
}

#[tokio::test]
async fn a_connection_without_a_whole_query_is_closed_after_the_idle_time() {
    let server = demo(|config| config.dns.connections.idle = Duration::from_millis(200)).await;
    let mut silent = Tcp::connect(server.dns()).await;
    let mut half = Tcp::connect(server.dns()).await;
    half.send_raw(&framed(&query(1, "n1.node.consul"))[..9]).await;
    assert_eq!(silent.receive().await, None);
    assert_eq!(half.receive().await, None);
    let closed = async || ended(&server, "idle").await == 2.0;
    eventually("both are gone", closed).await;
    assert_eq!(value(&scrape(&server).await, OPEN), 0.0);
}

#[tokio::test]
async fn nobody_makes_room_while_something_is_fetched_for_him() {
    let patience = Duration::from_secs(3);
    let (consul, server) = slow(|config| {
        (config.dns.connections.connections_max, config.cache.patience) = (2, patience);
    })
    .await;
    let mut waiting = [Tcp::connect(server.dns()).await, Tcp::connect(server.dns()).await];
    for tcp in &mut waiting {
        tcp.send(&query(1, "slow.service.consul")).await;
    }
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 2.0;
    eventually("both wait", waits).await;
    let mut third = Tcp::connect(server.dns()).await;
    assert_eq!(third.receive().await, None);
    assert_eq!(ended(&server, "refused").await, 1.0);
    assert_eq!(zone_text(&ask(server.dns(), "n1.node.consul", RecordType::A).await), NODE);

    let [mut first, second] = waiting;
    assert!(first.receive().await.is_some(), "it had its answer");
    first.finish().await;
    first.ended().await;
    let room = async || value(&scrape(&server).await, OPEN) == 1.0;
    eventually("there is room again", room).await;
    assert_eq!(zone_text(&ask_tcp(server.dns(), "n1.node.consul", RecordType::A).await), NODE);
    drop((second, consul));
}

#[tokio::test]
async fn the_connection_that_is_idle_the_longest_makes_room() {
    let server = demo(|config| config.dns.connections.connections_max = 2).await;
    let mut oldest = Tcp::connect(server.dns()).await;
    let mut other = Tcp::connect(server.dns()).await;
    for tcp in [&mut oldest, &mut other] {
        tcp.send(&query(1, "n1.node.consul")).await;
        assert!(tcp.receive().await.is_some());
    }
    // Nobody is pushed out within a second of his last query.
    let comes_in = async || {
        other.send(&query(1, "n1.node.consul")).await;
        assert!(other.receive().await.is_some(), "it is in use");
        let mut third = Tcp::connect(server.dns()).await;
        third.offer(&framed(&query(2, "n1.node.consul"))).await;
        third.receive().await.is_some()
    };
    eventually("a third one is let in", comes_in).await;
    oldest.ended().await;
    let closed = async || ended(&server, "crowded").await == 1.0;
    eventually("it is gone", closed).await;
}

#[tokio::test]
async fn a_query_that_is_never_whole_is_not_waited_for() {
    let (_consul, server) = slow(|config| {
        config.dns.connections.message_timeout = Duration::from_millis(200);
    })
    .await;
    let mut half = Tcp::connect(server.dns()).await;
    half.send_raw(&framed(&query(1, "n1.node.consul"))[..9]).await;
    half.ended().await;
    // One byte at a time is no better, and what came before it is answered.
    let mut dripping = Tcp::connect(server.dns()).await;
    dripping.send(&query(1, "slow.service.consul")).await;
    dripping.send(&query(2, "n1.node.consul")).await;
    dripping.send_raw(&[0, 40]).await;
    let mut replies = Vec::new();
    while let Some(reply) = dripping.receive().await {
        replies.push(Message::from_vec(&reply).unwrap().metadata.id);
        dripping.offer(&[0]).await;
    }
    replies.sort_unstable();
    assert_eq!(replies, [1, 2]);
    let closed = async || ended(&server, "message").await == 2.0;
    eventually("both are gone", closed).await;
}

#[tokio::test]
async fn a_connection_that_had_its_share_is_closed_in_order() {
    let server = demo(|config| config.dns.connections.connection_queries_max = 3).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    let queries = (1..=5).flat_map(|id| framed(&query(id, "n1.node.consul")));
    tcp.send_raw(&queries.collect::<Vec<_>>()).await;
    for id in 1..=3 {
        let reply = tcp.receive().await.unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, id);
    }
    tcp.ended().await;
    let closed = async || ended(&server, "queries").await == 1.0;
    eventually("it is gone", closed).await;
}

#[tokio::test]
async fn a_connection_with_enough_queries_open_is_not_read_until_some_are_answered() {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    (config.dns.connections.pipeline_max, config.cache.patience) = (2, Duration::from_millis(200));
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());
    let names = ["slow", "slow", "slow", "a", "b"];
    let mut tcp = Tcp::connect(server.dns()).await;
    let queries = names
        .iter()
        .zip(1..)
        .map(|(name, id)| framed(&query(id, &format!("{name}.service.consul"))));
    tcp.send_raw(&queries.flatten().collect::<Vec<_>>()).await;
    let mut ids = Vec::new();
    for _ in names {
        ids.push(Message::from_vec(&tcp.receive().await.unwrap()).unwrap().metadata.id);
    }
    assert_eq!(ids.len(), 5);
    // Until one of them was answered; from then on nobody waits for what it has given up.
    assert!(ids[0] <= 2, "the first two filled the pipeline: {ids:?}");
    let full = value(&scrape(&server).await, "fingerpost_dns_pipeline_full_total");
    assert!(full >= 1.0, "it was counted");
}

#[tokio::test]
async fn a_client_that_never_reads_costs_nobody_else_an_answer() {
    let server = demo(|config| config.dns.connections.idle = Duration::from_millis(500)).await;
    let mut deaf = Tcp::connect(server.dns()).await;
    let mut batch = Vec::new();
    for id in 0..200 {
        batch.extend(framed(&query(id, "many.service.consul")));
    }
    // Until the server's and both kernels' buffers are full, or the server has had enough.
    let stuffed = async {
        for _ in 0..400 {
            deaf.send_raw(&batch).await;
        }
    };
    let closed = async || {
        assert_eq!(zone_text(&ask_tcp(server.dns(), "n1.node.consul", RecordType::A).await), NODE);
        value(&scrape(&server).await, OPEN) == 0.0
    };
    tokio::select! {
        () = stuffed => (),
        () = eventually("its connection ends", closed) => (),
    }
    eventually("its connection has ended", closed).await;
}

/// Its place is another's at once, and so is all that it holds.
#[tokio::test]
async fn a_client_that_never_reads_makes_room_for_its_next() {
    let server = demo(|config| {
        config.dns.connections.idle = Duration::from_secs(600);
        config.dns.connections.client_connections_max = 2;
    });
    let server = server.await;
    let mut deaf = [Tcp::connect(server.dns()).await, Tcp::connect(server.dns()).await];
    let batch: Vec<u8> =
        (0..200).flat_map(|id| framed(&query(id, "many.service.consul"))).collect();
    let [one, other] = &mut deaf;
    // Until the server takes no more, so that it waits for them to read.
    stuff(one, &batch).await;
    stuff(other, &batch).await;
    let gets_in = async || {
        let mut next = Tcp::connect(server.dns()).await;
        next.offer(&framed(&query(7, "n1.node.consul"))).await;
        next.receive().await.is_some()
    };
    eventually("a third connection gets in", gets_in).await;
    let crowded = async || ended(&server, "crowded").await >= 1.0;
    eventually("one of the deaf is gone", crowded).await;
    assert_eq!(ended(&server, "unread").await, 0.0);
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_up_a_shutdown() {
    let server = demo(|config| {
        config.dns.connections.idle = Duration::from_secs(600);
        config.shutdown.grace = Duration::from_secs(600);
    });
    let server = server.await;
    let mut deaf = Tcp::connect(server.dns()).await;
    let batch: Vec<u8> =
        (0..200).flat_map(|id| framed(&query(id, "many.service.consul"))).collect();
    stuff(&mut deaf, &batch).await;
    within("the server stops", server.stop()).await;
}

/// Sends `batch` again and again, until the server reads no more.
async fn stuff(deaf: &mut Tcp, batch: &[u8]) {
    while timeout(Duration::from_millis(500), deaf.send_raw(batch)).await.is_ok() {}
}

/// What has begun to come cannot be whole while the server itself does not read.
#[tokio::test]
async fn a_query_is_not_late_while_the_server_does_not_read() {
    let (_consul, server) = slow(|config| {
        config.dns.connections.pipeline_max = 1;
        config.dns.connections.message_timeout = Duration::from_millis(50);
        config.cache.patience = Duration::from_millis(500);
    })
    .await;
    let mut tcp = Tcp::connect(server.dns()).await;
    let whole = framed(&query(8, "n1.node.consul"));
    let (first, rest) = whole.split_at(9);
    tcp.send_raw(&[&framed(&query(7, "slow.service.consul")), first].concat()).await;
    tcp.send_raw(rest).await;
    for (id, text) in [(7, "SERVFAIL aa rd"), (8, NODE)] {
        let reply = Message::from_vec(&tcp.receive().await.expect("a reply")).unwrap();
        assert_eq!((reply.metadata.id, &*zone_text(&reply)), (id, text));
    }
    assert_eq!(ended(&server, "message").await, 0.0);
}

#[tokio::test]
async fn a_shutdown_answers_what_was_read_and_then_closes() {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());
    let mut idle = Tcp::connect(server.dns()).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    tcp.send(&query(1, "slow.service.consul")).await;
    let waits = async || value(&scrape(&server).await, "fingerpost_dns_waiting") == 1.0;
    eventually("the query waits", waits).await;

    let (stopped, reply) = tokio::join!(server.stop(), tcp.receive());
    assert_eq!(stopped, ());
    let reply = Message::from_vec(&reply.unwrap()).unwrap();
    assert_eq!(zone_text(&reply), "SERVFAIL aa rd");
    assert_eq!(tcp.receive().await, None);
    assert_eq!(idle.receive().await, None);
}

#[tokio::test]
async fn a_large_service_fills_a_reply_up_to_64_kib() {
    let nodes: Vec<_> = (0..1_500_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            serde_json::json!({
                "name": format!("a-node-with-a-long-name-{number:04}"),
                "address": format!("10.3.{high}.{low}"),
                "services": [{ "name": "big", "port": 80 }],
            })
        })
        .collect();
    let text = serde_json::json!({ "nodes": nodes }).to_string();
    let server = serve(Config::default(), &text).await;

    let a = ask_tcp(server.dns(), "big.service.consul", RecordType::A).await;
    assert_eq!((a.answers.len(), a.metadata.truncation), (1_500, false));

    let srv = ask_tcp(server.dns(), "big.service.consul", RecordType::SRV).await;
    assert!(!srv.metadata.truncation, "over TCP there is nowhere else to ask");
    assert!(srv.answers.len() > 700, "{} answers", srv.answers.len());
    let targets: std::collections::BTreeSet<_> = srv
        .answers
        .iter()
        .map(|record| match &record.data {
            RData::SRV(srv) => srv.target.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(targets.len(), srv.answers.len(), "each instance once");
    for record in &srv.additionals {
        assert!(targets.contains(&record.name.to_string()), "{} is no target", record.name);
    }
    // A smaller one has all its addresses, also where no pointer reaches: past 16 KiB.
    let small = serde_json::json!({ "nodes": nodes[..500] }).to_string();
    let server = serve(Config::default(), &small).await;
    let srv = ask_tcp(server.dns(), "big.service.consul", RecordType::SRV).await;
    assert_eq!((srv.answers.len(), srv.additionals.len()), (500, 500));
}

/// A server whose `slow.service.consul` waits in vain.
async fn slow(adjust: impl FnOnce(&mut Config)) -> (FakeConsul, Server) {
    let consul = stage::consul(&["a", "b", "c", "d", "slow"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    adjust(&mut config);
    let server = stage::serve(config).await;
    consul.script(&health("slow"), Reply::hang());
    (consul, server)
}

async fn demo(adjust: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::default();
    adjust(&mut config);
    serve(config, file::DEMO).await
}

/// Starts `config` on a catalogue file's text, and waits until it is ready.
async fn serve(config: Config, catalog: &str) -> Server {
    let changes = file::parse(catalog).unwrap().changes();
    let server = Server::start(config, Origin::Fixed(changes));
    server.ready().await;
    server
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = question(name, RecordType::A);
    query.metadata.id = id;
    query.to_vec().unwrap()
}

/// With the two bytes of its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// TCP connections that were ended by `reason`.
async fn ended(server: &Server, reason: &str) -> f64 {
    let labels = format!("protocol=\"tcp\",reason=\"{reason}\"");
    value(&scrape(server).await, &format!("fingerpost_dns_connections_ended_total{{{labels}}}"))
}

const OPEN: &str = "fingerpost_dns_connections{protocol=\"tcp\"}";
