//! The OPT record of a reply, its options, and the padding that hides how long the reply is.
//!
//! ```text
//!   0   41   size   rcode's upper bits, version, DO   length   options
//! ```
//! It is sent if and only if the query has one (RFC 6891 §6.1.1). Its length is known before the
//! records are written, so that these leave room for it; only padding takes what is left.
//!
//! **Invariant:** no padding makes a message longer than its limit. **Hot.** Nothing allocates.

use crate::wire::edns::{
    CLIENT_COOKIE_LEN, OPTION_COOKIE, OPTION_EDE, OPTION_KEEPALIVE, OPTION_NSID, OPTION_PADDING,
    OPTION_SUBNET, SERVER_COOKIE_LEN,
};
use crate::wire::reader::Reader;
use crate::wire::rtype;
use crate::wire::subnet::Subnet;

/// Our OPT record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opt<'p> {
    /// The largest UDP payload that *we* take.
    pub payload: u16,
    /// Copied back from the query.
    pub dnssec_ok: bool,
    /// An extended error (RFC 8914): its code and a text.
    pub error: Option<(u16, &'static str)>,
    /// The client's network, and how many bits of it the answer is for.
    pub subnet: Option<(Subnet, u8)>,
    /// The client's cookie, and ours behind it.
    pub cookie: Option<CookiePair>,
    /// Which of several servers this is.
    pub nsid: Option<&'p [u8]>,
    /// How long a connection may be idle, in units of 100 ms.
    pub keepalive: Option<u16>,
    /// Of what the message's length is made a multiple, in bytes; 0 adds nothing.
    pub padded_to: usize,
}

/// A client's cookie and the one that we made for it.
pub type CookiePair = [u8; CLIENT_COOKIE_LEN + SERVER_COOKIE_LEN];

impl Opt<'_> {
    /// The length of the record, without the bytes that pad the message.
    pub fn len(&self) -> usize {
        OPT_LEN + self.options_len()
    }

    /// Whether the record has no options.
    pub fn is_empty(&self) -> bool {
        self.options_len() == 0
    }

    /// Appends the record to `out`, a message of at most `limit` bytes.
    pub fn push(&self, out: &mut Vec<u8>, rcode: u16, limit: usize) {
        out.push(0);
        out.extend_from_slice(&rtype::OPT.to_be_bytes());
        out.extend_from_slice(&self.payload.to_be_bytes());
        // The upper eight of the twelve bits of the rcode; version 0.
        out.extend_from_slice(&[(rcode >> 4) as u8, 0]);
        out.extend_from_slice(&(u16::from(self.dnssec_ok) << 15).to_be_bytes());
        let len_at = out.len();
        out.extend_from_slice(&[0, 0]);
        self.push_options(out, len_at, limit);
    }

    /// Adds the options to the OPT record that `message` ends with. False where that would be longer
    /// than `limit`, or where it ends with none.
    pub fn extend(&self, message: &mut Vec<u8>, limit: usize) -> bool {
        let len = self.options_len();
        match len_at(message) {
            _ if len == 0 => message.len() <= limit,
            Some(len_at) if message.len() + len <= limit => {
                self.push_options(message, len_at, limit);
                true
            }
            Some(_) | None => false,
        }
    }

    fn options_len(&self) -> usize {
        let option = |len: Option<usize>| len.map_or(0, |len| OPTION_LEN + len);
        option(self.error.map(|(_, text)| 2 + text.len()))
            + option(self.subnet.map(|(subnet, _)| subnet.len()))
            + option(self.cookie.map(|cookie| cookie.len()))
            + option(self.nsid.map(<[u8]>::len))
            + option(self.keepalive.map(|_| 2))
            + option((self.padded_to > 0).then_some(0))
    }

    /// Appends the options, and counts them in the record's length at `len_at`.
    fn push_options(&self, out: &mut Vec<u8>, len_at: usize, limit: usize) {
        if let Some((subnet, scope)) = self.subnet {
            push_head(out, OPTION_SUBNET, subnet.len());
            subnet.push(out, scope);
        }
        if let Some((code, text)) = self.error {
            push_head(out, OPTION_EDE, 2 + text.len());
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        if let Some(cookie) = self.cookie {
            push_head(out, OPTION_COOKIE, cookie.len());
            out.extend_from_slice(&cookie);
        }
        if let Some(nsid) = self.nsid {
            push_head(out, OPTION_NSID, nsid.len());
            out.extend_from_slice(nsid);
        }
        if let Some(keepalive) = self.keepalive {
            push_head(out, OPTION_KEEPALIVE, 2);
            out.extend_from_slice(&keepalive.to_be_bytes());
        }
        if self.padded_to > 0 {
            let bare = out.len() + OPTION_LEN;
            // RFC 8467 §4.1: what is too long for a whole block is as long as it may be.
            let padded = bare.next_multiple_of(self.padded_to).min(limit).max(bare);
            push_head(out, OPTION_PADDING, padded - bare);
            out.resize(padded, 0);
        }
        let len = out.len() - len_at - 2;
        if let Some(space) = out.get_mut(len_at..len_at + 2) {
            space.copy_from_slice(&(len as u16).to_be_bytes());
        }
    }
}

fn push_head(out: &mut Vec<u8>, code: u16, len: usize) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&(len as u16).to_be_bytes());
}

/// Where the length of the OPT record is that `message` ends with, if it has no options yet or some.
fn len_at(message: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(message);
    reader.take(4)?;
    let questions = reader.u16()?;
    let records = u32::from(reader.u16()?) + u32::from(reader.u16()?) + u32::from(reader.u16()?);
    reader.skip_questions(questions)?;
    reader.skip_records(records.checked_sub(1)?)?;
    let owned_by_root = reader.name()?;
    let is_opt = reader.u16()? == rtype::OPT && owned_by_root;
    reader.take(6)?;
    let at = reader.at();
    let len = reader.u16()?;
    reader.take(usize::from(len))?;
    (is_opt && reader.is_done()).then_some(at)
}

/// An OPT record without options; an option without its data.
const OPT_LEN: usize = 11;
const OPTION_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of `len` bytes without its OPT record: an id, and a record of no meaning.
    fn message(len: usize) -> Vec<u8> {
        let mut out = vec![0; 12];
        out[7] = 1;
        out.extend_from_slice(&[0, 0xff, 0, 0, 1, 0, 0, 0, 0]);
        out.extend_from_slice(&((len - 23) as u16).to_be_bytes());
        out.resize(len, 7);
        out
    }

    fn padded() -> Opt<'static> {
        Opt { payload: 1232, padded_to: 468, ..Opt::default() }
    }

    /// RFC 8467 §4.1: a multiple of 468 bytes, or the most there may be.
    #[test]
    fn padding_fills_a_block_and_never_more_than_there_is_room_for() {
        for (len, limit, expected) in [
            (100, 65_535, 468),
            // an OPT record with an empty option takes 15 bytes
            (453, 65_535, 468),
            (454, 65_535, 936),
            (100, 400, 400),
            (385, 400, 400),
            (65_505, 65_535, 65_520),
            (65_510, 65_535, 65_535),
        ] {
            let mut out = message(len);
            padded().push(&mut out, 0, limit);
            assert_eq!(out.len(), expected, "{len} bytes, {limit} allowed");
            // the length in the record is that of what follows it
            assert_eq!(out[len + 9..len + 11], ((expected - len - 11) as u16).to_be_bytes());
            assert_eq!(out[len + 11..len + 13], [0, 12]);
            assert!(out[len + 15..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn options_are_added_to_what_another_wrote() {
        let mut out = message(40);
        Opt { error: Some((3, "why")), ..Opt::default() }.push(&mut out, 0, 512);
        out[11] = 1;
        let bare = out.clone();
        let opt = Opt { nsid: Some(b"me"), keepalive: Some(300), ..Opt::default() };
        assert!(opt.extend(&mut out, 512));
        let expected = b"\0\x0f\0\x05\0\x03why\0\x03\0\x02me\0\x0b\0\x02\x01\x2c";
        assert_eq!(out[49..51], (expected.len() as u16).to_be_bytes());
        assert_eq!(out[51..], expected[..]);

        let mut padded_out = bare.clone();
        assert!(padded().extend(&mut padded_out, 65_535));
        assert_eq!(padded_out.len(), 468);
        // without room, or without an OPT record, nothing is changed
        let mut same = bare.clone();
        assert!(!opt.extend(&mut same, bare.len() + 11));
        assert_eq!(same, bare);
        assert!(!opt.extend(&mut message(40), 512));
        // without options there is nothing to do
        assert!(Opt::default().extend(&mut message(40), 40));
    }
}
