//! The signature of a message (TSIG, RFC 8945), as far as it takes to say that its key is unknown.
//!
//! ```text
//!   key   250   ANY   0   length   algorithm   time   fudge   MAC   id   error   other
//! ```
//! There are no keys here. Who signs a query takes no reply for one that does not say so: a reply
//! has the same record with error 17 and without a MAC (§5.3.2), and no answer.
//!
//! **Hot.** Nothing allocates.

use crate::wire::reader::Reader;
use crate::wire::reply::name_len;
use crate::wire::{CLASS_ANY, rtype};

/// A message's TSIG record, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'q> {
    /// The name of the key, as it lies in the message.
    key: &'q [u8],
    /// The algorithm, when it was signed, and how far clocks may differ.
    terms: &'q [u8],
    /// Of the message that was signed.
    id: u16,
}

impl<'q> Signature<'q> {
    /// Reads a record owned by `key`. `None` where it is malformed.
    pub fn parse(key: &'q [u8], rdata: &'q [u8]) -> Option<Self> {
        let mut reader = Reader::new(rdata);
        reader.name()?;
        let algorithm = reader.since(0);
        reader.take(TIME_LEN)?;
        let terms = reader.since(0);
        let mac_len = reader.u16()?;
        reader.take(usize::from(mac_len))?;
        let (id, _error) = (reader.u16()?, reader.u16()?);
        let other_len = reader.u16()?;
        reader.take(usize::from(other_len))?;
        // §4.2: the name of the algorithm is not compressed.
        let is_whole = reader.is_done() && name_len(algorithm) == algorithm.len();
        is_whole.then_some(Self { key, terms, id })
    }

    /// The length of the record that says that the key is not known. `None` where the key's name is
    /// compressed, so that it cannot be repeated.
    pub fn unknown_len(&self) -> Option<usize> {
        let is_whole = name_len(self.key) == self.key.len();
        is_whole.then(|| self.key.len() + HEAD_LEN + self.rdata_len())
    }

    /// Appends the record that says that the key is not known.
    pub fn push_unknown(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key);
        out.extend_from_slice(&rtype::TSIG.to_be_bytes());
        out.extend_from_slice(&CLASS_ANY.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.rdata_len() as u16).to_be_bytes());
        out.extend_from_slice(self.terms);
        // A MAC of no bytes.
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&BADKEY.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }

    fn rdata_len(&self) -> usize {
        self.terms.len() + 8
    }
}

/// RFC 8945 §3.
const BADKEY: u16 = 17;

/// 48 bits of seconds, and 16 bits of fudge.
const TIME_LEN: usize = 8;

/// Type, class, TTL, length.
const HEAD_LEN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8945 §4.2 and §5.3.2: the key, the algorithm, the time and the id come back; no MAC.
    #[test]
    fn the_key_that_is_not_known_is_named() {
        let rdata = b"\x04hmac\0\0\0\x5c\xf7\x9f\x11\x01\x2c\0\x02ab\x12\x34\0\0\0\0";
        let signature = Signature::parse(b"\x03Key\0", rdata).unwrap();
        let mut out = Vec::new();
        signature.push_unknown(&mut out);
        let head = b"\x03Key\0\0\xfa\0\xff\0\0\0\0\0\x16";
        let data = b"\x04hmac\0\0\0\x5c\xf7\x9f\x11\x01\x2c\0\0\x12\x34\0\x11\0\0";
        assert_eq!(out, [&head[..], data].concat());
        assert_eq!(signature.unknown_len(), Some(out.len()));
        assert_eq!(data.len(), 0x16);
        // Where it points to is not looked at.
        assert_eq!(Signature::parse(b"\xc0\x0c", rdata).unwrap().unknown_len(), None);
    }
}
