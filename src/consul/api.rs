//! Consul's HTTP API: which question has which path, and what its JSON means for the model.
//!
//! Reading is tolerant, since Consul's own releases differ: keys that are not needed are ignored,
//! keys that are missing or null mean what Consul's Go code takes them for. A list that is `null`
//! is empty: Consul sends that, with status 200, where the token may see nothing. What is no
//! JSON, or only the beginning of some, is an error and never an empty list.
//!
//! **Invariant:** equal contents give equal values. Lists come sorted where Consul's order is
//! not meant, so that a watch does not take a shuffled reply for a change.

mod agent;
mod query;
pub mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::catalog::form::Form;
use crate::catalog::model::{
    Address, Health, Instance, NamedPort, Node, Tagged, Weights, WorstCheck,
};
use crate::consul::client::{Ask, Scope};

pub use agent::{Agent, fetch_self};
pub use query::{Execution, execution, queries};

/// All nodes of a datacenter.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct NodeList {
    /// What the nodes call their datacenter; `None` when there is no node to say.
    pub datacenter: Option<String>,
    /// Sorted by name.
    pub nodes: Vec<Node>,
}

/// All instances of what is called `name`, whatever their health, sorted by node and ID.
///
/// Consul: neither `?passing` nor `?tag` makes such a watch wake less often, and both would hide
/// what other names need. Of [`Form::Query`] this is nothing: that is executed.
pub fn health(datacenter: Option<&str>, form: Form, name: &str) -> Ask<Vec<Instance>> {
    let of = |endpoint, kind| ask(endpoint, &["v1", "health", kind, name], datacenter, instances);
    match form {
        Form::Connect => of("health/connect", "connect"),
        Form::Ingress => of("health/ingress", "ingress"),
        Form::Peer => {
            let (service, peer) = name.split_once('.').unwrap_or((name, ""));
            let path = ["v1", "health", "service", service];
            let asked = ask("health/service", &path, datacenter, exported);
            Ask { peer: Some(peer.to_owned()), ..asked }
        }
        Form::Query | Form::Service => of("health/service", "service"),
    }
}

/// All services of a datacenter by name, each with its tags, both sorted.
pub fn services(datacenter: Option<&str>) -> Ask<Vec<(String, Vec<String>)>> {
    ask("catalog/services", &["v1", "catalog", "services"], datacenter, listing)
}

/// All nodes of a datacenter.
pub fn nodes(datacenter: Option<&str>) -> Ask<NodeList> {
    ask("catalog/nodes", &["v1", "catalog", "nodes"], datacenter, node_list)
}

/// The addresses of their own that a service's instances have.
pub fn addresses(datacenter: Option<&str>, name: &str) -> Ask<OwnAddresses> {
    ask("catalog/service", &["v1", "catalog", "service", name], datacenter, own_addresses)
}

/// The names of all datacenters, sorted. Does not block and has no index: poll it.
///
/// Consul's order is by distance, which changes with every measurement.
pub fn datacenters() -> Ask<Vec<String>> {
    let path = ["v1", "catalog", "datacenters"];
    Ask { scope: Scope::Agent, ..ask("catalog/datacenters", &path, None, datacenter_names) }
}

/// What the instances of a service have of addresses.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct OwnAddresses {
    /// Each with the node and the ID of the instance, sorted.
    pub addresses: Vec<(IpAddr, String, String)>,
    /// Whether there are instances, be it without an address of their own.
    pub has_instances: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HealthEntry {
    node: Option<NodeEntry>,
    service: Option<ServiceEntry>,
    checks: Option<Vec<Check>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NodeEntry {
    node: String,
    address: String,
    datacenter: Option<String>,
    tagged_addresses: Option<BTreeMap<String, Option<String>>>,
    meta: Option<BTreeMap<String, Option<String>>>,
    peer_name: Option<String>,
}

/// An address of a service that has a tag.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct TaggedEntry {
    address: String,
    port: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ServiceEntry {
    #[serde(rename = "ID")]
    id: String,
    tags: Option<Vec<String>>,
    address: Option<String>,
    /// Any number: what is no port must not cost us the other instances.
    port: Option<f64>,
    ports: Option<Vec<PortEntry>>,
    tagged_addresses: Option<BTreeMap<String, Option<TaggedEntry>>>,
    weights: Option<WeightsEntry>,
}

/// An instance without its checks.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CatalogEntry {
    node: String,
    #[serde(rename = "ServiceID")]
    id: String,
    service_address: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PortEntry {
    name: Option<String>,
    port: Option<f64>,
    #[serde(rename = "Default")]
    is_default: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WeightsEntry {
    passing: Option<f64>,
    warning: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: Option<String>,
    name: Option<String>,
    status: Option<String>,
    #[serde(rename = "ServiceID")]
    service_id: Option<String>,
}

impl Check {
    fn read(self) -> (Health, WorstCheck) {
        let health = self.status.as_deref().map_or(Health::Critical, Health::from_status);
        let check = WorstCheck {
            id: self.id.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
            is_of_node: self.service_id.is_none_or(|id| id.is_empty()),
        };
        (health, check)
    }
}

impl HealthEntry {
    /// `None` for an entry without a node or its address, which Consul does not send.
    fn into_instance(self) -> Option<Instance> {
        let (Some(node), Some(service)) = (self.node, self.service) else {
            debug!("an instance without node or service was left out");
            return None;
        };
        // Consul puts the node's checks and the service's own here, no others, and its DNS looks
        // at all of them. A check without a status is critical, as one just registered is.
        let mut instance = Instance {
            node: node.into_node()?,
            address: service.address.as_deref().and_then(Address::from_text),
            port: service.port(),
            ports: service.named_ports(),
            tagged: service.tagged(),
            weights: service.weights(),
            tags: service.tags.unwrap_or_default(),
            id: service.id,
            // Consul: an instance without checks is passing, as external services are.
            health: Health::Passing,
            worst: None,
        };
        instance.judge(self.checks.unwrap_or_default().into_iter().map(Check::read));
        Some(instance)
    }
}

impl NodeEntry {
    fn into_node(self) -> Option<Node> {
        match Address::from_text(&self.address) {
            Some(address) => {
                let tagged = self.tagged();
                let meta = self.meta.unwrap_or_default().into_iter();
                let meta = meta.map(|(key, value)| (key, value.unwrap_or_default())).collect();
                Some(Node { name: self.node, address, tagged, meta })
            }
            None => {
                debug!(node = self.node, "a node without an address was left out");
                None
            }
        }
    }
}

impl NodeEntry {
    fn tagged(&self) -> Option<Box<Tagged>> {
        let entries = self.tagged_addresses.as_ref()?;
        Tagged::by_tag(|tag| Address::from_text(entries.get(tag)?.as_deref()?), 0)
    }
}

impl ServiceEntry {
    fn tagged(&self) -> Option<Box<Tagged>> {
        let entries = self.tagged_addresses.as_ref()?;
        let wan = entries.get("wan").and_then(Option::as_ref);
        let wan_port = wan.map_or(0, |entry| port_number(entry.port));
        Tagged::by_tag(|tag| Address::from_text(&entries.get(tag)?.as_ref()?.address), wan_port)
    }

    fn named_ports(&self) -> Vec<NamedPort> {
        let several = self.ports.iter().flatten();
        let named = several.filter_map(|entry| {
            let name = entry.name.clone().filter(|name| !name.is_empty())?;
            Some(NamedPort { name, port: port_number(entry.port) })
        });
        named.collect()
    }

    /// The port, else the default one of several, else the first of them, else 0.
    ///
    /// Consul omits a `Port` of 0, and since 1.22 consul-k8s registers `Ports` alone.
    fn port(&self) -> u16 {
        let several = self.ports.as_deref().unwrap_or_default();
        let default = several.iter().find(|port| port.is_default == Some(true));
        let one = default.or_else(|| several.first()).and_then(|port| port.port);
        match port_number(self.port) {
            0 => port_number(one),
            port => port,
        }
    }

    fn weights(&self) -> Weights {
        let default = Weights::default();
        let Some(weights) = &self.weights else { return default };
        // Consul's catalog API takes weights that SRV has no room for.
        let clamp = |weight: f64| weight.clamp(0.0, f64::from(u16::MAX)) as u16;
        Weights {
            passing: weights.passing.map_or(default.passing, clamp),
            warning: weights.warning.map_or(default.warning, clamp),
        }
    }
}

/// 0 for what is no port: a clamped one would lead somewhere else.
fn port_number(port: Option<f64>) -> u16 {
    match port {
        Some(port) if (0.0..=f64::from(u16::MAX)).contains(&port) => port as u16,
        _ => 0,
    }
}

fn ask<T>(
    endpoint: &'static str,
    path: &[&str],
    datacenter: Option<&str>,
    parse: fn(&[u8]) -> Result<T, serde_json::Error>,
) -> Ask<T> {
    Ask {
        endpoint,
        path: path.iter().map(|&segment| segment.to_owned()).collect(),
        scope: Scope::Datacenter(datacenter.map(str::to_owned)),
        peer: None,
        client: None,
        may_report: false,
        parse,
    }
}

fn instances(body: &[u8]) -> Result<Vec<Instance>, serde_json::Error> {
    let entries: Vec<HealthEntry> = or_null(body)?;
    let mut instances: Vec<_> =
        entries.into_iter().filter_map(HealthEntry::into_instance).collect();
    instances.sort_by(|a, b| (&a.node.name, &a.id).cmp(&(&b.node.name, &b.id)));
    Ok(instances)
}

/// The instances that a peer exports. A Consul that knows no peers answers with its own.
fn exported(body: &[u8]) -> Result<Vec<Instance>, serde_json::Error> {
    let entries: Vec<HealthEntry> = or_null(body)?;
    let is_exported = |entry: &HealthEntry| {
        let peer = entry.node.as_ref().and_then(|node| node.peer_name.as_deref());
        peer.is_some_and(|peer| !peer.is_empty())
    };
    let entries = entries.into_iter().filter(is_exported);
    let mut instances: Vec<_> = entries.filter_map(HealthEntry::into_instance).collect();
    instances.sort_by(|a, b| (&a.node.name, &a.id).cmp(&(&b.node.name, &b.id)));
    Ok(instances)
}

/// Consul collects the tags in a Go map, so each reply has them in another order.
fn listing(body: &[u8]) -> Result<Vec<(String, Vec<String>)>, serde_json::Error> {
    let services: BTreeMap<String, Option<Vec<String>>> = or_null(body)?;
    let sorted = services.into_iter().map(|(name, tags)| {
        let mut tags = tags.unwrap_or_default();
        tags.sort();
        (name, tags)
    });
    Ok(sorted.collect())
}

fn node_list(body: &[u8]) -> Result<NodeList, serde_json::Error> {
    let entries: Vec<NodeEntry> = or_null(body)?;
    let datacenter = entries
        .iter()
        .filter_map(|entry| entry.datacenter.as_ref())
        .find(|name| !name.is_empty())
        .cloned();
    let mut nodes: Vec<_> = entries.into_iter().filter_map(NodeEntry::into_node).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(NodeList { datacenter, nodes })
}

fn own_addresses(body: &[u8]) -> Result<OwnAddresses, serde_json::Error> {
    let entries: Vec<CatalogEntry> = or_null(body)?;
    let has_instances = !entries.is_empty();
    let own = entries.into_iter().filter_map(|entry| {
        let address = entry.service_address?.parse().ok()?;
        Some((address, entry.node, entry.id))
    });
    let mut addresses: Vec<_> = own.collect();
    addresses.sort();
    Ok(OwnAddresses { addresses, has_instances })
}

/// In Consul's order, the nearest first.
fn datacenter_names(body: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    or_null(body)
}

/// Reads a whole body; a `null` is the empty value. An empty body is an error.
fn or_null<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let value: Option<T> = serde_json::from_slice(body)?;
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod tests;
