//! What the server says of itself, in class CH (RFC 4892): its version and which one it is.
//!
//! ```text
//!   version.bind version.server     the program and its version
//!   hostname.bind id.server         which of several servers answered
//! ```

use crate::answer::negative::fill;
use crate::answer::refused::Refused;
use crate::answer::{Asked, Draft, Outcome, Policy, Replied};
use crate::name::Labels;
use crate::wire::{CLASS_CH, QUESTION_AT, Query, Reply, ede, rcode, rtype};

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
        let error = (ede::NOT_AUTHORITATIVE, "not a name of this server in class CH");
        let refused = Refused::new(query, rcode::REFUSED, Some(error));
        return refused.reply(policy, asked, draft);
    };
    let (mut opt, cookie) = policy.opt(asked, query.edns.as_ref());
    let limit = asked.transport.reply_max(policy, query.edns.as_ref());
    let mut reply = Reply::start(&mut draft.reply, &query.head, limit, opt.as_mut());
    reply.set_authoritative();
    if policy.recursion.enabled {
        reply.set_recursion_available();
    }
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
    let rcode = rcode::NOERROR;
    Outcome::Replied(Replied { rcode, qtype, truncated: false, cache: None, cookie })
}

/// A TXT record's string.
const TEXT_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{self, Transport, Turn};
    use crate::catalog::Snapshot;
    use crate::name::Zone;

    fn ask(name: &[u8], policy: &Policy) -> Vec<u8> {
        let mut bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(b"\0\x10\0\x03");
        let client = std::net::Ipv4Addr::LOCALHOST.into();
        let asked = Asked {
            bytes: &bytes,
            transport: Transport::Udp,
            client,
            local: None,
            seed: 0,
            now_ms: 0,
            turn: Turn::First,
            near: None,
            hosts: &[],
        };
        let mut draft = Draft::default();
        answer::respond(&Snapshot::default(), policy, &asked, &mut draft);
        draft.reply.split_off(bytes.len())
    }

    #[test]
    fn the_version_is_told_unless_nothing_is_to_be() {
        let mut policy = Policy::new(Zone::new("consul").unwrap());
        assert_eq!(ask(b"\x07version\x04bind\0", &policy), b"");
        policy.chaos = Some(Chaos { version: "v 1".to_owned(), identity: "me".to_owned() });
        for name in [&b"\x07version\x04bind\0"[..], b"\x07Version\x06server\0"] {
            let record = b"\xc0\x0c\0\x10\0\x03\0\0\0\0\0\x04\x03v 1";
            assert_eq!(ask(name, &policy), record);
        }
        assert_eq!(ask(b"\x07authors\x04bind\0", &policy), b"");
    }
}
