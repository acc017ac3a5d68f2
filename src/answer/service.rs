//! What a service answers: addresses, or SRV records with their targets' addresses.
//!
//! How many records: all, up to a limit of policy, which sets no TC since the client lacks
//! nothing it was meant to have; then up to what fits, which sets TC over UDP, since the client
//! can have the rest over TCP. Additional records are dropped before any answer is. What is left
//! is a random subset, each instance as likely as any other.
//!
//! **Hot.** Costs what is written, not what the service has.

use crate::answer::find;
use crate::answer::finding::{Finding, Trace};
use crate::answer::node::AddressRecord;
use crate::answer::{Picks, Question, Random, Transport, Want, Written, alias};
use crate::catalog::rrsets::{Span, SrvSpan, TargetIn};
use crate::catalog::{RRsets, Selection};
use crate::name::Labels;
use crate::wire::record::{RDATA_AT, SRV_TARGET_AT};
use crate::wire::{QUESTION_AT, Reply, rtype};

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
///
/// # Errors
///
/// Gives back what is wanted first: a service's host may be another service of ours.
pub fn write<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    rrsets: &RRsets,
    selection: &Selection,
    desk: &mut Desk<'_>,
) -> Result<Written, Want<'s>> {
    let (a, aaaa, cname) = (&*selection.a, &*selection.aaaa, &*selection.cname);
    let limit = match question.policy.a_record_limit {
        0 => usize::MAX,
        limit => limit,
    };
    let pool = |first, second| Pool { rrsets, first, second };
    Ok(match question.qtype {
        rtype::SRV => write_srv(reply, question, rrsets, selection, desk)?,
        // Whatever the type (RFC 1034 §3.6.2). Consul: of several hosts, one; a name has one CNAME
        // (RFC 2181 §10.1).
        _ if !cname.is_empty() => {
            let mut random = Random::new(question.asked.seed);
            let picked = desk.picks.some(cname.len(), 1, rrsets.is_sorted, &mut random);
            let span = picked.first().and_then(|at| cname.get(*at as usize));
            let record = span.map_or(&[][..], |span| rrsets.record(*span));
            return alias::write(reply, question, record, desk);
        }
        rtype::A => write_spans(reply, question, pool(a, &[]), limit, desk),
        rtype::AAAA => write_spans(reply, question, pool(aaaa, &[]), limit, desk),
        rtype::ANY => {
            let both = selection.any.as_deref().map_or_else(|| pool(a, aaaa), |any| pool(any, &[]));
            write_spans(reply, question, both, limit, desk)
        }
        _ => Written::default(),
    })
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
    question: &Question<'_, '_>,
    pool: Pool<'_>,
    limit: usize,
    desk: &mut Desk<'_>,
) -> Written {
    let wanted = limited(pool.len().min(limit), question);
    // No record is shorter than an address, so no more than these can fit.
    let fitting = reply.room() / A_LEN;
    let mut random = Random::new(question.asked.seed);
    let mut answers = 0;
    let is_sorted = pool.rrsets.is_sorted;
    for at in desk.picks.some(pool.len(), wanted.min(fitting), is_sorted, &mut random) {
        if !reply.answer(pool.record(*at as usize)) {
            break;
        }
        answers += 1;
    }
    cut(reply, question, answers, wanted)
}

fn write_srv<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    rrsets: &RRsets,
    selection: &Selection,
    desk: &mut Desk<'_>,
) -> Result<Written, Want<'s>> {
    let spans = &*selection.srv;
    let wanted = limited(spans.len(), question);
    let end = End::of(question);
    let shortest =
        usize::from(selection.srv_len_min).saturating_sub(end.as_ref().map_or(0, End::saved));
    let fitting = reply.room() / shortest.max(1);
    let mut random = Random::new(question.asked.seed);
    desk.placed.records.clear();
    for at in desk.picks.some(spans.len(), wanted.min(fitting), rrsets.is_sorted, &mut random) {
        let Some(span) = spans.get(*at as usize) else { break };
        let offset = reply.offset();
        let record = rrsets.srv(*span).0;
        let fits = match (&end, span.target_in) {
            (Some(end), TargetIn::Zone) => reply.answer_ending(record, end.made.len(), end.asked),
            (None, TargetIn::Zone) | (_, TargetIn::Host) => reply.answer(record),
        };
        if !fits {
            break;
        }
        desk.placed.records.push((*span, offset));
    }
    let written = cut(reply, question, desk.placed.records.len(), wanted);
    let is_stale = write_targets(reply, question, rrsets, selection, desk.placed)?;
    Ok(Written { is_stale, ..written })
}

/// Writes the address of each target once (RFC 2181 §5: an RRset has no duplicates). Whether one of
/// them may be old.
fn write_targets<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    rrsets: &RRsets,
    selection: &Selection,
    placed: &mut Placed,
) -> Result<bool, Want<'s>> {
    let mut outcome = Ok(false);
    let mut trail = Trail { placed: &placed.records, followed: [0; FOLLOWED_MAX] };
    for (span, offset) in &placed.records {
        let (word, bit) = (span.target as usize / WORD, 1_u64 << (span.target as usize % WORD));
        if selection.shares_targets {
            placed.seen.resize(placed.seen.len().max(word + 1), 0);
            match placed.seen.get_mut(word) {
                Some(seen) if *seen & bit == 0 => *seen |= bit,
                _ => continue,
            }
        }
        if span.target_in == TargetIn::Host {
            match (write_host(reply, question, &mut trail, offset + SRV_TARGET_AT), &mut outcome) {
                (Ok(is_stale), Ok(is_any)) => *is_any |= is_stale,
                (Ok(_), Err(_)) => (),
                (Err(want), _) => {
                    outcome = Err(want);
                    break;
                }
            }
            continue;
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
    outcome
}

/// The names whose records are in the additional section, or will be: none is written twice.
struct Trail<'p> {
    placed: &'p [(SrvSpan, usize)],
    /// Where the names are that aliases led to; 0 is a free place.
    followed: [usize; FOLLOWED_MAX],
}

impl Trail<'_> {
    /// Whether the name at `at` is a new one, which is remembered, and there is a place for it.
    fn takes(&mut self, reply: &Reply<'_>, at: usize) -> bool {
        let name = reply.name_at(at);
        let is = |known: usize| reply.name_at(known).eq_ignore_ascii_case(name);
        let is_known = is(QUESTION_AT)
            || self.placed.iter().any(|(_, offset)| is(offset + SRV_TARGET_AT))
            || self.followed.iter().any(|known| *known != 0 && is(*known));
        match self.followed.iter_mut().find(|place| **place == 0) {
            Some(place) if !is_known => {
                *place = at;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// Writes the addresses of the name at `target_at`, as far as they are known or can be had, and the
/// aliases that lead there. Whether any of it may be old.
fn write_host<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    trail: &mut Trail<'_>,
    target_at: usize,
) -> Result<bool, Want<'s>> {
    let (mut is_stale, mut next) = (false, Some(target_at));
    while let Some(owner_at) = next {
        let (is_old, alias_of) = write_name(reply, question, owner_at)?;
        is_stale |= is_old;
        next = alias_of.filter(|at| trail.takes(reply, *at));
    }
    Ok(is_stale)
}

/// Writes what the name at `owner_at` has. Whether it may be old, and where the next name is if it
/// is an alias.
fn write_name<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    owner_at: usize,
) -> Result<(bool, Option<usize>), Want<'s>> {
    let Question { snapshot, policy, asked, .. } = *question;
    let Some(labels) = Labels::from_wire(reply.name_at(owner_at)) else { return Ok((false, None)) };
    let zone = policy.zones.iter().filter_map(|zone| labels.below(zone)).min();
    let Some(count) = zone else {
        for rtype in [rtype::A, rtype::AAAA] {
            for record in question.host(&labels, rtype)? {
                reply.additional(owner_at, record);
            }
        }
        return Ok((false, None));
    };
    let Trace { finding, is_stale, .. } = find::find(snapshot, policy, asked, &labels, count);
    let mut next = None;
    // What does not fit, or is not there, the client can ask for (RFC 2782).
    match finding {
        Finding::Address(ip) => {
            let record = AddressRecord::new(ip, policy.node_ttl_secs);
            reply.additional(owner_at, record.tail());
        }
        Finding::Node(node) => {
            for record in [&node.a, &node.aaaa] {
                if let Some(tail) = record.get(OWNER_LEN..) {
                    reply.additional(owner_at, tail);
                }
            }
            next = write_alias(reply, owner_at, &node.cname);
        }
        Finding::Service { rrsets, selection } => {
            for span in selection.a.iter().chain(&selection.aaaa) {
                let tail = rrsets.record(*span).get(OWNER_LEN..).unwrap_or_default();
                if !reply.additional(owner_at, tail) {
                    break;
                }
            }
            // A name has one CNAME (RFC 2181 §10.1).
            let any = Random::new(asked.seed).below(selection.cname.len().max(1) as u32);
            let cname = selection.cname.get(any as usize);
            next = cname.and_then(|span| write_alias(reply, owner_at, rrsets.record(*span)));
        }
        Finding::Wants(want) => return Err(want),
        _ => (),
    }
    Ok((is_stale, next))
}

/// Writes `cname`, if there is one that does not lead to itself. Returns where the name is that it
/// leads to.
fn write_alias(reply: &mut Reply<'_>, owner_at: usize, cname: &[u8]) -> Option<usize> {
    let (target, tail) = (cname.get(RDATA_AT..)?, cname.get(OWNER_LEN..)?);
    let leads_on = !reply.name_at(owner_at).eq_ignore_ascii_case(target);
    let is_written = leads_on && reply.additional(owner_at, tail);
    is_written.then(|| reply.offset() - target.len())
}

/// How the names that we make end, where another zone was asked than they were made in.
struct End<'p> {
    /// As they were made.
    made: &'p [u8],
    /// As they are answered.
    asked: &'p [u8],
}

impl<'p> End<'p> {
    fn of(question: &'p Question<'_, '_>) -> Option<Self> {
        let (made, asked) = (question.policy.zones.first()?.wire(), question.names_in()?.wire());
        (made != asked).then_some(Self { made, asked })
    }

    /// By how much names become shorter.
    fn saved(&self) -> usize {
        self.made.len().saturating_sub(self.asked.len())
    }
}

/// Consul: few records over UDP without EDNS, whatever would fit.
fn limited(wanted: usize, question: &Question<'_, '_>) -> usize {
    match question.has_small_limit {
        true => wanted.min(question.policy.udp_answer_limit),
        false => wanted,
    }
}

/// Sets TC where size has cost records and asking over TCP will bring them.
fn cut(
    reply: &mut Reply<'_>,
    question: &Question<'_, '_>,
    answers: usize,
    wanted: usize,
) -> Written {
    let truncated = answers < wanted && question.asked.transport == Transport::Udp;
    if truncated {
        reply.truncate();
    }
    Written { answers, truncated, ..Written::default() }
}

/// A pointer to the question.
const OWNER_LEN: usize = 2;

/// Names that aliases in the additional section lead to, at most.
const FOLLOWED_MAX: usize = 8;

/// An A record owned by a pointer.
const A_LEN: usize = 16;

const WORD: usize = u64::BITS as usize;
