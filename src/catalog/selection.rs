//! Which instances count, with which weight and which TTL: policy that is applied when records
//! are made, and never per query.

use crate::catalog::addressing::View;
use crate::catalog::model::{Health, Instance};
use crate::name::Zone;

/// What decides the records of a catalogue besides the catalogue itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The zone that SRV targets are named in.
    pub zone: Zone,
    /// Leaves out instances that are not `Passing`.
    pub only_passing: bool,
    /// Answers with the `wan` addresses of other datacenters' nodes and services.
    pub translate_wan_addrs: bool,
    /// The TTL of node records, in seconds.
    pub node_ttl_secs: u32,
    /// Service name, prefix ending in `*`, or `*`, with a TTL in seconds; lower case.
    pub service_ttl_secs: Vec<(String, u32)>,
}

impl Rules {
    /// Consul's defaults, for `zone`.
    pub fn new(zone: Zone) -> Self {
        Self {
            zone,
            only_passing: false,
            translate_wan_addrs: false,
            node_ttl_secs: 0,
            service_ttl_secs: Vec::new(),
        }
    }

    /// Whether an instance of this health is answered with.
    ///
    /// Critical ones never are; the rest unless `only_passing` (Consul: §3 of its DNS).
    pub fn shows(&self, health: Health) -> bool {
        match health {
            Health::Critical => false,
            Health::Passing => true,
            Health::Unknown | Health::Warning => !self.only_passing,
        }
    }

    /// The TTL of the records of `service`, given in lower case.
    ///
    /// As Consul: the exact name, else the longest prefix ending in `*`, else 0.
    pub fn service_ttl_secs(&self, service: &str) -> u32 {
        self.service_ttl_rule(service).map_or(0, |(_, ttl)| *ttl)
    }

    /// The key in `service_ttl_secs` that sets the TTL of `service`, given in lower case.
    pub fn service_ttl_rule(&self, service: &str) -> Option<&(String, u32)> {
        let exact = self.service_ttl_secs.iter().find(|(key, _)| key == service);
        let prefixes = self.service_ttl_secs.iter().filter(|(key, _)| {
            key.strip_suffix('*').is_some_and(|prefix| service.starts_with(prefix))
        });
        exact.or_else(|| prefixes.max_by_key(|(key, _)| key.len()))
    }

    /// Whose clients ask for a datacenter, which may be the local one.
    pub fn view(&self, is_local: bool) -> View {
        match self.translate_wan_addrs && !is_local {
            true => View::Wan,
            false => View::Lan,
        }
    }
}

/// The SRV weight of an instance: by health, and 1 where Consul knows no such health. That of a
/// critical one, which only a prepared query can ask for, is 0.
pub fn weight(instance: &Instance) -> u16 {
    match instance.health {
        Health::Critical => 0,
        Health::Unknown => 1,
        Health::Passing => instance.weights.passing,
        Health::Warning => instance.weights.warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(only_passing: bool, ttls: &[(&str, u32)]) -> Rules {
        Rules {
            zone: Zone::new("consul").unwrap(),
            only_passing,
            translate_wan_addrs: false,
            node_ttl_secs: 0,
            service_ttl_secs: ttls.iter().map(|(key, ttl)| ((*key).to_owned(), *ttl)).collect(),
        }
    }

    #[test]
    fn what_is_shown_by_health() {
        let all = [Health::Passing, Health::Unknown, Health::Warning, Health::Critical];
        let shown = |only_passing| all.map(|health| rules(only_passing, &[]).shows(health));
        assert_eq!(shown(false), [true, true, true, false]);
        assert_eq!(shown(true), [true, false, false, false]);
    }

    #[test]
    fn the_exact_name_wins_then_the_longest_prefix() {
        let rules = rules(false, &[("web", 7), ("we*", 11), ("*", 3), ("w*", 5)]);
        for (service, expected) in [("web", 7), ("webby", 11), ("wx", 5), ("db", 3), ("we", 11)] {
            assert_eq!(rules.service_ttl_secs(service), expected, "{service}");
        }
    }
}
