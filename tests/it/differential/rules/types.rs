//! The type is honored: what Consul answers to a type that the name does not have.

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::names::{self, Form};
use crate::differential::reply::Reply;
use crate::differential::rules::{self, Step};

/// Consul answers SOA and NS with the zone's own at any name, whether or not it exists.
pub fn zone_types(look: &Look<'_>, reply: &Reply) -> Step {
    let rtype = match look.qtype {
        RecordType::NS => "NS",
        RecordType::SOA => "SOA",
        _ => return Step::None,
    };
    let is_zones = reply.answer.iter().all(|line| line.owner == names::zone());
    if look.case.subject.form == Form::Reverse || !reply.answers_only(&[rtype]) || !is_zones {
        return Step::None;
    }
    let addresses = look.as_asked_for(RecordType::A);
    if addresses.rcode == "SERVFAIL" {
        return Step::End(addresses);
    }
    Step::End(alias(look, reply).unwrap_or_else(|| rules::negative(look, reply, exists(look))))
}

/// Whether the name exists, by Consul's answer to A and the rules.
fn exists(look: &Look<'_>) -> bool {
    look.as_asked_for(RecordType::A).rcode != "NXDOMAIN"
}

/// The CNAME alone, where there is one: it is one for every type (RFC 1034 §3.6.2).
fn alias(look: &Look<'_>, reply: &Reply) -> Option<Reply> {
    let mut answer = look.as_asked_for(RecordType::A).answer;
    let name = &look.case.subject.name;
    answer.retain(|line| line.rtype == "CNAME" && line.owner == *name);
    (!answer.is_empty()).then(|| reply.with_answer(answer))
}

/// Consul halves the number of digits before it looks at it, and takes what is left for empty.
pub fn address_length(look: &Look<'_>, reply: &Reply) -> Step {
    let digits = look.case.subject.name.labels()[0].len();
    let is_odd = !matches!(digits / 2, 4 | 16);
    let is_empty = reply.rcode == "NOERROR" && reply.is_bare();
    if look.case.subject.form == Form::Addr && is_odd && is_empty {
        return Step::To(rules::negative(look, reply, false));
    }
    Step::None
}

/// Consul does not read what is right of `addr`.
pub fn address_scope(look: &Look<'_>, reply: &Reply) -> Step {
    if !is_address(look, reply) {
        return Step::None;
    }
    let name = look.case.subject.name.lower();
    let end = name.labels().len() - names::zone().labels().len();
    let is_known = match &name.labels()[2..end] {
        [] => true,
        [dc] => look.run.world.places.iter().any(|place| place.dc.as_bytes() == dc),
        _ => false,
    };
    if is_known { Step::None } else { Step::To(rules::negative(look, reply, false)) }
}

/// Consul 1.8.7 makes the owner anew, in lower case.
pub fn address_owner(look: &Look<'_>, reply: &Reply) -> Step {
    let name = &look.case.subject.name;
    if !is_address(look, reply) || reply.answer[0].owner != name.lower() {
        return Step::None;
    }
    let mut reply = reply.clone();
    reply.answer[0].owner.clone_from(name);
    Step::To(reply)
}

/// Consul 1.8.7 answers any type with the address.
pub fn address_type(look: &Look<'_>, reply: &Reply) -> Step {
    if !is_address(look, reply) {
        return Step::None;
    }
    match (look.qtype, &*reply.answer[0].rtype) {
        (RecordType::ANY, _) | (RecordType::A, "A") | (RecordType::AAAA, "AAAA") => Step::None,
        _ => Step::To(rules::negative(look, reply, true)),
    }
}

fn is_address(look: &Look<'_>, reply: &Reply) -> bool {
    let is_one = reply.answers_only(&["A", "AAAA"]) && reply.answer.len() == 1;
    look.case.subject.form == Form::Addr && is_one
}

/// Consul answers TXT of a service with its addresses.
pub fn service_text(look: &Look<'_>, reply: &Reply) -> Step {
    let is_text = look.qtype == RecordType::TXT && look.case.subject.form.is_of_instances();
    if is_text && reply.answers_only(&["A", "AAAA"]) {
        return Step::To(rules::negative(look, reply, true));
    }
    Step::None
}

/// Consul 1.8.7 has nothing for most types of a node without looking whether there is one, nor
/// whether it is an alias.
pub fn node_type(look: &Look<'_>, reply: &Reply) -> Step {
    let looked_up = [RecordType::A, RecordType::AAAA, RecordType::ANY].contains(&look.qtype);
    let is_empty = reply.rcode == "NOERROR" && reply.is_bare();
    if !look.case.subject.form.is_of_node() || looked_up || !is_empty {
        return Step::None;
    }
    match alias(look, reply) {
        Some(alias) => Step::To(alias),
        None => Step::To(rules::negative(look, reply, exists(look))),
    }
}
