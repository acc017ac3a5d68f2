//! What no client should send: it gets an error or nothing, and costs nobody else an answer.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::dns::{Tcp, Udp, ask, ask_tcp, question, with_edns, zone_text};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::wait::eventually;

#[tokio::test]
async fn random_bytes_over_udp_cost_no_answer() {
    let server = demo().await;
    let udp = Udp::connect(server.dns()).await;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        for _ in 0..100 {
            udp.send(&noise(&mut random)).await;
        }
        is_well(server.dns()).await;
    }
    assert_eq!(value(&scrape(&server).await, "fingerpost_dns_panics_total"), 0.0);
}

#[tokio::test]
async fn random_bytes_over_tcp_cost_their_own_connection_at_most() {
    let server = demo().await;
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..50 {
        let mut tcp = Tcp::connect(server.dns()).await;
        tcp.send_raw(&noise(&mut random)).await;
        let mut framed = Tcp::connect(server.dns()).await;
        framed.send(&noise(&mut random)).await;
        framed.send(&noise(&mut random)).await;
        is_well(server.dns()).await;
    }
    assert_eq!(value(&scrape(&server).await, "fingerpost_dns_panics_total"), 0.0);
}

#[tokio::test]
async fn good_queries_between_bad_frames_are_answered() {
    let server = demo().await;
    let mut tcp = Tcp::connect(server.dns()).await;
    let good = question("n1.node.consul", RecordType::A);
    let bytes = good.to_vec().unwrap();
    tcp.send(b"").await;
    tcp.send(&[0xff; 11]).await;
    tcp.send(&bytes).await;
    tcp.send(&[0x80; 40]).await;
    tcp.send(&bytes).await;
    // The longest frame there is: a query with as many zeros behind it.
    tcp.send(&[bytes.clone(), vec![0; 65_535 - bytes.len()]].concat()).await;
    // A length that promises more than comes.
    tcp.send_raw(&[0, 200, 1, 2, 3]).await;
    tcp.finish().await;
    let mut answers = 0;
    while let Some(reply) = tcp.receive().await {
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.id, good.metadata.id);
        assert_eq!(zone_text(&reply), "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1");
        answers += 1;
    }
    assert_eq!(answers, 3);
}

#[tokio::test]
async fn odd_messages_get_the_error_they_are_due_over_both_transports() {
    let server = demo().await;
    let plain = question("web.service.consul", RecordType::A).to_vec().unwrap();
    let with_flags = |flags: u16| {
        let mut bytes = plain.clone();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes
    };
    let with_tail = |len_back: usize, tail: &[u8]| {
        let mut bytes = plain.clone();
        let at = bytes.len() - len_back;
        bytes.splice(at..at + tail.len(), tail.iter().copied());
        bytes
    };
    let counted = |at: usize, count: u8, rest: &[u8]| {
        let mut bytes = plain.clone();
        bytes[at] = count;
        bytes.extend_from_slice(rest);
        bytes
    };
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let opt_version_1 = [0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0];
    for (what, message, expected) in [
        ("STATUS", with_flags(0x1100), "rcode 4 qd 1"),
        ("NOTIFY", with_flags(0x2000), "rcode 4 qd 1"),
        ("UPDATE", with_flags(0x2800), "rcode 4 qd 1"),
        ("class CH", with_tail(2, &[0, 3]), "rcode 5 qd 1"),
        ("class ANY", with_tail(2, &[0, 255]), "rcode 5 qd 1"),
        ("AXFR", with_tail(4, &[0, 252]), "rcode 5 qd 1"),
        ("IXFR", with_tail(4, &[0, 251]), "rcode 5 qd 1"),
        ("type OPT", with_tail(4, &[0, 41]), "rcode 1 qd 1"),
        ("no question", counted(5, 0, b""), "rcode 1 qd 0"),
        ("two questions", counted(5, 2, &plain[12..]), "rcode 1 qd 1"),
        ("a record that is cut off", counted(11, 1, &opt[..5]), "rcode 1 qd 1"),
        ("two OPTs", counted(11, 2, &opt.repeat(2)), "rcode 1 qd 1"),
        // The upper bits of BADVERS, 16, are in the OPT record.
        ("EDNS version 1", counted(11, 1, &opt_version_1), "rcode 0 qd 1 extended 1"),
        ("an unknown type", with_tail(4, &[0xff, 0]), "rcode 0 qd 1"),
    ] {
        let mut tcp = Tcp::connect(server.dns()).await;
        tcp.send(&message).await;
        let over_tcp = tcp.receive().await.unwrap();
        let udp = Udp::connect(server.dns()).await;
        udp.send(&message).await;
        for reply in [over_tcp, udp.receive().await] {
            assert_eq!(reply[..2], message[..2], "{what}: the id");
            assert_eq!(render(&reply), expected, "{what}");
            if reply[5] == 1 {
                let question = 12..plain.len();
                assert_eq!(reply[question.clone()], message[question], "{what}: the question");
            }
        }
    }
}

#[tokio::test]
async fn responses_and_fragments_get_nothing() {
    let server = demo().await;
    let udp = Udp::connect(server.dns()).await;
    let good = question("n1.node.consul", RecordType::A).to_vec().unwrap();
    let mut response = good.clone();
    response[2] |= 0x80;
    udp.send(&response).await;
    udp.send(&good[..11]).await;
    udp.send(&[]).await;
    // The socket keeps the order: had one of these been answered, its reply would come first.
    udp.send(&good).await;
    assert_eq!(udp.receive().await[2] & 0x80, 0x80);
    let reply = Message::from_vec(&{
        udp.send(&good).await;
        udp.receive().await
    });
    assert!(zone_text(&reply.unwrap()).contains("10.0.0.1"));
    let ignored = value(&scrape(&server).await, "fingerpost_dns_ignored_total");
    assert!(ignored >= 2.0, "{ignored} ignored");
}

#[tokio::test]
async fn a_reply_is_within_the_size_that_the_client_takes() {
    let server = demo().await;
    for (payload, limit) in [(0, 512), (511, 512), (700, 700), (1232, 1232), (65_535, 1232)] {
        for qtype in [RecordType::A, RecordType::SRV, RecordType::ANY] {
            let query = with_edns(question("many.service.consul", qtype), payload, true);
            let udp = Udp::connect(server.dns()).await;
            udp.send(&query.to_vec().unwrap()).await;
            let bytes = udp.receive().await;
            assert!(bytes.len() <= limit, "{} of {limit} bytes, {qtype}", bytes.len());
            let edns = Message::from_vec(&bytes).unwrap().edns.unwrap();
            assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
        }
    }
}

#[tokio::test]
async fn a_flood_does_not_keep_the_program_from_stopping() {
    let server = demo().await;
    let (address, stopped) = (server.dns(), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&stopped);
    let flood = thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let query = question("n1.node.consul", RecordType::A).to_vec().unwrap();
        let mut sent = 0_u64;
        while !done.load(Ordering::Relaxed) {
            // Refused once the server's socket is gone; that is no reason to stop.
            sent += u64::from(socket.send_to(&query, address).is_ok());
        }
        sent
    });
    let metrics =
        async || value(&scrape(&server).await, "fingerpost_dns_responses_total{rcode=\"NOERROR\"}");
    eventually("the flood is answered", async || metrics().await > 1_000.0).await;
    server.stop().await;
    stopped.store(true, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 1_000);
}

async fn demo() -> Server {
    let catalog = file::parse(file::DEMO).unwrap();
    let server = Server::start(Config::default(), Origin::Fixed(catalog.changes()));
    server.ready().await;
    server
}

/// A good query is answered, over both transports.
async fn is_well(server: SocketAddr) {
    let expected = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";
    assert_eq!(zone_text(&ask(server, "n1.node.consul", RecordType::A).await), expected);
    assert_eq!(zone_text(&ask_tcp(server, "n1.node.consul", RecordType::A).await), expected);
}

/// Bytes of any length, half of them a query with some bytes changed.
fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    if random.bool() {
        return (0..random.usize(..600)).map(|_| random.u8(..)).collect();
    }
    let query = with_edns(question("a.b.web.service.dc1.consul", RecordType::SRV), 1232, true);
    let mut bytes = query.to_vec().unwrap();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    bytes.truncate(random.usize(1..=bytes.len()));
    bytes
}

/// The lower bits of the rcode, the number of questions, and the rcode's upper bits if any.
fn render(reply: &[u8]) -> String {
    let mut text = format!("rcode {} qd {}", reply[3] & 0xf, reply[5]);
    if reply[11] == 1 {
        let opt = &reply[reply.len() - 11..];
        assert_eq!(opt[..3], [0, 0, 41], "the last record is an OPT: {reply:?}");
        if opt[5] > 0 {
            text += &format!(" extended {}", opt[5]);
        }
    }
    text
}
