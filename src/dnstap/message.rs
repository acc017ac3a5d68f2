//! What a frame holds: a message of dnstap, in the encoding of protocol buffers.
//!
//! ```text
//!   Dnstap   identity 1, version 2, message 14, type 15
//!   Message  type 1, family 2, protocol 3, addresses 4 and 5, ports 6 and 7,
//!            query: time 8 and 9, bytes 10     response: time 12 and 13, bytes 14
//!            HTTP version 16
//! ```
//! The numbers are those of `dnstap.proto` (dnstap.info). Two flat messages of which we only write
//! some fields are less to encode than to declare, so there is no library behind this; a consumer of
//! others' making reads it back in the tests.

use std::net::IpAddr;
use std::time::Duration;

use crate::answer::Transport;
use crate::tap::Record;

/// Writes messages in the name of one server.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Who says it, and which program of which version: the beginning of each.
    origin: Vec<u8>,
    /// The inner message, until its length is known.
    inner: Vec<u8>,
}

/// What has become of one query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// It came: `AUTH_QUERY`.
    Query,
    /// It was answered: `AUTH_RESPONSE`.
    Response,
}

impl Writer {
    /// Says `identity` and `version` in each message.
    pub fn new(identity: &str, version: &str) -> Self {
        let mut origin = Vec::new();
        put_bytes(&mut origin, 1, identity.as_bytes());
        put_bytes(&mut origin, 2, version.as_bytes());
        Self { origin, inner: Vec::new() }
    }

    /// Appends to `out` the message that says `event` of `record`, whose query came at `came` since
    /// 1970. Both messages of a record must be told the same: by that they are matched.
    pub fn put(&mut self, out: &mut Vec<u8>, event: Event, record: &Record, came: Duration) {
        let Self { origin, inner } = self;
        inner.clear();
        put_number(inner, 1, if event == Event::Query { 1 } else { 2 });
        let (client, client_port) = record.client;
        put_number(inner, 2, if client.is_ipv4() { 1 } else { 2 });
        let (protocol, http) = protocol(record.transport);
        put_number(inner, 3, protocol);
        put_address(inner, 4, client);
        let (local, local_port) = record.local;
        if let Some(local) = local {
            put_address(inner, 5, local);
        }
        put_number(inner, 6, client_port.into());
        put_number(inner, 7, local_port.into());
        put_time(inner, 8, came);
        match event {
            Event::Query => put_bytes(inner, 10, &record.query),
            Event::Response => {
                put_time(inner, 12, came.saturating_add(record.took));
                put_bytes(inner, 14, &record.reply);
            }
        }
        if let Some(http) = http {
            put_number(inner, 16, http);
        }
        out.extend_from_slice(origin);
        put_bytes(out, 14, inner);
        // The one type that there is.
        put_number(out, 15, 1);
    }
}

/// The protocol, and the version of HTTP where there is one that is known.
fn protocol(transport: Transport) -> (u64, Option<u64>) {
    match transport {
        Transport::Udp => (1, None),
        Transport::Tcp => (2, None),
        Transport::Tls => (3, None),
        // HTTP/2 or HTTP/1.1.
        Transport::Https => (4, None),
        Transport::Https3 => (4, Some(3)),
        Transport::Quic => (7, None),
    }
}

fn put_address(out: &mut Vec<u8>, field: u32, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => put_bytes(out, field, &ip.octets()),
        IpAddr::V6(ip) => put_bytes(out, field, &ip.octets()),
    }
}

/// Seconds in this field, and what is beyond them in the next.
fn put_time(out: &mut Vec<u8>, field: u32, time: Duration) {
    put_number(out, field, time.as_secs());
    put_key(out, field + 1, WIRE_FIXED32);
    out.extend_from_slice(&time.subsec_nanos().to_le_bytes());
}

fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_key(out, field, WIRE_VARINT);
    put_varint(out, number);
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(out, field, WIRE_BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

/// Seven bits a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

const WIRE_VARINT: u32 = 0;
const WIRE_BYTES: u32 = 2;
const WIRE_FIXED32: u32 = 5;

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn numbers_are_written_seven_bits_a_byte() {
        // The examples of the encoding's own documentation, and the bounds.
        for (number, expected) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (150, &[0x96, 1]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(out, expected, "{number}");
        }
    }

    #[test]
    fn fields_have_their_number_and_kind() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 150);
        put_bytes(&mut out, 2, b"testing");
        put_time(&mut out, 8, Duration::new(3, 0x0102_0304));
        put_number(&mut out, 16, 3);
        let expected = b"\x08\x96\x01\x12\x07testing\x40\x03\x4d\x04\x03\x02\x01\x80\x01\x03";
        assert_eq!(out, expected);
    }

    #[test]
    fn messages_have_what_there_is_to_say() {
        let record = Record {
            query: b"ask".to_vec(),
            reply: b"told".to_vec(),
            reply_bytes: 4,
            transport: Transport::Https3,
            client: (IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), 300),
            local: (None, 443),
            since: Instant::now(),
            took: Duration::from_nanos(5),
            rcode: 0,
            is_truncated: false,
            is_stale: false,
            has_waited: false,
        };
        let mut writer = Writer::new("me", "v");
        let came = Duration::new(2, 7);
        let address = b"\x22\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        let ports_and_time = b"\x30\xac\x02\x38\xbb\x03\x40\x02\x4d\x07\0\0\0";
        let inner = |event: u8, rest: &[u8]| {
            let head = [0x08, event, 0x10, 2, 0x18, 4];
            [&head[..], address, ports_and_time, rest, b"\x80\x01\x03"].concat()
        };
        let response = b"\x60\x02\x6d\x0c\0\0\0\x72\x04told";
        for (event, inner) in
            [(Event::Query, inner(1, b"\x52\x03ask")), (Event::Response, inner(2, response))]
        {
            let mut out = Vec::new();
            writer.put(&mut out, event, &record, came);
            let len = [inner.len() as u8];
            let expected = [b"\x0a\x02me\x12\x01v\x72", &len[..], &inner, b"\x78\x01"].concat();
            assert_eq!(out, expected, "{event:?}");
        }
    }
}
