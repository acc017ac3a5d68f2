//! Beside a real Consul: its catalogue is what is answered, as it changes and while it is away.

use std::net::SocketAddr;
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::consul::Client;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::choose_crypto;
use crate::support::consul::Consul;
use crate::support::dns::{addresses, ask, ask_tcp, zone_text};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::wait::eventually;

/// Every name form of a service, with the same two of three instances behind each.
const FORMS_OF_WEB: [&str; 9] = [
    "web.service.consul",
    "web.service.dc1.consul",
    "web.dc1.consul",
    "WEB.Service.DC1.consul",
    "_web._tcp.service.consul",
    "_web._tcp.service.dc1.consul",
    "_web._tcp.consul",
    "_web._tcp.dc1.consul",
    "v1.web.dc1.consul",
];

#[tokio::test]
async fn three_instances_are_two_by_every_form_of_the_name() {
    let Some(consul) = Consul::start().await else { return };
    register_three(&consul).await;
    let server = serve(&consul, |_| ()).await;

    for name in FORMS_OF_WEB {
        let expected = format!(
            "NOERROR aa rd\n\
             answer {name}. 0 IN A 10.0.0.1\n\
             answer {name}. 0 IN A 10.0.0.2"
        );
        assert_eq!(text(server.dns(), name, RecordType::A).await, expected);
        let over_tcp = ask_tcp(server.dns(), name, RecordType::A).await;
        assert_eq!(zone_text(&over_tcp), expected);
        assert_eq!(
            text(server.dns(), name, RecordType::SRV).await,
            format!(
                "NOERROR aa rd\n\
                 answer {name}. 0 IN SRV 1 1 8001 n1.node.dc1.consul.\n\
                 answer {name}. 0 IN SRV 1 3 8002 n2.node.dc1.consul.\n\
                 additional n1.node.dc1.consul. 0 IN A 10.0.0.1\n\
                 additional n2.node.dc1.consul. 0 IN A 10.0.0.2"
            )
        );
    }
    for (name, expected) in [
        ("v2.web.service.consul", "answer v2.web.service.consul. 0 IN A 10.0.0.2"),
        ("_web._v2.dc1.consul", "answer _web._v2.dc1.consul. 0 IN A 10.0.0.2"),
        ("n3.node.consul", "answer n3.node.consul. 0 IN A 10.0.0.3"),
        ("n3.node.dc1.consul", "answer n3.node.dc1.consul. 0 IN A 10.0.0.3"),
        ("0a000003.addr.dc1.consul", "answer 0a000003.addr.dc1.consul. 0 IN A 10.0.0.3"),
    ] {
        let got = text(server.dns(), name, RecordType::A).await;
        assert_eq!(got, format!("NOERROR aa rd\n{expected}"));
    }
    for name in ["v3.web.service.consul", "nope.service.consul", "web.service.dc9.consul"] {
        let got = text(server.dns(), name, RecordType::A).await;
        assert!(got.starts_with("NXDOMAIN aa rd\nauthority consul. 0 IN SOA ns.consul."), "{got}");
    }
    server.stop().await;
}

#[tokio::test]
async fn our_answers_are_consuls_own() {
    let Some(consul) = Consul::start().await else { return };
    register_three(&consul).await;
    let server = serve(&consul, |_| ()).await;
    for (name, qtype) in [
        ("web.service.consul", RecordType::A),
        ("web.service.consul", RecordType::SRV),
        ("Web.Service.dc1.consul", RecordType::A),
        ("_web._v2.service.consul", RecordType::SRV),
        ("v1.web.service.consul", RecordType::ANY),
        ("n1.node.consul", RecordType::A),
        ("consul.service.consul", RecordType::A),
    ] {
        let theirs = ask(consul.dns_address(), name, qtype).await;
        assert_eq!(text(server.dns(), name, qtype).await, without_metadata(&zone_text(&theirs)));
    }
}

#[tokio::test]
async fn an_instance_that_turns_critical_leaves_and_does_not_come_back() {
    let Some(consul) = Consul::start().await else { return };
    register_three(&consul).await;
    let server = serve(&consul, |_| ()).await;
    let name = "web.service.consul";
    let addresses = async || addresses(server.dns(), name).await;
    assert_eq!(addresses().await, ["10.0.0.1", "10.0.0.2"]);

    consul.set_check("n1", Some("web"), "web", "critical").await;
    // Consul's own answer first: what it does not say yet, we need not either.
    eventually("consul shows the change", async || passing(&consul, "web").await == 0).await;
    eventually("we show the change", async || addresses().await == ["10.0.0.2"]).await;
    for _ in 0..200 {
        assert_eq!(addresses().await, ["10.0.0.2"], "what was believed once is not taken back");
    }

    consul.set_check("n1", Some("web"), "web", "passing").await;
    eventually("it is back", async || addresses().await == ["10.0.0.1", "10.0.0.2"]).await;
    // A check of the node counts for its services, and not for its own name.
    consul.set_check("n2", None, "disk", "critical").await;
    eventually("n2 has left", async || addresses().await == ["10.0.0.1"]).await;
    let node = text(server.dns(), "n2.node.consul", RecordType::A).await;
    assert_eq!(node, "NOERROR aa rd\nanswer n2.node.consul. 0 IN A 10.0.0.2");

    let metrics = scrape(&server).await;
    for instance in ["n1/web\",service=\"web\"} 1\n", "n2/web\",service=\"web\"} 0\n"] {
        assert!(metrics.contains(instance), "{instance} in {metrics}");
    }
    let seen = value(&metrics, "fingerpost_propagation_seconds_count");
    assert!(seen >= 3.0, "each change was timed: {seen}");
}

#[tokio::test]
async fn names_come_and_go_with_the_catalogue() {
    let Some(consul) = Consul::start().await else { return };
    let server = serve(&consul, |_| ()).await;
    let rcode = async |name| first_word(&text(server.dns(), name, RecordType::A).await);
    assert_eq!(rcode("web.service.consul").await, "NXDOMAIN");
    assert_eq!(rcode("n1.node.consul").await, "NXDOMAIN");

    register_three(&consul).await;
    eventually("web is there", async || rcode("web.service.consul").await == "NOERROR").await;
    eventually("n1 is there", async || rcode("n1.node.consul").await == "NOERROR").await;
    for node in ["n1", "n2", "n3"] {
        consul.deregister(json!({ "Node": node })).await;
    }
    eventually("web is gone", async || rcode("web.service.consul").await == "NXDOMAIN").await;
    eventually("n1 is gone", async || rcode("n1.node.consul").await == "NXDOMAIN").await;
    let metrics = async || scrape(&server).await;
    eventually("so are its series", async || !metrics().await.contains("service=\"web\"")).await;
}

#[tokio::test]
async fn answers_outlive_consul_and_follow_it_when_it_is_back() {
    let Some(mut consul) = Consul::start().await else { return };
    register_three(&consul).await;
    let server = serve(&consul, |_| ()).await;
    let questions = [
        ("web.service.consul", RecordType::A),
        ("web.dc1.consul", RecordType::SRV),
        ("n3.node.consul", RecordType::A),
    ];
    let mut before = Vec::new();
    for (name, qtype) in questions {
        // What may be old is not kept for long, and not asked for again at once.
        before.push(text(server.dns(), name, qtype).await.replace(" 0 IN ", " 1 IN "));
    }

    consul.kill();
    let metrics = async || scrape(&server).await;
    let reachable = async || value(&metrics().await, "fingerpost_datacenter_reachable{dc=\"dc1\"}");
    eventually("the loss is noticed", async || reachable().await == 0.0).await;
    for (at, (name, qtype)) in questions.into_iter().cycle().take(300).enumerate() {
        assert_eq!(text(server.dns(), name, qtype).await, before[at % before.len()]);
    }
    let denied = text(server.dns(), "nope.service.consul", RecordType::A).await;
    assert_eq!(first_word(&denied), "NXDOMAIN", "what the last good list lacked");
    server.ready().await;
    let stale = value(&metrics().await, "fingerpost_cache_total{result=\"stale\",service=\"web\"}");
    assert_eq!(stale, 200.0, "answers are counted as stale");

    consul.restart().await;
    consul.register(web("n9", "10.0.0.9", 8009, "passing", &["v1"])).await;
    let addresses = async || addresses(server.dns(), "web.service.consul").await;
    eventually("the new data is answered", async || addresses().await == ["10.0.0.9"]).await;
    eventually("consul is heard again", async || reachable().await == 1.0).await;
    let gone = async || text(server.dns(), "n3.node.consul", RecordType::A).await;
    eventually("old nodes are gone", async || first_word(&gone().await) == "NXDOMAIN").await;
}

#[tokio::test]
async fn a_server_that_reads_its_log_again_takes_no_name_away() {
    let Some(mut consul) = Consul::start_lasting().await else { return };
    // Long enough to read that whoever asks then is told a part, and critical at the very end.
    register_many(&consul, 1_500).await;
    consul.register(web("n1", "10.0.0.1", 8001, "passing", &["v1"])).await;
    consul.register(web("n2", "10.0.0.2", 8002, "passing", &["v1"])).await;
    consul.set_check("n2", Some("web"), "web", "critical").await;
    // Beyond the watches, and kept no longer than a question.
    let server = serve(&consul, |config| {
        (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
        config.cache.kept = Duration::ZERO;
    })
    .await;
    let web = async || addresses(server.dns(), "web.service.consul").await;
    assert_eq!(web().await, ["10.0.0.1"]);

    consul.kill();
    let watching = async {
        loop {
            assert_eq!(web().await, ["10.0.0.1"]);
            for name in ["s0000.service.consul", "m1.node.consul", "n2.node.consul"] {
                let rcode = first_word(&text(server.dns(), name, RecordType::A).await);
                assert_ne!(rcode, "NXDOMAIN", "{name}");
            }
        }
    };
    tokio::select! {
        () = watching => (),
        () = consul.restart() => (),
    }
    let metrics = async || scrape(&server).await;
    let reachable = async || value(&metrics().await, "fingerpost_datacenter_reachable{dc=\"dc1\"}");
    eventually("consul is heard again", async || reachable().await == 1.0).await;
    assert_eq!(web().await, ["10.0.0.1"]);
}

#[tokio::test]
async fn a_snapshot_that_is_restored_is_answered_soon() {
    // Restoring takes some seconds of a server that keeps nothing on disk.
    let Some(consul) = Consul::start_lasting().await else { return };
    register_three(&consul).await;
    let saved = consul.save().await;
    consul.set_check("n1", Some("web"), "web", "critical").await;
    // Far longer than this test waits: nothing may be left to the end of a blocking query.
    let server = serve(&consul, |config| config.consul.wait = Duration::from_secs(300)).await;
    let web = async || addresses(server.dns(), "web.service.consul").await;
    assert_eq!(web().await, ["10.0.0.2"]);
    consul.restore(saved).await;
    eventually("what was restored is answered", async || web().await == ["10.0.0.1", "10.0.0.2"])
        .await;
}

#[tokio::test]
async fn a_consul_that_hangs_costs_no_answer() {
    let Some(consul) = Consul::start().await else { return };
    register_three(&consul).await;
    let server = serve(&consul, |_| ()).await;
    consul.stop();
    for _ in 0..100 {
        assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1", "10.0.0.2"]);
    }
    consul.cont();
    consul.set_check("n1", Some("web"), "web", "critical").await;
    let addresses = async || addresses(server.dns(), "web.service.consul").await;
    eventually("changes arrive again", async || addresses().await == ["10.0.0.2"]).await;
}

#[tokio::test]
async fn services_beyond_the_watches_are_fetched_when_they_are_asked_for() {
    let Some(consul) = Consul::start().await else { return };
    for number in 0..20 {
        consul.register(named(&format!("s{number:02}"), number)).await;
    }
    let server = serve(&consul, |config| {
        config.consul.connections_max = 8;
        config.consul.connections_spare = 2;
    })
    .await;
    for number in 0..20 {
        let name = format!("s{number:02}.service.consul");
        assert_eq!(addresses(server.dns(), &name).await, [format!("10.1.0.{number}")], "{name}");
    }
    let metrics = scrape(&server).await;
    let watches = value(&metrics, "fingerpost_consul_watches");
    assert_eq!(watches, 3.0, "six less the lists of services, nodes and prepared queries");
}

#[tokio::test]
async fn a_service_that_is_asked_for_is_watched_before_long() {
    let Some(consul) = Consul::start().await else { return };
    for number in 0..20 {
        consul.register(named(&format!("s{number:02}"), number)).await;
    }
    let server = serve(&consul, |config| {
        config.consul.connections_max = 8;
        config.consul.connections_spare = 2;
        config.consul.wait = Duration::from_secs(1);
        config.cache.idle = Duration::from_secs(2);
        config.cache.kept = Duration::from_secs(3600);
        config.cache.refresh = Duration::ZERO;
    })
    .await;
    let asked = async || addresses(server.dns(), "s19.service.consul").await;
    let relieved = "fingerpost_consul_watches_relieved_total";
    let is_relieved = async || {
        assert_eq!(asked().await.len(), 1);
        value(&scrape(&server).await, relieved) >= 1.0
    };
    eventually("a watch makes room", is_relieved).await;
    consul.register(named("s19", 99)).await;
    // What is fetched on demand would be answered for an hour.
    eventually("s19 is watched", async || asked().await.len() == 2).await;
    let watches = value(&scrape(&server).await, "fingerpost_consul_watches");
    assert_eq!(watches, 3.0, "as many as before");
}

#[tokio::test]
async fn a_change_of_what_is_on_demand_shows_while_it_is_asked_for() {
    let Some(consul) = Consul::start().await else { return };
    for number in 0..20 {
        consul.register(named(&format!("s{number:02}"), number)).await;
    }
    let server = serve(&consul, |config| {
        config.consul.connections_max = 8;
        config.consul.connections_spare = 2;
        config.cache.kept = Duration::from_secs(3600);
    })
    .await;
    let asked = async || addresses(server.dns(), "s19.service.consul").await;
    assert_eq!(asked().await.len(), 1);
    consul.register(named("s19", 99)).await;
    eventually("another instance shows", async || asked().await.len() == 2).await;
    consul.set_check("m99", None, "down", "critical").await;
    eventually("it is left out again", async || asked().await == ["10.1.0.19"]).await;
    let misses = "fingerpost_cache_total{result=\"miss\",service=\"s19\"}";
    assert_eq!(value(&scrape(&server).await, misses), 1.0, "nobody but the first one waited");
}

#[tokio::test]
async fn addresses_of_services_that_nobody_asked_for_have_names() {
    let Some(consul) = Consul::start().await else { return };
    let owned = |number: u8, address: &str| {
        json!({
            "Node": "n1",
            "Address": "10.1.0.1",
            "Service": { "Service": format!("s{number:02}"), "Port": 80, "Address": address },
        })
    };
    for number in 0..20 {
        consul.register(owned(number, &format!("10.9.0.{number}"))).await;
    }
    let server = serve(&consul, |config| {
        config.consul.connections_max = 8;
        config.consul.connections_spare = 2;
        config.dns.reverse_zones = vec!["10.in-addr.arpa".to_owned()];
    })
    .await;
    let pointer = async |last: u8| {
        let name = format!("{last}.0.9.10.in-addr.arpa");
        let reply = text(server.dns(), &name, RecordType::PTR).await;
        reply.split_whitespace().last().unwrap_or_default().to_owned()
    };
    let denied = async || {
        let reply = text(server.dns(), "99.0.9.10.in-addr.arpa", RecordType::PTR).await;
        // Until all were read, nothing is denied.
        assert!(reply.starts_with("NXDOMAIN") || reply == "SERVFAIL aa rd", "{reply}");
        reply.starts_with("NXDOMAIN")
    };
    eventually("all addresses were read", denied).await;
    for number in 0..20 {
        assert_eq!(pointer(number).await, format!("s{number:02}.service.dc1.consul."));
    }
    // One that is new is read without anybody asking for the service.
    consul.register(owned(20, "10.9.0.99")).await;
    let found = async || pointer(99).await == "s20.service.dc1.consul.";
    eventually("the new one is read", found).await;
}

#[tokio::test]
async fn another_datacenter_is_answered_through_the_same_agent() {
    let Some(far) = Consul::start_with(json!({ "datacenter": "dc2" })).await else { return };
    let Some(near) = Consul::start().await else { return };
    near.put(&format!("/v1/agent/join/{}?wan=1", far.wan_address()), &Value::Null).await;
    far.register(web("f1", "10.2.0.1", 8001, "passing", &["v1"])).await;
    register_three(&near).await;
    let joined = async || near.get("/v1/catalog/datacenters").await.1 == json!(["dc1", "dc2"]);
    eventually("the datacenters know each other", joined).await;
    let routed = async || {
        let url = near.url("/v1/catalog/nodes?dc=dc2");
        reqwest::get(url).await.is_ok_and(|reply| reply.status() == 200)
    };
    eventually("the way to dc2 is open", routed).await;

    let server = serve(&near, |_| ()).await;
    for name in ["web.dc2.consul", "web.service.dc2.consul", "v1.web.dc2.consul"] {
        assert_eq!(addresses(server.dns(), name).await, ["10.2.0.1"], "{name}");
    }
    let srv = text(server.dns(), "_web._tcp.dc2.consul", RecordType::SRV).await;
    assert_eq!(
        srv,
        "NOERROR aa rd\n\
         answer _web._tcp.dc2.consul. 0 IN SRV 1 1 8001 f1.node.dc2.consul.\n\
         additional f1.node.dc2.consul. 0 IN A 10.2.0.1"
    );
    assert_eq!(addresses(server.dns(), "f1.node.dc2.consul").await, ["10.2.0.1"]);
    assert_eq!(addresses(server.dns(), "web.dc1.consul").await, ["10.0.0.1", "10.0.0.2"]);
    for name in ["nope.dc2.consul", "f1.node.dc1.consul", "web.dc3.consul"] {
        assert_eq!(first_word(&text(server.dns(), name, RecordType::A).await), "NXDOMAIN");
    }
    far.set_check("f1", Some("web"), "web", "critical").await;
    let gone = async || text(server.dns(), "web.dc2.consul", RecordType::A).await;
    eventually("dc2 is watched", async || first_word(&gone().await) == "NXDOMAIN").await;
}

/// One passing, one warning and one critical instance of `web`, each on a node of its own.
async fn register_three(consul: &Consul) {
    consul.register(web("n1", "10.0.0.1", 8001, "passing", &["v1"])).await;
    consul.register(web("n2", "10.0.0.2", 8002, "warning", &["v1", "v2"])).await;
    consul.register(web("n3", "10.0.0.3", 8003, "critical", &["v1", "v3"])).await;
}

/// Services `s0000` and on, in `count` entries of the log.
async fn register_many(consul: &Consul, count: usize) {
    let part = async |first: usize| {
        for number in (first..count).step_by(8) {
            let node = number % 100;
            let service = format!("s{number:04}");
            consul
                .register(json!({
                    "Node": format!("m{node}"),
                    "Address": format!("10.1.0.{node}"),
                    "Service": { "ID": service, "Service": service, "Port": 80 },
                }))
                .await;
        }
    };
    tokio::join!(part(0), part(1), part(2), part(3), part(4), part(5), part(6), part(7));
}

fn web(node: &str, address: &str, port: u16, status: &str, tags: &[&str]) -> Value {
    json!({
        "Node": node,
        "Address": address,
        "Service": {
            "ID": "web",
            "Service": "web",
            "Port": port,
            "Tags": tags,
            "Weights": { "Passing": 1, "Warning": 3 },
        },
        "Check": { "CheckID": "web", "Name": "web", "ServiceID": "web", "Status": status },
    })
}

fn named(service: &str, number: u8) -> Value {
    json!({
        "Node": format!("m{number}"),
        "Address": format!("10.1.0.{number}"),
        "Service": { "ID": service, "Service": service, "Port": 80 },
    })
}

/// Starts a server that asks `consul`, and waits until it is ready.
async fn serve(consul: &Consul, adjust: impl FnOnce(&mut Config)) -> Server {
    choose_crypto();
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    config.consul.backoff_min = Duration::from_millis(50);
    config.consul.backoff_max = Duration::from_millis(200);
    adjust(&mut config);
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;
    server
}

async fn text(server: SocketAddr, name: &str, qtype: RecordType) -> String {
    zone_text(&ask(server, name, qtype).await)
}

/// How many instances of `service` Consul's own HTTP answer calls passing.
async fn passing(consul: &Consul, service: &str) -> usize {
    let (_, instances) = consul.get(&format!("/v1/health/service/{service}?passing")).await;
    instances.as_array().map_or(0, Vec::len)
}

/// Consul adds its nodes' metadata as TXT records, which we leave out.
fn without_metadata(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.contains(" IN TXT ")).collect();
    lines.join("\n")
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
