//! `_why.NAME`: what [`explain`](crate::explain::explain) says of NAME, in the strings of a TXT record.
//!
//! ```text
//!   dig TXT _why.web.service.consul        why the A records are what they are
//!   dig TXT _why-srv.web.service.consul    the same of another type
//! ```
//! For whoever has a terminal and no way to the admin port. The name exists for the clients that
//! [`Policy::why`](crate::answer::Policy::why) allows, and for no others.

use crate::answer::{Asked, Draft, Outcome, Policy, Replied, fail};
use crate::explain::Explanation;
use crate::explain::instances::Verdict;
use crate::wire::{CLASS_IN, QUESTION_AT, Query, Reply, rcode, rtype};

/// The question that such a name asks to have explained, of this type, as a client over UDP asks it:
/// the same without the first label. `None` where it cannot be read.
pub fn question(message: &[u8], rtype: u16) -> Option<Vec<u8>> {
    let query = Query::parse(message).ok()?;
    let first = usize::from(*query.name.first()?);
    let head = message.get(..QUESTION_AT)?;
    let rest = message.get(QUESTION_AT + query.name.len() + 2..)?;
    let name = query.name.get(first + 1..)?;
    // The class, and all that follows: the client's size, network and cookie.
    Some([head, name, &rtype.to_be_bytes()[..], rest].concat())
}

/// Answers TXT for such a name.
pub fn answer(
    policy: &Policy,
    asked: &Asked<'_>,
    explanation: Option<&Explanation>,
    draft: &mut Draft,
) -> Outcome<'static> {
    let Ok(query) = &Query::parse(asked.bytes) else { return fail(policy, asked, draft) };
    let texts = match explanation {
        Some(explanation) => texts(explanation),
        None => vec!["this name cannot be asked".to_owned()],
    };
    let (mut opt, cookie) = policy.opt(asked, query.edns.as_ref());
    let limit = asked.transport.reply_max(policy, query.edns.as_ref());
    let mut reply = Reply::start(&mut draft.reply, &query.head, limit, opt.as_mut());
    reply.set_authoritative();
    if policy.recursion.enabled {
        reply.set_recursion_available();
    }
    let truncated = !reply.answer_at(QUESTION_AT, &record(&texts));
    if truncated {
        reply.truncate();
    }
    reply.finish(rcode::NOERROR);
    let (rcode, qtype) = (rcode::NOERROR, Some(query.qtype));
    Outcome::Replied(Replied { rcode, qtype, truncated, cache: None, cookie })
}

/// What is said, the most telling first.
fn texts(explanation: &Explanation) -> Vec<String> {
    let Explanation { question, summary, hints, reading, subject, instances, ttl, .. } =
        explanation;
    let mut texts = vec![format!("{} {}", question.name, question.rtype), summary.clone()];
    texts.extend(hints.iter().cloned());
    texts.push(format!("read as {reading}"));
    if let Some(subject) = subject.as_ref().filter(|subject| subject.is_there) {
        texts.push(format!("{} {} is kept {}", subject.kind, subject.name, subject.held));
    }
    if let Some(ttl) = ttl {
        texts.push(format!("TTL {} s from {}", ttl.secs, ttl.from));
    }
    let listed = instances.iter().flat_map(|instances| &instances.listed);
    for line in listed.filter(|line| line.verdict == Verdict::Out).take(LINES_MAX) {
        let reason = line.reason.as_deref().unwrap_or_default();
        texts.push(format!("out: {} on {}: {reason}", line.id, line.node));
    }
    texts
}

/// A TXT record without its owner, a text in each of its strings, or in several.
fn record(texts: &[String]) -> Vec<u8> {
    let mut rdata = Vec::new();
    for text in texts {
        let mut rest = &**text;
        while !rest.is_empty() {
            let mut end = rest.len().min(STRING_MAX);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (string, after) = rest.split_at(end);
            rdata.push(end as u8);
            rdata.extend_from_slice(string.as_bytes());
            rest = after;
        }
    }
    let mut record = Vec::with_capacity(10 + rdata.len());
    record.extend_from_slice(&rtype::TXT.to_be_bytes());
    record.extend_from_slice(&CLASS_IN.to_be_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
    record.extend_from_slice(&rdata);
    record
}

/// Instances that are out and told of.
const LINES_MAX: usize = 10;

/// A TXT record's string.
const STRING_MAX: usize = 255;
