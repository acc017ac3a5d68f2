//! What a person needs to see of a difference that nothing explains.

use crate::differential::judge::Verdict;
use crate::differential::run::{Case, Run};
use crate::differential::world::{Node, Place};

/// The seed, what is registered of what was asked, the question, and both replies.
pub fn report(run: &Run, case: &Case, verdict: &Verdict) -> String {
    let (subject, world) = (&case.subject, &run.world);
    let mut lines = vec![format!(
        "seed {}: {} {} {:?}, a name of form {:?}",
        world.seed, subject.name, case.qtype, case.carrier, subject.form
    )];
    lines.extend(verdict.complaints.iter().map(|complaint| format!("  {complaint}")));
    lines.push(format!("  rules that were needed: {}", verdict.rules.join("; ")));
    lines.push(format!("with {:?}", world.settings));
    if let Some((at, name)) = &subject.about {
        lines.extend(registered(&world.places[*at], name));
    }
    for (who, reply) in [("consul", &case.theirs), ("ours", &case.ours)] {
        lines.push(format!("{who}:"));
        lines.extend(reply.to_string().lines().map(|line| format!("    {line}")));
    }
    if let Some(same) = &subject.same {
        lines.push(format!("consul of {same}, whole:"));
        let reply = run.whole(same, case.qtype).to_string();
        lines.extend(reply.lines().map(|line| format!("    {line}")));
    }
    lines.join("\n") + "\n"
}

/// The node of this name, and the instances of the service of this name with their nodes.
fn registered(place: &Place, name: &str) -> Vec<String> {
    let mut lines = vec![format!("in {}:", place.dc)];
    lines.extend(place.node(name).map(node));
    for instance in place.instances_of(name).take(INSTANCES_MAX) {
        lines.push(node(&place.nodes[instance.node]));
        lines.push(format!(
            "    service {} id {} on {} address '{}' port {} tags {:?} weights {:?} tagged {:?} \
             checks {:?}",
            instance.service,
            instance.id,
            place.nodes[instance.node].name,
            instance.address,
            instance.port,
            instance.tags,
            instance.weights,
            instance.tagged,
            instance.checks,
        ));
    }
    lines
}

fn node(node: &Node) -> String {
    format!(
        "    node {} {} tagged {:?} meta {:?} checks {:?}",
        node.name, node.address, node.tagged, node.meta, node.checks
    )
}

/// Enough to see what a service is like.
const INSTANCES_MAX: usize = 12;
