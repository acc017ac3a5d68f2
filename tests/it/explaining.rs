//! "web does not resolve": from the situation, beside a Consul, to the sentence that is shown.

use fingerpost::answer::Network;
use fingerpost::config::{Config, ConsulAddress};
use hickory_proto::rr::{RData, RecordType};
use serde_json::{Value, json};

use crate::support::consul::Consul;
use crate::support::dns::{ask, ask_tcp, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::program::Program;
use crate::support::server::Server;
use crate::support::stage::{self, SERVICES, health, instances};
use crate::support::wait::eventually;

/// What `/v1/explain` says.
async fn explain(server: &Server, query: &str) -> Value {
    get(server, &format!("/v1/explain?{query}")).await.1
}

async fn summary(server: &Server, name: &str) -> String {
    explain(server, &format!("name={name}")).await["summary"].as_str().unwrap().to_owned()
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let reply = reqwest::get(format!("http://{}{path}", server.admin())).await.unwrap();
    (reply.status().as_u16(), reply.json().await.unwrap())
}

fn hints(explained: &Value) -> Vec<&str> {
    explained["hints"].as_array().unwrap().iter().map(|hint| hint.as_str().unwrap()).collect()
}

/// A real Consul says which check it is.
#[tokio::test]
async fn no_healthy_instance_and_which_check() {
    let Some(consul) = Consul::start().await else { return };
    consul
        .register_service(json!({
            "Name": "web", "ID": "web-1", "Port": 80,
            "Check": { "Name": "answers", "CheckID": "up", "TTL": "10m", "Status": "critical" },
        }))
        .await;
    let client = ConsulAddress::Http(consul.url("/").parse().unwrap());
    let mut config = Config::default();
    config.consul.addresses = vec![client];
    let server = stage::serve(config).await;
    let expected = "NXDOMAIN: \"web\" has 1 instance, and none may be answered with: \
                    1 critical (the service's check \"answers\").";
    let is_told = async || summary(&server, "web.service.consul").await == expected;
    eventually("the check is named", is_told).await;
    let explained = explain(&server, "name=web.service.consul").await;
    let watch = &explained["watches"][0];
    assert_eq!((&watch["what"], &watch["name"]), (&json!("instances"), &json!("web")));
    let (index, _) = consul.get("/v1/health/service/web").await;
    assert_eq!(watch["index"], json!(index));
    assert!(watch["heard_secs_ago"].as_f64().unwrap() < 60.0, "{watch}");

    consul.set_ttl_check("up", "passing").await;
    let is_told = async || {
        summary(&server, "web.service.consul").await == "NOERROR: 1 of 1 instance in the answer."
    };
    eventually("it is in", is_told).await;
}

#[tokio::test]
async fn a_token_that_sees_too_little() {
    let consul = stage::consul(&["web"]).await;
    consul.script(SERVICES, filtered(&json!({ "web": [] })));
    let server = stage::serve(stage::config(&consul)).await;
    let explained = explain(&server, "name=secret.service.consul").await;
    assert_eq!(explained["summary"], "NXDOMAIN: dc1 has no service \"secret\"; it has 1.");
    let hidden = "Consul says that the token may not read all of this, so some of it may exist and be hidden: \
                  it takes service:read and node:read.";
    assert_eq!(hints(&explained), [hidden]);
    assert_eq!(explained["watches"][0]["is_filtered"], true);
    assert_eq!(hints(&explain(&server, "name=web.service.consul").await), [hidden]);
}

fn filtered(body: &Value) -> Reply {
    Reply::ok(10, body).header("X-Consul-Results-Filtered-By-ACLs", "true")
}

#[tokio::test]
async fn nothing_heard_and_then_nothing_heard_any_more() {
    let consul = stage::consul(&["web"]).await;
    let wheres = ["/v1/agent/self", "/v1/catalog/datacenters", SERVICES];
    let refuse = |count| {
        let all = wheres.iter().flat_map(|path| (0..count).map(move |_| path));
        all.for_each(|path| consul.script(path, Reply::status(500, "No cluster leader")));
    };
    refuse(1000);
    let server = stage::start(stage::config(&consul));
    let explained = explain(&server, "name=web.service.consul").await;
    assert_eq!(
        explained["summary"],
        "SERVFAIL: the lists have not been heard in full yet, so nothing can be denied."
    );
    assert!(!explained["pending"].as_array().unwrap().is_empty(), "{explained}");
    assert_eq!(get(&server, "/v1/services/web").await.0, 503);

    wheres.iter().for_each(|path| consul.unscript(path));
    let told = "NOERROR: 1 of 1 instance in the answer.";
    eventually("it is heard", async || summary(&server, "web.service.consul").await == told).await;
    refuse(1000);
    consul.release(SERVICES);
    let is_old = async || {
        let explained = explain(&server, "name=web.service.consul").await;
        assert_eq!(explained["summary"], told);
        hints(&explained)
            .iter()
            .any(|hint| hint.starts_with("Stale: Consul has not borne it out for"))
    };
    eventually("it is old", is_old).await;
    let explained = explain(&server, "name=web.service.consul").await;
    let error = explained["watches"][1]["error"].as_str().unwrap();
    assert!(error.contains("No cluster leader"), "{explained}");
}

/// Beyond the watches: what is asked about is fetched, as for a client, and what nobody asked for
/// is unknown.
#[tokio::test]
async fn what_was_not_fetched_is_unknown() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    let (status, e) = get(&server, "/v1/services/e").await;
    assert_eq!((status, &e["health"], &e["instances"]), (200, &Value::Null, &Value::Null));
    assert_eq!(e["held"], "by its name only: its instances were not fetched");
    let told = "NOERROR: 1 of 1 instance in the answer.";
    assert_eq!(summary(&server, "e.service.consul").await, told);
    assert_eq!(consul.requests_for(&health("e")).len(), 1);
    let (_, e) = get(&server, "/v1/services/e").await;
    assert_eq!(e["health"], json!({ "passing": 1, "warning": 0, "unknown": 0, "critical": 0 }));
    let watched = get(&server, "/v1/watches").await.1;
    let watched = watched.as_array().unwrap().iter().filter(|watch| watch["what"] == "instances");
    assert_eq!(watched.count(), 4);
    assert_eq!(get(&server, "/v1/services/x").await.0, 404);
    assert_eq!(get(&server, "/v1/nodes?datacenter=dc9").await.0, 404);
    assert_eq!(get(&server, "/v1/nodes").await.1[0]["address"], "10.0.0.1");
    assert_eq!(get(&server, "/v1/datacenters").await.1[0]["services"], 5);
}

#[tokio::test]
async fn dig_can_ask_why() {
    let consul = stage::consul(&["web"]).await;
    let mut config = stage::config(&consul);
    config.dns.why = vec![Network::parse("127.0.0.1/32").unwrap()];
    let server = stage::serve(config).await;
    let texts = async |name: &str| {
        let reply = ask(server.dns(), name, RecordType::TXT).await;
        let texts = reply.answers.iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => {
                Some(txt.txt_data.iter().map(|text| String::from_utf8_lossy(text).into_owned()))
            }
            _ => None,
        });
        texts.flatten().collect::<Vec<String>>()
    };
    let told = texts("_why.web.service.consul").await;
    assert_eq!(told[..2], ["web.service.consul. A", "NOERROR: 1 of 1 instance in the answer."]);
    let told = texts("_why-srv.wbe.dc1.consul").await;
    assert_eq!(
        told[..3],
        [
            "wbe.dc1.consul. SRV",
            "NXDOMAIN: dc1 has no service \"wbe\"; it has 1.",
            "Is \"web\" meant?",
        ]
    );
    // The name exists whatever the type.
    let text = zone_text(&ask_tcp(server.dns(), "_why.web.service.consul", RecordType::A).await);
    assert!(text.starts_with("NOERROR aa rd\nauthority consul."), "{text}");
    // And for nobody whom it is not for.
    let mut config = stage::config(&consul);
    config.dns.why.clear();
    let server = stage::serve(config).await;
    let text = zone_text(&ask(server.dns(), "_why.web.service.consul", RecordType::TXT).await);
    assert!(text.starts_with("NXDOMAIN aa rd"), "{text}");
}

/// A page from elsewhere, whose name leads here, may read nothing.
#[tokio::test]
async fn who_asks_under_another_name_is_refused() {
    let consul = stage::consul(&["web"]).await;
    let mut config = stage::config(&consul);
    config.admin.hosts = vec!["dns1.example".to_owned()];
    let server = stage::serve(config).await;
    let client = reqwest::Client::new();
    let status = async |path: &str, host: &str| {
        let url = format!("http://{}{path}", server.admin());
        client.get(url).header("Host", host).send().await.unwrap().status().as_u16()
    };
    for (path, host, expected) in [
        ("/v1/services", "evil.example", 421),
        ("/v1/explain?name=web.service.consul", "evil.example:8654", 421),
        ("/v1/services", "dns1.example:8654", 200),
        ("/v1/services", "localhost", 200),
        ("/metrics", "evil.example", 200),
    ] {
        assert_eq!(status(path, host).await, expected, "{path} {host}");
    }
}

#[tokio::test]
async fn what_cannot_be_explained_is_said() {
    let consul = stage::consul(&["web"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    for (query, expected) in [
        ("name=web.service.consul&type=XYZ", "type: \"XYZ\" is no type, as A, SRV or TYPE65"),
        ("name=web.service.consul&client=me", "client: \"me\" is no IP address"),
        ("name=web.service.consul&format=xml", "format: \"xml\" is neither \"json\" nor \"text\""),
    ] {
        let (status, told) = get(&server, &format!("/v1/explain?{query}")).await;
        assert_eq!((status, &told["error"]), (400, &json!(expected)), "{query}");
    }
    let long = "x".repeat(64);
    assert_eq!(get(&server, &format!("/v1/explain?name={long}")).await.0, 400);
}

/// As the operator has it: a command, its text, its status.
#[tokio::test]
async fn the_command_says_it() {
    let consul: FakeConsul = stage::consul(&["web"]).await;
    consul.set(&health("web"), 11, &instances("web", "10.0.0.9"));
    let server = stage::serve(stage::config(&consul)).await;
    let admin = server.admin().to_string();
    let run = async |name: &str, more: &[&str]| {
        let mut program =
            Program::start(&[&["explain", "--admin", &admin, name][..], more].concat(), &[]);
        (program.status().await, program.stdout(), program.stderr())
    };
    let (status, text, _) = run("web.service.consul", &[]).await;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("  NOERROR: 1 of 1 instance in the answer.\n"), "{text}");
    assert!(text.contains("\nwatch       instances of web in dc1: index 11, heard "), "{text}");
    let (status, text, _) = run("x.service.consul", &["SRV", "--json"]).await;
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &json["question"]["type"]), (Some(1), &json!("SRV")), "{text}");
    let (status, _, error) = run("web.service.consul", &["NONE"]).await;
    assert_eq!((status, &*error), (Some(2), "type: \"NONE\" is no type, as A, SRV or TYPE65\n"));
    drop(server);
    let (status, _, error) = run("web.service.consul", &[]).await;
    assert_eq!(status, Some(2), "{error}");
    assert!(error.starts_with(&format!("the admin port at {admin} cannot be asked")), "{error}");
}

/// Each of hundreds of questions is explained as it is answered.
#[tokio::test]
async fn the_explanation_is_what_the_wire_says() {
    let consul = stage::consul(&["web", "db"]).await;
    let many: Vec<Value> = (1..=90).map(|at| instance(at, at % 7)).collect();
    consul.set(&health("web"), 12, &json!(many));
    let server = stage::serve(stage::config(&consul)).await;
    let is_heard =
        async || summary(&server, "web.service.consul").await.contains("of 90 instances");
    eventually("web is heard", is_heard).await;
    for name in [
        "web.service.consul",
        "v1.web.service.consul",
        "v9.web.service.consul",
        "_web._v2.consul",
        "db.dc1.consul",
        "x.dc1.consul",
        "web.dc2.consul",
        "n1.node.consul",
        "n9.node.consul",
        "consul",
        "service.consul",
        "dc1.consul",
        "0a000001.addr.consul",
        "www.example.com",
        "1.0.0.10.in-addr.arpa",
        "ns.consul",
        "a.b.c.consul",
    ] {
        for rtype in ["A", "AAAA", "SRV", "TXT", "ANY", "PTR", "SOA", "NS"] {
            let explained = explain(&server, &format!("name={name}&type={rtype}&bytes=0")).await;
            let reply = ask(server.dns(), name, rtype.parse().unwrap()).await;
            let said = &explained["reply"];
            assert_eq!(
                (said["rcode"].as_str().unwrap(), said["answers"].as_array().unwrap().len()),
                (&*rcode(&zone_text(&reply)), reply.answers.len()),
                "{name} {rtype}: {explained}"
            );
            let listed = &explained["instances"];
            if let Some(lines) = listed["listed"].as_array() {
                let count =
                    |verdict: &str| lines.iter().filter(|it| it["verdict"] == verdict).count();
                assert_eq!(json!(count("in")), listed["answered"], "{name} {rtype}");
                let reasons =
                    lines.iter().all(|it| (it["verdict"] == "in") == it["reason"].is_null());
                assert!(reasons, "{name} {rtype}: {listed}");
                // Each of the instances here has an address and a port of its own.
                if matches!(rtype, "A" | "SRV") && name.contains("web") {
                    assert_eq!(count("in"), reply.answers.len(), "{name} {rtype}: {listed}");
                }
            }
        }
    }
}

fn rcode(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// One of many; each seventh is critical, and odd ones have another tag.
fn instance(at: usize, sick: usize) -> Value {
    let status = if sick == 0 { "critical" } else { "passing" };
    let tag = if at.is_multiple_of(2) { "v1" } else { "v2" };
    json!({
        "Node": { "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
        "Service": { "ID": format!("web-{at}"), "Service": "web", "Tags": [tag],
                     "Address": format!("10.0.1.{at}"), "Port": 8000 + at },
        "Checks": [{ "CheckID": format!("c{at}"), "Name": "up", "Status": status, "ServiceID": "web" }],
    })
}
