//! Decoders of other authors read our replies as they are meant, and one reads damaged queries as
//! we do.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use fingerpost::wire::{Query, Refusal};
use hickory_proto::op::{Message, MessageType};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::properties::replying::{damaged, known, well_formed};
use crate::properties::soundness::transport;
use crate::support::dnspython;
use crate::support::generate::config;

proptest! {
    #![proptest_config(config(20_000))]

    /// Whatever we take for a query hickory-proto takes for the same one, but for what is in records
    /// that we pass over. What it takes besides, we refuse for a reason, with an error.
    #[test]
    fn damaged_queries_are_read_as_hickory_reads_them(bytes in damaged()) {
        let (ours, theirs) = (Query::parse(&bytes), Message::from_vec(&bytes));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let [question] = &theirs.queries[..] else { panic!("{theirs:?}") };
                prop_assert_eq!(ours.head.id, theirs.metadata.id);
                prop_assert_eq!(ours.qtype, u16::from(question.query_type()));
                prop_assert_eq!(ours.qclass, u16::from(question.query_class()));
                prop_assert_eq!(labels(ours.name), question.name().iter().collect::<Vec<_>>());
                prop_assert_eq!(ours.edns.is_some(), theirs.edns.is_some());
            }
            (Ok(ours), Err(error)) => {
                // Records that are of no use in a query are passed over, whatever is in them.
                let records: u32 = [6, 8, 10].iter().map(|at| u32::from(bytes[at + 1])).sum();
                let passed_over = records - u32::from(ours.edns.is_some());
                prop_assert!(passed_over > 0, "taken: {ours:?}, and not: {error}");
            }
            (Err(refusal), Ok(theirs)) => {
                let is_query = theirs.metadata.message_type == MessageType::Query;
                let silent = matches!(refusal, Refusal::Silence);
                prop_assert_eq!(silent, !is_query, "{:?} of {:?}", refusal, theirs);
            }
            (Err(_), Err(_)) => (),
        }
    }
}

/// Replies of all kinds, to queries that are well formed and to others, over each transport.
#[test]
fn dnspython_reads_every_reply() {
    let Some(python) = dnspython() else { return };
    let mut runner = TestRunner::new(config(1));
    let queries = (prop_oneof![3 => well_formed(), 1 => damaged()], transport(), any::<u64>());
    let (mut replies, mut expected) = (String::new(), String::new());
    for _ in 0..REPLIES {
        let (query, transport, seed) = queries.new_tree(&mut runner).unwrap().current();
        let mut known = known().lock().unwrap();
        let reply = known.ask(&query, transport, seed);
        if reply.is_empty() {
            continue;
        }
        reply.iter().for_each(|byte| write!(replies, "{byte:02x}").unwrap());
        replies.push('\n');
        let word = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
        let counts = [word(4), word(6), word(8), word(10)];
        writeln!(expected, "{} {} {counts:?}", word(0), reply[3] & 0xf).unwrap();
    }
    let mut child = Command::new(python)
        .args(["-c", READS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(replies.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().ok();
    let read = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    for (at, (read, expected)) in read.lines().zip(expected.lines()).enumerate() {
        assert_eq!(read, expected, "reply {at}");
    }
    assert_eq!(read.lines().count(), expected.lines().count(), "{error}");
    assert!(expected.lines().count() > REPLIES / 2, "most have a reply");
}

/// The labels of an uncompressed name, the root left off.
pub fn labels(mut wire: &[u8]) -> Vec<&[u8]> {
    let mut labels = Vec::new();
    while let [len, rest @ ..] = wire
        && *len > 0
    {
        let (label, rest) = rest.split_at(usize::from(*len));
        labels.push(label);
        wire = rest;
    }
    labels
}

/// Id, the lower four bits of the response code, and how much is in each section.
const READS: &str = "
import sys, dns.message
for line in sys.stdin:
    reply = dns.message.from_wire(bytes.fromhex(line), one_rr_per_rrset=True)
    sections = [len(section) for section in reply.sections]
    sections[3] += reply.edns >= 0
    print(reply.id, reply.rcode() & 15, sections)
";

const REPLIES: usize = 4_000;
