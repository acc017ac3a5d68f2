//! Every key there is: the one list that the file, the environment, `config/example.toml` and the
//! README are held against. The larger sections have files of their own.
//!
//! **Invariant:** a key that is in none of these tables does not exist.

use std::time::Duration;

use crate::config::key::Effect;
use crate::config::key::Key;
use crate::config::key::Kind;
use crate::config::keys_answers;
use crate::config::keys_connections;
use crate::config::keys_consul;
use crate::config::keys_dns;
use crate::config::keys_log;
use crate::config::keys_recursion;
use crate::config::reading;

/// All keys, in the README's order.
pub fn all() -> impl Iterator<Item = &'static Key> + Clone {
    let dns = keys_dns::KEYS.iter().chain(keys_connections::KEYS).chain(keys_answers::KEYS);
    dns.chain(keys_recursion::KEYS).chain(keys_consul::KEYS).chain(KEYS).chain(keys_log::KEYS)
}

/// The key called `name`, as in `dns.workers`.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// The names of the sections: `dns`, `dns_config`, `dns_config.soa` and so on.
pub fn sections() -> impl Iterator<Item = &'static str> + Clone {
    let mut last = "";
    all().filter_map(|key| key.name.rsplit_once('.')).map(|(section, _)| section).filter(
        move |section| {
            let is_new = *section != last;
            last = section;
            is_new
        },
    )
}

/// The README's table of keys, in Markdown.
pub fn markdown() -> String {
    let mut text = "| key | default | variables | what it is |\n|---|---|---|---|\n".to_owned();
    for key in all() {
        let default = match key.default {
            r#""""# => "not set".to_owned(),
            default => format!("`{default}`"),
        };
        let variables = match (key.is_table(), key.consul_variable()) {
            (true, _) => "only in the file".to_owned(),
            (false, None) => format!("`{}`", key.variable()),
            (false, Some(consuls)) => format!("`{}`, `{consuls}`", key.variable()),
        };
        let meaning = match key.effect {
            Effect::Counts => key.meaning.to_owned(),
            Effect::Inert => format!("Means nothing here: {}.", key.meaning),
        };
        let (name, allowed) = (key.name, key.allowed());
        text.push_str(&format!(
            "| `{name}` | {default} | {variables} | {meaning} Must be {allowed}. |\n"
        ));
    }
    text
}

/// The small sections; the large ones have files of their own.
static KEYS: &[Key] = &[
    Key::new(
        "admin.listen",
        r#""127.0.0.1:8654""#,
        "Where health, readiness, metrics and the status page are served over HTTP. Port 0 lets the system choose.",
        Kind::Socket(|config, value| config.admin.listen = value),
    ),
    Key::new(
        "admin.hosts",
        "[]",
        "Names, beside `localhost`, that the admin port's pages and `/v1` may be asked under. Its \
         addresses always may, and so may `/health`, `/ready` and `/metrics` under any name.",
        Kind::Names {
            allowed: "a domain such as dns1.example.com",
            read: |text| Some(vec![reading::domain(text)?]),
            put: |config, value| config.admin.hosts = value,
        },
    ),
    Key::new(
        "admin.connections_max",
        "64",
        "HTTP connections open at once; one more is closed at once.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.admin.connections_max = value,
        },
    ),
    Key::new(
        "admin.events_max",
        "16",
        "Streams of `/v1/events` open at once; one more is answered with 503. Each status page in a \
         browser has one, and does without where it gets none.",
        Kind::Whole {
            min: 0,
            max: 1_000_000,
            put: |config, value| config.admin.events_max = value,
        },
    ),
    Key::new(
        "admin.idle",
        r#""10s""#,
        "How long an HTTP connection may stay without a complete request, or without reading a \
         reply.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_secs(DAY),
            put: |config, value| config.admin.idle = value,
        },
    ),
    Key::new(
        "cache.kept",
        r#""30s""#,
        "How long a service fetched on demand is answered without asking again.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: Duration::from_secs(DAY),
            put: |config, value| config.cache.kept = value,
        },
    ),
    Key::new(
        "cache.refresh",
        r#""1s""#,
        "How old such a service may be when it is asked for before it is fetched again behind the \
         answer, for the next one; 0 is any age. Looked at once a second.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: Duration::from_secs(DAY),
            put: |config, value| config.cache.refresh = value,
        },
    ),
    Key::new(
        "cache.refresh_per_second",
        "100",
        "Such services a second that are fetched behind the answers, at most; the oldest go first.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.cache.refresh_per_second = value,
        },
    ),
    Key::new(
        "cache.idle",
        r#""10m""#,
        "How long such a service stays in memory without being asked for, and how long one is watched \
         before it makes room for another that is asked for.",
        Kind::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_secs(30 * DAY),
            put: |config, value| config.cache.idle = value,
        },
    ),
    Key::new(
        "cache.services_max",
        "10000",
        "Such services in memory at most.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.cache.services_max = value,
        },
    ),
    Key::new(
        "cache.bytes_max",
        "268435456",
        "Bytes that such services take in memory at most, roughly; who was asked for least lately goes \
         first.",
        Kind::Whole {
            min: 65_536,
            max: 1_099_511_627_776,
            put: |config, value| config.cache.bytes_max = value as u64,
        },
    ),
    Key::new(
        "cache.patience",
        r#""1s""#,
        "How long a question waits for Consul before it is SERVFAIL.",
        Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_secs(60),
            put: |config, value| config.cache.patience = value,
        },
    ),
    Key::new(
        "cache.query_kept",
        r#""5s""#,
        "How long the result of a prepared query without a TTL is answered without executing it \
         again.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: Duration::from_secs(DAY),
            put: |config, value| config.cache.query_kept = value,
        },
    ),
    Key::new(
        "cache.unlisted_per_second",
        "20",
        "Questions a second that may ask Consul for names in no list: of the mesh, of ingress, of \
         peers, and of prepared queries where these cannot be listed.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.cache.unlisted_per_second = value,
        },
    ),
    Key::new(
        "cache.denied_max",
        "1024",
        "Such names in memory at most that Consul denied.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.cache.denied_max = value,
        },
    ),
    Key::new(
        "cache.sweep_within",
        r#""1m""#,
        "How long it takes to read the addresses of all services that are not watched, for reverse \
         names.",
        Kind::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_secs(DAY),
            put: |config, value| config.cache.sweep_within = value,
        },
    ),
    Key::new(
        "cache.sweep_every",
        r#""10m""#,
        "How often they are read again.",
        Kind::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_secs(30 * DAY),
            put: |config, value| config.cache.sweep_every = value,
        },
    ),
    Key::new(
        "cache.check_every",
        r#""10m""#,
        "How often all that is watched is read again, one by one, and compared with what is in \
         memory; 0 is never.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: Duration::from_secs(30 * DAY),
            put: |config, value| config.cache.check_every = value,
        },
    ),
    Key::new(
        "guard.share",
        "50",
        "How many percent of a datacenter's instances, services or nodes may vanish from Consul \
         within 10 s and be believed; more is answered still for `guard.hold`.",
        Kind::Whole { min: 1, max: 100, put: |config, value| config.guard.share = value },
    ),
    Key::new(
        "guard.least",
        "10",
        "Where there are fewer of them than this, any share is believed.",
        Kind::Whole { min: 1, max: 1_000_000, put: |config, value| config.guard.least = value },
    ),
    Key::new(
        "guard.settle",
        r#""1s""#,
        "How long what vanishes is answered still, to see how much does. What turns critical is \
         left out at once.",
        Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_secs(60),
            put: |config, value| config.guard.settle = value,
        },
    ),
    Key::new(
        "guard.hold",
        r#""1m""#,
        "How long all that vanishes is answered still where too much did, or where the service \
         `consul` did. Then each is read again, and believed.",
        Kind::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_secs(DAY),
            put: |config, value| config.guard.hold = value,
        },
    ),
    Key::new(
        "split_brain.min_nodes",
        "0",
        "Servers of the local datacenter that must be alive; with fewer, or without a leader, nothing \
         that vanishes is believed. 0 is a majority of those that vote.",
        Kind::Whole { min: 0, max: 1000, put: |config, value| config.guard.min_nodes = value },
    ),
    Key::new(
        "catalog.file",
        r#""""#,
        "A catalogue file to serve instead of a Consul.",
        Kind::Path(|config, value| config.catalog_file = value),
    ),
    Key::new(
        "snapshot.path",
        r#""""#,
        "A file that holds the catalogue for the next start, so that it can answer without Consul; \
         none keeps nothing on disk.",
        Kind::Path(|config, value| config.snapshot.path = value),
    ),
    Key::new(
        "snapshot.every",
        r#""5s""#,
        "How often it is written at most, and only if something changed.",
        Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_secs(DAY),
            put: |config, value| config.snapshot.every = value,
        },
    ),
    Key::new(
        "snapshot.bytes_max",
        "268435456",
        "The largest such file that is written or read, in bytes.",
        Kind::Whole {
            min: 1024,
            max: 1_099_511_627_776,
            put: |config, value| config.snapshot.bytes_max = value,
        },
    ),
    Key::new(
        "metrics.services_max",
        "1000",
        "Services with series of their own; the rest are counted as `other`.",
        Kind::Whole {
            min: 0,
            max: 1_000_000,
            put: |config, value| config.metrics.services_max = value,
        },
    ),
    Key::new(
        "metrics.health_series_max",
        "10000",
        "Series of `fingerpost_service_health` at most.",
        Kind::Whole {
            min: 0,
            max: 1_000_000,
            put: |config, value| config.metrics.health_series_max = value,
        },
    ),
    Key::new(
        "shutdown.grace",
        r#""5s""#,
        "How long a shutdown may take before what is still in flight is dropped.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: Duration::from_secs(3600),
            put: |config, value| config.shutdown.grace = value,
        },
    ),
    Key::new(
        "shutdown.lameduck",
        r#""0s""#,
        "How long queries are still answered while `/ready` says 503, before the shutdown begins.",
        Kind::Duration {
            min: Duration::from_secs(0),
            max: Duration::from_secs(300),
            put: |config, value| config.shutdown.lameduck = value,
        },
    ),
];

/// In seconds.
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;
    use crate::config::draft::{Place, Written};
    use crate::config::duration;

    #[test]
    fn no_two_keys_share_a_name_or_a_variable() {
        let names: BTreeSet<&str> = all().map(|key| key.name).collect();
        let variables: BTreeSet<String> = all().map(Key::variable).collect();
        assert_eq!(names.len(), all().count());
        assert_eq!(variables.len(), all().count());
    }

    #[test]
    fn each_key_goes_to_the_field_of_its_name() {
        for key in all().filter(|key| key.effect == Effect::Counts && !key.is_table()) {
            let text = other_than_default(key);
            let mut config = Config::default();
            let before = format!("{config:?}");
            let written = Written::loose(Place::CommandLine, key.name, &text);
            reading::put(key, &written, "http", &mut config).unwrap();
            let after = format!("{config:?}");

            let same = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
            assert!(same < before.len(), "{} changes nothing", key.name);
            let (fields, _) = before[..same].rsplit_once(": ").unwrap();
            let field = fields.rsplit(' ').next().unwrap();
            let name = key.name.rsplit('.').next().unwrap();
            assert!(field.contains(name), "{} goes to {field}", key.name);
        }
    }

    fn other_than_default(key: &Key) -> String {
        let bounds = match &key.kind {
            Kind::Addresses(_) => ["x:1".to_owned(), String::new()],
            Kind::Choice(choices) => [choices[0].0.to_owned(), choices[1].0.to_owned()],
            Kind::Duration { min, max, .. } => [duration::render(*min), duration::render(*max)],
            Kind::Flag(_) => ["true".to_owned(), "false".to_owned()],
            Kind::Ips(_) | Kind::Networks(_) => ["::1".to_owned(), String::new()],
            Kind::Recursors(_) => ["::1".to_owned(), String::new()],
            Kind::Names { read, .. } if read("other").is_none() => {
                ["10.in-addr.arpa".to_owned(), String::new()]
            }
            Kind::Secrets(_) => ["0f".repeat(16), String::new()],
            Kind::Socket(_) | Kind::Sockets(_) | Kind::SocketsOrNone(_) => {
                ["[::1]:1".to_owned(), String::new()]
            }
            Kind::Text { fits, .. } if !fits("other") => {
                ["/other", "other:1"].map(|text| if fits(text) { text } else { "" }.to_owned())
            }
            Kind::Ttl(_) => ["0s".to_owned(), "9s".to_owned()],
            Kind::Whole { min, max, .. } => [min.to_string(), max.to_string()],
            _ => ["other".to_owned(), String::new()],
        };
        bounds.into_iter().find(|text| key.default.trim_matches('"') != text).unwrap()
    }

    #[test]
    fn sections_are_named_once() {
        let names: Vec<&str> = sections().collect();
        let distinct: BTreeSet<&str> = sections().collect();
        assert_eq!(names.len(), distinct.len(), "{names:?}");
    }

    #[test]
    fn the_readme_has_a_row_for_each_key() {
        let text = markdown();
        assert_eq!(text.lines().count(), all().count() + 2);
        for row in [
            "| `dns.workers` | `0` | `FINGERPOST_DNS_WORKERS` | UDP threads per address; 0 is one \
             per core. Must be a whole number from 0 to 256. |",
            "| `consul.token` | not set | `FINGERPOST_CONSUL_TOKEN`, `CONSUL_HTTP_TOKEN` | The ACL \
             token. Must be text of printable ASCII characters. |",
            "| `dns_config.allow_stale` | `true` | `FINGERPOST_DNS_CONFIG_ALLOW_STALE` | Means \
             nothing here: every answer comes from memory. Must be true or false. |",
        ] {
            assert!(text.lines().any(|line| line == row), "{row}\n{text}");
        }
    }
}
