//! What is owed to any message: silence, or a sound reply.

use std::sync::{Mutex, OnceLock};

use fingerpost::answer::Transport;
use fingerpost::answer::chaos::Chaos;
use fingerpost::name::Zone;
use hickory_proto::op::{Message, ResponseCode};
use proptest::prelude::*;
use proptest::sample::select;

use crate::properties::asking::{Known, policy, rules};
use crate::properties::soundness::{self, edns, options, transport};
use crate::support::generate::{config, message};
use crate::support::scenario::Scenario;
use crate::support::straight;

proptest! {
    #![proptest_config(config(10_000))]

    #[test]
    fn random_bytes_get_silence_or_a_sound_reply(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        transport in transport(),
    ) {
        check(&bytes, transport, 0)?;
    }

    #[test]
    fn queries_get_sound_replies(
        bytes in well_formed(),
        transport in transport(),
        seed in any::<u64>(),
    ) {
        check(&bytes, transport, seed)?;
    }

    #[test]
    fn damaged_queries_get_silence_or_a_sound_reply(
        bytes in damaged(),
        transport in transport(),
        seed in any::<u64>(),
    ) {
        check(&bytes, transport, seed)?;
    }
}

fn check(bytes: &[u8], transport: Transport, seed: u64) -> Result<(), TestCaseError> {
    let mut known = known().lock().unwrap();
    soundness::check(bytes, known.ask(bytes, transport, seed), transport)
}

/// A question and a host of the greatest length are more than 512 bytes together.
#[test]
fn a_host_that_does_not_fit_is_cut() {
    let tag = ["a", "b", "c"].map(|letter| letter.repeat(62)).join(".");
    let host = ["h", "i", "j", "k"].map(|letter| letter.repeat(62)).join(".");
    let text = format!(
        "node n1 10.0.0.1
         service web on n1 port 80 tag {tag} address {host} passing
         query consul A
         reply NOERROR"
    );
    let scenario = Scenario::parse("cutting", &text).unwrap();
    let mut known = Known::new(rules(), policy(), scenario.changes);
    let name = format!("{tag}.web.service.default.ns.default.ap.dc1.dc.consul");
    for qtype in [1, 5, 255] {
        let bytes = message(&name, qtype, None);
        for (transport, answers) in [(Transport::Udp, 0), (Transport::Tcp, 1)] {
            let reply = known.ask(&bytes, transport, 0);
            soundness::check(&bytes, reply, transport).unwrap();
            let reply = Message::from_vec(reply).unwrap();
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert_eq!(reply.answers.len(), answers, "type {qtype}");
            assert_eq!(reply.metadata.truncation, answers == 0, "type {qtype}");
        }
    }
}

/// Name servers and addresses of ours, more than fit.
#[test]
fn what_does_not_fit_of_our_own_names_is_cut() {
    let server = |number: u8| Zone::new(&format!("{number}.{}.example", "x".repeat(60))).unwrap();
    let mut policy = policy();
    policy.name_servers = (1..9).map(server).collect();
    let dual = straight::policy();
    let cases = [(policy, "consul", 2, 8), (dual, "ns.consul", 1, 40)];
    for (mut policy, name, qtype, count) in cases {
        policy.advertise = (1..41).map(|last| [10, 0, 0, last].into()).collect();
        let mut known = Known::new(rules(), policy, []);
        let bytes = message(name, qtype, None);
        for transport in [Transport::Udp, Transport::Tcp] {
            let reply = Message::from_vec(known.ask(&bytes, transport, 0)).unwrap();
            let is_whole = reply.answers.len() == count;
            assert_eq!(is_whole, transport == Transport::Tcp, "{name}");
            assert_eq!(reply.metadata.truncation, !is_whole, "{name}");
        }
    }
}

/// One catalogue for all cases: services that fit, that do not, of both families, elsewhere.
pub fn known() -> &'static Mutex<Known> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let text = "
node n-{1..250} 10.9.0.{1..250}
node six fd00::6 meta k v
service many on n-{1..250} port 9000 tag v1 named http 9001 passing
service addr on n-{1..250} port 9000 address 10.9.1.{1..250} passing
service host on n-{1..250} port 9000 address host-{1..250}.example.com passing
service web on n-{1..5} port 80 tag a.b passing
service web on six port 80 passing
service ext on six port 443 address www.example.com passing
service alias on six port 443 address many.service.consul passing
service sick on six port 1 critical
peer many.west on n-{1..250} port 9000 passing
prepared geo on n-{1..250} port 9000 passing
query consul A
reply NOERROR
";
        let scenario = Scenario::parse("replying", text).unwrap();
        let mut policy = policy();
        policy.chaos = Some(Chaos { version: "v1".to_owned(), identity: "me".to_owned() });
        Mutex::new(Known::new(rules(), policy, scenario.changes))
    })
}

pub fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let qtype = prop_oneof![4 => select(vec![1, 28, 33, 255, 2, 6, 5, 16]), 1 => any::<u16>()];
    let qclass = prop_oneof![8 => Just(1_u16), 1 => Just(3), 1 => any::<u16>()];
    (select(&NAMES[..]), any::<u64>(), qtype, qclass, edns(), options()).prop_map(
        |(name, case, qtype, qclass, edns, others)| {
            let letter = |(at, letter): (usize, char)| match case >> (at % 64) & 1 {
                0 => letter,
                _ => letter.to_ascii_uppercase(),
            };
            let name: String = name.chars().enumerate().map(letter).collect();
            let edns = edns.map(|(payload, subnet)| (payload, [subnet, others].concat()));
            let edns = edns.as_ref().map(|(payload, options)| (*payload, &options[..]));
            let mut bytes = message(&name, qtype, edns);
            let class_at = 12 + name.len() + 2 + 2;
            bytes[class_at..class_at + 2].copy_from_slice(&qclass.to_be_bytes());
            bytes
        },
    )
}

pub fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (0..4_u8, any::<prop::sample::Index>(), any::<u8>());
    (well_formed(), prop::collection::vec(damage, 1..5)).prop_map(|(mut bytes, damages)| {
        for (kind, at, byte) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

const NAMES: [&str; 32] = [
    "consul",
    "service.consul",
    "many.service.consul",
    "many.service.alt.example",
    "v1.many.dc1.consul",
    "_many._tcp.consul",
    "many.service.http.port.consul",
    "addr.service.dc1.consul",
    "addr.service.dc1.dc.alt.example",
    "host.service.consul",
    "host.service.alt.example",
    "web.service.consul",
    "b.web.service.consul",
    "ext.service.consul",
    "alias.service.consul",
    "alias.service.alt.example",
    "sick.service.consul",
    "n-1.node.consul",
    "six.node.default.ns.consul",
    "0a000001.addr.dc1.consul",
    "many.service.west.peer.consul",
    "many.service.east.peer.consul",
    "geo.query.consul",
    "nobody.query.consul",
    "many.connect.consul",
    "ns.consul",
    "nobody.service.consul",
    "1.0.9.10.in-addr.arpa",
    "0.9.10.in-addr.arpa",
    "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
    "version.bind",
    "www.example.com",
];
