//! What must hold between the names of a configuration: the zones, and their name servers.
//!
//! A zone that lies in another would hide names of it; one that is too long has no SOA; and a name
//! server below a zone of ours is found only if we answer for it. What a name means is the
//! grammar's to say, and whether the catalogue has it is not known yet: that is remarked on.

use crate::config::Config;
use crate::config::draft::Mistake;
use crate::config::draft::Remark;
use crate::config::together::Standing;
use crate::name::Labels;
use crate::name::Lookup;
use crate::name::Place;
use crate::name::Subject;
use crate::name::Zone;

/// Every rule between names that `config` breaks.
pub fn check(config: &Config, standing: &Standing<'_>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    mistakes.extend(length(DOMAIN, Some(&config.domain), standing));
    mistakes.extend(length(ALT_DOMAIN, config.alt_domain.as_ref(), standing));
    mistakes.extend(nested(config, standing));
    let never = name_servers(config, standing).filter(|(_, _, chance)| *chance == Chance::Never);
    mistakes.extend(never.filter_map(|(name, zone, _)| {
        let rule = format!(
            "must not have {name}, which does not exist: a name server below {zone} has a single \
             label more than it, such as ns1.{zone}"
        );
        standing.mistake(NAME_SERVERS, rule)
    }));
    mistakes
}

/// What is no mistake, but may not be what its writer thinks.
pub fn remarks(config: &Config, standing: &Standing<'_>) -> Vec<Remark> {
    let perhaps =
        name_servers(config, standing).filter(|(_, _, chance)| *chance == Chance::Perhaps);
    let remark = |(name, _, _)| {
        let text = format!("{name} is found only while the catalogue has it, and without glue");
        standing.remark(NAME_SERVERS, text)
    };
    perhaps.filter_map(remark).collect()
}

/// Each zone has an SOA, whose names are below it (RFC 1035 §2.3.4: 255 bytes with all lengths).
fn length(key: &str, domain: Option<&String>, standing: &Standing<'_>) -> Option<Mistake> {
    let len = domain.filter(|_| standing.is_sound(&[key]))?.len();
    let rule = || format!("must have at most {LEN_MAX} characters, to have room for hostmaster.");
    (len > LEN_MAX).then(rule).and_then(|rule| standing.mistake(key, rule))
}

fn nested(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let (domain, alt) = (&config.domain, config.alt_domain.as_ref()?);
    if !standing.is_sound(&[DOMAIN, ALT_DOMAIN]) {
        return None;
    }
    let is_below =
        |name: &str, zone: &str| name.strip_suffix(zone).is_some_and(|left| left.ends_with('.'));
    let place = match (is_below(alt, domain), is_below(domain, alt)) {
        (true, _) => "below",
        (_, true) => "above",
        (false, false) => return None,
    };
    let rule = format!(
        "must not be {place} {DOMAIN}, which is {domain}: one of them would hide names of the other"
    );
    standing.mistake(ALT_DOMAIN, rule)
}

/// Whether a name server can be found by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Chance {
    Always,
    Never,
    /// Where the catalogue has it.
    Perhaps,
}

/// The name servers below zones of ours, with the zone.
fn name_servers<'c>(
    config: &'c Config,
    standing: &Standing<'_>,
) -> impl Iterator<Item = (&'c String, &'c String, Chance)> {
    let is_sound = standing.is_sound(&[DOMAIN, ALT_DOMAIN, NAME_SERVERS]);
    let names = config.dns.name_servers.iter().filter(move |_| is_sound);
    names.filter_map(|name| {
        let mut zones = std::iter::once(&config.domain).chain(&config.alt_domain);
        zones.find_map(|zone| Some((name, zone, chance(name, zone)?)))
    })
}

/// `None` where `name` is not of `zone`.
fn chance(name: &str, zone: &str) -> Option<Chance> {
    let labels = Labels::from_wire(Zone::new(name).ok()?.wire())?;
    let count = labels.below(&Zone::new(zone).ok()?)?;
    // Those of one label are answered for with our own addresses.
    if count == 1 {
        return Some(Chance::Always);
    }
    let Ok(lookup) = Lookup::parse(&labels, count) else { return Some(Chance::Never) };
    Some(match (lookup.subject, lookup.place) {
        (Subject::Address { .. }, Place::Local) => Chance::Always,
        // A datacenter may be called `dc`; then `web.dc` is a service.
        (Subject::Scope, Place::Datacenter(_)) => Chance::Perhaps,
        (Subject::Apex | Subject::Bare { .. } | Subject::Kind | Subject::Scope, _) => Chance::Never,
        _ => Chance::Perhaps,
    })
}

const ALT_DOMAIN: &str = "alt_domain";
const DOMAIN: &str = "domain";
const NAME_SERVERS: &str = "dns.name_servers";

/// 255 bytes, less the root, the first length and `hostmaster` with its own.
const LEN_MAX: usize = 255 - 1 - 1 - 11;

#[cfg(test)]
mod tests {
    use crate::config::trial::{check_line as check, said};

    #[test]
    fn a_zone_has_room_for_its_soa() {
        // RFC 1035 §2.3.4: 10 letters of hostmaster and their length, 242 and one more, the root.
        let most = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(50));
        assert_eq!(most.len() + 1 + 11 + 1, 255);
        check(&format!("domain = \"{most}\"\nalt_domain = \"b{}\"", &most[1..]), "ok");
        for key in ["domain", "alt_domain"] {
            let said = said(&format!("{key} = \"{most}a\""), "");
            let rule = ": must have at most 242 characters, to have room for hostmaster.";
            assert!(said.ends_with(rule) && said.contains(key), "{said}");
        }
    }

    #[test]
    fn no_zone_is_in_the_other() {
        for (text, expected) in [
            ("alt_domain = \"consul.example.com\"", "ok"),
            ("alt_domain = \"notconsul\"", "ok"),
            ("alt_domain = \"consul\"", "ok"),
            (
                "alt_domain = \"service.consul\"",
                "alt_domain = \"service.consul\": must not be below domain, which is consul: \
                 one of them would hide names of the other",
            ),
            (
                "alt_domain = \"Example.com.\"\ndomain = \"consul.example.com\"",
                "alt_domain = \"Example.com.\": must not be above domain, which is \
                 consul.example.com: one of them would hide names of the other",
            ),
            // A mistake of its own is told alone.
            (
                "alt_domain = \"service.consul\"\ndomain = \"a b\"",
                "f.toml:2: domain = \"a b\": must be a domain such as consul or \
                 consul.example.com, neither the root nor below arpa",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn a_name_server_below_a_zone_must_be_found() {
        let never = |name: &str| {
            format!(
                "dns.name_servers = \"{name}\": must not have {name}, which does not exist: a name \
                 server below consul has a single label more than it, such as ns1.consul"
            )
        };
        let perhaps = |name: &str| {
            format!(
                "dns.name_servers: {name} is found only while the catalogue has it, and without glue"
            )
        };
        for (name, expected) in [
            ("ns1.example.com", "ok".to_owned()),
            ("ns.consul", "ok".to_owned()),
            ("ns1.consul", "ok".to_owned()),
            ("0a000001.addr.consul", "ok".to_owned()),
            ("consul", never("consul")),
            ("x.addr.consul", never("x.addr.consul")),
            ("default.ns.consul", never("default.ns.consul")),
            ("service.dc1.consul", never("service.dc1.consul")),
            ("web.service.a.b.c.consul", never("web.service.a.b.c.consul")),
            ("n1.node.consul", perhaps("n1.node.consul")),
            ("web.dc1.consul", perhaps("web.dc1.consul")),
            ("web.service.consul", perhaps("web.service.consul")),
            ("0a000001.addr.dc1.consul", perhaps("0a000001.addr.dc1.consul")),
        ] {
            check(&format!("dns.name_servers = \"{name}\""), &expected);
        }
        check(
            "alt_domain = \"example.com\"\ndns.name_servers = [\"example.com\"]",
            "f.toml:2: dns.name_servers = [\"example.com\"]: must not have example.com, which does \
             not exist: a name server below example.com has a single label more than it, such as \
             ns1.example.com",
        );
    }
}
