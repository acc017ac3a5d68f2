//! The SOA record, which tells a resolver how long it may remember that there is nothing.
//!
//! Its owner and the names in it point into the question, so the zone is spelled as it was asked.
//! Its TTL is its MINIMUM (RFC 2308 §3): some caches read only the one, some only the other.

use crate::answer::Question;
use crate::wire::reply::pointer;
use crate::wire::{CLASS_IN, QUESTION_AT, Reply, rtype};

/// Writes the zone's SOA into the authority section.
pub fn write_soa(reply: &mut Reply<'_>, question: &Question<'_>) {
    let mut tail = [0; SOA_TAIL_LEN];
    fill_soa(&mut tail, question);
    reply.authority(QUESTION_AT + question.zone_at, &tail);
}

/// Fills `tail`, of [`SOA_TAIL_LEN`] bytes, with the zone's SOA, its owner left off.
pub fn fill_soa(tail: &mut [u8], question: &Question<'_>) {
    let soa = question.policy.soa;
    let zone = pointer(QUESTION_AT + question.zone_at).unwrap_or_default();
    let ttl = soa.min_ttl_secs.to_be_bytes();
    let parts: [&[u8]; 13] = [
        &rtype::SOA.to_be_bytes(),
        &CLASS_IN.to_be_bytes(),
        &ttl,
        &((SOA_TAIL_LEN - 10) as u16).to_be_bytes(),
        b"\x02ns",
        &zone,
        b"\x0ahostmaster",
        &zone,
        &question.serial.to_be_bytes(),
        &soa.refresh_secs.to_be_bytes(),
        &soa.retry_secs.to_be_bytes(),
        &soa.expire_secs.to_be_bytes(),
        &ttl,
    ];
    fill(tail, &parts);
}

/// Copies `parts` one after the other; what does not fit is left out.
pub fn fill(space: &mut [u8], parts: &[&[u8]]) {
    for (byte, value) in space.iter_mut().zip(parts.iter().copied().flatten()) {
        *byte = *value;
    }
}

/// The fixed part, `ns` and `hostmaster` with a pointer each, and five numbers.
pub const SOA_TAIL_LEN: usize = 10 + 5 + 13 + 20;
