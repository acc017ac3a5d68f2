//! What the zone itself answers: SOA and NS. And the name server that NS names, which is us.
//!
//! Consul answers SOA and NS at any name below the zone, and its `ns.<zone>` does not resolve.
//! Here they are where RFC 1034 §4.2.1 has them, and the name resolves.

use std::net::IpAddr;

use crate::answer::negative::Soa;
use crate::answer::node::AddressRecord;
use crate::answer::{Question, Written, node};
use crate::name::Zone;
use crate::wire::record::RDATA_AT;
use crate::wire::reply::pointer;
use crate::wire::{CLASS_IN, QUESTION_AT, Reply, rtype};

/// Writes the apex records of the type asked for.
pub fn write(reply: &mut Reply<'_>, question: &Question<'_, '_>) -> Written {
    let mut written = Written::default();
    if matches!(question.qtype, rtype::SOA | rtype::ANY) {
        written.add(reply.answer_at(QUESTION_AT, Soa::of(question).tail()), question);
    }
    if matches!(question.qtype, rtype::NS | rtype::ANY) {
        let configured = &question.policy.name_servers;
        let mut glued = [None; NAME_SERVERS_MAX];
        for (at, glue) in (0..configured.len().max(1)).zip(&mut glued) {
            let mut record = Ns::new(question.policy.node_ttl_secs);
            match configured.get(at) {
                Some(name) => record.push(name.wire()),
                None => record.push_own(question),
            }
            let offset = reply.offset();
            let fits = reply.answer(record.answer());
            written.add(fits, question);
            if fits && configured.get(at).is_none_or(|name| is_ours(name, question)) {
                *glue = Some(offset + RDATA_AT);
            }
        }
        for at in glued.into_iter().flatten() {
            for ip in addresses(question) {
                let record = AddressRecord::new(ip, question.policy.node_ttl_secs);
                // Glue is a courtesy: the name resolves without it.
                reply.additional(at, record.tail());
            }
        }
    }
    if written.truncated {
        reply.truncate();
    }
    written
}

/// Writes our own addresses, of the type asked for.
pub fn write_name_server(reply: &mut Reply<'_>, question: &Question<'_, '_>) -> Written {
    let mut written = Written::default();
    for ip in addresses(question) {
        let Written { answers, truncated, .. } = node::write_address(reply, question, ip);
        written.answers += answers;
        written.truncated |= truncated;
    }
    if written.truncated {
        reply.truncate();
    }
    written
}

/// Whether a name server's name is a label below a zone of ours, so that it resolves to us. Others
/// of our names are the catalogue's.
fn is_ours(name: &Zone, question: &Question<'_, '_>) -> bool {
    let wire = name.wire();
    let parent = wire.first().and_then(|len| wire.get(1 + usize::from(*len)..));
    question.policy.zones.iter().any(|zone| parent == Some(zone.wire()))
}

/// Those configured, else the one that was asked, if that is an address of one machine.
fn addresses<'q>(question: &Question<'_, 'q>) -> impl Iterator<Item = IpAddr> + use<'q> {
    let configured = &question.policy.advertise;
    let asked = question.asked.local.filter(|ip| configured.is_empty() && !ip.is_unspecified());
    configured.iter().copied().chain(asked)
}

/// An NS record, made on the stack.
struct Ns {
    bytes: [u8; NS_MAX],
    len: usize,
}

impl Ns {
    /// One without its name, owned by the question.
    fn new(ttl_secs: u32) -> Self {
        let mut record = Self { bytes: [0; NS_MAX], len: 0 };
        record.append(&pointer(QUESTION_AT).unwrap_or_default());
        record.append(&rtype::NS.to_be_bytes());
        record.append(&CLASS_IN.to_be_bytes());
        record.append(&ttl_secs.to_be_bytes());
        record.append(&[0, 0]);
        record
    }

    fn push(&mut self, name: &[u8]) {
        self.append(name);
        self.set_len();
    }

    /// `ns` in the zone of names: where the question is that zone, a pointer to it.
    fn push_own(&mut self, question: &Question<'_, '_>) {
        self.append(b"\x02ns");
        match (question.ends_with_names(), question.names_in()) {
            (false, Some(zone)) => self.append(zone.wire()),
            (true, _) | (false, None) => self.append(&pointer(QUESTION_AT).unwrap_or_default()),
        }
        self.set_len();
    }

    fn answer(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn append(&mut self, bytes: &[u8]) {
        if let Some(space) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            space.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn set_len(&mut self) {
        let len = (self.len - RDATA_AT) as u16;
        if let Some(space) = self.bytes.get_mut(RDATA_AT - 2..RDATA_AT) {
            space.copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// Name servers that may be configured.
pub const NAME_SERVERS_MAX: usize = 8;

/// The fixed part, a label and a name.
const NS_MAX: usize = RDATA_AT + 3 + 255;
