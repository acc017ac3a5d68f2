//! Consul's own variables, read as Consul's own tools read them (`api/api.go`).
//!
//! They stand for keys of `[consul]`. They win over the file; our own variables win over them. An
//! empty one is not set. `CONSUL_HTTP_SSL` has no key: it chooses the scheme of addresses that
//! have none. Once it asks for TLS, `http://` in `CONSUL_HTTP_ADDR` does not take that back.

use crate::config::draft::Draft;
use crate::config::draft::Entry;
use crate::config::draft::Layer;
use crate::config::draft::Mistake;
use crate::config::draft::Place;
use crate::config::draft::Value;
use crate::config::draft::Written;
use crate::config::keys;
use crate::config::reading::boolean;

/// Adds Consul's variables among `variables` to `draft`.
pub fn read(variables: &[(String, String)], draft: &mut Draft) {
    let given: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .filter(|(_, text)| !text.is_empty())
        .collect();

    for (_, text) in given.iter().filter(|(name, _)| *name == SSL) {
        match boolean(text) {
            Some(is_https) => draft.is_https = is_https,
            None => draft.mistakes.push(Mistake {
                place: Place::Environment,
                key: SSL.to_owned(),
                value: Some((*text).escape_debug().to_string()),
                rule: "must be true or false".to_owned(),
            }),
        }
    }
    for (name, text) in given {
        let row = VARIABLES.iter().find(|(variable, _)| *variable == name);
        let Some(key) = row.and_then(|(_, key)| keys::find(key)) else {
            continue;
        };
        let mut written = Written::loose(Place::Environment, name, text);
        if name == ADDRESS {
            let address = match text.strip_prefix("http://") {
                Some(bare) if draft.is_https => bare,
                _ => text,
            };
            // One address: unlike ours, this variable is no list.
            written.value = Value::Text(address.to_owned());
        }
        draft.entries.push(Entry { key, layer: Layer::ConsulVariable, written });
    }
}

/// Consul's variable for the key `name`, if there is one.
pub fn variable(name: &str) -> Option<&'static str> {
    VARIABLES.iter().find(|(_, key)| *key == name).map(|(variable, _)| *variable)
}

const ADDRESS: &str = "CONSUL_HTTP_ADDR";
const SSL: &str = "CONSUL_HTTP_SSL";

/// Consul's variables and the keys that they stand for.
const VARIABLES: [(&str, &str); 12] = [
    (ADDRESS, "consul.addresses"),
    ("CONSUL_HTTP_TOKEN", "consul.token"),
    ("CONSUL_HTTP_TOKEN_FILE", "consul.token_file"),
    ("CONSUL_HTTP_AUTH", "consul.http_auth"),
    ("CONSUL_HTTP_SSL_VERIFY", "consul.tls_verify"),
    ("CONSUL_CACERT", "consul.ca_file"),
    ("CONSUL_CAPATH", "consul.ca_path"),
    ("CONSUL_CLIENT_CERT", "consul.cert_file"),
    ("CONSUL_CLIENT_KEY", "consul.key_file"),
    ("CONSUL_TLS_SERVER_NAME", "consul.tls_server_name"),
    ("CONSUL_NAMESPACE", "consul.namespace"),
    ("CONSUL_PARTITION", "consul.partition"),
];

#[cfg(test)]
mod tests {
    use crate::config::trial::{said, sound};

    /// The addresses that `env` leads to, over a file that has `file:1`.
    #[track_caller]
    fn check(env: &str, expected: &str) {
        let config = sound("consul.addresses = \"file:1\"", env);
        assert_eq!(format!("{:?}", config.consul.addresses), expected, "environment:\n{env}");
    }

    #[test]
    fn addresses_as_consuls_tools_read_them() {
        for (env, expected) in [
            ("CONSUL_HTTP_ADDR=", r#"[Http("http://file:1")]"#),
            ("CONSUL_HTTP_ADDR=c:8500", r#"[Http("http://c:8500")]"#),
            ("CONSUL_HTTP_ADDR=http://c:8500/", r#"[Http("http://c:8500")]"#),
            ("CONSUL_HTTP_ADDR=https://c:8501", r#"[Http("https://c:8501")]"#),
            ("CONSUL_HTTP_ADDR=http://c/consul", r#"[Http("http://c/consul")]"#),
            ("CONSUL_HTTP_ADDR=unix:///run/c.sock", r#"[Unix("/run/c.sock")]"#),
            ("CONSUL_HTTP_ADDR=[::1]:8500", r#"[Http("http://[::1]:8500")]"#),
            // TLS
            ("CONSUL_HTTP_SSL=1", r#"[Http("https://file:1")]"#),
            ("CONSUL_HTTP_SSL=1\nCONSUL_HTTP_ADDR=c:1", r#"[Http("https://c:1")]"#),
            ("CONSUL_HTTP_SSL=true\nCONSUL_HTTP_ADDR=http://c:1", r#"[Http("https://c:1")]"#),
            ("CONSUL_HTTP_SSL=f\nCONSUL_HTTP_ADDR=c:1", r#"[Http("http://c:1")]"#),
            ("CONSUL_HTTP_SSL=1\nCONSUL_HTTP_ADDR=unix:///c", r#"[Unix("/c")]"#),
            // our own variable wins, and is taken at its word
            (
                "CONSUL_HTTP_SSL=1\nCONSUL_HTTP_ADDR=c:1\nFINGERPOST_CONSUL_ADDRESSES=a:1,http://b",
                r#"[Http("https://a:1"), Http("http://b")]"#,
            ),
        ] {
            check(env, expected);
        }
        let config = sound("", "CONSUL_HTTP_SSL=TRUE");
        let got = format!("{:?}", config.consul.addresses);
        assert_eq!(got, r#"[Http("https://127.0.0.1:8500")]"#);
    }

    #[test]
    fn the_rest_of_consuls_variables() {
        let consul = sound(
            "",
            "CONSUL_HTTP_TOKEN=t
             CONSUL_HTTP_TOKEN_FILE=/t
             CONSUL_HTTP_AUTH=user
             CONSUL_HTTP_SSL_VERIFY=0
             CONSUL_CACERT=/ca.pem
             CONSUL_CAPATH=/ca
             CONSUL_CLIENT_CERT=/c.pem
             CONSUL_CLIENT_KEY=/k.pem
             CONSUL_TLS_SERVER_NAME=server.dc1.consul
             CONSUL_NAMESPACE=n
             CONSUL_PARTITION=p",
        )
        .consul;
        assert_eq!(consul.token.unwrap().reveal(), "t");
        assert_eq!(consul.token_file, Some("/t".into()));
        assert_eq!(consul.http_auth.unwrap().reveal(), "user:");
        assert!(!consul.tls_verify);
        assert_eq!(consul.ca_file, Some("/ca.pem".into()));
        assert_eq!(consul.ca_path, Some("/ca".into()));
        assert_eq!(consul.cert_file, Some("/c.pem".into()));
        assert_eq!(consul.key_file, Some("/k.pem".into()));
        assert_eq!(consul.tls_server_name, Some("server.dc1.consul".to_owned()));
        assert_eq!(consul.namespace, Some("n".to_owned()));
        assert_eq!(consul.partition, Some("p".to_owned()));
    }

    #[test]
    fn mistakes_name_consuls_variable() {
        for (env, expected) in [
            ("CONSUL_HTTP_SSL=yes", "environment: CONSUL_HTTP_SSL = yes: must be true or false"),
            (
                "CONSUL_HTTP_SSL_VERIFY=no",
                "environment: CONSUL_HTTP_SSL_VERIFY = no: must be true or false",
            ),
            (
                "CONSUL_HTTP_ADDR=ftp://c",
                "environment: CONSUL_HTTP_ADDR = ftp://c: must be host:port, http://host:port, \
                 https://host:port or unix:///path, one or several",
            ),
            (
                "CONSUL_CLIENT_KEY=/k",
                "environment: CONSUL_CLIENT_KEY = /k: needs consul.cert_file beside it",
            ),
        ] {
            assert_eq!(said("", env), expected, "environment:\n{env}");
        }
    }
}
