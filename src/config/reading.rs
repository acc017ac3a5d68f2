//! A value as written, read as its key wants it, and put in its place.
//!
//! The file is typed: a number in quotes is no number there. Variables and flags are text, read
//! as the key's type; lists are separated by commas there.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::answer::Network;
use crate::config::Config;
use crate::config::ConsulAddress;
use crate::config::Secret;
use crate::config::cookies;
use crate::config::draft::Mistake;
use crate::config::draft::Value;
use crate::config::draft::Written;
use crate::config::duration;
use crate::config::key::Key;
use crate::config::key::Kind;
use crate::config::key::TTL_ALLOWED;

/// Puts `written` where `key` says. Addresses of Consul without a scheme get `scheme`.
///
/// # Errors
///
/// Returns every mistake in the value; `config` is as before then.
pub fn put(
    key: &Key,
    written: &Written,
    scheme: &str,
    config: &mut Config,
) -> Result<(), Vec<Mistake>> {
    let done = match &key.kind {
        Kind::Addresses(put) => {
            let found = list(key, written, |text| address(text, scheme))?;
            not_empty(found).map(|found| put(config, found))
        }
        Kind::Choice(choices) => string(written)
            .and_then(|text| choices.iter().find(|(word, _)| *word == text))
            .map(|(_, put)| put(config)),
        Kind::Domain(put) => string(written).and_then(domain).map(|name| put(config, name)),
        Kind::Duration { min, max, put } => string(written)
            .and_then(duration::parse)
            .filter(|duration| (min..=max).contains(&duration))
            .map(|duration| put(config, duration)),
        Kind::Flag(put) => flag(written).map(|flag| put(config, flag)),
        Kind::Ips(put) => {
            let found = list(key, written, |text| text.parse::<IpAddr>().ok())?;
            put(config, found);
            Some(())
        }
        Kind::Names { read, put, .. } => {
            let found = list(key, written, read)?;
            put(config, found.concat());
            Some(())
        }
        Kind::Networks(put) => {
            let found = list(key, written, Network::parse)?;
            put(config, found);
            Some(())
        }
        Kind::Path(put) => path(written).map(|path| put(config, path)),
        Kind::Recursors(put) => Some(list(key, written, recursor)?).map(|found| put(config, found)),
        Kind::Secret(put) => string(written)
            // It travels in a header.
            .filter(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
            .map(|text| put(config, filled(text).map(|text| Secret::new(text.to_owned())))),
        Kind::Secrets(put) => {
            two_at_most(list(key, written, cookie_secret)?).map(|found| put(config, found))
        }
        Kind::Socket(put) => {
            string(written).and_then(|text| text.parse().ok()).map(|address| put(config, address))
        }
        Kind::Sockets(put) => {
            let found = list(key, written, |text| text.parse().ok())?;
            not_empty(found).map(|found| put(config, found))
        }
        Kind::SocketsOrNone(put) => {
            Some(list(key, written, |text| text.parse().ok())?).map(|found| put(config, found))
        }
        Kind::Text { fits, put, .. } => string(written)
            .filter(|text| text.is_empty() || fits(text))
            .map(|text| put(config, filled(text).map(str::to_owned))),
        Kind::Ttl(put) => string(written).and_then(ttl_secs).map(|secs| put(config, secs)),
        Kind::Ttls(put) => {
            let found = ttls(key, written)?;
            put(config, found);
            Some(())
        }
        Kind::Whole { min, max, put } => whole(written)
            .filter(|number| (min..=max).contains(&number))
            .map(|number| put(config, number)),
    };
    done.ok_or_else(|| vec![written.mistake(key, format!("must be {}", key.allowed()))])
}

/// Reads a boolean as Go's `ParseBool` does.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn string(written: &Written) -> Option<&str> {
    match &written.value {
        Value::Loose => Some(&written.text),
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn flag(written: &Written) -> Option<bool> {
    match &written.value {
        Value::Boolean(flag) => Some(*flag),
        Value::Loose => boolean(&written.text),
        _ => None,
    }
}

fn whole(written: &Written) -> Option<usize> {
    match &written.value {
        Value::Loose => written.text.parse().ok(),
        Value::Whole(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

/// The inner `None` is the empty path, which is "not set".
fn path(written: &Written) -> Option<Option<PathBuf>> {
    match &written.value {
        Value::Path(path) if path.as_os_str().is_empty() => None,
        Value::Path(path) => Some(Some(path.clone())),
        _ => string(written)
            .filter(|text| !text.contains('\0'))
            .map(|text| filled(text).map(PathBuf::from)),
    }
}

/// Every item of a list, read by `item`; a text of the file's is a list of one.
fn list<T>(
    key: &Key,
    written: &Written,
    item: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Vec<Mistake>> {
    let parts: Vec<Written> = match &written.value {
        Value::Array(items) => items.clone(),
        Value::Loose => written
            .text
            .split(',')
            .map(|part| Written { text: part.trim().to_owned(), ..written.clone() })
            .collect(),
        _ => vec![written.clone()],
    };
    let (mut found, mut mistakes) = (Vec::new(), Vec::new());
    for part in &parts {
        match string(part).and_then(&item) {
            Some(value) => found.push(value),
            None => {
                let mistake = part.mistake(key, format!("must be {}", key.allowed()));
                // `,` is nothing twice.
                if !mistakes.contains(&mistake) {
                    mistakes.push(mistake);
                }
            }
        }
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

/// TTLs by name of service, the names in lower case as lookups have them.
fn ttls(key: &Key, written: &Written) -> Result<Vec<(String, u32)>, Vec<Mistake>> {
    let Value::Table(entries) = &written.value else {
        return Err(vec![written.mistake(key, format!("must be {}", key.allowed()))]);
    };
    let (mut found, mut mistakes) = (Vec::<(String, u32)>::new(), Vec::new());
    for (name, entry) in entries {
        let name = name.to_lowercase();
        let prefix = name.strip_suffix('*').unwrap_or(&name);
        if name.is_empty() || prefix.contains('*') {
            let rule = "must be for a service, a prefix ending in *, or *".to_owned();
            mistakes.push(entry.mistake(key, rule));
        } else if found.iter().any(|(known, _)| *known == name) {
            let rule = "must not be given twice; letter case makes no difference".to_owned();
            mistakes.push(entry.mistake(key, rule));
        } else if let Some(secs) = string(entry).and_then(ttl_secs) {
            found.push((name, secs));
        } else {
            mistakes.push(entry.mistake(key, format!("must be {TTL_ALLOWED}")));
        }
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

/// Consul cuts a TTL down to whole seconds; RFC 2181 §8 allows 31 bits.
fn ttl_secs(text: &str) -> Option<u32> {
    let secs = duration::parse(text)?.as_secs();
    u32::try_from(secs).ok().filter(|secs| *secs <= TTL_SECS_MAX)
}

/// Reads a domain: lower case, without its trailing dot, neither the root nor below arpa; sizes as
/// in RFC 1035 §2.3.4.
pub fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_name = name.len() <= DOMAIN_LEN_MAX && name.split('.').all(is_label);
    let is_below_arpa = name == "arpa" || name.ends_with(".arpa");
    (is_name && !is_below_arpa).then_some(name)
}

fn cookie_secret(text: &str) -> Option<Secret> {
    cookies::key(text).map(|_| Secret::new(text.to_owned()))
}

fn is_label(label: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(is_of_name)
}

/// True for what may stand as a host: labels and dots.
pub fn is_host(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= DOMAIN_LEN_MAX && name.split('.').all(is_label)
}

/// As Consul reads them. Nobody answers at an address that means all or many.
fn recursor(text: &str) -> Option<SocketAddr> {
    let bare = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let recursor = bare.or_else(|| text.parse().ok())?;
    let ip = recursor.ip();
    let is_one = !ip.is_unspecified() && !ip.is_multicast();
    (is_one && recursor.port() != 0).then_some(recursor)
}

fn address(text: &str, scheme: &str) -> Option<ConsulAddress> {
    let (scheme, rest) = text.split_once("://").unwrap_or((scheme, text));
    match scheme {
        "unix" => {
            let is_path = Path::new(rest).is_absolute() && !rest.contains('\0');
            is_path.then(|| ConsulAddress::Unix(PathBuf::from(rest)))
        }
        "http" | "https" => {
            let rest = rest.trim_end_matches('/');
            let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte);
            (is_authority(authority) && path.bytes().all(is_plain))
                .then(|| ConsulAddress::Http(format!("{scheme}://{rest}")))
        }
        _ => None,
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; no user.
fn is_authority(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        return rest
            .split_once(']')
            .is_some_and(|(host, port)| host.parse::<Ipv6Addr>().is_ok() && is_port(port));
    }
    text.split_at_checked(text.find(':').unwrap_or(text.len()))
        .is_some_and(|(host, port)| is_host(host) && is_port(port))
}

/// Nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => text.is_empty(),
    }
}

/// `None` for the empty text, which is "not set".
fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn not_empty<T>(found: Vec<T>) -> Option<Vec<T>> {
    (!found.is_empty()).then_some(found)
}

fn two_at_most<T>(found: Vec<T>) -> Option<Vec<T>> {
    (found.len() <= 2).then_some(found)
}

/// The longest name in text, without the trailing dot.
const DOMAIN_LEN_MAX: usize = 253;

/// Where DNS is asked unless one says otherwise.
const DNS_PORT: u16 = 53;

const TTL_SECS_MAX: u32 = 2_147_483_647;

#[cfg(test)]
mod tests {
    use crate::config::trial::{check_line as check, said, sound};

    #[test]
    fn numbers_must_be_whole_and_within_bounds() {
        for (text, expected) in [
            ("dns.workers = 256", "ok"),
            ("dns.workers = 2_5_6", "ok"),
            ("dns.workers = 257", "dns.workers = 257: must be a whole number from 0 to 256"),
            ("dns.workers = \"4\"", "dns.workers = \"4\": must be a whole number from 0 to 256"),
            ("dns.workers = 1.0", "dns.workers = 1.0: must be a whole number from 0 to 256"),
            ("dns.workers = []", "dns.workers = []: must be a whole number from 0 to 256"),
            (
                "dns.udp_payload_max = 511",
                "dns.udp_payload_max = 511: must be a whole number from 512 to 4096",
            ),
            (
                "dns_config.soa.expire = 2147483648",
                "dns_config.soa.expire = 2147483648: \
                 must be a whole number from 0 to 2147483647",
            ),
            (
                "dns.waiting_max = 99999999999999999999999999999999999999999",
                "dns.waiting_max = 99999999999999999999999999999999999999999: \
                 must be a whole number from 1 to 1000000",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn durations_must_be_gos_and_within_bounds() {
        for (text, expected) in [
            ("consul.wait = \"1s\"", "ok"),
            ("consul.wait = \"10m\"", "ok"),
            (
                "consul.wait = \"10m1s\"",
                "consul.wait = \"10m1s\": must be a duration such as \"1m30s\", from 1s to 10m",
            ),
            (
                "consul.wait = 30",
                "consul.wait = 30: must be a duration such as \"1m30s\", from 1s to 10m",
            ),
            (
                "cache.kept = \"1d\"",
                "cache.kept = \"1d\": must be a duration such as \"1m30s\", from 0s to 24h",
            ),
            ("dns_config.node_ttl = \"2147483647.9s\"", "ok"),
            (
                "dns_config.node_ttl = \"2147483648s\"",
                "dns_config.node_ttl = \"2147483648s\": must be a duration such as \"30s\", \
                 from 0s to 2147483647s, of which whole seconds count",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn the_domain_must_be_a_name() {
        let long = "a".repeat(64);
        let most = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(50));
        for (domain, expected) in [
            ("Consul.", "consul"),
            ("my_dc-1.example", "my_dc-1.example"),
            (most.as_str(), most.as_str()),
            ("", "refused"),
            (".", "refused"),
            ("a..b", "refused"),
            ("a b", "refused"),
            ("é", "refused"),
            (&long, "refused"),
            (&format!("{most}.{}", "a".repeat(11)), "refused"),
            ("arpa", "refused"),
            ("10.IN-ADDR.arpa.", "refused"),
            ("sparpa", "sparpa"),
        ] {
            let text = format!("domain = \"{domain}\"");
            if expected == "refused" {
                let rule = "must be a domain such as consul or consul.example.com, \
                            neither the root nor below arpa";
                assert!(said(&text, "").ends_with(rule), "{text}");
            } else {
                assert_eq!(sound(&text, "").domain, expected);
            }
        }
    }

    #[test]
    fn addresses_of_consul_must_be_hosts_or_paths() {
        let rule = "must be host:port, http://host:port, https://host:port or unix:///path, \
                    one or several";
        for address in [
            "",
            ":8500",
            "c:",
            "c:0",
            "c:65536",
            "c:+1",
            "::1",
            "[::1",
            "[c]:1",
            "ftp://c",
            "http://",
            "http://c?x",
            "unix://",
            "unix://run/c",
            "a b",
            "c,d",
        ] {
            let text = format!("consul.addresses = [\"{address}\"]");
            check(&text, &format!("consul.addresses = \"{address}\": {rule}"));
        }
        check("consul.addresses = []", &format!("consul.addresses = []: {rule}"));
        let config = sound("consul.addresses = [\"c\", \"HTTPS\", \"unix:///c\"]", "");
        assert_eq!(
            format!("{:?}", config.consul.addresses),
            r#"[Http("http://c"), Http("http://HTTPS"), Unix("/c")]"#,
        );
    }

    #[test]
    fn secrets_are_in_no_message() {
        for (text, expected) in [
            (
                "consul.token = 5318008",
                "consul.token = (hidden): must be text of printable ASCII characters",
            ),
            (
                "consul.token = [\"s3cret\"]",
                "consul.token = (hidden): must be text of printable ASCII characters",
            ),
            (
                "consul.http_auth = \"user:s3cret\\n\"",
                "consul.http_auth = (hidden): must be text of printable ASCII characters",
            ),
            (
                "consul.addresses = \"http://user:s3cret@c\"",
                "consul.addresses = (hidden): must be host:port, http://host:port, \
                 https://host:port or unix:///path, one or several",
            ),
        ] {
            check(text, expected);
        }
        let config = sound("consul.token = \"s3cret\"\nconsul.http_auth = \"u:s3cret\"", "");
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn text_must_have_its_form() {
        for (text, expected) in [
            (
                "consul.datacenter = \"d c\"",
                "consul.datacenter = \"d c\": \
                 must be a name of letters, digits, hyphens and underscores",
            ),
            (
                "consul.tls_server_name = \"https://c\"",
                "consul.tls_server_name = \"https://c\": must be a host name",
            ),
            ("catalog.file = true", "catalog.file = true: must be a path"),
            ("dns.advertise = \"::1\"", "ok"),
            (
                "dns.advertise = [\"::1\", \"c\"]",
                "dns.advertise = \"c\": \
                 must be an IP address such as 10.0.0.1 or ::1, none or several",
            ),
            ("log.format = \"xml\"", "log.format = \"xml\": must be one of text, json"),
            ("log.format = '''x\n\n  y'''", "log.format = '''x y''': must be one of text, json"),
        ] {
            check(text, expected);
        }
        assert_eq!(
            sound("consul.datacenter = \"DC1\"", "").consul.datacenter,
            Some("dc1".to_owned()),
        );
    }

    #[test]
    fn ttls_by_service_are_read_one_by_one() {
        let config =
            sound("[dns_config.service_ttl]\n\"*\" = \"3s\"\nWEB = \"7.9s\"\n\"we*\" = \"1m\"", "");
        let expected =
            [("*", 3), ("web", 7), ("we*", 60)].map(|(name, ttl)| (name.to_owned(), ttl));
        assert_eq!(config.answers.service_ttl_secs, expected);
        assert_eq!(
            said(
                "[dns_config.service_ttl]\nWeb = \"1s\"\nweb = \"2s\"\n\"a*b\" = \"1s\"\nx = 5\n",
                "",
            ),
            "f.toml:3: dns_config.service_ttl.web = \"2s\": \
             must not be given twice; letter case makes no difference\n\
             f.toml:4: dns_config.service_ttl.\"a*b\" = \"1s\": \
             must be for a service, a prefix ending in *, or *\n\
             f.toml:5: dns_config.service_ttl.x = 5: must be a duration such as \"30s\", \
             from 0s to 2147483647s, of which whole seconds count",
        );
    }
}
