//! A snapshot file of an agent that is in another datacenter now, or in another cluster.

use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::dns::addresses;
use crate::support::fake_consul::FakeConsul;
use crate::support::program::Program;
use crate::support::stage;
use crate::support::wait::eventually;
use crate::warm::ground::{Ground, get, told};
use crate::warm::make_older;

/// More services than `guard.least`.
const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// A file of a cluster with `NAMES`, in which nothing is held back for less than a test lasts.
async fn ground() -> Ground {
    let consul = stage::consul(&NAMES).await;
    let mut ground = Ground::new(&consul.url());
    ground.set("FINGERPOST_CONSUL_CONNECTIONS_MAX", "80");
    ground.set("FINGERPOST_GUARD_HOLD", "1h");
    let mut program = ground.serve().await;
    for name in NAMES {
        ground.holds(&format!("\"name\":\"{name}\",\"instances\"")).await;
    }
    program.signal("KILL");
    program.status().await;
    ground
}

/// Starts a program on the file that asks `consul`, and waits until that is heard.
async fn serve(ground: &mut Ground, consul: &FakeConsul) -> Program {
    ground.url = consul.url();
    let program = ground.serve().await;
    let is_heard = async || get(&program, "ready").await.1 == "ready\n";
    eventually("Consul is heard", is_heard).await;
    program
}

async fn is_denied(program: &Program, name: &str) -> bool {
    told(program, name, RecordType::A).await.0.starts_with("NXDOMAIN")
}

#[tokio::test]
async fn in_another_datacenter_its_own_names_are_meant_and_the_others_are_old() {
    let mut ground = ground().await;
    let consul = stage::consul(&["a", "new"]).await;
    consul.set("/v1/agent/self", 2, &json!({ "Config": { "Datacenter": "dc2" } }));
    consul.set("/v1/catalog/datacenters", 2, &json!(["dc2"]));
    stage::fill(&consul, 11, "a", "10.0.0.9");
    // Nobody there knows of it.
    consul.silence("dc1");
    let program = serve(&mut ground, &consul).await;
    let server = program.dns_address().await;
    let is_new = async || addresses(server, "a.service.consul").await == ["10.0.0.9"];
    eventually("a is that of dc2", is_new).await;
    let (text, code) = told(&program, "a.service.consul", RecordType::A).await;
    assert_eq!((&*text, code), ("NOERROR aa rd\nanswer a.service.consul. 0 IN A 10.0.0.9", None));
    assert_eq!(addresses(server, "new.service.dc2.consul").await, ["10.0.0.1"]);
    assert!(is_denied(&program, "l.service.consul").await, "dc2 has none");
    // What the file has of dc1 is known for a while, as of a datacenter that is out of reach.
    let (text, code) = told(&program, "l.service.dc1.consul", RecordType::A).await;
    assert_eq!(text, "NOERROR aa rd\nanswer l.service.dc1.consul. 1 IN A 10.0.0.1");
    assert_eq!(code.as_deref(), Some("3"));
    ground.holds("[{\"name\":\"dc2\"").await;
}

#[tokio::test]
async fn in_another_cluster_what_was_right_just_now_is_held_back() {
    let mut ground = ground().await;
    let consul = stage::consul(&["consul", "new"]).await;
    let program = serve(&mut ground, &consul).await;
    let server = program.dns_address().await;
    let is_new = async || addresses(server, "new.service.consul").await == ["10.0.0.1"];
    eventually("new is known", is_new).await;
    // That may be a cluster that was emptied, whoever has been registered again.
    assert_eq!(addresses(server, "l.service.consul").await, ["10.0.0.1"]);
}

#[tokio::test]
async fn in_another_cluster_what_was_right_long_ago_is_gone() {
    let mut ground = ground().await;
    make_older(&ground.file());
    let consul = stage::consul(&["consul", "new"]).await;
    let program = serve(&mut ground, &consul).await;
    let is_gone = async || is_denied(&program, "l.service.consul").await;
    eventually("l is denied", is_gone).await;
    assert_eq!(addresses(program.dns_address().await, "new.service.consul").await, ["10.0.0.1"]);
}
