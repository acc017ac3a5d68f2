//! Addresses of services: where Consul does not tell of one, reverse names are denied all the same, but
//! not for a token that it does not know; and those that are given up are.

use std::net::SocketAddr;
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::consul::Client;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::choose_crypto;
use crate::support::consul::Consul;
use crate::support::dns::{ask, zone_text};
use crate::support::fake_consul::Reply;
use crate::support::server::Server;
use crate::support::stage::{self, SERVICES, list};
use crate::support::wait::eventually;

const ADDRESSES: &str = "/v1/catalog/service/odd";
const KNOWN: &str = "1.0.0.10.in-addr.arpa";
const UNKNOWN: &str = "9.0.0.10.in-addr.arpa";

fn sweeping(mut config: Config) -> Config {
    config.dns.reverse_zones = vec!["10.in-addr.arpa".to_owned()];
    config.cache.sweep_within = Duration::from_secs(1);
    config
}

async fn pointer(server: SocketAddr, name: &str) -> String {
    zone_text(&ask(server, name, RecordType::PTR).await)
}

#[tokio::test]
async fn a_service_that_consul_does_not_tell_of_has_no_addresses() {
    for (status, body) in [
        (400, "Bad request"),
        (403, "rpc error making call: Permission denied"),
        (404, "Invalid URL path"),
    ] {
        let consul = stage::consul(&["web"]).await;
        list(&consul, 11, &["web", "odd"]);
        (0..100).for_each(|_| consul.script(ADDRESSES, Reply::status(status, body)));
        let server = stage::serve(sweeping(stage::config(&consul))).await;
        let denied = async || pointer(server.dns(), UNKNOWN).await.starts_with("NXDOMAIN");
        eventually(format!("{status} is the end of it"), denied).await;
        assert_eq!(consul.requests_for(ADDRESSES).len(), 1, "{status} is asked for again");
        assert!(pointer(server.dns(), KNOWN).await.contains("IN PTR n1.node.dc1.consul."));
    }
}

#[tokio::test]
async fn where_nothing_is_said_of_a_service_nothing_is_denied() {
    for (status, body) in [(403, "ACL not found"), (429, "slow down"), (500, "No cluster leader")] {
        let consul = stage::consul(&["web"]).await;
        list(&consul, 11, &["web", "odd"]);
        (0..100).for_each(|_| consul.script(ADDRESSES, Reply::status(status, body)));
        let server = stage::serve(sweeping(stage::config(&consul))).await;
        let asked = async || consul.requests_for(ADDRESSES).len() >= 2;
        eventually(format!("after {status} it is asked for again"), asked).await;
        assert_eq!(pointer(server.dns(), UNKNOWN).await, "SERVFAIL aa rd", "{status}");
        consul.unscript(ADDRESSES);
        consul.set(ADDRESSES, 12, &json!([]));
        let denied = async || pointer(server.dns(), UNKNOWN).await.starts_with("NXDOMAIN");
        eventually(format!("{status} is over"), denied).await;
    }
}

#[tokio::test]
async fn an_address_that_is_given_up_goes_with_the_next_read() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = sweeping(stage::config(&consul));
    // Room for four watches, so that the addresses of e are read.
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    config.cache.sweep_every = Duration::from_secs(1);
    let own = |address| json!([{ "Node": "n1", "ServiceID": "e", "ServiceAddress": address }]);
    let read = "/v1/catalog/service/e";
    consul.set(read, 10, &own("10.9.0.9"));
    let server = stage::serve(config).await;
    let pointer = async || pointer(server.dns(), "9.0.9.10.in-addr.arpa").await;
    let is_there = async || pointer().await.contains("IN PTR e.service.dc1.consul.");
    eventually("the address is known", is_there).await;
    // Nothing of it is shown, and the list has it: that may be a Consul that knows nothing yet.
    let (lists, before) = (consul.requests_for(SERVICES).len(), consul.requests_for(read).len());
    consul.script(read, Reply::ok(11, &json!([])));
    let is_read = async || {
        assert!(is_there().await, "{}", pointer().await);
        consul.requests_for(read).len() > before + 1
    };
    eventually("it is read, and once more", is_read).await;
    consul.set(read, 12, &own(""));
    let is_denied = async || pointer().await.starts_with("NXDOMAIN");
    eventually("it is denied", is_denied).await;
    assert_eq!(consul.requests_for(SERVICES).len(), lists, "no list had to say so");
}

/// A name that Consul takes, and lists, and is asked for in vain: its HTTP refuses what cannot be
/// printed.
#[tokio::test]
async fn a_name_that_a_real_consul_refuses_keeps_no_address_from_being_denied() {
    let Some(consul) = Consul::start().await else { return };
    for name in ["web", "odd\u{200b}name", "odd\u{7}name"] {
        let service = json!({ "Service": name, "Port": 80 });
        consul.register(json!({ "Node": "n1", "Address": "10.0.0.1", "Service": service })).await;
    }
    let status = reqwest::get(consul.url("/v1/catalog/service/odd%E2%80%8Bname")).await;
    assert_eq!(status.unwrap().status(), 400);
    let mut config = sweeping(Config::default());
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    choose_crypto();
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;
    let denied = async || pointer(server.dns(), UNKNOWN).await.starts_with("NXDOMAIN");
    eventually("all that can be read was", denied).await;
}
