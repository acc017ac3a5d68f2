//! Reverse names: which answers they have, and which zone says that there is none.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::name::Labels;
use crate::differential::names::{Form, REVERSE_ZONE};
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::{self, Step};

/// Consul's PTR may not be remembered; ours may be as long as what it names.
pub fn ttl(look: &Look<'_>, reply: &Reply) -> Step {
    if look.case.subject.form != Form::Reverse || !reply.answers_only(&["PTR"]) {
        return Step::None;
    }
    let mut reply = reply.clone();
    for line in reply.answer.iter_mut().filter(|line| line.ttl == 0) {
        let settings = &look.run.world.settings;
        line.ttl = match line.data.split_once(".service.") {
            Some((name, _)) => settings.service_ttl_of(name),
            None => settings.node_ttl,
        };
    }
    Step::To(reply)
}

/// Services whose names differ in letter case only are one, and have one spelling: that of any.
pub fn spelling(look: &Look<'_>, reply: &Reply) -> Step {
    let ours = &look.case.ours;
    let ([theirs], [own]) = (&reply.answer[..], &ours.answer[..]) else { return Step::None };
    let service = |line: &Line| line.data.split_once(".service.").map(|(name, _)| name.to_owned());
    let (Some(name), Some(spelled)) = (service(theirs), service(own)) else { return Step::None };
    let is_registered = |name: &str| {
        let mut instances = look.run.world.places.iter().flat_map(|place| &place.instances);
        instances.any(|instance| instance.service == name)
    };
    if look.case.subject.form != Form::Reverse
        || !name.eq_ignore_ascii_case(&spelled)
        || !is_registered(&name)
        || !is_registered(&spelled)
    {
        return Step::None;
    }
    let mut reply = reply.clone();
    reply.answer[0].data = theirs.data.replacen(&name, &spelled, 1);
    Step::To(reply)
}

/// Consul answers any type of a reverse name with its PTR.
pub fn other_type(look: &Look<'_>, reply: &Reply) -> Step {
    let is_other = !matches!(look.qtype, RecordType::ANY | RecordType::PTR);
    let is_pointer = reply.answers_only(&["PTR"]);
    if look.case.subject.form == Form::Reverse && is_other && is_pointer {
        return Step::To(rules::negative(look, reply, true));
    }
    Step::None
}

/// Consul has no reverse zones; ours have SOA and NS.
pub fn apex(look: &Look<'_>, reply: &Reply) -> Step {
    let name = &look.case.subject.name;
    if name.lower() != Labels::new(REVERSE_ZONE) || !is_miss(look, reply) {
        return Step::None;
    }
    let (node_ttl, server) = (look.run.world.settings.node_ttl, rules::name_server(look));
    let ns = Line::pointing(name.clone(), node_ttl, "NS", &server);
    let mut ours = authoritative(reply).with_answer(match look.qtype {
        RecordType::ANY => vec![rules::soa(look), ns],
        RecordType::NS => vec![ns],
        RecordType::SOA => vec![rules::soa(look)],
        _ => return Step::None,
    });
    if look.qtype != RecordType::SOA {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        ours.additional = vec![Line::address(server, node_ttl, ip)];
    }
    Step::End(ours)
}

/// Consul 1.8.7 fails where it knows no such address. In a zone of ours it does not exist, if it
/// is not the parent of one that is known; elsewhere it is not ours to say.
pub fn miss(look: &Look<'_>, reply: &Reply) -> Step {
    if !is_miss(look, reply) {
        return Step::None;
    }
    let name = &look.case.subject.name;
    let exists = name.lower() == Labels::new(REVERSE_ZONE) || look.run.existing.is_parent(name);
    if !is_in_zone(name) {
        let mut reply = reply.emptied("REFUSED");
        reply.flags.remove("ra");
        return Step::End(reply);
    }
    Step::End(rules::negative(look, &authoritative(reply), exists))
}

/// Whether `name` is in the reverse zone that we are configured with.
pub fn is_in_zone(name: &Labels) -> bool {
    let zone = Labels::new(REVERSE_ZONE);
    name.lower().last(zone.labels().len()) == zone
}

fn is_miss(look: &Look<'_>, reply: &Reply) -> bool {
    let is_bare = reply.rcode == "SERVFAIL" && reply.is_bare();
    look.case.subject.form == Form::Reverse && is_bare && reply.flags.contains("ra")
}

/// A failure of Consul's is from nobody's zone; what we say instead is from ours.
fn authoritative(reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    reply.flags.remove("ra");
    reply.flags.insert("aa");
    reply
}
