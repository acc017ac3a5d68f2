//! From a situation to the sentence that is said of it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::*;
use crate::answer::{Transport, Turn};
use crate::catalog::model::{Address, Health, Instance, Node, Weights, WorstCheck};
use crate::catalog::{Builder, Change, Held, Rules, Usage};
use crate::explain::instances::LISTED_MAX;
use crate::name::Zone;
use crate::wire::rtype;

/// An instance of `web`: `n1 10.0.0.1 v1` and what its checks say: `passing`, `warning`, `critical`.
fn instance(text: &str) -> Instance {
    let words: Vec<&str> = text.split(' ').collect();
    let [node, address, tag, health] = words[..] else { panic!("{text}") };
    let address = Address::from_text(address).unwrap();
    let mut instance = Instance {
        id: format!("web-{node}"),
        node: Node::new(node.to_owned(), address),
        address: None,
        port: 80,
        ports: Vec::new(),
        tagged: None,
        tags: vec![tag.to_owned()],
        weights: Weights::default(),
        health: Health::Passing,
        worst: None,
    };
    let (id, name) = ("service:web".to_owned(), "web answers".to_owned());
    instance.judge([(Health::from_status(health), WorstCheck { id, name, is_of_node: false })]);
    instance
}

/// A catalogue of `web` with these instances in dc1, of `db` without any, and of `api` in dc2.
fn snapshot(only_passing: bool, instances: &[&str]) -> Snapshot {
    let service_ttl_secs = vec![("w*".to_owned(), 7)];
    let rules =
        Rules { only_passing, service_ttl_secs, ..Rules::new(Zone::new("consul").unwrap()) };
    let mut builder = Builder::new(rules, 1, 9, Arc::new(Usage::new(1, false)));
    let (local, names) = ("dc1".to_owned(), vec!["dc1".to_owned(), "dc2".to_owned()]);
    builder.apply(Change::Datacenters { local, names });
    for (datacenter, services) in [("dc1", &["db", "web"][..]), ("dc2", &["api"])] {
        let listing = services.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        builder.apply(Change::Services { datacenter: datacenter.to_owned(), listing });
        let nodes = vec![Node::new("n1".to_owned(), Address::Ip([10, 0, 0, 1].into()))];
        builder.apply(Change::Nodes { datacenter: datacenter.to_owned(), nodes });
    }
    for (service, instances) in [("web", instances), ("db", &[])] {
        builder.apply(Change::Service {
            datacenter: "dc1".to_owned(),
            form: Form::Service,
            service: service.to_owned(),
            instances: instances.iter().map(|text| instance(text)).collect(),
            held: Held::Watched,
            executed: None,
        });
    }
    builder.snapshot()
}

fn query(name: &str, qtype: u16, payload: u16) -> Vec<u8> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(payload > 0)];
    for label in name.split('.').chain([""]) {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&qtype.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    if payload > 0 {
        query.extend_from_slice(&[0, 0, 41]);
        query.extend_from_slice(&payload.to_be_bytes());
        query.extend_from_slice(&[0; 6]);
    }
    query
}

fn asked(bytes: &[u8]) -> Asked<'_> {
    Asked {
        bytes,
        transport: Transport::Udp,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        local: None,
        seed: 7,
        now_ms: 90_000,
        turn: Turn::Last,
        near: None,
        hosts: &[],
    }
}

fn explained(snapshot: &Snapshot, name: &str, qtype: u16, payload: u16) -> Explanation {
    let policy = Policy::new(Zone::new("consul").unwrap());
    explain(snapshot, &policy, &asked(&query(name, qtype, payload))).unwrap()
}

#[track_caller]
fn check(snapshot: &Snapshot, name: &str, qtype: u16, summary: &str, hints: &[&str]) {
    let explanation = explained(snapshot, name, qtype, 1232);
    assert_eq!(explanation.summary, summary, "{name}");
    assert_eq!(explanation.hints, hints, "{name}");
}

const THREE: [&str; 3] =
    ["n1 10.0.0.1 v1 passing", "n2 10.0.0.2 v2 warning", "n3 fd00::3 v2 passing"];

#[test]
fn names_that_there_are_not() {
    let here = snapshot(false, &THREE);
    let missing = |text: &str| format!("NXDOMAIN: {text}.");
    for (name, summary, hints) in [
        ("wbe.service.consul", "dc1 has no service \"wbe\"; it has 2", &["Is \"web\" meant?"][..]),
        (
            "api.service.consul",
            "dc1 has no service \"api\"; it has 2",
            &["There is a service \"api\" in: dc2."],
        ),
        (
            "web.dc9.consul",
            "there is no datacenter \"dc9\"; there are: dc1, dc2",
            &["Is \"dc1\" meant?"],
        ),
        (
            "v1.web.consul",
            "there is no datacenter \"web\"; there are: dc1, dc2",
            &["\"web\" is a service of dc1: is v1.web.service meant?"],
        ),
        (
            "v3.web.service.consul",
            "no instance of \"web\" has the tag \"v3\"; there are: \"v1\", \"v2\"",
            &["Is \"v1\" meant?"],
        ),
        ("db.service.consul", "\"db\" is listed, and has no instances", &[]),
        ("n2.node.consul", "dc1 has no node \"n2\"; it has 1", &["Is \"n1\" meant?"]),
        ("xyz.addr.consul", "the label left of `addr` is no address", &[]),
        (
            "web.consul",
            "\"web\" is no datacenter; there are: dc1, dc2",
            &["For a service, ask for web.service or web.dc1."],
        ),
    ] {
        check(&here, name, rtype::A, &missing(summary), hints);
    }
}

#[test]
fn nothing_healthy() {
    let critical = "1 critical (the service's check \"web answers\")";
    let here = snapshot(true, &["n1 10.0.0.1 v1 critical", "n2 10.0.0.2 v2 warning"]);
    let warning = "1 warning (the service's check \"web answers\"), \
                   and dns_config.only_passing is set";
    let summary = format!(
        "NXDOMAIN: \"web\" has 2 instances, and none may be answered with: {critical}; {warning}."
    );
    check(&here, "web.service.consul", rtype::A, &summary, &[]);
    let here = snapshot(false, &["n1 10.0.0.1 v1 critical", "n2 10.0.0.2 v2 passing"]);
    let summary = format!(
        "NXDOMAIN: 1 instance of \"web\" with the tag \"v1\", and none may be answered with: {critical}."
    );
    check(&here, "v1.web.service.consul", rtype::A, &summary, &[]);
    let summary = format!("NOERROR: 1 of 2 instances in the answer, 1 out: {critical}.");
    check(&here, "web.service.consul", rtype::A, &summary, &[]);
}

#[test]
fn records_of_another_type() {
    let here = snapshot(false, &["n1 10.0.0.1 v1 passing"]);
    let summary = "NOERROR: the name exists, and has no AAAA record: 1 without an IPv6 address.";
    let hints = ["It has records of type A, SRV."];
    check(&here, "web.service.consul", rtype::AAAA, summary, &hints);
    let mixed = snapshot(false, &THREE);
    let summary = "NOERROR: 2 of 3 instances in the answer, 1 out: 1 without an IPv4 address.";
    check(&mixed, "web.service.consul", rtype::A, summary, &[]);
}

#[test]
fn what_does_not_fit() {
    let many: Vec<String> = (1..=100).map(|at| format!("n{at} 10.0.1.{at} v1 passing")).collect();
    let here = snapshot(false, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let summary = "NOERROR: 74 of 100 instances in the answer; 26 not in this reply: \
                   did not fit: 74 of 100 records did; TCP has them all.";
    let hint = "A reply to this client holds 1232 bytes over UDP; TC tells it to ask over TCP.";
    check(&here, "web.service.consul", rtype::A, summary, &[hint]);
    let instances = explained(&here, "web.service.consul", rtype::SRV, 1232).instances.unwrap();
    let Instances { total, answered, cut, .. } = instances;
    assert_eq!((total, answered + cut), (100, 100));
    // Without EDNS few are given, and no TC says so, as in Consul.
    let few = explained(&here, "web.service.consul", rtype::A, 0);
    let reply = few.reply.unwrap();
    assert_eq!((reply.answers.len(), reply.is_truncated()), (3, false), "{}", few.summary);
    assert!(
        few.summary.ends_with(
            "dns_config.udp_answer_limit, of 8 at most, is 3 for replies of up to 512 bytes."
        ),
        "{}",
        few.summary
    );
}

#[test]
fn nothing_heard_yet() {
    let nothing = Snapshot::default();
    let summary = "SERVFAIL: the lists have not been heard in full yet, so nothing can be denied.";
    check(
        &nothing,
        "web.service.consul",
        rtype::A,
        summary,
        &["The log says what Consul answers, /ready what is waited for."],
    );
}

#[test]
fn what_is_old_says_so() {
    let rules = Rules::new(Zone::new("consul").unwrap());
    let mut builder = Builder::new(rules, 1, 9, Arc::new(Usage::new(1, false)));
    let dc1 = || "dc1".to_owned();
    builder.apply(Change::Datacenters { local: dc1(), names: vec![dc1()] });
    let listing = vec![("web".to_owned(), Vec::new())];
    builder.apply(Change::Services { datacenter: dc1(), listing });
    builder.apply(Change::Service {
        datacenter: dc1(),
        form: Form::Service,
        service: "web".to_owned(),
        instances: vec![instance("n1 10.0.0.1 v1 passing")],
        held: Held::Failing { since_ms: 30_000 },
        executed: None,
    });
    let here = builder.snapshot();
    let summary = "NOERROR: 1 of 1 instance in the answer.";
    let hint = "Stale: Consul has not borne it out for 60 s; the last good answer is given.";
    check(&here, "web.service.consul", rtype::A, summary, &[hint]);
    let ttl = explained(&here, "web.service.consul", rtype::A, 0).ttl.unwrap();
    assert_eq!((ttl.secs, ttl.from.contains("RFC 8767")), (1, true));
}

#[test]
fn where_ttls_come_from() {
    let here = snapshot(false, &THREE);
    for (name, qtype, expected) in [
        ("web.service.consul", rtype::A, "7 dns_config.service_ttl, key \"w*\""),
        ("n1.node.consul", rtype::A, "0 dns_config.node_ttl (0 where it is not set)"),
        ("consul", rtype::SOA, "0 dns_config.soa.min_ttl"),
        ("wbe.service.consul", rtype::A, "0 dns_config.soa.min_ttl"),
    ] {
        let ttl = explained(&here, name, qtype, 1232).ttl.unwrap();
        assert_eq!(format!("{} {}", ttl.secs, ttl.from), expected, "{name}");
    }
}

#[test]
fn names_of_others() {
    let here = snapshot(false, &THREE);
    let summary = "REFUSED: not a zone of this server.";
    let hints = ["Other names are answered where `recursors` is set."];
    check(&here, "www.example.com", rtype::A, summary, &hints);
}

/// Reasons are looked for among all, and few are listed.
#[test]
fn of_thousands_of_instances() {
    let address = |at: usize| format!("10.1.{}.{}", at / 250, at % 250);
    let text = |at: usize| {
        let health = if at.is_multiple_of(2) { "critical" } else { "passing" };
        format!("n{at} {} t{at} {health}", address(at))
    };
    let many: Vec<String> = (1..=3_000).map(text).collect();
    let here = snapshot(false, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let critical = "1 critical (the service's check \"web answers\")";
    let summary = format!(
        "NXDOMAIN: 1 instance of \"web\" with the tag \"t2998\", and none may be answered with: {critical}."
    );
    check(&here, "t2998.web.service.consul", rtype::A, &summary, &[]);
    let explanation = explained(&here, "web.service.consul", rtype::A, 1232);
    let expected = "NOERROR: 74 of 3000 instances in the answer, 1500 out: 1500 critical \
                    (the service's check \"web answers\"); 1426 not in this reply: did not fit: 74 of \
                    1500 records did; TCP has them all.";
    assert_eq!(explanation.summary, expected);
    let instances = explanation.instances.unwrap();
    assert_eq!((instances.listed.len(), instances.left_off), (LISTED_MAX, 2_000));
}

/// Whoever registers a service may write what he likes.
#[test]
fn what_was_registered_draws_nothing_on_a_terminal() {
    let rules = Rules::new(Zone::new("consul").unwrap());
    let mut builder = Builder::new(rules, 1, 9, Arc::new(Usage::new(1, false)));
    let dc1 = || "dc1".to_owned();
    builder.apply(Change::Datacenters { local: dc1(), names: vec![dc1()] });
    builder.apply(Change::Services {
        datacenter: dc1(),
        listing: vec![("web".to_owned(), Vec::new())],
    });
    let evil = "a\u{1b}[2J\n  in   b".to_owned();
    let mut instance = instance("n1 10.0.0.1 v1 critical");
    (instance.id, instance.tags) = (evil.clone(), vec![evil.clone()]);
    instance.node.name.clone_from(&evil);
    instance.worst = Some(Box::new(WorstCheck { id: evil.clone(), name: evil, is_of_node: true }));
    builder.apply(Change::Service {
        datacenter: dc1(),
        form: Form::Service,
        service: "web".to_owned(),
        instances: vec![instance],
        held: Held::Watched,
        executed: None,
    });
    let explanation = explained(&builder.snapshot(), "web.service.consul", rtype::A, 1232);
    let text = explanation.to_string();
    assert!(text.contains("out  a\\u{1b}[2J\\n  in   b on a"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("\n  in "), "{text}");
}

/// The text of an explanation says nothing of a name that there is not.
#[test]
fn names_that_were_probably_meant() {
    let here = snapshot(false, &THREE);
    for (name, hint) in [
        ("web.service", "Is web.service.consul. meant?"),
        ("web", "Is web.service.consul. meant?"),
        ("web.dc1", "Is web.dc1.consul. meant?"),
    ] {
        let explanation = explained(&here, name, rtype::A, 1232);
        assert_eq!(explanation.hints.first().map(String::as_str), Some(hint), "{name}");
    }
    let text = explained(&here, "wbe.service.consul", rtype::A, 1232).to_string();
    assert!(!text.contains("found "), "{text}");
}
