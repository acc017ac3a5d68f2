//! What `/ready?verbose` says besides: what is in memory, and what Consul does not show us.
//!
//! A token that may read too little and a catalogue that is empty look alike: Consul answers both
//! with status 200. From 1.11 on it says where it left something out; and no datacenter is without
//! the servers' own service and nodes.

use crate::catalog::Snapshot;
use crate::metrics::CostMetrics;

/// A line each.
pub(in crate::admin) fn lines(snapshot: &Snapshot, cost: &CostMetrics) -> Vec<String> {
    let datacenters = snapshot.datacenters().filter(|it| it.has_services() || it.has_nodes());
    let mut lines = Vec::new();
    for datacenter in datacenters {
        let name = &datacenter.name;
        let (services, nodes) = (datacenter.service_count(), datacenter.node_count());
        let is_heard = datacenter.is_heard() && !datacenter.is_cut_off();
        let heard = if is_heard { "" } else { ", not heard of at present" };
        lines.push(format!("{name}: services {services}, nodes {nodes}{heard}"));
        for (is_in, count, what, right) in [
            (datacenter.has_services(), services, "services", "service:read"),
            (datacenter.has_nodes(), nodes, "nodes", "node:read"),
        ] {
            if is_in && count == 0 {
                lines.push(format!("{name}: no {what} are shown; does the token have {right}?"));
            }
        }
    }
    let hidden = cost.filtered();
    lines
        .extend(hidden.map(|endpoint| format!("Consul hides a part of {endpoint} from the token")));
    lines
}
