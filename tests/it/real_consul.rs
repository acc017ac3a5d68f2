//! The support for a real Consul does what the other tests take for granted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::consul::Consul;
use crate::support::dns::{self, ask, ask_tcp, question, with_edns, zone_text};
use crate::support::wait::{eventually, within};

#[tokio::test]
async fn a_registered_service_is_answered_by_consul_itself() {
    let Some(consul) = Consul::start().await else { return };
    consul.register(web("web-1", "10.0.0.1", "passing")).await;
    consul.register(web("web-2", "10.0.0.2", "warning")).await;
    consul.register(web("web-3", "10.0.0.3", "critical")).await;

    let expected = "NOERROR aa rd\n\
        answer web.service.consul. 0 IN A 10.0.0.1\n\
        answer web.service.consul. 0 IN A 10.0.0.2";
    let over_udp = ask(consul.dns_address(), "web.service.consul", RecordType::A).await;
    assert_eq!(zone_text(&over_udp), expected);
    let over_tcp = ask_tcp(consul.dns_address(), "web.service.consul", RecordType::A).await;
    assert_eq!(zone_text(&over_tcp), expected);
}

#[tokio::test]
async fn a_reply_is_shown_as_in_a_zone_file() {
    let Some(consul) = Consul::start().await else { return };
    consul
        .register(json!({
            "Node": "web-1",
            "Address": "10.0.0.1",
            "NodeMeta": { "owner": "a \"team\"" },
            "Service": { "Service": "web", "Port": 8080, "Weights": { "Passing": 3, "Warning": 1 } },
        }))
        .await;

    let queries = [
        with_edns(question("Web.Service.consul", RecordType::SRV), 1232, false),
        question("web-1.node.consul", RecordType::TXT),
        question("none.service.consul", RecordType::A),
    ];
    let replies = dns::pipeline(consul.dns_address(), &queries).await;
    assert_eq!(
        zone_text(&replies[0]),
        "NOERROR aa rd\n\
        answer Web.Service.consul. 0 IN SRV 1 3 8080 web-1.node.dc1.consul.\n\
        additional web-1.node.dc1.consul. 0 IN A 10.0.0.1\n\
        additional web-1.node.dc1.consul. 0 IN TXT \"owner=a \\\"team\\\"\""
    );
    assert!(replies[0].edns.is_some(), "a query with EDNS gets EDNS");
    assert_eq!(
        zone_text(&replies[1]),
        "NOERROR aa rd\nanswer web-1.node.consul. 0 IN TXT \"owner=a \\\"team\\\"\""
    );
    assert!(zone_text(&replies[2]).starts_with("NXDOMAIN aa rd\nauthority consul. 0 IN SOA ns."));
}

#[tokio::test]
async fn a_flipped_check_changes_the_answer() {
    let Some(consul) = Consul::start().await else { return };
    consul.register(web("web-1", "10.0.0.1", "passing")).await;
    let (_, instances) = consul.get("/v1/health/service/web?passing").await;
    assert_eq!(instances[0]["Node"]["Node"], "web-1");

    consul.set_check("web-1", Some("web"), "web", "critical").await;
    let (_, instances) = consul.get("/v1/health/service/web").await;
    assert_eq!(instances[0]["Checks"][0]["Status"], "critical");
    let reply = ask(consul.dns_address(), "web.service.consul", RecordType::A).await;
    assert!(zone_text(&reply).starts_with("NXDOMAIN"));

    consul.set_check("web-1", Some("web"), "web", "passing").await;
    consul.set_check("web-1", None, "maintenance", "critical").await;
    let reply = ask(consul.dns_address(), "web.service.consul", RecordType::A).await;
    assert!(zone_text(&reply).starts_with("NXDOMAIN"), "a check of the node counts too");
}

#[tokio::test]
async fn a_ttl_check_of_the_agents_own_service_is_set_over_http() {
    let Some(consul) = Consul::start().await else { return };
    let service = json!({ "Name": "db", "Port": 5432, "Check": { "TTL": "1h" } });
    consul.register_service(service).await;
    let passing = async || consul.get("/v1/health/service/db?passing").await.1;

    consul.set_ttl_check("service:db", "passing").await;
    eventually("the service is passing", async || passing().await[0].is_object()).await;
    consul.set_ttl_check("service:db", "critical").await;
    eventually("the service is critical", async || passing().await == json!([])).await;
    consul.deregister_service("db").await;
    let catalog = async || consul.get("/v1/catalog/service/db").await.1;
    eventually("the service is gone", async || catalog().await == json!([])).await;
}

#[tokio::test]
async fn a_blocking_query_returns_when_its_service_changes() {
    let Some(consul) = Consul::start().await else { return };
    consul.register(web("web-1", "10.0.0.1", "passing")).await;
    let (before, _) = consul.get("/v1/health/service/web").await;
    assert!(before > 0);

    let path = format!("/v1/health/service/web?index={before}&wait=60s");
    let round = within("the blocking query", consul.get(&path));
    let change = consul.register(web("web-2", "10.0.0.2", "passing"));
    let ((after, instances), ()) = tokio::join!(round, change);
    assert!(after > before, "{after} after {before}");
    assert_eq!(instances.as_array().map(Vec::len), Some(2));

    consul.deregister(json!({ "Node": "web-1" })).await;
    let (_, instances) = consul.get("/v1/health/service/web").await;
    assert_eq!(instances[0]["Node"]["Node"], "web-2");
}

#[tokio::test]
async fn a_killed_agent_comes_back_empty_on_the_same_addresses() {
    let Some(mut consul) = Consul::start().await else { return };
    consul.register(web("web-1", "10.0.0.1", "passing")).await;
    let addresses = (consul.http_address(), consul.dns_address());

    consul.kill();
    assert!(reqwest::get(consul.url("/v1/status/leader")).await.is_err());
    consul.restart().await;

    assert_eq!(addresses, (consul.http_address(), consul.dns_address()));
    let (_, services) = consul.get("/v1/catalog/services").await;
    assert_eq!(services, json!({ "consul": [] }));
}

#[tokio::test]
async fn a_stopped_agent_is_silent_until_it_goes_on() {
    let Some(consul) = Consul::start().await else { return };
    consul.stop();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", consul.pid())).unwrap();
    eventually("the agent is stopped", async || state().contains(") T ")).await;

    let mut round = Box::pin(within("the agent's answer", consul.get("/v1/catalog/services")));
    tokio::select! {
        biased;
        early = &mut round => panic!("a stopped agent answered: {early:?}"),
        () = tokio::task::yield_now() => consul.cont(),
    }
    assert_eq!(round.await.1, json!({ "consul": [] }));
}

#[tokio::test]
async fn an_agent_takes_more_configuration() {
    let extra = json!({
        "datacenter": "dc9",
        "node_name": "n1",
        "acl": {
            "enabled": true,
            "default_policy": "deny",
            "tokens": { "master": "5d1f7b0c-0000-4000-8000-000000000001" },
        },
    });
    let Some(consul) = Consul::start_with(extra).await else { return };
    let (_, nodes) = consul.get("/v1/catalog/nodes").await;
    assert_eq!((&nodes[0]["Node"], &nodes[0]["Datacenter"]), (&json!("n1"), &json!("dc9")));

    let anonymous = reqwest::get(consul.url("/v1/catalog/nodes")).await.unwrap();
    assert_eq!(anonymous.text().await.unwrap().trim(), "[]");
}

#[tokio::test]
async fn an_agent_ends_with_the_test_that_panics() {
    let Some(consul) = Consul::start().await else { return };
    let process = format!("/proc/{}", consul.pid());
    assert!(Path::new(&process).exists());

    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _consul = consul;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(!Path::new(&process).exists());
}

/// An instance of `web` on a node of its own, with one check of the given status.
fn web(node: &str, address: &str, status: &str) -> serde_json::Value {
    json!({
        "Node": node,
        "Address": address,
        "Service": { "ID": "web", "Service": "web", "Port": 8080 },
        "Check": { "CheckID": "web", "Name": "web", "ServiceID": "web", "Status": status },
    })
}
