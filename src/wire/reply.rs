//! Writes one reply in place: header, question, sections, OPT, size limit, TC.
//!
//! **Invariant:** a finished reply is never longer than its limit, its OPT included, and its
//! counts are those of the records written. A record that does not fit is not written at all.
//! TC is set by [`Reply::truncate`] alone.
//!
//! **Hot.** The buffer is the caller's and is reused.

use crate::wire::QUESTION_AT;
use crate::wire::opt::Opt;
use crate::wire::query::{FLAG_CD, FLAG_RD, Head};
use crate::wire::record::RDLENGTH_AT;
use crate::wire::tsig::Signature;

/// A reply being written.
#[derive(Debug)]
pub struct Reply<'b> {
    out: &'b mut Vec<u8>,
    flags: u16,
    counts: Counts,
    /// What the records may fill; the OPT record's space is already taken off.
    limit: usize,
    opt: Option<&'b mut Opt<'b>>,
}

/// Records per section.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    question: u16,
    answer: u16,
    authority: u16,
    additional: u16,
}

impl<'b> Reply<'b> {
    /// Starts a reply to `head` of at most `limit` bytes, in the place of what `out` held.
    pub fn start(
        out: &'b mut Vec<u8>,
        head: &Head<'_>,
        limit: usize,
        opt: Option<&'b mut Opt<'b>>,
    ) -> Self {
        out.clear();
        out.extend_from_slice(&head.id.to_be_bytes());
        out.extend_from_slice(&[0; QUESTION_AT - 2]);
        out.extend_from_slice(head.question.unwrap_or_default());
        Self {
            out,
            flags: FLAG_QR | head.flags & (FLAG_OPCODE | FLAG_RD | FLAG_CD),
            counts: Counts { question: u16::from(head.question.is_some()), ..Counts::default() },
            limit: limit - opt.as_ref().map_or(0, |opt| opt.len()).min(limit),
            opt,
        }
    }

    /// Says that the answer is from the zone itself.
    pub fn set_authoritative(&mut self) {
        self.flags |= FLAG_AA;
    }

    /// Says that names in other zones are looked up too.
    pub fn set_recursion_available(&mut self) {
        self.flags |= FLAG_RA;
    }

    /// Says `error` and no other, where there is room for it.
    pub fn set_error(&mut self, error: Option<(u16, &'static str)>) {
        let room = self.room();
        let Some(opt) = &mut self.opt else { return };
        let next = Opt { error, ..**opt };
        // What the records may fill is less by what the OPT record has more.
        if next.len() <= opt.len() + room {
            self.limit = (self.limit + opt.len()).saturating_sub(next.len());
            **opt = next;
        }
    }

    /// Says that the answer was cut by size, so that the client asks again over TCP.
    pub fn truncate(&mut self) {
        self.flags |= FLAG_TC;
    }

    /// The name at `at`, uncompressed, with the root label; nothing where there is none.
    pub fn name_at(&self, at: usize) -> &[u8] {
        let bytes = self.out.get(at..).unwrap_or_default();
        bytes.get(..name_len(bytes)).unwrap_or_default()
    }

    /// How many bytes of records still fit.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Where the next record will start.
    pub fn offset(&self) -> usize {
        self.out.len()
    }

    /// Appends an answer that fits, or says that it does not.
    pub fn answer(&mut self, record: &[u8]) -> bool {
        let fits = self.append(&[], record);
        self.counts.answer += u16::from(fits);
        fits
    }

    /// Appends an answer whose owner is the name at `owner_at`, not the question's.
    pub fn answer_at(&mut self, owner_at: usize, tail: &[u8]) -> bool {
        let fits = match pointer(owner_at) {
            Some(owner) => self.append(&owner, tail),
            None => self.append_owned(owner_at, tail),
        };
        self.counts.answer += u16::from(fits);
        fits
    }

    /// Appends an answer that ends with `end` in the place of its last `cut` bytes, which are the
    /// end of its RDATA.
    pub fn answer_ending(&mut self, record: &[u8], cut: usize, end: &[u8]) -> bool {
        let kept = record.get(..record.len().saturating_sub(cut)).unwrap_or_default();
        let fits = kept.len() > RDLENGTH_AT && self.room() >= kept.len() + end.len();
        if fits {
            let at = self.out.len() + RDLENGTH_AT;
            self.out.extend_from_slice(kept);
            self.out.extend_from_slice(end);
            let len = self.out.len() - at - 2;
            if let Some(space) = self.out.get_mut(at..at + 2) {
                space.copy_from_slice(&(len as u16).to_be_bytes());
            }
        }
        self.counts.answer += u16::from(fits);
        fits
    }

    /// Appends `tail` to the authority section, owned by the name at `owner_at`.
    pub fn authority(&mut self, owner_at: usize, tail: &[u8]) -> bool {
        let Some(owner) = pointer(owner_at) else { return false };
        let fits = self.append(&owner, tail);
        self.counts.authority += u16::from(fits);
        fits
    }

    /// Appends `tail` to the additional section, owned by the name at `owner_at`.
    ///
    /// A pointer reaches 16 KiB (RFC 1035 §4.1.4); an owner past that is written out.
    pub fn additional(&mut self, owner_at: usize, tail: &[u8]) -> bool {
        let fits = match pointer(owner_at) {
            Some(owner) => self.append(&owner, tail),
            None => self.append_owned(owner_at, tail),
        };
        self.counts.additional += u16::from(fits);
        fits
    }

    /// Takes back the answers after the first `kept`, which end at `offset`.
    pub fn rewind(&mut self, offset: usize, kept: u16) {
        self.out.truncate(offset);
        self.counts.answer = kept;
    }

    /// Writes the OPT record, the counts and `rcode`. The reply is complete.
    pub fn finish(self, rcode: u16) {
        self.finish_signed(rcode, None);
    }

    /// The same, and says of `signature`, where there is room for it, that its key is not known.
    pub fn finish_signed(mut self, rcode: u16, signature: Option<&Signature<'_>>) {
        // RFC 8945 §5.1: it is the last of all, so nothing is padded before it.
        let signature = signature
            .filter(|signature| signature.unknown_len().is_some_and(|len| len <= self.room()));
        if let Some(opt) = self.opt {
            let limit = self.limit + opt.len();
            if signature.is_some() {
                opt.padded_to = 0;
            }
            opt.push(self.out, rcode, limit);
            self.counts.additional += 1;
        }
        if let Some(signature) = signature {
            signature.push_unknown(self.out);
            self.counts.additional += 1;
        }
        let words = [
            self.flags | rcode & 0xf,
            self.counts.question,
            self.counts.answer,
            self.counts.authority,
            self.counts.additional,
        ];
        // The header was reserved by `start`, so there is room for all five.
        for (at, word) in self.out.chunks_exact_mut(2).skip(1).zip(words) {
            at.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// The owner is past the reach of a pointer, so it is written out.
    fn append_owned(&mut self, owner_at: usize, tail: &[u8]) -> bool {
        let len = name_len(self.out.get(owner_at..).unwrap_or_default());
        let fits = len > 0 && self.room() >= len + tail.len();
        if fits {
            self.out.extend_from_within(owner_at..owner_at + len);
            self.out.extend_from_slice(tail);
        }
        fits
    }

    fn append(&mut self, owner: &[u8], record: &[u8]) -> bool {
        let fits = self.room() >= owner.len() + record.len();
        if fits {
            self.out.extend_from_slice(owner);
            self.out.extend_from_slice(record);
        }
        fits
    }
}

/// A compression pointer to `offset`, where one reaches it: it has fourteen bits.
pub fn pointer(offset: usize) -> Option<[u8; 2]> {
    let at = u16::try_from(offset).ok().filter(|at| at & POINTER == 0)?;
    Some((POINTER | at).to_be_bytes())
}

/// The length of the uncompressed name that `bytes` starts with; 0 if there is none.
pub fn name_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match bytes.get(at) {
            Some(0) => return at + 1,
            Some(len @ 1..=63) => at += 1 + usize::from(*len),
            _ => return 0,
        }
    }
}

/// RFC 1035 §4.1.1.
const FLAG_QR: u16 = 0x8000;
const FLAG_OPCODE: u16 = 0x7800;
const FLAG_AA: u16 = 0x0400;
const FLAG_TC: u16 = 0x0200;
const FLAG_RA: u16 = 0x0080;

/// The two upper bits that make a pointer (RFC 1035 §4.1.4).
pub const POINTER: u16 = 0xc000;
