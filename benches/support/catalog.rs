//! A catalog of any size in Consul's words: as it is registered, and as Consul 1.8.7 sends it.
//!
//! Everything is computed from numbers, so that a real Consul and a scripted one show the same
//! catalog, and two runs measure the same. What changes is the first instance of a service: its
//! check is critical in odd versions and passes in even ones.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::fmt::Write;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// So many services, of so many instances each.
#[derive(Clone, Copy, Debug)]
pub struct Catalog {
    pub services: usize,
    /// At most [`NODES`].
    pub instances: usize,
}

impl Catalog {
    /// Whether it has this size.
    pub fn is(self, services: usize, instances: usize) -> bool {
        (self.services, self.instances) == (services, instances)
    }

    /// What `/v1/health/service/NAME` has for a service, as JSON without a blank.
    pub fn health(self, service: usize, version: u64) -> String {
        let mut text = String::with_capacity(ENTRY_BYTES * self.instances);
        text.push('[');
        for instance in 0..self.instances {
            if instance > 0 {
                text.push(',');
            }
            let status = if instance == 0 { status(version) } else { "passing" };
            write_entry(&mut text, service, instance, status);
        }
        text.push(']');
        text
    }

    /// What `/v1/catalog/services` has.
    pub fn names(self) -> String {
        let names = (0..self.services).map(|service| (name(service), json!(TAGS)));
        Value::Object(names.chain([("consul".to_owned(), json!([]))]).collect()).to_string()
    }

    /// What `/v1/catalog/nodes` has.
    pub fn nodes(self) -> String {
        let node = |node: usize| {
            json!({
                "ID": "", "Node": node_name(node), "Address": address(node), "Datacenter": "dc1",
                "TaggedAddresses": null, "Meta": null, "CreateIndex": 13, "ModifyIndex": 13,
            })
        };
        Value::Array((0..NODES).map(node).collect()).to_string()
    }

    /// The addresses of a service's instances, in their order.
    pub fn addresses_of(self, service: usize) -> Vec<Ipv4Addr> {
        (0..self.instances).map(|instance| address(node(service, instance))).collect()
    }
}

/// The name of a service.
pub fn name(service: usize) -> String {
    format!("web-{service:05}")
}

/// What is put to `/v1/catalog/register` for an instance.
pub fn registration(service: usize, instance: usize) -> Value {
    let (node, id) = (node(service, instance), id(service, instance));
    json!({
        "Node": node_name(node),
        "Address": address(node),
        "Service": { "ID": id, "Service": name(service), "Port": 8080, "Tags": TAGS },
        "Check": check(service, instance, "passing"),
    })
}

/// What is put there for a check's new status.
pub fn flip(service: usize, instance: usize, status: &str) -> Value {
    let node = node_name(node(service, instance));
    json!({ "Node": node, "SkipNodeUpdate": true, "Check": check(service, instance, status) })
}

/// The status of the first instance.
pub fn status(version: u64) -> &'static str {
    if version % 2 == 1 { "critical" } else { "passing" }
}

/// The size of an instance in Consul's reply, beside the brackets and commas of the whole.
pub fn entry_bytes() -> usize {
    let mut text = String::new();
    write_entry(&mut text, 0, 0, "passing");
    text.len()
}

/// The size of what is registered for an instance.
pub fn registration_bytes() -> usize {
    registration(0, 0).to_string().len()
}

fn check(service: usize, instance: usize, status: &str) -> Value {
    let id = id(service, instance);
    let check = format!("service:{id}");
    let node = node_name(node(service, instance));
    json!({ "Node": node, "CheckID": check, "Name": "alive", "ServiceID": id, "Status": status })
}

/// As Consul 1.8.7 sends what [`registration`] tells, byte for byte but for the indexes.
fn write_entry(text: &mut String, service: usize, instance: usize, status: &str) {
    let (node, id, name) = (node(service, instance), id(service, instance), name(service));
    let (address, node) = (address(node), node_name(node));
    // Text takes whatever is written.
    let _ = write!(
        text,
        "{{\"Node\":{{\"ID\":\"\",\"Node\":\"{node}\",\"Address\":\"{address}\",\
         \"Datacenter\":\"dc1\",\"TaggedAddresses\":null,\"Meta\":null,\"CreateIndex\":13,\
         \"ModifyIndex\":13}},\"Service\":{{\"ID\":\"{id}\",\"Service\":\"{name}\",\
         \"Tags\":[\"v1\",\"http\"],\"Address\":\"\",\"Meta\":null,\"Port\":8080,\
         \"Weights\":{{\"Passing\":1,\"Warning\":1}},\"EnableTagOverride\":false,\
         \"Proxy\":{{\"MeshGateway\":{{}},\"Expose\":{{}}}},\"Connect\":{{}},\"CreateIndex\":13,\
         \"ModifyIndex\":13}},\"Checks\":[{{\"Node\":\"{node}\",\"CheckID\":\"service:{id}\",\
         \"Name\":\"alive\",\"Status\":\"{status}\",\"Notes\":\"\",\"Output\":\"\",\
         \"ServiceID\":\"{id}\",\"ServiceName\":\"{name}\",\"ServiceTags\":[\"v1\",\"http\"],\
         \"Type\":\"\",\"Definition\":{{}},\"CreateIndex\":13,\"ModifyIndex\":13}}]}}"
    );
}

fn id(service: usize, instance: usize) -> String {
    format!("{}-{instance:03}", name(service))
}

/// The node of an instance: another one for each of a service, and all are in use.
fn node(service: usize, instance: usize) -> usize {
    (service * 37 + instance) % NODES
}

fn node_name(node: usize) -> String {
    format!("node-{node:04}")
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + node as u32)
}

const TAGS: [&str; 2] = ["v1", "http"];

/// What instances are spread over, whatever the size of the catalog.
pub const NODES: usize = 1000;

/// Room for one instance.
const ENTRY_BYTES: usize = 1024;
