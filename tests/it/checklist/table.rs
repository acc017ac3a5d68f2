//! The tests of RFC 8906 §8 as a table, for any way to bring a message to a server and back.
//!
//! ```text
//!   dig +nocookie +edns=1 +noednsneg +noad +norec soa $zone @$server       a row's query
//!   expect: status: BADVERS                                                what it must have
//!   expect: SOA record to NOT be present                                   and must not
//! ```
//! Queries are bytes, put together here; replies are read by hickory-proto, and bit by bit where it
//! shows too little. The server must have the catalogue of `demo`.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Of RFC 8906.
    section: &'static str,
    query: Query,
    /// Words of [`facts`] that have to be true of the reply.
    must: &'static str,
    /// Those that must not.
    must_not: &'static str,
}

/// A query as `dig` would send it.
#[derive(Clone, Copy, Debug)]
struct Query {
    name: &'static str,
    qtype: u16,
    opcode: u8,
    /// Of the header, the opcode left off.
    flags: u16,
    /// Nothing behind the header.
    is_header_only: bool,
    edns: Option<Edns>,
}

/// An OPT record.
#[derive(Clone, Copy, Debug)]
struct Edns {
    size: u16,
    version: u8,
    flags: u16,
    options: &'static [u8],
}

/// Whether a reply has to fit a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// It has, and is cut where it does not.
    Datagram,
    /// It has not.
    Stream,
}

/// Sends every row's query by `exchange`, and holds the reply against the row.
///
/// # Panics
///
/// With a line for each row that does not hold over `carrier`, which is called `what`.
pub async fn check(
    what: &str,
    carrier: Carrier,
    mut exchange: impl AsyncFnMut(Vec<u8>) -> Vec<u8>,
) {
    let mut complaints = Vec::new();
    for (id, row) in (1..).zip(ROWS) {
        let query = row.query.to_wire(id);
        let reply = exchange(query.clone()).await;
        let facts = facts(&query, &reply, carrier);
        let has = |word: &&str| facts.iter().any(|fact| fact == word);
        let missing: Vec<&str> = row.must.split_whitespace().filter(|word| !has(word)).collect();
        let unwanted: Vec<&str> = row.must_not.split_whitespace().filter(has).collect();
        if !(missing.is_empty() && unwanted.is_empty()) {
            let section = row.section;
            complaints.push(format!("{section}: missing {missing:?}, unwanted {unwanted:?}"));
        }
    }
    assert!(complaints.is_empty(), "over {what}, RFC 8906\n{}", complaints.join("\n"));
}

/// What is true of `reply`, in words: its rcode, its flags, the types in its answer section,
/// `answer` where that has any, and of its OPT record the version, the flags and the options.
fn facts(query: &[u8], reply: &[u8], carrier: Carrier) -> Vec<String> {
    let message = Message::from_vec(reply).expect("a reply that can be read");
    let flags = u16::from_be_bytes([reply[2], reply[3]]);
    let mut facts = vec![rcode(message.metadata.response_code)];
    let mut add = |is: bool, fact: &str| facts.extend(is.then(|| fact.to_owned()));
    add(reply[..2] == query[..2], "id");
    for (bit, name) in [
        (0x8000, "qr"),
        (0x0400, "aa"),
        (0x0200, "tc"),
        (0x0100, "rd"),
        (0x0080, "ra"),
        (0x0040, "z"),
        (0x0020, "ad"),
        (0x0010, "cd"),
    ] {
        add(flags & bit != 0, name);
    }
    // What is cut over the one is whole over the other.
    add((flags & 0x0200 != 0) == (carrier == Carrier::Datagram), "cut-if-datagram");
    add(!message.answers.is_empty(), "answer");
    add(message.answers.iter().any(|it| it.record_type() == RecordType::SOA), "SOA");
    if let Some(edns) = &message.edns {
        add(true, "OPT");
        add(true, &format!("version{}", edns.version()));
        add(edns.flags().dnssec_ok, "do");
        add(edns.flags().z != 0, "mbz");
        for (code, _) in &edns.options().options {
            add(true, &format!("option{}", u16::from(*code)));
        }
    }
    facts
}

fn rcode(code: ResponseCode) -> String {
    // 16 is BADSIG in a TSIG record, which these replies have none of (RFC 6891 §9).
    let code = if code == ResponseCode::BADSIG { ResponseCode::BADVERS } else { code };
    format!("{code:?}").to_uppercase()
}

impl Query {
    fn to_wire(self, id: u16) -> Vec<u8> {
        let mut wire = Vec::new();
        let flags = u16::from(self.opcode) << 11 | self.flags;
        let questions = u16::from(!self.is_header_only);
        for word in [id, flags, questions, 0, 0, u16::from(self.edns.is_some())] {
            wire.extend(word.to_be_bytes());
        }
        if !self.is_header_only {
            for label in self.name.split('.') {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend(label.bytes());
            }
            wire.push(0);
            wire.extend(self.qtype.to_be_bytes());
            wire.extend(1_u16.to_be_bytes());
        }
        if let Some(edns) = self.edns {
            wire.extend([0, 0, 41]);
            wire.extend(edns.size.to_be_bytes());
            wire.extend([0, edns.version]);
            wire.extend(edns.flags.to_be_bytes());
            wire.extend(u16::try_from(edns.options.len()).unwrap().to_be_bytes());
            wire.extend(edns.options);
        }
        wire
    }
}

/// `dig +noedns +noad +norec soa $zone`
const SOA: Query =
    Query { name: "consul", qtype: 6, opcode: 0, flags: 0, is_header_only: false, edns: None };

/// `+edns=0 +nocookie`
const EDNS: Edns = Edns { size: 1232, version: 0, flags: 0, options: &[] };

/// `+edns=1 +noednsneg +nocookie`
const EDNS_1: Edns = Edns { version: 1, ..EDNS };

const fn with(edns: Edns) -> Query {
    Query { edns: Some(edns), ..SOA }
}

/// RFC 1035 §4.1.1, RFC 4035 §3.2, RFC 6891 §6.1.3 and §6.1.4.
const RD: u16 = 0x0100;
const Z: u16 = 0x0040;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;
const DO: u16 = 0x8000;
const MBZ: u16 = 0x0040;

/// `+ednsopt=100`
const OPTION_100: &[u8] = &[0, 100, 0, 0];

/// `+cookie +nsid +expire +subnet=0.0.0.0/0`
const FOUR_OPTIONS: &[u8] = b"\0\x0a\0\x08mycookie\0\x03\0\0\0\x09\0\0\0\x08\0\x04\0\x01\0\0";

/// What an answer has that was asked without EDNS, RD, AD and CD.
const ANSWER: &str = "qr id NOERROR aa";

/// The tests, in the order of the standard.
const ROWS: &[Row] = &[
    Row { section: "8.1.1", query: SOA, must: "qr id NOERROR aa SOA", must_not: "OPT rd ad z" },
    Row {
        section: "8.1.2",
        query: Query { qtype: 1000, ..SOA },
        must: ANSWER,
        must_not: "OPT answer rd ad",
    },
    Row {
        section: "8.1.3.1",
        query: Query { flags: CD, ..SOA },
        must: "qr id NOERROR aa SOA",
        must_not: "OPT rd ad",
    },
    Row {
        section: "8.1.3.2",
        query: Query { flags: AD, ..SOA },
        must: "qr id NOERROR aa SOA",
        // Nothing was validated (RFC 6840 §5.8).
        must_not: "OPT rd ad",
    },
    Row {
        section: "8.1.3.3",
        query: Query { flags: Z, ..SOA },
        must: "qr id NOERROR aa SOA",
        must_not: "OPT rd ad z",
    },
    Row {
        section: "8.1.3.4",
        query: Query { flags: RD, ..SOA },
        // RFC 1035 §4.1.1: RD comes back.
        must: "qr id NOERROR aa SOA rd",
        must_not: "OPT ad",
    },
    Row {
        section: "8.1.4",
        query: Query { opcode: 15, is_header_only: true, ..SOA },
        must: "qr id NOTIMP",
        must_not: "OPT SOA aa rd",
    },
    // 8.1.5 is 8.1.1 over TCP.
    Row {
        section: "8.2.1",
        query: with(EDNS),
        must: "qr id NOERROR aa SOA OPT version0",
        must_not: "rd ad",
    },
    Row {
        section: "8.2.2",
        query: with(EDNS_1),
        must: "qr id BADVERS OPT version0",
        must_not: "SOA aa rd ad",
    },
    Row {
        section: "8.2.3",
        query: with(Edns { options: OPTION_100, ..EDNS }),
        must: "qr id NOERROR aa SOA OPT version0",
        must_not: "option100 rd ad",
    },
    Row {
        section: "8.2.4",
        query: with(Edns { flags: MBZ, ..EDNS }),
        must: "qr id NOERROR aa SOA OPT version0",
        must_not: "mbz rd ad",
    },
    Row {
        section: "8.2.5",
        query: with(Edns { flags: MBZ, ..EDNS_1 }),
        must: "qr id BADVERS OPT version0",
        must_not: "SOA aa mbz rd ad",
    },
    Row {
        section: "8.2.6",
        query: with(Edns { options: OPTION_100, ..EDNS_1 }),
        must: "qr id BADVERS OPT version0",
        must_not: "SOA aa option100 rd ad",
    },
    Row {
        section: "8.2.7",
        // The zone has no keys, which the standard asks for; so many addresses are as long. At 512
        // bytes there would be three of them, as in Consul, which is no cut.
        query: Query { name: "many.service.consul", qtype: 1, ..with(Edns { size: 600, ..EDNS }) },
        must: "qr id NOERROR aa OPT version0 answer cut-if-datagram",
        must_not: "rd ad",
    },
    Row {
        section: "8.2.8",
        query: with(Edns { flags: DO, ..EDNS }),
        // RFC 3225 §3: DO comes back.
        must: "qr id NOERROR aa SOA OPT version0 do",
        must_not: "rd ad",
    },
    Row {
        section: "8.2.9",
        query: with(Edns { flags: DO, ..EDNS_1 }),
        must: "qr id BADVERS OPT version0 do",
        must_not: "SOA aa rd ad",
    },
    Row {
        section: "8.2.10",
        query: with(Edns { options: FOUR_OPTIONS, ..EDNS }),
        must: "qr id NOERROR aa SOA OPT version0",
        must_not: "rd ad",
    },
];
