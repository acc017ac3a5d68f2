//! A reply, read back from its bytes and put into words.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, Record, RecordType};
use serde::Serialize;

use crate::explain::words::{of_name, rdata};

/// What a reply says.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// As `NOERROR`.
    pub rcode: String,
    /// As `aa` and `tc`, in the order in which dig has them.
    pub flags: Vec<&'static str>,
    /// The length of the whole.
    pub bytes: usize,
    /// The extended error (RFC 8914), if there is one.
    pub error: Option<ExtendedError>,
    /// A line for each record, as in a zone file.
    pub answers: Vec<String>,
    /// The same of the authority section.
    pub authority: Vec<String>,
    /// The same of the additional section, without OPT.
    pub additional: Vec<String>,
    /// Of the first answer; without answers, how long that may be believed (RFC 2308 §5).
    #[serde(skip)]
    pub ttl_secs: Option<u32>,
    /// What the answers say.
    #[serde(skip)]
    pub data: Vec<RData>,
}

/// An extended DNS error.
#[derive(Clone, Debug, Serialize)]
pub struct ExtendedError {
    /// As in the IANA registry.
    pub code: u16,
    /// For people.
    pub text: String,
}

impl Said {
    /// Reads `reply`. `None` where there is none.
    pub fn read(reply: &[u8]) -> Option<Self> {
        let message = Message::from_vec(reply).ok()?;
        let head = &message.metadata;
        let flags = [
            (head.authoritative, "aa"),
            (head.truncation, "tc"),
            (head.recursion_desired, "rd"),
            (head.recursion_available, "ra"),
        ];
        let lines = |records: &[Record]| records.iter().map(line).collect();
        let negative = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        Some(Self {
            rcode: rcode_name(u16::from(head.response_code)),
            flags: flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect(),
            bytes: reply.len(),
            error: extended_error(&message),
            ttl_secs: message.answers.first().map(|record| record.ttl).or(negative),
            data: message.answers.iter().map(|record| record.data.clone()).collect(),
            answers: lines(&message.answers),
            authority: lines(&message.authorities),
            additional: lines(&message.additionals),
        })
    }

    /// Whether TC is set.
    pub fn is_truncated(&self) -> bool {
        self.flags.contains(&"tc")
    }
}

fn line(record: &Record) -> String {
    let (owner, ttl, data) = (of_name(&record.name), record.ttl, rdata(&record.data));
    format!("{owner} {ttl} IN {} {data}", record.record_type())
}

fn extended_error(message: &Message) -> Option<ExtendedError> {
    let option = message.edns.as_ref()?.option(EdnsCode::Unknown(15))?;
    let EdnsOption::Unknown(_, bytes) = option else { return None };
    let (code, text) = bytes.split_first_chunk::<2>()?;
    let text = String::from_utf8_lossy(text).into_owned();
    Some(ExtendedError { code: u16::from_be_bytes(*code), text })
}

/// As in zone files (RFC 3597 §5 where it has no name).
pub fn type_name(rtype: u16) -> String {
    match RecordType::from(rtype) {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// As in the IANA registry of response codes, as far as we send or forward them often.
pub fn rcode_name(rcode: u16) -> String {
    let name = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => return format!("RCODE{other}"),
    };
    name.to_owned()
}
