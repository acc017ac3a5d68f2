//! The records themselves: what Consul adds, repeats or leaves to chance.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::names::Form;
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::Step;
use crate::differential::world::Health;

/// Consul adds the metadata of nodes as TXT records.
pub fn metadata(look: &Look<'_>, reply: &Reply) -> Step {
    let form = look.case.subject.form;
    if !form.is_of_node() && look.qtype != RecordType::SRV {
        return Step::None;
    }
    let mut reply = reply.clone();
    reply.additional.retain(|line| line.rtype != "TXT");
    Step::To(reply)
}

/// Consul adds a target's address for each SRV that has it; an RRset has no duplicates.
pub fn additional_once(look: &Look<'_>, reply: &Reply) -> Step {
    if look.qtype != RecordType::SRV {
        return Step::None;
    }
    let mut reply = reply.clone();
    reply.additional.sort();
    reply.additional.dedup();
    Step::To(reply)
}

/// Of instances with one node, address and port, each server answers with one, whichever it is.
pub fn weight(look: &Look<'_>, reply: &Reply) -> Step {
    if look.qtype != RecordType::SRV || !look.case.subject.form.is_of_instances() {
        return Step::None;
    }
    // Instances of two nodes may give the very same record twice, so records are counted.
    let mut free: Vec<&Line> = look.case.ours.answer.iter().collect();
    let mut take = |is_it: &dyn Fn(&Line) -> bool| {
        let at = free.iter().position(|ours| is_it(ours))?;
        Some(free.swap_remove(at).clone())
    };
    let mut reply = reply.clone();
    let (_, others): (Vec<_>, Vec<_>) =
        reply.answer.iter_mut().partition(|line| take(&|ours| ours == *line).is_some());
    for line in others {
        let is_twin = |ours: &Line| {
            ours.weightless() == line.weightless() && are_duplicates(look, line, ours)
        };
        // Where it became the same as the record of another node, one stands for both.
        let merged = || look.case.ours.answer.iter().find(|ours| is_twin(ours)).cloned();
        if let Some(ours) = take(&is_twin).or_else(merged) {
            *line = ours;
        }
    }
    Step::To(reply)
}

/// Instances of two nodes may give the very same record; Consul says it twice (RFC 2181 §5).
pub fn answer_once(_: &Look<'_>, reply: &Reply) -> Step {
    let mut reply = reply.clone();
    reply.answer.dedup();
    Step::To(reply)
}

/// Whether instances with both weights are registered for one node, address and port.
fn are_duplicates(look: &Look<'_>, theirs: &Line, ours: &Line) -> bool {
    let weight = |line: &Line| line.words()[1].parse::<u16>().ok();
    let (Some(theirs_weight), Some(ours_weight)) = (weight(theirs), weight(ours)) else {
        return false;
    };
    let port = theirs.words()[2];
    let mut shown = look.case.instances(look.run);
    // A query says itself whether warnings are left out.
    let is_query = matches!(look.case.subject.form, Form::Query | Form::QueryMarked);
    shown.retain(|(place, instance)| match is_query {
        true => place.health(instance) != Health::Critical,
        false => look.run.world.shows(place, instance),
    });
    shown.retain(|(_, instance)| instance.ports().any(|own| own.to_string() == port));
    shown.iter().any(|(place, one)| {
        let same = shown.iter().filter(|(other_place, other)| {
            let is_there = (other_place.dc, other.node) == (place.dc, one.node);
            is_there && other.addresses().any(|own| one.addresses().any(|its| its == own))
        });
        let weights: BTreeSet<u16> = same.map(|(place, other)| place.weight(other)).collect();
        weights.contains(&theirs_weight) && weights.contains(&ours_weight)
    })
}

/// Of several hosts, each server answers with one CNAME, whichever it is.
pub fn host(look: &Look<'_>, reply: &Reply) -> Step {
    let one = |lines: &[Line]| match lines {
        [line] if line.rtype == "CNAME" => Some(line.data.clone()),
        _ => None,
    };
    let (Some(theirs), Some(ours)) = (one(&reply.answer), one(&look.case.ours.answer)) else {
        return Step::None;
    };
    let instances = look.case.instances(look.run);
    let hosts: BTreeSet<String> =
        instances.iter().map(|(_, one)| format!("{}.", one.address)).collect();
    if !hosts.contains(&theirs) || !hosts.contains(&ours) {
        return Step::None;
    }
    let mut reply = reply.clone();
    reply.answer[0].data = ours;
    Step::To(reply)
}
