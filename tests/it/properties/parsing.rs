//! Two parsers, one reading: ours and hickory-proto's agree on every well-formed query.

use fingerpost::wire::Query;
use hickory_proto::op::{Message, MessageType, OpCode};
use proptest::prelude::*;

use crate::properties::decoding::labels;
use crate::support::generate::config;

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn queries_are_read_as_hickory_reads_them(asked in asked()) {
        let bytes = asked.to_wire();
        let ours = Query::parse(&bytes);
        prop_assert!(ours.is_ok(), "refused: {ours:?}");
        let ours = ours.unwrap();
        let theirs = Message::from_vec(&bytes).unwrap();

        prop_assert_eq!(theirs.metadata.message_type, MessageType::Query);
        prop_assert_eq!(theirs.metadata.op_code, OpCode::Query);
        prop_assert_eq!(ours.head.id, theirs.metadata.id);
        let has_rd = ours.head.flags & 0x0100 != 0;
        prop_assert_eq!(has_rd, theirs.metadata.recursion_desired);

        let [question] = &theirs.queries[..] else { panic!("{theirs:?}") };
        prop_assert_eq!(labels(ours.name), question.name().iter().collect::<Vec<_>>());
        prop_assert_eq!(ours.qtype, u16::from(question.query_type()));
        prop_assert_eq!(ours.qclass, u16::from(question.query_class()));

        // Hickory reads sizes under 512 as 512 (RFC 6891 §6.2.3); here that is the reply's part.
        let ours = ours.edns.map(|it| (it.version, it.payload.max(512), it.dnssec_ok));
        let theirs = theirs.edns.map(|it| (it.version(), it.max_payload(), it.flags().dnssec_ok));
        prop_assert_eq!(ours, theirs);
    }
}

/// What a query says, to be written by hand: neither parser has a part in it.
#[derive(Clone, Debug)]
struct Asked {
    id: u16,
    /// RD, AD and CD, and the other bits that a query may have set by mistake.
    flags: u16,
    labels: Vec<Vec<u8>>,
    qtype: u16,
    qclass: u16,
    /// Records around the OPT, owned by a pointer to the question or by a name of their own.
    before: Vec<bool>,
    edns: Option<Opt>,
    after: Vec<bool>,
    /// Behind the message, in the same datagram.
    rest: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Opt {
    payload: u16,
    dnssec_ok: bool,
    options: Vec<(u16, Vec<u8>)>,
}

impl Asked {
    fn to_wire(&self) -> Vec<u8> {
        let additional = self.before.len() + self.after.len() + usize::from(self.edns.is_some());
        let mut wire = Vec::new();
        for word in [self.id, self.flags, 1, 0, 0, additional as u16] {
            wire.extend_from_slice(&word.to_be_bytes());
        }
        for label in &self.labels {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        wire.extend_from_slice(&self.qtype.to_be_bytes());
        wire.extend_from_slice(&self.qclass.to_be_bytes());
        self.before.iter().for_each(|by_pointer| push_address(&mut wire, *by_pointer));
        self.edns.iter().for_each(|opt| opt.push(&mut wire));
        self.after.iter().for_each(|by_pointer| push_address(&mut wire, *by_pointer));
        wire.extend_from_slice(&self.rest);
        wire
    }
}

impl Opt {
    fn push(&self, wire: &mut Vec<u8>) {
        let mut options = Vec::new();
        for (code, value) in &self.options {
            options.extend_from_slice(&code.to_be_bytes());
            options.extend_from_slice(&(value.len() as u16).to_be_bytes());
            options.extend_from_slice(value);
        }
        wire.extend_from_slice(&[0, 0, 41]);
        wire.extend_from_slice(&self.payload.to_be_bytes());
        wire.extend_from_slice(&[0, 0, u8::from(self.dnssec_ok) << 7, 0]);
        wire.extend_from_slice(&(options.len() as u16).to_be_bytes());
        wire.extend_from_slice(&options);
    }
}

/// An A record, of no use in a query and no reason to refuse it.
fn push_address(wire: &mut Vec<u8>, by_pointer: bool) {
    let owner = if by_pointer { &b"\xc0\x0c"[..] } else { b"\x01x\x00" };
    wire.extend_from_slice(owner);
    wire.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 0, 0, 1]);
}

fn asked() -> impl Strategy<Value = Asked> {
    let bits = (any::<u16>(), any::<u16>(), name());
    let kind = (any::<u16>().prop_filter("OPT is no type to ask for", |t| *t != 41), any::<u16>());
    let records = || prop::collection::vec(any::<bool>(), 0..3);
    let rest = prop::collection::vec(any::<u8>(), 0..8);
    (bits, kind, records(), prop::option::of(opt()), records(), rest).prop_map(
        |((id, flags, labels), (qtype, qclass), before, edns, after, rest)| Asked {
            id,
            // QR and the opcode are 0: anything else is no query.
            flags: flags & 0x07f0,
            labels,
            qtype,
            qclass,
            before,
            edns,
            after,
            rest,
        },
    )
}

/// Any bytes, dots and capitals among them, of at most 255 in all.
fn name() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let label = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..8),
        1 => prop::collection::vec(any::<u8>(), 60..64),
    ];
    prop::collection::vec(label, 0..12).prop_map(|mut labels| {
        while labels.iter().map(|label| label.len() + 1).sum::<usize>() > 254 {
            labels.pop();
        }
        labels
    })
}

fn opt() -> impl Strategy<Value = Opt> {
    let value = |len| prop::collection::vec(any::<u8>(), len);
    // A client's cookie, padding, and codes for local use.
    let option = prop_oneof![
        value(8..9).prop_map(|value| (10, value)),
        value(0..20).prop_map(|value| (12, value)),
        (65_001..65_535_u16, value(0..20)),
    ];
    (any::<u16>(), any::<bool>(), prop::collection::vec(option, 0..4))
        .prop_map(|(payload, dnssec_ok, options)| Opt { payload, dnssec_ok, options })
}
