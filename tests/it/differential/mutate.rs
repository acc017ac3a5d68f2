//! Wrong replies, made of right ones: each must be caught, or the judge is no judge.
//!
//! A mutation is left out where its result would be right too: which records a limited answer
//! holds is chance, and so is what is dropped where space has run out.

use hickory_proto::rr::RecordType;

use crate::differential::name::Labels;
use crate::differential::reply::{Line, Opt, Reply};
use crate::differential::run::Case;

/// A way to be wrong.
pub struct Mutation {
    /// What is wrong.
    pub name: &'static str,
    /// Makes the reply wrong; false where this one cannot be wrong in this way.
    pub apply: fn(&Case, &mut Reply) -> bool,
}

/// All ways.
pub const MUTATIONS: &[Mutation] = &[
    of("NXDOMAIN for NOERROR", |_, reply| rcode(reply, "NOERROR", "NXDOMAIN")),
    of("NOERROR for NXDOMAIN", |_, reply| rcode(reply, "NXDOMAIN", "NOERROR")),
    of("SERVFAIL for NXDOMAIN", |_, reply| rcode(reply, "NXDOMAIN", "SERVFAIL")),
    of("REFUSED for NOERROR", |_, reply| rcode(reply, "NOERROR", "REFUSED")),
    of("NOERROR for REFUSED", |_, reply| rcode(reply, "REFUSED", "NOERROR")),
    of("a query", |_, reply| flip(reply, "qr")),
    of("AA off, or on", |_, reply| flip(reply, "aa")),
    of("TC off, or on", |_, reply| flip(reply, "tc")),
    of("RD not copied", |_, reply| flip(reply, "rd")),
    of("RA on", |_, reply| flip(reply, "ra")),
    of("AD on", |_, reply| flip(reply, "ad")),
    of("CD not copied", |_, reply| flip(reply, "cd")),
    of("question in lower case", question_in_lower_case),
    of("question of another type", question_of_another_type),
    of("answer dropped", answer_dropped),
    of("answer twice", |_, reply| twice(&mut reply.answer)),
    of("answer added", answer_added),
    of("answer's TTL + 1", |_, reply| ttl(&mut reply.answer, |ttl| ttl + 1)),
    of("answer's TTL is 0", |_, reply| ttl(&mut reply.answer, |_| 0)),
    of("answer's owner", |_, reply| owner(&mut reply.answer)),
    of("answer's owner in lower case", |_, reply| owner_in_lower_case(&mut reply.answer)),
    of("answer's class", |_, reply| change(&mut reply.answer, "", |line| line.class = "HS".into())),
    of("answer's address", |_, reply| data(&mut reply.answer, "A", "192.0.2.1")),
    of("answer's IPv6 address", |_, reply| data(&mut reply.answer, "AAAA", "2001:db8::1")),
    of("answer of the other family", |_, reply| other_family(reply)),
    of("CNAME's target", |_, reply| data(&mut reply.answer, "CNAME", "wrong.example.")),
    of("SRV's priority", |_, reply| word(&mut reply.answer, "SRV", 0, "0")),
    of("SRV's weight", |_, reply| word(&mut reply.answer, "SRV", 1, "77")),
    of("SRV's port", |_, reply| word(&mut reply.answer, "SRV", 2, "9")),
    of("SRV's target", |_, reply| word(&mut reply.answer, "SRV", 3, "wrong.node.dc1.consul.")),
    of("answer in the wrong section", moved),
    of("SOA dropped", |_, reply| !reply.authority.is_empty() && reply.authority.pop().is_some()),
    of("SOA twice", |_, reply| twice(&mut reply.authority)),
    of("SOA's TTL + 1", |_, reply| ttl(&mut reply.authority, |ttl| ttl + 1)),
    of("SOA's owner", |_, reply| owner(&mut reply.authority)),
    of("SOA's owner in lower case", |_, reply| owner_in_lower_case(&mut reply.authority)),
    of("SOA's name server", |_, reply| word(&mut reply.authority, "SOA", 0, "ns.example.")),
    of("SOA's serial", |_, reply| word(&mut reply.authority, "SOA", 2, "1")),
    of("SOA's minimum", |_, reply| word(&mut reply.authority, "SOA", 6, "86400")),
    of("NS beside an answer", ns_added),
    of("additional record dropped", additional_dropped),
    of("additional record twice", |_, reply| twice(&mut reply.additional)),
    of("additional record's TTL + 1", |_, reply| ttl(&mut reply.additional, |ttl| ttl + 1)),
    of("additional record's owner", |_, reply| owner(&mut reply.additional)),
    of("additional record's address", |_, reply| data(&mut reply.additional, "A", "192.0.2.1")),
    of("metadata added", text_added),
    of("no OPT", |_, reply| reply.opt.take().is_some()),
    of("an OPT that nobody asked for", |_, reply| opt_added(reply)),
    of("OPT's size", |case, reply| {
        opt(reply, |opt| opt.payload = case.carrier.edns_size().unwrap_or(0))
    }),
    of("OPT's DO bit", |_, reply| opt(reply, |opt| opt.dnssec_ok = !opt.dnssec_ok)),
    of("OPT's version", |_, reply| opt(reply, |opt| opt.version = 1)),
    of("an option echoed", |_, reply| opt(reply, |opt| opt.options.push((10, String::new())))),
    of("too long for the client", too_long),
];

const fn of(name: &'static str, apply: fn(&Case, &mut Reply) -> bool) -> Mutation {
    Mutation { name, apply }
}

fn rcode(reply: &mut Reply, from: &str, to: &str) -> bool {
    let is_so = reply.rcode == from;
    if is_so {
        reply.rcode = to.to_owned();
    }
    is_so
}

fn flip(reply: &mut Reply, flag: &'static str) -> bool {
    if !reply.flags.remove(flag) {
        reply.flags.insert(flag);
    }
    true
}

fn question_in_lower_case(_: &Case, reply: &mut Reply) -> bool {
    let (name, rest) = reply.question.split_once(' ').unwrap_or_default();
    let lower = format!("{} {rest}", name.to_lowercase());
    let is_other = !name.is_empty() && lower != reply.question;
    reply.question = lower;
    is_other
}

fn question_of_another_type(case: &Case, reply: &mut Reply) -> bool {
    let class = if reply.question.contains(" CH ") { "CH" } else { "IN" };
    reply.question = format!("{} {class} {}", case.subject.name, RecordType::NAPTR);
    true
}

fn answer_dropped(_: &Case, reply: &mut Reply) -> bool {
    // Where space ran out, one record less may be right too.
    if reply.flags.contains("tc") || reply.answer.is_empty() {
        return false;
    }
    let dropped = reply.answer.remove(0);
    reply.len = reply.len.saturating_sub(dropped.compact_len());
    true
}

fn answer_added(case: &Case, reply: &mut Reply) -> bool {
    let ip = "192.0.2.1".parse().unwrap();
    reply.answer.push(Line::address(case.subject.name.clone(), 0, ip));
    true
}

fn twice(lines: &mut Vec<Line>) -> bool {
    lines.extend(lines.first().cloned());
    !lines.is_empty()
}

fn ttl(lines: &mut [Line], to: fn(u32) -> u32) -> bool {
    let Some(line) = lines.first_mut() else { return false };
    let before = line.ttl;
    line.ttl = to(before);
    line.ttl != before
}

fn owner(lines: &mut [Line]) -> bool {
    change(lines, "", |line| line.owner = Labels::new("wrong").below(&line.owner))
}

fn owner_in_lower_case(lines: &mut [Line]) -> bool {
    let Some(line) = lines.first_mut() else { return false };
    let lower = line.owner.lower();
    let is_other = lower != line.owner;
    line.owner = lower;
    is_other
}

fn data(lines: &mut [Line], rtype: &str, to: &str) -> bool {
    change(lines, rtype, |line| line.data = to.to_owned())
}

/// Changes a word of the data of the first record of the type.
fn word(lines: &mut [Line], rtype: &str, at: usize, to: &str) -> bool {
    change(lines, rtype, |line| {
        let mut words = line.words();
        words[at] = to;
        line.data = words.join(" ");
    })
}

/// Changes the first record of the type, or of any.
fn change(lines: &mut [Line], rtype: &str, how: impl Fn(&mut Line)) -> bool {
    let line = lines.iter_mut().find(|line| rtype.is_empty() || line.rtype == rtype);
    line.map(how).is_some()
}

fn other_family(reply: &mut Reply) -> bool {
    change(&mut reply.answer, "A", |line| {
        line.rtype = "AAAA".to_owned();
        line.data = format!("::ffff:{}", line.data);
    })
}

fn moved(_: &Case, reply: &mut Reply) -> bool {
    let Some(line) = reply.answer.pop() else { return false };
    reply.additional.push(line);
    true
}

fn ns_added(case: &Case, reply: &mut Reply) -> bool {
    let target = Labels::new("ns.consul");
    reply.authority.push(Line::pointing(case.subject.name.clone(), 0, "NS", &target));
    true
}

fn additional_dropped(case: &Case, reply: &mut Reply) -> bool {
    // Where space may have run out, one record less may be right too.
    if case.carrier.is_udp() && reply.len + ROOMY > 512 {
        return false;
    }
    let Some(dropped) = reply.additional.pop() else { return false };
    reply.len = reply.len.saturating_sub(dropped.compact_len());
    true
}

fn text_added(case: &Case, reply: &mut Reply) -> bool {
    let name = case.subject.name.clone();
    let text =
        Line { data: "\"a=b\"".to_owned(), ..Line::pointing(name, 0, "TXT", &Labels::new("")) };
    reply.additional.push(text);
    true
}

fn opt_added(reply: &mut Reply) -> bool {
    if reply.opt.is_some() {
        return false;
    }
    reply.opt = Some(Opt { payload: 1232, version: 0, dnssec_ok: false, options: Vec::new() });
    true
}

fn opt(reply: &mut Reply, how: impl Fn(&mut Opt)) -> bool {
    let Some(opt) = &mut reply.opt else { return false };
    let before = opt.clone();
    how(opt);
    *opt != before
}

fn too_long(case: &Case, reply: &mut Reply) -> bool {
    if case.carrier.is_udp() {
        reply.len = 1233;
    }
    case.carrier.is_udp()
}

/// Longer than any additional record of these worlds.
const ROOMY: usize = 40;
