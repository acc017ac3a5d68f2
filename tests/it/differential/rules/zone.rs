//! The zone itself: who is authoritative, its SOA, and that parents of names exist.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::RecordType;

use crate::differential::judge::Look;
use crate::differential::name::Labels;
use crate::differential::names::{self, Form};
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::{self, Step};
use crate::differential::run;

/// Consul's NS are its servers' nodes, and its apex has nothing else; ours name us.
pub fn apex(look: &Look<'_>, reply: &Reply) -> Step {
    if look.case.subject.form != Form::Apex {
        return Step::None;
    }
    let zone = rules::typed_zone(look);
    let node_ttl = look.run.world.settings.node_ttl;
    let server = Labels::new("ns").below(&zone);
    let ns = Line::pointing(zone.clone(), node_ttl, "NS", &server);
    let glue = Line::address(server, node_ttl, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let servers = |lines: &[Line]| !lines.is_empty() && lines.iter().all(|line| line.rtype == "NS");
    let mut ours = match look.qtype {
        RecordType::SOA if reply.answers_only(&["SOA"]) && servers(&reply.authority) => {
            return Step::End(reply.with_answer(vec![rules::soa(look)]));
        }
        RecordType::NS if servers(&reply.answer) && reply.authority.is_empty() => {
            reply.with_answer(vec![ns])
        }
        RecordType::ANY if reply.denies() => reply.with_answer(vec![ns, rules::soa(look)]),
        _ => return Step::None,
    };
    ours.additional = vec![glue];
    Step::End(ours)
}

/// Consul names an `ns.<zone>` in its SOA that does not resolve; ours is the address asked.
pub fn name_server(look: &Look<'_>, reply: &Reply) -> Step {
    if look.case.subject.form != Form::NameServer || !reply.denies() {
        return Step::None;
    }
    Step::To(match look.qtype {
        RecordType::A | RecordType::ANY => {
            let (name, ttl) = (look.case.subject.name.clone(), look.run.world.settings.node_ttl);
            reply.with_answer(vec![Line::address(name, ttl, IpAddr::V4(Ipv4Addr::LOCALHOST))])
        }
        _ => rules::negative(look, reply, true),
    })
}

/// Below an NXDOMAIN there is nothing (RFC 8020), so what has names below it exists.
pub fn parent(look: &Look<'_>, reply: &Reply) -> Step {
    let subject = &look.case.subject;
    // A scope has many spellings in words; what exists in one exists in all.
    let same = subject.same.as_ref().filter(|_| subject.form == Form::ScopeWords);
    let is_parent = look.run.existing.is_parent(same.unwrap_or(&subject.name));
    if reply.denies() && is_parent {
        Step::To(rules::negative(look, reply, true))
    } else {
        Step::None
    }
}

/// Nobody lists the tags of a peer, so any mark may be the parent of names there.
pub fn mark_of_peer(look: &Look<'_>, reply: &Reply) -> Step {
    let subject = &look.case.subject;
    let is_mark = subject.form == Form::Peer && subject.name.labels()[0].starts_with(b"_");
    if reply.denies() && is_mark {
        Step::To(rules::negative(look, reply, true))
    } else {
        Step::None
    }
}

/// One label right of `virtual` is a peer, of which nothing here can tell.
pub fn peer(look: &Look<'_>, reply: &Reply) -> Step {
    let name = look.case.subject.name.lower();
    let labels = name.labels();
    let at = labels.len().saturating_sub(2 + names::zone().labels().len());
    if !reply.denies() || labels.get(at).is_none_or(|label| label != b"virtual") {
        return Step::None;
    }
    match at {
        0 => Step::To(rules::negative(look, reply, true)),
        _ => Step::To(reply.emptied("SERVFAIL")),
    }
}

/// Consul leaves the SOA out of NODATA for nodes.
pub fn no_data(look: &Look<'_>, reply: &Reply) -> Step {
    let is_bare = reply.rcode == "NOERROR" && reply.is_bare();
    if is_bare { Step::To(rules::negative(look, reply, true)) } else { Step::None }
}

/// The zone comes back in the letter case in which it was asked.
pub fn spelling(look: &Look<'_>, reply: &Reply) -> Step {
    let typed = rules::typed_zone(look);
    let zone = typed.lower();
    change_soa(reply, |line| {
        if line.owner == zone {
            line.owner.clone_from(&typed);
            for label in ["ns", "hostmaster"] {
                let (old, new) = (format!("{label}.{zone} "), format!("{label}.{typed} "));
                line.data = line.data.replacen(&old, &new, 1);
            }
        }
    })
}

/// Consul's serial is the second of the query; ours that of the last change, and stays.
pub fn serial(look: &Look<'_>, reply: &Reply) -> Step {
    let (started, ended) = look.run.span;
    change_soa(reply, |line| {
        let theirs = run::serial_of(line);
        if (started..=ended).contains(&theirs) {
            let (old, new) = (format!(" {theirs} "), format!(" {} ", rules::serial(look)));
            line.data = line.data.replacen(&old, &new, 1);
        }
    })
}

fn change_soa(reply: &Reply, change: impl Fn(&mut Line)) -> Step {
    let mut reply = reply.clone();
    let all = reply.sections_mut().into_iter().flatten();
    all.filter(|line| line.rtype == "SOA").for_each(change);
    Step::To(reply)
}
