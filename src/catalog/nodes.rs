//! The records of one node: its addresses by type of question, and its metadata as TXT.
//!
//! Made when the catalogue changes, never per query.

use std::collections::HashSet;

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;

use crate::catalog::addressing::{Accept, View};
use crate::catalog::model::{Address, Node};
use crate::catalog::shards::Keyed;
use crate::wire::record;

/// A node's records, ready to be copied; an empty one is not there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeRecord {
    /// What they were made of.
    pub node: Node,
    /// Its IPv4 address.
    pub a: Box<[u8]>,
    /// Its IPv6 address.
    pub aaaa: Box<[u8]>,
    /// The address that ANY is answered with.
    pub any: Box<[u8]>,
    /// The host that it is, where it has no address.
    pub cname: Box<[u8]>,
    /// One for each key of its metadata, none of them twice.
    pub txt: Box<[Box<[u8]>]>,
    pub(in crate::catalog) key: Box<[u8]>,
}

impl NodeRecord {
    /// Encodes what `node`, in lower case `key`, is answered with.
    pub fn encode(key: &[u8], node: &Node, view: View, ttl_secs: u32) -> Self {
        let push = |rdata: &RData| {
            let mut bytes = Vec::new();
            record::push_answer(&mut bytes, ttl_secs, rdata);
            bytes.into_boxed_slice()
        };
        let mut record = Self {
            node: node.clone(),
            a: Box::default(),
            aaaa: Box::default(),
            any: Box::default(),
            cname: Box::default(),
            txt: Box::default(),
            key: key.into(),
        };
        let mut host = None;
        for (accept, space) in [
            (Accept::Any, &mut record.any),
            (Accept::A, &mut record.a),
            (Accept::Aaaa, &mut record.aaaa),
        ] {
            match view.reach_node(node, accept).address {
                Address::Ip(ip) if accept == Accept::A && ip.is_ipv6() => (),
                Address::Ip(ip) if accept == Accept::Aaaa && ip.is_ipv4() => (),
                Address::Ip(ip) => *space = push(&record::address(*ip)),
                Address::Host(name) => host = host.or(Some(name)),
            }
        }
        // A CNAME stands alone (RFC 1034 §3.6.2).
        let has_address = [&record.a, &record.aaaa, &record.any].iter().any(|it| !it.is_empty());
        if let (Some(host), false) = (host, has_address) {
            let target = record::name(host);
            record.cname = target.map(|target| push(&record::cname(target))).unwrap_or_default();
        }
        // Two keys may be for whole texts, and these the same; an RRset has no duplicates.
        let mut seen = HashSet::new();
        let txts = node.meta.iter().map(|(key, value)| push(&txt(key, value)));
        record.txt = txts.filter(|txt| !txt.is_empty() && seen.insert(txt.clone())).collect();
        record
    }
}

impl Keyed for NodeRecord {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// `key=value` as RFC 1464 writes it; the value alone where Consul's convention asks for it.
fn txt(key: &str, value: &str) -> RData {
    let is_bare = key.get(..RAW.len()).is_some_and(|start| start.eq_ignore_ascii_case(RAW));
    let text = match is_bare {
        true => value.to_owned(),
        false => format!("{}={}", escaped_key(key), value.replace('`', "``")),
    };
    // One string holds 255 bytes (RFC 1035 §3.3).
    let strings: Vec<&[u8]> = match text.is_empty() {
        true => vec![b""],
        false => text.as_bytes().chunks(STRING_MAX).collect(),
    };
    RData::TXT(TXT::from_bytes(strings))
}

/// RFC 1464 §2: grave accents quote themselves, equals signs, and spaces at either end.
fn escaped_key(key: &str) -> String {
    let inner = key.trim_matches(' ');
    let start = key.len() - key.trim_start_matches(' ').len();
    let end = if inner.is_empty() { 0 } else { key.len() - start - inner.len() };
    let inner = inner.replace('`', "``").replace('=', "`=");
    format!("{}{inner}{}", "` ".repeat(start), "` ".repeat(end))
}

/// A key that starts like this, in any case, has a value that is the whole text.
const RAW: &str = "rfc1035-";

const STRING_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(key: &str, value: &str) -> Vec<String> {
        let RData::TXT(txt) = txt(key, value) else { panic!("not a TXT record") };
        txt.txt_data.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// The first rows are observations of Consul 1.8.7.
    #[test]
    fn metadata_and_its_text() {
        for (key, value, expected) in [
            ("a=b", "c`d", "a`=b=c``d"),
            (" sp ", "x", "` sp` =x"),
            ("rfc1035-txt", "v=hello", "v=hello"),
            ("RFC1035-x", "v", "v"),
            ("consul-network-segment", "", "consul-network-segment="),
            ("k`", "v", "k``=v"),
            ("  ", "v", "` ` =v"),
            ("rfc1035-", "", ""),
        ] {
            assert_eq!(strings(key, value), [expected], "{key:?} {value:?}");
        }
    }

    #[test]
    fn a_long_value_is_several_strings() {
        let lengths: Vec<_> = strings("k", &"x".repeat(512)).iter().map(String::len).collect();
        assert_eq!(lengths, [255, 255, 4]);
    }
}
