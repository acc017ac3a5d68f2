//! What a Consul can get wrong: each fault is scripted, and none of them costs an answer.

use std::net::SocketAddr;
use std::time::Duration;

use fingerpost::config::ConsulAddress;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::dns::{addresses, ask, pipeline, question, with_edns, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, NODES, SERVICES, fill, health, instances, list, nodes};
use crate::support::wait::eventually;

/// Each fault, and the word that it is counted under.
fn faults() -> Vec<(&'static str, Reply, &'static str)> {
    let good = || Reply::ok(99, &json!({ "web": [] }));
    vec![
        ("a body cut on the wire", good().half(), "cut"),
        ("half a JSON in a whole body", good().body("{\"web\": ["), "body"),
        ("an empty body", good().empty(), "body"),
        ("JSON of another type", good().body("7"), "body"),
        ("a 500", Reply::status(500, "No cluster leader"), "status"),
        ("a 429 without a word", Reply::status(429, ""), "status"),
        ("a 200 of a server without a leader", leaderless(), "no_leader"),
        ("a close before any byte", Reply::close(), "exchange"),
        ("a reply larger than the bound", good().body(&"x".repeat(20_000)), "too_large"),
    ]
}

/// Empty lists, as of a server that has just started.
fn leaderless() -> Reply {
    Reply::ok(1, &json!(null)).header("X-Consul-KnownLeader", "false")
}

#[tokio::test]
async fn a_fault_costs_no_answer_and_is_counted() {
    for (fault, reply, kind) in faults() {
        let consul = stage::consul(&["web"]).await;
        let mut config = stage::config(&consul);
        config.consul.response_bytes_max = 10_000;
        let server = stage::serve(config).await;
        let before = answers(server.dns()).await;

        for path in [SERVICES, NODES, &health("web")] {
            let failures = format!("fingerpost_consul_failures_total{{kind=\"{kind}\"}}");
            let counted = async || value(&scrape(&server).await, &failures);
            let at_first = counted().await;
            for _ in 0..3 {
                consul.script(path, reply.clone());
            }
            let counts = async || counted().await >= at_first + 3.0;
            eventually(format!("{fault} of {path} is counted as {kind}"), counts).await;
            assert_eq!(answers(server.dns()).await, before, "after {fault} of {path}");
        }
        heals(&consul, &server, fault).await;
    }
}

#[tokio::test]
async fn a_consul_that_hangs_is_given_up_and_asked_again() {
    let consul = stage::consul(&["web"]).await;
    let mut config = stage::config(&consul);
    config.consul.wait = Duration::from_secs(1);
    config.consul.timeout = Duration::from_millis(500);
    let server = stage::serve(config).await;
    let before = answers(server.dns()).await;
    for path in [SERVICES, NODES, &health("web")] {
        consul.script(path, Reply::hang());
    }
    let timeouts = "fingerpost_consul_failures_total{kind=\"timeout\"}";
    let counted = async || value(&scrape(&server).await, timeouts) >= 3.0;
    eventually("three requests are given up", counted).await;
    assert_eq!(answers(server.dns()).await, before);
    heals(&consul, &server, "a hang").await;
}

#[tokio::test]
async fn indexes_that_make_no_sense_stop_no_watch() {
    for (index, what) in [(0, "zero"), (3, "one that went back"), (u64::MAX, "the largest")] {
        let consul = stage::consul(&["web"]).await;
        let server = stage::serve(stage::config(&consul)).await;
        list(&consul, index, &["web", "db"]);
        fill(&consul, index, "db", "10.0.0.7");
        fill(&consul, index, "web", "10.0.0.8");
        let db = async || addresses(server.dns(), "db.service.consul").await == ["10.0.0.7"];
        eventually(format!("a new service comes with index {what}"), db).await;
        let web = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.8"];
        eventually(format!("a change comes with index {what}"), web).await;
    }
}

#[tokio::test]
async fn a_consul_that_returns_at_once_does_not_make_us_spin() {
    let consul = stage::consul(&["web"]).await;
    // Index 0 reads as 1, and nothing is held below the standing index.
    for path in [SERVICES, NODES, &health("web")] {
        for _ in 0..1_000 {
            consul.script(path, Reply::ok(0, &json!({})).without("X-Consul-Index"));
        }
    }
    let server = stage::start(stage::config(&consul));
    for _ in 0..50 {
        ask(server.dns(), "web.service.consul", RecordType::A).await;
    }
    let rounds = async || consul.requests_for(SERVICES).len() >= 2;
    eventually("the list is asked for again", rounds).await;
    let rounds = consul.requests_for(SERVICES).len();
    assert!(rounds < 10, "{rounds} rounds while a few were due");
}

#[tokio::test]
async fn nothing_is_denied_before_consul_was_heard() {
    let consul = FakeConsul::start().await;
    let mut config = stage::config(&consul);
    config.consul.timeout = Duration::from_secs(2);
    let server = stage::start(config);
    for name in
        ["web.service.consul", "web.dc1.consul", "n1.node.consul", "x.consul", "a.b.c.consul"]
    {
        for qtype in [RecordType::A, RecordType::SRV, RecordType::TXT] {
            let query = with_edns(question(name, qtype), 1232, false);
            let reply = pipeline(server.dns(), &[query]).await.remove(0);
            assert_eq!(zone_text(&reply), "SERVFAIL aa rd", "{name} {qtype}");
            let edns = format!("{:?}", reply.edns);
            assert!(edns.contains("[0, 14, "), "extended error 14: {edns}");
        }
    }
    for (name, qtype, expected) in [
        ("example.com", RecordType::A, "REFUSED rd"),
        ("0a000001.addr.consul", RecordType::A, "answer 0a000001.addr.consul. 0 IN A 10.0.0.1"),
        ("consul", RecordType::NS, "answer consul. 0 IN NS ns.consul."),
        ("consul", RecordType::SOA, "answer consul. 0 IN SOA ns.consul. hostmaster.consul."),
    ] {
        let got = zone_text(&ask(server.dns(), name, qtype).await);
        assert!(got.contains(expected), "{name} {qtype}: {got}");
    }
    let get = async |path: &str| {
        let reply = reqwest::get(format!("http://{}/{path}", server.admin())).await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    assert_eq!(get("health").await, (200, "ok\n".to_owned()));
    let unready = (503, "Consul has not said which datacenter it is in\n".to_owned());
    assert_eq!(get("ready").await, unready);

    consul.set("/v1/agent/self", 1, &json!({ "Config": { "Datacenter": "dc1" } }));
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1"]));
    let pending = "the list of services of dc1 is not in\nthe list of nodes of dc1 is not in\n";
    let lists = async || get("ready").await == (503, pending.to_owned());
    eventually("the lists are pending", lists).await;
    consul.script(&health("web"), Reply::ok(5, &instances("web", "10.0.0.1")).held());
    list(&consul, 5, &["web"]);
    nodes(&consul, 5, &[("n1", "10.0.0.1")]);
    let pending = (503, "the instances of web in dc1 are not in\n".to_owned());
    eventually("web is pending", async || get("ready").await == pending).await;
    fill(&consul, 5, "web", "10.0.0.1");
    consul.let_go(&health("web"));
    eventually("all is in", async || get("ready").await == (200, "ready\n".to_owned())).await;
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
}

#[tokio::test]
async fn what_a_cluster_without_a_leader_still_has_is_better_than_nothing() {
    let consul = FakeConsul::start().await;
    consul.set("/v1/agent/self", 1, &json!({ "Config": { "Datacenter": "dc1" } }));
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1"]));
    let old = |index, body| {
        Reply::ok(index, &body)
            .header("X-Consul-KnownLeader", "false")
            .header("X-Consul-LastContact", "8506")
    };
    let node = json!([{ "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" }]);
    for (path, body) in [
        (SERVICES, json!({ "web": [] })),
        (NODES, node),
        (&health("web"), instances("web", "10.0.0.1")),
    ] {
        consul.script(path, Reply::status(500, "No cluster leader"));
        consul.script(path, old(7, body));
        // From then on nothing is heard, as while the cluster stays so.
        (0..1_000).for_each(|_| consul.script(path, Reply::status(500, "No cluster leader")));
    }
    let server = stage::serve(stage::config(&consul)).await;
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
    for (path, expected) in [(SERVICES, ["consistent", "stale"]), (NODES, ["consistent", "stale"])]
    {
        let asked = consul.requests_for(path);
        let asked: Vec<_> = asked.iter().take(2).map(|request| &request.query).collect();
        let has = |at: usize| asked[at].contains_key(expected[at]);
        assert!(has(0) && has(1), "{path}: {asked:?}");
    }
}

#[tokio::test]
async fn a_service_beyond_the_watches_is_fetched_once_for_all_who_ask() {
    let names: Vec<String> = (0..300).map(|number| format!("s{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let consul = stage::consul(&names).await;
    let server = stage::serve(stage::config(&consul)).await;
    let path = health("s299");
    assert_eq!(consul.requests_for(&path).len(), 0, "nobody has asked for it");

    let query = |id| {
        let mut query = question("s299.service.consul", RecordType::A);
        query.metadata.id = id;
        query
    };
    let queries: Vec<_> = (1..=50).map(query).collect();
    for reply in pipeline(server.dns(), &queries).await {
        let expected = "NOERROR aa rd\nanswer s299.service.consul. 0 IN A 10.0.0.1";
        assert_eq!(zone_text(&reply), expected);
    }
    assert_eq!(consul.requests_for(&path).len(), 1);
    for number in 0..100 {
        let name = format!("nope{number}.service.consul");
        let reply = zone_text(&ask(server.dns(), &name, RecordType::A).await);
        assert!(reply.starts_with("NXDOMAIN"), "{reply}");
    }
    let asked = consul.requests();
    assert!(!asked.iter().any(|request| request.path.contains("nope")), "a list proves it");
    assert!(consul.connections_most() <= 80, "{} connections", consul.connections_most());
}

#[tokio::test]
async fn a_start_takes_few_connections_and_more_when_older_ones_are_gone() {
    let names: Vec<String> = (0..60).map(|number| format!("s{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let consul = stage::consul(&names).await;
    let mut config = stage::config(&consul);
    config.consul.wait = Duration::from_secs(3);
    let server = stage::serve(config).await;
    let watches = async || value(&scrape(&server).await, "fingerpost_consul_watches");
    assert_eq!(watches().await, 14.0, "sixteen, less two lists");
    assert!(consul.connections_most() <= 24, "{} connections", consul.connections_most());
    assert_eq!(addresses(server.dns(), "s59.service.consul").await, ["10.0.0.1"]);
    eventually("all are watched", async || watches().await == 60.0).await;
    fill(&consul, 11, "s59", "10.0.0.9");
    let changed = async || addresses(server.dns(), "s59.service.consul").await == ["10.0.0.9"];
    eventually("what was fetched is watched now", changed).await;
}

#[tokio::test]
async fn a_service_that_waits_for_its_watch_is_followed_all_the_same() {
    let names: Vec<String> = (0..30).map(|number| format!("s{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let consul = stage::consul(&names).await;
    // The room grows after half a minute, and what is fetched is kept as long.
    let server = stage::serve(stage::config(&consul)).await;
    assert_eq!(addresses(server.dns(), "s29.service.consul").await, ["10.0.0.1"]);
    fill(&consul, 11, "s29", "10.0.0.9");
    let changed = async || addresses(server.dns(), "s29.service.consul").await == ["10.0.0.9"];
    eventually("the change is answered", changed).await;
}

#[tokio::test]
async fn instances_that_are_not_in_memory_are_told_to_have_no_series() {
    let consul = stage::consul(&["a", "b", "c", "d", "e", "f"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    let omitted = "fingerpost_service_health_omitted_services";
    assert_eq!(value(&scrape(&server).await, omitted), 2.0, "e and f");
    ask(server.dns(), "e.service.consul", RecordType::A).await;
    assert_eq!(value(&scrape(&server).await, omitted), 1.0, "f");
}

#[tokio::test]
async fn a_fetched_service_is_kept_for_its_time_and_then_fetched_again() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    config.cache.kept = Duration::from_millis(300);
    let server = stage::serve(config).await;
    let name = "e.service.consul";
    assert_eq!(addresses(server.dns(), name).await, ["10.0.0.1"]);
    fill(&consul, 11, "e", "10.0.0.9");
    let changed = async || addresses(server.dns(), name).await == ["10.0.0.9"];
    eventually("it is fetched again", changed).await;
    assert!(consul.requests_for(&health("e")).len() >= 2);

    // Consul refuses: what was fetched last goes on, and is called stale.
    for _ in 0..1_000 {
        consul.script(&health("e"), Reply::status(500, "no"));
    }
    let stale = "fingerpost_cache_total{result=\"stale\",service=\"e\"}";
    let served = async || {
        assert_eq!(addresses(server.dns(), name).await, ["10.0.0.9"]);
        value(&scrape(&server).await, stale) > 0.0
    };
    eventually("it is stale", served).await;
}

#[tokio::test]
async fn a_fetch_that_hangs_is_waited_for_once() {
    let consul = stage::consul(&["a", "b", "c", "d", "e", "f"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    (config.cache.kept, config.cache.patience) = (Duration::ZERO, Duration::from_millis(500));
    let server = stage::serve(config).await;
    assert_eq!(addresses(server.dns(), "e.service.consul").await, ["10.0.0.1"]);
    consul.script(&health("e"), Reply::hang());
    consul.script(&health("f"), Reply::hang());

    // A service that was never fetched cannot be answered, and is not denied.
    let query = with_edns(question("f.service.consul", RecordType::A), 1232, false);
    let reply = pipeline(server.dns(), &[query]).await.remove(0);
    assert_eq!(zone_text(&reply), "SERVFAIL aa rd");
    assert!(format!("{:?}", reply.edns).contains("[0, 22, "), "extended error 22: {reply:?}");
    // One that was is: the first question finds out, the others need not wait.
    for _ in 0..20 {
        assert_eq!(addresses(server.dns(), "e.service.consul").await, ["10.0.0.1"]);
    }
    let waited = "fingerpost_dns_request_duration_seconds_bucket{le=\"0.5\"}";
    let total = "fingerpost_dns_request_duration_seconds_count";
    let metrics = scrape(&server).await;
    assert!(value(&metrics, total) - value(&metrics, waited) <= 2.0, "two waited: {metrics}");
    assert_eq!(consul.requests_for(&health("e")).len(), 2, "no second fetch while one hangs");
}

#[tokio::test]
async fn the_shelf_has_a_bound() {
    let consul = stage::consul(&["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    config.cache.services_max = 2;
    let server = stage::serve(config).await;
    for name in ["e", "f", "g", "h"] {
        let name = format!("{name}.service.consul");
        assert_eq!(addresses(server.dns(), &name).await, ["10.0.0.1"], "{name}");
    }
    let evictions = "fingerpost_consul_on_demand_evictions_total";
    let bounded = async || value(&scrape(&server).await, evictions) == 2.0;
    eventually("two made room", bounded).await;
    assert_eq!(value(&scrape(&server).await, "fingerpost_consul_on_demand_services"), 2.0);
    // What made room is fetched again, not denied.
    for name in ["e", "f", "g", "h"] {
        let name = format!("{name}.service.consul");
        assert_eq!(addresses(server.dns(), &name).await, ["10.0.0.1"], "{name}");
    }
}

#[tokio::test]
async fn an_index_never_travels_to_another_address() {
    let (first, second) = (stage::consul(&["web"]).await, stage::consul(&["web"]).await);
    fill(&second, 3, "web", "10.0.0.2");
    let mut config = stage::config(&first);
    config.consul.addresses.push(ConsulAddress::Http(second.url()));
    let server = stage::serve(config).await;
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
    assert_eq!(second.requests().len(), 0, "the first one answers");

    drop(first);
    let followed = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.2"];
    eventually("the second address takes over", followed).await;
    for path in [SERVICES, &health("web")] {
        let asked = second.requests_for(path);
        let index = asked.first().and_then(|request| request.query.get("index"));
        assert_eq!(index, None, "{path} is asked from the beginning");
    }
}

#[tokio::test]
async fn labels_are_capped_and_series_go_with_their_services() {
    let consul = stage::consul(&["a", "b", "c"]).await;
    consul.set(&health("a"), 10, &{
        let mut three = instances("a", "10.0.0.1");
        for (at, status) in [(1, "warning"), (2, "critical")] {
            let mut instance = instances("a", "10.0.0.1")[0].clone();
            instance["Service"]["ID"] = json!(format!("a{at}"));
            instance["Checks"] = json!([{
                "CheckID": "c", "Status": status, "ServiceID": format!("a{at}"),
            }]);
            three.as_array_mut().unwrap().push(instance);
        }
        three
    });
    let mut config = stage::config(&consul);
    config.metrics.services_max = 2;
    let server = stage::serve(config).await;
    for name in ["a", "c", "c", "nope"] {
        ask(server.dns(), &format!("{name}.service.consul"), RecordType::A).await;
    }
    let metrics = scrape(&server).await;
    for (series, expected) in [
        ("fingerpost_service_health{dc=\"dc1\",instance=\"n1/a\",service=\"a\"}", 1.0),
        ("fingerpost_service_health{dc=\"dc1\",instance=\"n1/a1\",service=\"a\"}", 0.5),
        ("fingerpost_service_health{dc=\"dc1\",instance=\"n1/a2\",service=\"a\"}", 0.0),
        ("fingerpost_service_health_omitted_services", 1.0),
        ("fingerpost_cache_total{result=\"hit\",service=\"a\"}", 1.0),
        ("fingerpost_cache_total{result=\"hit\",service=\"other\"}", 2.0),
        ("fingerpost_cache_total{result=\"negative\",service=\"other\"}", 1.0),
        ("fingerpost_dns_responses_total{rcode=\"NXDOMAIN\"}", 1.0),
        ("fingerpost_dns_requests_total{protocol=\"udp\",type=\"A\"}", 4.0),
        ("fingerpost_dns_requests_total{protocol=\"tcp\",type=\"SRV\"}", 0.0),
    ] {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
    assert!(!metrics.contains("service=\"c\""), "c has no label of its own");

    list(&consul, 11, &["b", "c"]);
    let gone = async || !scrape(&server).await.contains("service=\"a\"");
    eventually("the series of a are gone", gone).await;
}

/// New data is heard again, of each kind.
async fn heals(consul: &FakeConsul, server: &Server, fault: &str) {
    list(consul, 20, &["web", "db"]);
    fill(consul, 20, "db", "10.0.0.7");
    fill(consul, 20, "web", "10.0.0.8");
    nodes(consul, 20, &[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]);
    for (name, expected) in [
        ("db.service.consul", "10.0.0.7"),
        ("web.service.consul", "10.0.0.8"),
        ("n2.node.consul", "10.0.0.2"),
    ] {
        let healed = async || addresses(server.dns(), name).await == [expected];
        eventually(format!("{name} follows after {fault}"), healed).await;
    }
    let ready = reqwest::get(format!("http://{}/ready", server.admin())).await.unwrap();
    assert_eq!(ready.status(), 200, "ready stays so after {fault}");
}

/// What a server says that must not change while Consul errs.
async fn answers(server: SocketAddr) -> Vec<String> {
    let mut answers = Vec::new();
    for name in ["web.service.consul", "web.dc1.consul", "n1.node.consul", "nope.service.consul"] {
        let text = zone_text(&ask(server, name, RecordType::A).await);
        // The SOA's serial is the second of the last change; a list may have been heard since. And
        // what may be old has a TTL of its own.
        let text = text.split(" IN SOA").next().unwrap_or_default();
        answers.push(text.replace(". 1 ", ". 0 ").replace("consul. 1", "consul. 0"));
    }
    answers
}
