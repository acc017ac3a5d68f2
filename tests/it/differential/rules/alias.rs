//! Hostnames in place of addresses, where they are names of the zone itself.
//!
//! Consul asks itself for ANY there, whatever type was asked, and puts what comes under the TTL of
//! the name that was asked. We answer with what the host itself answers to the type.

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::name::Labels;
use crate::differential::names::HOSTS;
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::{self, Step};

/// A service that is registered under its own name has its node's address. Consul sees that only
/// where the name is asked exactly as it is registered, so what it says there is said everywhere.
pub fn own_name(look: &Look<'_>, reply: &Reply) -> Step {
    let Some((_, service)) = &look.case.subject.about else { return Step::None };
    let is_own = |host: &Labels| {
        host.labels().starts_with(&[service.as_bytes().to_vec(), b"service".to_vec()])
    };
    let name = &look.case.subject.name;
    let hosts: Vec<Labels> = targets(look, reply).into_iter().filter(is_own).collect();
    let [host, ..] = &hosts[..] else { return Step::None };
    let mut reply = look.run.whole(host, look.qtype).clone();
    for line in reply.sections_mut().into_iter().flatten().filter(|line| line.owner == *host) {
        line.owner.clone_from(name);
    }
    Step::To(reply)
}

/// A CNAME stands alone (RFC 1034 §3.6.2), so where one instance has an address, another's host is
/// no CNAME; Consul says it to the types that the address is not of.
pub fn beside_addresses(look: &Look<'_>, reply: &Reply) -> Step {
    let is_of_instances = look.case.subject.form.is_of_instances();
    if look.qtype == RecordType::A || !is_of_instances || !reply.answers_only(&["CNAME"]) {
        return Step::None;
    }
    match look.as_asked_for(RecordType::A).answers_only(&["A"]) {
        true => Step::To(rules::negative(look, reply, true)),
        false => Step::None,
    }
}

/// A CNAME has no company, so ANY of a node that is an alias is the CNAME; Consul adds metadata.
/// Asked for by its own type the metadata is answered, as in Consul.
pub fn beside_metadata(look: &Look<'_>, reply: &Reply) -> Step {
    let has_text = reply.answer.iter().any(|line| line.rtype == "TXT");
    if !look.case.subject.form.is_of_node() || look.qtype != RecordType::ANY || !has_text {
        return Step::None;
    }
    let name = &look.case.subject.name;
    let mut answer = look.as_asked_for(RecordType::A).answer;
    answer.retain(|line| line.rtype == "CNAME" && line.owner == *name);
    if answer.is_empty() { Step::None } else { Step::To(reply.with_answer(answer)) }
}

/// What is behind a CNAME is what its host answers to the type, under the host's own TTL. A CNAME
/// that was asked for itself, by its type or by ANY, is not followed (RFC 1034 §3.6.2).
pub fn chain(look: &Look<'_>, reply: &Reply) -> Step {
    let name = &look.case.subject.name;
    let is_alias = |line: &&Line| line.rtype == "CNAME" && line.owner == *name;
    let (Some(alias), [host]) = (reply.answer.iter().find(is_alias), &targets(look, reply)[..])
    else {
        return Step::None;
    };
    let mut answer: Vec<Line> = match look.qtype {
        RecordType::ANY => {
            reply.answer.iter().filter(|line| line.owner == *name).cloned().collect()
        }
        _ => vec![alias.clone()],
    };
    if matches!(look.qtype, RecordType::A | RecordType::AAAA) {
        answer.extend(followed(look, host, look.qtype));
    }
    Step::To(reply.with_answer(answer))
}

/// An SRV's target in the zone brings both its addresses along, and what it is an alias of, under
/// the TTLs that these have themselves; and each record once.
pub fn srv_target(look: &Look<'_>, reply: &Reply) -> Step {
    if look.qtype != RecordType::SRV {
        return Step::None;
    }
    let hosts = targets(look, reply);
    let mut reply = reply.clone();
    let is_generated = |line: &Line| {
        reply
            .answer
            .iter()
            .any(|srv| srv.words()[3] == line.owner.to_string() && !hosts.contains(&line.owner))
    };
    let mut additional: Vec<Line> =
        reply.additional.iter().filter(|line| is_generated(line)).cloned().collect();
    for host in &hosts {
        for qtype in [RecordType::A, RecordType::AAAA] {
            additional.extend(followed(look, host, qtype));
        }
    }
    additional.sort();
    additional.dedup();
    reply.additional = additional;
    Step::To(reply)
}

/// What `host` answers to the type, along all hosts that it is itself an alias of.
fn followed(look: &Look<'_>, host: &Labels, qtype: RecordType) -> Vec<Line> {
    let answer = &look.run.whole(host, qtype).answer;
    let Some(alias) = answer.iter().find(|line| line.rtype == "CNAME" && line.owner == *host)
    else {
        return answer.clone();
    };
    let next = Labels::new(&alias.data);
    let mut lines = vec![alias.clone()];
    lines.extend(followed(look, &next, qtype));
    lines
}

/// The hosts in the zone that the records of the name itself point to.
fn targets(look: &Look<'_>, reply: &Reply) -> Vec<Labels> {
    let own = reply.answer.iter().filter(|line| line.owner == look.case.subject.name);
    let targets = own.filter_map(|line| match &*line.rtype {
        "CNAME" => Some(Labels::new(&line.data)),
        "SRV" => Some(Labels::new(line.words()[3])),
        _ => None,
    });
    let hosts = HOSTS.map(Labels::new);
    let mut targets: Vec<Labels> = targets.filter(|target| hosts.contains(target)).collect();
    targets.sort();
    targets.dedup();
    targets
}
