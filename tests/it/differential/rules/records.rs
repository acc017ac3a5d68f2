//! The records themselves: what Consul adds, repeats or leaves to chance.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::Step;

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
        if let Some(ours) = take(&is_twin) {
            *line = ours;
        }
    }
    Step::To(reply)
}

/// Whether instances with both weights are registered for one node, address and port.
fn are_duplicates(look: &Look<'_>, theirs: &Line, ours: &Line) -> bool {
    let weight = |line: &Line| line.words()[1].parse::<u16>().ok();
    let (Some(theirs_weight), Some(ours_weight)) = (weight(theirs), weight(ours)) else {
        return false;
    };
    let port = theirs.words()[2];
    let Some((_, service)) = &look.case.subject.about else { return false };
    look.run.world.places.iter().any(|place| {
        let shown: Vec<_> = place
            .instances_of(service)
            .filter(|instance| look.run.world.shows(place, instance))
            .filter(|instance| instance.port.to_string() == port)
            .collect();
        shown.iter().any(|one| {
            let same = shown
                .iter()
                .filter(|other| (other.node, &other.address) == (one.node, &one.address));
            let weights: BTreeSet<u16> = same.map(|instance| place.weight(instance)).collect();
            weights.contains(&theirs_weight) && weights.contains(&ours_weight)
        })
    })
}

/// Of several hosts, each server answers with one CNAME, whichever it is.
pub fn host(look: &Look<'_>, reply: &Reply) -> Step {
    let one = |lines: &[Line]| match lines {
        [line] if line.rtype == "CNAME" => Some(line.data.clone()),
        _ => None,
    };
    let form = look.case.subject.form;
    let (Some(theirs), Some(ours)) = (one(&reply.answer), one(&look.case.ours.answer)) else {
        return Step::None;
    };
    let Some((at, service)) = look.case.subject.about.as_ref().filter(|_| form.is_of_instances())
    else {
        return Step::None;
    };
    let instances = look.run.world.places[*at].instances_of(service);
    let hosts: BTreeSet<String> = instances.map(|one| format!("{}.", one.address)).collect();
    if !hosts.contains(&theirs) || !hosts.contains(&ours) {
        return Step::None;
    }
    let mut reply = reply.clone();
    reply.answer[0].data = ours;
    Step::To(reply)
}

/// Consul follows a CNAME into the zone with ANY, whatever type was asked.
pub fn chain_type(look: &Look<'_>, reply: &Reply) -> Step {
    let has_chain = reply.answer.len() > 1 && reply.answer.iter().any(|line| line.rtype == "CNAME");
    if !has_chain || !matches!(look.qtype, RecordType::A | RecordType::AAAA) {
        return Step::None;
    }
    let wanted = look.qtype.to_string();
    let mut reply = reply.clone();
    reply.answer.retain(|line| line.rtype == "CNAME" || line.rtype == wanted);
    Step::To(reply)
}
