//! Zones of addresses, as people write them: by name, or by network.

use std::net::IpAddr;

use crate::config::reading::is_host;

/// Reads `10.in-addr.arpa` or `10.0.0.0/8`. A network between two labels is several zones.
pub fn zones(text: &str) -> Option<Vec<String>> {
    match text.split_once('/') {
        Some((address, prefix)) => networks(address.parse().ok()?, prefix.parse().ok()?),
        None => {
            let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
            let is_reverse = ["in-addr.arpa", "ip6.arpa"].iter().any(|root| {
                name.strip_suffix(root).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            });
            (is_reverse && is_host(&name)).then_some(vec![name])
        }
    }
}

fn networks(address: IpAddr, prefix: u32) -> Option<Vec<String>> {
    // The address in the upper bits, the bits of one label, and how many bits there are.
    let (bits, label, most, root) = match address {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 8, 32, "in-addr.arpa"),
        IpAddr::V6(ip) => (ip.to_bits(), 4, 128, "ip6.arpa"),
    };
    if prefix > most || prefix < 128 && bits << prefix != 0 {
        return None;
    }
    let labels = prefix.div_ceil(label);
    let spare = labels * label - prefix;
    let zones = (0..1_u128 << spare).map(|number| {
        // Zone by zone, where the prefix ends within a label.
        let bits = if labels == 0 { 0 } else { bits | number << (128 - labels * label) };
        let names = (0..labels).rev().map(|at| {
            let value = bits >> (128 - (at + 1) * label) & ((1 << label) - 1);
            if label == 8 { format!("{value}.") } else { format!("{value:x}.") }
        });
        names.collect::<String>() + root
    });
    Some(zones.collect())
}

/// What [`zones`] reads, to be read after `must be`.
pub const ALLOWED: &str = "a zone such as 10.in-addr.arpa or a network such as 10.0.0.0/8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_addresses() {
        for (text, expected) in [
            ("10.in-addr.arpa", "10.in-addr.arpa"),
            ("8.B.D.0.1.0.0.2.ip6.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa"),
            ("in-addr.arpa", "in-addr.arpa"),
            ("10.0.0.0/8", "10.in-addr.arpa"),
            ("0.0.0.0/0", "in-addr.arpa"),
            ("10.1.2.3/32", "3.2.1.10.in-addr.arpa"),
            ("10.20.0.0/15", "20.10.in-addr.arpa 21.10.in-addr.arpa"),
            ("2001:db8::/32", "8.b.d.0.1.0.0.2.ip6.arpa"),
            ("fd00::/7", "mistake"),
            ("fc00::/7", "c.f.ip6.arpa d.f.ip6.arpa"),
            ("::/0", "ip6.arpa"),
            ("10.1.0.0/8", "mistake"),
            ("10.0.0.0/33", "mistake"),
            ("10.0.0.0/x", "mistake"),
            ("arpa", "mistake"),
            ("consul", "mistake"),
            ("xin-addr.arpa", "mistake"),
            ("a..in-addr.arpa", "mistake"),
        ] {
            let got = zones(text).map_or_else(|| "mistake".to_owned(), |zones| zones.join(" "));
            assert_eq!(got, expected, "{text}");
        }
    }
}
