//! What this server does not do yet. Each entry is to be deleted, never to be loosened.
//!
//! An entry excuses a difference that no rule explains, where it says so of the question; one that
//! excuses nothing any more fails the test of the fixed seeds.

use hickory_proto::rr::RecordType;

use crate::differential::generate::EXTERNAL_SERVICES;
use crate::differential::names::Form;
use crate::differential::reply::Reply;
use crate::differential::run::{Case, Run};
use crate::differential::world::{Instance, Place};

/// A difference that is known and will go.
#[derive(Debug)]
pub struct Pending {
    /// What is to be done.
    pub name: &'static str,
    /// Whether a difference of `case` is due to it.
    pub explains: fn(run: &Run, case: &Case) -> bool,
}

/// All that is to be done.
pub const PENDING: &[Pending] = &[
    Pending { name: "a CNAME answers every type", explains: is_alias },
    Pending { name: "a host beside addresses is no CNAME", explains: is_mixed },
    Pending { name: "_v1.consul SRV is of a service _v1", explains: is_marked_alone },
    Pending { name: "an unknown status counts more than a warning", explains: has_unknown },
    Pending { name: "an RFC 2782 name is no parent", explains: is_whole },
    Pending { name: "lan tags hold where wan tags are lacking", explains: is_translated },
    Pending { name: "SRV under its own name is the node, tagged or not", explains: is_own_name },
    Pending { name: "SRV twins are told by the address that is chosen", explains: are_no_twins },
    Pending { name: SWEEP, explains: is_unswept },
    Pending { name: "PTR: nodes are in order without letter case", explains: is_pointer },
    Pending { name: "dot._tcp.query is a parent of _q.dot._tcp.query", explains: is_query_parent },
];

/// Consul says the CNAME to any type, as RFC 1034 §3.6.2 has it; we only to the types of addresses.
fn is_alias(_: &Run, case: &Case) -> bool {
    let Some((_, name)) = &case.subject.about else { return false };
    let is_external = EXTERNAL_SERVICES.iter().any(|(service, _)| service == name);
    (is_external || name.contains("ext-"))
        && case.ours.lacks()
        && !ADDRESS_TYPES.contains(&case.qtype)
}

/// Consul says the CNAME of one instance where the others have no address of the type.
fn is_mixed(_: &Run, case: &Case) -> bool {
    case.subject.about.as_ref().is_some_and(|(_, name)| name == "mixed") && case.ours.lacks()
}

/// Consul takes one label with an underscore for a service when SRV is asked.
fn is_marked_alone(_: &Run, case: &Case) -> bool {
    case.subject.form == Form::Bare && case.qtype == RecordType::SRV && case.ours.lacks()
}

/// Consul weighs an instance with a status that it does not know 1, whatever its other checks.
fn has_unknown(run: &Run, case: &Case) -> bool {
    case.qtype == RecordType::SRV
        && about(run, case, |place, instance| {
            let checks = &place.nodes[instance.node].checks;
            instance.checks.contains(&"unknown")
                && checks.iter().any(|(_, status)| *status == "warning")
        })
}

/// Two labels with underscores are a whole name: nothing is below it, neither `_web._b` where a
/// tag is `a.b`, nor `__v1._tcp` where a tag is `v1`.
fn is_whole(_: &Run, case: &Case) -> bool {
    let name = case.subject.name.lower();
    let is_marked = name.labels().iter().take(2).all(|label| label.starts_with(b"_"));
    let is_form = matches!(
        case.subject.form,
        Form::Escaped | Form::Marked | Form::QueryMarked | Form::Rfc2782
    );
    is_form && is_marked && case.ours.lacks()
}

/// Consul looks at `wan` for other datacenters, and at `lan_ipv4` and `lan_ipv6` after that.
fn is_translated(run: &Run, case: &Case) -> bool {
    let is_tagged = |place: &Place, instance: &Instance| {
        place.dc == "dc2"
            && !(instance.tagged.is_empty() && place.nodes[instance.node].tagged.is_empty())
    };
    let is_node = case.subject.form.is_of_node();
    let node = case.subject.about.as_ref().filter(|(at, _)| is_node && *at == 1);
    let node = node.and_then(|(at, name)| run.world.places[*at].node(name));
    run.world.settings.translate_wan_addrs
        && (about(run, case, is_tagged) || node.is_some_and(|node| !node.tagged.is_empty()))
}

/// Consul's target is the node then, whatever the address is that it brings along.
fn is_own_name(run: &Run, case: &Case) -> bool {
    let is_loop = case.subject.about.as_ref().is_some_and(|(_, name)| name == "loop");
    is_loop && case.qtype == RecordType::SRV && run.world.settings.has_tagged
}

/// Of two instances of one node, registered address and port, one may be tagged with another
/// address; they are no duplicates then.
fn are_no_twins(run: &Run, case: &Case) -> bool {
    let key = |place: &Place, one: &Instance| (place.dc, one.node, one.address.clone(), one.port);
    case.qtype == RecordType::SRV
        && about(run, case, |place, one| {
            about(run, case, |other_place, other| {
                key(place, one) == key(other_place, other) && one.tagged != other.tagged
            })
        })
}

/// Until the addresses of all services are known, none can be denied.
fn is_unswept(_: &Run, case: &Case) -> bool {
    let is_of_service = case.theirs.answer.iter().any(|line| line.data.contains(".service."));
    case.subject.form == Form::Reverse && (case.ours.rcode == "SERVFAIL" || is_of_service)
}

/// Consul's index of nodes is in lower case, and the first of it is answered.
fn is_pointer(_: &Run, case: &Case) -> bool {
    let node = |reply: &Reply| match &reply.answer[..] {
        [line] if line.rtype == "PTR" && line.data.contains(".node.") => line.data.to_lowercase(),
        _ => String::new(),
    };
    let (theirs, ours) = (node(&case.theirs), node(&case.ours));
    !theirs.is_empty() && theirs < ours
}

fn is_query_parent(_: &Run, case: &Case) -> bool {
    case.subject.name.lower().to_string() == "dot._tcp.query.consul."
}

fn about(run: &Run, case: &Case, is_so: impl Fn(&Place, &Instance) -> bool) -> bool {
    case.instances(run).into_iter().any(|(place, instance)| is_so(place, instance))
}

/// Whether the entry of this name is still there.
pub fn is_pending(name: &str) -> bool {
    PENDING.iter().any(|pending| pending.name == name)
}

/// Without this entry, a run waits for an address to be denied before anything is asked.
pub const SWEEP: &str = "the addresses of all services are known";

const ADDRESS_TYPES: [RecordType; 4] =
    [RecordType::A, RecordType::AAAA, RecordType::ANY, RecordType::CNAME];
