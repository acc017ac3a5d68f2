//! A reply as the judge compares it: decoded by hickory-proto, written out, nothing left out.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::BinEncodable;

use crate::differential::name::Labels;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN`, ...
    pub rcode: String,
    /// Those that are set: `qr aa tc rd ra ad cd`.
    pub flags: BTreeSet<&'static str>,
    /// Name, class and type that came back, in the letter case of the wire.
    pub question: String,
    /// Sorted, like the other sections.
    pub answer: Vec<Line>,
    /// The SOA of a negative reply.
    pub authority: Vec<Line>,
    /// Without the OPT record.
    pub additional: Vec<Line>,
    /// The OPT record.
    pub opt: Option<Opt>,
    /// Bytes on the wire; 0 where it came over TCP.
    pub len: usize,
}

/// A record.
#[derive(Clone)]
pub struct Line {
    /// In the letter case of the wire.
    pub owner: Labels,
    /// In seconds.
    pub ttl: u32,
    /// `IN`.
    pub class: String,
    /// `A`, `SRV`, ...
    pub rtype: String,
    /// As in a zone file.
    pub data: String,
    /// Bytes of the data, names written in full.
    pub data_len: usize,
}

/// What an OPT record says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opt {
    /// The size in it.
    pub payload: u16,
    /// Its version.
    pub version: u8,
    /// Its DO bit.
    pub dnssec_ok: bool,
    /// Its options by number, with what matters of each: see [`option_text`].
    pub options: Vec<(u16, String)>,
}

impl Reply {
    /// Reads a message off the wire.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let message = Message::from_vec(bytes).map_err(|error| error.to_string())?;
        Ok(Self { len: bytes.len(), ..Self::of(&message) })
    }

    /// Writes out what hickory has read.
    pub fn of(message: &Message) -> Self {
        let metadata = &message.metadata;
        let flags = [
            (metadata.message_type == MessageType::Response, "qr"),
            (metadata.authoritative, "aa"),
            (metadata.truncation, "tc"),
            (metadata.recursion_desired, "rd"),
            (metadata.recursion_available, "ra"),
            (metadata.authentic_data, "ad"),
            (metadata.checking_disabled, "cd"),
        ];
        let questions = message.queries.iter().map(|query| {
            let (class, qtype) = (query.query_class(), query.query_type());
            format!("{} {class} {qtype}", Labels::of(query.name()))
        });
        Self {
            rcode: rcode_text(metadata.response_code),
            flags: flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect(),
            question: questions.collect::<Vec<_>>().join(", "),
            answer: lines(&message.answers),
            authority: lines(&message.authorities),
            additional: lines(&message.additionals),
            opt: message.edns.as_ref().map(Opt::of),
            len: 0,
        }
    }

    /// Whether no section holds a record.
    pub fn is_bare(&self) -> bool {
        self.answer.is_empty() && self.authority.is_empty() && self.additional.is_empty()
    }

    /// Whether it says that the name does not exist, with an SOA.
    pub fn denies(&self) -> bool {
        self.rcode == "NXDOMAIN" && self.answer.is_empty() && self.has_soa_only()
    }

    /// Whether it has records as answer, of these types only.
    pub fn answers_only(&self, rtypes: &[&str]) -> bool {
        let fits = |line: &Line| rtypes.contains(&&*line.rtype);
        self.rcode == "NOERROR" && !self.answer.is_empty() && self.answer.iter().all(fits)
    }

    /// This reply with `rcode` and `records` as its answer alone.
    pub fn with_answer(&self, records: Vec<Line>) -> Self {
        let mut reply = self.emptied("NOERROR");
        reply.answer = records;
        reply
    }

    /// This reply without records.
    pub fn emptied(&self, rcode: &str) -> Self {
        Self {
            rcode: rcode.to_owned(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            ..self.clone()
        }
    }

    /// This reply without records but `soa`.
    pub fn negative(&self, rcode: &str, soa: Line) -> Self {
        Self { authority: vec![soa], ..self.emptied(rcode) }
    }

    /// All its records, by section.
    pub fn sections_mut(&mut self) -> [&mut Vec<Line>; 3] {
        [&mut self.answer, &mut self.authority, &mut self.additional]
    }

    /// Sorts what a rule has changed.
    pub fn sorted(mut self) -> Self {
        self.sections_mut().into_iter().for_each(|section| section.sort());
        self
    }

    fn has_soa_only(&self) -> bool {
        self.authority.len() == 1 && self.authority[0].rtype == "SOA" && self.additional.is_empty()
    }
}

impl Line {
    /// The address record of `ip`.
    pub fn address(owner: Labels, ttl: u32, ip: IpAddr) -> Self {
        let (rtype, data_len) = match ip {
            IpAddr::V4(_) => ("A", 4),
            IpAddr::V6(_) => ("AAAA", 16),
        };
        let (class, rtype) = ("IN".to_owned(), rtype.to_owned());
        Self { owner, ttl, class, rtype, data: ip.to_string(), data_len }
    }

    /// A record of one name.
    pub fn pointing(owner: Labels, ttl: u32, rtype: &str, target: &Labels) -> Self {
        let data_len = target.labels().iter().map(|label| label.len() + 1).sum::<usize>() + 1;
        let (class, rtype) = ("IN".to_owned(), rtype.to_owned());
        Self { owner, ttl, class, rtype, data: target.to_string(), data_len }
    }

    /// Bytes that it takes where its owner is a pointer and its data is in full.
    pub fn compact_len(&self) -> usize {
        12 + self.data_len
    }

    /// Bytes that it takes where nothing is compressed.
    pub fn full_len(&self) -> usize {
        let owner: usize = self.owner.labels().iter().map(|label| label.len() + 1).sum();
        owner + 11 + self.data_len
    }

    /// The words of its data.
    pub fn words(&self) -> Vec<&str> {
        self.data.split(' ').collect()
    }

    /// An SRV record without its weight, which duplicates may differ in.
    pub fn weightless(&self) -> Self {
        let mut line = self.clone();
        if line.rtype == "SRV" {
            let words = self.words();
            line.data = format!("{} * {} {}", words[0], words[2], words[3]);
        }
        line
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Line {}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By all but the length, which follows from the data.
impl Ord for Line {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |line: &Self| {
            (
                line.owner.clone(),
                line.rtype.clone(),
                line.data.clone(),
                line.ttl,
                line.class.clone(),
            )
        };
        key(self).cmp(&key(other))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Opt {
    fn of(edns: &Edns) -> Self {
        let options = edns.options().as_ref().iter();
        let options = options.map(|(code, option)| (u16::from(*code), option_text(option)));
        Self {
            payload: edns.max_payload(),
            version: edns.version(),
            dnssec_ok: edns.flags().dnssec_ok,
            options: options.collect(),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<_> = self.flags.iter().copied().collect();
        write!(f, "{} {} ({} bytes)", self.rcode, flags.join(" "), self.len)?;
        if let Some(opt) = &self.opt {
            write!(f, "\nopt {opt:?}")?;
        }
        write!(f, "\nquestion {}", self.question)?;
        for (section, lines) in [
            ("answer", &self.answer),
            ("authority", &self.authority),
            ("additional", &self.additional),
        ] {
            for line in lines {
                write!(f, "\n{section} {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, ttl, class, rtype, data, .. } = self;
        write!(f, "{owner} {ttl} {class} {rtype} {data}")
    }
}

/// The info code of an extended error (RFC 8914), the network and scope of a client (RFC 7871).
fn option_text(option: &EdnsOption) -> String {
    match option {
        EdnsOption::Subnet(subnet) => {
            format!("{}/{}/{}", subnet.addr(), subnet.source_prefix(), subnet.scope_prefix())
        }
        // Of a cookie what the client sent, and how long it became.
        EdnsOption::Unknown(10, bytes) => {
            let client = bytes.get(..8).unwrap_or_default();
            format!("{}, {} bytes", client.escape_ascii(), bytes.len())
        }
        EdnsOption::Unknown(15, bytes) => match bytes[..] {
            [high, low, ..] => u16::from_be_bytes([high, low]).to_string(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// Code 16 has two names; without a signature it is of EDNS.
fn rcode_text(rcode: ResponseCode) -> String {
    match u16::from(rcode) {
        16 => "BADVERS".to_owned(),
        _ => format!("{rcode:?}").to_uppercase(),
    }
}

fn lines(records: &[Record]) -> Vec<Line> {
    let mut lines: Vec<Line> = records.iter().map(line).collect();
    lines.sort();
    lines
}

fn line(record: &Record) -> Line {
    Line {
        owner: Labels::of(&record.name),
        ttl: record.ttl,
        class: record.dns_class.to_string(),
        rtype: record.record_type().to_string(),
        data: data(&record.data),
        // A fresh encoder finds nothing to point to but within the record's own data.
        data_len: record.data.to_bytes().map_or(0, |bytes| bytes.len()),
    }
}

fn data(data: &RData) -> String {
    match data {
        RData::CNAME(name) => Labels::of(&name.0).to_string(),
        RData::NS(name) => Labels::of(&name.0).to_string(),
        RData::PTR(name) => Labels::of(&name.0).to_string(),
        RData::SOA(soa) => {
            let (mname, rname) = (Labels::of(&soa.mname), Labels::of(&soa.rname));
            let timers = [soa.refresh, soa.retry, soa.expire].map(|secs| secs.to_string());
            format!("{mname} {rname} {} {} {}", soa.serial, timers.join(" "), soa.minimum)
        }
        RData::SRV(srv) => {
            let target = Labels::of(&srv.target);
            format!("{} {} {} {target}", srv.priority, srv.weight, srv.port)
        }
        RData::TXT(txt) => {
            let text = |string: &[u8]| format!("{:?}", String::from_utf8_lossy(string));
            txt.txt_data.iter().map(|string| text(string)).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}
