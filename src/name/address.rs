//! `<hex>.addr`: an address written as a label, 8 hexadecimal digits for IPv4, 32 for IPv6.
//!
//! Consul makes such names as SRV targets of services that have an address of their own. Nothing
//! else is read here; a label of another length is no address.

use std::net::IpAddr;

/// Reads a label of hexadecimal digits, in network byte order.
pub fn from_hex(label: &[u8]) -> Option<IpAddr> {
    match label.len() {
        8 => Some(IpAddr::from(decode::<4>(label)?)),
        32 => Some(IpAddr::from(decode::<16>(label)?)),
        _ => None,
    }
}

fn decode<const N: usize>(label: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(label.chunks_exact(2)) {
        for digit in digits {
            let value = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_their_addresses() {
        for (label, expected) in [
            ("0a000001", Some("10.0.0.1")),
            ("0A00000f", Some("10.0.0.15")),
            ("fd000000000000000000000000000006", Some("fd00::6")),
            ("00000000000000000000ffff0a010001", Some("::ffff:10.1.0.1")),
            // Consul 1.8.7 halves the length first, and so takes 9 digits for an IPv4 address.
            ("0a0000011", None),
            ("0a0001", None),
            ("0a00000g", None),
            ("", None),
        ] {
            let address = from_hex(label.as_bytes()).map(|ip| ip.to_string());
            assert_eq!(address.as_deref(), expected, "{label}");
        }
    }
}
