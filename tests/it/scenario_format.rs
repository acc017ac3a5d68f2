//! The scenario files themselves: what they say, what is refused, how replies are compared.

use std::path::Path;

use fingerpost::catalog::change::{Change, Held};
use fingerpost::catalog::model::{Address, Instance, Node, Weights};

use crate::support::expectation::{Count, Expected, Reply, Section, Sections};
use crate::support::scenario::question::Edns;
use crate::support::scenario::words::OPTIONS;
use crate::support::scenario::{Question, Scenario};

#[test]
fn a_scenario_is_a_catalogue_and_queries() {
    let text = "
; A comment.
local east
datacenter west
node web-1 10.0.0.1
node web-1 fd00::1 in west
service web on web-1 port 80 address www.example.com tag v1 tag a.b weights 10 3 passing
service web on web-1 in west id w2 warning ; to the end of the line
check on web-1 in west critical
option service_ttl we* 7
option only_passing

query WEB.service.consul SRV edns 1232 tcp
reply NOERROR aa rd
answer WEB.service.consul. 0 IN SRV   1 10 80 www.example.com.
count additional 0..2
query x.consul A class CH
reply REFUSED rd
";
    let scenario = Scenario::parse("a_claim.txt", text).unwrap();
    assert_eq!(scenario.name, "a_claim");
    let changes: Vec<String> = scenario.changes.iter().map(render).collect();
    assert_eq!(
        changes,
        [
            r#"datacenters ["east", "west"] local east"#,
            r#"east services [("web", ["a.b", "v1"])]"#,
            r#"east nodes ["web-1=10.0.0.1"]"#,
            "east service web [web on web-1=10.0.0.1 at www.example.com:80 [\"v1\", \"a.b\"] \
             10/3 Passing]",
            r#"west services [("web", [])]"#,
            r#"west nodes ["web-1=fd00::1"]"#,
            "west service web [w2 on web-1=fd00::1 at -:0 [] 1/1 Critical]",
        ]
    );
    let values = |words: &[&str]| -> Vec<String> { words.iter().map(|&w| w.to_owned()).collect() };
    let (ttl, only) = ("service_ttl".to_owned(), "only_passing".to_owned());
    assert_eq!(scenario.options, [(ttl, values(&["we*", "7"])), (only, values(&[]))]);

    let [first, second] = &scenario.cases[..] else { panic!("{:?}", scenario.cases) };
    assert_eq!((first.line, second.line), (13, 17));
    assert_eq!(first.query, question("WEB.service.consul", "SRV", Some(1232), "IN"));
    assert_eq!(second.query, question("x.consul", "A", None, "CH"));
    let expected = &first.expected;
    assert_eq!(
        (expected.rcode.as_str(), &expected.flags[..]),
        ("NOERROR", &values(&["aa", "rd"])[..])
    );
    let srv = "WEB.service.consul. 0 IN SRV 1 10 80 www.example.com.";
    assert_eq!(expected.sections, Sections { answer: values(&[srv]), ..Sections::default() });
    assert_eq!(expected.counts, [Count { section: Section::Additional, min: 0, max: 2 }]);
    let expected = &second.expected;
    assert_eq!((expected.rcode.as_str(), &expected.flags[..]), ("REFUSED", &values(&["rd"])[..]));
    assert_eq!((&expected.sections, &expected.counts[..]), (&Sections::default(), &[][..]));
}

/// A question; the one with EDNS goes over TCP.
fn question(name: &str, qtype: &str, edns: Option<u16>, class: &str) -> Question {
    let (name, qtype, class) = (name.to_owned(), qtype.to_owned(), class.to_owned());
    let edns = edns.map(|payload| Edns { payload, ..Edns::default() });
    Question { name, qtype, tcp: edns.is_some(), edns, class, opcode: 0 }
}

/// A change in a short written form.
fn render(change: &Change) -> String {
    match change {
        Change::Datacenters { local, names } => format!("datacenters {names:?} local {local}"),
        Change::Nodes { datacenter, nodes } => {
            let nodes: Vec<String> = nodes.iter().map(render_node).collect();
            format!("{datacenter} nodes {nodes:?}")
        }
        Change::Service { datacenter, service, instances, held: Held::Watched, .. } => {
            let instances: Vec<String> = instances.iter().map(render_instance).collect();
            format!("{datacenter} service {service} [{}]", instances.join(", "))
        }
        Change::Services { datacenter, listing } => format!("{datacenter} services {listing:?}"),
        other => format!("{other:?}"),
    }
}

fn render_instance(instance: &Instance) -> String {
    let Instance { id, node, address, port, tags, weights, health, .. } = instance;
    let address = address.as_ref().map_or_else(|| "-".to_owned(), render_address);
    let (node, Weights { passing, warning }) = (render_node(node), weights);
    format!("{id} on {node} at {address}:{port} {tags:?} {passing}/{warning} {health:?}")
}

fn render_node(node: &Node) -> String {
    format!("{}={}", node.name, render_address(&node.address))
}

fn render_address(address: &Address) -> String {
    match address {
        Address::Host(host) => host.clone(),
        Address::Ip(ip) => ip.to_string(),
    }
}

#[test]
fn a_source_that_said_nothing_makes_no_change() {
    let scenario = Scenario::parse("x", "unsynced\nquery consul A\nreply SERVFAIL").unwrap();
    assert!(scenario.changes.is_empty());
}

#[test]
fn a_source_may_have_said_everything() {
    let scenario = Scenario::parse("x", "whole\nquery consul A\nreply NOERROR").unwrap();
    let last = scenario.changes.last();
    assert!(matches!(last, Some(Change::Whole { datacenter }) if datacenter == "dc1"), "{last:?}");
}

#[test]
fn what_is_there_may_be_old() {
    let text = "datacenter dc2\nloaded 7\naway in dc2 60\nquery consul A\nreply NOERROR";
    let scenario = Scenario::parse("x", text).unwrap();
    let [.., loaded, away] = &scenario.changes[..] else { panic!("{:?}", scenario.changes) };
    let is_loaded = |dc: &str, since_ms: i64| dc == "dc1" && since_ms == -7_000;
    let is_away = |dc: &str, since_ms: Option<i64>| dc == "dc2" && since_ms == Some(-60_000);
    assert!(
        matches!(loaded, Change::Loaded { datacenter, since_ms } if is_loaded(datacenter, *since_ms))
    );
    assert!(
        matches!(away, Change::Reach { datacenter, cut_off_ms } if is_away(datacenter, *cut_off_ms))
    );
}

#[test]
fn edns_and_opcodes_are_written_out() {
    let text = "query x.consul A edns 512 version 1 do option 10 option 12 tcp opcode 4
                reply BADVERS rd
                opt 1232 do ede 3";
    let case = &Scenario::parse("x", text).unwrap().cases[0];
    let options = vec![10, 12];
    let edns = Edns { payload: 512, version: 1, dnssec_ok: true, options, ..Edns::default() };
    assert_eq!(case.query.edns, Some(edns));
    assert_eq!((case.query.tcp, case.query.opcode), (true, 4));
    let (options, ede) = (vec![15], Some(3));
    let opt = Edns { payload: 1232, dnssec_ok: true, options, ede, ..Edns::default() };
    assert_eq!(case.expected.opt, Some(opt));
}

#[test]
fn ranges_run_in_step() {
    let text = "node n-{1..3} 10.0.0.{8..10}\nquery consul A\nreply NOERROR
                answer n-{9..10}.node.consul. 0 IN A 10.0.0.{1..2}";
    let scenario = Scenario::parse("x", text).unwrap();
    let changes: Vec<String> = scenario.changes.iter().map(render).collect();
    assert_eq!(changes[2], r#"dc1 nodes ["n-1=10.0.0.8", "n-2=10.0.0.9", "n-3=10.0.0.10"]"#);
    let answer = &scenario.cases[0].expected.sections.answer;
    let expected = ["n-9.node.consul. 0 IN A 10.0.0.1", "n-10.node.consul. 0 IN A 10.0.0.2"];
    assert_eq!(*answer, expected);
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    let error = Scenario::parse("bad.txt", text).expect_err(text);
    assert_eq!(error.to_string(), expected, "text: {text}");
}

#[test]
fn mistakes_are_named_with_file_and_line() {
    for (text, expected) in [
        ("", "bad.txt:0: no query"),
        ("; x\nfoo bar", "bad.txt:2: unknown word `foo`"),
        ("node n1", "bad.txt:1: ADDRESS is missing"),
        ("node n1 10.0.0.1 in dc2", "bad.txt:1: no datacenter `dc2`"),
        ("node n1 10.0.0.1\nnode n1 10.0.0.1", "bad.txt:2: node `n1` is there already"),
        ("node n1 10.0.0.1 extra", "bad.txt:1: `extra` is too much"),
        ("service web n1 passing", "bad.txt:1: `on` is missing"),
        ("service web on n1 passing", "bad.txt:1: no node `n1` in dc1"),
        ("node n1 ::1\nservice web on n1", "bad.txt:2: STATUS is missing"),
        ("node n1 ::1\nservice web on n1 fine", "bad.txt:2: no status: `fine`"),
        (
            "node n1 ::1\nservice web on n1 port 70000 passing",
            "bad.txt:2: PORT is no number: `70000`",
        ),
        (
            "node n1 ::1\nservice web on n1 passing\nservice web on n1 passing",
            "bad.txt:3: ID `web` is on the node already",
        ),
        ("check on n1 critical", "bad.txt:1: no node `n1` in dc1"),
        ("option ttl 7", "bad.txt:1: unknown option `ttl`"),
        ("option service_ttl 7", "bad.txt:1: `service_ttl` takes 2 values, not 1"),
        ("query consul", "bad.txt:1: TYPE is missing"),
        ("query consul A udp", "bad.txt:1: unknown word `udp`"),
        ("query consul A", "bad.txt:1: the query of line 1 has no reply"),
        ("query consul A\nquery consul A", "bad.txt:2: the query of line 1 has no reply"),
        ("reply NOERROR", "bad.txt:1: no query yet"),
        ("query consul A\nreply NOERROR aaa", "bad.txt:2: unknown flag `aaa`"),
        ("query consul A\nreply NOERROR\nreply NOERROR", "bad.txt:3: a second reply to one query"),
        ("query consul A\nanswer a. 0 IN A 10.0.0.1", "bad.txt:2: no reply yet"),
        (
            "query consul A\nreply NOERROR\nanswer a. 0 IN A",
            "bad.txt:3: a record is NAME TTL CLASS TYPE RDATA",
        ),
        ("query consul A\nreply NOERROR\ncount answers 3", "bad.txt:3: no section `answers`"),
        ("query consul A\nreply NOERROR\ncount answer many", "bad.txt:3: no count: `many`"),
        ("query consul A\nreply NOERROR\ncount answer 3..1", "bad.txt:3: no count: `3..1`"),
        (
            "query consul A\nreply NOERROR\ncount answer 3\ncount answer 4",
            "bad.txt:4: a second count of `answer`",
        ),
        ("node n{1-3} ::1", "bad.txt:1: a range is {FIRST..LAST}"),
        ("node n{3..1} ::1", "bad.txt:1: a range runs upwards"),
    ] {
        check_refused(text, expected);
    }
}

/// Holds a reply of two answers, `x 0 IN A 1` and `x 0 IN A 2`, against `lines`.
#[track_caller]
fn check_comparison(lines: &str, expected: &[&str]) {
    let text = format!("query x A\nreply {}", lines.replace(", ", "\n"));
    let scenario = Scenario::parse("x", &text).unwrap();
    let answer = vec!["x 0 IN A 1".to_owned(), "x 0 IN A 2".to_owned()];
    let reply = Reply {
        opt: None,
        rcode: "NOERROR".to_owned(),
        flags: vec!["rd".to_owned(), "aa".to_owned()],
        sections: Sections { answer, ..Sections::default() },
    };
    assert_eq!(scenario.cases[0].expected.differences(&reply), expected, "lines: {lines}");
}

#[test]
fn replies_and_what_differs_in_them() {
    for (lines, expected) in [
        // the order of flags and records is free
        ("NOERROR aa rd, answer x 0 IN A 2, answer x 0 IN A 1", &[] as &[&str]),
        ("NXDOMAIN aa rd, count answer 2", &["rcode: NOERROR, not NXDOMAIN"]),
        ("NOERROR aa, count answer 2", &[r#"flags: ["aa", "rd"], not ["aa"]"#]),
        (
            "NOERROR aa rd, answer x 0 IN A 1, answer x 0 IN A 3, authority y 0 IN A 1",
            &[
                "answer: missing x 0 IN A 3",
                "answer: unexpected x 0 IN A 2",
                "authority: missing y 0 IN A 1",
            ],
        ),
        // any word, and each line once
        ("NOERROR aa rd, answer x * IN A *, answer x 0 IN A 1", &[]),
        ("NOERROR aa rd, answer x * IN A *", &["answer: unexpected x 0 IN A 2"]),
        (
            "NOERROR aa rd, answer * * * * *, answer * * * * * *",
            &["answer: missing * * * * * *", "answer: unexpected x 0 IN A 2"],
        ),
        // a choice
        ("NOERROR aa rd, count answer 1..3", &[]),
        ("NOERROR aa rd, count answer 2, answer x 0 IN A *", &[]),
        ("NOERROR aa rd, count answer 2, answer x 0 IN A {1..9}", &[]),
        (
            "NOERROR aa rd, count answer 3, answer x 0 IN A 1",
            &["answer: 2 records, not 3", "answer: unexpected x 0 IN A 2"],
        ),
    ] {
        check_comparison(lines, expected);
    }
}

#[test]
fn a_choice_takes_each_record_once() {
    let text = "query x A\nreply NOERROR\ncount answer 2";
    let scenario = Scenario::parse("x", text).unwrap();
    let answer = vec!["x 0 IN A 1".to_owned(); 2];
    let reply = Reply {
        opt: None,
        rcode: "NOERROR".to_owned(),
        flags: Vec::new(),
        sections: Sections { answer, ..Sections::default() },
    };
    let expected: &Expected = &scenario.cases[0].expected;
    assert_eq!(expected.differences(&reply), ["answer: twice x 0 IN A 1"]);
}

#[test]
fn every_scenario_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let scenarios = Scenario::read_all(&folder).unwrap_or_else(|error| panic!("{error}"));
    assert!(!scenarios.is_empty());
    for scenario in &scenarios {
        for (option, values) in &scenario.options {
            assert!(OPTIONS.contains(&(option.as_str(), values.len())), "{}", scenario.name);
        }
    }
}
