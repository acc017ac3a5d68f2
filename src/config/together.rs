//! What must hold between keys: pairs, orders, addresses that cannot both be bound.
//!
//! Only asked about keys whose own values are sound, so that one mistake is told once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Config;
use crate::config::draft::Entry;
use crate::config::draft::Layer;
use crate::config::draft::Mistake;
use crate::config::draft::Remark;
use crate::config::duration;

/// The entries that count, and the keys of which nothing is known.
pub struct Standing<'d> {
    /// In order of rising precedence; the last of a key counts.
    pub entries: &'d [Entry],
    /// Keys with a mistake of their own.
    pub broken: BTreeSet<&'static str>,
}

impl Standing<'_> {
    /// Who gave the value that counts for `key`.
    pub fn layer(&self, key: &str) -> Layer {
        self.entry(key).map_or(Layer::Default, |entry| entry.layer)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key.name == key)
    }

    /// Whether none of `keys` has a mistake of its own.
    pub fn is_sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.broken.contains(key))
    }

    /// The mistake that `key` breaks `rule`; `None` where nobody gave it.
    pub fn mistake(&self, key: &str, rule: String) -> Option<Mistake> {
        self.entry(key).map(|entry| entry.written.mistake(entry.key, rule))
    }

    /// The remark `text` on `key`; `None` where nobody gave it.
    pub fn remark(&self, key: &str, text: String) -> Option<Remark> {
        let written = &self.entry(key)?.written;
        Some(Remark { place: written.place.clone(), key: written.key.clone(), text })
    }
}

/// Every rule between keys that `config` breaks.
pub fn check(config: &Config, standing: &Standing<'_>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let (dns, consul) = (&config.dns, &config.consul);
    for (prefix, cert, key) in
        [("dns", &dns.cert_file, &dns.key_file), ("consul", &consul.cert_file, &consul.key_file)]
    {
        mistakes.extend(certificate(prefix, cert.is_some(), key.is_some(), standing));
    }
    mistakes.extend(encryption(config, standing));
    let (min, max) = (config.consul.backoff_min, config.consul.backoff_max);
    mistakes.extend(order(("consul.backoff_min", min), ("consul.backoff_max", max), standing));
    let (settle, hold) = (config.guard.settle, config.guard.hold);
    mistakes.extend(order(("guard.settle", settle), ("guard.hold", hold), standing));
    mistakes.extend(connections(config, standing));
    mistakes.extend(streams(config, standing));
    mistakes.extend(listeners(config, standing));
    mistakes.extend(recursors(config, standing));
    mistakes.extend(collector(config, standing));
    mistakes
}

/// There is one collector.
fn collector(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let (socket, address) = ("dnstap.socket", "dnstap.address");
    let are_both = config.dnstap.socket.is_some() && config.dnstap.address.is_some();
    if !are_both || !standing.is_sound(&[socket, address]) {
        return None;
    }
    standing.mistake(address, format!("must not be given together with {socket}"))
}

/// A certificate and its key come together.
fn certificate(
    section: &str,
    has_cert: bool,
    has_key: bool,
    standing: &Standing<'_>,
) -> Option<Mistake> {
    let (cert, key) = (format!("{section}.cert_file"), format!("{section}.key_file"));
    if !standing.is_sound(&[&cert, &key]) {
        return None;
    }
    match (has_cert, has_key) {
        (true, false) => standing.mistake(&cert, format!("needs {key} beside it")),
        (false, true) => standing.mistake(&key, format!("needs {cert} beside it")),
        (true, true) | (false, false) => None,
    }
}

/// Nothing is encrypted without a certificate.
fn encryption(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let cert = "dns.cert_file";
    let lacks = config.dns.cert_file.is_none() && config.dns.key_file.is_none();
    if !lacks || !standing.is_sound(&[cert, "dns.key_file"]) {
        return None;
    }
    let mut encrypted = sockets(config).into_iter().filter(|(key, listen, _)| {
        !["admin.listen", "dns.listen"].contains(key) && !listen.is_empty()
    });
    let (key, ..) = encrypted.find(|(key, ..)| standing.is_sound(&[key]))?;
    standing.mistake(key, format!("needs {cert} and dns.key_file"))
}

/// The first must not be longer than the second.
fn order(
    (low, min): (&str, Duration),
    (high, max): (&str, Duration),
    standing: &Standing<'_>,
) -> Option<Mistake> {
    if min <= max || !standing.is_sound(&[low, high]) {
        return None;
    }
    let above = format!("must not be above {high}, which is {}", duration::render(max));
    let below = format!("must not be below {low}, which is {}", duration::render(min));
    standing.mistake(low, above).or_else(|| standing.mistake(high, below))
}

fn connections(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let (part, whole) = ("consul.connections_spare", "consul.connections_max");
    let (spare, max) = (config.consul.connections_spare, config.consul.connections_max);
    // Two lists are watched at the least, and a service should be.
    if spare + WATCHES_MIN <= max || !standing.is_sound(&[part, whole]) {
        return None;
    }
    let below = format!("must be at least {WATCHES_MIN} below {whole}, which is {max}");
    let above = format!("must be at least {WATCHES_MIN} above {part}, which is {spare}");
    standing.mistake(part, below).or_else(|| standing.mistake(whole, above))
}

fn streams(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let (part, whole) = ("consul.connections_spare", "consul.streams_max");
    let (spare, max) = (config.consul.connections_spare, config.consul.streams_max);
    if spare + WATCHES_MIN <= max || !standing.is_sound(&[part, whole]) {
        return None;
    }
    let above = format!("must be at least {WATCHES_MIN} above {part}, which is {spare}");
    standing.mistake(whole, above)
}

/// Of all that is bound, no two may be the same place of the same protocol.
fn listeners(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let bound: Vec<_> = sockets(config)
        .into_iter()
        .filter(|(key, ..)| standing.is_sound(&[key]))
        .flat_map(|(key, listen, over)| listen.iter().map(move |listen| (key, *listen, over)))
        .collect();
    let meet = |one: &(&str, SocketAddr, Over), other: &(&str, SocketAddr, Over)| {
        one.2.meets(other.2) && overlap(one.1, other.1)
    };
    let ((key, one, _), (other_key, other, _)) =
        bound.iter().enumerate().find_map(|(at, one)| {
            Some((*one, *bound.iter().skip(at + 1).find(|other| meet(one, other))?))
        })?;
    if key != other_key {
        let rule = |other: &str, place| {
            let verb = if other == "admin.listen" { "is" } else { "has" };
            format!("must not overlap {other}, which {verb} {place}")
        };
        return standing
            .mistake(other_key, rule(key, one))
            .or_else(|| standing.mistake(key, rule(other_key, other)));
    }
    if one == other {
        return standing.mistake(key, format!("must not have {one} twice"));
    }
    standing.mistake(key, format!("must not have both {one} and {other}, which overlap"))
}

/// By what a socket is reached.
#[derive(Clone, Copy)]
enum Over {
    Both,
    Tcp,
    Udp,
}

impl Over {
    fn meets(self, other: Self) -> bool {
        !matches!((self, other), (Self::Tcp, Self::Udp) | (Self::Udp, Self::Tcp))
    }
}

/// Every key that sockets are bound for, with its addresses.
fn sockets(config: &Config) -> [(&'static str, &[SocketAddr], Over); 6] {
    let dns = &config.dns;
    [
        ("dns.listen", &dns.listen, Over::Both),
        ("dns.tls_listen", &dns.tls_listen, Over::Tcp),
        ("dns.https_listen", &dns.https_listen, Over::Tcp),
        ("dns.https3_listen", &dns.https3_listen, Over::Udp),
        ("dns.quic_listen", &dns.quic_listen, Over::Udp),
        ("admin.listen", std::slice::from_ref(&config.admin.listen), Over::Tcp),
    ]
}

/// A question to ourselves would come back for ever. What only the machine knows, such as its
/// addresses behind a wildcard, is found out when the sockets are bound.
fn recursors(config: &Config, standing: &Standing<'_>) -> Option<Mistake> {
    let (ours, key) = ("dns.listen", "recursors");
    if !standing.is_sound(&[ours, key]) {
        return None;
    }
    let listen = &config.dns.listen;
    let is_loop = |recursor: SocketAddr, listen: SocketAddr| {
        let is_certain =
            !listen.ip().is_unspecified() || recursor.ip().to_canonical().is_loopback();
        is_certain && overlap(recursor, listen)
    };
    let (recursor, listen) = config.recursion.recursors.iter().find_map(|recursor| {
        Some((*recursor, *listen.iter().find(|listen| is_loop(*recursor, **listen))?))
    })?;
    standing
        .mistake(key, format!("must not be this server: {ours} has {listen}"))
        .or_else(|| standing.mistake(ours, format!("must not hold {recursor}, one of {key}")))
}

/// Whether one cannot be bound over TCP while the other is.
///
/// The two families do not meet: whether `[::]` takes IPv4 too is the socket's to say.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (here, there) = (one.ip().to_canonical(), other.ip().to_canonical());
    let is_same_place = here.is_ipv4() == there.is_ipv4()
        && (here == there || here.is_unspecified() || there.is_unspecified());
    is_same_place && one.port() == other.port() && one.port() != 0
}

/// Requests to Consul that may block, at the least.
const WATCHES_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use crate::config::trial::said;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(said(text, ""), expected, "file:\n{text}");
    }

    #[test]
    fn pairs_and_orders() {
        for (text, expected) in [
            ("consul.cert_file = \"c\"\nconsul.key_file = \"k\"", "ok"),
            (
                "consul.cert_file = \"c\"",
                "f.toml:1: consul.cert_file = \"c\": needs consul.key_file beside it",
            ),
            (
                "consul.key_file = \"k\"\nconsul.cert_file = \"\"",
                "f.toml:1: consul.key_file = \"k\": needs consul.cert_file beside it",
            ),
            (
                "dns.cert_file = \"c\"",
                "f.toml:1: dns.cert_file = \"c\": needs dns.key_file beside it",
            ),
            (
                "dns.https_listen = \"127.0.0.1:443\"",
                "f.toml:1: dns.https_listen = \"127.0.0.1:443\": \
                 needs dns.cert_file and dns.key_file",
            ),
            ("dns.https_listen = []", "ok"),
            ("consul.backoff_min = \"15s\"", "ok"),
            (
                "consul.backoff_min = \"16s\"",
                "f.toml:1: consul.backoff_min = \"16s\": \
                 must not be above consul.backoff_max, which is 15s",
            ),
            (
                "consul.backoff_max = \"1ms\"",
                "f.toml:1: consul.backoff_max = \"1ms\": \
                 must not be below consul.backoff_min, which is 500ms",
            ),
            ("guard.settle = \"60s\"", "ok"),
            (
                "guard.settle = \"3s\"\nguard.hold = \"2s\"",
                "f.toml:1: guard.settle = \"3s\": must not be above guard.hold, which is 2s",
            ),
            ("consul.connections_spare = 77", "ok"),
            (
                "consul.connections_spare = 78",
                "f.toml:1: consul.connections_spare = 78: \
                 must be at least 3 below consul.connections_max, which is 80",
            ),
            ("consul.connections_max = 11", "ok"),
            (
                "consul.connections_max = 10",
                "f.toml:1: consul.connections_max = 10: \
                 must be at least 3 above consul.connections_spare, which is 8",
            ),
            (
                "consul.streams_max = 10",
                "f.toml:1: consul.streams_max = 10: \
                 must be at least 3 above consul.connections_spare, which is 8",
            ),
            ("dnstap.socket = \"s\"", "ok"),
            (
                "dnstap.socket = \"s\"\ndnstap.address = \"tap:6000\"",
                "f.toml:2: dnstap.address = \"tap:6000\": \
                 must not be given together with dnstap.socket",
            ),
            // a mistake of its own is told alone
            (
                "consul.connections_max = 8000000\nconsul.connections_spare = 100",
                "f.toml:1: consul.connections_max = 8000000: \
                 must be a whole number from 8 to 10000",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn listeners_must_not_meet() {
        for (text, expected) in [
            ("dns.listen = [\"127.0.0.1:53\", \"127.0.0.1:54\"]", "ok"),
            ("dns.listen = [\"0.0.0.0:53\", \"[::]:53\"]", "ok"),
            (
                "dns.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"",
                "ok",
            ),
            (
                "dns.listen = [\"127.0.0.1:53\", \"127.0.0.1:53\"]",
                "f.toml:1: dns.listen = [\"127.0.0.1:53\", \"127.0.0.1:53\"]: \
                 must not have 127.0.0.1:53 twice",
            ),
            (
                "dns.listen = [\"127.0.0.1:53\", \"0.0.0.0:53\"]",
                "f.toml:1: dns.listen = [\"127.0.0.1:53\", \"0.0.0.0:53\"]: \
                 must not have both 127.0.0.1:53 and 0.0.0.0:53, which overlap",
            ),
            (
                "admin.listen = \"127.0.0.1:8653\"",
                "f.toml:1: admin.listen = \"127.0.0.1:8653\": \
                 must not overlap dns.listen, which has 127.0.0.1:8653",
            ),
            (
                "admin.listen = \"0.0.0.0:8653\"",
                "f.toml:1: admin.listen = \"0.0.0.0:8653\": \
                 must not overlap dns.listen, which has 127.0.0.1:8653",
            ),
            (
                "dns.listen = \"[::ffff:127.0.0.1]:8654\"",
                "f.toml:1: dns.listen = \"[::ffff:127.0.0.1]:8654\": \
                 must not overlap admin.listen, which is 127.0.0.1:8654",
            ),
            ("dns.listen = \"[::1]:8654\"", "ok"),
            // TLS is TCP, and QUIC is UDP
            (
                "dns.tls_listen = \"127.0.0.1:853\"\ndns.quic_listen = \"127.0.0.1:853\"\n\
                 dns.cert_file = \"c\"\ndns.key_file = \"k\"",
                "ok",
            ),
            (
                "dns.tls_listen = \"127.0.0.1:853\"\ndns.https_listen = \"0.0.0.0:853\"\n\
                 dns.cert_file = \"c\"\ndns.key_file = \"k\"",
                "f.toml:2: dns.https_listen = \"0.0.0.0:853\": \
                 must not overlap dns.tls_listen, which has 127.0.0.1:853",
            ),
            (
                "dns.quic_listen = \"127.0.0.1:8653\"\n\
                 dns.cert_file = \"c\"\ndns.key_file = \"k\"",
                "f.toml:1: dns.quic_listen = \"127.0.0.1:8653\": \
                 must not overlap dns.listen, which has 127.0.0.1:8653",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn recursors_must_not_be_ourselves() {
        for (text, expected) in [
            ("recursors = [\"10.0.0.2\", \"[fd00::2]:5353\", \"127.0.0.1\"]", "ok"),
            // another machine, as far as the file tells
            ("dns.listen = \"0.0.0.0:53\"\nrecursors = \"10.0.0.2\"", "ok"),
            (
                "recursors = \"127.0.0.1:8653\"",
                "f.toml:1: recursors = \"127.0.0.1:8653\": \
                 must not be this server: dns.listen has 127.0.0.1:8653",
            ),
            (
                "dns.listen = \"0.0.0.0:53\"\nrecursors = [\"10.0.0.2\", \"127.0.0.53\"]",
                "f.toml:2: recursors = [\"10.0.0.2\", \"127.0.0.53\"]: \
                 must not be this server: dns.listen has 0.0.0.0:53",
            ),
            (
                "dns.listen = \"10.0.0.2:53\"\nrecursors = \"10.0.0.2\"",
                "f.toml:2: recursors = \"10.0.0.2\": \
                 must not be this server: dns.listen has 10.0.0.2:53",
            ),
        ] {
            check(text, expected);
        }
    }
}
