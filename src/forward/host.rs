//! The records of a host, out of a recursor's reply about it.
//!
//! A recursor follows aliases itself and tells of each; the records at their end are the host's.
//! Hosts such as `localhost` are no recursor's to know.

use std::time::Duration;

use hickory_proto::op;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;

use crate::answer;
use crate::demand::{HostRecord, Supply};
use crate::forward::message::Message;
use crate::name::Labels;
use crate::wire::record;

/// What `message` says of the host `name`, uncompressed as it was asked for, `age` after it came.
pub fn records(message: &Message, name: &[u8], rtype: u16, age: Duration) -> Supply {
    let records = read(message, name, rtype.into(), age).unwrap_or_default();
    Supply::Records { rcode: message.rcode(), records }
}

/// The records of a host that no recursor is asked for, if `name` is one.
pub fn local(name: &[u8], rtype: u16) -> Option<Supply> {
    let labels = Labels::from_wire(name)?;
    let (rcode, address) = answer::foreign::local_host(&labels, rtype)?;
    let record = |ip| {
        let mut tail = Vec::new();
        record::push_tail(&mut tail, 0, &record::address(ip)).then_some(())?;
        let rdata = tail.split_off(record::TAIL_HEAD.min(tail.len()));
        Some(HostRecord { rtype, ttl_secs: answer::foreign::LOCAL_TTL_SECS, rdata })
    };
    Some(Supply::Records { rcode, records: address.and_then(record).into_iter().collect() })
}

fn read(
    message: &Message,
    name: &[u8],
    rtype: RecordType,
    age: Duration,
) -> Option<Vec<HostRecord>> {
    let reply = op::Message::from_vec(message.bytes()).ok()?;
    let mut owner = &Name::from_bytes(name).ok()?;
    let mut least = u32::MAX;
    // As many steps as there are records: aliases may go round in a circle.
    for _ in 0..=reply.answers.len() {
        let of_owner = || reply.answers.iter().filter(|record| record.name == *owner);
        let found: Vec<&Record> =
            of_owner().filter(|record| record.record_type() == rtype).collect();
        if !found.is_empty() {
            return Some(found.iter().filter_map(|found| host_record(found, least, age)).collect());
        }
        let alias = of_owner().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        let (target, ttl) = alias?;
        least = least.min(ttl);
        owner = target;
    }
    None
}

fn host_record(found: &Record, least: u32, age: Duration) -> Option<HostRecord> {
    let age_secs = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    let mut tail = Vec::new();
    record::push_tail(&mut tail, 0, &found.data).then_some(())?;
    Some(HostRecord {
        rtype: found.record_type().into(),
        ttl_secs: found.ttl.min(least).saturating_sub(age_secs),
        rdata: tail.split_off(record::TAIL_HEAD.min(tail.len())),
    })
}
