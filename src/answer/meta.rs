//! Questions that no zone can answer: for types that are no records', and for whole zones.
//!
//! ```text
//!   AXFR, IXFR                       REFUSED    zones are not transferred (RFC 5936 §2.2.1)
//!   MAILA, MAILB                     NOTIMP     what they ask for is obsolete (RFC 1035 §3.2.3)
//!   0, and the rest of 128 to 250    FORMERR    reserved, and meta-types (RFC 6895 §3.1)
//! ```
//! BIND says so of MAILA, MAILB, TKEY and TSIG. ANY is a question like any other, and OPT is the
//! parser's to refuse.

use crate::wire::{ede, rcode, rtype};

/// The response code for `qtype` whatever the name, and why, for clients that sent EDNS; `None` for
/// types that records have.
pub fn refusal(qtype: u16) -> Option<(u16, (u16, &'static str))> {
    match qtype {
        rtype::AXFR | rtype::IXFR => {
            Some((rcode::REFUSED, (ede::NOT_SUPPORTED, "zones are not transferred")))
        }
        rtype::MAILA | rtype::MAILB => {
            Some((rcode::NOTIMP, (ede::NOT_SUPPORTED, "this type is obsolete")))
        }
        // RFC 9824 §3.5 has this error for 128, the first of them.
        0 | META_FIRST..=rtype::TSIG => {
            Some((rcode::FORMERR, (ede::INVALID_QUERY_TYPE, "there are no records of this type")))
        }
        _ => None,
    }
}

/// RFC 6895 §3.1.
const META_FIRST: u16 = 128;
