//! A new configuration while the program runs: what is used at once, what waits, what is refused.

use std::fs;
use std::path::PathBuf;

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::dns::{Udp, ask, question, zone_text};
use crate::support::metrics::find;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::eventually;

/// `web` with a passing instance and one with a warning.
const CATALOG: &str = r#"{ "nodes": [
    { "name": "n1", "address": "10.0.0.1", "services": [{ "name": "web", "port": 80 }] },
    { "name": "n2", "address": "10.0.0.2", "services": [
        { "name": "web", "port": 80, "address": "10.9.0.2", "check": { "status": "warning" } }] }
] }"#;

struct Stage {
    program: Program,
    path: PathBuf,
    _folder: TempDir,
}

impl Stage {
    async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, catalog) = (folder.path().join("f.toml"), folder.path().join("c.json"));
        fs::write(&path, text).unwrap();
        fs::write(&catalog, CATALOG).unwrap();
        let (config, catalog) = (path.to_str().unwrap(), catalog.to_str().unwrap());
        let args =
            ["--config", config, "--catalog", catalog, "--dns", ANY_PORT, "--admin", ANY_PORT];
        let program = Program::start(&[&["serve"][..], &args].concat(), &[]);
        program.ready().await;
        Self { program, path, _folder: folder }
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    async fn text(&self, name: &str, rtype: RecordType) -> String {
        zone_text(&ask(self.program.dns_address().await, name, rtype).await)
    }

    /// Status and body of `POST /v1/reload`.
    async fn reload(&self) -> (u16, Value) {
        let url = format!("http://{}/v1/reload", self.program.admin_address().await);
        let request = reqwest::Client::new().post(url).header("X-Fingerpost-Request", "1");
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.json().await.unwrap())
    }

    async fn metric(&self, series: &str) -> Option<f64> {
        let url = format!("http://{}/metrics", self.program.admin_address().await);
        find(&reqwest::get(url).await.unwrap().text().await.unwrap(), series)
    }
}

#[tokio::test]
async fn a_hang_up_changes_what_is_answered() {
    let stage = Stage::start("[dns_config]\nnode_ttl = '1s'\n").await;
    let both = "NOERROR aa rd\nanswer web.service.consul. 0 IN A 10.0.0.1\n\
                answer web.service.consul. 0 IN A 10.9.0.2";
    assert_eq!(stage.text("web.service.consul", RecordType::A).await, both);
    let reverse = "2.0.9.10.in-addr.arpa";
    let pointer =
        |ttl: u32| format!("NOERROR aa rd\nanswer {reverse}. {ttl} IN PTR web.service.dc1.consul.");
    assert_eq!(stage.text(reverse, RecordType::PTR).await, pointer(0));

    stage.write(
        "[dns_config]\nnode_ttl = '2s'\nonly_passing = true\nservice_ttl = { 'w*' = '7s' }\n\
         soa = { min_ttl = 9 }\n",
    );
    stage.program.signal("HUP");
    let one = "NOERROR aa rd\nanswer web.service.consul. 7 IN A 10.0.0.1";
    let is_one = async || stage.text("web.service.consul", RecordType::A).await == one;
    eventually("one is shown", is_one).await;
    let node = "NOERROR aa rd\nanswer n1.node.consul. 2 IN A 10.0.0.1";
    assert_eq!(stage.text("n1.node.consul", RecordType::A).await, node);
    assert_eq!(stage.text(reverse, RecordType::PTR).await, pointer(7));
    let none = stage.text("x.service.consul", RecordType::A).await;
    assert!(none.starts_with("NXDOMAIN aa rd\nauthority consul. 9 IN SOA"), "{none}");
    assert_eq!(
        stage.metric("fingerpost_config_reloads_total{result=\"applied\"}").await,
        Some(1.0)
    );
    // Those that are left out may come back.
    stage.write("");
    let (status, told) = stage.reload().await;
    let keys = ["node_ttl", "only_passing", "service_ttl", "soa.min_ttl"];
    let changed: Vec<String> = keys.iter().map(|key| format!("dns_config.{key}")).collect();
    assert_eq!((status, told), (200, json!({ "changed": changed, "waiting": [], "remarks": [] })));
    let is_both = async || stage.text("web.service.consul", RecordType::A).await == both;
    eventually("both are shown", is_both).await;
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let stage = Stage::start("[dns]\nwhy = []\n").await;
    stage.write("[dns]\nwhy = ['127.0.0.1']\nany = 'some'\nworker = 2\n");
    let (status, told) = stage.reload().await;
    let path = stage.path.display();
    let mistakes = format!(
        "{path}:3: dns.any = 'some': must be one of all, minimal\n\
         {path}:4: dns.worker: unknown key; did you mean dns.workers?"
    );
    assert_eq!((status, told), (422, json!({ "error": mistakes })));
    assert_eq!(stage.metric("fingerpost_config_last_reload_successful").await, Some(0.0));
    let why = stage.text("_why.web.service.consul", RecordType::TXT).await;
    assert!(why.starts_with("NXDOMAIN"), "{why}");
    for told in [&*mistakes, "the configuration is refused, the old one goes on"] {
        assert!(told.lines().all(|line| stage.program.stderr().contains(line)), "{told}");
    }
    // What waits is named, and the rest is used.
    stage.write("domain = 'example'\n[dns]\nwhy = ['127.0.0.1']\nworkers = 2\n");
    let (status, told) = stage.reload().await;
    let expected =
        json!({ "changed": ["dns.why"], "waiting": ["dns.workers", "domain"], "remarks": [] });
    assert_eq!((status, told), (200, expected));
    assert_eq!(stage.metric("fingerpost_config_last_reload_successful").await, Some(1.0));
    let why = stage.text("_why.web.service.consul", RecordType::TXT).await;
    assert!(why.starts_with("NOERROR"), "{why}");
    assert!(stage.text("web.service.example", RecordType::A).await.starts_with("REFUSED"));

    fs::remove_file(&stage.path).unwrap();
    let (status, told) = stage.reload().await;
    let error = told["error"].as_str().unwrap();
    assert!(status == 422 && error.starts_with(&path.to_string()), "{status} {error}");
}

#[tokio::test]
async fn who_may_have_it_read_again() {
    let demo = Program::demo().await;
    let url = format!("http://{}/v1/reload", demo.admin_address().await);
    let client = reqwest::Client::new();
    assert_eq!(client.post(&url).send().await.unwrap().status(), 403);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 405);
    let reply = client.post(&url).header("X-Fingerpost-Request", "1").send().await.unwrap();
    let told: Value = reply.json().await.unwrap();
    let error = "there is no configuration file to read again: `serve --config FILE` has one";
    assert_eq!(told, json!({ "error": error }));
    // Nor is a program without one ended by the signal.
    demo.signal("HUP");
    eventually("it says so", async || demo.stderr().matches(error).count() == 2).await;
    demo.ready().await;
    // Nothing was read that could be refused, and no alert is due.
    let url = format!("http://{}/metrics", demo.admin_address().await);
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert_eq!(find(&metrics, "fingerpost_config_last_reload_successful"), Some(1.0));
}

/// Questions come all the while; none is lost, and each is answered by one of the two.
#[tokio::test]
async fn no_query_is_lost() {
    let texts = [
        "[dns_config]\nservice_ttl = { web = '3s' }\n",
        "[dns_config]\nservice_ttl = { web = '5s' }\n",
    ];
    let stage = Stage::start(texts[0]).await;
    let server = stage.program.dns_address().await;
    let mut asking = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..4 {
        let stopped = stopped.clone();
        asking.spawn(async move {
            let udp = Udp::connect(server).await;
            let (mut asked, mut ttls) = (0, std::collections::BTreeSet::new());
            while !*stopped.borrow() {
                let query = question("web.service.consul", RecordType::A);
                udp.send(&query.to_vec().unwrap()).await;
                let reply = hickory_proto::op::Message::from_vec(&udp.receive().await).unwrap();
                assert_eq!(reply.metadata.id, query.metadata.id);
                assert_eq!(reply.answers.len(), 2);
                ttls.extend(reply.answers.iter().map(|record| record.ttl));
                asked += 1;
            }
            (asked, ttls)
        });
    }
    for round in 1..=20 {
        let text = texts[round % 2];
        stage.write(text);
        assert_eq!(stage.reload().await.0, 200);
        let ttl = if round % 2 == 0 { 3 } else { 5 };
        let is_new = async || {
            let text = stage.text("web.service.consul", RecordType::A).await;
            text.contains(&format!("web.service.consul. {ttl} IN A"))
        };
        eventually("the TTL is the new one", is_new).await;
    }
    stop.send(true).unwrap();
    while let Some(asked) = asking.join_next().await {
        let (asked, ttls) = asked.unwrap();
        assert!(asked > 20 && ttls == [3, 5].into(), "{asked} questions, {ttls:?}");
    }
}
