//! How long a finished reply may be kept, read from its own records.
//!
//! ```text
//!   an answer               the shortest TTL of its section               RFC 2181 §5.2
//!   NXDOMAIN or NODATA      and no longer than the SOA's TTL and MINIMUM  RFC 2308 §5
//!   anything else           not at all: an error is over once it is mended
//! ```
//! Of any message: names may be compressed in any way, as a recursor's are.

use crate::wire::{rcode, rtype};

/// Seconds for which `message` may be kept. `None` where it is not to be kept.
pub fn secs(message: &[u8]) -> Option<u32> {
    let flags = word(message, 2)?;
    // What was cut off is no answer to keep (RFC 2181 §9).
    if flags & FLAG_TC != 0 || !matches!(flags & 0xf, rcode::NOERROR | rcode::NXDOMAIN) {
        return None;
    }
    let mut at = HEADER_LEN;
    for _ in 0..word(message, 4)? {
        at = name_end(message, at)? + 4;
    }
    let mut shortest = None;
    let (answers, authorities) = (word(message, 6)?, word(message, 8)?);
    for number in 0..u32::from(answers) + u32::from(authorities) {
        let tail = name_end(message, at)?;
        let end = tail + RECORD_HEAD + usize::from(word(message, tail + 8)?);
        let rdata = message.get(tail + RECORD_HEAD..end)?;
        let ttl = ttl(message.get(tail + 4..)?)?;
        let kept = match number < u32::from(answers) {
            true => Some(ttl),
            // Of the authority section only a negative answer's SOA says anything of the answer.
            false if word(message, tail)? == rtype::SOA => {
                let minimum_at = rdata.len().checked_sub(4)?;
                Some(ttl.min(self::ttl(rdata.get(minimum_at..)?)?))
            }
            false => None,
        };
        shortest = shortest.into_iter().chain(kept).min();
        at = end;
    }
    shortest
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

/// The time that `bytes` begin with; one with its first bit set is zero (RFC 2181 §8).
fn ttl(bytes: &[u8]) -> Option<u32> {
    let ttl = u32::from_be_bytes(*bytes.first_chunk()?);
    Some(if ttl > i32::MAX as u32 { 0 } else { ttl })
}

/// Where the name at `at` ends, no pointer followed.
fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

const HEADER_LEN: usize = 12;

/// Type, class, TTL and length.
const RECORD_HEAD: usize = 10;

/// RFC 1035 §4.1.1.
const FLAG_TC: u16 = 0x0200;

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply with these last two bytes of flags, to `x. A`, with so many records in the answer
    /// and the rest in the authority section.
    fn reply(flags: u16, answers: u8, records: &[&[u8]]) -> Vec<u8> {
        let [high, low] = flags.to_be_bytes();
        let rest = u8::try_from(records.len()).unwrap() - answers;
        let head = [0, 7, high, low, 0, 1, 0, answers, 0, rest, 0, 0];
        [&head[..], b"\x01x\0\0\x01\0\x01", &records.concat()].concat()
    }

    const A_300: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\x0a\0\0\x01";
    /// Its owner is a label and a pointer, as no reply of ours has it.
    const A_60: &[u8] = b"\x01y\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x02";
    const A_NEGATIVE: &[u8] = b"\xc0\x0c\0\x01\0\x01\xff\xff\xff\xff\0\x04\x0a\0\0\x01";
    const NS_5: &[u8] = b"\xc0\x0c\0\x02\0\x01\0\0\0\x05\0\x02\xc0\x0c";
    /// MNAME and RNAME are the root; the TTL is 40 and MINIMUM 30.
    const SOA_30: &[u8] = b"\xc0\x0c\0\x06\0\x01\0\0\0\x28\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x1e";
    /// The other way around: 20 and 30.
    const SOA_20: &[u8] = b"\xc0\x0c\0\x06\0\x01\0\0\0\x14\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x1e";

    #[test]
    fn a_reply_is_kept_no_longer_than_its_records_and_an_error_not_at_all() {
        for (name, flags, answers, records, expected) in [
            ("one record", 0x8400, 1, &[A_300][..], Some(300)),
            ("the shortest", 0x8400, 2, &[A_300, A_60], Some(60)),
            ("the authority's own", 0x8400, 1, &[A_300, NS_5], Some(300)),
            ("a TTL that is none", 0x8400, 2, &[A_300, A_NEGATIVE], Some(0)),
            ("NODATA", 0x8400, 0, &[SOA_30], Some(30)),
            ("NXDOMAIN", 0x8403, 0, &[SOA_20], Some(20)),
            ("NXDOMAIN behind an alias", 0x8403, 1, &[A_300, SOA_30], Some(30)),
            ("NODATA without an SOA", 0x8400, 0, &[NS_5], None),
            ("NXDOMAIN without an SOA", 0x8403, 0, &[], None),
            ("SERVFAIL", 0x8402, 0, &[SOA_30], None),
            ("REFUSED", 0x8405, 0, &[], None),
            ("FORMERR", 0x8401, 0, &[], None),
            ("truncated", 0x8600, 1, &[A_300], None),
        ] {
            assert_eq!(secs(&reply(flags, answers, records)), expected, "{name}");
        }
    }

    #[test]
    fn what_is_cut_off_is_not_kept() {
        let message = reply(0x8400, 2, &[A_300, A_60, SOA_30]);
        assert_eq!(secs(&message), Some(30));
        for len in 0..message.len() {
            assert_eq!(secs(&message[..len]), None, "{len} bytes");
        }
    }
}
