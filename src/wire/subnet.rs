//! The client's network, as a forwarder tells it: the EDNS client subnet (RFC 7871).
//!
//! ```text
//!   family   source   scope   address, as many bytes as the source prefix needs
//! ```
//! It is echoed with the scope that the answer is good for: 0 where it is the same for everybody.
//!
//! **Hot.** Nothing allocates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A client subnet option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subnet {
    family: u16,
    /// Bits of the address that were sent.
    source: u8,
    /// In network byte order; zero past the bits that were sent.
    address: [u8; 16],
}

impl Subnet {
    /// Reads the option's data. `None` where RFC 7871 §6 calls it malformed.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let [family_high, family_low, source, scope, sent @ ..] = data else { return None };
        let family = u16::from_be_bytes([*family_high, *family_low]);
        let bits = match family {
            FAMILY_IPV4 => 32,
            FAMILY_IPV6 => 128,
            // RFC 7871 §7.1.2: 0 with nothing sent is how a client declines.
            0 if *source == 0 && sent.is_empty() => 0,
            _ => return None,
        };
        let is_well_formed = *source <= bits
            && *scope == 0
            && sent.len() == usize::from(*source).div_ceil(8)
            && !has_bits_past(sent, *source);
        if !is_well_formed {
            return None;
        }
        let mut address = [0; 16];
        address.get_mut(..sent.len())?.copy_from_slice(sent);
        Some(Self { family, source: *source, address })
    }

    /// How many bits of the address were sent.
    pub fn source_prefix(&self) -> u8 {
        self.source
    }

    /// How many of those bits an answer by network is good for.
    pub fn scope(&self) -> u8 {
        let most = match self.address() {
            Some(IpAddr::V4(_)) => IPV4_BITS,
            // An address of IPv4 in IPv6's clothes, of which there are 96 bits more to tell.
            Some(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => 96 + IPV4_BITS,
            Some(IpAddr::V6(_)) | None => IPV6_BITS,
        };
        self.source.min(most)
    }

    /// The network's first address; `None` where the client sent none.
    pub fn address(&self) -> Option<IpAddr> {
        let [a, b, c, d, ..] = self.address;
        match self.family {
            _ if self.source == 0 => None,
            FAMILY_IPV4 => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            _ => Some(IpAddr::V6(Ipv6Addr::from(self.address))),
        }
    }

    /// The length of the option's data.
    pub fn len(&self) -> usize {
        4 + usize::from(self.source).div_ceil(8)
    }

    /// Whether the client sent no address.
    pub fn is_empty(&self) -> bool {
        self.source == 0
    }

    /// Appends the option's data, with `scope` bits that the answer is good for.
    pub fn push(&self, out: &mut Vec<u8>, scope: u8) {
        out.extend_from_slice(&self.family.to_be_bytes());
        out.extend_from_slice(&[self.source, scope]);
        out.extend_from_slice(self.address.get(..self.len() - 4).unwrap_or_default());
    }
}

fn has_bits_past(sent: &[u8], source: u8) -> bool {
    let used = source % 8;
    used != 0 && sent.last().is_some_and(|last| last << used != 0)
}

/// As in the IANA registry of address families.
const FAMILY_IPV4: u16 = 1;
const FAMILY_IPV6: u16 = 2;

/// How many bits of an address an answer by network looks at (RFC 7871 §11.1).
const IPV4_BITS: u8 = 24;
const IPV6_BITS: u8 = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_what_they_say() {
        for (data, expected) in [
            (&[0, 1, 24, 0, 192, 0, 2][..], Some("192.0.2.0/24")),
            (&[0, 1, 20, 0, 192, 0, 16], Some("192.0.16.0/20")),
            (&[0, 1, 32, 0, 192, 0, 2, 9], Some("192.0.2.9/32")),
            (&[0, 2, 56, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 1], Some("2001:db8:0:100::/56")),
            (&[0, 1, 0, 0], Some("none/0")),
            (&[0, 0, 0, 0], Some("none/0")),
            // RFC 7871 §6 and §7.1.2
            (&[0, 1, 24, 0, 192, 0], None),
            (&[0, 1, 24, 0, 192, 0, 2, 0], None),
            (&[0, 1, 20, 0, 192, 0, 17], None),
            (&[0, 1, 33, 0, 192, 0, 2, 1, 0], None),
            (&[0, 1, 24, 24, 192, 0, 2], None),
            (&[0, 3, 8, 0, 1], None),
            (&[0, 1, 24], None),
            (&[], None),
        ] {
            let got = Subnet::parse(data).map(|subnet| {
                let address =
                    subnet.address().map_or_else(|| "none".to_owned(), |ip| ip.to_string());
                format!("{address}/{}", subnet.source_prefix())
            });
            assert_eq!(got.as_deref(), expected, "{data:?}");
        }
    }

    #[test]
    fn the_echo_differs_in_its_scope_only() {
        for data in [&[0, 1, 20, 0, 192, 0, 16][..], &[0, 1, 0, 0], &[0, 0, 0, 0]] {
            let subnet = Subnet::parse(data).unwrap();
            let (mut out, mut expected) = (Vec::new(), data.to_vec());
            subnet.push(&mut out, 20);
            expected[3] = 20;
            assert_eq!(out, expected);
            assert_eq!(subnet.len(), data.len());
        }
    }

    #[test]
    fn an_answer_by_network_is_good_for_the_bits_that_were_looked_at() {
        let mapped = |source: u8, bytes: &[u8]| {
            [&[0, 2, source, 0][..], &[0; 10], &[0xff; 2], bytes].concat()
        };
        for (data, expected) in [
            (vec![0, 1, 32, 0, 192, 0, 2, 9], 24),
            (vec![0, 1, 20, 0, 192, 0, 16], 20),
            (vec![0, 2, 64, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 1, 2], 56),
            (vec![0, 2, 48, 0, 0x20, 1, 0x0d, 0xb8, 0, 0], 48),
            // IPv4 in IPv6 is looked at as IPv4, and the scope counts bits of IPv6
            (mapped(128, &[192, 0, 2, 9]), 120),
            (mapped(112, &[192, 0]), 112),
            (vec![0, 2, 0, 0], 0),
            (vec![0, 0, 0, 0], 0),
        ] {
            assert_eq!(Subnet::parse(&data).unwrap().scope(), expected, "{data:?}");
        }
    }
}
