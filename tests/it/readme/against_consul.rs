//! The README's tables about Consul, held against a real one and this program beside it.
//!
//! A row whose first cell has questions between backquotes is asked of both; other rows are prose.

use serde_json::{Value, json};

use crate::readme::{dig, post, quoted, said, shown, table};
use crate::support::consul::Consul;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::eventually;

#[tokio::test]
async fn consul_and_we_answer_as_the_readme_says() {
    let Some(dig) = dig() else { return };
    let Some((consul, program)) = both().await else { return };
    let (theirs, ours) = (consul.dns_address(), program.dns_address().await);
    // Addresses are swept, and the list of queries is in, some time after the program is ready.
    let unknown = "99.0.0.10.in-addr.arpa PTR";
    eventually("all is known", async || said(&dig, ours, unknown) == "NXDOMAIN").await;

    let mut wrong = Vec::new();
    let mut check = |who: &str, question: &str, got: String, cell: &str| {
        if got != shown(cell) {
            wrong.push(format!("{who} {question}: {got}, not {}", shown(cell)));
        }
    };
    let differences = table("| asked | Consul 1.8.7 | here | why |");
    let asked = differences.iter().filter(|row| row[0].starts_with('`'));
    assert!(asked.clone().count() > 25);
    for row in asked {
        for question in quoted(&row[0]) {
            check("Consul", &question, said(&dig, theirs, &question), &row[1]);
            check("here", &question, said(&dig, ours, &question), &row[2]);
        }
    }
    for row in table("| form, from a Consul | example | type | answer |") {
        let question = format!("{} {}", quoted(&row[1]).concat(), row[2]);
        check("here", &question, said(&dig, ours, &question), &row[3]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A Consul with what the README's examples are about, and the program in front of it.
async fn both() -> Option<(Consul, Program)> {
    let extra = json!({ "node_name": "server", "alt_domain": "alt.test" });
    let consul = Consul::start_with(extra).await?;
    fill(&consul).await;
    let url = consul.url("");
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
    let env = [
        ("FINGERPOST_ALT_DOMAIN", "alt.test"),
        ("FINGERPOST_DNS_REVERSE_ZONES", "10.in-addr.arpa"),
        ("FINGERPOST_CACHE_SWEEP_WITHIN", "1s"),
    ];
    let program = Program::start(&args, &env);
    program.ready().await;
    Some((consul, program))
}

async fn fill(consul: &Consul) {
    let service = |name: &str, more: Value| {
        let mut service = json!({ "ID": name, "Service": name, "Port": 80 });
        for (key, value) in more.as_object().unwrap() {
            service[key] = value.clone();
        }
        service
    };
    let web = |id: &str, more: Value| {
        let mut service = service("web", more);
        service["ID"] = json!(id);
        service
    };
    let host = |name: &str, host: &str| service(name, json!({ "Address": host }));
    let proxy = json!({
        "Kind": "connect-proxy", "Port": 21000, "Proxy": { "DestinationServiceName": "web" },
    });
    for (node, address, service) in [
        ("n1", "10.0.0.1", web("web-1", json!({ "Tags": ["v1", "blue"] }))),
        ("n2", "10.0.0.2", web("web-2", json!({ "Tags": ["v2"] }))),
        ("n3", "10.0.0.3", web("web-3", json!({ "Address": "10.1.0.3" }))),
        ("n1", "10.0.0.1", service("api", json!({ "Tags": ["a.b"] }))),
        ("n1", "10.0.0.1", service("my app", json!({}))),
        ("n1", "10.0.0.1", service("web-proxy", proxy)),
        ("n1", "10.0.0.1", service("gateway", json!({ "Kind": "ingress-gateway", "Port": 8443 }))),
        ("n1", "10.0.0.1", service("mix", json!({ "ID": "mix-1" }))),
        ("node.dots", "10.0.0.9", service("dots", json!({}))),
        ("hostnode", "payments.example.com", service("remote", json!({}))),
        ("ext", "192.0.2.1", host("payments", "payments.example.com")),
        ("ext", "192.0.2.1", host("mix", "mix.example.com")),
        ("ext", "192.0.2.1", host("alias", "web.service.consul")),
        ("ext", "192.0.2.1", host("loop1", "loop2.service.consul")),
        ("ext", "192.0.2.1", host("loop2", "loop1.service.consul")),
        ("ext", "192.0.2.1", host("selfref", "selfref.service.consul")),
    ] {
        consul.register(json!({ "Node": node, "Address": address, "Service": service })).await;
    }
    for at in 1..=40 {
        let service = service("many", json!({ "Address": format!("10.2.0.{at}") }));
        let node = format!("fleet-{at}");
        consul.register(json!({ "Node": node, "Address": "10.2.0.254", "Service": service })).await;
    }
    let meta: serde_json::Map<_, _> =
        (0..30).map(|at| (format!("key{at:02}"), json!("v".repeat(60)))).collect();
    consul.register(json!({ "Node": "huge", "Address": "10.0.0.77", "NodeMeta": meta })).await;
    let protocol = json!({ "protocol": "http" });
    let defaults = json!({ "Kind": "proxy-defaults", "Name": "global", "Config": protocol });
    consul.put("/v1/config", &defaults).await;
    let listener = json!({ "Port": 8888, "Protocol": "http", "Services": [{ "Name": "web" }] });
    let gateway = json!({ "Kind": "ingress-gateway", "Name": "gateway", "Listeners": [listener] });
    consul.put("/v1/config", &gateway).await;
    let query = json!({
        "Name": "geo", "Service": { "Service": "web", "Tags": ["v1"] }, "DNS": { "TTL": "10s" },
    });
    post(consul, "/v1/query", query).await;
    let template = json!({
        "Name": "near-", "Template": { "Type": "name_prefix_match" },
        "Service": { "Service": "${name.suffix}" },
    });
    post(consul, "/v1/query", template).await;
}
