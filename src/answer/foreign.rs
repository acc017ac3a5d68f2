//! Names in no zone of ours: refused, answered here after all, or asked of the recursors.
//!
//! ```text
//!   no recursors, or the client may not ask them              REFUSED
//!   localhost                                                 its addresses (RFC 6761 §6.3)
//!   reverse names that mean something else in each network    the catalogue's (RFC 6303)
//!   invalid, onion, resolver.arpa                             NXDOMAIN, or NODATA
//!   the client wants no recursion (RD=0)                      REFUSED
//!   all others                                                the recursors' answer
//! ```
//! This is asked only about what the catalogue knows nothing of: a zone of our own comes first.
//! What the recursors say is not looked at here; [`deliver`] fits it to the client.
//!
//! **Hot.** Nothing allocates once the buffers have grown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::answer::negative::fill;
use crate::answer::node::AddressRecord;
use crate::answer::refused::{Refused, fail};
use crate::answer::{Asked, Draft, Network, Outcome, Policy, Replied, Turn, Want};
use crate::name::Labels;
use crate::wire::query::FLAG_RD;
use crate::wire::record::address_type;
use crate::wire::reply::pointer;
use crate::wire::{CLASS_IN, Opt, QUESTION_AT, Query, Reply, ede, rcode, rtype};

/// Whether names that are not ours are asked of others, and for whom.
#[derive(Clone, Debug, Default)]
pub struct Recursion {
    /// Whether there are recursors. RA is set in every reply then, and only then.
    pub enabled: bool,
    /// The clients that may ask for such names; empty is none.
    pub allow: Vec<Network>,
}

impl Recursion {
    /// Whether a client at this address may ask for names that are not ours.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(client))
    }
}

/// Answers a name in no zone of ours, or wants it from the recursors.
pub fn respond<'s>(
    policy: &Policy,
    asked: &Asked<'_>,
    query: &Query<'_>,
    labels: Option<&Labels>,
    draft: &mut Draft,
) -> Outcome<'s> {
    let mut refuse_with =
        |rcode, error| Refused::new(query, rcode, Some(error)).reply(policy, asked, draft);
    if !policy.recursion.enabled {
        let error = (ede::NOT_AUTHORITATIVE, "not a zone of this server");
        return refuse_with(rcode::REFUSED, error);
    }
    if !policy.recursion.allows(asked.client) {
        let error = (ede::PROHIBITED, "this client may not ask for other zones");
        return refuse_with(rcode::REFUSED, error);
    }
    if let Some((labels, zone)) = labels.and_then(|labels| Some((labels, local_zone(labels)?))) {
        return Outcome::Replied(write_local(policy, asked, query, draft, labels, zone));
    }
    if query.head.flags & FLAG_RD == 0 {
        let error = (ede::NOT_AUTHORITATIVE, "not a zone of this server, and RD is not set");
        return refuse_with(rcode::REFUSED, error);
    }
    match asked.turn {
        Turn::Again | Turn::First => Outcome::Wants(Want::Foreign),
        Turn::Last => {
            let error = (ede::NO_REACHABLE_AUTHORITY, "the recursors have not answered");
            refuse_with(rcode::SERVFAIL, error)
        }
    }
}

/// Takes `message`, a reply to this very question, for this client: its id, and its size limit.
///
/// What is too long is cut down to the question, with TC set, so that the client asks over TCP.
pub fn deliver<'s>(
    policy: &Policy,
    asked: &Asked<'_>,
    message: &[u8],
    draft: &mut Draft,
) -> Outcome<'s> {
    let (Ok(query), &[_, _, _, low, ..]) = (Query::parse(asked.bytes), message) else {
        return fail(policy, asked, draft);
    };
    let rcode = u16::from(low & 0xf);
    let limit = asked.transport.reply_max(policy, query.edns.as_ref());
    // A client's network goes no further, so the recursors' answer is for no network.
    let (opt, cookie) = policy.opt(asked, query.edns.as_ref());
    let mut opt = opt.map(|opt| Opt { subnet: None, ..opt });
    draft.reply.clear();
    draft.reply.extend_from_slice(message);
    fill(&mut draft.reply, &[&query.head.id.to_be_bytes()]);
    let fits = match &opt {
        Some(opt) => opt.extend(&mut draft.reply, limit),
        None => message.len() <= limit,
    };
    if !fits {
        let mut reply = Reply::start(&mut draft.reply, &query.head, limit, opt.as_mut());
        reply.set_recursion_available();
        reply.truncate();
        reply.finish(rcode);
    }
    Outcome::Replied(Replied {
        rcode,
        qtype: Some(query.qtype),
        truncated: !fits,
        cache: None,
        cookie,
    })
}

/// What a host has that is no recursor's to know: the response code, and an address of type
/// `rtype`. `None` for all other hosts.
pub fn local_host(labels: &Labels, rtype: u16) -> Option<(u16, Option<IpAddr>)> {
    match local_zone(labels)?.holds {
        Holds::Loopback => {
            let address = LOOPBACK.into_iter().find(|ip| address_type(*ip) == rtype);
            Some((rcode::NOERROR, address))
        }
        Holds::Nothing => Some((rcode::NXDOMAIN, None)),
        Holds::Silence => Some((rcode::NOERROR, None)),
    }
}

/// A zone that is answered here, since nobody else could say anything true about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct LocalZone {
    /// How many of the name's last labels are the zone.
    labels: usize,
    holds: Holds,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Holds {
    /// The addresses of this machine, at every name.
    Loopback,
    /// Nothing, and every name below is NXDOMAIN.
    Nothing,
    /// Nothing, and every name below is NODATA.
    Silence,
}

fn local_zone(labels: &Labels) -> Option<LocalZone> {
    let zone = |labels, holds| Some(LocalZone { labels, holds });
    match last(labels, 0) {
        b"localhost" => zone(1, Holds::Loopback),
        // RFC 6761 §6.4, RFC 7686 §2.
        b"invalid" | b"onion" => zone(1, Holds::Nothing),
        b"arpa" => match last(labels, 1) {
            // RFC 9462 §4: who asks how to reach this resolver in private hears of no such way,
            // and a forwarder does not pass on how its own resolver is reached.
            b"resolver" => zone(2, Holds::Silence),
            _ => None,
        },
        _ => None,
    }
}

/// How many labels the zone has, of those whose addresses mean something else in each network, that
/// the name is in. What the catalogue lacks there, nobody has: no recursor is asked.
pub fn private_zone(labels: &Labels) -> Option<usize> {
    match (last(labels, 0), last(labels, 1)) {
        (b"arpa", b"in-addr") => private_v4(labels),
        (b"arpa", b"ip6") => private_v6(labels),
        _ => None,
    }
}

/// How many labels the zone of RFC 6303 §4.1, §4.2 or of RFC 7793 has that the name is in.
fn private_v4(labels: &Labels) -> Option<usize> {
    let octet = |at| {
        let text = str::from_utf8(last(labels, at)).ok()?;
        // Any other spelling is another name.
        let is_canonical = text == "0" || !text.starts_with(['0', '+']);
        text.parse::<u8>().ok().filter(|_| is_canonical)
    };
    match (octet(2)?, octet(3), octet(4), octet(5)) {
        (0 | 10 | 127, ..) => Some(3),
        (100, Some(64..=127), ..)
        | (169, Some(254), ..)
        | (172, Some(16..=31), ..)
        | (192, Some(168), ..) => Some(4),
        (192, Some(0), Some(2), _)
        | (198, Some(51), Some(100), _)
        | (203, Some(0), Some(113), _) => Some(5),
        (255, Some(255), Some(255), Some(255)) => Some(6),
        _ => None,
    }
}

/// How many labels the zone of RFC 6303 §4.3 to §4.6 has that the name is in.
fn private_v6(labels: &Labels) -> Option<usize> {
    let is = |nibbles: &[u8]| {
        nibbles.iter().enumerate().all(|(at, nibble)| last(labels, 2 + at) == [*nibble])
    };
    if is(b"fd") {
        return Some(4);
    }
    if is(b"fe8") || is(b"fe9") || is(b"fea") || is(b"feb") {
        return Some(5);
    }
    if is(b"20010db8") {
        return Some(10);
    }
    let is_loopback_or_none = is(&[b'0'; 31]) && matches!(last(labels, 33), b"0" | b"1");
    is_loopback_or_none.then_some(34)
}

/// The label that has `at` labels to its right; nothing past the first.
fn last(labels: &Labels, at: usize) -> &[u8] {
    labels.count().checked_sub(1 + at).map_or(&[], |at| labels.label(at))
}

fn write_local<'s>(
    policy: &Policy,
    asked: &Asked<'_>,
    query: &Query<'_>,
    draft: &mut Draft,
    labels: &Labels,
    zone: LocalZone,
) -> Replied<'s> {
    let (mut opt, cookie) = policy.opt(asked, query.edns.as_ref());
    let limit = asked.transport.reply_max(policy, query.edns.as_ref());
    let mut reply = Reply::start(&mut draft.reply, &query.head, limit, opt.as_mut());
    reply.set_authoritative();
    reply.set_recursion_available();
    let is_apex = labels.count() == zone.labels;
    let is_one_enough = policy.is_any_minimal(asked.transport);
    let asks_for = |rtype, answers| match query.qtype {
        rtype::ANY => answers == 0 || !is_one_enough,
        qtype => qtype == rtype,
    };
    let mut answers = 0;
    for ip in LOOPBACK {
        if zone.holds == Holds::Loopback && asks_for(address_type(ip), answers) {
            answers += usize::from(reply.answer(AddressRecord::new(ip, LOCAL_TTL_SECS).answer()));
        }
    }
    let soa = soa(QUESTION_AT + labels.wire_offset(labels.count() - zone.labels));
    if is_apex && asks_for(rtype::SOA, answers) {
        let mut record = [0; 2 + SOA_TAIL_LEN];
        fill(&mut record, &[&pointer(QUESTION_AT).unwrap_or_default(), &soa]);
        answers += usize::from(reply.answer(&record));
    }
    if is_apex && asks_for(rtype::NS, answers) {
        answers += usize::from(reply.answer(&ns_of_itself()));
    }
    let rcode = match zone.holds {
        Holds::Nothing if !is_apex => rcode::NXDOMAIN,
        Holds::Loopback | Holds::Nothing | Holds::Silence => rcode::NOERROR,
    };
    if answers == 0 {
        reply.authority(QUESTION_AT + labels.wire_offset(labels.count() - zone.labels), &soa);
    }
    reply.finish(rcode);
    Replied { rcode, qtype: Some(query.qtype), truncated: false, cache: None, cookie }
}

/// The SOA of RFC 6303 §3, without its owner: `@ nobody.invalid. 1 3600 1200 604800 10800`.
fn soa(zone_at: usize) -> [u8; SOA_TAIL_LEN] {
    let mut tail = [0; SOA_TAIL_LEN];
    let parts: [&[u8]; 11] = [
        &rtype::SOA.to_be_bytes(),
        &CLASS_IN.to_be_bytes(),
        &LOCAL_TTL_SECS.to_be_bytes(),
        &((SOA_TAIL_LEN - 10) as u16).to_be_bytes(),
        &pointer(zone_at).unwrap_or_default(),
        NOBODY,
        &1_u32.to_be_bytes(),
        &3600_u32.to_be_bytes(),
        &1200_u32.to_be_bytes(),
        &604_800_u32.to_be_bytes(),
        &LOCAL_TTL_SECS.to_be_bytes(),
    ];
    fill(&mut tail, &parts);
    tail
}

/// RFC 6303 §3: `@ NS @`, which leads nobody anywhere.
fn ns_of_itself() -> [u8; 14] {
    let mut record = [0; 14];
    let name = pointer(QUESTION_AT).unwrap_or_default();
    let parts: [&[u8]; 6] = [
        &name,
        &rtype::NS.to_be_bytes(),
        &CLASS_IN.to_be_bytes(),
        &LOCAL_TTL_SECS.to_be_bytes(),
        &2_u16.to_be_bytes(),
        &name,
    ];
    fill(&mut record, &parts);
    record
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// RFC 6303 §3, in seconds.
pub const LOCAL_TTL_SECS: u32 = 10_800;
const NOBODY: &[u8] = b"\x06nobody\x07invalid\0";

/// The fixed part, a pointer, `nobody.invalid.` and five numbers.
const SOA_TAIL_LEN: usize = 10 + 2 + 16 + 20;
