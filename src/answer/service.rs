//! What a service answers: addresses, or SRV records with their targets' addresses.
//!
//! How many records: all, up to a limit of policy, which sets no TC since the client lacks
//! nothing it was meant to have; then up to what fits, which sets TC over UDP, since the client
//! can have the rest over TCP. Additional records are dropped before any answer is. What is left
//! is a random subset, each instance as likely as any other.
//!
//! **Hot.** Costs what is written, not what the service has.

use crate::answer::{Picks, Question, Random, Transport, Written};
use crate::catalog::rrsets::{Span, SrvSpan};
use crate::catalog::{RRsets, Selection};
use crate::wire::record::SRV_TARGET_AT;
use crate::wire::{Reply, rtype};

/// The buffers of one answer.
#[derive(Debug)]
pub struct Desk<'d> {
    /// Which records.
    pub picks: &'d mut Picks,
    /// Where they were put.
    pub placed: &'d mut Placed,
}

/// SRV records that were written, and where.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    records: Vec<(SrvSpan, usize)>,
    /// A bit for each target whose address is in. **Invariant:** zero between two replies.
    seen: Vec<u64>,
}

/// Writes the records of `selection` that the question's type asks for.
pub fn write(
    reply: &mut Reply<'_>,
    question: &Question<'_>,
    rrsets: &RRsets,
    selection: &Selection,
    desk: Desk<'_>,
) -> Written {
    let (a, aaaa, cname) = (&*selection.a, &*selection.aaaa, &*selection.cname);
    match question.qtype {
        rtype::SRV => write_srv(reply, question, rrsets, selection, desk),
        // Consul: of several hosts, one; a name has one CNAME (RFC 2181 §10.1).
        rtype::A | rtype::AAAA | rtype::ANY | rtype::CNAME if !cname.is_empty() => {
            let pool = Pool { rrsets, first: cname, second: &[] };
            write_spans(reply, question, pool, 1, desk)
        }
        rtype::A | rtype::AAAA | rtype::ANY => {
            let (first, second) = match question.qtype {
                rtype::A => (a, &[][..]),
                rtype::AAAA => (aaaa, &[][..]),
                _ => (a, aaaa),
            };
            let limit = match question.policy.a_record_limit {
                0 => usize::MAX,
                limit => limit,
            };
            write_spans(reply, question, Pool { rrsets, first, second }, limit, desk)
        }
        _ => Written::default(),
    }
}

/// Two lists of records, picked from as one.
struct Pool<'s> {
    rrsets: &'s RRsets,
    first: &'s [Span],
    second: &'s [Span],
}

impl Pool<'_> {
    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn record(&self, at: usize) -> &[u8] {
        let span = self.first.get(at).or_else(|| self.second.get(at - self.first.len()));
        span.map_or(&[], |span| self.rrsets.record(*span))
    }
}

fn write_spans(
    reply: &mut Reply<'_>,
    question: &Question<'_>,
    pool: Pool<'_>,
    limit: usize,
    desk: Desk<'_>,
) -> Written {
    let wanted = limited(pool.len().min(limit), question);
    // No record is shorter than an address, so no more than these can fit.
    let fitting = reply.room() / A_LEN;
    let mut random = Random::new(question.asked.seed);
    let mut answers = 0;
    for at in desk.picks.distinct(pool.len(), wanted.min(fitting), &mut random) {
        if !reply.answer(pool.record(*at as usize)) {
            break;
        }
        answers += 1;
    }
    cut(reply, question, answers, wanted)
}

fn write_srv(
    reply: &mut Reply<'_>,
    question: &Question<'_>,
    rrsets: &RRsets,
    selection: &Selection,
    desk: Desk<'_>,
) -> Written {
    let spans = &*selection.srv;
    let wanted = limited(spans.len(), question);
    let fitting = reply.room() / usize::from(selection.srv_len_min).max(1);
    let mut random = Random::new(question.asked.seed);
    desk.placed.records.clear();
    for at in desk.picks.distinct(spans.len(), wanted.min(fitting), &mut random) {
        let Some(span) = spans.get(*at as usize) else { break };
        let offset = reply.offset();
        if !reply.answer(rrsets.srv(*span).0) {
            break;
        }
        desk.placed.records.push((*span, offset));
    }
    let written = cut(reply, question, desk.placed.records.len(), wanted);
    write_targets(reply, rrsets, selection, desk.placed);
    written
}

/// Writes the address of each target once (RFC 2181 §5: an RRset has no duplicates).
fn write_targets(
    reply: &mut Reply<'_>,
    rrsets: &RRsets,
    selection: &Selection,
    placed: &mut Placed,
) {
    for (span, offset) in &placed.records {
        let (word, bit) = (span.target as usize / WORD, 1_u64 << (span.target as usize % WORD));
        if selection.shares_targets {
            placed.seen.resize(placed.seen.len().max(word + 1), 0);
            match placed.seen.get_mut(word) {
                Some(seen) if *seen & bit == 0 => *seen |= bit,
                _ => continue,
            }
        }
        let tail = rrsets.srv(*span).1;
        if !tail.is_empty() && !reply.additional(offset + SRV_TARGET_AT, tail) {
            break;
        }
    }
    if selection.shares_targets {
        for (span, _) in &placed.records {
            if let Some(seen) = placed.seen.get_mut(span.target as usize / WORD) {
                *seen = 0;
            }
        }
    }
}

/// Consul: few records over UDP without EDNS, whatever would fit.
fn limited(wanted: usize, question: &Question<'_>) -> usize {
    match question.has_small_limit {
        true => wanted.min(question.policy.udp_answer_limit),
        false => wanted,
    }
}

/// Sets TC where size has cost records and asking over TCP will bring them.
fn cut(reply: &mut Reply<'_>, question: &Question<'_>, answers: usize, wanted: usize) -> Written {
    let truncated = answers < wanted && question.asked.transport == Transport::Udp;
    if truncated {
        reply.truncate();
    }
    Written { answers, truncated }
}

/// An A record owned by a pointer.
const A_LEN: usize = 16;

const WORD: usize = u64::BITS as usize;
