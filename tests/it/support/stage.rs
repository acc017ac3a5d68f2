//! A server beside a scripted Consul that has a small catalogue: `web` on n1, and what a test adds.

use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::consul::Client;
use serde_json::{Value, json};

use crate::support::choose_crypto;
use crate::support::fake_consul::FakeConsul;
use crate::support::server::Server;

/// The list of services.
pub const SERVICES: &str = "/v1/catalog/services";
/// The list of nodes.
pub const NODES: &str = "/v1/catalog/nodes";

/// The instances of `service`.
pub fn health(service: &str) -> String {
    format!("/v1/health/service/{service}")
}

/// A scripted Consul whose catalogue has the services `names` on the node n1 at 10.0.0.1.
pub async fn consul(names: &[&str]) -> FakeConsul {
    let consul = FakeConsul::start().await;
    consul.set("/v1/agent/self", 1, &json!({ "Config": { "Datacenter": "dc1" } }));
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1"]));
    list(&consul, 10, names);
    nodes(&consul, 10, &[("n1", "10.0.0.1")]);
    for name in names {
        fill(&consul, 10, name, "10.0.0.1");
    }
    consul
}

/// Sets the list of services.
pub fn list(consul: &FakeConsul, index: u64, names: &[&str]) {
    let listing = names.iter().map(|name| ((*name).to_owned(), json!([])));
    consul.set(SERVICES, index, &Value::Object(listing.collect()));
}

/// Sets the list of nodes.
pub fn nodes(consul: &FakeConsul, index: u64, nodes: &[(&str, &str)]) {
    let node = |(name, address): &(&str, &str)| json!({ "Node": name, "Address": address, "Datacenter": "dc1" });
    consul.set(NODES, index, &nodes.iter().map(node).collect());
}

/// Sets the instances of `service`: one, on the node n1, with `address` of its own.
pub fn fill(consul: &FakeConsul, index: u64, service: &str, address: &str) {
    consul.set(&health(service), index, &instances(service, address));
}

/// One instance of `service` on the node n1, with `address` of its own.
pub fn instances(service: &str, address: &str) -> Value {
    json!([{
        "Node": { "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
        "Service": { "ID": service, "Service": service, "Address": address, "Port": 80 },
        "Checks": [],
    }])
}

/// A configuration that asks `consul` and is quick to try again.
pub fn config(consul: &FakeConsul) -> Config {
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url())];
    config.consul.backoff_min = Duration::from_millis(20);
    config.consul.backoff_max = Duration::from_millis(50);
    config
}

/// Starts `config` without waiting for what Consul says.
pub fn start(config: Config) -> Server {
    choose_crypto();
    let client = Client::new(&config.consul).unwrap();
    Server::start(config, Origin::Consul(client))
}

/// Starts `config` and waits until it is ready.
pub async fn serve(config: Config) -> Server {
    let server = start(config);
    server.ready().await;
    server
}
