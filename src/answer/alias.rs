//! A CNAME, and what the name that it leads to has, if that is in a zone of ours.
//!
//! ```text
//!   ext.service.consul   CNAME  web.service.consul      the record
//!   web.service.consul   A      10.0.0.1                owned by the name in its RDATA
//! ```
//! The type is honored all along: Consul asks its own catalogue for ANY here, and adds A records
//! to an answer for AAAA. What a target elsewhere has, the recursors say; without any, the client's
//! resolver finds it. An alias of itself is SERVFAIL; Consul gives it four times over.

use crate::answer::find;
use crate::answer::finding::{Finding, Trace};
use crate::answer::node::AddressRecord;
use crate::answer::service::Desk;
use crate::answer::{Question, Random, Want, Written};
use crate::catalog::{RRsets, Selection};
use crate::name::Labels;
use crate::wire::record::RDATA_AT;
use crate::wire::{QUESTION_AT, Reply, ede, rtype};

/// Writes `cname`, owned by the question, and what follows from it.
///
/// # Errors
///
/// Gives back what is wanted first.
pub fn write<'s>(
    reply: &mut Reply<'_>,
    question: &Question<'s, '_>,
    cname: &[u8],
    desk: &mut Desk<'_>,
) -> Result<Written, Want<'s>> {
    let mut written = Written::default();
    let mut target_at = reply.offset() + RDATA_AT;
    written.add(reply.answer(cname), question);
    // Only addresses are looked for further on. CNAME and ANY ask for the record itself.
    let is_complete = !matches!(question.qtype, rtype::A | rtype::AAAA);
    if written.truncated {
        reply.truncate();
    }
    if is_repeated(reply, target_at, &[]) {
        return Ok(to_itself(written));
    }
    if written.answers == 0 || is_complete {
        return Ok(written);
    }
    let mut seen = [0; CHAIN_MAX];
    for at in 0..CHAIN_MAX {
        if let Some(step) = seen.get_mut(at) {
            *step = target_at;
        }
        let Some(labels) = Labels::from_wire(reply.name_at(target_at)) else { break };
        let zone = question.policy.zones.iter().filter_map(|zone| labels.below(zone)).min();
        let Some(count) = zone else {
            for record in question.host(&labels, question.qtype)? {
                written.add(reply.answer_at(target_at, record), question);
            }
            break;
        };
        let Question { snapshot, policy, asked, .. } = *question;
        let Trace { finding, is_stale, .. } = find::find(snapshot, policy, asked, &labels, count);
        written.is_stale |= is_stale;
        let next = match finding {
            Finding::Wants(want) => return Err(want),
            finding => follow(reply, question, &finding, target_at, desk, &mut written),
        };
        match next {
            Some(next) if reply.name_at(next).eq_ignore_ascii_case(reply.name_at(target_at)) => {
                written = to_itself(written);
                break;
            }
            // A name that was there already leads in a circle.
            Some(next) if !is_repeated(reply, next, &seen) => target_at = next,
            _ => break,
        }
    }
    if written.truncated {
        reply.truncate();
    }
    Ok(written)
}

/// An alias that leads to itself is an error (RFC 1034 §3.6.2).
fn to_itself(written: Written) -> Written {
    let error = Some((ede::OTHER, "registered as an alias of itself"));
    Written { is_broken: true, error, ..written }
}

/// Writes what the name at `target_at` has. Returns where the next name is, if it is an alias too.
fn follow(
    reply: &mut Reply<'_>,
    question: &Question<'_, '_>,
    finding: &Finding<'_>,
    target_at: usize,
    desk: &mut Desk<'_>,
    written: &mut Written,
) -> Option<usize> {
    match finding {
        Finding::Address(ip) => {
            let record = AddressRecord::new(*ip, question.policy.node_ttl_secs);
            if record.rtype() == question.qtype {
                written.add(reply.answer_at(target_at, record.tail()), question);
            }
            None
        }
        Finding::Node(node) => {
            let address = if question.qtype == rtype::A { &node.a } else { &node.aaaa };
            if address.is_empty() {
                return append(reply, question, target_at, &node.cname, written);
            }
            append(reply, question, target_at, address, written);
            None
        }
        Finding::Service { rrsets, selection } => {
            let hop = Hop { target_at, rrsets, selection };
            hop.write(reply, question, desk, written)
        }
        // A client without a resolver of its own would take the alias for all there is.
        Finding::Expired | Finding::NotReady | Finding::Unreachable => {
            written.is_broken = true;
            written.error = finding.extended_error();
            None
        }
        _ => None,
    }
}

/// A service that a CNAME leads to.
struct Hop<'a> {
    target_at: usize,
    rrsets: &'a RRsets,
    selection: &'a Selection,
}

impl Hop<'_> {
    /// Writes the service's records. Returns where the next name is, if it is a host as well.
    fn write(
        &self,
        reply: &mut Reply<'_>,
        question: &Question<'_, '_>,
        desk: &mut Desk<'_>,
        written: &mut Written,
    ) -> Option<usize> {
        let Self { target_at, rrsets, selection } = *self;
        let mut random = Random::new(question.asked.seed);
        if let [_, ..] = *selection.cname {
            let at = random.below(selection.cname.len() as u32) as usize;
            let record = rrsets.record(*selection.cname.get(at)?);
            return append(reply, question, target_at, record, written);
        }
        let spans = if question.qtype == rtype::A { &selection.a } else { &selection.aaaa };
        let most = most(question, written.answers).min(spans.len());
        for at in desk.picks.some(spans.len(), most, rrsets.is_sorted, &mut random) {
            let Some(span) = spans.get(*at as usize) else { break };
            append(reply, question, target_at, rrsets.record(*span), written);
            if written.truncated {
                break;
            }
        }
        None
    }
}

/// How many addresses may follow `aliases` records: the one limit is for the whole answer, the other
/// for addresses. Aliases alone would help nobody.
fn most(question: &Question<'_, '_>, aliases: usize) -> usize {
    let policy = question.policy;
    let of_answer = match question.has_small_limit {
        true => policy.udp_answer_limit.saturating_sub(aliases).max(1),
        false => usize::MAX,
    };
    match policy.a_record_limit {
        0 => of_answer,
        limit => of_answer.min(limit),
    }
}

/// Appends `record`, made for the question, as the name's at `owner_at`. Returns where its RDATA
/// starts, if there is a record and it fits.
fn append(
    reply: &mut Reply<'_>,
    question: &Question<'_, '_>,
    owner_at: usize,
    record: &[u8],
    written: &mut Written,
) -> Option<usize> {
    let tail = record.get(OWNER_LEN..)?;
    let fits = reply.answer_at(owner_at, tail);
    written.add(fits, question);
    fits.then(|| reply.offset() - (record.len() - RDATA_AT))
}

/// Whether the name at `at` is one of those at `seen`, in any letter case, or the question's.
fn is_repeated(reply: &Reply<'_>, at: usize, seen: &[usize]) -> bool {
    let name = reply.name_at(at);
    let mut known = seen.iter().copied().filter(|seen| *seen != 0).chain([QUESTION_AT]);
    known.any(|known| reply.name_at(known).eq_ignore_ascii_case(name))
}

/// Names that are followed, as many as Consul follows.
const CHAIN_MAX: usize = 4;

/// A pointer to the question.
const OWNER_LEN: usize = 2;
