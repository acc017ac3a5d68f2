//! A recursor's reply as bytes: what is kept of it, and what each client gets of it.
//!
//! ```text
//!   id  flags    the client's id, RD and CD; AD and the rcode as the recursor said; RA
//!   question     the client's, in its own letter case
//!   records      byte for byte, so that signatures hold; only TTLs count down
//!   OPT          ours, where the client sent one; of the recursor's its extended errors
//! ```
//! Nothing is decoded and encoded again, but where an OPT record stands amid the others.
//!
//! **Invariant:** no offset in `ttls` is past the bytes, and the question is the one asked.

use std::time::Duration;

use hickory_proto::op;

use crate::wire::query::{FLAG_CD, FLAG_RD};
use crate::wire::{CLASS_IN, Edns, QUESTION_AT, Query, rcode, rtype};

/// A reply without its OPT record, of no client's in particular.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    /// Where the TTLs are.
    ttls: Vec<usize>,
    /// All twelve bits of it.
    rcode: u16,
    has_edns: bool,
    /// Options of an OPT record that say why there is no answer (RFC 8914).
    errors: Vec<u8>,
    lifetime: Duration,
}

impl Message {
    /// Reads `bytes`, a reply to `question`: name, type and class as they were sent.
    ///
    /// Returns `None` for what is no whole reply, or a reply to something else.
    pub fn read(bytes: &[u8], question: &[u8]) -> Option<Self> {
        let mut walk = Walk::over(bytes, question)?;
        match walk.opt.take() {
            None => Some(walk.finish(bytes, question, None)),
            Some(opt) if opt.end == walk.end => {
                walk.end = opt.start;
                Some(walk.finish(bytes, question, Some(opt)))
            }
            // Pointers may lead past it, so it cannot be cut out.
            Some(opt) => {
                let mut message = op::Message::from_vec(bytes).ok()?;
                message.edns = None;
                let bytes = message.to_vec().ok()?;
                Some(Walk::over(&bytes, question)?.finish(&bytes, question, Some(opt)))
            }
        }
    }

    /// SERVFAIL of our own, with its reason.
    pub fn failure(question: &[u8], (code, text): (u16, &str)) -> Self {
        let mut bytes = vec![0; QUESTION_AT];
        put_u16(&mut bytes, 2, FLAG_QR | rcode::SERVFAIL);
        put_u16(&mut bytes, 4, 1);
        bytes.extend_from_slice(question);
        let mut errors = Vec::new();
        errors.extend_from_slice(&OPTION_EDE.to_be_bytes());
        errors.extend_from_slice(&(2 + text.len() as u16).to_be_bytes());
        errors.extend_from_slice(&code.to_be_bytes());
        errors.extend_from_slice(text.as_bytes());
        let (ttls, rcode, lifetime) = (Vec::new(), rcode::SERVFAIL, FAILURE_KEPT);
        Self { bytes, ttls, rcode, has_edns: true, errors, lifetime }
    }

    /// All twelve bits of it.
    pub fn rcode(&self) -> u16 {
        self.rcode
    }

    /// Whether the recursor cut it to fit a datagram.
    pub fn is_truncated(&self) -> bool {
        flags(&self.bytes) & FLAG_TC != 0
    }

    /// Whether it came with an OPT record.
    pub fn has_edns(&self) -> bool {
        self.has_edns
    }

    /// Whether it says why there is no answer.
    pub fn has_reason(&self) -> bool {
        !self.errors.is_empty()
    }

    /// How long it may be answered with; zero is once.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// What it takes in memory, roughly.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.bytes.len()
            + self.errors.len()
            + self.ttls.len() * size_of::<usize>()
    }

    /// As bytes that a decoder reads, with TTLs as they were when it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The reply to `query`, which asks the same; `age` is its time in the cache, if it was there.
    ///
    /// `payload` is what we take over UDP.
    pub fn reply(&self, query: &Query<'_>, age: Option<Duration>, payload: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 11 + self.errors.len());
        out.extend_from_slice(&self.bytes);
        put_u16(&mut out, 0, query.head.id);
        // What comes from a cache is nobody's authoritative word.
        let kept = if age.is_none() { FLAG_AA | FLAG_AD } else { FLAG_AD };
        // RFC 6891 §6.1.3: without an OPT record there is room for four bits of the code, and those
        // of another code would be a lie.
        let is_told = self.rcode <= RCODE_SHORT_MAX || query.edns.is_some();
        let rcode = if is_told { self.rcode & RCODE_SHORT_MAX } else { rcode::SERVFAIL };
        let flags = FLAG_QR
            | FLAG_RA
            | flags(&self.bytes) & kept
            | query.head.flags & (FLAG_RD | FLAG_CD)
            | rcode;
        put_u16(&mut out, 2, flags);
        let question = query.head.question.unwrap_or_default();
        if let Some(space) = out.get_mut(QUESTION_AT..QUESTION_AT + question.len()) {
            space.copy_from_slice(question);
        }
        let age_secs = u32::try_from(age.unwrap_or_default().as_secs()).unwrap_or(u32::MAX);
        for at in &self.ttls {
            let left = u32_at(&out, *at).unwrap_or_default().saturating_sub(age_secs);
            put(&mut out, *at, &left.to_be_bytes());
        }
        if let Some(edns) = query.edns {
            self.push_opt(&mut out, edns, payload);
        }
        out
    }

    fn push_opt(&self, out: &mut Vec<u8>, edns: Edns, payload: u16) {
        let additional = u16_at(out, ARCOUNT_AT).unwrap_or_default();
        put_u16(out, ARCOUNT_AT, additional.saturating_add(1));
        out.push(0);
        out.extend_from_slice(&rtype::OPT.to_be_bytes());
        out.extend_from_slice(&payload.to_be_bytes());
        out.extend_from_slice(&[(self.rcode >> 4) as u8, 0]);
        out.extend_from_slice(&(u16::from(edns.dnssec_ok) << 15).to_be_bytes());
        out.extend_from_slice(&(self.errors.len() as u16).to_be_bytes());
        out.extend_from_slice(&self.errors);
    }
}

/// One record, as far as it matters to a cache.
struct Record {
    section: Section,
    rtype: u16,
    ttl_at: usize,
    ttl_secs: u32,
    /// Of an SOA, the MINIMUM: its last number.
    minimum_secs: u32,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// The OPT record of a reply.
struct Opt {
    start: usize,
    end: usize,
    rcode_high: u16,
    errors: Vec<u8>,
}

/// What a walk over a message has found.
struct Walk {
    records: Vec<Record>,
    opt: Option<Opt>,
    /// One past the last record.
    end: usize,
}

impl Walk {
    fn over(bytes: &[u8], question: &[u8]) -> Option<Self> {
        let is_reply = flags(bytes) & (FLAG_QR | FLAG_OPCODE) == FLAG_QR;
        let end = QUESTION_AT + question.len();
        let asked = bytes.get(QUESTION_AT..end)?;
        if !is_reply || u16_at(bytes, 4)? != 1 || !is_same(asked, question) {
            return None;
        }
        let mut walk = Self { records: Vec::new(), opt: None, end };
        for (section, count_at) in
            [(Section::Answer, 6), (Section::Authority, 8), (Section::Additional, ARCOUNT_AT)]
        {
            for _ in 0..u16_at(bytes, count_at)? {
                walk.step(bytes, section)?;
            }
        }
        Some(walk)
    }

    fn step(&mut self, bytes: &[u8], section: Section) -> Option<()> {
        let start = self.end;
        let at = name_end(bytes, start)?;
        let (kind, ttl, len) = (u16_at(bytes, at)?, u32_at(bytes, at + 4)?, u16_at(bytes, at + 8)?);
        let data_at = at + 10;
        self.end = data_at + usize::from(len);
        let data = bytes.get(data_at..self.end)?;
        // In an OPT record it is a size. All else is of the class that was asked for.
        if kind != rtype::OPT && u16_at(bytes, at + 2)? != CLASS_IN {
            return None;
        }
        if kind == rtype::OPT {
            // RFC 6891 §6.1.1: one, and there.
            if self.opt.is_some() || section != Section::Additional {
                return None;
            }
            let (end, errors) = (self.end, errors_among(data)?);
            self.opt = Some(Opt { start, end, rcode_high: (ttl >> 24) as u16, errors });
            return Some(());
        }
        self.records.push(Record {
            section,
            rtype: kind,
            ttl_at: at + 4,
            // RFC 2181 §8: the first bit is not part of it.
            ttl_secs: if ttl >> 31 == 0 { ttl } else { 0 },
            minimum_secs: data.len().checked_sub(4).and_then(|at| u32_at(data, at)).unwrap_or(0),
        });
        Some(())
    }

    /// Keeps what was walked over of `bytes`, in which no OPT record is left.
    fn finish(mut self, bytes: &[u8], question: &[u8], opt: Option<Opt>) -> Message {
        let has_edns = opt.is_some();
        let (rcode_high, errors) =
            opt.map_or_else(Default::default, |opt| (opt.rcode_high, opt.errors));
        let rcode = rcode_high << 4 | flags(bytes) & 0xf;
        let lifetime = self.bound_ttls(rcode, qtype(question));
        let mut kept = bytes.get(..self.end).unwrap_or_default().to_vec();
        for record in &self.records {
            put(&mut kept, record.ttl_at, &record.ttl_secs.to_be_bytes());
        }
        let is_additional = |record: &&Record| record.section == Section::Additional;
        put_u16(&mut kept, ARCOUNT_AT, self.records.iter().filter(is_additional).count() as u16);
        let ttls = self.records.iter().map(|record| record.ttl_at).collect();
        Message { bytes: kept, ttls, rcode, has_edns, errors, lifetime }
    }

    /// Brings the TTLs within our bounds, and says how long the message may be kept: as long as
    /// the first of its records lasts.
    fn bound_ttls(&mut self, rcode: u16, qtype: u16) -> Duration {
        let is_wanted = |record: &Record| {
            let is_of_type = qtype == rtype::ANY || record.rtype == qtype;
            record.section == Section::Answer && is_of_type
        };
        let is_denial = match rcode {
            rcode::NOERROR => !self.records.iter().any(is_wanted),
            _ => rcode == rcode::NXDOMAIN,
        };
        let mut has_soa = false;
        for record in &mut self.records {
            record.ttl_secs = record.ttl_secs.min(TTL_SECS_MAX);
            if is_denial && record.section == Section::Authority && record.rtype == rtype::SOA {
                has_soa = true;
                // RFC 2308 §5.
                record.ttl_secs = record.ttl_secs.min(record.minimum_secs).min(NEGATIVE_SECS_MAX);
            }
        }
        match rcode {
            rcode::SERVFAIL => FAILURE_KEPT,
            // RFC 2308 §5: without an SOA nothing says for how long.
            rcode::NOERROR | rcode::NXDOMAIN if !is_denial || has_soa => {
                let least = self.records.iter().map(|record| record.ttl_secs).min();
                Duration::from_secs(u64::from(least.unwrap_or_default()))
            }
            _ => Duration::ZERO,
        }
    }
}

/// Puts `question` into the reply in the first `len` bytes of `buffer`, where a server left it off:
/// old ones say so that they cannot read a query, and repeat nothing of it. Returns the new length.
///
/// Only errors that say nothing of a name may do without.
pub fn put_question(buffer: &mut [u8], len: usize, question: &[u8]) -> usize {
    let count = |at| u16_at(buffer, at).unwrap_or(u16::MAX);
    let is_bare = len >= QUESTION_AT && [4, 6, 8].into_iter().all(|at| count(at) == 0);
    let rcode = flags(buffer) & RCODE_SHORT_MAX;
    let is_error =
        matches!(rcode, rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED);
    let end = QUESTION_AT + question.len();
    let longer = len + question.len();
    if !is_bare || !is_error || longer > buffer.len() {
        return len;
    }
    put_u16(buffer, 4, 1);
    // An OPT record may follow.
    buffer.copy_within(QUESTION_AT..len, end);
    put(buffer, QUESTION_AT, question);
    longer
}

/// Whether two questions are: letter case counts in no name (RFC 4343), and in types.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let name_len = one.len().saturating_sub(4);
    match (one.split_at_checked(name_len), other.split_at_checked(name_len)) {
        (Some((name, rest)), Some((name2, rest2))) => {
            name.eq_ignore_ascii_case(name2) && rest == rest2
        }
        _ => false,
    }
}

/// The extended errors among EDNS options, each with its head. `None` if an option is cut off.
fn errors_among(options: &[u8]) -> Option<Vec<u8>> {
    let (mut errors, mut at) = (Vec::new(), 0);
    while at < options.len() {
        let (code, len) = (u16_at(options, at)?, u16_at(options, at + 2)?);
        let option = options.get(at..at + 4 + usize::from(len))?;
        if code == OPTION_EDE {
            errors.extend_from_slice(option);
        }
        at += option.len();
    }
    Some(errors)
}

/// Where the name at `at` ends, in this place: a pointer is its end.
fn name_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn qtype(question: &[u8]) -> u16 {
    question.len().checked_sub(4).and_then(|at| u16_at(question, at)).unwrap_or_default()
}

fn flags(bytes: &[u8]) -> u16 {
    u16_at(bytes, 2).unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_be_bytes());
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(space) = bytes.get_mut(at..at + value.len()) {
        space.copy_from_slice(value);
    }
}

/// RFC 1035 §4.1.1, and AD from RFC 4035 §3.2.3.
const FLAG_QR: u16 = 0x8000;
const FLAG_OPCODE: u16 = 0x7800;
const FLAG_AA: u16 = 0x0400;
const FLAG_TC: u16 = 0x0200;
const FLAG_RA: u16 = 0x0080;
const FLAG_AD: u16 = 0x0020;

/// The largest code that the header holds.
const RCODE_SHORT_MAX: u16 = 0xf;

/// Where the count of additional records is.
const ARCOUNT_AT: usize = 10;

const OPTION_EDE: u16 = 15;

/// A day: longer, and a mistake in a zone far away would stay.
const TTL_SECS_MAX: u32 = 86_400;

/// RFC 2308 §5 has one to three hours as sensible.
const NEGATIVE_SECS_MAX: u32 = 10_800;

/// RFC 9520 §3.2: at least a second, so that what fails is not asked again by every client.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
