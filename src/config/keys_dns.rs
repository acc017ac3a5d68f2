//! The rows of `domain`, `recursors` and `[dns]` in the table of keys, but for those that are about
//! connections.

use crate::answer::AnyAnswer;
use crate::config::key::Key;
use crate::config::key::Kind;
use crate::config::reading;
use crate::config::reverse;

/// In the README's order.
pub static KEYS: &[Key] = &[
    Key::new(
        "domain",
        r#""consul""#,
        "The zone that is answered for.",
        Kind::Domain(|config, value| config.domain = value),
    ),
    Key::new(
        "alt_domain",
        r#""""#,
        "A second zone in which the same names are answered for, in the same words.",
        Kind::Text {
            allowed: "a domain such as consul.example.com, neither the root nor below arpa",
            fits: |text| reading::domain(text).is_some(),
            put: |config, value| {
                config.alt_domain = value.and_then(|text| reading::domain(&text));
            },
        },
    ),
    Key::new(
        "translate_wan_addrs",
        "false",
        "Answers names of other datacenters with the `wan` addresses that are registered there.",
        Kind::Flag(|config, value| config.translate_wan_addrs = value),
    ),
    Key::new(
        "recursors",
        "[]",
        "Who is asked for names outside the zone, in this order; without any they are REFUSED.",
        Kind::Recursors(|config, value| config.recursion.recursors = value),
    ),
    Key::new(
        "dns.listen",
        r#"["127.0.0.1:8653"]"#,
        "Where DNS is served, each address over UDP and TCP. Port 0 lets the system choose.",
        Kind::Sockets(|config, value| config.dns.listen = value),
    ),
    Key::new(
        "dns.workers",
        "0",
        "UDP threads per address; 0 is one per core.",
        Kind::Whole { min: 0, max: 256, put: |config, value| config.dns.workers = value },
    ),
    Key::new(
        "dns.udp_payload_max",
        "1232",
        "The largest UDP reply in bytes, and the size that is offered in EDNS.",
        Kind::Whole {
            min: 512,
            max: 4096,
            put: |config, value| config.dns.udp_payload_max = value as u16,
        },
    ),
    Key::new(
        "dns.advertise",
        "[]",
        "Addresses that the name server `ns.<domain>` resolves to; none is the address that was \
         asked.",
        Kind::Ips(|config, value| config.dns.advertise = value),
    ),
    Key::new(
        "dns.name_servers",
        "[]",
        "Names in NS records and in the SOA; none is `ns.<domain>`. One that is a single label below \
         a zone of ours resolves as `ns` does.",
        Kind::Names {
            allowed: "a domain such as ns1.example.com, neither the root nor below arpa",
            read: |text| Some(vec![reading::domain(text)?]),
            put: |config, value| config.dns.name_servers = value,
        },
    ),
    Key::new(
        "dns.reverse_zones",
        "[]",
        "Zones of addresses that are ours, as `10.in-addr.arpa` or `10.0.0.0/8`: what they lack \
         does not exist. Elsewhere an address that is not known is refused.",
        Kind::Names {
            allowed: reverse::ALLOWED,
            read: reverse::zones,
            put: |config, value| config.dns.reverse_zones = value,
        },
    ),
    Key::new(
        "dns.client_subnet",
        "true",
        "Whether a forwarder's EDNS client subnet says where its client is, for prepared queries \
         that sort by that.",
        Kind::Flag(|config, value| config.dns.client_subnet = value),
    ),
    Key::new(
        "dns.why",
        r#"["127.0.0.0/8", "::1/128"]"#,
        "The clients to whom TXT for `_why.NAME` explains what NAME is answered with. Those of a \
         forwarder on this machine are all its clients: `[]` tells nobody.",
        Kind::Networks(|config, value| config.dns.why = value),
    ),
    Key::new(
        "dns.chaos",
        "true",
        "Whether `version.bind` and `id.server` are answered in class CH.",
        Kind::Flag(|config, value| config.dns.chaos = value),
    ),
    Key::new(
        "dns.identity",
        r#""""#,
        "What `id.server` and `hostname.bind` say; nothing is the name of the machine.",
        Kind::Text {
            allowed: "at most 255 printable ASCII characters",
            fits: |text| {
                text.len() <= 255 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            },
            put: |config, value| config.dns.identity = value,
        },
    ),
    Key::new(
        "dns.nsid",
        "false",
        "Whether the same is said to who asks by NSID, as `dig +nsid` does.",
        Kind::Flag(|config, value| config.dns.nsid = value),
    ),
    Key::new(
        "dns.any",
        r#""all""#,
        "What ANY is answered with over UDP: all records of the name, or one RRset of it (RFC 8482).",
        Kind::Choice(&[
            ("all", |config| config.dns.any = AnyAnswer::All),
            ("minimal", |config| config.dns.any = AnyAnswer::Minimal),
        ]),
    ),
    Key::new(
        "dns.cookies",
        "true",
        "Whether DNS cookies are made and looked at (RFC 7873).",
        Kind::Flag(|config, value| config.dns.cookies = value),
    ),
    Key::new(
        "dns.cookie_secrets",
        "[]",
        "What cookies are made with: the first makes them, both are taken. Give all replicas the same; \
         none is one that is drawn at start.",
        Kind::Secrets(|config, value| config.dns.cookie_secrets = value),
    ),
    Key::new(
        "dns.cookie_secrets_file",
        r#""""#,
        "A file that holds them, a line each; wins over `cookie_secrets` beside it.",
        Kind::Path(|config, value| config.dns.cookie_secrets_file = value),
    ),
    Key::new(
        "dns.waiting_max",
        "1024",
        "Queries that may wait for something not yet in memory; one more is SERVFAIL.",
        Kind::Whole { min: 1, max: 1_000_000, put: |config, value| config.dns.waiting_max = value },
    ),
];
