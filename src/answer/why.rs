//! Names that ask why: `_why.NAME` and `_why-srv.NAME` are answered with what is told of NAME.
//!
//! They are recognized here and explained above, as that is not hot: see [`Outcome::Why`].
//!
//! [`Outcome::Why`]: crate::answer::Outcome::Why

use crate::answer::{Asked, Policy};
use crate::name::Labels;
use crate::wire::rtype;

/// The type that a name asks to be explained; `None` where it asks for nothing of the kind, or its
/// client may not.
pub fn asked_type(policy: &Policy, asked: &Asked<'_>, labels: &Labels) -> Option<u16> {
    let rest = labels.label(0).strip_prefix(b"_why")?;
    let left = policy.zones.iter().filter_map(|zone| labels.below(zone)).min()?;
    if left < 2 || !policy.why.iter().any(|network| network.contains(asked.client)) {
        return None;
    }
    TYPES.iter().find(|(word, _)| *word == rest).map(|(_, rtype)| *rtype)
}

/// What follows `_why`, in lower case as all labels, with the type that it means.
const TYPES: [(&[u8], u16); 9] = [
    (b"", rtype::A),
    (b"-a", rtype::A),
    (b"-aaaa", rtype::AAAA),
    (b"-any", rtype::ANY),
    (b"-cname", rtype::CNAME),
    (b"-ns", rtype::NS),
    (b"-ptr", rtype::PTR),
    (b"-srv", rtype::SRV),
    (b"-txt", rtype::TXT),
];
