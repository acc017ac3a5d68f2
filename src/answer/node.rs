//! What a node answers, whatever its health, and what an address answers that the name spells.

use std::net::IpAddr;

use crate::answer::service::Desk;
use crate::answer::{Question, Transport, Want, Written, alias};
use crate::catalog::nodes::NodeRecord;
use crate::catalog::reverse::Pointer;
use crate::wire::record::address_type;
use crate::wire::{CLASS_IN, Reply, rtype};

/// Writes the node's records of the type asked for.
///
/// # Errors
///
/// Gives back what is wanted first: a node may be a host that is a service of ours.
pub fn write<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    node: &NodeRecord,
    desk: &mut Desk<'_>,
) -> Result<Written, Want<'s>> {
    let address = match question.qtype {
        rtype::A => &node.a,
        rtype::AAAA => &node.aaaa,
        rtype::ANY => &node.any,
        _ => &[][..],
    };
    let mut written = Written::default();
    // A host that has metadata answers TXT itself.
    let takes_host = question.qtype != rtype::TXT || node.txt.is_empty();
    if takes_host && !node.cname.is_empty() {
        written = alias::write(reply, question, &node.cname, desk)?;
    } else if !address.is_empty() {
        written.add(reply.answer(address), question);
    }
    // Consul answers ANY with the text too, but a CNAME stands alone (RFC 1034 §3.6.2).
    let is_alone = question.qtype == rtype::ANY && !node.cname.is_empty();
    if matches!(question.qtype, rtype::TXT | rtype::ANY) && !is_alone {
        for txt in &node.txt {
            written.add(reply.answer(txt), question);
        }
    }
    if written.truncated {
        reply.truncate();
    }
    Ok(written)
}

/// Writes whose an address is.
pub fn write_pointer(
    reply: &mut Reply<'_>,
    question: &Question<'_, '_>,
    pointer: &Pointer,
) -> Written {
    let mut written = Written::default();
    let record = pointer.record();
    if matches!(question.qtype, rtype::PTR | rtype::ANY) && !record.is_empty() {
        written.add(reply.answer(record), question);
    }
    written
}

impl Written {
    /// Counts a record that was written, or that did not fit.
    pub fn add(&mut self, fits: bool, question: &Question<'_, '_>) {
        self.answers += usize::from(fits);
        self.truncated |= !fits && question.asked.transport == Transport::Udp;
    }
}

/// Writes `ip`, if it is of the type asked for.
pub fn write_address(reply: &mut Reply<'_>, question: &Question<'_, '_>, ip: IpAddr) -> Written {
    if question.qtype != address_type(ip) && question.qtype != rtype::ANY {
        return Written::default();
    }
    let mut record = AddressRecord::new(ip, question.policy.node_ttl_secs);
    let mut written = Written::default();
    written.add(reply.answer(record.answer()), question);
    written
}

/// One address record, made on the stack.
pub struct AddressRecord {
    bytes: [u8; AAAA_LEN],
    len: usize,
}

impl AddressRecord {
    /// The record of `ip`, owned by the question.
    pub fn new(ip: IpAddr, ttl_secs: u32) -> Self {
        let mut record = Self { bytes: [0; AAAA_LEN], len: 0 };
        record.push(&OWNER_QUESTION);
        record.push(&address_type(ip).to_be_bytes());
        record.push(&CLASS_IN.to_be_bytes());
        record.push(&ttl_secs.to_be_bytes());
        match ip {
            IpAddr::V4(ip) => {
                record.push(&4_u16.to_be_bytes());
                record.push(&ip.octets());
            }
            IpAddr::V6(ip) => {
                record.push(&16_u16.to_be_bytes());
                record.push(&ip.octets());
            }
        }
        record
    }

    /// A or AAAA.
    pub fn rtype(&self) -> u16 {
        let at = OWNER_QUESTION.len();
        match self.bytes.get(at..at + 2) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    /// With the owner.
    pub fn answer(&mut self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Without the owner.
    pub fn tail(&self) -> &[u8] {
        self.bytes.get(OWNER_QUESTION.len()..self.len).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(space) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            space.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// A pointer to the question's name, at byte 12.
const OWNER_QUESTION: [u8; 2] = [0xc0, 0x0c];

/// Owner, type, class, TTL, length, address.
const AAAA_LEN: usize = 2 + 10 + 16;
