//! What is asked of the recursors: the question, and the flags that change its answer.
//!
//! Clients whose questions are alike share one answer. Alike are those with the same name in any
//! letter case, the same type, and the same DO, CD and AD: whether signatures are wanted, whether
//! bad ones are taken, and whether it shall be said that they were checked (RFC 6840 §5.7).
//!
//! The rest of a query ends here: id, port, size, and options such as cookies (RFC 7873: between
//! two neighbors) and the client's subnet (RFC 7871 §12.1: not told on unless someone wants it).

use hickory_proto::op;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};

use crate::wire::query::{FLAG_AD, FLAG_CD};
use crate::wire::{CLASS_IN, Query, record};

/// A question, and what of its asker matters to the answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// Name, type and class, as they are sent.
    pub bytes: Vec<u8>,
    marks: Marks,
}

/// A question without its letter case: what answers are kept under.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    question: Vec<u8>,
    marks: Marks,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Marks {
    authentic_data: bool,
    checking_disabled: bool,
    dnssec_ok: bool,
}

impl Question {
    /// What `query` asks.
    pub fn of(query: &Query<'_>) -> Self {
        Self {
            bytes: query.head.question.unwrap_or_default().to_vec(),
            marks: Marks {
                authentic_data: query.head.flags & FLAG_AD != 0,
                checking_disabled: query.head.flags & FLAG_CD != 0,
                dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
            },
        }
    }

    /// The records of type `rtype` of the host called `name`, without signatures.
    ///
    /// Returns `None` where that is no name.
    pub fn of_host(name: &str, rtype: u16) -> Option<Self> {
        let mut bytes = record::name(name)?.to_bytes().ok()?;
        bytes.extend_from_slice(&rtype.to_be_bytes());
        bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        Some(Self { bytes, marks: Marks::default() })
    }

    /// What its answer is kept under.
    pub fn key(&self) -> Key {
        let (name, rest) = self.parts();
        let question = [&name.to_ascii_lowercase(), rest].concat();
        Key { question, marks: self.marks }
    }

    /// The name, with the root label.
    pub fn name(&self) -> &[u8] {
        self.parts().0
    }

    /// A message that asks it, with an id that nobody can guess; with EDNS, of our own size.
    ///
    /// Returns `None` where it is no question.
    pub fn message(&self, edns: Option<u16>) -> Option<op::Message> {
        let (name, rest) = self.parts();
        let &[high, low, _, _] = rest else { return None };
        let name = Name::from_bytes(name).ok()?;
        let mut query = op::Query::query(name, RecordType::from(u16::from_be_bytes([high, low])));
        query.set_query_class(DNSClass::IN);
        let mut message = op::Message::query();
        message.add_query(query);
        message.metadata.recursion_desired = true;
        message.metadata.authentic_data = self.marks.authentic_data;
        message.metadata.checking_disabled = self.marks.checking_disabled;
        if let Some(payload) = edns {
            let mut edns = op::Edns::new();
            edns.set_max_payload(payload).set_dnssec_ok(self.marks.dnssec_ok);
            message.set_edns(edns);
        }
        Some(message)
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.bytes.len().saturating_sub(4))
    }
}

impl Key {
    /// What it takes in memory.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.question.len()
    }
}
