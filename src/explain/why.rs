//! `_why.NAME`: what [`explain`] says of NAME, in the strings of a TXT record.
//!
//! ```text
//!   dig TXT _why.web.service.consul        why the A records are what they are
//!   dig TXT _why-srv.web.service.consul    the same of another type
//! ```
//! For whoever has a terminal and no way to the admin port. The name exists for the clients that
//! [`Policy::why`](crate::answer::Policy::why) allows, and for no others.

use crate::answer::{Asked, Draft, Outcome, Policy, Replied, fail, respond};
use crate::catalog::Snapshot;
use crate::explain::instances::Verdict;
use crate::explain::{Explanation, explain};
use crate::wire::query::FLAG_RD;
use crate::wire::{CLASS_IN, QUESTION_AT, Query, Reply, rcode, rtype};

/// Answers TXT for such a name.
pub fn answer<'s>(
    snapshot: &'s Snapshot,
    policy: &Policy,
    asked: &Asked<'_>,
    rtype: u16,
    draft: &mut Draft,
) -> Outcome<'s> {
    let Ok(query) = &Query::parse(asked.bytes) else { return fail(policy, asked, draft) };
    let inner = question(query, rtype);
    let asked_inside = &Asked { bytes: &inner, ..*asked };
    if let Outcome::Wants(want) = respond(snapshot, policy, asked_inside, draft) {
        return Outcome::Wants(want);
    }
    let texts = match explain(snapshot, policy, asked_inside) {
        Some(explanation) => texts(&explanation),
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

/// The question that is explained: the same name without its first label, over the same transport.
fn question(query: &Query<'_>, rtype: u16) -> Vec<u8> {
    let first = query.name.first().map_or(0, |len| usize::from(*len));
    let name = query.name.get(first + 1..).unwrap_or_default();
    let additional = u8::from(query.edns.is_some());
    let [high, low] = (query.head.flags & FLAG_RD).to_be_bytes();
    let mut message = vec![0, 0, high, low, 0, 1, 0, 0, 0, 0, 0, additional];
    message.extend_from_slice(name);
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(edns) = &query.edns {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&edns.payload.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    message
}

/// What is said, the most telling first.
fn texts(explanation: &Explanation) -> Vec<String> {
    let Explanation { question, summary, hints, reading, subject, instances, ttl, .. } =
        explanation;
    let mut texts = vec![format!("{} {}", question.name, question.rtype), summary.clone()];
    texts.extend(hints.iter().cloned());
    texts.push(format!("read as {reading}"));
    if let Some(subject) = subject {
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

/// A TXT record without its owner, a text in each of its strings.
fn record(texts: &[String]) -> Vec<u8> {
    let mut rdata = Vec::new();
    for text in texts {
        let mut end = text.len().min(STRING_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        rdata.push(end as u8);
        rdata.extend_from_slice(text.as_bytes().get(..end).unwrap_or_default());
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
