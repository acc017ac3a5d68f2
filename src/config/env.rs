//! `FINGERPOST_<SECTION>_<KEY>`: every key but the tables, as a variable.
//!
//! A variable is looked up in the table of keys, never taken apart: `FINGERPOST_DNS_CONFIG_SOA_…`
//! cannot be split by rule. One that is no key is a remark and no mistake, since Kubernetes
//! injects `FINGERPOST_PORT=tcp://…` for a Service of our name. An empty one is not set.

use crate::config::draft::Draft;
use crate::config::draft::Entry;
use crate::config::draft::Layer;
use crate::config::draft::Mistake;
use crate::config::draft::Place;
use crate::config::draft::Remark;
use crate::config::draft::Written;
use crate::config::keys;
use crate::nearest::nearest;

/// Adds our variables among `variables` to `draft`.
pub fn read(variables: &[(String, String)], draft: &mut Draft) {
    for (name, text) in variables {
        if !name.starts_with(PREFIX) || text.is_empty() {
            continue;
        }
        match keys::all().find(|key| key.variable() == *name) {
            Some(key) if key.is_table() => draft.mistakes.push(Mistake {
                place: Place::Environment,
                key: name.clone(),
                value: None,
                rule: format!("{} is a table, which only the file can hold", key.name),
            }),
            Some(key) => draft.entries.push(Entry {
                key,
                layer: Layer::Variable,
                written: Written::loose(Place::Environment, name, text),
            }),
            None => draft.remarks.push(unknown(name)),
        }
    }
}

/// The value is left out: it may be a secret under a misspelled name.
fn unknown(name: &str) -> Remark {
    let known: Vec<String> =
        keys::all().filter(|key| !key.is_table()).map(|key| key.name.replace('.', "_")).collect();
    let bare = name.strip_prefix(PREFIX).unwrap_or(name);
    let text = match nearest(bare, known.iter().map(String::as_str)) {
        Some(near) => {
            format!("no such key, ignored; did you mean {PREFIX}{}?", near.to_ascii_uppercase())
        }
        None => "no such key, ignored".to_owned(),
    };
    Remark { place: Place::Environment, key: name.to_owned(), text }
}

/// What our variables begin with.
pub const PREFIX: &str = "FINGERPOST_";

#[cfg(test)]
mod tests {
    use crate::config::trial::{said, sound};

    #[track_caller]
    fn check(env: &str, expected: &str) {
        assert_eq!(said("", env), expected, "environment:\n{env}");
    }

    #[test]
    fn variables_set_keys_of_every_kind() {
        let config = sound(
            "",
            "FINGERPOST_DOMAIN=Dc.Example.
             FINGERPOST_DNS_WORKERS=4
             FINGERPOST_DNS_LISTEN=127.0.0.1:53, [::1]:53
             FINGERPOST_DNS_CONFIG_NODE_TTL=1m30.9s
             FINGERPOST_DNS_CONFIG_SOA_MIN_TTL=7
             FINGERPOST_DNS_CONFIG_ONLY_PASSING=T
             FINGERPOST_LOG_FORMAT=json
             FINGERPOST_CATALOG_FILE=/c.json",
        );
        assert_eq!(config.domain, "dc.example");
        assert_eq!(config.dns.workers, 4);
        assert_eq!(config.dns.listen, ["127.0.0.1:53", "[::1]:53"].map(|a| a.parse().unwrap()));
        assert_eq!(config.answers.node_ttl_secs, 90);
        assert_eq!(config.answers.soa.min_ttl_secs, 7);
        assert!(config.answers.only_passing);
        assert_eq!(config.log.format, crate::config::LogFormat::Json);
        assert_eq!(config.catalog_file, Some("/c.json".into()));
    }

    #[test]
    fn mistakes_name_the_variable() {
        for (env, expected) in [
            (
                "FINGERPOST_DNS_WORKERS=many",
                "environment: FINGERPOST_DNS_WORKERS = many: \
                 must be a whole number from 0 to 256",
            ),
            (
                "FINGERPOST_DNS_CONFIG_ONLY_PASSING=yes",
                "environment: FINGERPOST_DNS_CONFIG_ONLY_PASSING = yes: must be true or false",
            ),
            (
                "FINGERPOST_DNS_ADVERTISE=10.0.0.1,x",
                "environment: FINGERPOST_DNS_ADVERTISE = x: \
                 must be an IP address such as 10.0.0.1 or ::1, none or several",
            ),
            (
                "FINGERPOST_DNS_LISTEN=,",
                "environment: FINGERPOST_DNS_LISTEN = : must be an IP address and a port such as \
                 127.0.0.1:53 or [::1]:53, one or several",
            ),
            (
                "FINGERPOST_DNS_CONFIG_SERVICE_TTL=5s",
                "environment: FINGERPOST_DNS_CONFIG_SERVICE_TTL: \
                 dns_config.service_ttl is a table, which only the file can hold",
            ),
        ] {
            check(env, expected);
        }
    }

    #[test]
    fn variables_that_are_no_keys_are_remarks() {
        for (env, expected) in [
            // what Kubernetes injects for a Service called `fingerpost`
            (
                "FINGERPOST_PORT=tcp://10.0.0.1:53
                 FINGERPOST_SERVICE_HOST=10.0.0.1
                 FINGERPOST_PORT_53_UDP_ADDR=10.0.0.1",
                "environment: FINGERPOST_PORT: no such key, ignored\n\
                 environment: FINGERPOST_SERVICE_HOST: no such key, ignored\n\
                 environment: FINGERPOST_PORT_53_UDP_ADDR: no such key, ignored",
            ),
            (
                "FINGERPOST_DNS_WORKER=4",
                "environment: FINGERPOST_DNS_WORKER: no such key, ignored; \
                 did you mean FINGERPOST_DNS_WORKERS?",
            ),
            // empty is not set, and others are not ours
            ("FINGERPOST_DNS_WORKERS=\nFINGERPOST_NONE=\nPATH=/bin\nCONSUL_OTHER=1", "ok"),
        ] {
            check(env, expected);
        }
    }
}
