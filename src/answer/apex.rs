//! What the zone itself answers: SOA and NS. And the name server that NS names, which is us.
//!
//! Consul answers SOA and NS at any name below the zone, and its `ns.<zone>` does not resolve.
//! Here they are where RFC 1034 §4.2.1 has them, and the name resolves.

use std::net::IpAddr;

use crate::answer::node::AddressRecord;
use crate::answer::{Question, Written, negative, node};
use crate::wire::reply::pointer;
use crate::wire::{CLASS_IN, QUESTION_AT, Reply, rtype};

/// Writes the apex records of the type asked for.
pub fn write(reply: &mut Reply<'_>, question: &Question<'_>) -> Written {
    let mut answers = 0;
    if matches!(question.qtype, rtype::SOA | rtype::ANY) {
        let mut record = [0; 2 + negative::SOA_TAIL_LEN];
        let (owner, tail) = record.split_at_mut(2);
        owner.copy_from_slice(&pointer(QUESTION_AT).unwrap_or_default());
        negative::fill_soa(tail, question);
        answers += usize::from(reply.answer(&record));
    }
    if matches!(question.qtype, rtype::NS | rtype::ANY) {
        let offset = reply.offset();
        if reply.answer(&ns_record(question)) {
            answers += 1;
            for ip in addresses(question) {
                let record = AddressRecord::new(ip, question.policy.node_ttl_secs);
                // Glue is a courtesy: the name resolves without it.
                reply.additional(offset + NS_RDATA_AT, record.tail());
            }
        }
    }
    Written { answers, truncated: false }
}

/// Writes our own addresses, of the type asked for.
pub fn write_name_server(reply: &mut Reply<'_>, question: &Question<'_>) -> Written {
    let mut answers = 0;
    for ip in addresses(question) {
        answers += node::write_address(reply, question, ip).answers;
    }
    Written { answers, truncated: false }
}

/// Those configured, else the one that was asked, if that is an address of one machine.
fn addresses<'q>(question: &Question<'q>) -> impl Iterator<Item = IpAddr> + use<'q> {
    let configured = &question.policy.advertise;
    let asked = question.asked.local.filter(|ip| configured.is_empty() && !ip.is_unspecified());
    configured.iter().copied().chain(asked)
}

/// `<question> NS ns.<question>`.
fn ns_record(question: &Question<'_>) -> [u8; NS_RDATA_AT + NS_RDATA_LEN] {
    let mut record = [0; NS_RDATA_AT + NS_RDATA_LEN];
    let owner = pointer(QUESTION_AT).unwrap_or_default();
    let ttl = question.policy.node_ttl_secs.to_be_bytes();
    let len = (NS_RDATA_LEN as u16).to_be_bytes();
    let parts: [&[u8]; 7] =
        [&owner, &rtype::NS.to_be_bytes(), &CLASS_IN.to_be_bytes(), &ttl, &len, b"\x02ns", &owner];
    negative::fill(&mut record, &parts);
    record
}

const NS_RDATA_AT: usize = 12;
/// The label `ns` and a pointer.
const NS_RDATA_LEN: usize = 5;
