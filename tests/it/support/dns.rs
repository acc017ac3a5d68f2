//! A DNS client that shares nothing with the server under test: hickory-proto reads and writes.
//!
//! Replies become text as a zone file has it ([`zone_text`]), so that a test shows what a person
//! would see. Bytes go out and come in unread where a test wants that: [`Udp`] and [`Tcp`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::Location;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::wait::within;

/// Asks over UDP as a plain stub does: recursion desired, no EDNS.
pub async fn ask(server: SocketAddr, name: &str, qtype: RecordType) -> Message {
    exchange(server, &question(name, qtype)).await
}

/// Asks over TCP, on a connection of its own.
pub async fn ask_tcp(server: SocketAddr, name: &str, qtype: RecordType) -> Message {
    pipeline(server, &[question(name, qtype)]).await.remove(0)
}

/// The addresses that `name` has for A, sorted as text; none where the answer is another.
pub async fn addresses(server: SocketAddr, name: &str) -> Vec<String> {
    let reply = zone_text(&ask(server, name, RecordType::A).await);
    let answers = reply.lines().filter(|line| line.starts_with("answer "));
    answers.filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect()
}

/// A query for `name`, whose letter case is kept, with recursion desired and no EDNS.
pub fn question(name: &str, qtype: RecordType) -> Message {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, qtype));
    message
}

/// The same query with EDNS: the largest reply its sender takes, and the DO bit.
pub fn with_edns(mut message: Message, payload_max: u16, dnssec_ok: bool) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload_max).set_dnssec_ok(dnssec_ok);
    message.set_edns(edns);
    message
}

/// Sends `query` over UDP and gives its reply.
pub async fn exchange(server: SocketAddr, query: &Message) -> Message {
    let udp = Udp::connect(server).await;
    udp.send(&query.to_vec().unwrap()).await;
    let reply = Message::from_vec(&udp.receive().await).unwrap();
    check_belongs(query, &reply);
    reply
}

/// Sends all `queries` on one TCP connection, then reads as many replies; in order of the queries.
///
/// The server may answer in any order; the ids of the queries must differ.
pub async fn pipeline(server: SocketAddr, queries: &[Message]) -> Vec<Message> {
    let mut tcp = Tcp::connect(server).await;
    for query in queries {
        tcp.send(&query.to_vec().unwrap()).await;
    }
    let mut replies = BTreeMap::new();
    for _ in queries {
        let frame = tcp.receive().await.expect("the server closed before it had answered all");
        let reply = Message::from_vec(&frame).unwrap();
        let twice = replies.insert(reply.metadata.id, reply);
        assert!(twice.is_none(), "two replies of one id: {twice:?}");
    }
    let reply_to = |query: &Message| {
        let reply = replies.remove(&query.metadata.id).expect("a query got no reply of its id");
        check_belongs(query, &reply);
        reply
    };
    queries.iter().map(reply_to).collect()
}

/// A UDP socket that exchanges datagrams with one server.
///
/// To see that a datagram gets no reply, send a good query behind it: what comes first counts.
#[derive(Debug)]
pub struct Udp(UdpSocket);

impl Udp {
    /// A fresh local port, connected to `server`.
    pub async fn connect(server: SocketAddr) -> Self {
        let local: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local).await.unwrap();
        socket.connect(server).await.unwrap();
        Self(socket)
    }

    /// Sends one datagram.
    pub async fn send(&self, datagram: &[u8]) {
        self.0.send(datagram).await.unwrap();
    }

    /// The next datagram.
    pub async fn receive(&self) -> Vec<u8> {
        let mut datagram = vec![0; 65_536];
        let len = within("a reply over UDP", self.0.recv(&mut datagram)).await.unwrap();
        datagram.truncate(len);
        datagram
    }
}

/// A TCP connection to one server, in frames of a two-byte length (RFC 1035 §4.2.2).
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl Tcp {
    /// Connects to `server`.
    pub async fn connect(server: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(server)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends `message` as one frame.
    pub async fn send(&mut self, message: &[u8]) {
        let len = u16::try_from(message.len()).expect("a frame holds at most 65535 bytes");
        self.send_raw(&[&len.to_be_bytes(), message].concat()).await;
    }

    /// Sends `bytes` as they are, without a length.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        within("room to send over TCP", self.0.write_all(bytes)).await.unwrap();
    }

    /// The same, for as long as the server takes them.
    pub async fn offer(&mut self, bytes: &[u8]) {
        within("room to send over TCP", self.0.write_all(bytes)).await.ok();
    }

    /// Says that nothing more will be sent, as `shutdown(2)` does; receiving goes on.
    pub async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Waits until the server has closed its side in order, after nothing more.
    ///
    /// # Panics
    ///
    /// When it sends something, or resets the connection.
    #[track_caller]
    pub fn ended(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let mut rest = [0; 1];
            let read = within("the end of a connection", self.0.read(&mut rest)).await;
            assert!(matches!(read, Ok(0)), "{caller}: no orderly end: {read:?}");
        }
    }

    /// The next frame without its length; `None` when the server has closed the connection.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        within("a frame over TCP", async {
            let len = self.0.read_u16().await.ok()?;
            let mut frame = vec![0; usize::from(len)];
            self.0.read_exact(&mut frame).await.ok()?;
            Some(frame)
        })
        .await
    }
}

/// `reply` as text: a line of its response code and flags, then a line for each record.
///
/// ```text
/// NOERROR aa rd
/// answer db.service.consul. 0 IN A 10.0.0.1
/// ```
///
/// Sections come in the order of the wire; within one, lines are sorted, since a server shuffles.
/// Names are in the letter case of the wire. EDNS is not shown: look at `reply.edns`.
pub fn zone_text(reply: &Message) -> String {
    let mut text = mnemonic(reply.metadata.response_code);
    let metadata = &reply.metadata;
    for (set, flag) in [
        (metadata.authoritative, "aa"),
        (metadata.truncation, "tc"),
        (metadata.recursion_desired, "rd"),
        (metadata.recursion_available, "ra"),
        (metadata.authentic_data, "ad"),
        (metadata.checking_disabled, "cd"),
    ] {
        if set {
            write!(text, " {flag}").unwrap();
        }
    }
    for (section, records) in [
        ("answer", &reply.answers),
        ("authority", &reply.authorities),
        ("additional", &reply.additionals),
    ] {
        let mut lines: Vec<String> = records.iter().map(record_text).collect();
        lines.sort();
        for line in lines {
            write!(text, "\n{section} {line}").unwrap();
        }
    }
    text
}

/// Why there is no answer (RFC 8914): the code and the text; the first, if there are several.
pub fn extended_error(reply: &Message) -> Option<String> {
    let option = reply.edns.as_ref()?.option(EdnsCode::Unknown(15))?;
    let EdnsOption::Unknown(_, bytes) = option else {
        return None;
    };
    let (code, text) = bytes.split_first_chunk::<2>()?;
    Some(format!("{} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(text)))
}

fn record_text(record: &Record) -> String {
    let owner = record.name.to_ascii();
    let (ttl, class, rtype) = (record.ttl, record.dns_class, record.record_type());
    format!("{owner} {ttl} {class} {rtype} {}", rdata_text(&record.data))
}

/// Hickory shows TXT without quotes, which hides where one string ends; the rest is as in a zone.
fn rdata_text(data: &RData) -> String {
    let RData::TXT(txt) = data else {
        return data.to_string();
    };
    let quoted = |string: &[u8]| {
        let text = String::from_utf8_lossy(string);
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let strings: Vec<String> = txt.txt_data.iter().map(|string| quoted(string)).collect();
    strings.join(" ")
}

/// The response code as in `dig`; hickory's own names are those in other case.
fn mnemonic(code: ResponseCode) -> String {
    // 16 is BADSIG in a TSIG record, which these messages have none of (RFC 6891 §9).
    let code = if code == ResponseCode::BADSIG { ResponseCode::BADVERS } else { code };
    format!("{code:?}").to_uppercase()
}

/// An id and a question that come back are what tells a reply from a stray packet.
#[track_caller]
fn check_belongs(query: &Message, reply: &Message) {
    assert_eq!(reply.metadata.message_type, MessageType::Response, "a query came back: {reply:?}");
    assert_eq!(reply.metadata.id, query.metadata.id, "the reply has another id: {reply:?}");
    assert_eq!(reply.queries, query.queries, "the reply has another question");
}
