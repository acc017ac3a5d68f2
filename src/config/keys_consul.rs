//! The rows of `[consul]` in the table of keys: a key for each field.

use std::time::Duration;

use crate::config::Secret;
use crate::config::key::Key;
use crate::config::key::Kind;
use crate::config::reading::is_host;

/// In the README's order.
pub static KEYS: &[Key] = &[
    Key::new(
        "consul.addresses",
        r#"["http://127.0.0.1:8500"]"#,
        "Where Consul is; the next is tried when one fails. Without a scheme it is http, or https \
         with `CONSUL_HTTP_SSL`; without a port, the port of the scheme.",
        Kind::Addresses(|config, value| config.consul.addresses = value),
    ),
    Key::new(
        "consul.datacenter",
        r#""""#,
        "The datacenter to ask for; none is the agent's own.",
        Kind::Text {
            allowed: WORD,
            fits: is_word,
            put: |config, value| {
                config.consul.datacenter = value.map(|value| value.to_ascii_lowercase())
            },
        },
    ),
    Key::new(
        "consul.token",
        r#""""#,
        "The ACL token.",
        Kind::Secret(|config, value| config.consul.token = value),
    ),
    Key::new(
        "consul.token_file",
        r#""""#,
        "A file that holds the ACL token; wins over `token` beside it.",
        Kind::Path(|config, value| config.consul.token_file = value),
    ),
    Key::new(
        "consul.http_auth",
        r#""""#,
        "`user:password` for HTTP basic authentication.",
        Kind::Secret(|config, value| config.consul.http_auth = value.map(with_colon)),
    ),
    Key::new(
        "consul.ca_file",
        r#""""#,
        "A PEM file of authorities that may sign Consul's certificate.",
        Kind::Path(|config, value| config.consul.ca_file = value),
    ),
    Key::new(
        "consul.ca_path",
        r#""""#,
        "A folder of such files.",
        Kind::Path(|config, value| config.consul.ca_path = value),
    ),
    Key::new(
        "consul.cert_file",
        r#""""#,
        "Our own certificate, in PEM; together with `key_file`.",
        Kind::Path(|config, value| config.consul.cert_file = value),
    ),
    Key::new(
        "consul.key_file",
        r#""""#,
        "The key of `cert_file`, in PEM.",
        Kind::Path(|config, value| config.consul.key_file = value),
    ),
    Key::new(
        "consul.tls_server_name",
        r#""""#,
        "The name to find in Consul's certificate; none is the address's.",
        Kind::Text {
            allowed: "a host name",
            fits: is_host,
            put: |config, value| config.consul.tls_server_name = value,
        },
    ),
    Key::new(
        "consul.tls_verify",
        "true",
        "Whether Consul's certificate is checked at all.",
        Kind::Flag(|config, value| config.consul.tls_verify = value),
    ),
    Key::new(
        "consul.namespace",
        r#""""#,
        "The namespace to ask for; Consul Enterprise only.",
        Kind::Text {
            allowed: WORD,
            fits: is_word,
            put: |config, value| config.consul.namespace = value,
        },
    ),
    Key::new(
        "consul.partition",
        r#""""#,
        "The admin partition to ask for; Consul Enterprise only.",
        Kind::Text {
            allowed: WORD,
            fits: is_word,
            put: |config, value| config.consul.partition = value,
        },
    ),
    Key::new(
        "consul.wait",
        r#""60s""#,
        "How long Consul may hold a blocking query: ten seconds in the first minute, half of this \
         or more from then on.",
        Kind::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_secs(600),
            put: |config, value| config.consul.wait = value,
        },
    ),
    Key::new(
        "consul.timeout",
        r#""10s""#,
        "How long Consul may take to answer a query that does not block.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_secs(600),
            put: |config, value| config.consul.timeout = value,
        },
    ),
    Key::new(
        "consul.connections_max",
        "80",
        "Requests to Consul open at once, blocking ones included; each has a connection.",
        Kind::Whole {
            min: 8,
            max: 10_000,
            put: |config, value| config.consul.connections_max = value,
        },
    ),
    Key::new(
        "consul.connections_spare",
        "8",
        "Of these, kept free for queries that do not block; at least 3 below `connections_max`.",
        Kind::Whole {
            min: 2,
            max: 9999,
            put: |config, value| config.consul.connections_spare = value,
        },
    ),
    Key::new(
        "consul.streams_max",
        "2000",
        "The same over HTTPS, where HTTP/2 has 200 of them on a connection; at least 3 more than \
         `connections_spare`.",
        Kind::Whole {
            min: 8,
            max: 100_000,
            put: |config, value| config.consul.streams_max = value,
        },
    ),
    Key::new(
        "consul.response_bytes_max",
        "67108864",
        "The largest reply of Consul that is read, in bytes.",
        Kind::Whole {
            min: 1024,
            max: 1_073_741_824,
            put: |config, value| config.consul.response_bytes_max = value,
        },
    ),
    Key::new(
        "consul.backoff_min",
        r#""500ms""#,
        "The first pause after a failure; it doubles up to `backoff_max`.",
        Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_secs(3600),
            put: |config, value| config.consul.backoff_min = value,
        },
    ),
    Key::new(
        "consul.backoff_max",
        r#""15s""#,
        "The longest pause; at least `backoff_min`.",
        Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_secs(3600),
            put: |config, value| config.consul.backoff_max = value,
        },
    ),
];

/// True for names as Consul has them for datacenters, namespaces and partitions.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Consul's tools take a user alone; the password is empty then.
fn with_colon(auth: Secret) -> Secret {
    match auth.reveal() {
        user if !user.contains(':') => Secret::new(format!("{user}:")),
        _ => auth,
    }
}

const WORD: &str = "a name of letters, digits, hyphens and underscores";
