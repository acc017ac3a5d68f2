//! The rows of `[log]` and `[dnstap]`: what is told of the program, and of the queries.

use std::net::Ipv6Addr;

use crate::config::LogFormat;
use crate::config::LogLevel;
use crate::config::Queries;
use crate::config::key::Key;
use crate::config::key::Kind;

/// In the README's order.
pub static KEYS: &[Key] = &[
    Key::new(
        "log.level",
        r#""info""#,
        "What is logged.",
        Kind::Choice(&[
            ("error", |config| config.log.level = LogLevel::Error),
            ("warn", |config| config.log.level = LogLevel::Warn),
            ("info", |config| config.log.level = LogLevel::Info),
            ("debug", |config| config.log.level = LogLevel::Debug),
            ("trace", |config| config.log.level = LogLevel::Trace),
        ]),
    ),
    Key::new(
        "log.format",
        r#""text""#,
        "Lines for people, or an object a line for machines.",
        Kind::Choice(&[
            ("text", |config| config.log.format = LogFormat::Text),
            ("json", |config| config.log.format = LogFormat::Json),
        ]),
    ),
    Key::new(
        "log.queries",
        r#""off""#,
        "Which queries have a line in the log: none, those answered with another response code than \
         NOERROR and NXDOMAIN, one of `queries_sample`, or each. Whatever `level` is.",
        Kind::Choice(&[
            ("off", |config| config.log.queries = Queries::Off),
            ("errors", |config| config.log.queries = Queries::Errors),
            ("sampled", |config| config.log.queries = Queries::Sampled),
            ("all", |config| config.log.queries = Queries::All),
        ]),
    ),
    Key::new(
        "log.queries_sample",
        "100",
        "Of how many queries one has a line where `queries` is `sampled`; which one is chance.",
        Kind::Whole {
            min: 1,
            max: 1_000_000_000,
            put: |config, value| config.log.queries_sample = value,
        },
    ),
    Key::new(
        "log.queries_per_second",
        "1000",
        "Lines of queries in a second at most. What is beyond is counted, and told of once a minute.",
        Kind::Whole {
            min: 1,
            max: 100_000,
            put: |config, value| config.log.queries_per_second = value,
        },
    ),
    Key::new(
        "dnstap.socket",
        r#""""#,
        "The Unix socket of a collector of dnstap that is sent every query and its reply; it, or \
         `address`, turns dnstap on.",
        Kind::Path(|config, value| config.dnstap.socket = value),
    ),
    Key::new(
        "dnstap.address",
        r#""""#,
        "The same over TCP, which is not encrypted.",
        Kind::Text {
            allowed: "host:port such as 127.0.0.1:6000, [::1]:6000 or tap.example.com:6000",
            fits: is_host_and_port,
            put: |config, value| config.dnstap.address = value,
        },
    ),
    Key::new(
        "dnstap.identity",
        r#""""#,
        "Who says it; nothing is the name of the machine.",
        Kind::Text {
            allowed: "at most 255 printable ASCII characters",
            fits: |text| {
                text.len() <= 255 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            },
            put: |config, value| config.dnstap.identity = value,
        },
    ),
    Key::new(
        "dnstap.queue",
        "10000",
        "Frames that may wait for the collector, two for each query. What is beyond is dropped and \
         counted; no answer waits.",
        Kind::Whole { min: 2, max: 10_000_000, put: |config, value| config.dnstap.queue = value },
    ),
];

/// Whether it is a host, or an IPv6 address in brackets, and a port.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_name = |host: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !host.is_empty() && host.len() <= 253 && host.bytes().all(is_plain)
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && is_port && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_has_a_host_and_a_port() {
        for (text, expected) in [
            ("127.0.0.1:6000", true),
            ("[::1]:6000", true),
            ("tap.example.com:6000", true),
            ("localhost:65535", true),
            ("::1:6000", false),
            ("[::1:6000", false),
            ("[tap]:6000", false),
            ("127.0.0.1", false),
            (":6000", false),
            ("tap:0", false),
            ("tap:+1", false),
            ("tap:65536", false),
            ("tcp://tap:6000", false),
        ] {
            assert_eq!(is_host_and_port(text), expected, "{text}");
        }
    }
}
