//! From the configuration to what answers are decided by.

use crate::answer::chaos::Chaos;
use crate::answer::{Policy, Recursion, Soa};
use crate::catalog::Rules;
use crate::clock;
use crate::config::Config;
use crate::dns;
use crate::name::Zone;

/// What decides an answer besides the catalogue.
///
/// # Errors
///
/// Fails on a zone that is none, which the configuration rules out.
pub fn policy(config: &Config) -> anyhow::Result<Policy> {
    let (dns, answers, soa) = (&config.dns, &config.answers, config.answers.soa);
    let zones = |names: &[String]| names.iter().map(|name| Zone::new(name)).collect();
    let names: Vec<_> = [&config.domain].into_iter().chain(&config.alt_domain).cloned().collect();
    let zones_served: Result<Vec<Zone>, _> = zones(&names);
    let identity = || dns.identity.clone().unwrap_or_else(dns::host_name);
    let version = concat!("fingerpost ", env!("CARGO_PKG_VERSION"));
    let chaos = || Chaos { version: version.to_owned(), identity: identity() };
    Ok(Policy {
        zones: zones_served?,
        reverse_zones: zones(&dns.reverse_zones)?,
        name_servers: zones(&dns.name_servers)?,
        chaos: dns.chaos.then(chaos),
        client_subnet: dns.client_subnet,
        // Made where there are sockets to answer at.
        cookies: None,
        nsid: dns.nsid.then(|| identity().into_bytes().into()),
        idle: dns.connections.idle,
        any: dns.any,
        why: dns.why.clone(),
        udp_payload_max: dns.udp_payload_max,
        udp_answer_limit: answers.udp_answer_limit.min(UDP_ANSWER_MAX),
        a_record_limit: answers.a_record_limit,
        node_ttl_secs: answers.node_ttl_secs,
        max_stale_ms: clock::millis(answers.max_stale),
        soa: Soa {
            refresh_secs: soa.refresh_secs,
            retry_secs: soa.retry_secs,
            expire_secs: soa.expire_secs,
            min_ttl_secs: soa.min_ttl_secs,
        },
        advertise: dns.advertise.clone(),
        recursion: Recursion {
            enabled: !config.recursion.recursors.is_empty(),
            allow: config.recursion.allow.clone(),
        },
    })
}

/// How the catalogue is made into records.
pub fn rules(config: &Config, zone: Zone) -> Rules {
    Rules {
        zone,
        only_passing: config.answers.only_passing,
        translate_wan_addrs: config.translate_wan_addrs,
        node_ttl_secs: config.answers.node_ttl_secs,
        service_ttl_secs: config.answers.service_ttl_secs.clone(),
    }
}

/// Consul: `udp_answer_limit` counts up to 8.
const UDP_ANSWER_MAX: usize = 8;
