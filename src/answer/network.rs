//! A network: an address, and how many of its first bits count.
//!
//! It tells clients apart, so an address of IPv4 that came in IPv6's clothes (`::ffff:10.0.0.1`)
//! is in the networks of IPv4, and in no other.
//!
//! **Invariant:** the bits past the prefix are zero, so that a network has one spelling.

use std::fmt;
use std::net::IpAddr;

/// Addresses with the same first bits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, or an address that stands for itself alone.
    ///
    /// Returns `None` for what is neither, or has bits past its prefix.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, digits)) => {
                let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                (address.parse().ok()?, digits.parse().ok().filter(|_| is_plain)?)
            }
            None => {
                let address: IpAddr = text.parse().ok()?;
                (address, width(address))
            }
        };
        let network = Self { address, prefix_len };
        let is_whole = prefix_len <= width(address) && bits(address) & !network.mask() == 0;
        // Never matched, as clients are seen through this form.
        let is_canonical = address.to_canonical() == address;
        (is_whole && is_canonical).then_some(network)
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && bits(ip) & self.mask() == bits(self.address)
    }

    /// The bits that count. The 32 of IPv4 are the upper ones of the 128.
    fn mask(&self) -> u128 {
        let rest = 128 - u32::from(self.prefix_len).min(128);
        u128::MAX.checked_shl(rest).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_are_read() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::/0", "::/0"),
            ("fe80::/10", "fe80::/10"),
            ("::1", "::1/128"),
            // bits past the prefix, and prefixes past the address
            ("10.0.0.1/8", "none"),
            ("fe80::1/10", "none"),
            ("10.0.0.0/33", "none"),
            ("::/129", "none"),
            // no network
            ("", "none"),
            ("10.0.0.0/", "none"),
            ("10.0.0.0/+8", "none"),
            ("10.0.0/8", "none"),
            ("localhost", "none"),
            // IPv4 in IPv6: nobody would ever be in it
            ("::ffff:10.0.0.0/104", "none"),
        ] {
            let got =
                Network::parse(text).map_or_else(|| "none".to_owned(), |found| found.to_string());
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn who_is_in_a_network() {
        for (network, ip, expected) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "a00::", false),
            ("172.16.0.0/12", "172.31.255.255", true),
            ("172.16.0.0/12", "172.32.0.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("fe80::/10", "febf::1", true),
            ("fe80::/10", "fec0::1", false),
        ] {
            let found = Network::parse(network).unwrap().contains(ip.parse().unwrap());
            assert_eq!(found, expected, "{ip} in {network}");
        }
    }
}
