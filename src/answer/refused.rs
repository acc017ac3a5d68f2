//! Replies without records: to what is malformed, not ours, or cannot be answered now.
//!
//! **Hot.**

use crate::answer::{Asked, CookieCheck, Draft, Outcome, Policy, Replied, meta};
use crate::wire::{Edns, Head, Keepalive, Query, Refusal, Reply, Signature, ede, rcode};

/// A reply without records.
pub struct Refused<'q> {
    /// What it repeats.
    pub head: Head<'q>,
    /// Of the query.
    pub edns: Option<Edns>,
    /// Its response code.
    pub rcode: u16,
    /// Why, for clients that sent EDNS (RFC 8914).
    pub error: Option<(u16, &'static str)>,
    /// Of the query, where that is the error.
    pub signature: Option<Signature<'q>>,
}

impl<'q> Refused<'q> {
    /// The reply to `query` with this code.
    pub fn new(query: &Query<'q>, rcode: u16, error: Option<(u16, &'static str)>) -> Self {
        Self { head: query.head, edns: query.edns, rcode, error, signature: None }
    }

    /// The reply to `query` that it has for what it is, whatever its name; `None` if it has none.
    pub fn of(asked: &Asked<'_>, query: &Query<'q>) -> Option<Self> {
        // Over UDP the option means nothing, malformed or not (RFC 7828 §3.3.1).
        let keepalive = query.edns.and_then(|edns| edns.keepalive);
        if keepalive == Some(Keepalive::Timed) && asked.transport.has_keepalive() {
            return Some(Self::new(query, rcode::FORMERR, None));
        }
        let (rcode, error) = meta::refusal(query.qtype)?;
        Some(Self::new(query, rcode, Some(error)))
    }

    /// The reply to a query for a cookie alone (RFC 7873 §5.4), by what the cookie in it is worth.
    pub fn for_cookie(policy: &Policy, asked: &Asked<'_>, head: Head<'q>, edns: Edns) -> Self {
        let rcode = match policy.opt(asked, Some(&edns)).1 {
            CookieCheck::Alone | CookieCheck::Valid => rcode::NOERROR,
            CookieCheck::Wrong => rcode::BADCOOKIE,
            // They are not looked at, so that it is a query without a question.
            CookieCheck::Absent => rcode::FORMERR,
        };
        Self { head, edns: Some(edns), rcode, error: None, signature: None }
    }

    /// Writes it.
    pub fn reply<'s>(&self, policy: &Policy, asked: &Asked<'_>, draft: &mut Draft) -> Outcome<'s> {
        let (mut opt, cookie) = policy.opt(asked, self.edns.as_ref());
        if let Some(opt) = &mut opt {
            opt.error = self.error;
        }
        let limit = asked.transport.reply_max(policy, self.edns.as_ref());
        let mut reply = Reply::start(&mut draft.reply, &self.head, limit, opt.as_mut());
        if policy.recursion.enabled {
            reply.set_recursion_available();
        }
        reply.finish_signed(self.rcode, self.signature.as_ref());
        let qtype = self.head.question.and_then(|question| match question {
            [.., high, low, _, _] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        });
        let rcode = self.rcode;
        Outcome::Replied(Replied { rcode, qtype, truncated: false, cache: None, cookie })
    }
}

/// Writes SERVFAIL to whatever `asked` asks, for a caller that cannot have it answered.
///
/// Nothing is written where nothing may be answered.
pub fn fail<'s>(policy: &Policy, asked: &Asked<'_>, draft: &mut Draft) -> Outcome<'s> {
    draft.reply.clear();
    draft.is_by_address = false;
    let (head, edns) = match Query::parse(asked.bytes) {
        Ok(query) => (query.head, query.edns),
        Err(Refusal::Reply { head, edns, .. }) => (head, edns),
        Err(Refusal::CookieAlone { head, edns }) => (head, Some(edns)),
        Err(Refusal::Silence) => return Outcome::Silence,
    };
    let error = Some((ede::OTHER, "an error of this server's own"));
    let refused = Refused { head, edns, rcode: rcode::SERVFAIL, error, signature: None };
    refused.reply(policy, asked, draft)
}
