//! Memory is what Consul has: what a watch has missed is found and mended, and what is on its way
//! is no mistake.

use std::net::SocketAddr;
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::consul::Client;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::choose_crypto;
use crate::support::consul::Consul;
use crate::support::dns::{addresses, ask, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, NODES, SERVICES, fill, health, list, nodes};
use crate::support::wait::eventually;

/// All that is watched is read again and again.
fn checked(mut config: Config) -> Config {
    config.cache.check_every = Duration::from_millis(100);
    config
}

async fn count(server: &Server, name: &str) -> f64 {
    value(&scrape(server).await, name)
}

/// Waits until `path` is asked about by a blocking query, which then never returns.
async fn deafen(consul: &FakeConsul, path: &str) {
    let blocking = async || {
        let asked = consul.requests_for(path);
        asked.iter().any(|request| request.query.contains_key("index"))
    };
    eventually(format!("{path} is watched"), blocking).await;
    consul.script(path, Reply::hang());
}

#[tokio::test]
async fn what_a_watch_has_missed_is_mended_and_counted() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(checked(stage::config(&consul))).await;
    for path in [&*health("web"), SERVICES, NODES] {
        deafen(&consul, path).await;
    }
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
    assert_eq!(count(&server, DIVERGENCES).await, 0.0);

    fill(&consul, 11, "web", "10.0.0.9");
    let mended = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.9"];
    eventually("the service is mended", mended).await;
    assert_eq!(count(&server, DIVERGENCES).await, 1.0);
    // Another watch is in the place of the one that is deaf.
    fill(&consul, 12, "web", "10.0.0.7");
    let follows = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.7"];
    eventually("the service is followed", follows).await;

    let node = async || text(server.dns(), "n2.node.consul").await;
    nodes(&consul, 11, &[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]);
    eventually("the nodes are mended", async || node().await.contains("10.0.0.2")).await;
    assert_eq!(count(&server, DIVERGENCES).await, 2.0);
}

/// What is compared vanishes as slowly as what a watch tells of.
#[tokio::test]
async fn a_consul_that_was_emptied_behind_deaf_watches_is_not_believed_at_once() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let consul = stage::consul(&names).await;
    let mut config = checked(stage::config(&consul));
    config.consul.connections_max = 40;
    let server = stage::serve(config).await;
    for path in [SERVICES, NODES] {
        deafen(&consul, path).await;
    }
    list(&consul, 11, &["consul"]);
    nodes(&consul, 11, &[]);
    let is_holding = async || count(&server, "fingerpost_guard_holding").await == 1.0;
    eventually("it is held back", is_holding).await;
    let held_back = async || count(&server, "fingerpost_guard_held_back").await >= 21.0;
    eventually("all of it is", held_back).await;
    for name in names {
        let name = format!("{name}.service.consul");
        assert!(text(server.dns(), &name).await.starts_with("NOERROR"), "{name}");
    }
    assert!(text(server.dns(), "n1.node.consul").await.starts_with("NOERROR"));
}

#[tokio::test]
async fn a_list_of_services_that_a_watch_has_missed_is_mended() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(checked(stage::config(&consul))).await;
    deafen(&consul, SERVICES).await;
    list(&consul, 11, &["web", "db"]);
    fill(&consul, 11, "db", "10.0.0.2");
    let listed = async || addresses(server.dns(), "db.service.consul").await == ["10.0.0.2"];
    eventually("the list is mended", listed).await;
    assert_eq!(count(&server, DIVERGENCES).await, 1.0);
}

#[tokio::test]
async fn without_the_key_nothing_is_read_again() {
    let consul = stage::consul(&["web"]).await;
    let mut config = stage::config(&consul);
    config.cache.check_every = Duration::ZERO;
    let server = stage::serve(config).await;
    fill(&consul, 11, "web", "10.0.0.9");
    let follows = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.9"];
    eventually("the service is followed", follows).await;
    assert_eq!(count(&server, CHECKS).await, 0.0);
}

#[tokio::test]
async fn however_much_changes_no_difference_is_found_in_a_real_consul() {
    let Some(consul) = Consul::start().await else { return };
    choose_crypto();
    for number in 0..8 {
        consul.register(instance(number, 0)).await;
    }
    let mut config = checked(Config::default());
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;

    // Services, tags, nodes and addresses change all the time while they are compared.
    for round in 1..400 {
        let number = round % 8;
        match round % 5 {
            0 => consul.deregister(json!({ "Node": format!("n{number}") })).await,
            _ => consul.register(instance(number, round)).await,
        }
        if count(&server, CHECKS).await > 300.0 {
            break;
        }
    }
    let many = async || count(&server, CHECKS).await > 100.0;
    eventually("much is compared", many).await;
    assert_eq!(count(&server, DIVERGENCES).await, 0.0);
}

/// A node of its own with the service `sN`, other in each round.
fn instance(number: u32, round: u32) -> serde_json::Value {
    json!({
        "Node": format!("n{number}"),
        "Address": format!("10.0.{number}.{}", round % 200),
        "Service": {
            "ID": format!("s{number}"),
            "Service": format!("s{}", (number + round) % 8),
            "Tags": [format!("t{}", round % 3)],
            "Port": 1000 + round,
        },
    })
}

async fn text(server: SocketAddr, name: &str) -> String {
    zone_text(&ask(server, name, RecordType::A).await)
}

const CHECKS: &str = "fingerpost_cache_checks_total";
const DIVERGENCES: &str = "fingerpost_cache_divergence_total";
