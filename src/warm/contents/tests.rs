//! Contents and their text: an example of each thing, and what is refused.

use std::sync::Arc;

use super::*;
use crate::catalog::model::{Address, Health, NamedPort, Tagged, Weights, WorstCheck};
use crate::catalog::{Builder, Executed, Found, Rules, Usage};
use crate::name::Zone;

const DC1: &str = "dc1";

fn builder() -> Builder {
    let rules = Rules::new(Zone::new("consul").unwrap());
    Builder::new(rules, 1, 9, Arc::new(Usage::new(1, false)))
}

fn node(name: &str) -> Node {
    Node::new(name.to_owned(), Address::Ip([10, 0, 0, 1].into()))
}

fn instance(node: Node) -> Instance {
    let (id, name) = ("service:web".to_owned(), "web answers".to_owned());
    let worst = WorstCheck { id, name, is_of_node: false };
    Instance {
        id: "web".to_owned(),
        node,
        address: None,
        port: 80,
        ports: Vec::new(),
        tagged: None,
        tags: vec!["v1".to_owned()],
        weights: Weights { passing: 3, warning: 1 },
        health: Health::Warning,
        worst: Some(Box::new(worst)),
    }
}

fn service(form: Form, name: &str, instances: Vec<Instance>, held: Held) -> Change {
    let executed = (form == Form::Query).then(|| Executed {
        datacenter: "dc2".to_owned(),
        service: "web".to_owned(),
        ttl_secs: Some(7),
        is_sorted: true,
    });
    let (datacenter, service) = (DC1.to_owned(), name.to_owned());
    Change::Service { datacenter, form, service, instances, held, executed }
}

/// Watched and fetched services, one by name alone, and what is in no list.
fn catalogue() -> Builder {
    let mut builder = builder();
    let datacenter = || DC1.to_owned();
    let tagged = Tagged { wan: Address::from_text("198.51.100.1"), ..Tagged::default() };
    let mut full = instance(Node { meta: vec![("k".to_owned(), "v".to_owned())], ..node("n1") });
    full.address = Address::from_text("www.example.com");
    full.ports = vec![NamedPort { name: "http".to_owned(), port: 81 }];
    full.tagged = Some(Box::new(Tagged { wan_port: 9, ..tagged }));
    let held = Held::OnDemand { fetched_ms: 0, fresh_until_ms: 500 };
    let names = [("Web", vec!["v1", "gone"]), ("cold", vec![]), ("one", vec!["v1"])];
    let listing = names.map(|(name, tags)| {
        (name.to_owned(), tags.into_iter().map(str::to_owned).collect::<Vec<_>>())
    });
    for change in [
        Change::Datacenters { local: datacenter(), names: vec!["dc2".to_owned()] },
        Change::Services { datacenter: datacenter(), listing: listing.to_vec() },
        Change::Nodes { datacenter: datacenter(), nodes: vec![node("n1")] },
        service(Form::Service, "web", vec![full], Held::Watched),
        service(Form::Service, "one", vec![instance(node("n1"))], held),
        Change::Owned {
            datacenter: datacenter(),
            service: "cold".to_owned(),
            addresses: vec![([10, 1, 0, 1].into(), "n1".to_owned(), "c".to_owned())],
        },
        service(Form::Query, "geo", vec![instance(node("n1"))], Held::Watched),
        service(Form::Query, "geo\x00192.0.2.0", vec![instance(node("n1"))], Held::Watched),
        service(Form::Connect, "denied", Vec::new(), Held::Watched),
    ] {
        assert!(builder.apply(change));
    }
    builder
}

const TEXT: &str = r#"{"datacenters":[{"name":"dc1","nodes":[{"name":"n1","address":"10.0.0.1"}],"services":[
{"name":"Web","tags":["gone","v1"],"instances":[{"id":"web","node":{"name":"n1","address":"10.0.0.1","meta":[["k","v"]]},"address":"www.example.com","port":80,"ports":[["http",81]],"tagged":{"addresses":{"wan":"198.51.100.1"},"wan_port":9},"tags":["v1"],"weights":[3,1],"health":"warning","worst":["service:web","web answers",false]}],"settled":false},
{"name":"cold","settled":true,"addresses":[["10.1.0.1","n1","c"]]},
{"name":"one","tags":["v1"],"instances":[{"id":"web","on":"n1","port":80,"tags":["v1"],"weights":[3,1],"health":"warning","worst":["service:web","web answers",false]}],"settled":true,"since_unix_ms":1000}],"unlisted":[
{"name":"geo","form":"query","instances":[{"id":"web","on":"n1","port":80,"tags":["v1"],"weights":[3,1],"health":"warning","worst":["service:web","web answers",false]}],"settled":true,"executed":{"datacenter":"dc2","service":"web","ttl_secs":7,"sorted":true}}]},
{"name":"dc2"}]}"#;

/// The text of version 1: whoever changes it, changes the version, but for keys that may lack.
#[test]
fn a_catalogue_and_its_text() {
    let payload = Contents::of(&catalogue().snapshot(), 1_000).to_payload();
    assert_eq!(String::from_utf8(payload).unwrap(), TEXT.replace('\n', ""));
}

#[test]
fn what_is_fetched_again_and_is_as_it_was_is_written_once_a_minute() {
    let mut builder = catalogue();
    let mut text_at = |fetched_ms| {
        let (datacenter, service) = (DC1.to_owned(), "one".to_owned());
        let held = Held::OnDemand { fetched_ms, fresh_until_ms: fetched_ms + 30_000 };
        assert!(builder.apply(Change::Hold { datacenter, form: Form::Service, service, held }));
        String::from_utf8(Contents::of(&builder.snapshot(), 1_000).to_payload()).unwrap()
    };
    let first = text_at(30_000);
    assert!(first.contains(r#""since_unix_ms":61000"#), "{first}");
    assert_eq!(text_at(31_000), first);
    assert_eq!(text_at(89_999), first);
    assert!(text_at(90_000).contains(r#""since_unix_ms":121000"#));
}

#[test]
fn what_is_read_is_as_old_as_it_says() {
    let contents = Contents::read(TEXT.as_bytes()).unwrap();
    let loading = Loading { start_unix_ms: 10_000, right_ms: -8_000, local: None };
    let mut builder = builder();
    for change in contents.changes(&loading).unwrap() {
        let is_settled = matches!(change, Change::Settle { .. });
        assert!(builder.apply(change.clone()) || is_settled, "{change:?}");
    }
    let snapshot = builder.snapshot();
    let Found::Here(local) = snapshot.datacenter(None) else { panic!("no dc1") };
    assert!(local.is_loaded() && !local.is_heard());
    assert_eq!(local.old_since(List::Services), Some(-8_000));
    for (name, held, awaits) in [
        ("web", Held::Loaded { since_ms: -8_000 }, true),
        ("one", Held::Loaded { since_ms: -9_000 }, false),
    ] {
        let Found::Here(service) = local.service(name.as_bytes()) else { panic!("no {name}") };
        assert_eq!((service.held, service.awaits(b"gone")), (held, awaits), "{name}");
    }
}

#[test]
fn the_datacenter_that_is_meant_may_be_another() {
    let contents = Contents::read(TEXT.as_bytes()).unwrap();
    for (local, expected) in [(None, "dc1"), (Some("dc2"), "dc2"), (Some("dc3"), "dc3")] {
        let loading = Loading { start_unix_ms: 0, right_ms: 0, local };
        let changes = contents.changes(&loading).unwrap();
        let Some(Change::Datacenters { local, .. }) = changes.first() else {
            panic!("{changes:?}")
        };
        assert_eq!(local, expected);
    }
}

#[test]
fn what_no_catalogue_can_say_is_refused() {
    for (payload, expected) in [
        ("", "it is damaged: EOF while parsing a value at line 1 column 0"),
        (r#"{"datacenters":[]}"#, "it is damaged: it has no datacenter"),
        (
            r#"{"datacenters":[{"name":"a","nodes":[{"name":"n","address":""}]}]}"#,
            "it is damaged: the node \"n\" has no address",
        ),
        (
            r#"{"datacenters":[{"name":"a","unlisted":[{"name":"x","form":"odd"}]}]}"#,
            "it is damaged: it has a form \"odd\"",
        ),
        (
            r#"{"datacenters":[{"name":"a","services":[{"name":"x","instances":[
               {"id":"i","on":"n","port":1,"weights":[1,1],"health":"passing"}]}]}]}"#,
            "it is damaged: the instance \"i\" is on no node",
        ),
    ] {
        let loading = Loading { start_unix_ms: 0, right_ms: 0, local: None };
        let refused = Contents::read(payload.as_bytes())
            .and_then(|contents| contents.changes(&loading))
            .unwrap_err();
        assert_eq!(refused.to_string(), expected, "{payload}");
    }
}
