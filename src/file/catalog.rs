//! A whole catalogue, as a file holds it, and what differs between two of them.
//!
//! The order of all that comes out is fixed by the file alone, so equal files tell equal stories.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::change::{Change, Held};
use crate::catalog::form::Form;
use crate::catalog::model::{Instance, Node};

/// Datacenters with their nodes and services.
///
/// Names of services that differ only in case are one service, as DNS cannot tell them apart;
/// it goes by the spelling that comes first in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    local: String,
    datacenters: BTreeMap<String, Datacenter>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Datacenter {
    nodes: Vec<Node>,
    /// By name in lower case.
    services: BTreeMap<String, Service>,
    /// What speaks for a service in the mesh, by that service's name in lower case.
    mesh: BTreeMap<String, Service>,
}

/// One instance, as a node runs it.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The name of its service.
    pub service: String,
    /// The instance itself.
    pub instance: Instance,
    /// The service that it speaks for in the mesh, which is its own where it needs no proxy.
    pub speaks_for: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Service {
    name: String,
    instances: Vec<Instance>,
}

impl Catalog {
    /// A catalogue of one datacenter, `local`, with nothing in it.
    pub fn new(local: String) -> Self {
        Self { datacenters: BTreeMap::from([(local.clone(), Datacenter::default())]), local }
    }

    /// Adds a node, and so its datacenter, with all that it runs.
    pub fn add_node(&mut self, datacenter: String, node: Node, runs: Vec<Registration>) {
        let datacenter = self.datacenters.entry(datacenter).or_default();
        datacenter.nodes.push(node);
        for Registration { service, instance, speaks_for } in runs {
            if let Some(name) = speaks_for {
                add(&mut datacenter.mesh, name, instance.clone());
            }
            add(&mut datacenter.services, service, instance);
        }
    }

    /// All there is: what makes this catalogue out of nothing.
    pub fn changes(&self) -> Vec<Change> {
        let names = self.datacenters.keys().cloned().collect();
        let mut changes = vec![Change::Datacenters { local: self.local.clone(), names }];
        for (name, datacenter) in &self.datacenters {
            changes.extend(datacenter.changes_since(name, None));
        }
        changes
    }

    /// What makes this catalogue out of `before`; nothing if they are equal.
    ///
    /// A datacenter that is gone is told by the list of datacenters alone.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.local != before.local || !self.datacenters.keys().eq(before.datacenters.keys()) {
            let names = self.datacenters.keys().cloned().collect();
            changes.push(Change::Datacenters { local: self.local.clone(), names });
        }
        for (name, datacenter) in &self.datacenters {
            changes.extend(datacenter.changes_since(name, before.datacenters.get(name)));
        }
        changes
    }
}

impl Datacenter {
    fn changes_since(&self, name: &str, before: Option<&Self>) -> Vec<Change> {
        let mut changes = Vec::new();
        // A service that is gone is emptied while it is still listed, so that at no time a name
        // without an entry in the list has instances.
        for (key, service) in before.iter().flat_map(|before| &before.services) {
            if !self.services.contains_key(key) {
                changes.push(service_change(name, Form::Service, &service.name, Vec::new()));
            }
        }
        for (key, service) in before.iter().flat_map(|before| &before.mesh) {
            if !self.mesh.contains_key(key) {
                let (datacenter, service) = (name.to_owned(), service.name.clone());
                changes.push(Change::Release { datacenter, form: Form::Connect, service });
            }
        }
        let listing = self.listing();
        if before.map(Self::listing).as_ref() != Some(&listing) {
            changes.push(Change::Services { datacenter: name.to_owned(), listing });
        }
        if before.map(|before| &before.nodes) != Some(&self.nodes) {
            let nodes = self.nodes.clone();
            changes.push(Change::Nodes { datacenter: name.to_owned(), nodes });
        }
        let services = before.map(|before| &before.services);
        changes.extend(differing(name, Form::Service, &self.services, services));
        let mesh = before.map(|before| &before.mesh);
        changes.extend(differing(name, Form::Connect, &self.mesh, mesh));
        if before.is_none() {
            changes.push(Change::Whole { datacenter: name.to_owned() });
        }
        changes
    }

    /// All services by name, each with all tags of its instances, sorted.
    fn listing(&self) -> Vec<(String, Vec<String>)> {
        self.services
            .values()
            .map(|service| {
                let tags: BTreeSet<&String> =
                    service.instances.iter().flat_map(|instance| &instance.tags).collect();
                (service.name.clone(), tags.into_iter().cloned().collect())
            })
            .collect()
    }
}

fn add(services: &mut BTreeMap<String, Service>, name: String, instance: Instance) {
    let service = services.entry(name.to_lowercase());
    let service = service.or_insert_with(|| Service { name, instances: Vec::new() });
    service.instances.push(instance);
}

/// Those of `now` that are not the same in `before`.
fn differing<'c>(
    datacenter: &'c str,
    form: Form,
    now: &'c BTreeMap<String, Service>,
    before: Option<&'c BTreeMap<String, Service>>,
) -> impl Iterator<Item = Change> + use<'c> {
    let is_other = move |(key, service): &(&String, &Service)| {
        before.and_then(|before| before.get(*key)) != Some(*service)
    };
    now.iter().filter(is_other).map(move |(_, service)| {
        service_change(datacenter, form, &service.name, service.instances.clone())
    })
}

fn service_change(datacenter: &str, form: Form, service: &str, instances: Vec<Instance>) -> Change {
    Change::Service {
        datacenter: datacenter.to_owned(),
        form,
        service: service.to_owned(),
        instances,
        held: Held::Watched,
        executed: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::change::Change;
    use crate::file::parse;

    /// What makes the catalogue `after` out of `before`, in a short written form.
    #[track_caller]
    fn check(before: &str, after: &str, expected: &[&str]) {
        let (before, after) = (parse(before).unwrap(), parse(after).unwrap());
        let got: Vec<String> = after.changes_since(&before).iter().map(render).collect();
        assert_eq!(got, expected);
    }

    fn render(change: &Change) -> String {
        match change {
            Change::Datacenters { local, names } => format!("datacenters {names:?} local {local}"),
            Change::Nodes { datacenter, nodes } => {
                let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
                format!("{datacenter} nodes {names:?}")
            }
            Change::Release { datacenter, form, service } => {
                format!("{datacenter} release {} {service}", form.as_str())
            }
            Change::Service { datacenter, form, service, instances, .. } => {
                let at = |instance: &crate::catalog::model::Instance| {
                    format!("{}:{}", instance.node.name, instance.port)
                };
                let at: Vec<String> = instances.iter().map(at).collect();
                format!("{datacenter} {} {service} {at:?}", form.as_str())
            }
            Change::Services { datacenter, listing } => {
                format!("{datacenter} services {listing:?}")
            }
            Change::Whole { datacenter } => format!("{datacenter} whole"),
            other => format!("{other:?}"),
        }
    }

    const BASE: &str = r#"{"nodes": [
        {"name": "n1", "address": "10.0.0.1", "services": [
            {"name": "web", "port": 80, "tags": ["v1"]}, {"name": "db", "port": 5432}]},
        {"name": "n2", "address": "10.0.0.2", "services": [
            {"name": "web", "port": 80, "tags": ["v2", "v1"]}]},
        {"name": "m1", "address": "10.2.0.1", "datacenter": "dc2"}]}"#;

    #[test]
    fn all_there_is_in_a_fixed_order() {
        let got: Vec<String> = parse(BASE).unwrap().changes().iter().map(render).collect();
        let expected = [
            r#"datacenters ["dc1", "dc2"] local dc1"#,
            r#"dc1 services [("db", []), ("web", ["v1", "v2"])]"#,
            r#"dc1 nodes ["n1", "n2"]"#,
            r#"dc1 service db ["n1:5432"]"#,
            r#"dc1 service web ["n1:80", "n2:80"]"#,
            "dc1 whole",
            "dc2 services []",
            r#"dc2 nodes ["m1"]"#,
            "dc2 whole",
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn equal_catalogues_differ_in_nothing() {
        check(BASE, BASE, &[]);
    }

    #[test]
    fn only_what_differs_is_told() {
        // a port
        let after = BASE.replace("5432", "5433");
        check(BASE, &after, &[r#"dc1 service db ["n1:5433"]"#]);
        // a tag changes the listing too
        let after = BASE.replace(r#"["v1"]"#, r#"["v3"]"#);
        check(
            BASE,
            &after,
            &[
                r#"dc1 services [("db", []), ("web", ["v1", "v2", "v3"])]"#,
                r#"dc1 service web ["n1:80", "n2:80"]"#,
            ],
        );
        // the address of a node is in its instances
        let after = BASE.replace("10.0.0.2", "10.0.0.3");
        check(
            BASE,
            &after,
            &[r#"dc1 nodes ["n1", "n2"]"#, r#"dc1 service web ["n1:80", "n2:80"]"#],
        );
    }

    #[test]
    fn a_service_that_is_gone_is_emptied_first() {
        let after = BASE.replace(r#", {"name": "db", "port": 5432}"#, "");
        check(BASE, &after, &["dc1 service db []", r#"dc1 services [("web", ["v1", "v2"])]"#]);
    }

    #[test]
    fn a_datacenter_comes_whole_and_goes_by_the_list() {
        let after = BASE.replace("dc2", "dc3");
        check(
            BASE,
            &after,
            &[
                r#"datacenters ["dc1", "dc3"] local dc1"#,
                "dc3 services []",
                r#"dc3 nodes ["m1"]"#,
                "dc3 whole",
            ],
        );
    }

    #[test]
    fn what_speaks_for_a_service_comes_and_goes_with_it() {
        let proxy = r#"{"name": "p", "port": 9, "kind": "connect-proxy",
            "proxy": {"destination_service_name": "Web"}}"#;
        let with_proxy = BASE.replace(r#"{"name": "db", "port": 5432}"#, proxy);
        let listed = r#"dc1 services [("p", []), ("web", ["v1", "v2"])]"#;
        check(
            BASE,
            &with_proxy,
            &[
                "dc1 service db []",
                listed,
                r#"dc1 service p ["n1:9"]"#,
                r#"dc1 connect Web ["n1:9"]"#,
            ],
        );
        let native = BASE.replace("5432", r#"5432, "connect": {"native": true}"#);
        check(BASE, &native, &[r#"dc1 connect db ["n1:5432"]"#]);
        check(&native, BASE, &["dc1 release connect db"]);
    }
}
