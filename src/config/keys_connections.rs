//! The rows of `[dns]` that are about connections: TCP, TLS, HTTPS and QUIC.

use std::time::Duration;

use crate::config::key::Key;
use crate::config::key::Kind;

/// In the README's order.
pub static KEYS: &[Key] = &[
    Key::new(
        "dns.tls_listen",
        "[]",
        "Where DNS is served over TLS (RFC 7858), usually on port 853; needs `cert_file`.",
        Kind::SocketsOrNone(|config, value| config.dns.tls_listen = value),
    ),
    Key::new(
        "dns.https_listen",
        "[]",
        "Where DNS is served over HTTPS (RFC 8484), by HTTP/2 and HTTP/1.1, usually on port 443; \
         needs `cert_file`.",
        Kind::SocketsOrNone(|config, value| config.dns.https_listen = value),
    ),
    Key::new(
        "dns.https3_listen",
        "[]",
        "Where DNS is served over HTTPS by HTTP/3, which is UDP; needs `cert_file`.",
        Kind::SocketsOrNone(|config, value| config.dns.https3_listen = value),
    ),
    Key::new(
        "dns.quic_listen",
        "[]",
        "Where DNS is served over QUIC (RFC 9250), which is UDP, usually on port 853; needs \
         `cert_file`.",
        Kind::SocketsOrNone(|config, value| config.dns.quic_listen = value),
    ),
    Key::new(
        "dns.https_path",
        r#""/dns-query""#,
        "The path of the URL at which HTTPS is served.",
        Kind::Text {
            allowed: "a path such as /dns-query",
            fits: is_path,
            put: |config, value| {
                config.dns.https_path = value.unwrap_or_else(|| "/".to_owned());
            },
        },
    ),
    Key::new(
        "dns.cert_file",
        r#""""#,
        "The server's certificate and those between it and its authority, in PEM; together with \
         `key_file`. Both are read again when they change.",
        Kind::Path(|config, value| config.dns.cert_file = value),
    ),
    Key::new(
        "dns.key_file",
        r#""""#,
        "The key of `cert_file`, in PEM.",
        Kind::Path(|config, value| config.dns.key_file = value),
    ),
    Key::new(
        "dns.connections_max",
        "1024",
        "Connections open at once, over all addresses: TCP, TLS, HTTPS and QUIC. For one more, the one \
         that has been idle the longest is closed, of a client that has the most.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.dns.connections.connections_max = value,
        },
    ),
    Key::new(
        "dns.client_connections_max",
        "256",
        "Connections of one client open at once: an IPv4 address, or an IPv6 network of 64 bits.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.dns.connections.client_connections_max = value,
        },
    ),
    Key::new(
        "dns.pipeline_max",
        "32",
        "Queries of one connection being answered at once.",
        Kind::Whole {
            min: 1,
            max: 10_000,
            put: |config, value| config.dns.connections.pipeline_max = value,
        },
    ),
    Key::new(
        "dns.connection_queries_max",
        "1000000",
        "Queries after which a connection is closed.",
        Kind::Whole {
            min: 1,
            max: 1_000_000_000,
            put: |config, value| config.dns.connections.connection_queries_max = value,
        },
    ),
    Key::new(
        "dns.idle",
        r#""30s""#,
        "How long a connection may stay without a query, or without reading its replies.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            put: |config, value| config.dns.connections.idle = value,
        },
    ),
    Key::new(
        "dns.message_timeout",
        r#""5s""#,
        "How long a query may take from its first byte to its last.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            put: |config, value| config.dns.connections.message_timeout = value,
        },
    ),
    Key::new(
        "dns.handshake_timeout",
        r#""5s""#,
        "How long a handshake of TLS or QUIC may take.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            put: |config, value| config.dns.connections.handshake_timeout = value,
        },
    ),
    Key::new(
        "dns.send_bytes_max",
        "65536",
        "Bytes of replies that wait for a client to read before it is asked nothing more; one reply \
         may go past it.",
        Kind::Whole {
            min: 1024,
            max: 16_777_216,
            put: |config, value| config.dns.connections.send_bytes_max = value,
        },
    ),
];

/// Whether it begins a URL's path, and is nothing but one.
fn is_path(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    text.len() <= 255 && text.starts_with('/') && text.bytes().all(is_plain)
}

const DAY: Duration = Duration::from_secs(86_400);
