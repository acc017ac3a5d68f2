//! Names, and what the grammar takes them for.

use super::*;

fn render(lookup: &Lookup<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut line = match lookup.subject {
        Subject::Address { address } => format!("address {address}"),
        Subject::Apex => "apex".to_owned(),
        Subject::Bare { label } => format!("bare {}", text(label)),
        Subject::Connect { service } => format!("connect {}", text(service)),
        Subject::Ingress { service } => format!("ingress {}", text(service)),
        Subject::Kind => "kind".to_owned(),
        Subject::Node { node } => format!("node {}", text(node)),
        Subject::Query { query, .. } => format!("query {}", text(query)),
        Subject::Scope => "scope".to_owned(),
        Subject::Service { service, tag, port, .. } => {
            let mut line = format!("service {}", text(service));
            line += &tag.map(|tag| format!(" tag {}", text(tag))).unwrap_or_default();
            line + &port.map(|port| format!(" port {}", text(port))).unwrap_or_default()
        }
        Subject::Virtual { service } => format!("virtual {}", text(service)),
    };
    match lookup.place {
        Place::Datacenter(name) => line += &format!(" in {}", text(name)),
        Place::Local => (),
        Place::Peer(name) => line += &format!(" of peer {}", text(name)),
    }
    line
}

/// The one place that calls the parser: `got` is the lookup in a short written form.
#[track_caller]
fn check(name: &str, expected: &str) {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    let labels = Labels::from_wire(&wire).unwrap();
    let got = match Lookup::parse(&labels, labels.count()) {
        Ok(lookup) => render(&lookup),
        Err(error) => format!("error: {error:?}"),
    };
    assert_eq!(got, expected, "name: {name}");
}

#[test]
fn names_and_what_they_ask_for() {
    for (name, expected) in [
        // plain forms
        ("", "apex"),
        ("db.service", "service db"),
        ("DB.Service", "service db"),
        ("web-1.node", "node web-1"),
        ("my_svc.service", "service my_svc"),
        // everything left of the service is one tag
        ("primary.db.service", "service db tag primary"),
        ("a.b.db.service", "service db tag a.b"),
        // a node's name may contain dots
        ("node.dots.node", "node node.dots"),
        // RFC 2782: the protocol `_tcp` is no tag, anything else is
        ("_db._tcp.service", "service db"),
        ("_db._primary.service", "service db tag primary"),
        ("_db._udp.service", "service db tag udp"),
        ("_db._tcp.service.dc2", "service db in dc2"),
        // not exactly two parts with underscores: the plain form
        ("_db.service", "service _db"),
        ("_x._tcp.db.service", "service db tag _x._tcp"),
        ("_db._a.b.service", "service b tag _db._a"),
        ("_db.x.service", "service x tag _db"),
        ("_._tcp.service", "service _tcp tag _"),
        // scope
        ("db.service.dc2", "service db in dc2"),
        ("n1.node.dc2", "node n1 in dc2"),
        // addresses
        ("0a000001.addr", "address 10.0.0.1"),
        ("0a000001.addr.dc1", "address 10.0.0.1 in dc1"),
        ("fd000000000000000000000000000006.addr", "address fd00::6"),
        // the rightmost kind label wins, so a service may be called `node`
        ("node.service", "service node"),
        ("web.node.service", "service node tag web"),
        ("foo.service.service", "service service tag foo"),
        // kind words on their own
        ("service", "kind"),
        ("node", "kind"),
        ("query", "kind"),
        ("service.dc1", "kind in dc1"),
        ("addr.dc1", "kind in dc1"),
    ] {
        check(name, expected);
    }
}

#[test]
fn short_names_and_what_they_ask_for() {
    for (name, expected) in [
        ("web.dc1", "service web in dc1"),
        ("v1.web.dc1", "service web tag v1 in dc1"),
        ("a.b.web.dc1", "service web tag a.b in dc1"),
        ("_web._v1.dc1", "service web tag v1 in dc1"),
        ("_web._tcp.dc1", "service web in dc1"),
        ("_web._tcp", "service web"),
        ("_web._v1", "service web tag v1"),
        ("x._v1", "service _v1 tag x"),
        ("a.b._v1", "service _v1 tag a.b"),
        ("_tcp.dc1", "service _tcp in dc1"),
        ("dc1", "bare dc1"),
        ("_tcp", "bare _tcp"),
        // kind words win
        ("node.dc1", "kind in dc1"),
        ("web.service.dc1", "service web in dc1"),
        ("web.node.dc1", "node web in dc1"),
    ] {
        check(name, expected);
    }
}

#[test]
fn names_of_the_mesh_and_what_they_ask_for() {
    for (name, expected) in [
        ("web.connect", "connect web"),
        ("web.connect.dc2", "connect web in dc2"),
        // labels further left mean nothing
        ("v1.web.connect", "connect web"),
        ("_web._tcp.connect", "connect _tcp"),
        ("web.ingress.dc1", "ingress web in dc1"),
        ("web.virtual", "virtual web"),
        ("http.web.virtual", "virtual web"),
        // one label is a peer here
        ("web.virtual.west", "virtual web of peer west"),
        ("web.virtual.west.peer", "virtual web of peer west"),
        ("web.virtual.dc1.dc", "virtual web in dc1"),
    ] {
        check(name, expected);
    }
}

#[test]
fn prepared_queries_and_what_they_ask_for() {
    for (name, expected) in [
        ("q1.query", "query q1"),
        ("q.dot.query.dc2", "query q.dot in dc2"),
        ("q1.query.dc2.dc", "query q1 in dc2"),
        (
            "5f36d6b2-2c2f-1f0e-9a43-000000000001.query",
            "query 5f36d6b2-2c2f-1f0e-9a43-000000000001",
        ),
        // RFC 2782: the protocol is ignored
        ("_q1._tcp.query", "query q1"),
        ("_q.dot._udp.query", "query q.dot"),
        ("_q1.query", "query _q1"),
        ("_q1.tcp.query", "query _q1.tcp"),
    ] {
        check(name, expected);
    }
}

#[test]
fn scopes_in_words() {
    for (name, expected) in [
        ("web.service.dc1.dc", "service web in dc1"),
        ("v1.web.service.dc1.dc", "service web tag v1 in dc1"),
        ("web.service.west.peer", "service web of peer west"),
        ("web.service.default.ns.default.ap", "service web"),
        ("web.service.default.ns.default.ap.dc1.dc", "service web in dc1"),
        ("web.service.http.port", "service web port http"),
        ("web.service.http.port.dc1.dc", "service web port http in dc1"),
        ("n1.node.dc1.dc", "node n1 in dc1"),
        ("service.dc1.dc", "kind in dc1"),
        // what is left when the kind is taken off has names below it
        ("dc", "scope"),
        ("dc1.dc", "scope in dc1"),
        ("ns.dc1.dc", "scope in dc1"),
        ("default.ns.dc1.dc", "scope in dc1"),
        ("west.peer", "scope of peer west"),
        ("ns", "bare ns"),
        ("web.dc1.dc", "service dc1 tag web in dc"),
    ] {
        check(name, expected);
    }
}

#[test]
fn names_that_do_not_exist() {
    for (name, expected) in [
        ("db.service.dc2.ns", "error: BadScope"),
        ("db.service.other.ns", "error: BadScope"),
        ("db.service.group.sg", "error: BadScope"),
        ("db.service.ns1.dc1", "error: BadScope"),
        ("db.service.dc1.dc.dc2.dc", "error: BadScope"),
        ("db.service.dc1.dc.west.peer", "error: BadScope"),
        ("db.service.a.b.c", "error: BadScope"),
        ("x.0a000001.addr", "error: BadSubject"),
        ("0a0001.addr", "error: BadAddress"),
        ("zz000001.addr", "error: BadAddress"),
    ] {
        check(name, expected);
    }
}

#[test]
fn the_other_meanings_of_a_name() {
    let wire = |name: &str| {
        let labels =
            name.split('.').map(|label| format!("{}{label}", char::from(label.len() as u8)));
        Labels::from_wire(format!("{}\0", labels.collect::<String>()).as_bytes()).unwrap()
    };
    for (name, expected) in [
        ("_v1._web.service.dc2", Some("service _web tag _v1 in dc2")),
        ("_web._tcp", Some("service _tcp tag _web")),
        ("_web._v1.service.http.port", Some("service _v1 tag _web port http")),
        ("_web.service", None),
        ("web.service", None),
        ("_x.v1.x.service", None),
        ("_x._tcp.x.service", None),
        ("_x._tcp.query", None),
    ] {
        let labels = wire(name);
        let lookup = Lookup::parse(&labels, labels.count()).unwrap();
        let got = lookup.unmarked(&labels).map(|other| render(&other));
        assert_eq!(got.as_deref(), expected, "{name}");
    }
    let labels = wire("v1.web.dc");
    assert_eq!(render(&Lookup::short(&labels, 2)), "service v1 in web");
    assert_eq!(render(&Lookup::short(&labels, 3)), "service web tag v1 in dc");
}
