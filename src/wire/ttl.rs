//! Limits the TTLs of a finished reply.
//!
//! ```text
//!   owner         type  class  TTL  length  RDATA
//!   the question's, or one of the caller's choice: limited       OPT: never
//! ```
//! The MINIMUM of an SOA is limited as its TTL is: a negative answer is kept for the lesser of the
//! two (RFC 2308 §5), and some caches read only the one. For replies that [`Reply`] wrote, whose
//! owners are names in full or one pointer to such a name; anything else is left as it is.
//!
//! [`Reply`]: crate::wire::Reply

use std::ops::RangeInclusive;

use crate::wire::reply::{POINTER, name_len};
use crate::wire::{QUESTION_AT, rtype};

/// Brings the TTL of each record into `secs` whose owner is in the question or `is_ours`, which is
/// asked about uncompressed names.
pub fn limit(message: &mut [u8], secs: RangeInclusive<u32>, is_ours: impl Fn(&[u8]) -> bool) {
    let count = |at| usize::from(word(message, at).unwrap_or(0));
    let records = count(6) + count(8) + count(10);
    let question_end = match count(4) {
        0 => QUESTION_AT,
        _ => QUESTION_AT + name_at(message, QUESTION_AT).len() + 4,
    };
    let mut at = question_end;
    for _ in 0..records {
        let Some(record) = Record::read(message, at) else { return };
        let in_question = record.owner_at < question_end;
        if record.rtype != rtype::OPT && (in_question || is_ours(name_at(message, record.owner_at)))
        {
            limit_at(message, record.ttl_at, &secs);
            if record.rtype == rtype::SOA {
                limit_at(message, record.end - 4, &secs);
            }
        }
        at = record.end;
    }
}

/// Where the parts of a record are.
struct Record {
    owner_at: usize,
    rtype: u16,
    ttl_at: usize,
    end: usize,
}

impl Record {
    fn read(message: &[u8], at: usize) -> Option<Self> {
        let (owner_at, tail) = match word(message, at)? {
            pointer if pointer >= POINTER => (usize::from(pointer & !POINTER), at + 2),
            _ => (at, at + name_at(message, at).len()),
        };
        let len = usize::from(word(message, tail + 8)?);
        let end = tail + 10 + len;
        let rtype = word(message, tail)?;
        (end <= message.len()).then_some(Self { owner_at, rtype, ttl_at: tail + 4, end })
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The name at `at`, the root label included; nothing where there is none in full.
fn name_at(message: &[u8], at: usize) -> &[u8] {
    let bytes = message.get(at..).unwrap_or_default();
    bytes.get(..name_len(bytes)).unwrap_or_default()
}

fn limit_at(message: &mut [u8], at: usize, secs: &RangeInclusive<u32>) {
    if let Some(space) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        let ttl = u32::from_be_bytes(*space).clamp(*secs.start(), *secs.end());
        *space = ttl.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply to `x. A` with these records, each an owner and its tail; the last two in the other
    /// sections.
    fn reply(records: [&[u8]; 4]) -> Vec<u8> {
        let head = b"\0\x07\x84\0\0\x01\0\x02\0\x01\0\x01\x01x\0\0\x01\0\x01";
        [&head[..], &records.concat()].concat()
    }

    const A_OF_QUESTION: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01";
    const A_OF_FOREIGN: &[u8] = b"\x01y\0\0\x01\0\x01\0\0\x01\x2c\0\x04\x0a\0\0\x02";
    /// MNAME and RNAME are the root.
    const SOA: &[u8] = b"\xc0\x0c\0\x06\0\x01\0\0\x01\x2c\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0";
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    #[test]
    fn what_is_ours_is_limited_and_nothing_else() {
        let mut message = reply([A_OF_QUESTION, A_OF_FOREIGN, SOA, OPT]);
        limit(&mut message, 1..=30, |_| false);
        let limited_a = b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x0a\0\0\x01";
        let limited_soa = b"\xc0\x0c\0\x06\0\x01\0\0\0\x1e\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x01";
        assert_eq!(message, reply([limited_a, A_OF_FOREIGN, limited_soa, OPT]));

        let mut message = reply([A_OF_QUESTION, A_OF_FOREIGN, SOA, OPT]);
        limit(&mut message, 1..=30, |owner| owner == b"\x01y\0");
        let limited_foreign = b"\x01y\0\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x02";
        assert_eq!(message, reply([limited_a, limited_foreign, limited_soa, OPT]));
    }

    #[test]
    fn what_is_cut_off_is_no_harm() {
        let message = reply([A_OF_QUESTION, A_OF_FOREIGN, SOA, OPT]);
        for len in 0..message.len() {
            let mut cut = message[..len].to_vec();
            limit(&mut cut, 1..=30, |_| true);
            assert_eq!(cut.len(), len);
        }
    }
}
