//! What a real Consul that lets nobody in unasked wants to see: a token, and a certificate; and what
//! it shows to a token that may not see all.

use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress, Secret};
use fingerpost::consul::Client;
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::choose_crypto;
use crate::support::consul::Consul;
use crate::support::dns::addresses;
use crate::support::fake_consul::Reply;
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;

use crate::support::stage::{self, SERVICES, list};
use crate::support::wait::eventually;

/// What the README gives the token.
const LEAST: &str = r#"
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
"#;

/// A new token with the policy of this name: its accessor and itself.
async fn token(consul: &Consul, policy: &str) -> (String, String) {
    let asked = json!({ "Policies": [{ "Name": policy }] });
    let told: Value = serde_json::from_str(&consul.put("/v1/acl/token", &asked).await).unwrap();
    let field = |name: &str| told[name].as_str().unwrap().to_owned();
    (field("AccessorID"), field("SecretID"))
}

async fn register(consul: &Consul, address: &str) {
    let service = json!({ "Service": "web", "Port": 80 });
    consul.register(json!({ "Node": "n1", "Address": address, "Service": service })).await;
}

#[tokio::test]
async fn tokens_and_certificates_are_followed_as_they_are_renewed() {
    let mut authority = Authority::new();
    let mut extra = authority.consul();
    // What lasts over a restart has its tokens still.
    for (key, value) in [
        ("server", json!(true)),
        ("bootstrap_expect", json!(1)),
        ("data_dir", json!("data")),
        ("performance", json!({ "raft_multiplier": 1 })),
        (
            "acl",
            json!({ "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER } }),
        ),
    ] {
        extra[key] = value;
    }
    let Some(mut consul) = Consul::start_with(extra).await else { return };
    choose_crypto();
    consul.put("/v1/acl/policy", &json!({ "Name": "least", "Rules": LEAST })).await;
    register(&consul, "10.0.0.1").await;
    let (accessor, secret) = token(&consul, "least").await;
    let file = authority.path("token");
    std::fs::write(&file, &secret).unwrap();

    let mut config: Config = authority.client(consul.https_address());
    config.consul.token_file = Some(file.clone());
    config.consul.backoff_max = Duration::from_millis(500);
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;
    let has =
        async |address: &str| addresses(server.dns(), "web.service.consul").await == [address];
    assert!(has("10.0.0.1").await);

    // Another token is in the file, and the first is none any more.
    let (_, secret) = token(&consul, "least").await;
    std::fs::write(&file, secret).unwrap();
    delete(&consul, &format!("/v1/acl/token/{accessor}")).await;
    register(&consul, "10.0.0.2").await;
    eventually("a change is heard with the other token", async || has("10.0.0.2").await).await;

    // Another authority is in the files, and Consul shows its certificates only.
    authority.replace();
    consul.restart().await;
    register(&consul, "10.0.0.3").await;
    eventually("a change is heard of the other authority", async || has("10.0.0.3").await).await;
    let hears = async || value(&scrape(&server).await, "fingerpost_consul_watches_failing") == 0.0;
    eventually("every watch hears", hears).await;
}

#[tokio::test]
async fn a_token_that_sees_nothing_is_told_from_an_empty_catalogue() {
    let acl = json!({ "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER } });
    let Some(consul) = Consul::start_with(json!({ "acl": acl })).await else { return };
    choose_crypto();
    register(&consul, "10.0.0.1").await;
    let nodes = r#"node_prefix "" { policy = "read" }"#;
    consul.put("/v1/acl/policy", &json!({ "Name": "nodes", "Rules": nodes })).await;
    let (_, secret) = token(&consul, "nodes").await;
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    config.consul.token = Some(Secret::new(secret));
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;
    let expected = "ready\n\
                    dc1: services 0, nodes 2\n\
                    dc1: no services are shown; does the token have service:read?\n";
    assert_eq!(verbose(&server).await, expected);
}

#[tokio::test]
async fn what_consul_says_it_hides_is_shown() {
    let consul = stage::consul(&["web"]).await;
    let filtered = |index| {
        let reply = Reply::ok(index, &json!({ "web": [] }));
        reply.header("X-Consul-Results-Filtered-By-Acls", "true")
    };
    consul.script(SERVICES, filtered(10));
    let server = stage::serve(stage::config(&consul)).await;
    let services = "fingerpost_consul_results_filtered{endpoint=\"catalog/services\"}";
    let is_filtered = async || value(&scrape(&server).await, services);
    assert_eq!(is_filtered().await, 1.0);
    let expected = "ready\n\
                    dc1: services 1, nodes 1\n\
                    Consul hides a part of catalog/services from the token\n";
    assert_eq!(verbose(&server).await, expected);

    // With more rights the next reply has all.
    list(&consul, 11, &["web", "db"]);
    eventually("nothing is hidden any more", async || is_filtered().await == 0.0).await;
    let expected = "ready\ndc1: services 2, nodes 1\n";
    eventually("both are there", async || verbose(&server).await == expected).await;
}

async fn verbose(server: &Server) -> String {
    let url = format!("http://{}/ready?verbose", server.admin());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

async fn delete(consul: &Consul, path: &str) {
    let request = reqwest::Client::new().delete(consul.url(path)).header("X-Consul-Token", MASTER);
    request.send().await.unwrap().error_for_status().unwrap();
}

const MASTER: &str = "5d1f7b0c-0000-4000-8000-0000000000ac";
