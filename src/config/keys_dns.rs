//! The rows of `domain`, `recursors`, `[dns]` and `[dns_config]` in the table of keys.
//!
//! `[dns_config]` takes every key of Consul's, so that a section can be copied from an agent's
//! configuration; those that do nothing here say why.

use std::time::Duration;

use crate::config::Strategy;
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
        "dns.tcp_connections_max",
        "1024",
        "TCP connections open at once, over all addresses.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.dns.tcp_connections_max = value,
        },
    ),
    Key::new(
        "dns.tcp_pipeline_max",
        "32",
        "Queries of one TCP connection being answered at once.",
        Kind::Whole {
            min: 1,
            max: 10_000,
            put: |config, value| config.dns.tcp_pipeline_max = value,
        },
    ),
    Key::new(
        "dns.tcp_idle",
        r#""30s""#,
        "How long a TCP connection may stay without a complete query.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_secs(DAY),
            put: |config, value| config.dns.tcp_idle = value,
        },
    ),
    Key::new(
        "dns.waiting_max",
        "1024",
        "Queries that may wait for something not yet in memory; one more is SERVFAIL.",
        Kind::Whole { min: 1, max: 1_000_000, put: |config, value| config.dns.waiting_max = value },
    ),
    Key::new(
        "dns_config.service_ttl",
        "{}",
        "TTL by service: a name, a prefix ending in `*`, or `*`. The exact name wins, then the \
         longest prefix.",
        Kind::Ttls(|config, value| config.answers.service_ttl_secs = value),
    ),
    Key::new(
        "dns_config.node_ttl",
        r#""0s""#,
        "TTL of node, NS, glue and `.addr` records.",
        Kind::Ttl(|config, value| config.answers.node_ttl_secs = value),
    ),
    Key::new(
        "dns_config.only_passing",
        "false",
        "Leaves out instances with a warning, not only critical ones.",
        Kind::Flag(|config, value| config.answers.only_passing = value),
    ),
    Key::new(
        "dns_config.a_record_limit",
        "0",
        "Most A and AAAA records in an answer; 0 is no limit.",
        Kind::Whole {
            min: 0,
            max: 65_535,
            put: |config, value| config.answers.a_record_limit = value,
        },
    ),
    Key::new(
        "dns_config.udp_answer_limit",
        "3",
        "Most records in an answer over UDP without EDNS; as in Consul never more than 8.",
        Kind::Whole {
            min: 1,
            max: 65_535,
            put: |config, value| config.answers.udp_answer_limit = value,
        },
    ),
    Key::inert(
        "dns_config.enable_truncate",
        "false",
        "TC is set whenever a reply does not fit, and only then",
        Kind::Flag(|_, _| ()),
    ),
    Key::inert(
        "dns_config.allow_stale",
        "true",
        "every answer comes from memory",
        Kind::Flag(|_, _| ()),
    ),
    Key::new(
        "dns_config.max_stale",
        r#""87600h""#,
        "How old an answer may be while Consul is away; past it, it is SERVFAIL.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: AGE,
            put: |config, value| config.answers.max_stale = value,
        },
    ),
    Key::inert(
        "dns_config.use_cache",
        "false",
        "every answer comes from memory anyway",
        Kind::Flag(|_, _| ()),
    ),
    Key::inert(
        "dns_config.cache_max_age",
        r#""0s""#,
        "what is watched does not age, and the rest has `cache.kept`",
        Kind::Duration { min: Duration::from_secs(0), max: AGE, put: |_, _| () },
    ),
    Key::inert(
        "dns_config.disable_compression",
        "false",
        "records are encoded once, in one form for all replies",
        Kind::Flag(|_, _| ()),
    ),
    Key::new(
        "dns_config.recursor_strategy",
        r#""sequential""#,
        "Whether the recursors are asked in the order given, or in a new one for each question.",
        Kind::Choice(&[
            ("sequential", |config| config.recursion.recursor_strategy = Strategy::Sequential),
            ("random", |config| config.recursion.recursor_strategy = Strategy::Random),
        ]),
    ),
    Key::new(
        "dns_config.recursor_timeout",
        r#""2s""#,
        "How long a recursor may take before the next is asked.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_secs(60),
            put: |config, value| config.recursion.recursor_timeout = value,
        },
    ),
    Key::inert(
        "dns_config.enable_additional_node_meta_txt",
        "true",
        "the metadata of a node is told to who asks for it, by TXT of the node",
        Kind::Flag(|_, _| ()),
    ),
    Key::inert(
        "dns_config.prefer_namespace",
        "false",
        "a lone label behind the kind is a datacenter; see consul.namespace",
        Kind::Flag(|_, _| ()),
    ),
    Key::new(
        "dns_config.soa.refresh",
        "3600",
        "Seconds after which a secondary would look for changes.",
        Kind::Whole {
            min: 0,
            max: TTL_SECS_MAX,
            put: |config, value| config.answers.soa.refresh_secs = value as u32,
        },
    ),
    Key::new(
        "dns_config.soa.retry",
        "600",
        "Seconds after which it would look again.",
        Kind::Whole {
            min: 0,
            max: TTL_SECS_MAX,
            put: |config, value| config.answers.soa.retry_secs = value as u32,
        },
    ),
    Key::new(
        "dns_config.soa.expire",
        "86400",
        "Seconds after which it would give up.",
        Kind::Whole {
            min: 0,
            max: TTL_SECS_MAX,
            put: |config, value| config.answers.soa.expire_secs = value as u32,
        },
    ),
    Key::new(
        "dns_config.soa.min_ttl",
        "0",
        "TTL of the SOA and of negative answers, in seconds.",
        Kind::Whole {
            min: 0,
            max: TTL_SECS_MAX,
            put: |config, value| config.answers.soa.min_ttl_secs = value as u32,
        },
    ),
];

/// In seconds.
const DAY: u64 = 86_400;

/// Longer than any age: 100 years.
const AGE: Duration = Duration::from_secs(36_525 * DAY);

/// RFC 2181 §8.
const TTL_SECS_MAX: usize = 2_147_483_647;
