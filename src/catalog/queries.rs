//! The prepared queries of a datacenter, as Consul lists them: what can be executed, and how the
//! results are sorted.
//!
//! **Invariant:** a list is kept only where it is known to be whole. What it lacks does not exist.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One prepared query.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct QueryEntry {
    /// In lower case; empty for a query that has an ID only.
    pub name: String,
    /// In lower case.
    pub id: String,
    /// Whether every name that starts with this one is it.
    pub is_template: bool,
    /// What the nearest instance comes first of; empty where they come in no order.
    pub near: String,
    /// When it was last changed, in Consul's history.
    pub modified: u64,
}

impl QueryEntry {
    /// Whether the nearest instance is that to the client, so that it varies from one to another.
    pub fn is_by_client(&self) -> bool {
        self.near == "_ip"
    }
}

/// The name under which the result for a client's network is kept: `geo` for 192.0.2.0/24.
///
/// No query can have such a name: the list of queries has none with a zero in it.
pub fn name_for(name: &str, client: IpAddr) -> String {
    format!("{name}\0{}", network(client))
}

/// The query of a name made by [`name_for`], and a client that it is for; the name itself and none
/// for any other.
pub fn split(name: &str) -> (&str, Option<IpAddr>) {
    match name.split_once('\0') {
        Some((name, client)) => (name, client.parse().ok()),
        None => (name, None),
    }
}

/// The first address of a client's network: of 24 bits of IPv4, or 56 of IPv6, which are as much as a
/// forwarder tells (RFC 7871 §11.1).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() >> 8 << 8).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 72 << 72).into(),
    }
}

/// The prepared queries of a datacenter.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Queries {
    /// Sorted by name.
    entries: Vec<QueryEntry>,
}

impl Queries {
    /// Takes a whole list.
    pub fn new(mut entries: Vec<QueryEntry>) -> Self {
        entries.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Self { entries }
    }

    /// All of them, sorted.
    pub fn entries(&self) -> &[QueryEntry] {
        &self.entries
    }

    /// The query that is executed for `name`, in lower case: by name, by ID, or the template with
    /// the longest prefix.
    pub fn find(&self, name: &[u8]) -> Option<&QueryEntry> {
        let exact = |entry: &&QueryEntry| {
            let is_named = !entry.is_template && entry.name.as_bytes() == name;
            is_named && !name.is_empty() || entry.id.as_bytes() == name
        };
        let templates = self.entries.iter().filter(|entry| entry.is_template);
        self.entries.iter().find(exact).or_else(|| {
            templates
                .filter(|entry| name.starts_with(entry.name.as_bytes()))
                .max_by_key(|entry| entry.name.len())
        })
    }

    /// Whether the dotted name of a query ends with this one, so that it is the parent of a name.
    pub fn has_below(&self, name: &[u8]) -> bool {
        self.entries.iter().any(|entry| {
            let rest = entry.name.as_bytes().strip_suffix(name);
            rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with(b"."))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(names: &[&str]) -> Queries {
        let entries = names.iter().map(|name| QueryEntry {
            name: name.trim_end_matches('*').to_owned(),
            id: format!("id-of-{name}"),
            is_template: name.ends_with('*'),
            near: String::new(),
            modified: 1,
        });
        Queries::new(entries.collect())
    }

    #[test]
    fn a_name_and_the_query_for_it() {
        let queries = queries(&["q1", "geo-*", "geo-eu-*", "a.b"]);
        for (name, expected) in [
            ("q1", Some("q1")),
            ("geo-web", Some("geo-")),
            ("geo-eu-web", Some("geo-eu-")),
            ("geo", None),
            ("id-of-q1", Some("q1")),
            ("", None),
            ("b", None),
        ] {
            let found = queries.find(name.as_bytes()).map(|entry| &*entry.name);
            assert_eq!(found, expected, "{name}");
        }
        assert!(queries.has_below(b"b") && !queries.has_below(b"a"));
    }

    #[test]
    fn results_by_network() {
        for (client, expected) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2ff:3::4", "2001:db8:1:200::"),
        ] {
            let name = name_for("geo.x", client.parse().unwrap());
            assert_eq!(split(&name), ("geo.x", Some(expected.parse().unwrap())), "{client}");
        }
        assert_eq!(split("geo.x"), ("geo.x", None));
    }

    /// Consul: a template without a name stands for all names.
    #[test]
    fn an_empty_prefix_takes_all() {
        let queries = queries(&["*"]);
        assert!(queries.find(b"anything").is_some_and(|entry| entry.is_template));
    }
}
