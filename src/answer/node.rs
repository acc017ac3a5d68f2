//! What a node answers, whatever its health, and what an address answers that the name spells.

use std::net::IpAddr;

use crate::answer::{Question, Written};
use crate::catalog::snapshot::NodeRecord;
use crate::wire::record::address_type;
use crate::wire::{CLASS_IN, Reply, rtype};

/// Writes the node's record, if it is of the type asked for.
pub fn write(reply: &mut Reply<'_>, question: &Question<'_>, node: &NodeRecord) -> Written {
    let is_asked_for = match (node.rtype, question.qtype) {
        (_, rtype::ANY) => true,
        (rtype::CNAME, rtype::A | rtype::AAAA) => true,
        (has, wanted) => has == wanted,
    };
    let answers = is_asked_for && !node.record.is_empty() && reply.answer(&node.record);
    Written { answers: usize::from(answers), truncated: false }
}

/// Writes `ip`, if it is of the type asked for.
pub fn write_address(reply: &mut Reply<'_>, question: &Question<'_>, ip: IpAddr) -> Written {
    if question.qtype != address_type(ip) && question.qtype != rtype::ANY {
        return Written::default();
    }
    let mut record = AddressRecord::new(ip, question.policy.node_ttl_secs);
    let answers = usize::from(reply.answer(record.answer()));
    Written { answers, truncated: false }
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
