//! Changes of a catalogue, and what is told of them.

use super::*;
use crate::catalog::model::{Address, Health, Instance, Node, Weights};
use crate::catalog::{Builder, Change, Form, Held, Rules, Usage};
use crate::name::Zone;

/// A catalogue that says after each change what is told of it.
struct Told {
    builder: Builder,
    before: Snapshot,
}

impl Told {
    /// Starts with the datacenters dc1, which is the local one, and dc2.
    fn start() -> Self {
        let rules = Rules::new(Zone::new("consul").unwrap());
        let builder = Builder::new(rules, 1, 9, Arc::new(Usage::new(1, false)));
        let mut told = Self { builder, before: Snapshot::default() };
        let names = vec!["dc1".to_owned(), "dc2".to_owned()];
        told.by(Change::Datacenters { local: "dc1".to_owned(), names });
        told
    }

    /// What `change` makes it tell, a line each.
    fn by(&mut self, change: Change) -> String {
        self.builder.apply(change);
        let after = self.builder.snapshot();
        let mut lines = Vec::new();
        find(&self.before, &after, &mut |item| lines.push(line(&item)));
        self.before = after;
        lines.join("\n")
    }

    fn list(&mut self, names: &[&str]) -> String {
        let listing = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        self.by(Change::Services { datacenter: "dc1".to_owned(), listing })
    }

    fn nodes(&mut self, nodes: &[(&str, u8)]) -> String {
        let nodes = nodes.iter().map(|(name, last)| node(name, *last)).collect();
        self.by(Change::Nodes { datacenter: "dc1".to_owned(), nodes })
    }

    fn fill(&mut self, service: &str, healths: &[Health], held: Held) -> String {
        let instances = healths.iter().enumerate().map(|(at, health)| Instance {
            id: format!("{service}-{at}"),
            node: node("n1", 1),
            address: None,
            port: 80,
            ports: Vec::new(),
            tagged: None,
            tags: Vec::new(),
            weights: Weights::default(),
            health: *health,
            worst: None,
        });
        self.by(Change::Service {
            datacenter: "dc1".to_owned(),
            form: Form::Service,
            service: service.to_owned(),
            instances: instances.collect(),
            held,
            executed: None,
        })
    }
}

fn node(name: &str, last: u8) -> Node {
    Node::new(name.to_owned(), Address::Ip([10, 0, 0, last].into()))
}

fn line(item: &Item) -> String {
    let change = |Names { added, changed, removed }: &Names| {
        format!("+{} ~{} -{}", added.join(","), changed.join(","), removed.join(","))
    };
    match item {
        Item::Datacenters { added, removed, local } => {
            format!("datacenters +{} -{} local {local:?}", added.join(","), removed.join(","))
        }
        Item::Nodes { datacenter, names } => format!("nodes {datacenter} {}", change(names)),
        Item::Reach { datacenter, is_heard, is_old } => {
            format!("reach {datacenter} heard {is_heard} old {is_old}")
        }
        Item::Service { datacenter, name, health } => {
            format!("service {datacenter} {name} {health:?}")
        }
        Item::Services { datacenter, names } => format!("services {datacenter} {}", change(names)),
    }
}

#[test]
fn what_comes_changes_and_goes_is_told() {
    let mut told = Told::start();
    assert_eq!(told.list(&[]), "services dc1 + ~ -", "the list is known, if empty");
    assert_eq!(told.list(&[]), "");
    let two = told.list(&["web", "db"]);
    assert_eq!(two, "services dc1 +db,web ~ -\nservice dc1 db None\nservice dc1 web None");
    let filled = told.fill("web", &[Health::Passing, Health::Critical], Held::Watched);
    assert_eq!(filled, "service dc1 web Some([1, 0, 0, 1])");
    let emptied = told.fill("web", &[], Held::Watched);
    assert_eq!(emptied, "service dc1 web Some([0, 0, 0, 0])", "empty is not unknown");
    assert_eq!(told.list(&["db"]), "services dc1 + ~ -web");
    assert_eq!(told.nodes(&[("n1", 1), ("n2", 2)]), "nodes dc1 +n1,n2 ~ -");
    assert_eq!(told.nodes(&[("n1", 7), ("n3", 3)]), "nodes dc1 +n3 ~n1 -n2");
    assert_eq!(told.nodes(&[("n1", 7), ("n3", 3)]), "");
}

#[test]
fn what_nobody_sees_is_not_told() {
    let mut told = Told::start();
    told.list(&["web"]);
    let on_demand = |ms| Held::OnDemand { fetched_ms: ms, fresh_until_ms: ms + 1 };
    let first = told.fill("web", &[Health::Warning], on_demand(1));
    assert_eq!(first, "service dc1 web Some([0, 1, 0, 0])");
    assert_eq!(told.fill("web", &[Health::Warning], on_demand(2)), "", "it was fetched again");
    let let_go = told.by(Change::Release {
        datacenter: "dc1".to_owned(),
        form: Form::Service,
        service: "web".to_owned(),
    });
    assert_eq!(let_go, "service dc1 web None");
}

#[test]
fn datacenters_and_their_reach_are_told() {
    let mut told = Told::start();
    let reach = |cut_off_ms| Change::Reach { datacenter: "dc1".to_owned(), cut_off_ms };
    assert_eq!(told.by(reach(Some(7))), "reach dc1 heard false old true");
    assert_eq!(told.by(reach(Some(9))), "", "it was known");
    assert_eq!(told.by(reach(None)), "reach dc1 heard true old false");
    told.list(&["web"]);
    let names = vec!["dc1".to_owned(), "dc3".to_owned()];
    let moved = told.by(Change::Datacenters { local: "dc3".to_owned(), names });
    assert_eq!(moved, "datacenters +dc3 -dc2 local Some(\"dc3\")");
    let names = vec!["dc3".to_owned()];
    let gone = told.by(Change::Datacenters { local: "dc3".to_owned(), names });
    assert_eq!(gone, "datacenters + -dc1 local Some(\"dc3\")", "what it had went with it");
}

#[test]
fn long_lists_come_in_parts() {
    let mut told = Told::start();
    let names: Vec<String> = (0..250).map(|at| format!("s{at:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let added = told.list(&names);
    let parts: Vec<&str> = added.lines().filter(|line| line.starts_with("services ")).collect();
    let counts: Vec<usize> = parts.iter().map(|part| part.matches(',').count() + 1).collect();
    assert_eq!(counts, [100, 100, 50]);
    assert!(parts[1].starts_with("services dc1 +s100,") && parts[1].ends_with(",s199 ~ -"));
    assert_eq!(added.lines().count(), 253);
    assert_eq!(told.list(&names), "");
}
