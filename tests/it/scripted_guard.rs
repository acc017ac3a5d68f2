//! Consul is emptied: a fetch finds out before any watch does, and what is held back says so.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::dns::{
    addresses, ask, exchange, extended_error, question, with_edns, zone_text,
};
use crate::support::fake_consul::Reply;
use crate::support::metrics::{find, scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, NODES, SERVICES, health, list, nodes};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_listed_service_is_not_denied_by_a_fetch_alone() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    // Room for four watches, so that e is fetched.
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    consul.set(&health("e"), 11, &json!([]));
    let asked = consul.requests_for(SERVICES).len();
    let text = async || code(server.dns(), "e.service.consul").await;
    assert_eq!(text().await, "SERVFAIL");
    // After a second the list is read anew; it still has e, so there is nothing of e to be seen.
    let is_denied = async || {
        let text = text().await;
        assert!(text == "SERVFAIL" || consul.requests_for(SERVICES).len() > asked, "{text}");
        text == "NXDOMAIN"
    };
    eventually("e is denied", is_denied).await;
}

#[tokio::test]
async fn a_service_that_goes_is_denied_by_the_list() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    consul.set(&health("e"), 11, &json!([]));
    assert_eq!(code(server.dns(), "e.service.consul").await, "SERVFAIL");
    list(&consul, 11, &["a", "b", "c", "d"]);
    let is_denied = async || code(server.dns(), "e.service.consul").await == "NXDOMAIN";
    eventually("e is denied", is_denied).await;
}

async fn verbose(server: &Server) -> String {
    let url = format!("http://{}/ready?verbose", server.admin());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

async fn code(server: SocketAddr, name: &str) -> String {
    let text = zone_text(&ask(server, name, RecordType::A).await);
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn what_is_held_back_says_that_it_may_be_gone() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let consul = stage::consul(&names).await;
    nodes(&consul, 11, &[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]);
    let server = stage::serve(stage::config(&consul)).await;
    let is_heard = async || addresses(server.dns(), "n2.node.consul").await == ["10.0.0.2"];
    eventually("the nodes are heard", is_heard).await;
    let fresh = |name: &str, address: &str| said(name, 0, address, None);
    let old = |name: &str, address: &str| said(name, 1, address, Some("3"));
    for name in ["a.service.consul", "b.service.consul", "n1.node.consul"] {
        assert_eq!(told(&server, name).await, fresh(name, "10.0.0.1"));
    }

    // Eleven of twelve services, and one of two nodes.
    list(&consul, 12, &["a"]);
    let b = "b.service.consul";
    let is_old = async || told(&server, b).await == old(b, "10.0.0.1");
    eventually("b is held back, and says so", is_old).await;
    nodes(&consul, 12, &[("n2", "10.0.0.2")]);
    let n1 = "n1.node.consul";
    let is_old = async || told(&server, n1).await == old(n1, "10.0.0.1");
    eventually("so does n1", is_old).await;
    let held_back = "what Consul lacks is answered still: 12, and whatever more vanishes is too";
    let verbose = async || verbose(&server).await.contains(held_back);
    eventually("/ready?verbose tells", verbose).await;
    for (name, address) in [("a.service.consul", "10.0.0.1"), ("n2.node.consul", "10.0.0.2")] {
        assert_eq!(told(&server, name).await, fresh(name, address), "it is there");
    }
    let (text, code) = told(&server, "nope.service.consul").await;
    assert!(text.starts_with("NXDOMAIN") && code.is_none(), "it never was: {text} {code:?}");
    let series = "fingerpost_cache_total{result=\"stale\",service=\"b\"}";
    assert!(value(&scrape(&server).await, series) >= 1.0);

    list(&consul, 13, &names);
    nodes(&consul, 13, &[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]);
    for name in [b, n1] {
        let is_fresh = async || told(&server, name).await == fresh(name, "10.0.0.1");
        eventually("it is back", is_fresh).await;
    }
}

#[tokio::test]
async fn a_hold_is_longer_than_answers_may_be_old() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let consul = stage::consul(&names).await;
    let mut config = stage::config(&consul);
    config.answers.max_stale = Duration::ZERO;
    let server = stage::serve(config).await;
    let b = "b.service.consul";
    assert_eq!(told(&server, b).await, said(b, 0, "10.0.0.1", None));
    list(&consul, 12, &["a"]);
    let is_old = async || {
        let told = told(&server, b).await;
        assert!(told.0.starts_with("NOERROR"), "Consul is heard: {told:?}");
        told == said(b, 1, "10.0.0.1", Some("3"))
    };
    eventually("b is held back", is_old).await;
}

/// An answer of one address, and the extended error in it.
fn said(name: &str, ttl: u32, address: &str, code: Option<&str>) -> (String, Option<String>) {
    let text = format!("NOERROR aa rd\nanswer {name}. {ttl} IN A {address}");
    (text, code.map(str::to_owned))
}

/// The reply to a question with EDNS, and the extended error in it.
async fn told(server: &Server, name: &str) -> (String, Option<String>) {
    let query = with_edns(question(name, RecordType::A), 1232, false);
    let reply = exchange(server.dns(), &query).await;
    let code = extended_error(&reply);
    (zone_text(&reply), code.map(|said| said.split(' ').next().unwrap_or_default().to_owned()))
}

/// The servers tell that they have a leader before it is known where we are.
#[tokio::test]
async fn who_leads_is_told_however_early_it_was_heard() {
    let consul = stage::consul(&["web"]).await;
    consul.set("/v1/status/leader", 1, &json!("10.0.0.1:8300"));
    consul.set("/v1/status/peers", 1, &json!(["10.0.0.1:8300"]));
    let wheres = ["/v1/agent/self", "/v1/catalog/datacenters", SERVICES, NODES];
    wheres.iter().for_each(|path| consul.script(path, Reply::status(500, "not yet").held()));
    let server = stage::start(stage::config(&consul));
    let is_asked = async || !consul.requests_for("/v1/status/peers").is_empty();
    eventually("it is asked who leads", is_asked).await;
    let quorum = async || find(&scrape(&server).await, QUORUM);
    assert_eq!(quorum().await, None);
    wheres.iter().for_each(|path| consul.let_go(path));
    let is_told = async || quorum().await == Some(1.0);
    eventually("it is told", is_told).await;

    // Where nobody tells, nothing is said.
    consul.set("/v1/status/leader", 1, &json!(0));
    let is_untold = async || quorum().await.is_none();
    eventually("nothing is said", is_untold).await;
    for path in [SERVICES, NODES] {
        (0..1_000).for_each(|_| consul.script(path, Reply::status(500, "away")));
    }
    let is_away =
        async || verbose(&server).await.contains("dc1: services 1, nodes 1, not heard of for ");
    eventually("/ready?verbose tells since when", is_away).await;
    consul.set("/v1/status/leader", 1, &json!(""));
    let is_told = async || quorum().await == Some(0.0);
    eventually("there is no leader", is_told).await;
}

/// A token that may not read the nodes sees no servers among the members.
#[tokio::test]
async fn autopilot_tells_how_many_servers_are_alive() {
    let consul = stage::consul(&["web"]).await;
    consul.set("/v1/status/leader", 1, &json!("10.0.0.1:8300"));
    consul.set("/v1/status/peers", 1, &json!(["10.0.0.1:8300", "10.0.0.2:8300", "10.0.0.3:8300"]));
    consul.set("/v1/agent/members", 1, &json!([]));
    let autopilot = |states: [&str; 3]| {
        json!({"Servers": states.map(|state| json!({"SerfStatus": state}))}).to_string()
    };
    consul.script(AUTOPILOT, Reply::status(429, "rate limit exceeded"));
    consul.script(AUTOPILOT, Reply::status(429, &autopilot(["alive", "failed", "failed"])));
    consul.script(AUTOPILOT, Reply::status(429, &autopilot(["alive", "alive", "failed"])));
    consul.script(AUTOPILOT, Reply::status(429, &autopilot(["alive", "failed", "failed"])));
    consul.script(AUTOPILOT, Reply::status(403, "rpc error making call: Permission denied"));
    let server = stage::serve(stage::config(&consul)).await;
    let quorum = async || find(&scrape(&server).await, QUORUM);
    eventually("too few are alive", async || quorum().await == Some(0.0)).await;
    eventually("there are enough", async || quorum().await == Some(1.0)).await;
    let is_refused = async || consul.requests_for(AUTOPILOT).len() == 5;
    eventually("the token may not ask any more", is_refused).await;
    let asked = consul.requests_for("/v1/status/leader").len();
    let is_asked = async || consul.requests_for("/v1/status/leader").len() > asked + 1;
    eventually("the leader is asked for again", is_asked).await;
    assert_eq!(consul.requests_for(AUTOPILOT).len(), 5);
}

const AUTOPILOT: &str = "/v1/operator/autopilot/health";

const QUORUM: &str = "fingerpost_consul_quorum{dc=\"dc1\"}";

/// Consul wakes no query for that.
#[tokio::test]
async fn a_token_that_regains_its_rights_is_noticed_soon() {
    let names = ["consul", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let consul = stage::consul(&names).await;
    let mut config = stage::config(&consul);
    config.guard.hold = Duration::from_millis(500);
    let server = stage::serve(config).await;
    let is_answered = async || addresses(server.dns(), "a.service.consul").await == ["10.0.0.1"];
    eventually("a is answered", is_answered).await;
    list(&consul, 11, &[]);
    let is_denied = async || code(server.dns(), "a.service.consul").await == "NXDOMAIN";
    eventually("a is denied", is_denied).await;
    let listing = names.iter().map(|name| ((*name).to_owned(), json!([])));
    consul.set_unheard(SERVICES, 11, &serde_json::Value::Object(listing.collect()));
    eventually("a is answered again", is_answered).await;
}
