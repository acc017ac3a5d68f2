//! What `/ready?verbose` says besides: what is in memory, and what Consul does not show us.
//!
//! A token that may read too little and a catalogue that is empty look alike: Consul answers both
//! with status 200. From 1.11 on it says where it left something out; and no datacenter is without
//! the servers' own service and nodes.

use crate::catalog::{List, Snapshot};
use crate::metrics::Metrics;

/// A line each, at `now_ms` of the program's clock.
pub(in crate::admin) fn lines(snapshot: &Snapshot, metrics: &Metrics, now_ms: i64) -> Vec<String> {
    let datacenters = snapshot.datacenters().filter(|it| it.has_services() || it.has_nodes());
    let mut lines = Vec::new();
    for datacenter in datacenters {
        let name = &datacenter.name;
        let (services, nodes) = (datacenter.service_count(), datacenter.node_count());
        let old_since = [List::Services, List::Nodes].map(|list| datacenter.old_since(list));
        let heard = match old_since.into_iter().flatten().min() {
            Some(since) => {
                let secs = now_ms.saturating_sub(since).max(0) / 1000;
                format!(", not heard of for {secs} s: the last good answers are given")
            }
            None if datacenter.is_heard() => String::new(),
            None => ", not heard of at present".to_owned(),
        };
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
    let (holding, held_back) = (metrics.guard.holding.get(), metrics.guard.held_back.get());
    if holding > 0 || held_back > 0 {
        let more = if holding > 0 { ", and whatever more vanishes is too" } else { "" };
        lines.push(format!("what Consul lacks is answered still: {held_back}{more}"));
    }
    let hidden = metrics.cost.filtered();
    lines
        .extend(hidden.map(|endpoint| format!("Consul hides a part of {endpoint} from the token")));
    lines
}
