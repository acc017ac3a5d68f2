//! The rows of `[dns_config]` in the table of keys.
//!
//! It takes every key of Consul's, so that a section can be copied from an agent's configuration;
//! those that do nothing here say why.

use std::time::Duration;

use crate::config::Strategy;
use crate::config::key::Key;
use crate::config::key::Kind;

/// In the README's order.
pub static KEYS: &[Key] = &[
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
