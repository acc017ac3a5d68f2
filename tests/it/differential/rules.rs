//! The named rules: what we say where Consul 1.8.7 says something else.
//!
//! R are those of the specification, N are facts of Consul that later versions changed or that no
//! reply could follow, X are extensions where Consul has no names. They run in the order of
//! [`RULES`], each on what the one before made; those about header, OPT and size are in
//! [`wire`](crate::differential::wire) and [`limits`](crate::differential::limits).

mod forms;
mod records;
mod types;
mod zone;

use crate::differential::judge::Look;
use crate::differential::name::Labels;
use crate::differential::names::{self, Form};
use crate::differential::reply::{Line, Reply};

/// What a rule makes of a reply.
#[derive(Debug)]
pub enum Step {
    /// It has nothing to say.
    None,
    /// This instead, and the next rule goes on with it.
    To(Reply),
    /// This instead, and nothing else.
    End(Reply),
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as the counts and the reports have it.
    pub name: &'static str,
    /// Recognizes what Consul says and says what we do.
    pub apply: fn(&Look<'_>, &Reply) -> Step,
    /// Whether no form that is served needs it yet.
    pub waits: fn() -> bool,
}

const fn rule(name: &'static str, apply: fn(&Look<'_>, &Reply) -> Step) -> Rule {
    Rule { name, apply, waits: never }
}

const fn never() -> bool {
    false
}

/// All rules about records, in the order in which they are tried.
pub static RULES: [Rule; 28] = [
    rule("not served", forms::unserved),
    rule("R5 SOA and NS of the zone are ours", zone::apex),
    rule("R5 ns.<zone> resolves", zone::name_server),
    rule("R3 SOA and NS are at the zone only", types::zone_types),
    rule("X short form", forms::short),
    rule("R2 RFC 2782 without .service has all types", forms::marked),
    rule("N names with escapes", forms::escaped),
    Rule { waits: forms::no_tag_pair, ..rule("X tag a+b", forms::tag_pair) },
    Rule { waits: forms::no_scope_words, ..rule("N scope words", forms::scope_words) },
    Rule { waits: forms::no_marked_query, ..rule("N RFC 2782 queries", forms::marked_query) },
    Rule { waits: forms::no_alt_domain, ..rule("N alt_domain names itself", forms::alt_domain) },
    rule("N .addr of odd length", types::address_length),
    rule("R2 .addr is in no or in one known datacenter", types::address_scope),
    rule("R1 .addr is echoed as typed", types::address_owner),
    rule("R3 .addr has one type", types::address_type),
    Rule {
        waits: forms::no_reverse,
        ..rule("R3 reverse names have PTR only", types::reverse_type)
    },
    Rule { waits: forms::no_reverse, ..rule("N PTR miss", types::reverse_miss) },
    rule("R3 services have no TXT", types::service_text),
    rule("N nodes are looked up for every type", types::node_type),
    rule("R8 metadata is not added", records::metadata),
    rule("R2 parents of names exist", zone::parent),
    rule("R4 NODATA carries the SOA", zone::no_data),
    rule("N additional records come once", records::additional_once),
    rule("R1 the zone is spelled as asked", zone::spelling),
    rule("R5 the serial is of the last change", zone::serial),
    rule("N weight of a duplicate", records::weight),
    rule("N one of several hosts", records::host),
    rule("N CNAME chain has the type asked", records::chain_type),
];

/// The names of the rules that are not in [`RULES`].
pub const OTHER_RULES: [&str; 14] = [
    "N no zone transfers",
    "R6 additional records are dropped first",
    "R6 each server has its own size",
    "R6 limits of policy set no TC",
    "R6 no reply is longer than 1232 or the client takes",
    "R6 size sets TC",
    "R7 DO is copied back",
    "R7 EDNS version above 0 is BADVERS",
    "R7 REFUSED carries OPT",
    "R7 other classes are REFUSED",
    "R7 other opcodes are NOTIMP",
    "R7 the OPT has our own size",
    "R7 unknown options are not echoed",
    "X extended errors",
];

/// The zone as the question spells it.
fn typed_zone(look: &Look<'_>) -> Labels {
    let count = match look.case.subject.form {
        Form::AltDomain => Labels::new(names::ALT_DOMAIN).labels().len(),
        // `in-addr.arpa`
        Form::Reverse => 2,
        _ => names::zone().labels().len(),
    };
    look.case.subject.name.last(count)
}

/// Our SOA, as an answer to this question has it.
fn soa(look: &Look<'_>) -> Line {
    let zone = typed_zone(look);
    let below = |label: &str| Labels::new(label).below(&zone);
    let min_ttl = look.run.world.settings.min_ttl;
    let (mname, rname) = (below("ns"), below("hostmaster"));
    let serial = serial(look);
    Line {
        data: format!("{mname} {rname} {serial} 1800 300 43200 {min_ttl}"),
        data_len: 3 * (zone.labels().len() + 1) + 20,
        ..Line::pointing(zone, min_ttl, "SOA", &mname)
    }
}

/// The serial that our reply has, where it is one that it may have: that of the last change.
///
/// To fetch a service that was not in memory is a change, so it rises while questions are asked.
fn serial(look: &Look<'_>) -> u32 {
    let ours = &look.case.ours;
    let soa = ours.authority.iter().chain(&ours.answer).find(|line| line.rtype == "SOA");
    let serial = soa.and_then(|line| line.words().get(2)?.parse().ok());
    let last = look.run.serial;
    serial.filter(|serial| (look.run.span.0..=last).contains(serial)).unwrap_or(last)
}

/// Says that the name does not exist, or has no such type, as we do.
fn negative(look: &Look<'_>, reply: &Reply, exists: bool) -> Reply {
    reply.negative(if exists { "NOERROR" } else { "NXDOMAIN" }, soa(look))
}
