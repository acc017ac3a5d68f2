//! A real Consul that has a catalog.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::catalog::{self, Catalog};
use crate::support::authority::Authority;
use crate::support::consul::Consul;

/// One that has all of `catalog`; over HTTPS too, if there is an authority for it.
pub async fn start(catalog: Catalog, authority: Option<&Authority>) -> Consul {
    let consul = Consul::start_with(config(authority)).await.expect("a Consul that was there");
    let all = (0..catalog.services).flat_map(|service| {
        (0..catalog.instances).map(move |instance| catalog::registration(service, instance))
    });
    let register = |registration| consul.register(registration);
    stream::iter(all).for_each_concurrent(REGISTERED_AT_ONCE, register).await;
    consul
}

/// No `-dev`: that writes its replies for people to read, and they are half as long again.
fn config(authority: Option<&Authority>) -> Value {
    let mut config = json!({
        "server": true,
        "bootstrap_expect": 1,
        "data_dir": "data",
        "performance": { "raft_multiplier": 1 },
        "limits": { "http_max_conns_per_client": 5000 },
    });
    if let Some(authority) = authority {
        config["cert_file"] = json!(authority.path("server.pem"));
        config["key_file"] = json!(authority.path("server.key"));
    }
    config
}

const REGISTERED_AT_ONCE: usize = 8;
