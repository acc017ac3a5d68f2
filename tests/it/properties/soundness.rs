//! What is owed to any question: a reply that is whole, ours, small enough, and says one thing.
//!
//! Hickory-proto reads the reply; what is demanded of it is in the RFCs that are named here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use fingerpost::answer::Transport;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::properties::asking::{ALT, Known, QTYPES, ZONE, is_within, within};
use crate::support::generate::{config, message, world};

proptest! {
    #![proptest_config(config(300))]

    /// Of all names and types of a catalogue, some in each case.
    #[test]
    fn answers_are_sound(
        world in world(),
        asked in prop::collection::vec(
            (any::<Index>(), edns(), options(), transport(), any::<u64>()),
            40,
        ),
        in_second in any::<bool>(),
    ) {
        let mut known = Known::of(&world);
        let zone = if in_second { ALT } else { ZONE };
        let names = world.names().into_iter().map(|name| within(&name, zone));
        let names: Vec<String> = names.chain(world.reverse_names()).collect();
        for (at, edns, options, transport, seed) in asked {
            let name = &names[at.index(names.len())];
            for qtype in QTYPES {
                let subnet = edns.as_ref().map_or(&[][..], |(_, subnet)| subnet);
                let all = [subnet, &options].concat();
                let bytes = message(name, qtype, edns.as_ref().map(|it| (it.0, &all[..])));
                let reply = known.ask(&bytes, transport, seed);
                check(&bytes, reply, transport)
                    .map_err(|error| TestCaseError::fail(format!("{name} {qtype}: {error}")))?;
                let is_echoed = reply.windows(subnet.len().max(1)).any(|it| it == subnet);
                prop_assert!(subnet.is_empty() || is_echoed, "{name}: the subnet is missing");
            }
        }
    }
}

/// Holds `reply` against what is owed to `bytes`.
pub fn check(bytes: &[u8], reply: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    if bytes.len() < 12 || bytes[2] & 0x80 != 0 {
        prop_assert!(reply.is_empty(), "an answer to what is no query: {reply:?}");
        return Ok(());
    }
    let mut decoder = BinDecoder::new(reply);
    let message = match Message::read(&mut decoder) {
        Ok(message) => message,
        Err(error) => return Err(TestCaseError::fail(format!("{error}: {reply:?}"))),
    };
    // The sections were read by their counts; with too low a count there is something left.
    prop_assert!(decoder.is_empty(), "{} bytes behind the reply", decoder.len());
    check_head(bytes, reply, &message, transport)?;
    let Some(question) = message.queries.first() else {
        prop_assert!(message.answers.is_empty() && message.authorities.is_empty());
        return Ok(());
    };
    let (name, qtype) = (lower(question.name()), u16::from(question.query_type()));
    check_answers(&message, &name, qtype)?;
    check_denial(&message, &name)?;
    check_rrsets(&message)
}

fn check_head(
    bytes: &[u8],
    reply: &[u8],
    message: &Message,
    transport: Transport,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(message.metadata.message_type, MessageType::Response);
    prop_assert_eq!(&reply[..2], &bytes[..2], "the id");
    prop_assert_eq!(reply[2] & 0x79, bytes[2] & 0x79, "the opcode and RD");
    let question = question(bytes);
    prop_assert_eq!(message.queries.len(), usize::from(question.is_some()));
    if let Some(question) = question {
        prop_assert_eq!(&reply[12..12 + question.len()], question, "the question's bytes");
    }
    let asked = Message::from_vec(bytes).ok();
    check_options(asked.as_ref(), reply, message, transport)?;
    let payload = asked.as_ref().and_then(|asked| asked.edns.as_ref()).map(|it| it.max_payload());
    let limit = match (transport, payload, &message.edns) {
        (Transport::Udp, Some(payload), Some(_)) => usize::from(payload.clamp(512, 1232)),
        // Hickory reads a little less than we do; what it cannot read may have EDNS.
        (Transport::Udp, None, Some(_)) if asked.is_none() => 1232,
        (Transport::Udp, _, edns) => {
            prop_assert!(edns.is_none(), "an OPT that nobody asked for");
            512
        }
        _ => 65_535,
    };
    prop_assert!(reply.len() <= limit, "{} bytes, {limit} allowed", reply.len());
    prop_assert!(transport == Transport::Udp || !message.metadata.truncation, "cut over a stream");
    Ok(())
}

/// A cookie comes back with one of ours (RFC 7873 §5.2), NSID with a name (RFC 5001 §2.1), padding
/// with more of it where nobody can read it (RFC 8467 §4.1), a question about the connection with
/// its idle time (RFC 7828 §3.3.2); and nothing comes that nobody asked for.
fn check_options(
    asked: Option<&Message>,
    reply: &[u8],
    message: &Message,
    transport: Transport,
) -> Result<(), TestCaseError> {
    let code = message.metadata.response_code;
    let is_read = matches!(
        code,
        ResponseCode::NoError
            | ResponseCode::NXDomain
            | ResponseCode::Refused
            | ResponseCode::ServFail
    );
    let Some(asked) = asked.filter(|_| is_read) else { return Ok(()) };
    let option = |message: &Message, code: u16| {
        let option = message.edns.as_ref()?.option(EdnsCode::from(code))?;
        Vec::<u8>::try_from(option).ok()
    };
    let is_stream = matches!(transport, Transport::Tcp | Transport::Tls);
    let is_encrypted = !matches!(transport, Transport::Tcp | Transport::Udp);
    let asks = |code| option(asked, code).is_some();
    for (code, is_due) in
        [(3, asks(3)), (10, asks(10)), (11, asks(11) && is_stream), (12, asks(12) && is_encrypted)]
    {
        prop_assert_eq!(option(message, code).is_some(), is_due, "option {}", code);
    }
    if let (Some(sent), Some(got)) = (option(asked, 10), option(message, 10)) {
        prop_assert_eq!((&got[..8], got.len()), (&sent[..8], 24));
    }
    let is_whole_block = reply.len().is_multiple_of(468) || reply.len() > 65_520;
    prop_assert!(option(message, 12).is_none() || is_whole_block, "{} bytes", reply.len());
    Ok(())
}

/// The answers are of the type asked for and the question's own, or what its CNAME leads to (RFC
/// 1034 §3.6.2); what comes along belongs to a name that an answer names.
fn check_answers(message: &Message, name: &str, qtype: u16) -> Result<(), TestCaseError> {
    let mut reached = BTreeSet::from([name.to_owned()]);
    for record in &message.answers {
        let (owner, rtype) = (lower(&record.name), u16::from(record.record_type()));
        prop_assert!(reached.contains(&owner), "nothing leads to {record}");
        match &record.data {
            RData::CNAME(target) => {
                reached.insert(lower(&target.0));
            }
            _ => prop_assert!(rtype == qtype || qtype == ANY, "not asked for: {record}"),
        }
        prop_assert!(qtype != ANY || owner == name, "more than the name itself: {record}");
    }
    let mut targets: BTreeSet<String> = message.answers.iter().filter_map(target).collect();
    for record in &message.additionals {
        prop_assert!(targets.contains(&lower(&record.name)), "alien: {record}");
        match &record.data {
            RData::CNAME(next) => {
                targets.insert(lower(&next.0));
            }
            data => prop_assert!(data.ip_addr().is_some(), "no address: {record}"),
        }
    }
    Ok(())
}

/// A denial has the SOA of a zone around the name, for as long as its MINIMUM says (RFC 2308 §3,
/// §5); an answer has none.
fn check_denial(message: &Message, name: &str) -> Result<(), TestCaseError> {
    let has_answers = !message.answers.is_empty();
    let is_said = match message.metadata.response_code {
        ResponseCode::NXDomain => {
            prop_assert!(!has_answers && !message.metadata.truncation);
            true
        }
        ResponseCode::NoError => !has_answers && !message.metadata.truncation,
        _ => {
            prop_assert!(!has_answers && message.additionals.is_empty());
            false
        }
    };
    let is_ours = message.queries.iter().all(|question| u16::from(question.query_class()) == 1);
    let expected = usize::from(is_said && is_ours);
    prop_assert_eq!(message.authorities.len(), expected, "{:?}", message.authorities);
    for record in &message.authorities {
        let RData::SOA(soa) = &record.data else {
            return Err(TestCaseError::fail(format!("no SOA: {record}")));
        };
        prop_assert!(is_within(name, &lower(&record.name)), "{record} is not around {name}");
        prop_assert_eq!(record.ttl, soa.minimum);
    }
    Ok(())
}

/// No record is there twice, all of an RRset have one TTL (RFC 2181 §5), and a CNAME stands alone
/// (§10.1).
fn check_rrsets(message: &Message) -> Result<(), TestCaseError> {
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let mut ttls = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for record in sections.into_iter().flatten() {
        let (owner, rtype) = (lower(&record.name), record.record_type());
        let is_text = matches!(record.data, RData::TXT(_));
        let data = record.data.to_string();
        let data = if is_text { data } else { data.to_ascii_lowercase() };
        let ttl = ttls.entry((owner.clone(), u16::from(rtype))).or_insert(record.ttl);
        prop_assert_eq!(*ttl, record.ttl, "{}", record);
        prop_assert!(seen.insert((owner, u16::from(rtype), data)), "twice: {record}");
    }
    let answered = message.answers.iter().map(|record| lower(&record.name)).collect::<Vec<_>>();
    for record in message.answers.iter().filter(|it| matches!(it.data, RData::CNAME(_))) {
        let owner = lower(&record.name);
        let all = answered.iter().filter(|other| **other == owner).count();
        prop_assert_eq!(all, 1, "a CNAME stands alone: {}", record);
    }
    Ok(())
}

/// The name whose addresses a record calls for.
fn target(record: &Record) -> Option<String> {
    match &record.data {
        RData::SRV(srv) => Some(lower(&srv.target)),
        RData::NS(ns) => Some(lower(&ns.0)),
        _ => None,
    }
}

/// A name in lower case, without the last dot.
pub fn lower(name: &hickory_proto::rr::Name) -> String {
    let name = name.to_ascii().to_ascii_lowercase();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
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

/// Over which transport.
pub fn transport() -> impl Strategy<Value = Transport> {
    select(vec![
        Transport::Https,
        Transport::Https3,
        Transport::Quic,
        Transport::Tcp,
        Transport::Tls,
        Transport::Udp,
    ])
}

/// A size, and a client subnet or none; or no EDNS.
pub fn edns() -> impl Strategy<Value = Option<(u16, Vec<u8>)>> {
    let payload = prop_oneof![any::<u16>(), 500..1300_u16, select(vec![0, 511, 512, 1232, 4096])];
    prop::option::of((payload, subnet()))
}

/// Any of the options that are known beside it, each as its standard has it.
pub fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = |code: u16, data: Vec<u8>| {
        [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), &data].concat()
    };
    let cookie = prop_oneof![Just(8_usize), 16..=40_usize];
    let data = |len: RangeInclusive<usize>| prop::collection::vec(any::<u8>(), len);
    let known = (
        prop::option::of(cookie.prop_flat_map(move |len| data(len..=len))),
        prop::option::of(data(0..=5)),
        prop::option::of(data(0..=200)),
        any::<bool>(),
    );
    known.prop_map(move |(cookie, nsid, padding, keepalive)| {
        let parts = [(10, cookie), (3, nsid), (11, keepalive.then(Vec::new)), (12, padding)];
        let parts = parts.into_iter().filter_map(|(code, data)| Some(option(code, data?)));
        parts.collect::<Vec<_>>().concat()
    })
}

/// A client subnet as RFC 7871 §6 has it, or none.
fn subnet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        1 => (any::<bool>(), any::<u128>(), 0..129_u8).prop_map(|(is_ipv4, bits, prefix)| {
            let prefix = if is_ipv4 { prefix.min(32) } else { prefix };
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            let sent = usize::from(prefix).div_ceil(8);
            let address = (bits & mask).to_be_bytes();
            let mut option = vec![0, 8, 0, 4 + sent as u8, 0, if is_ipv4 { 1 } else { 2 }];
            option.extend([prefix, 0]);
            option.extend_from_slice(&address[..sent]);
            option
        }),
    ]
}

const ANY: u16 = 255;
