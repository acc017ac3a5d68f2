//! One query: header, question, and the OPT record with its options.
//!
//! Borrowed from the packet, bounds-checked, and total: [`Query::parse`] gives a query or says
//! what is owed to the sender instead. Everything after the question is walked only to find the
//! OPT record; other records of a query are ignored, as Consul and BIND do.
//!
//! **Invariant:** no input makes it panic. **Hot.** Nothing allocates.

use crate::wire::subnet::Subnet;
use crate::wire::{QUESTION_AT, rcode, rtype};

/// A well-formed query with exactly one question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// What the reply repeats.
    pub head: Head<'q>,
    /// Uncompressed, with the root label, in the letter case it was sent in.
    pub name: &'q [u8],
    /// As in the IANA registry; any value.
    pub qtype: u16,
    /// 1 is IN; any value.
    pub qclass: u16,
    /// `None` where the query has no OPT record.
    pub edns: Option<Edns>,
}

/// What every reply repeats, also one to a query that cannot be answered.
#[derive(Clone, Copy, Debug)]
pub struct Head<'q> {
    /// Chosen by the client.
    pub id: u16,
    /// The 16 bits of flags as they came.
    pub flags: u16,
    /// Name, qtype and qclass, as they came; `None` where none could be read.
    pub question: Option<&'q [u8]>,
}

/// The query's OPT record (RFC 6891).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edns {
    /// The largest UDP payload the sender takes, as sent; values under 512 mean 512.
    pub payload: u16,
    /// Ours is 0; a higher one is refused with BADVERS.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// The network that the client said it is in.
    pub subnet: Option<Subnet>,
}

/// Why a message is not answered with records.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'q> {
    /// Answered with an error of its own.
    Reply {
        /// What the error repeats.
        head: Head<'q>,
        /// As far as it was read: it decides whether the error has an OPT record.
        edns: Option<Edns>,
        /// One of [`rcode`].
        rcode: u16,
    },
    /// Not answered: no query, or too short to say whose it is.
    Silence,
}

impl<'q> Query<'q> {
    /// Reads `packet`, one DNS message.
    ///
    /// # Errors
    ///
    /// Fails on what is no query of ours to answer. The [`Refusal`] says what is sent instead.
    pub fn parse(packet: &'q [u8]) -> Result<Self, Refusal<'q>> {
        let mut reader = Reader { packet, at: 0 };
        let header =
            (|| Some((reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?, reader.u32()?)))(
            );
        let Some((id, flags, questions, answers, tail)) = header else {
            return Err(Refusal::Silence);
        };
        // A response must never be answered: two servers would go on for ever.
        if flags & FLAG_QR != 0 {
            return Err(Refusal::Silence);
        }

        let question = (questions > 0).then(|| reader.question()).flatten();
        let head = Head { id, flags, question: question.map(|question| question.bytes) };
        // The two counts of 16 bits: authority, additional.
        let (authority, additional) = (tail >> 16, tail & 0xffff);
        // What follows the question may mean anything, but an OPT record is one wherever it is.
        let mut edns = None;
        let is_well_formed = (question.is_some() || questions == 0)
            && reader.skip_questions(questions.saturating_sub(1)).is_some()
            && reader.records(u32::from(answers) + authority, additional, &mut edns).is_some();
        let refuse = |rcode| Err(Refusal::Reply { head, edns, rcode });
        if flags & FLAG_OPCODE != 0 {
            return refuse(rcode::NOTIMP);
        }
        // RFC 9619: a query with more or fewer than one question is malformed.
        let (Some(question), 1, true) = (question, questions, is_well_formed) else {
            return refuse(rcode::FORMERR);
        };
        if edns.is_some_and(|edns| edns.version > 0) {
            return refuse(rcode::BADVERS);
        }
        let Question { name, qtype, qclass, .. } = question;
        if qtype == rtype::OPT {
            return refuse(rcode::FORMERR);
        }
        Ok(Self { head, name, qtype, qclass, edns })
    }
}

/// A question where it lies in the packet.
#[derive(Clone, Copy)]
struct Question<'q> {
    bytes: &'q [u8],
    name: &'q [u8],
    qtype: u16,
    qclass: u16,
}

/// Reads forward through a packet. **Invariant:** `at <= packet.len()`.
struct Reader<'q> {
    packet: &'q [u8],
    at: usize,
}

impl<'q> Reader<'q> {
    fn take(&mut self, len: usize) -> Option<&'q [u8]> {
        let taken = self.packet.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// The question's name is never compressed: there is nothing before it to point at.
    fn question(&mut self) -> Option<Question<'q>> {
        debug_assert_eq!(self.at, QUESTION_AT);
        loop {
            match self.u8()? {
                0 => break,
                len @ 1..=63 => self.take(usize::from(len)).map(drop)?,
                _ => return None,
            }
        }
        let name = self.packet.get(QUESTION_AT..self.at)?;
        if name.len() > 255 {
            return None;
        }
        let (qtype, qclass) = (self.u16()?, self.u16()?);
        Some(Question { bytes: self.packet.get(QUESTION_AT..self.at)?, name, qtype, qclass })
    }

    /// Skips the questions after the first. `None` where one is cut off.
    fn skip_questions(&mut self, count: u16) -> Option<()> {
        for _ in 0..count {
            self.name()?;
            self.take(4)?;
        }
        Some(())
    }

    /// Walks `skipped` records, then `additional` ones, and puts the first OPT record among those
    /// into `edns`, as far as it can be read: also the reply to a malformed one must have one (RFC
    /// 6891 §7), or the sender takes us for a server without EDNS.
    ///
    /// Returns `None` where a record is cut off, or where RFC 6891 §6.1.1 calls it malformed:
    /// two OPT records, or one that is not owned by the root.
    fn records(&mut self, skipped: u32, additional: u32, edns: &mut Option<Edns>) -> Option<()> {
        for _ in 0..skipped {
            self.name()?;
            self.take(8)?;
            let len = self.u16()?;
            self.take(usize::from(len))?;
        }
        for _ in 0..additional {
            let owned_by_root = self.name()?;
            let (kind, class, ttl, len) = (self.u16()?, self.u16()?, self.u32()?, self.u16()?);
            if kind != rtype::OPT {
                self.take(usize::from(len))?;
                continue;
            }
            if edns.is_some() {
                return None;
            }
            let version = u8::try_from(ttl >> 16 & 0xff).ok()?;
            let dnssec_ok = ttl & TTL_DO != 0;
            let read = edns.insert(Edns { payload: class, version, dnssec_ok, subnet: None });
            let options = self.take(usize::from(len)).filter(|_| owned_by_root)?;
            // Of another version we do not know what the options mean.
            read.subnet = if version == 0 { read_options(options)? } else { None };
        }
        Some(())
    }

    /// Skips a name, following no pointer. True if it is the root.
    fn name(&mut self) -> Option<bool> {
        let start = self.at;
        loop {
            match self.u8()? {
                0 => return Some(self.at == start + 1),
                len @ 1..=63 => self.take(usize::from(len)).map(drop)?,
                0xc0.. => return self.u8().map(|_| false),
                _ => return None,
            }
        }
    }
}

/// Reads EDNS options. `None` where one is cut off, or where the one we know is malformed; those
/// we do not know are stepped over (RFC 6891 §6.1.2).
fn read_options(options: &[u8]) -> Option<Option<Subnet>> {
    let mut reader = Reader { packet: options, at: 0 };
    let mut subnet = None;
    while reader.at < options.len() {
        let (code, len) = (reader.u16()?, reader.u16()?);
        let data = reader.take(usize::from(len))?;
        if code == OPTION_SUBNET && subnet.is_none() {
            subnet = Some(Subnet::parse(data)?);
        }
    }
    Some(subnet)
}

/// RFC 1035 §4.1.1.
const FLAG_QR: u16 = 0x8000;
const FLAG_OPCODE: u16 = 0x7800;
/// The client asks for names in other zones too.
pub const FLAG_RD: u16 = 0x0100;
/// The client wants to know whether signatures were checked (RFC 6840 §5.7).
pub const FLAG_AD: u16 = 0x0020;
/// The client checks signatures itself (RFC 4035 §3.2.2).
pub const FLAG_CD: u16 = 0x0010;
/// RFC 6891 §6.1.3: the DO bit, in the OPT record's TTL field.
const TTL_DO: u32 = 0x8000;
/// RFC 7871 §6.
const OPTION_SUBNET: u16 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Header of a plain query with RD, the counts given, and `rest` behind it.
    fn packet(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34];
        packet.extend_from_slice(&flags.to_be_bytes());
        for count in counts {
            packet.extend_from_slice(&count.to_be_bytes());
        }
        packet.extend_from_slice(rest);
        packet
    }

    fn render(packet: &[u8]) -> String {
        match Query::parse(packet) {
            Ok(query) => format!(
                "{:04x} name {} qtype {} class {} edns {:?}",
                query.head.id,
                query.name.escape_ascii(),
                query.qtype,
                query.qclass,
                query.edns.map(|edns| (edns.payload, edns.dnssec_ok))
            ),
            Err(Refusal::Reply { head, edns, rcode }) => {
                let opt = edns.map_or(String::new(), |edns| format!(" opt {}", edns.payload));
                format!("rcode {rcode} question {}{opt}", head.question.is_some())
            }
            Err(Refusal::Silence) => "silence".to_owned(),
        }
    }

    const WEB_A: &[u8] = b"\x03Web\x00\x00\x01\x00\x01";

    fn with(bytes: &[u8]) -> Vec<u8> {
        [WEB_A, bytes].concat()
    }

    #[test]
    fn queries_that_are_read() {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";
        let cookie = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0812345678";
        let foreign = b"\x01x\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01y";
        for (packet, expected) in [
            (packet(0x0100, [1, 0, 0, 0], WEB_A), "edns None"),
            (packet(0x0100, [1, 0, 0, 1], &with(opt)), "edns Some((1232, true))"),
            (packet(0x0100, [1, 0, 0, 1], &with(cookie)), "edns Some((1232, false))"),
            // records that have no place in a query are passed over
            (packet(0x0100, [1, 1, 1, 0], &with(&[&foreign[..], foreign].concat())), "edns None"),
            (
                packet(0x0100, [1, 0, 0, 2], &with(&[&foreign[..], opt].concat())),
                "edns Some((1232, true))",
            ),
            // an owner by pointer, and bytes after the message
            (
                packet(0x0100, [1, 1, 0, 0], &with(b"\xc0\x0c\x00\x10\x00\x01\0\0\0\0\0\0junk")),
                "edns None",
            ),
        ] {
            assert_eq!(
                render(&packet),
                format!("1234 name \\x03Web\\x00 qtype 1 class 1 {expected}")
            );
        }
    }

    #[test]
    fn messages_that_get_an_error_or_nothing() {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        let version_1 = b"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00";
        let long_name =
            [&[b"\x3f".as_slice(), &[b'x'; 63]].concat().repeat(4)[..], b"\0\0\x01\0\x01"].concat();
        for (packet, expected) in [
            // no query, or nobody to answer
            (vec![0; 11], "silence"),
            (packet(0x8100, [1, 0, 0, 0], WEB_A), "silence"),
            // other opcodes: STATUS, NOTIFY, UPDATE
            (packet(0x1000, [1, 0, 0, 0], WEB_A), "rcode 4 question true"),
            (packet(0x2000, [1, 0, 0, 0], WEB_A), "rcode 4 question true"),
            (packet(0x2800, [0, 0, 0, 0], b""), "rcode 4 question false"),
            // not exactly one question
            (packet(0x0100, [0, 0, 0, 0], b""), "rcode 1 question false"),
            (packet(0x0100, [2, 0, 0, 0], &with(WEB_A)), "rcode 1 question true"),
            (packet(0x0100, [1, 0, 0, 0], b""), "rcode 1 question false"),
            (packet(0x0100, [1, 0, 0, 0], b"\x03We"), "rcode 1 question false"),
            (packet(0x0100, [1, 0, 0, 0], b"\x03Web\x00\x00\x01"), "rcode 1 question false"),
            (packet(0x0100, [1, 0, 0, 0], b"\xc0\x0c\x00\x01\x00\x01"), "rcode 1 question false"),
            (packet(0x0100, [1, 0, 0, 0], &long_name), "rcode 1 question false"),
            // records cut off
            (packet(0x0100, [1, 0, 0, 1], WEB_A), "rcode 1 question true"),
            (packet(0x0100, [1, 9, 0, 0], &with(opt)), "rcode 1 question true"),
            // OPT: version 1, asked for as a type
            (packet(0x0100, [1, 0, 0, 1], &with(version_1)), "rcode 16 question true opt 1232"),
            (packet(0x0100, [1, 0, 0, 0], b"\0\0\x29\0\x01"), "rcode 1 question true"),
        ] {
            assert_eq!(render(&packet), expected, "{}", packet.escape_ascii());
        }
    }
    /// RFC 6891 §6.1.1 and §7: where the query has an OPT record, so has the error.
    #[test]
    fn errors_keep_the_opt_record_as_far_as_it_is_read() {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        let cut_option = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x08x";
        let bad_subnet =
            b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x08\x00\x08\x00\x04\x00\x09\x00\x00";
        let owned = b"\x01x\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        let two = [WEB_A, &with(opt)].concat();
        let pointed = [WEB_A, b"\xc0\x0c\x00\x1c\x00\x01", &opt[..]].concat();
        for (packet, expected) in [
            (packet(0x0100, [1, 0, 0, 2], &with(&opt.repeat(2))), "rcode 1 question true opt 1232"),
            (packet(0x0100, [1, 0, 0, 1], &with(owned)), "rcode 1 question true opt 1232"),
            (packet(0x0100, [1, 0, 0, 1], &with(cut_option)), "rcode 1 question true opt 1232"),
            (packet(0x0100, [1, 0, 0, 1], &with(bad_subnet)), "rcode 1 question true opt 1232"),
            // its options are cut off, or what follows it, or it is itself
            (
                packet(0x0100, [1, 0, 0, 1], &with(&bad_subnet[..12])),
                "rcode 1 question true opt 1232",
            ),
            (packet(0x0100, [1, 0, 0, 2], &with(opt)), "rcode 1 question true opt 1232"),
            (packet(0x0100, [1, 0, 0, 1], &with(&opt[..10])), "rcode 1 question true"),
            // not exactly one question
            (packet(0x0100, [0, 0, 0, 1], opt), "rcode 1 question false opt 1232"),
            (packet(0x0100, [2, 0, 0, 1], &two), "rcode 1 question true opt 1232"),
            (packet(0x0100, [2, 0, 0, 1], &pointed), "rcode 1 question true opt 1232"),
            (packet(0x2800, [2, 0, 0, 1], &two), "rcode 4 question true opt 1232"),
            // where the records are is not known
            (packet(0x0100, [1, 0, 0, 1], &[b"\xff", &opt[..]].concat()), "rcode 1 question false"),
        ] {
            assert_eq!(render(&packet), expected, "{}", packet.escape_ascii());
        }
    }
}
