//! The records themselves: what Consul adds, repeats or leaves to chance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::name::Labels;
use crate::differential::names::Form;
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::Step;
use crate::differential::world::{Health, Instance, Place};

/// An agent that translates addresses tells the tagged one of a service or a node in the place of
/// what is registered, be it an address of the other family or none, and so nobody hears of that.
pub fn translated(look: &Look<'_>, reply: &Reply) -> Step {
    if !look.run.world.settings.translate_wan_addrs {
        return Step::None;
    }
    let (family, other) = match look.qtype {
        RecordType::A => ("ipv4", "ipv6"),
        RecordType::AAAA => ("ipv6", "ipv4"),
        RecordType::SRV => return named_by_address(look, reply),
        _ => return Step::None,
    };
    let is_replaced = |tags: &mut dyn Iterator<Item = &&'static str>| {
        let tags: Vec<&str> = tags.copied().collect();
        let has = |family: &str| tags.iter().any(|tag| tag.ends_with(family));
        has(other) && !has(family) && !tags.contains(&"wan")
    };
    let home = &look.run.world.places[0].dc;
    let (mut hidden, mut told) = (BTreeSet::new(), BTreeSet::new());
    let shown = look.case.instances(look.run).into_iter();
    for (place, one) in shown.filter(|(place, one)| look.run.world.shows(place, one)) {
        let node = &place.nodes[one.node];
        let is_at_node = one.address.is_empty();
        let is_service_replaced = is_replaced(&mut one.tagged.keys());
        // The node's are of no matter to a service with a tagged address that is told.
        let is_untagged = !one.tagged.keys().any(|tag| *tag != "lan");
        let is_node_replaced = is_at_node && is_untagged && is_replaced(&mut node.tagged.keys());
        let is_hidden = place.dc != *home && (is_service_replaced || is_node_replaced);
        let of_node = node.tagged.values().chain([&node.address]).filter(|_| is_at_node);
        let all = of_node.map(String::as_str).chain(one.addresses()).map(str::to_owned);
        if is_hidden { &mut hidden } else { &mut told }.extend(all);
    }
    if let Some(node) = look.case.node(look.run).filter(|(place, _)| place.dc != *home) {
        hidden.extend(is_replaced(&mut node.1.tagged.keys()).then(|| node.1.address.clone()));
    }
    let mut reply = reply.clone();
    reply.answer.retain(|line| !hidden.contains(&line.data) || told.contains(&line.data));
    Step::To(reply)
}

/// Where a node is registered with what is also one of its tagged addresses, nobody can tell whether
/// the agent has put that in the place of another: an SRV's target is the address, not the node.
fn named_by_address(look: &Look<'_>, reply: &Reply) -> Step {
    let home = &look.run.world.places[0].dc;
    let mut reply = reply.clone();
    for (place, one) in look.case.instances(look.run) {
        let node = &place.nodes[one.node];
        let is_tagged = node.tagged.iter().any(|(tag, it)| *tag != "lan" && *it == node.address);
        let Ok(ip) = node.address.parse::<IpAddr>() else { continue };
        if place.dc == *home || !is_tagged {
            continue;
        }
        let hex = match ip {
            IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
            IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        };
        let by_node = Labels::new(&format!("{}.node.{}.consul.", node.name, place.dc));
        let by_address = Labels::new(&format!("{hex}.addr.{}.consul.", place.dc));
        for line in reply.sections_mut().into_iter().flatten() {
            if line.owner == by_node {
                line.owner = by_address.clone();
            }
            let target = format!(" {by_node}");
            if let Some(rest) = line.data.strip_suffix(&target).filter(|_| line.rtype == "SRV") {
                line.data = format!("{rest} {by_address}");
                let len =
                    |name: &Labels| name.labels().iter().map(|it| it.len() + 1).sum::<usize>();
                line.data_len = line.data_len - len(&by_node) + len(&by_address);
            }
        }
    }
    Step::To(reply)
}

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
///
/// Where there are such, all records that differ in nothing but the weight are looked at together:
/// each weight must be registered, and there are at most as many records as nodes.
pub fn weight(look: &Look<'_>, reply: &Reply) -> Step {
    if look.qtype != RecordType::SRV || !look.case.subject.form.is_of_instances() {
        return Step::None;
    }
    let all_of = |answer: &[Line], key: &Line| {
        let group = answer.iter().filter(|line| line.weightless() == *key);
        group.cloned().collect::<Vec<_>>()
    };
    let mut answer = Vec::new();
    let keys: BTreeSet<Line> = reply.answer.iter().map(Line::weightless).collect();
    for key in keys {
        let (theirs, ours) = (all_of(&reply.answer, &key), all_of(&look.case.ours.answer, &key));
        let is_choice = !ours.is_empty() && theirs != ours && are_choices(look, &theirs, &ours);
        answer.extend(if is_choice { ours } else { theirs });
    }
    Step::To(Reply { answer, ..reply.clone() })
}

/// Instances of two nodes may give the very same record; Consul says it twice (RFC 2181 §5).
pub fn answer_once(_: &Look<'_>, reply: &Reply) -> Step {
    let mut reply = reply.clone();
    reply.answer.dedup();
    Step::To(reply)
}

/// Whether both are choices of weights among instances of which one node has several.
fn are_choices(look: &Look<'_>, theirs: &[Line], ours: &[Line]) -> bool {
    let port = theirs[0].words()[2].to_owned();
    let mut shown = look.case.instances(look.run);
    // A query says itself whether warnings are left out.
    let is_query = matches!(look.case.subject.form, Form::Query | Form::QueryMarked);
    shown.retain(|(place, instance)| match is_query {
        true => place.health(instance) != Health::Critical,
        false => look.run.world.shows(place, instance),
    });
    shown.retain(|(_, instance)| instance.ports().any(|own| own.to_string() == port));
    let used = |line: &Line| line.words()[1].parse::<u16>().unwrap_or(u16::MAX);
    let used: BTreeSet<u16> = theirs.iter().chain(ours).map(used).collect();
    // All that may be behind one target: on one node, or with one address.
    let reached = |place: &Place, one: &Instance| {
        let node = &place.nodes[one.node];
        let of_node = node.tagged.values().chain([&node.address]);
        let of_node = of_node.filter(|_| one.address.is_empty()).map(String::as_str);
        let own = one.addresses().filter(|address| !address.is_empty());
        own.chain(of_node).map(str::to_owned).collect::<BTreeSet<String>>()
    };
    shown.iter().any(|(place, one)| {
        let here = reached(place, one);
        let is_alike = |other_place: &Place, other: &Instance| {
            other_place.dc == place.dc && !here.is_disjoint(&reached(other_place, other))
        };
        let alike = shown.iter().filter(|(other_place, other)| is_alike(other_place, other));
        let mut by_node: BTreeMap<usize, BTreeSet<u16>> = BTreeMap::new();
        for (place, instance) in alike {
            by_node.entry(instance.node).or_default().insert(place.weight(instance));
        }
        let weights: BTreeSet<u16> = by_node.values().flatten().copied().collect();
        let has_choice = by_node.values().any(|weights| weights.len() > 1);
        has_choice && used.is_subset(&weights) && ours.len() <= by_node.len()
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
