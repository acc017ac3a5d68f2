//! One query: header, question, and the OPT record with its options.
//!
//! Borrowed from the packet, bounds-checked, and total: [`Query::parse`] gives a query or says
//! what is owed to the sender instead. Everything after the question is walked only to find the
//! OPT record; other records of a query are ignored, as Consul and BIND do.
//!
//! **Invariant:** no input makes it panic. **Hot.** Nothing allocates.

use crate::wire::edns::Edns;
use crate::wire::reader::{Question, Reader};
use crate::wire::tsig::Signature;
use crate::wire::{rcode, rtype};

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

/// Why a message is not answered with records.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'q> {
    /// It asks for a cookie and nothing else (RFC 7873 §5.4).
    CookieAlone {
        /// Without a question.
        head: Head<'q>,
        /// With a cookie.
        edns: Edns,
    },
    /// Answered with an error of its own.
    Reply {
        /// What the error repeats.
        head: Head<'q>,
        /// As far as it was read: it decides whether the error has an OPT record.
        edns: Option<Edns>,
        /// One of [`rcode`].
        rcode: u16,
        /// What the message was signed with, where that is the error.
        signature: Option<Signature<'q>>,
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
        let mut reader = Reader::new(packet);
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
        let mut found = Found::default();
        let is_well_formed = (question.is_some() || questions == 0)
            && reader.skip_questions(questions.saturating_sub(1)).is_some()
            && found.read(&mut reader, u32::from(answers) + authority, additional).is_some();
        let Found { edns, signature } = found;
        let refuse = |rcode| Err(Refusal::Reply { head, edns, rcode, signature: None });
        if flags & FLAG_OPCODE != 0 {
            return refuse(rcode::NOTIMP);
        }
        if let (0, true, Some(edns)) = (questions, is_well_formed, edns)
            && edns.cookie.is_some()
        {
            return Err(Refusal::CookieAlone { head, edns });
        }
        // RFC 9619: any other query with more or fewer than one question is malformed.
        let (Some(question), 1, true) = (question, questions, is_well_formed) else {
            return refuse(rcode::FORMERR);
        };
        if edns.is_some_and(|edns| edns.version > 0) {
            return refuse(rcode::BADVERS);
        }
        if signature.is_some() {
            // RFC 8945 §5.2.1: there is no key that we know.
            return Err(Refusal::Reply { head, edns, rcode: rcode::NOTAUTH, signature });
        }
        let Question { name, qtype, qclass, .. } = question;
        if qtype == rtype::OPT {
            return refuse(rcode::FORMERR);
        }
        Ok(Self { head, name, qtype, qclass, edns })
    }
}

/// Whether `message` has an edns-tcp-keepalive option. Over QUIC, where connections are kept in
/// another way, that is a fatal error of the client's (RFC 9250 §5.5.2), whatever it asks.
pub fn has_keepalive(message: &[u8]) -> bool {
    let edns = match Query::parse(message) {
        Ok(Query { edns, .. }) | Err(Refusal::Reply { edns, .. }) => edns,
        Err(Refusal::CookieAlone { edns, .. }) => Some(edns),
        Err(Refusal::Silence) => None,
    };
    edns.is_some_and(|edns| edns.keepalive.is_some())
}

/// What is known of the records behind the question.
#[derive(Clone, Copy, Default)]
struct Found<'q> {
    edns: Option<Edns>,
    signature: Option<Signature<'q>>,
}

impl<'q> Found<'q> {
    /// Walks `skipped` records, then `additional` ones, and takes the first OPT record among those,
    /// as far as it can be read: also the reply to a malformed one must have one (RFC 6891 §7), or
    /// the sender takes us for a server without EDNS.
    ///
    /// Returns `None` where a record is cut off, or is not where and how it has to be: two OPT
    /// records, or one that is not owned by the root (RFC 6891 §6.1.1), or a signature that is not
    /// the last of all (RFC 8945 §5.1).
    fn read(&mut self, reader: &mut Reader<'q>, skipped: u32, additional: u32) -> Option<()> {
        reader.skip_records(skipped)?;
        for _ in 0..additional {
            if self.signature.is_some() {
                return None;
            }
            let start = reader.at();
            let owned_by_root = reader.name()?;
            let owner = reader.since(start);
            let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
            let len = reader.u16()?;
            if kind == rtype::TSIG {
                self.signature = Some(Signature::parse(owner, reader.take(usize::from(len))?)?);
                continue;
            }
            if kind != rtype::OPT {
                reader.take(usize::from(len))?;
                continue;
            }
            if self.edns.is_some() {
                return None;
            }
            let edns = self.edns.insert(Edns::new(class, ttl));
            let options = reader.take(usize::from(len)).filter(|_| owned_by_root)?;
            edns.read_options(options)?;
        }
        Some(())
    }
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
            Err(Refusal::Reply { head, edns, rcode, .. }) => {
                let opt = edns.map_or(String::new(), |edns| format!(" opt {}", edns.payload));
                format!("rcode {rcode} question {}{opt}", head.question.is_some())
            }
            Err(Refusal::CookieAlone { edns, .. }) => {
                format!("cookie {}", edns.cookie.unwrap().client.escape_ascii())
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

    /// RFC 7873 §5.4. Without a cookie a query has a question.
    #[test]
    fn a_cookie_may_be_asked_for_alone() {
        let cookie = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0812345678";
        let nsid = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x03\x00\x00";
        for (packet, expected) in [
            (packet(0, [0, 0, 0, 1], cookie), "cookie 12345678"),
            (packet(0, [0, 0, 0, 1], nsid), "rcode 1 question false opt 1232"),
            (
                packet(0, [2, 0, 0, 1], &[WEB_A, WEB_A, cookie].concat()),
                "rcode 1 question true opt 1232",
            ),
            (packet(0x1000, [0, 0, 0, 1], cookie), "rcode 4 question false opt 1232"),
            (packet(0, [0, 0, 0, 2], cookie), "rcode 1 question false opt 1232"),
        ] {
            assert_eq!(render(&packet), expected, "{}", packet.escape_ascii());
        }
    }

    /// RFC 8945 §5.1 and §5.2.1: no key is known, and a signature is the last of all records.
    #[test]
    fn signed_queries_are_not_authorized() {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        let rdata = b"\x04hmac\0\0\0\x5c\xf7\x9f\x11\x01\x2c\0\x02ab\x12\x34\0\0\0\0";
        let tsig = |owner: &[u8], rdata: &[u8]| {
            [owner, b"\0\xfa\0\xff\0\0\0\0\0", &[rdata.len() as u8], rdata].concat()
        };
        let signed = tsig(b"\x03key\0", rdata);
        for (packet, expected) in [
            (packet(0x0100, [1, 0, 0, 1], &with(&signed)), "rcode 9 question true"),
            (
                packet(0x0100, [1, 0, 0, 2], &with(&[&opt[..], &signed].concat())),
                "rcode 9 question true opt 1232",
            ),
            // its key is called like what is asked for
            (
                packet(0x0100, [1, 0, 0, 1], &with(&tsig(b"\xc0\x0c", rdata))),
                "rcode 9 question true",
            ),
            // not the last, twice, with a byte too few or too many
            (
                packet(0x0100, [1, 0, 0, 2], &with(&[&signed[..], opt].concat())),
                "rcode 1 question true",
            ),
            (packet(0x0100, [1, 0, 0, 2], &with(&signed.repeat(2))), "rcode 1 question true"),
            (
                packet(0x0100, [1, 0, 0, 1], &with(&tsig(b"\0", &rdata[..rdata.len() - 1]))),
                "rcode 1 question true",
            ),
            (
                packet(0x0100, [1, 0, 0, 1], &with(&tsig(b"\0", &[&rdata[..], b"x"].concat()))),
                "rcode 1 question true",
            ),
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
