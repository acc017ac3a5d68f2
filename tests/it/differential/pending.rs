//! What this server does not do yet. Each entry is to be deleted, never to be loosened.
//!
//! A form that is not served has one reply to all questions. Beside that, a pending entry excuses
//! a difference that no rule explains, where it says so of the question; an entry that excuses
//! nothing any more fails the test of the fixed seeds.

use hickory_proto::rr::RecordType;

use crate::differential::generate::EXTERNAL_SERVICES;
use crate::differential::judge::Look;
use crate::differential::names::Form;
use crate::differential::run::{Case, Run};
use crate::differential::world::{Instance, Node, Place};

/// What a form that is not served is answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Today {
    /// As a name that does not exist.
    Denied,
    /// As a name of another zone.
    Refused,
    /// SERVFAIL, where the datacenter is known.
    Unserved,
}

/// The forms that are not served yet.
pub const NOT_SERVED: &[(Form, Today)] = &[
    (Form::AltDomain, Today::Refused),
    (Form::Connect, Today::Unserved),
    (Form::Ingress, Today::Unserved),
    (Form::Query, Today::Unserved),
    (Form::QueryMarked, Today::Unserved),
    (Form::Reverse, Today::Refused),
    (Form::ScopeWords, Today::Denied),
    (Form::TagPair, Today::Denied),
    (Form::Virtual, Today::Unserved),
];

/// How `form` is answered, where it is not served.
pub fn unserved(form: Form) -> Option<Today> {
    NOT_SERVED.iter().find(|(unserved, _)| *unserved == form).map(|(_, today)| *today)
}

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
    Pending { name: "tagged addresses are looked at", explains: has_tagged_addresses },
    Pending { name: "A of an instance with an IPv6 address is its node's", explains: falls_back },
    Pending { name: "a CNAME answers every type", explains: is_alias },
    Pending { name: "a host beside addresses is no CNAME", explains: is_mixed },
    Pending { name: "_v1.consul SRV is of a service _v1", explains: is_marked_alone },
    Pending { name: "an unknown status counts more than a warning", explains: has_unknown },
    Pending { name: "an RFC 2782 name is no parent", explains: is_whole },
    Pending { name: "a node has TXT records", explains: is_node_text },
    Pending { name: "a CNAME into the zone is followed", explains: has_chain },
];

fn has_tagged_addresses(run: &Run, case: &Case) -> bool {
    about(run, case, |place, instance| {
        !instance.tagged.is_empty() || !place.nodes[instance.node].tagged.is_empty()
    }) || node(run, case).is_some_and(|node| !node.tagged.is_empty())
}

fn falls_back(run: &Run, case: &Case) -> bool {
    let is_address = matches!(case.qtype, RecordType::A | RecordType::AAAA);
    is_address
        && about(run, case, |place, instance| {
            let node = &place.nodes[instance.node].address;
            !instance.address.is_empty() && instance.address.contains(':') != node.contains(':')
        })
}

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
    let is_form = matches!(case.subject.form, Form::Escaped | Form::Marked | Form::Rfc2782);
    is_form && is_marked && case.ours.lacks()
}

fn is_node_text(_: &Run, case: &Case) -> bool {
    let has_text = matches!(case.qtype, RecordType::ANY | RecordType::TXT);
    case.subject.form.is_of_node() && has_text
}

fn has_chain(run: &Run, case: &Case) -> bool {
    let is_below = |address: &str| address.ends_with(".consul");
    about(run, case, |place, instance| {
        is_below(&instance.address) || is_below(&place.nodes[instance.node].address)
    }) || node(run, case).is_some_and(|node| is_below(&node.address))
}

fn about(run: &Run, case: &Case, is_so: impl Fn(&Place, &Instance) -> bool) -> bool {
    case.instances(run).into_iter().any(|(place, instance)| is_so(place, instance))
}

/// The node that the name is about.
fn node<'r>(run: &'r Run, case: &Case) -> Option<&'r Node> {
    let (at, name) = case.subject.about.as_ref().filter(|_| case.subject.form.is_of_node())?;
    run.world.places[*at].node(name)
}

/// What a form that is not served is answered with, if `look` is about one.
pub fn today(look: &Look<'_>) -> Option<Today> {
    unserved(look.case.subject.form)
}

const ADDRESS_TYPES: [RecordType; 4] =
    [RecordType::A, RecordType::AAAA, RecordType::ANY, RecordType::CNAME];
