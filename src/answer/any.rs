//! Which RRset stands for all that a name has, where ANY is answered with one (RFC 8482 §4.1).
//!
//! Addresses come first, as whoever asks for ANY wants these most likely. A synthesized HINFO (§4.2)
//! would be something that the catalogue does not say.

use crate::answer::finding::Finding;
use crate::answer::{Asked, Policy};
use crate::wire::rtype;

/// The type that `qtype` is answered with.
pub fn narrowed(policy: &Policy, asked: &Asked<'_>, qtype: u16, finding: &Finding<'_>) -> u16 {
    if qtype != rtype::ANY || !policy.is_any_minimal(asked.transport) {
        return qtype;
    }
    match finding {
        Finding::Apex => rtype::SOA,
        Finding::NameServer if policy.advertise.iter().any(|ip| ip.is_ipv4()) => rtype::A,
        Finding::NameServer if !policy.advertise.is_empty() => rtype::AAAA,
        Finding::Node(node) if node.cname.is_empty() => match (&*node.a, &*node.aaaa) {
            ([_, ..], _) => rtype::A,
            (_, [_, ..]) => rtype::AAAA,
            ([], []) => rtype::TXT,
        },
        Finding::Service { selection, .. } if selection.cname.is_empty() => {
            if selection.a.is_empty() { rtype::AAAA } else { rtype::A }
        }
        // A CNAME stands alone, and the others have one record at most.
        _ => qtype,
    }
}
