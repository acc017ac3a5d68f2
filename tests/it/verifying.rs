//! `fingerpost verify`: what a running server answers is what Consul has, or a line says where not.

use std::net::{SocketAddr, TcpListener};

use serde_json::json;

use crate::support::consul::Consul;
use crate::support::fake_consul::Reply;
use crate::support::program::{ANY_PORT, Program};
use crate::support::stage::{self, NODES, SERVICES, fill, health, instances, list, nodes};
use crate::support::wait::eventually;

/// Status, standard output and standard error of a run.
async fn verify(consul: &str, server: SocketAddr, more: &[&str]) -> (Option<i32>, String, String) {
    let server = server.to_string();
    let args = [&["verify", "--consul", consul, "--server", &server], more].concat();
    // What is fetched on demand is not old for long.
    let mut program = Program::start(&args, &[("FINGERPOST_CACHE_KEPT", "1s")]);
    let status = program.status().await;
    (status, program.stdout(), program.stderr())
}

/// `serve` in front of `consul`, ready.
async fn serve(consul: &str, env: &[(&str, &str)]) -> Program {
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", consul];
    let program = Program::start(&args, env);
    program.ready().await;
    program
}

fn same(text: &str) -> (Option<i32>, String, String) {
    (Some(0), text.to_owned(), ONE_SIDED.to_owned())
}

#[tokio::test]
async fn a_server_in_front_of_a_real_consul_has_no_differences() {
    let Some(consul) = Consul::start().await else { return };
    for (node, address, service) in [
        ("n1", "10.0.0.1", json!({ "Service": "web", "Port": 80, "Tags": ["v1", "a.b"] })),
        ("n2.rack", "fd00::2", json!({ "Service": "web", "Address": "10.9.9.9", "Port": 81 })),
        ("n3", "host.example.com", json!({ "Service": "ext", "Port": 443 })),
        ("n4", "host2.example.com", json!({ "Service": "ext", "Port": 443 })),
        ("n5", "web.service.consul", json!({ "Service": "alias", "Port": 80 })),
        ("n6", "10.0.0.6", json!({ "Service": "no.name", "Port": 80 })),
    ] {
        let registration = json!({ "Node": node, "Address": address, "Service": service });
        consul.register(registration).await;
    }
    consul
        .register(json!({ "Node": "n7", "Address": "10.0.0.7", "Service": { "Service": "ill" } }))
        .await;
    consul.set_check("n7", Some("ill"), "c", "critical").await;
    let (url, limit) = (consul.url(""), [("FINGERPOST_DNS_CONFIG_A_RECORD_LIMIT", "1")]);
    let server = serve(&url, &[]).await;
    // consul, web, ext, alias and ill; the six nodes and the agent's.
    let told = "verified 5 services and 8 nodes of dc1: no differences\n";
    assert_eq!(verify(&url, server.dns_address().await, &[]).await, same(told));

    // A limit is a part of the answer that both know of; to one who does not it is a difference.
    let limited = serve(&url, &limit).await;
    let address = limited.dns_address().await.to_string();
    let args = ["verify", "--consul", &url, "--server", &address];
    let mut knowing = Program::start(&args, &limit);
    assert_eq!((knowing.status().await, &*knowing.stdout()), (Some(0), told));
    let (status, out, _) = verify(&url, limited.dns_address().await, &[]).await;
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("web.service.dc1.consul. A: only in consul: 10."), "{out}");
}

#[tokio::test]
async fn each_difference_is_a_line() {
    let consul = stage::consul(&["db", "web"]).await;
    let server = serve(&consul.url(), &[("FINGERPOST_CACHE_CHECK_EVERY", "0")]).await;
    let address = server.dns_address().await;
    let told = "verified 2 services and 1 node of dc1: no differences\n";
    assert_eq!(verify(&consul.url(), address, &[]).await, same(told));

    // The server's watch is deaf from here on, and Consul has another address.
    let blocking = async || {
        let asked = consul.requests_for(&health("web"));
        asked.iter().any(|request| request.query.contains_key("index"))
    };
    eventually("web is watched", blocking).await;
    consul.script(&health("web"), Reply::hang());
    fill(&consul, 11, "web", "10.0.0.9");
    let told = "web.service.dc1.consul. A: only in consul: 10.0.0.9; only here: 10.0.0.1\n\
                web.service.dc1.consul. SRV: only in consul: 1 1 80 0a000009.addr.dc1.consul.; \
                only here: 1 1 80 0a000001.addr.dc1.consul.\n\
                verified 2 services and 1 node of dc1: 2 differences\n";
    let (status, out, err) = verify(&consul.url(), address, &[]).await;
    assert_eq!((status, &*out), (Some(1), told));
    assert_eq!(err, format!("{ONE_SIDED}2 answers differ; looking again for up to 3 s\n"));
}

#[tokio::test]
async fn what_consul_has_no_more_is_found_by_the_servers_metrics() {
    let consul = stage::consul(&["db", "web"]).await;
    let server = serve(&consul.url(), &[("FINGERPOST_CACHE_CHECK_EVERY", "0")]).await;
    // Another Consul, as if this one had lost what the server still has.
    let other = stage::consul(&["web"]).await;
    fill(&other, 10, "db", "10.0.0.1");
    let (dns, admin) = (server.dns_address().await, server.admin_address().await);
    let told = "verified 1 service and 1 node of dc1: no differences\n";
    assert_eq!(verify(&other.url(), dns, &[]).await, same(told));
    let admin = admin.to_string();
    let (status, out, _) = verify(&other.url(), dns, &["--admin", &admin]).await;
    let told = "db.service.dc1.consul. A: only in consul: NXDOMAIN; only here: 10.0.0.1\n\
                db.service.dc1.consul. SRV: only in consul: NXDOMAIN; \
                only here: 1 1 80 0a000001.addr.dc1.consul.\n\
                db.service.dc1.consul. AAAA: only in consul: NXDOMAIN; only here: NODATA\n\
                verified 1 service and 1 node of dc1: 3 differences\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!((status, sorted(&out)), (Some(1), sorted(told)));
}

#[tokio::test]
async fn a_change_in_between_is_no_difference() {
    // The server hears of this one, which has moved on.
    let consul = stage::consul(&["web"]).await;
    nodes(&consul, 11, &[("n2", "10.0.0.2")]);
    fill(&consul, 11, "web", "10.0.0.9");
    let server = serve(&consul.url(), &[]).await;
    // It is compared with what is old at the first look.
    let old = stage::consul(&["db", "web"]).await;
    old.script(SERVICES, Reply::ok(10, &json!({ "db": [], "web": ["v1"] })));
    old.script(NODES, Reply::ok(10, &json!([{ "Node": "n1", "Address": "10.0.0.1" }])));
    old.script(&health("db"), Reply::ok(10, &instances("db", "10.0.0.1")));
    old.script(&health("web"), Reply::ok(10, &instances("web", "10.0.0.1")));
    list(&old, 11, &["web"]);
    nodes(&old, 11, &[("n2", "10.0.0.2")]);
    fill(&old, 11, "db", "10.0.0.1");
    fill(&old, 11, "web", "10.0.0.9");
    let (status, out, err) = verify(&old.url(), server.dns_address().await, &[]).await;
    let told = "verified 2 services and 1 node of dc1: no differences\n";
    assert_eq!((status, &*out), (Some(0), told), "{err}");
    // Of db and of n1 all types, NXDOMAIN here; of web A and SRV.
    assert_eq!(err, format!("{ONE_SIDED}8 answers differ; looking again for up to 3 s\n"));
}

#[tokio::test]
async fn what_cannot_be_verified_is_status_2() {
    let consul = stage::consul(&["web"]).await;
    let server = serve(&consul.url(), &[]).await;
    let address = server.dns_address().await;
    let nobody = TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    for (url, server, more, said) in [
        (&*consul.url(), nobody, &[][..], "cannot ask the server at 127.0.0.1:"),
        (
            &format!("http://{nobody}"),
            address,
            &[],
            &format!("cannot ask Consul at http://{nobody}: cannot reach consul"),
        ),
        (&consul.url(), address, &["--datacenter", "dc9"], "Consul knows no datacenter dc9\n"),
    ] {
        let (status, out, err) = verify(url, server, more).await;
        assert_eq!((status, &*out), (Some(2), ""), "{err}");
        assert!(err.starts_with(said), "{err}");
    }
    let args = ["verify", "--consul", &consul.url(), "--server", &address.to_string()];
    let mut other = Program::start(&args, &[("FINGERPOST_DOMAIN", "example.com")]);
    assert_eq!(other.status().await, Some(2));
    assert_eq!(other.stderr(), "the server does not answer for example.com\n");
}

#[tokio::test]
async fn another_datacenter_is_verified_where_it_is_named() {
    let consul = stage::consul(&["web"]).await;
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1", "dc2"]));
    let server = serve(&consul.url(), &[]).await;
    let address = server.dns_address().await;
    let more = ["--datacenter", "dc1", "--datacenter", "DC2"];
    let (status, out, _) = verify(&consul.url(), address, &more).await;
    let told = "verified 1 service and 1 node of dc1: no differences\n\
                verified 1 service and 1 node of dc2: no differences\n";
    assert_eq!((status, &*out), (Some(0), told));
}

/// Where no admin port is named beside the server.
const ONE_SIDED: &str =
    "what Consul has no more is not looked for: say with --admin where to ask\n";
