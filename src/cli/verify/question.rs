//! What a server is asked, and what a reply says, as far as two of them can be compared.
//!
//! Compared are the records of the name that was asked, as a set: their order is random, and a
//! TTL is the configuration's. What follows a CNAME belongs to other names.

use std::collections::BTreeSet;
use std::fmt;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::wire::{CLASS_IN, rtype};

/// A name and a type.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Question {
    /// Ends with the root label.
    name: Vec<u8>,
    qtype: u16,
}

/// What a reply says of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// `NXDOMAIN`, say; empty for NOERROR.
    pub failure: String,
    /// The data of the records, with their type where it was not the one asked for.
    pub records: BTreeSet<String>,
}

/// How much of what is known a reply holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// All of it.
    All,
    /// As many as this, whichever they are, or all where there are fewer.
    Count(usize),
    /// Any, but none where there is none.
    Some,
}

impl Question {
    /// `None` for labels that no name can have.
    pub fn new<'l>(labels: impl Iterator<Item = &'l str>, qtype: u16) -> Option<Self> {
        let mut name = Vec::new();
        for label in labels {
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
            name.push(len);
            name.extend_from_slice(label.as_bytes());
        }
        name.push(0);
        (name.len() <= NAME_MAX).then_some(Self { name, qtype })
    }

    /// The message that asks it.
    pub fn message(&self, id: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(12 + self.name.len() + 4);
        // No flags, one question, no EDNS: over TCP nothing is cut for it.
        for word in [id, 0, 1, 0, 0, 0] {
            message.extend(word.to_be_bytes());
        }
        message.extend(&self.name);
        message.extend(self.qtype.to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message
    }

    /// Whether addresses are asked for.
    pub fn is_for_addresses(&self) -> bool {
        matches!(self.qtype, rtype::A | rtype::AAAA)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &*self.name;
        while let Some((len, more)) = rest.split_first().filter(|(len, _)| **len > 0) {
            let (label, after) = more.split_at(usize::from(*len).min(more.len()));
            write!(f, "{}.", String::from_utf8_lossy(label).escape_debug())?;
            rest = after;
        }
        write!(f, " {}", RecordType::from(self.qtype))
    }
}

impl Said {
    /// Reads a reply; `None` where it is none to a question.
    pub fn read(reply: &[u8]) -> Option<Self> {
        let message = Message::from_vec(reply).ok()?;
        let asked = message.queries.first()?;
        let is_asked = |name: &Name| name == asked.name();
        let own = message.answers.iter().filter(|record| is_asked(&record.name));
        let records = own.map(|record| match record.record_type() {
            rtype if rtype == asked.query_type() => record.data.to_string(),
            rtype => format!("{rtype} {}", record.data),
        });
        let failure = match message.metadata.response_code {
            ResponseCode::NoError => String::new(),
            ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
            ResponseCode::ServFail => "SERVFAIL".to_owned(),
            ResponseCode::Refused => "REFUSED".to_owned(),
            other => other.to_string(),
        };
        Some(Self { failure, records: records.collect() })
    }

    /// Whether it is an alias.
    pub fn is_alias(&self) -> bool {
        self.records.iter().any(|record| record.starts_with("CNAME "))
    }

    /// What differs between what Consul has and what the server said; `None` if nothing does.
    pub fn difference(&self, server: &Self, share: Share) -> Option<String> {
        let is_subset = server.records.is_subset(&self.records);
        let counts = (self.records.len(), server.records.len());
        let is_same = self.failure == server.failure
            && match share {
                Share::All => self.records == server.records,
                Share::Count(most) => is_subset && counts.1 == counts.0.min(most),
                Share::Some => is_subset && (counts.0 == 0) == (counts.1 == 0),
            };
        if is_same {
            return None;
        }
        let only = |one: &Self, other: &Self| -> String {
            let records = one.records.difference(&other.records).cloned().collect::<Vec<_>>();
            match (one.failure.is_empty(), one.records.is_empty()) {
                (false, _) => one.failure.clone(),
                (true, true) => "NODATA".to_owned(),
                (true, false) => records.join(", "),
            }
        };
        let parts = [("only in consul", only(self, server)), ("only here", only(server, self))];
        let told = parts.iter().filter(|(_, what)| !what.is_empty());
        let told: Vec<_> = told.map(|(where_, what)| format!("{where_}: {what}")).collect();
        if told.is_empty() {
            return Some(format!("{} records in consul, {} here", counts.0, counts.1));
        }
        Some(told.join("; "))
    }
}

/// RFC 1035 §2.3.4.
const NAME_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        match text {
            "NXDOMAIN" | "SERVFAIL" => Said { failure: text.to_owned(), records: BTreeSet::new() },
            _ => {
                let records = text.split_whitespace().map(str::to_owned).collect();
                Said { failure: String::new(), records }
            }
        }
    }

    #[test]
    fn what_differs() {
        for (consul, server, share, expected) in [
            ("1 2", "2 1", Share::All, "nothing"),
            ("1 2", "1", Share::All, "only in consul: 2"),
            ("1", "1 3", Share::All, "only here: 3"),
            ("1 2", "1 3", Share::All, "only in consul: 2; only here: 3"),
            ("", "NXDOMAIN", Share::All, "only in consul: NODATA; only here: NXDOMAIN"),
            ("NXDOMAIN", "1", Share::All, "only in consul: NXDOMAIN; only here: 1"),
            ("1", "SERVFAIL", Share::All, "only in consul: 1; only here: SERVFAIL"),
            ("", "1", Share::All, "only in consul: NODATA; only here: 1"),
            ("1 2 3", "2 3", Share::Count(2), "nothing"),
            ("1", "1", Share::Count(2), "nothing"),
            ("1 2 3", "2", Share::Count(2), "only in consul: 1, 3"),
            ("1 2 3", "2 4", Share::Count(2), "only in consul: 1, 3; only here: 4"),
            ("1 2 3", "2", Share::Some, "nothing"),
            ("1 2 3", "", Share::Some, "only in consul: 1, 2, 3; only here: NODATA"),
        ] {
            let difference = said(consul).difference(&said(server), share);
            assert_eq!(difference.as_deref().unwrap_or("nothing"), expected, "{consul} {server}");
        }
    }

    #[test]
    fn questions_and_what_is_none() {
        for (name, expected) in [
            ("v1.web.service.dc1.consul", "v1.web.service.dc1.consul. A"),
            ("a b.node.consul", "a b.node.consul. A"),
            ("a..b", "none"),
            (&"x".repeat(64), "none"),
            (&vec!["x".repeat(63); 4].join("."), "none"),
        ] {
            let question = Question::new(name.split('.'), rtype::A);
            let got = question.map_or_else(|| "none".to_owned(), |question| question.to_string());
            assert_eq!(got, expected);
        }
    }
}
