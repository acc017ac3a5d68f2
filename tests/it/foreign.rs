//! Names in no zone of ours, as far as the core decides: who may ask, and what never leaves.

use fingerpost::answer::{Network, Recursion, Transport};
use fingerpost::catalog::Change;
use fingerpost::catalog::model::{Address, Node};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::dns::{extended_error, question, with_edns, zone_text};
use crate::support::straight::{self, Core, policy, rules};

/// A core with recursors, for clients of 127.0.0.0/8 only.
fn forwarding() -> Core {
    let allow = vec![Network::parse("127.0.0.0/8").unwrap()];
    let policy =
        fingerpost::answer::Policy { recursion: Recursion { enabled: true, allow }, ..policy() };
    Core::new(rules(), policy, swept())
}

#[test]
fn addresses_of_our_own_network_are_the_catalogues() {
    let mut core = forwarding();
    let node = Node::new("n1".to_owned(), Address::Ip([10, 1, 2, 3].into()));
    let (datacenter, nodes) = ("dc1".to_owned(), vec![node]);
    let changes = swept().into_iter().chain([Change::Nodes { datacenter, nodes }]);
    core.snapshot = Core::new(rules(), policy(), changes).snapshot;
    let soa =
        "authority 10.in-addr.arpa. 0 IN SOA ns.consul. hostmaster.consul. 0 3600 600 86400 0";
    for (name, expected) in [
        (
            "3.2.1.10.in-addr.arpa.",
            "NOERROR aa rd ra\nanswer 3.2.1.10.in-addr.arpa. 0 IN PTR n1.node.dc1.consul."
                .to_owned(),
        ),
        // RFC 8020: what is above it exists.
        ("2.1.10.in-addr.arpa.", format!("NOERROR aa rd ra\n{soa}")),
        ("1.10.in-addr.arpa.", format!("NOERROR aa rd ra\n{soa}")),
        ("4.2.1.10.in-addr.arpa.", format!("NXDOMAIN aa rd ra\n{soa}")),
    ] {
        check(&mut core, name, RecordType::PTR, &expected);
    }
    // Before all was heard nothing is denied, and no recursor is asked.
    core.snapshot = Core::of(straight::builder(rules()).snapshot(), policy()).snapshot;
    check(&mut core, "4.2.1.10.in-addr.arpa.", RecordType::PTR, "SERVFAIL aa rd ra");
    check(&mut core, "1.10.in-addr.arpa.", RecordType::PTR, "SERVFAIL aa rd ra");
}

/// A catalogue that is known to hold nothing.
fn swept() -> [Change; 3] {
    let datacenter = || "dc1".to_owned();
    [
        Change::Datacenters { local: datacenter(), names: vec![datacenter()] },
        Change::Services { datacenter: datacenter(), listing: Vec::new() },
        Change::Nodes { datacenter: datacenter(), nodes: Vec::new() },
    ]
}

/// What becomes of `query`: the reply as a zone file has it, or what is wanted.
fn fate(core: &mut Core, query: &Message) -> String {
    match core.outcome(&query.to_vec().unwrap(), Transport::Udp, 0) {
        Ok(reply) => {
            let reply = Message::from_vec(reply).unwrap();
            let error = extended_error(&reply).map(|error| format!("\nEDE {error}"));
            zone_text(&reply) + &error.unwrap_or_default()
        }
        Err(want) => want,
    }
}

#[track_caller]
fn check(core: &mut Core, name: &str, qtype: RecordType, expected: &str) {
    assert_eq!(fate(core, &question(name, qtype)), expected, "{name} {qtype}");
}

#[test]
fn who_may_ask_and_who_may_not() {
    let query = with_edns(question("example.com.", RecordType::A), 1232, false);
    let mut without = Core::new(rules(), policy(), swept());
    let refused = "REFUSED rd\nEDE 20 not a zone of this server";
    assert_eq!(fate(&mut without, &query), refused);

    let mut core = forwarding();
    for (client, expected) in [
        ("127.0.0.1", "the recursors"),
        ("::ffff:127.9.9.9", "the recursors"),
        ("10.0.0.1", "REFUSED rd ra\nEDE 18 this client may not ask for other zones"),
        ("::1", "REFUSED rd ra\nEDE 18 this client may not ask for other zones"),
    ] {
        core.client = client.parse().unwrap();
        assert_eq!(fate(&mut core, &query), expected, "{client}");
    }
}

#[test]
fn a_client_that_wants_no_recursion_gets_none() {
    let mut query = with_edns(question("example.com.", RecordType::A), 1232, false);
    query.metadata.recursion_desired = false;
    let expected = "REFUSED ra\nEDE 20 not a zone of this server, and RD is not set";
    assert_eq!(fate(&mut forwarding(), &query), expected);
}

#[test]
fn recursion_is_available_in_every_reply() {
    let mut core = forwarding();
    check(
        &mut core,
        "consul.",
        RecordType::A,
        "NOERROR aa rd ra\nauthority consul. 0 IN SOA ns.consul. hostmaster.consul. 0 3600 600 86400 0",
    );
    check(&mut core, "consul.", RecordType::AXFR, "REFUSED rd ra");
    check(&mut core, "example.com.", RecordType::AXFR, "REFUSED rd ra");
    check(&mut core, "example.com.", RecordType::IXFR, "REFUSED rd ra");
}

#[test]
fn names_of_our_zone_never_leave() {
    let mut core = forwarding();
    for name in ["consul.", "x.consul.", "web.service.consul.", "1.2.x.CONSUL."] {
        let fate = fate(&mut core, &question(name, RecordType::A));
        assert_ne!(fate, "the recursors", "{name}");
    }
}

#[test]
fn localhost_is_this_machine() {
    let mut core = forwarding();
    let soa = "localhost. 10800 IN SOA localhost. nobody.invalid. 1 3600 1200 604800 10800";
    for (name, qtype, expected) in [
        ("localhost.", RecordType::A, "answer localhost. 10800 IN A 127.0.0.1".to_owned()),
        ("localhost.", RecordType::AAAA, "answer localhost. 10800 IN AAAA ::1".to_owned()),
        ("a.b.localhost.", RecordType::A, "answer a.b.localhost. 10800 IN A 127.0.0.1".to_owned()),
        ("localhost.", RecordType::MX, format!("authority {soa}")),
        ("x.localhost.", RecordType::SOA, format!("authority {soa}")),
        ("localhost.", RecordType::SOA, format!("answer {soa}")),
        ("localhost.", RecordType::NS, "answer localhost. 10800 IN NS localhost.".to_owned()),
    ] {
        check(&mut core, name, qtype, &format!("NOERROR aa rd ra\n{expected}"));
    }
    // Not below it.
    check(&mut core, "notlocalhost.", RecordType::A, "the recursors");
    check(&mut core, "localhost.example.", RecordType::A, "the recursors");
}

#[test]
fn names_that_mean_nothing_elsewhere_are_answered_here() {
    let mut core = forwarding();
    let nibbles = "0.".repeat(31);
    for (name, zone) in [
        ("1.2.3.10.in-addr.arpa.", "10.in-addr.arpa."),
        ("x.0.in-addr.arpa.", "0.in-addr.arpa."),
        ("1.0.0.127.in-addr.arpa.", "127.in-addr.arpa."),
        ("1.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        ("1.127.100.in-addr.arpa.", "127.100.in-addr.arpa."),
        ("1.254.169.in-addr.arpa.", "254.169.in-addr.arpa."),
        ("1.2.16.172.in-addr.arpa.", "16.172.in-addr.arpa."),
        ("1.2.31.172.in-addr.arpa.", "31.172.in-addr.arpa."),
        ("1.2.168.192.in-addr.arpa.", "168.192.in-addr.arpa."),
        ("1.2.0.192.in-addr.arpa.", "2.0.192.in-addr.arpa."),
        ("1.100.51.198.in-addr.arpa.", "100.51.198.in-addr.arpa."),
        ("1.113.0.203.in-addr.arpa.", "113.0.203.in-addr.arpa."),
        ("x.255.255.255.255.in-addr.arpa.", "255.255.255.255.in-addr.arpa."),
        ("1.d.f.ip6.arpa.", "d.f.ip6.arpa."),
        ("1.8.e.f.ip6.arpa.", "8.e.f.ip6.arpa."),
        ("1.b.e.f.ip6.arpa.", "b.e.f.ip6.arpa."),
        ("1.8.b.d.0.1.0.0.2.ip6.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."),
        (&format!("x.1.{nibbles}ip6.arpa."), &format!("1.{nibbles}ip6.arpa.")),
        (&format!("x.0.{nibbles}ip6.arpa."), &format!("0.{nibbles}ip6.arpa.")),
        ("a.invalid.", "invalid."),
        ("a.onion.", "onion."),
    ] {
        // An address may be registered any moment, so its denial lasts no longer than ours do.
        let soa = match zone.ends_with("arpa.") {
            true => format!("{zone} 0 IN SOA ns.consul. hostmaster.consul. 0 3600 600 86400 0"),
            false => format!("{zone} 10800 IN SOA {zone} nobody.invalid. 1 3600 1200 604800 10800"),
        };
        check(&mut core, name, RecordType::PTR, &format!("NXDOMAIN aa rd ra\nauthority {soa}"));
        check(&mut core, zone, RecordType::PTR, &format!("NOERROR aa rd ra\nauthority {soa}"));
        check(&mut core, zone, RecordType::SOA, &format!("NOERROR aa rd ra\nanswer {soa}"));
    }
    let soa = "resolver.arpa. 10800 IN SOA resolver.arpa. nobody.invalid. 1 3600 1200 604800 10800";
    let expected = format!("NOERROR aa rd ra\nauthority {soa}");
    check(&mut core, "_dns.resolver.arpa.", RecordType::SVCB, &expected);
}

#[test]
fn their_neighbors_are_asked_of_the_recursors() {
    let mut core = forwarding();
    let nibbles = "0.".repeat(31);
    for name in [
        ".",
        "arpa.",
        "in-addr.arpa.",
        "ip6.arpa.",
        "172.in-addr.arpa.",
        "15.172.in-addr.arpa.",
        "32.172.in-addr.arpa.",
        "63.100.in-addr.arpa.",
        "128.100.in-addr.arpa.",
        "167.192.in-addr.arpa.",
        "3.0.192.in-addr.arpa.",
        "255.255.255.in-addr.arpa.",
        "8.8.8.8.in-addr.arpa.",
        "010.in-addr.arpa.",
        "c.f.ip6.arpa.",
        "c.e.f.ip6.arpa.",
        "9.b.d.0.1.0.0.2.ip6.arpa.",
        &format!("2.{nibbles}ip6.arpa."),
        "invalid.example.",
        "resolver.example.",
        "home.arpa.",
    ] {
        check(&mut core, name, RecordType::PTR, "the recursors");
    }
}
