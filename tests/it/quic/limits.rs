//! What one connection over QUIC may take, what all may, and what those do who are none.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use fingerpost::config::Config;
use futures_util::FutureExt;
use quinn::{ConnectionError, VarInt};

use crate::quic::{EXCESSIVE_LOAD, NO_ERROR, NODE, OPEN, PROTOCOL_ERROR};
use crate::quic::{bytes, demo, ended, query, slow};
use crate::support::dns::{Udp, zone_text};
use crate::support::metrics::{scrape, value};
use crate::support::quic::{Quic, closed_with, exchange, open, receive};
use crate::support::wait::{eventually, within};

#[tokio::test]
async fn no_more_streams_are_open_than_a_pipeline_has() {
    let (server, client, _consul) = slow(|config| config.dns.connections.pipeline_max = 2).await;
    let connection = client.connect(server.quic()).await;
    let (_, first) = open(&connection, &bytes("slow.service.consul"), true).await;
    let (_, second) = open(&connection, &bytes("slow.service.consul"), true).await;
    let mut first = pin!(receive(first));
    let answered = tokio::select! {
        biased;
        first = &mut first => Some(first),
        // Both may be ready by now.
        _ = connection.open_bi() => first.now_or_never(),
    };
    let first = answered.expect("a third stream was opened beside the two that wait");
    assert_eq!(zone_text(&first), "SERVFAIL aa rd");
    assert_eq!(zone_text(&receive(second).await), "SERVFAIL aa rd");
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    let full = value(&scrape(&server).await, "fingerpost_dns_pipeline_full_total");
    assert!(full >= 1.0, "it was counted");
}

#[tokio::test]
async fn a_connection_without_queries_is_closed_though_it_is_kept_up() {
    let idle = Duration::from_millis(300);
    let (server, client) = demo(|config| config.dns.connections.idle = idle).await;
    let client = client.bounded(|transport| {
        transport.keep_alive_interval(Some(Duration::from_millis(50)));
    });
    let connection = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    assert_eq!(closed_with(&connection).await, NO_ERROR);
    let counted = async || ended(&server, "idle").await == 1.0;
    eventually("it is counted", counted).await;
    assert_eq!(value(&scrape(&server).await, OPEN), 0.0);
}

#[tokio::test]
async fn a_query_that_does_not_come_whole_ends_its_connection() {
    let patience = Duration::from_millis(200);
    let adjust = |config: &mut Config| config.dns.connections.message_timeout = patience;
    let (server, client, _consul) = slow(adjust).await;
    let connection = client.connect(server.quic()).await;
    let (_, waiting) = open(&connection, &bytes("slow.service.consul"), true).await;
    // All of it but the end of the stream, without which there may be more.
    let _half = open(&connection, &bytes("n1.node.consul"), false).await;
    assert_eq!(zone_text(&receive(waiting).await), "SERVFAIL aa rd", "what was whole is answered");
    assert_eq!(closed_with(&connection).await, PROTOCOL_ERROR);
    let counted = async || ended(&server, "message").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn unfinished_queries_hold_a_bounded_room() {
    let (server, client) = demo(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    let mut half = vec![0xff, 0xff];
    half.resize(60_000, 0);
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(open(&connection, &half, false).await);
    }
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    let (mut send, _receive) = open(&connection, b"", false).await;
    // It may be closed while this is sent.
    let _ = send.write_all(&half).await;
    assert_eq!(closed_with(&connection).await, EXCESSIVE_LOAD);
}

#[tokio::test]
async fn a_client_that_gives_up_all_it_asks_is_closed() {
    let (server, client) = demo(|_| ()).await;
    let connection = client.connect(server.quic()).await;
    let giving_up = async {
        while let Ok((mut send, _)) = connection.open_bi().await {
            let _ = send.write_all(&[0]).await;
            let _ = send.reset(VarInt::from_u32(3));
        }
    };
    within("the end of a QUIC connection", giving_up).await;
    assert_eq!(closed_with(&connection).await, EXCESSIVE_LOAD);
    let counted = async || ended(&server, "failed").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_connection_has_its_share_of_queries() {
    let (server, client) = demo(|config| config.dns.connections.connection_queries_max = 3).await;
    let connection = client.connect(server.quic()).await;
    for _ in 0..3 {
        assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    }
    assert_eq!(closed_with(&connection).await, NO_ERROR);
    let counted = async || ended(&server, "queries").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn a_client_that_takes_no_replies_is_given_up() {
    let idle = Duration::from_millis(400);
    let (server, client) = demo(|config| config.dns.connections.idle = idle).await;
    let deaf = client.bounded(|transport| {
        transport.keep_alive_interval(Some(Duration::from_millis(50)));
        transport.receive_window(VarInt::from_u32(20));
    });
    let connection = deaf.connect(server.quic()).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(open(&connection, &bytes("n1.node.consul"), true).await);
    }
    closed_with(&connection).await;
    let counted = async || ended(&server, "unread").await == 1.0;
    eventually("it is counted", counted).await;
    let failures = value(&scrape(&server).await, "fingerpost_dns_send_failures_total");
    assert!(failures >= 1.0, "{failures}");
}

#[tokio::test]
async fn where_there_is_no_room_the_idle_ones_leave_first() {
    let (server, client) = demo(|config| config.dns.connections.connections_max = 2).await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        let connection = client.connect(server.quic()).await;
        assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
        connections.push(connection);
    }
    // Both were of use just now.
    let third = client.connect(server.quic()).await;
    assert_eq!(closed_with(&third).await, EXCESSIVE_LOAD);
    assert_eq!(ended(&server, "refused").await, 1.0);
    let room = async || {
        assert_eq!(zone_text(&exchange(&connections[1], &query("n1.node.consul")).await), NODE);
        let connection = client.connect(server.quic()).await;
        let asked = query("n1.node.consul");
        tokio::select! {
            biased;
            code = closed_with(&connection) => assert_eq!(code, EXCESSIVE_LOAD),
            reply = exchange(&connection, &asked) => {
                assert_eq!(zone_text(&reply), NODE);
                return true;
            }
        }
        false
    };
    eventually("the first is idle for long enough to leave", room).await;
    assert_eq!(closed_with(&connections[0]).await, NO_ERROR);
    let counted = async || ended(&server, "crowded").await == 1.0;
    eventually("it is counted", counted).await;
}

#[tokio::test]
async fn one_client_does_not_take_all_places() {
    let adjust = |config: &mut Config| config.dns.connections.client_connections_max = 1;
    let (server, client) = demo(adjust).await;
    let first = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&first, &query("n1.node.consul")).await), NODE);
    let second = client.connect(server.quic()).await;
    assert_eq!(closed_with(&second).await, EXCESSIVE_LOAD);
    // Another network, and the same places: those of TCP.
    let other = Quic::from_address(client.authority, b"doq", IpAddr::from([127, 0, 0, 2]));
    let third = other.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&third, &query("n1.node.consul")).await), NODE);
}

#[tokio::test]
async fn a_connection_does_not_move_to_another_address() {
    let idle = Duration::from_millis(500);
    let (server, client) = demo(|config| config.dns.connections.idle = idle).await;
    let connection = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    client.move_away();
    let _unanswered = open(&connection, &bytes("n1.node.consul"), true).await;
    // That the first reply had arrived may have come from the other address already.
    let ended = async || ended(&server, "idle").await + ended(&server, "unread").await == 1.0;
    eventually("it ends where it came from", ended).await;
    let requests = "fingerpost_dns_requests_total{protocol=\"quic\",type=\"A\"}";
    assert_eq!(value(&scrape(&server).await, requests), 1.0);
    let connection = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let patience = Duration::from_millis(100);
    let (server, client) = demo(|config| config.dns.connections.handshake_timeout = patience).await;
    // The first packets of a client that never comes back: each needs an answer and has a client.
    for packet in client.first_packets(3).await {
        Udp::connect(server.quic()).await.send(&packet).await;
    }
    let counted = async || ended(&server, "handshake").await == 3.0;
    eventually("they are counted", counted).await;
    assert_eq!(value(&scrape(&server).await, OPEN), 0.0);
}

#[tokio::test]
async fn addresses_that_may_be_forged_take_no_place() {
    let adjust = |config: &mut Config| {
        config.dns.connections.connections_max = 1;
        config.dns.connections.handshake_timeout = Duration::from_secs(60);
    };
    let (server, client) = demo(adjust).await;
    let connection = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    for (packet, number) in client.first_packets(UNPROVED_MAX + 9).await.iter().zip(0..) {
        let forger = Udp::connect(server.quic()).await;
        forger.send(packet).await;
        // RFC 9000 §17.2.5: the first byte of a Retry is 0b1111....
        let is_retry = forger.receive().await[0] >> 4 == 0xf;
        assert_eq!(is_retry, number >= UNPROVED_MAX, "{number}");
    }
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    assert_eq!(ended(&server, "crowded").await, 0.0);
    assert_eq!(value(&scrape(&server).await, OPEN), 1.0);
    // Whoever is sent back, and comes with the token, is let in as any other: here there is no room.
    let newcomer = client.try_connect(server.quic()).await;
    assert!(matches!(newcomer, Err(ConnectionError::ConnectionClosed(_))), "{newcomer:?}");
    assert_eq!(ended(&server, "refused").await, 1.0);
    drop(connection);
    let room = async || value(&scrape(&server).await, OPEN) == 0.0;
    eventually("there is room", room).await;
    let newcomer = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&newcomer, &query("n1.node.consul")).await), NODE);
}

#[tokio::test]
async fn garbage_makes_no_connection() {
    let (server, client) = demo(|_| ()).await;
    let udp = Udp::connect(server.quic()).await;
    let mut random = fastrand::Rng::with_seed(1);
    for len in 0..1_500 {
        let mut datagram: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
        // Now as a packet of a connection, now as the first of one, of the version that we speak.
        if let (Some(head), true) = (datagram.first_chunk_mut::<5>(), len % 2 == 0) {
            *head = [0xc0 | head[0], 0, 0, 0, 1];
        }
        udp.send(&datagram).await;
    }
    udp.send(&query("n1.node.consul").to_vec().unwrap()).await;
    let connection = client.connect(server.quic()).await;
    assert_eq!(zone_text(&exchange(&connection, &query("n1.node.consul")).await), NODE);
    let metrics = scrape(&server).await;
    assert_eq!(value(&metrics, OPEN), 1.0);
    assert_eq!(value(&metrics, "fingerpost_dns_panics_total"), 0.0);
    assert_eq!(ended(&server, "handshake").await, 0.0);
}

/// Handshakes at once with addresses that are not proved.
const UNPROVED_MAX: usize = 64;
