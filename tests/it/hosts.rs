//! Services and nodes that are hosts elsewhere: what the recursors say of them is in our answers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use fingerpost::app::Origin;
use fingerpost::config::Config;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::support::dns::{ask, zone_text};
use crate::support::recursor::{Recursor, reply_to};
use crate::support::scenario::Scenario;
use crate::support::server::Server;

const CATALOG: &str = "
    node n1 10.0.0.1
    node outside Www.Example
    service ext on n1 port 443 address www.example passing
    service ext on n1 id ext-2 port 444 address www.example passing
    service dead on n1 port 80 address gone.example passing
    service far on n1 port 81 address ext.service.consul passing
    service off on outside port 82 passing
    query consul A
    reply NOERROR
";

/// Two addresses and an alias for `www.example`, and no other name.
fn example(query: &Message) -> Message {
    let asked = &query.queries[0];
    if asked.name().to_lowercase() != name("www.example.") {
        return reply_to(query, ResponseCode::NXDomain);
    }
    let mut reply = reply_to(query, ResponseCode::NoError);
    let record = |owner: &Name, ttl, data| Record::from_rdata(owner.clone(), ttl, data);
    reply.add_answer(record(asked.name(), 30, RData::CNAME(CNAME(name("a.example.")))));
    match asked.query_type() {
        RecordType::A => {
            let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
            reply.add_answer(record(&name("a.example."), 60, data));
        }
        RecordType::AAAA => {
            let data = RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
            reply.add_answer(record(&name("a.example."), 20, data));
        }
        _ => (),
    }
    reply
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

async fn start(recursors: &[SocketAddr]) -> Server {
    let mut config = Config::default();
    config.recursion.recursors = recursors.to_vec();
    config.answers.service_ttl_secs = vec![("*".to_owned(), 7)];
    let changes = Scenario::parse("hosts", CATALOG).unwrap().changes;
    let server = Server::start(config, Origin::Fixed(changes));
    server.ready().await;
    server
}

#[tokio::test]
async fn a_host_is_resolved_by_the_type_that_was_asked() {
    let recursor = Recursor::of(example).await;
    let server = start(&[recursor.address()]).await;
    for (name, qtype, expected) in [
        (
            "ext.service.consul",
            RecordType::A,
            "answer ext.service.consul. 7 IN CNAME www.example.\n\
             answer www.example. 30 IN A 192.0.2.1",
        ),
        // Consul asks for A all the same.
        (
            "ext.service.consul",
            RecordType::AAAA,
            "answer ext.service.consul. 7 IN CNAME www.example.\n\
             answer www.example. 20 IN AAAA 2001:db8::1",
        ),
        (
            "ext.service.consul",
            RecordType::CNAME,
            "answer ext.service.consul. 7 IN CNAME www.example.",
        ),
        (
            "far.service.consul",
            RecordType::A,
            "answer ext.service.consul. 7 IN CNAME www.example.\n\
             answer far.service.consul. 7 IN CNAME ext.service.consul.\n\
             answer www.example. 30 IN A 192.0.2.1",
        ),
        (
            "outside.node.consul",
            RecordType::A,
            "answer Www.Example. 30 IN A 192.0.2.1\n\
             answer outside.node.consul. 0 IN CNAME Www.Example.",
        ),
        // NXDOMAIN is that of the host, whose own server the client's resolver will hear it from.
        (
            "dead.service.consul",
            RecordType::A,
            "answer dead.service.consul. 7 IN CNAME gone.example.",
        ),
    ] {
        let expected = format!("NOERROR aa rd ra\n{expected}");
        assert_eq!(zone_text(&ask(server.dns(), name, qtype).await), expected, "{name} {qtype}");
    }
}

#[tokio::test]
async fn the_targets_of_srv_bring_their_addresses() {
    let recursor = Recursor::of(example).await;
    let server = start(&[recursor.address()]).await;
    let reply = zone_text(&ask(server.dns(), "ext.service.consul", RecordType::SRV).await);
    let mut lines: Vec<&str> = reply.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "NOERROR aa rd ra",
            "additional www.example. 20 IN AAAA 2001:db8::1",
            "additional www.example. 30 IN A 192.0.2.1",
            "answer ext.service.consul. 7 IN SRV 1 1 443 www.example.",
            "answer ext.service.consul. 7 IN SRV 1 1 444 www.example.",
        ]
    );
    // One question for each type, however many ask.
    for _ in 0..3 {
        ask(server.dns(), "ext.service.consul", RecordType::SRV).await;
    }
    assert_eq!(recursor.seen().len(), 2);
}

#[tokio::test]
async fn without_the_recursors_word_the_alias_is_all() {
    let recursor = Recursor::saying(ResponseCode::ServFail).await;
    let server = start(&[recursor.address()]).await;
    let expected = "NOERROR aa rd ra\nanswer ext.service.consul. 7 IN CNAME www.example.";
    assert_eq!(zone_text(&ask(server.dns(), "ext.service.consul", RecordType::A).await), expected);
    let alone = start(&[]).await;
    let expected = "NOERROR aa rd\nanswer ext.service.consul. 7 IN CNAME www.example.";
    assert_eq!(zone_text(&ask(alone.dns(), "ext.service.consul", RecordType::A).await), expected);
}
