//! The named rules: what we say where Consul 1.8.7 says something else.
//!
//! R are those of the specification, N are facts of Consul that later versions changed or that no
//! reply could follow, X are extensions where Consul has no names. They run in the order of
//! [`RULES`], each on what the one before made; those about header, OPT and size are in
//! [`wire`](crate::differential::wire) and [`limits`](crate::differential::limits).

mod alias;
mod forms;
mod records;
mod reverse;
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
}

const fn rule(name: &'static str, apply: fn(&Look<'_>, &Reply) -> Step) -> Rule {
    Rule { name, apply }
}

/// All rules about records, in the order in which they are tried.
pub static RULES: [Rule; 38] = [
    rule("R5 SOA and NS of the zone are ours", zone::apex),
    rule("R5 ns.<zone> resolves", zone::name_server),
    rule("R3 SOA and NS are at the zone only", types::zone_types),
    rule("X short form", forms::short),
    rule("R2 RFC 2782 without .service has all types", forms::marked),
    rule("N names with escapes", forms::escaped),
    rule("X several tags", forms::tag_pair),
    rule("N scope words", forms::scope_words),
    rule("N RFC 2782 queries", forms::marked_query),
    rule("N alt_domain names itself", forms::alt_domain),
    rule("N a service under its own name", alias::own_name),
    rule("N a host beside addresses is no CNAME", alias::beside_addresses),
    rule("N metadata beside a host is none", alias::beside_metadata),
    rule("N .addr of odd length", types::address_length),
    rule("R2 .addr is in no or in one known datacenter", types::address_scope),
    rule("R1 .addr is echoed as typed", types::address_owner),
    rule("R3 .addr has one type", types::address_type),
    rule("N PTR has a TTL", reverse::ttl),
    rule("N a service has one spelling", reverse::spelling),
    rule("R3 reverse names have PTR only", reverse::other_type),
    rule("R4 the apex of a reverse zone", reverse::apex),
    rule("N PTR miss", reverse::miss),
    rule("N right of virtual is a peer", zone::peer),
    rule("R2 marks of a peer may be parents", zone::mark_of_peer),
    rule("R3 services have no TXT", types::service_text),
    rule("N nodes are looked up for every type", types::node_type),
    rule("N an agent that translates hides what is registered", records::translated),
    rule("R8 metadata is not added", records::metadata),
    rule("R2 parents of names exist", zone::parent),
    rule("R4 NODATA carries the SOA", zone::no_data),
    rule("N what is behind a CNAME has the type asked and its own TTL", alias::chain),
    rule("N additional records come once", records::additional_once),
    rule("N an SRV's target in the zone", alias::srv_target),
    rule("R1 the zone is spelled as asked", zone::spelling),
    rule("R5 the serial is of the last change", zone::serial),
    rule("N weight of a duplicate", records::weight),
    rule("N an RRset has no duplicates", records::answer_once),
    rule("N one of several hosts", records::host),
];

/// The names of the rules that are not in [`RULES`].
pub const OTHER_RULES: [&str; 16] = [
    "N no zone transfers",
    "R6 additional records are dropped first",
    "R6 each server has its own size",
    "R6 limits of policy set no TC",
    "R6 no reply is longer than 1232 or the client takes",
    "R6 size sets TC",
    "R7 DO is copied back",
    "R7 EDNS version above 0 is BADVERS",
    "R7 REFUSED carries OPT",
    "R7 a client's network changes no answer",
    "R7 other classes are REFUSED",
    "R7 other opcodes are NOTIMP",
    "R7 the OPT has our own size",
    "X cookies",
    "X extended errors",
    "X version and identity in class CH",
];

/// The zone that the name is in, as the question spells it.
fn typed_zone(look: &Look<'_>) -> Labels {
    let name = &look.case.subject.name;
    let labels = |zone: &str| Labels::new(zone).labels().len();
    name.last(match look.case.subject.form {
        Form::AltDomain | Form::AltNode => labels(names::ALT_DOMAIN),
        Form::Reverse if reverse::is_in_zone(name) => labels(names::REVERSE_ZONE),
        // Only whole addresses are answered then, as if in the zone of their network.
        Form::Reverse => name.labels().len() - 1,
        _ => names::zone().labels().len(),
    })
}

/// The name server, whose name is in a zone of names.
fn name_server(look: &Look<'_>) -> Labels {
    match look.case.subject.form {
        Form::Reverse => Labels::new("ns").below(&names::zone()),
        _ => Labels::new("ns").below(&typed_zone(look)),
    }
}

/// Our SOA, as an answer to this question has it.
fn soa(look: &Look<'_>) -> Line {
    let min_ttl = look.run.world.settings.min_ttl;
    let mname = name_server(look);
    let zone = mname.last(mname.labels().len() - 1);
    let rname = Labels::new("hostmaster").below(&zone);
    let serial = serial(look);
    Line {
        data: format!("{mname} {rname} {serial} 1800 300 43200 {min_ttl}"),
        data_len: 3 * (zone.labels().len() + 1) + 20,
        ..Line::pointing(typed_zone(look), min_ttl, "SOA", &mname)
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
