//! What is owed to any message: silence, or a reply that is whole, ours, and small enough.

use std::sync::{Mutex, OnceLock};

use fingerpost::answer::Transport;
use hickory_proto::op::{Message, MessageType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::generate::{config, query};
use crate::support::scenario::Scenario;
use crate::support::straight::{self, Core};

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
    let reply = core().lock().unwrap().ask(bytes, transport, seed).to_vec();
    if bytes.len() < 12 || bytes[2] & 0x80 != 0 {
        prop_assert!(reply.is_empty(), "an answer to what is no query: {reply:?}");
        return Ok(());
    }
    let mut decoder = BinDecoder::new(&reply);
    let message = match Message::read(&mut decoder) {
        Ok(message) => message,
        Err(error) => return Err(TestCaseError::fail(format!("{error}: {reply:?}"))),
    };
    // The sections were read by their counts; with too low a count there is something left.
    prop_assert!(decoder.is_empty(), "{} bytes behind the reply", decoder.len());
    prop_assert_eq!(message.metadata.message_type, MessageType::Response);
    prop_assert_eq!(&reply[..2], &bytes[..2], "the id");
    prop_assert_eq!(reply[2] & 0x79, bytes[2] & 0x79, "the opcode and RD");

    let question = question(bytes);
    prop_assert_eq!(message.queries.len(), usize::from(question.is_some()));
    if let Some(question) = question {
        prop_assert_eq!(&reply[12..12 + question.len()], question, "the question's bytes");
    }
    let asked = Message::from_vec(bytes).ok();
    let payload = asked.as_ref().and_then(|asked| asked.edns.as_ref()).map(|it| it.max_payload());
    let limit = match (transport, payload, &message.edns) {
        (Transport::Tcp, ..) => 65_535,
        (Transport::Udp, Some(payload), Some(_)) => usize::from(payload.clamp(512, 1232)),
        // Hickory reads a little less than we do; what it cannot read may have EDNS.
        (Transport::Udp, None, Some(_)) if asked.is_none() => 1232,
        (Transport::Udp, _, edns) => {
            prop_assert!(edns.is_none(), "an OPT that nobody asked for");
            512
        }
    };
    prop_assert!(reply.len() <= limit, "{} bytes, {limit} allowed", reply.len());
    prop_assert!(transport == Transport::Udp || !message.metadata.truncation, "cut over TCP");
    Ok(())
}

/// The first question of `bytes` as it lies there, if there is a whole one.
fn question(bytes: &[u8]) -> Option<&[u8]> {
    if bytes[4..6] == [0, 0] {
        return None;
    }
    let mut at = 12;
    while *bytes.get(at)? != 0 {
        if bytes[at] > 63 {
            return None;
        }
        at += 1 + usize::from(bytes[at]);
    }
    let name_len = at + 1 - 12;
    bytes.get(12..at + 5).filter(|_| name_len <= 255)
}

/// One catalogue for all cases: services that fit, that do not, of both families, elsewhere.
fn core() -> &'static Mutex<Core> {
    static CORE: OnceLock<Mutex<Core>> = OnceLock::new();
    CORE.get_or_init(|| {
        let text = "
node n-{1..250} 10.0.0.{1..250}
node six fd00::6
service many on n-{1..250} port 9000 tag v1 passing
service addr on n-{1..250} port 9000 address 10.9.0.{1..250} passing
service web on n-{1..5} port 80 tag a.b passing
service web on six port 80 passing
service ext on six port 443 address www.example.com passing
service sick on six port 1 critical
query consul A
reply NOERROR
";
        let scenario = Scenario::parse("replying", text).unwrap();
        Mutex::new(Core::new(straight::rules(), straight::policy(), scenario.changes))
    })
}

fn transport() -> impl Strategy<Value = Transport> {
    select(vec![Transport::Udp, Transport::Tcp])
}

fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![any::<u16>(), 500..1300_u16, select(vec![0, 511, 512, 1232, 4096])];
    let payload = prop::option::of(payload);
    let qtype = prop_oneof![4 => select(vec![1, 28, 33, 255, 2, 6, 5, 16]), 1 => any::<u16>()];
    (select(&NAMES[..]), any::<u64>(), qtype, payload).prop_map(|(name, case, qtype, payload)| {
        let letter = |(at, letter): (usize, char)| match case >> (at % 64) & 1 {
            0 => letter,
            _ => letter.to_ascii_uppercase(),
        };
        let name: String = name.chars().enumerate().map(letter).collect();
        query(&name, qtype, payload)
    })
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
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

const NAMES: [&str; 14] = [
    "",
    "service",
    "many.service",
    "v1.many.dc1",
    "_many._tcp",
    "addr.service.dc1",
    "web.service",
    "b.web.service",
    "ext.service",
    "sick.service",
    "n-1.node",
    "0a000001.addr.dc1",
    "ns",
    "nobody.service",
];
