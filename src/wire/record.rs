//! Records, encoded once and ready to be copied into any reply.
//!
//! ```text
//!   0xC00C  type  class  TTL  RDLENGTH  RDATA       an answer: its owner is the question
//!           type  class  TTL  RDLENGTH  RDATA       a tail: the owner is put before it
//! ```
//! RDATA is hickory-proto's encoding without name compression, so the bytes mean the same at any
//! place of any message. SRV targets may not be compressed anyway (RFC 2782).
//!
//! This module runs when the catalogue changes, never per query.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SRV};
use hickory_proto::rr::{Name, RData};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use crate::wire::{CLASS_IN, rtype};

/// Appends an answer, owner included. False, and nothing appended, if it cannot be encoded.
pub fn push_answer(out: &mut Vec<u8>, ttl_secs: u32, rdata: &RData) -> bool {
    let start = out.len();
    out.extend_from_slice(&OWNER_QUESTION);
    let pushed = push_tail(out, ttl_secs, rdata);
    if !pushed {
        out.truncate(start);
    }
    pushed
}

/// Appends a record without its owner. False, and nothing appended, if it cannot be encoded.
pub fn push_tail(out: &mut Vec<u8>, ttl_secs: u32, rdata: &RData) -> bool {
    let Some(bytes) = encode(rdata) else { return false };
    let Ok(len) = u16::try_from(bytes.len()) else { return false };
    out.extend_from_slice(&u16::from(rdata.record_type()).to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl_secs.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes);
    true
}

/// RDATA of the address's own type.
pub fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The type of the record that carries `ip`.
pub fn address_type(ip: IpAddr) -> u16 {
    if ip.is_ipv4() { rtype::A } else { rtype::AAAA }
}

/// RDATA of an SRV record. Consul's priority is always 1.
pub fn srv(weight: u16, port: u16, target: Name) -> RData {
    RData::SRV(SRV::new(PRIORITY, weight, port, target))
}

/// RDATA of a CNAME record.
pub fn cname(target: Name) -> RData {
    RData::CNAME(CNAME(target))
}

/// RDATA of a PTR record.
pub fn ptr(target: Name) -> RData {
    RData::PTR(PTR(target))
}

/// A fully qualified name from its text: labels cut at each dot, letter case kept.
///
/// Returns `None` where it is no name: a label that is empty or over 63 bytes, or over 255 in all.
pub fn name(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut name = Name::from_labels(text.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn encode(rdata: &RData) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    rdata.emit(&mut encoder).ok()?;
    Some(bytes)
}

/// A compression pointer to byte 12, where the question's name is in every message.
const OWNER_QUESTION: [u8; 2] = [0xc0, 0x0c];

const PRIORITY: u16 = 1;

/// Bytes of a record's fixed part behind its owner: type, class, TTL and RDLENGTH.
pub const TAIL_HEAD: usize = 10;

/// Where an answer's RDLENGTH is: behind owner, type, class and TTL.
pub const RDLENGTH_AT: usize = 2 + 8;

/// Where an answer's RDATA starts.
pub const RDATA_AT: usize = 2 + TAIL_HEAD;

/// Where an SRV's target starts in an answer: owner, fixed part, priority, weight and port.
pub const SRV_TARGET_AT: usize = 2 + TAIL_HEAD + 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rdata: &RData) -> String {
        let mut out = Vec::new();
        assert!(push_answer(&mut out, 7, rdata));
        out.escape_ascii().to_string()
    }

    #[test]
    fn records_and_their_bytes() {
        let ip = |text: &str| address(text.parse().unwrap());
        assert_eq!(
            answer(&ip("10.0.0.1")),
            r"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x07\x00\x04\n\x00\x00\x01"
        );
        assert_eq!(
            answer(&ip("fd00::6")),
            r"\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x07\x00\x10\xfd\x00".to_owned()
                + &r"\x00".repeat(13)
                + r"\x06"
        );
        // The target keeps its letter case and is not compressed.
        assert_eq!(
            answer(&srv(3, 8080, name("Web.node.consul").unwrap())),
            r"\xc0\x0c\x00!\x00\x01\x00\x00\x00\x07\x00\x17\x00\x01\x00\x03\x1f\x90\x03Web\x04node\x06consul\x00"
        );
        assert_eq!(
            answer(&cname(name("Example.com.").unwrap())),
            r"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x07\x00\r\x07Example\x03com\x00"
        );
    }

    #[test]
    fn an_srv_target_is_where_it_is_looked_for() {
        let mut out = Vec::new();
        push_answer(&mut out, 0, &srv(1, 1, name("a.b").unwrap()));
        assert_eq!(out.get(SRV_TARGET_AT..), Some(&b"\x01a\x01b\0"[..]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a..b", &"x".repeat(64), &"ab.".repeat(90)] {
            assert!(name(text).is_none(), "{text}");
        }
    }
}
