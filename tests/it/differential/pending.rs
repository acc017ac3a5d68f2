//! What this server does not do yet. Each entry is to be deleted, never to be loosened.
//!
//! An entry excuses a difference that no rule explains, where it says so of the question; one that
//! excuses nothing any more fails the test of the fixed seeds.

use crate::differential::names::Form;
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
    Pending { name: "an RFC 2782 name is no parent", explains: is_whole },
    Pending { name: "lan tags hold where wan tags are lacking", explains: is_translated },
    Pending { name: SWEEP, explains: is_unswept },
];

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

/// Until the addresses of all services are known, none can be denied.
fn is_unswept(_: &Run, case: &Case) -> bool {
    let is_of_service = case.theirs.answer.iter().any(|line| line.data.contains(".service."));
    case.subject.form == Form::Reverse && (case.ours.rcode == "SERVFAIL" || is_of_service)
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
