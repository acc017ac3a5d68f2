//! The description of the admin port is true: Schemathesis asks the port what it says, and what it
//! does not, and holds each reply against it.
//!
//! The run is bounded and seeded. `/v1/events` is left out, as it does not end; `events.rs` tests it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use serde_json::Value;

use crate::support::server::Server;
use crate::support::{schemathesis, stage};

const OPENAPI: &str = include_str!("../../config/openapi.json");

async fn demo() -> Server {
    let catalog = file::parse(file::DEMO).unwrap();
    let server = Server::start(Config::default(), Origin::Fixed(catalog.changes()));
    server.ready().await;
    server
}

/// How Schemathesis ends, and what it says, of a server that is to be as `description` has it.
fn judge(program: &Path, description: &Path, server: &Server) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let mut command = Command::new(program);
    command.current_dir(folder.path()).arg("--config-file").arg(config).arg("run").arg(description);
    let url = format!("http://{}", server.admin());
    command.args(["--url", &url, "--exclude-path", "/v1/events", "--no-color"]);
    command.args(["--seed", "7", "--max-examples", "40", "--no-shrink", "--warnings", "off"]);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn schemathesis_finds_the_port_as_it_is_described() {
    let Some(program) = schemathesis() else { return };
    let server = demo().await;
    let (is_content, said) = judge(&program, &root().join("config/openapi.json"), &server);
    assert!(is_content, "{said}");
    assert!(said.contains("12 selected / 13 total"), "{said}");

    // It would find it: here a field has another type, and another one is not described.
    let mut other: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = other["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| path == "/v1/nodes" || path == "/v1/events");
    let fields = other["components"]["schemas"]["Node"]["properties"].as_object_mut().unwrap();
    fields.remove("address");
    fields["name"]["type"] = "integer".into();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.json");
    std::fs::write(&path, other.to_string()).unwrap();
    let (is_content, said) = judge(&program, &path, &server);
    assert!(!is_content && said.contains("is not of type \"integer\""), "{said}");
}

/// The same where there is a Consul, as watches are there then, and a name is nowhere.
#[tokio::test]
async fn what_a_consul_brings_is_as_it_is_described() {
    let Some(program) = schemathesis() else { return };
    let consul = stage::consul(&["web", "db"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    // The scripted Consul lives on this runtime.
    let judging = tokio::task::spawn_blocking(move || {
        judge(&program, &root().join("config/openapi.json"), &server)
    });
    let (is_content, said) = judging.await.unwrap();
    assert!(is_content, "{said}");
}

/// Each route is described, and served is what is in the file.
#[tokio::test]
async fn all_of_the_port_is_described() {
    let server = demo().await;
    let url = |path: &str| format!("http://{}{path}", server.admin());
    let reply = reqwest::get(url("/v1/openapi.json")).await.unwrap();
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert_eq!(reply.text().await.unwrap(), OPENAPI);

    let described: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(described["openapi"], "3.1.0");
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    let described: BTreeSet<&str> =
        described["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let source = std::fs::read_to_string(root().join("src/admin/mod.rs")).unwrap();
    let routes = source.split(".route(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
    assert_eq!(described, routes.collect());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// More is read than the patterns of the description have: escapes in names, types by any of their
/// names.
const CONFIG: &str = r#"
[[operations]]
include-path = "/v1/explain"
checks.negative_data_rejection.enabled = false
"#;
