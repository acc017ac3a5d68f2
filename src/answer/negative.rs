//! The SOA record, which tells a resolver how long it may remember that there is nothing.
//!
//! Its owner points into the question, so the zone is spelled as it was asked; in a zone of
//! addresses that zone is the owner, and the names in it are in the first zone of names. Its TTL
//! is its MINIMUM (RFC 2308 §3): some caches read only the one, some only the other.

use crate::answer::Question;
use crate::wire::reply::pointer;
use crate::wire::{CLASS_IN, QUESTION_AT, Reply, rtype};

/// Writes the zone's SOA into the authority section.
pub fn write_soa(reply: &mut Reply<'_>, question: &Question<'_, '_>) {
    let soa = Soa::of(question);
    reply.authority(QUESTION_AT + question.zone_at, soa.tail());
}

/// An SOA record, made on the stack, its owner left off.
pub struct Soa {
    bytes: [u8; SOA_MAX],
    len: usize,
}

impl Soa {
    /// The record of the zone that was asked.
    pub fn of(question: &Question<'_, '_>) -> Self {
        let mut soa = Self { bytes: [0; SOA_MAX], len: 0 };
        let timers = question.policy.soa;
        let ttl = timers.min_ttl_secs.to_be_bytes();
        soa.push(&rtype::SOA.to_be_bytes());
        soa.push(&CLASS_IN.to_be_bytes());
        soa.push(&ttl);
        let len_at = soa.len;
        soa.push(&[0, 0]);
        match question.policy.name_servers.first() {
            Some(name) => soa.push(name.wire()),
            None => soa.push_name(b"\x02ns", question),
        }
        soa.push_name(b"\x0ahostmaster", question);
        soa.push(&question.snapshot.serial.to_be_bytes());
        soa.push(&timers.refresh_secs.to_be_bytes());
        soa.push(&timers.retry_secs.to_be_bytes());
        soa.push(&timers.expire_secs.to_be_bytes());
        soa.push(&ttl);
        let len = soa.len - len_at - 2;
        if let Some(space) = soa.bytes.get_mut(len_at..len_at + 2) {
            space.copy_from_slice(&(len as u16).to_be_bytes());
        }
        soa
    }

    /// The bytes.
    pub fn tail(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends `label` in the zone of names.
    fn push_name(&mut self, label: &[u8], question: &Question<'_, '_>) {
        self.push(label);
        let zone = pointer(QUESTION_AT + question.zone_at).filter(|_| question.ends_with_names());
        match (zone, question.names_in()) {
            (Some(pointer), _) => self.push(&pointer),
            (None, Some(zone)) => self.push(zone.wire()),
            (None, None) => self.push(&[0]),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(space) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            space.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// Copies `parts` one after the other; what does not fit is left out.
pub fn fill(space: &mut [u8], parts: &[&[u8]]) {
    for (byte, value) in space.iter_mut().zip(parts.iter().copied().flatten()) {
        *byte = *value;
    }
}

/// The fixed part, two names of 255 bytes with a label, and five numbers.
const SOA_MAX: usize = 10 + 255 + 11 + 255 + 20;
