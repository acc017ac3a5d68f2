//! Changes in every order, and the snapshots that are made of them.

use super::*;
use crate::catalog::change::Held;
use crate::catalog::model::{Instance, Weights};
use crate::catalog::snapshot::{Found, List};
use crate::name::Zone;

fn builder(labels_max: usize) -> Builder {
    let rules = Rules::new(Zone::new("consul").unwrap());
    let mut builder = Builder::new(rules, 1, labels_max, Arc::new(Usage::new(1, false)));
    let names = vec!["dc1".to_owned(), "dc2".to_owned()];
    assert!(builder.apply(Change::Datacenters { local: "dc1".to_owned(), names }));
    builder
}

fn list(builder: &mut Builder, listing: &[(&str, &[&str])]) -> bool {
    let owned = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
    let listing = listing.iter().map(|(name, tags)| ((*name).to_owned(), owned(tags))).collect();
    builder.apply(Change::Services { datacenter: "dc1".to_owned(), listing })
}

fn fill(builder: &mut Builder, service: &str, tags: &[&str], held: Held) -> bool {
    let instance = Instance {
        id: service.to_owned(),
        node: Node::new("n1".to_owned(), Address::Ip([10, 0, 0, 1].into())),
        address: None,
        port: 80,
        ports: Vec::new(),
        tagged: None,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        weights: Weights::default(),
        health: Health::Passing,
        worst: None,
    };
    builder.apply(Change::Service {
        datacenter: "dc1".to_owned(),
        form: Form::Service,
        executed: None,
        service: service.to_owned(),
        instances: vec![instance],
        held,
    })
}

/// A service in a short written form: how it is held, and the tags of its records.
fn render(builder: &Builder, service: &str) -> String {
    let snapshot = builder.snapshot();
    let Found::Here(datacenter) = snapshot.datacenter(None) else {
        return "no datacenter".to_owned();
    };
    match datacenter.service(service.as_bytes()) {
        Found::Here(service) => {
            let tags = service.rrsets.as_ref().map(|rrsets| {
                let tags: Vec<_> = rrsets.tags().map(String::from_utf8_lossy).collect();
                tags.join(" ")
            });
            format!("{} {:?} {:?}", service.name, service.held, tags)
        }
        Found::Missing => "missing".to_owned(),
        Found::Unheard => "unheard".to_owned(),
    }
}

#[test]
fn a_service_is_there_while_it_is_listed() {
    let mut builder = builder(9);
    assert_eq!(render(&builder, "web"), "unheard");
    assert!(!fill(&mut builder, "web", &[], Held::Watched), "no list yet");

    assert!(list(&mut builder, &[("Web", &[])]));
    assert!(!list(&mut builder, &[("Web", &[])]), "nothing is different");
    assert_eq!(render(&builder, "web"), "Web OnDemand { fetched_ms: 0, fresh_until_ms: 0 } None");
    assert!(fill(&mut builder, "WEB", &["v1"], Held::Watched));
    assert!(!fill(&mut builder, "WEB", &["v1"], Held::Watched), "nothing is different");
    assert_eq!(render(&builder, "web"), "Web Watched Some(\"v1\")");

    assert!(list(&mut builder, &[]));
    assert_eq!(render(&builder, "web"), "missing");
    assert!(!fill(&mut builder, "web", &[], Held::Watched), "an answer that came too late");
}

#[test]
fn other_tags_make_what_was_fetched_due_again() {
    let mut builder = builder(9);
    list(&mut builder, &[("web", &["v1"]), ("db", &["v1"])]);
    fill(&mut builder, "web", &["v1"], Held::OnDemand { fetched_ms: 0, fresh_until_ms: 30_000 });
    fill(&mut builder, "db", &["v1"], Held::Watched);
    list(&mut builder, &[("web", &["v1", "v2"]), ("db", &["v1", "v2"])]);
    assert_eq!(render(&builder, "web"), "web Due { since_ms: 30000 } Some(\"v1\")");
    assert_eq!(render(&builder, "db"), "db Watched Some(\"v1\")");
}

#[test]
fn a_listed_tag_that_no_instance_has_is_awaited_until_it_is_settled() {
    let mut builder = builder(9);
    let awaits = |builder: &Builder, tag: &str| {
        let snapshot = builder.snapshot();
        let Found::Here(datacenter) = snapshot.datacenter(None) else { panic!("no datacenter") };
        match datacenter.service(b"web") {
            Found::Here(service) => service.awaits(tag.as_bytes()),
            Found::Missing | Found::Unheard => panic!("no service"),
        }
    };
    let settle = Change::Settle { datacenter: "dc1".to_owned(), service: "web".to_owned() };
    list(&mut builder, &[("web", &["v1"])]);
    assert!(!awaits(&builder, "v1"), "the instances are fetched anyway");
    fill(&mut builder, "web", &["V1"], Held::Watched);
    assert!(!awaits(&builder, "v1"));

    list(&mut builder, &[("web", &["v1", "v2", "a.b"])]);
    for (tag, expected) in [("v2", true), ("v1", false), ("b", true), ("a", false), ("v3", false)] {
        assert_eq!(awaits(&builder, tag), expected, "{tag}");
    }
    assert!(builder.apply(settle.clone()));
    assert!(!builder.apply(settle.clone()));
    assert!(!awaits(&builder, "v2"));
    list(&mut builder, &[("web", &["v1", "v2", "a.b"])]);
    assert!(!awaits(&builder, "v2"), "nothing has changed");
    fill(&mut builder, "web", &["v1", "v4"], Held::Watched);
    assert!(awaits(&builder, "v2"), "the instances have");
    fill(&mut builder, "web", &["v2"], Held::Watched);
    assert!(!awaits(&builder, "v2"));
}

#[test]
fn a_released_service_keeps_its_name() {
    let mut builder = builder(9);
    list(&mut builder, &[("web", &[])]);
    fill(&mut builder, "web", &[], Held::OnDemand { fetched_ms: 0, fresh_until_ms: 30_000 });
    let change = Change::Release {
        datacenter: "dc1".to_owned(),
        form: Form::Service,
        service: "web".to_owned(),
    };
    assert!(builder.apply(change.clone()));
    assert!(!builder.apply(change));
    assert_eq!(render(&builder, "web"), "web OnDemand { fetched_ms: 0, fresh_until_ms: 0 } None");
}

#[test]
fn a_label_that_one_service_leaves_another_takes() {
    let mut builder = builder(1);
    let own = |builder: &Builder| -> Vec<String> {
        let snapshot = builder.snapshot();
        let services = snapshot.datacenters().flat_map(|datacenter| datacenter.services());
        let own = services.filter(|service| service.usage.is_own());
        own.map(|service| service.name.to_string()).collect()
    };
    list(&mut builder, &[("a", &[]), ("b", &[])]);
    assert_eq!(own(&builder), ["a"]);
    list(&mut builder, &[("b", &[])]);
    assert_eq!(own(&builder), Vec::<String>::new());
    list(&mut builder, &[("b", &[]), ("c", &[])]);
    assert_eq!(own(&builder), ["c"]);
}

#[test]
fn a_snapshot_is_not_touched_by_later_changes() {
    let mut builder = builder(9);
    list(&mut builder, &[("web", &["v1"])]);
    let before = builder.snapshot();
    list(&mut builder, &[]);
    let Found::Here(datacenter) = before.datacenter(None) else { panic!("no datacenter") };
    assert!(matches!(datacenter.service(b"web"), Found::Here(_)) && datacenter.has_tag(b"v1"));
}

#[test]
fn the_serial_never_goes_back() {
    let mut builder = builder(9);
    builder.stamp(100);
    builder.stamp(90);
    assert_eq!(builder.snapshot().serial, 100);
}

#[test]
fn a_datacenter_that_goes_and_comes_back_starts_from_nothing() {
    let mut builder = builder(9);
    list(&mut builder, &[("web", &[])]);
    let only = |names: &[&str]| Change::Datacenters {
        local: "dc2".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert!(builder.apply(only(&["dc2"])));
    assert!(builder.apply(only(&["dc1", "dc2"])));
    assert!(!builder.apply(only(&["dc2", "dc1"])), "the order means nothing");
    let snapshot = builder.snapshot();
    let Found::Here(datacenter) = snapshot.datacenter(Some(b"dc1")) else { panic!("no dc1") };
    assert!(!datacenter.has_services());
}

/// What the datacenter dc1 has of a file: the lists, and whether an unknown address is denied.
fn loaded(builder: &Builder) -> String {
    let snapshot = builder.snapshot();
    let Found::Here(local) = snapshot.datacenter(None) else { return String::new() };
    let lists = [List::Services, List::Nodes, List::Owners];
    let old =
        lists.map(|list| local.old_since(list).map_or_else(|| "-".to_owned(), |it| it.to_string()));
    let pointer = match local.pointer(b"9.0.0.10.in-addr.arpa") {
        Found::Here(_) => "here",
        Found::Missing => "missing",
        Found::Unheard => "unheard",
    };
    format!("{} {pointer}", old.join(" "))
}

#[test]
fn what_a_file_had_is_old_until_it_is_heard() {
    let mut builder = builder(9);
    let datacenter = || "dc1".to_owned();
    let nodes = || vec![Node::new("n1".to_owned(), Address::Ip([10, 0, 0, 1].into()))];
    list(&mut builder, &[("web", &[]), ("db", &[]), ("gone", &[])]);
    for service in ["web", "db", "gone"] {
        fill(&mut builder, service, &[], Held::Loaded { since_ms: -7 });
    }
    builder.apply(Change::Nodes { datacenter: datacenter(), nodes: nodes() });
    assert!(builder.apply(Change::Loaded { datacenter: datacenter(), since_ms: -9 }));
    assert_eq!(loaded(&builder), "-9 -9 -9 missing");

    assert!(list(&mut builder, &[("web", &[]), ("db", &[])]), "the list, and that it was heard");
    assert_eq!(render(&builder, "gone"), "missing");
    assert_eq!(render(&builder, "web"), "web Loaded { since_ms: -7 } Some(\"\")");
    // Whoever has an address now, the file cannot know.
    assert_eq!(loaded(&builder), "- -9 -9 unheard");
    assert!(builder.apply(Change::Nodes { datacenter: datacenter(), nodes: nodes() }));
    assert!(!builder.apply(Change::Nodes { datacenter: datacenter(), nodes: nodes() }));
    assert!(fill(&mut builder, "web", &[], Held::Watched));
    assert_eq!(loaded(&builder), "- - -9 unheard");
    let (service, addresses) = ("db".to_owned(), Vec::new());
    assert!(builder.apply(Change::Owned { datacenter: datacenter(), service, addresses }));
    assert_eq!(loaded(&builder), "- - - missing");
}

#[test]
fn the_first_failure_says_since_when() {
    let mut builder = builder(9);
    let reach = |cut_off_ms| Change::Reach { datacenter: "dc1".to_owned(), cut_off_ms };
    list(&mut builder, &[("web", &[])]);
    fill(&mut builder, "web", &[], Held::Watched);
    let hold = |held| {
        let (datacenter, service) = ("dc1".to_owned(), "web".to_owned());
        Change::Hold { datacenter, form: Form::Service, service, held }
    };
    for (change, expected, held) in [
        (reach(Some(5)), "5 5 5 missing", "Watched"),
        (reach(Some(8)), "5 5 5 missing", "Watched"),
        (hold(Held::Failing { since_ms: 6 }), "5 5 5 missing", "Failing { since_ms: 6 }"),
        (hold(Held::Failing { since_ms: 9 }), "5 5 5 missing", "Failing { since_ms: 6 }"),
        (reach(None), "- - - missing", "Failing { since_ms: 6 }"),
        (reach(Some(10)), "10 10 10 missing", "Failing { since_ms: 6 }"),
        (hold(Held::Watched), "10 10 10 missing", "Watched"),
    ] {
        builder.apply(change.clone());
        let said = loaded(&builder).replace("unheard", "missing");
        assert_eq!(said, expected, "{change:?}");
        assert_eq!(render(&builder, "web"), format!("web {held} Some(\"\")"), "{change:?}");
    }
}
