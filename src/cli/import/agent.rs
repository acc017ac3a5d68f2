//! The agent as one that is asked: where it is, by TLS or not, with which token, how often; and
//! where its own DNS is, in whose place this server may be.
//!
//! ```text
//!   ports.dns, addresses.dns, client_addr      -> dns.listen
//!   ports.https or .http, addresses.…          -> consul.addresses
//!   tls.https, tls.defaults, the older keys    -> consul.ca_file … tls_server_name
//!   acl.tokens.dns or .default                 -> a file, by hand
//!   limits.http_max_conns_per_client           -> consul.connections_max or .streams_max
//! ```
//! It is taken to run on the same machine, as an agent does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::cli::import::page::Fate;
use crate::cli::import::page::Page;
use crate::cli::import::translate::TEMPLATE;

/// What a configuration says of the agent itself.
#[derive(Clone, Copy)]
pub struct Agent<'r> {
    root: &'r Map<String, Value>,
}

/// How the agent is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scheme {
    Http,
    Https,
}

impl<'r> Agent<'r> {
    /// The agent that `root` configures.
    pub fn new(root: &'r Map<String, Value>) -> Self {
        Self { root }
    }

    /// Whether `name`, as in `ports.dns`, is a key that is dealt with here.
    pub fn has(name: &str) -> bool {
        KEYS.contains(&name)
    }

    /// Whether some such key begins with `section`, as in `ports.`.
    pub fn has_in(section: &str) -> bool {
        KEYS.iter().any(|key| key.starts_with(section))
    }

    /// All keys that are dealt with here.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        KEYS.iter().copied()
    }

    /// Says what becomes of them.
    pub fn translate(self, page: &mut Page) {
        self.listen(page);
        let scheme = self.scheme();
        self.addresses(scheme, page);
        self.tls(scheme, page);
        self.tokens(page);
        self.limits(scheme, page);
    }

    /// Where Consul's own DNS is.
    fn listen(self, page: &mut Page) {
        let of = self.given(&["ports.dns", "addresses.dns", "client_addr"]);
        let Some(port) = self.port("dns", 8600) else {
            let text = "Consul's own DNS is off; this one listens at its default, 127.0.0.1:8653";
            return page.note(&of, Fate::Nothing, text);
        };
        if of.is_empty() {
            return;
        }
        let hosts = self.hosts("dns");
        let ips = hosts.iter().filter_map(|host| host.parse().ok());
        let listen: Vec<String> =
            ips.map(|ip: IpAddr| SocketAddr::new(ip, port).to_string()).collect();
        if listen.len() < hosts.len() {
            page.note(&of, Fate::ByHand, &format!("{TEMPLATE}, in dns.listen"));
        }
        if !listen.is_empty() {
            let text = "where Consul's own DNS is; turn that off (ports.dns = -1), or change this";
            page.translate("dns.listen", &json!(listen), &of, text);
        }
    }

    /// HTTPS where the agent has it, since watches share connections there.
    fn scheme(self) -> Option<Scheme> {
        match (self.port("https", OFF), self.port("http", 8500)) {
            (Some(_), _) => Some(Scheme::Https),
            (None, Some(_)) => Some(Scheme::Http),
            (None, None) => None,
        }
    }

    fn addresses(self, scheme: Option<Scheme>, page: &mut Page) {
        let of = self.given(match scheme {
            Some(Scheme::Https) => &["ports.https", "addresses.https", "client_addr"],
            Some(Scheme::Http) => &["ports.http", "addresses.http", "client_addr"],
            None => &["ports.http", "ports.https"],
        });
        let (word, port) = match scheme {
            Some(Scheme::Https) => ("https", self.port("https", OFF)),
            Some(Scheme::Http) => ("http", self.port("http", 8500)),
            None => {
                let text = "Consul's HTTP port is off, without which nothing can be asked";
                return page.note(&of, Fate::ByHand, text);
            }
        };
        let (unused, text) = match scheme {
            Some(Scheme::Https) => {
                (self.given(&["ports.http", "addresses.http"]), "asked over HTTPS, as it has that")
            }
            _ => (self.given(&["ports.https", "addresses.https"]), "HTTPS is off"),
        };
        if !unused.is_empty() {
            page.note(&unused, Fate::Nothing, text);
        }
        if of.is_empty() {
            return;
        }
        match nearest_host(&self.hosts(word), word, port.unwrap_or_default()) {
            Some(address) => {
                let text = "the agent, on the same machine";
                page.translate("consul.addresses", &json!([address]), &of, text);
            }
            None => page.note(&of, Fate::ByHand, &format!("{TEMPLATE}, in consul.addresses")),
        }
    }

    /// What is shown to the agent, and what it must show; of no use without TLS.
    fn tls(self, scheme: Option<Scheme>, page: &mut Page) {
        let wanted_by = self.wanted_by();
        for key in TLS_KEYS {
            let mut is_decided = false;
            let names = [format!("tls.https.{key}"), format!("tls.defaults.{key}"), key.to_owned()];
            for name in names.iter().filter(|name| Self::has(name)) {
                let Some(value) = self.get(name) else { continue };
                if scheme != Some(Scheme::Https) {
                    page.note(name, Fate::Nothing, "the agent is asked without TLS");
                } else if is_decided {
                    page.note(name, Fate::Nothing, "something nearer to HTTPS is given");
                } else {
                    self.tls_key(key, (name, value), wanted_by, page);
                }
                is_decided = true;
            }
        }
        self.tls_names(scheme, page);
    }

    /// A key that counts for HTTPS; `wanted_by` makes the agent want a certificate of its clients.
    fn tls_key(
        self,
        key: &str,
        (name, value): (&str, &Value),
        wanted_by: Option<&str>,
        page: &mut Page,
    ) {
        match (key, wanted_by) {
            ("ca_file", _) => page.take("consul.ca_file", name, value),
            ("ca_path", _) => page.take("consul.ca_path", name, value),
            (_, None) => {
                page.note(name, Fate::Nothing, "the agent asks no client for a certificate")
            }
            ("cert_file", Some(wanted)) => {
                page.translate("consul.cert_file", value, &format!("{name}, {wanted}"), SHOWN);
            }
            ("key_file", _) => page.translate("consul.key_file", value, name, SHOWN),
            (_, Some(wanted)) if wanted != name => {
                page.note(name, Fate::Nothing, &format!("{wanted} wants a certificate anyway"));
            }
            // It is named beside the certificate.
            _ if self.has_tls("cert_file") => (),
            _ => {
                let text = "the agent wants a certificate: name one in consul.cert_file and its key in \
                            consul.key_file";
                page.note(name, Fate::ByHand, text);
            }
        }
    }

    fn tls_names(self, scheme: Option<Scheme>, page: &mut Page) {
        let is_secure = scheme == Some(Scheme::Https);
        if is_secure && !self.has_tls("ca_file") && !self.has_tls("ca_path") {
            let text = "who signed the agent's certificate is not in these files: unless the system \
                        trusts them, name them in consul.ca_file";
            page.note("ports.https", Fate::ByHand, text);
        }
        let Some(value) = self.get("server_name") else { return };
        if is_secure {
            let text = "the name to find in the agent's certificate";
            page.translate("consul.tls_server_name", value, "server_name", text);
        } else {
            page.note("server_name", Fate::Nothing, "the agent is asked without TLS");
        }
    }

    /// Whether one of the places where `key` counts for HTTPS has it.
    fn has_tls(self, key: &str) -> bool {
        ["tls.https.", "tls.defaults.", ""]
            .iter()
            .any(|place| self.get(&format!("{place}{key}")).is_some())
    }

    /// The key by which the agent lets nobody in over HTTPS who shows no certificate.
    fn wanted_by(self) -> Option<&'static str> {
        let is_true = |name: &&str| self.get(name) == Some(&json!(true));
        let nearest = ["tls.https.verify_incoming", "tls.defaults.verify_incoming"];
        match nearest.into_iter().find(|name| self.get(name).is_some()) {
            Some(name) => Some(name).filter(is_true),
            None => ["verify_incoming", "verify_incoming_https"].into_iter().find(is_true),
        }
    }

    fn tokens(self, page: &mut Page) {
        let mut is_decided = false;
        for name in ["acl.tokens.dns", "acl.tokens.default", "acl_token"] {
            if self.get(name).is_none() {
                continue;
            }
            if is_decided {
                page.note(name, Fate::Nothing, "Consul's DNS asks with another");
                continue;
            }
            is_decided = true;
            let text = "a token is never printed: write it into a file that only this program may \
                        read, and name that in consul.token_file";
            page.note(name, Fate::ByHand, text);
        }
        if self.get("acl.enabled").is_none() {
            return;
        }
        if self.get("acl.enabled") == Some(&json!(true)) && !is_decided {
            let text = "no token for DNS is in these files: give one by consul.token_file, or let the \
                        anonymous token read services and nodes";
            page.note("acl.enabled", Fate::ByHand, text);
        } else {
            page.note("acl.enabled", Fate::Nothing, "Consul judges what a token may read");
        }
    }

    /// Two fifths of what the agent lets in of one client, as by default: a restart, during which
    /// Consul still holds what the run before asked, must have room too.
    fn limits(self, scheme: Option<Scheme>, page: &mut Page) {
        let name = "limits.http_max_conns_per_client";
        let Some(value) = self.get(name) else { return };
        let Some(limit) = whole(value) else {
            return page.note(name, Fate::ByHand, "it must be a whole number");
        };
        let share = limit.clamp(0, PORTS) * 2 / 5;
        let enough = |key: &str, ours: i64| format!("{key} is {ours} by default, which it lets in");
        match scheme {
            _ if limit <= 0 => page.note(name, Fate::Nothing, "the agent has no limit"),
            Some(Scheme::Https) if share * STREAMS_PER_CONNECTION >= STREAMS_MAX => {
                page.note(name, Fate::Nothing, &enough("consul.streams_max", STREAMS_MAX));
            }
            Some(Scheme::Https) if share > 0 => {
                let text = "200 on each of two fifths of its connections";
                let streams = json!(share * STREAMS_PER_CONNECTION);
                page.translate("consul.streams_max", &streams, name, text);
            }
            _ if share >= CONNECTIONS_MAX => {
                page.note(name, Fate::Nothing, &enough("consul.connections_max", CONNECTIONS_MAX));
            }
            _ if share >= CONNECTIONS_LEAST => {
                let text = "two fifths of it, so that a restart has room";
                page.translate("consul.connections_max", &json!(share), name, text);
                let spare = CONNECTIONS_SPARE.min(share / 2);
                if spare < CONNECTIONS_SPARE {
                    page.translate("consul.connections_spare", &json!(spare), name, "half of that");
                }
            }
            _ => {
                page.note(name, Fate::ByHand, "too few to ask the agent by: raise it to 20 or more")
            }
        }
    }

    /// The addresses that the agent listens on for `what`, as they are written.
    fn hosts(self, what: &str) -> Vec<String> {
        let given = self.get(&format!("addresses.{what}")).or_else(|| self.get("client_addr"));
        let text = given.and_then(Value::as_str).unwrap_or("127.0.0.1");
        // A template may hold blanks.
        let (mut hosts, mut is_open) = (Vec::<String>::new(), false);
        for word in text.split_whitespace() {
            match hosts.last_mut().filter(|_| is_open) {
                Some(host) => *host = format!("{host} {word}"),
                None => hosts.push(word.to_owned()),
            }
            is_open = hosts
                .last()
                .is_some_and(|host| host.matches("{{").count() > host.matches("}}").count());
        }
        hosts
    }

    /// The port for `what`; `None` where it is off.
    fn port(self, what: &str, default: i64) -> Option<u16> {
        let port = self.get(&format!("ports.{what}")).map_or(Some(default), whole)?;
        u16::try_from(port).ok().filter(|port| *port > 0)
    }

    /// Those of `names` that are given, with commas.
    fn given(self, names: &[&str]) -> String {
        let given: Vec<&str> =
            names.iter().copied().filter(|name| self.get(name).is_some()).collect();
        given.join(", ")
    }

    fn get(self, name: &str) -> Option<&'r Value> {
        let mut parts = name.split('.');
        let mut value = self.root.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value)
    }
}

/// The URL of the agent at one of `hosts`: by loopback where that is possible.
fn nearest_host(hosts: &[String], scheme: &str, port: u16) -> Option<String> {
    let here = |host: &String| match host.parse() {
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        other => other.ok(),
    };
    let ips: Vec<IpAddr> = hosts.iter().filter_map(here).collect();
    let ip = ips.iter().find(|ip| ip.is_loopback()).or_else(|| ips.first());
    match ip {
        Some(ip) => Some(format!("{scheme}://{}", SocketAddr::new(*ip, port))),
        // Without TLS alone, as ours are.
        None => hosts.iter().find(|host| scheme == "http" && host.starts_with("unix://")).cloned(),
    }
}

fn whole(value: &Value) -> Option<i64> {
    // A float is cut, as Consul does.
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

const SHOWN: &str =
    "shown to the agent, which wants a certificate; one of this program's own is better";

/// Of a port that is off.
const OFF: i64 = -1;

/// The defaults of `consul.connections_max`, `consul.connections_spare` and `consul.streams_max`.
const CONNECTIONS_MAX: i64 = 80;
const CONNECTIONS_SPARE: i64 = 8;
const STREAMS_MAX: i64 = 2000;

/// No client has more connections than ports.
const PORTS: i64 = 65_536;

/// The least that `consul.connections_max` may be.
const CONNECTIONS_LEAST: i64 = 8;

/// What Consul lets there be on a connection.
const STREAMS_PER_CONNECTION: i64 = 200;

/// The keys of TLS, which stand in three places.
const TLS_KEYS: [&str; 6] =
    ["ca_file", "ca_path", "cert_file", "key_file", "verify_incoming", "verify_incoming_https"];

const KEYS: &[&str] = &[
    "acl.enabled",
    "acl.tokens.default",
    "acl.tokens.dns",
    "acl_token",
    "addresses.dns",
    "addresses.http",
    "addresses.https",
    "ca_file",
    "ca_path",
    "cert_file",
    "client_addr",
    "key_file",
    "limits.http_max_conns_per_client",
    "ports.dns",
    "ports.http",
    "ports.https",
    "server_name",
    "tls.defaults.ca_file",
    "tls.defaults.ca_path",
    "tls.defaults.cert_file",
    "tls.defaults.key_file",
    "tls.defaults.verify_incoming",
    "tls.https.ca_file",
    "tls.https.ca_path",
    "tls.https.cert_file",
    "tls.https.key_file",
    "tls.https.verify_incoming",
    "verify_incoming",
    "verify_incoming_https",
];
