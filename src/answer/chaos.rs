//! What the server says of itself, in class CH (RFC 4892): its version and which one it is.
//!
//! ```text
//!   version.bind version.server     the program and its version
//!   hostname.bind id.server         which of several servers answered
//! ```

use crate::answer::negative::fill;
use crate::answer::{Asked, Draft, Outcome, Policy, Refused, Replied, refuse, size_limit};
use crate::name::Labels;
use crate::wire::{CLASS_CH, Opt, QUESTION_AT, Query, Reply, rcode, rtype};

/// The texts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chaos {
    /// At most 255 bytes.
    pub version: String,
    /// At most 255 bytes.
    pub identity: String,
}

/// Answers a query of class CH.
pub fn respond<'s>(
    policy: &Policy,
    asked: &Asked<'_>,
    query: &Query<'_>,
    draft: &mut Draft,
) -> Outcome<'s> {
    let labels = Labels::from_wire(query.name);
    let name = labels.as_ref().map(|labels| labels.join(0..labels.count())).unwrap_or_default();
    let text = policy.chaos.as_ref().and_then(|chaos| match name {
        b"version.bind" | b"version.server" => Some(&chaos.version),
        b"hostname.bind" | b"id.server" => Some(&chaos.identity),
        _ => None,
    });
    let Some(text) = text else {
        let (head, edns) = (query.head, query.edns);
        let refused = Refused { head, edns, rcode: rcode::REFUSED, error: None };
        return refuse(policy, asked, draft, &refused);
    };
    let opt = query.edns.map(|edns| Opt::answering(edns, policy.udp_payload_max));
    let limit = size_limit(policy, asked.transport, query.edns);
    let mut reply = Reply::start(&mut draft.reply, &query.head, limit, opt);
    reply.set_authoritative();
    if matches!(query.qtype, rtype::TXT | rtype::ANY) {
        let text = text.as_bytes().get(..text.len().min(TEXT_MAX)).unwrap_or_default();
        let mut record = [0; 11 + TEXT_MAX];
        let parts: [&[u8]; 6] = [
            &rtype::TXT.to_be_bytes(),
            &CLASS_CH.to_be_bytes(),
            &[0; 4],
            &(text.len() as u16 + 1).to_be_bytes(),
            &[text.len() as u8],
            text,
        ];
        fill(&mut record, &parts);
        reply.answer_at(QUESTION_AT, record.get(..11 + text.len()).unwrap_or_default());
    }
    reply.finish(rcode::NOERROR);
    let qtype = Some(query.qtype);
    Outcome::Replied(Replied { rcode: rcode::NOERROR, qtype, truncated: false, cache: None })
}

/// A TXT record's string.
const TEXT_MAX: usize = 255;
