//! How a question travels, and how thousands of them do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{DNSClass, RecordType};

use crate::differential::name::Labels;
use crate::differential::reply::Reply;
use crate::support::dns::{Tcp, Udp};

/// A way to ask.
#[allow(missing_docs, reason = "a way is what it is called")]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Carrier {
    Tcp,
    TcpEdns,
    Udp,
    UdpChaos,
    UdpCheckingDisabled,
    UdpCookie,
    UdpDnssecOk,
    UdpEdns(u16),
    UdpNoRecursion,
    UdpNotify,
    UdpStatus,
    UdpSubnet,
    UdpVersion1,
}

impl Carrier {
    /// Some way: a usual one, or one in ten times an odd one.
    pub fn any(rng: &mut Rng) -> Self {
        let ways = if rng.u8(..10) == 0 { &ODD[..] } else { &USUAL[..] };
        ways[rng.usize(..ways.len())]
    }

    /// Whether it is UDP.
    pub fn is_udp(self) -> bool {
        !matches!(self, Self::Tcp | Self::TcpEdns)
    }

    /// The size that the client sends in its OPT; `None` without one.
    pub fn edns_size(self) -> Option<u16> {
        match self {
            Self::UdpEdns(size) => Some(size),
            Self::TcpEdns
            | Self::UdpCookie
            | Self::UdpDnssecOk
            | Self::UdpSubnet
            | Self::UdpVersion1 => Some(1400),
            _ => None,
        }
    }

    /// The question as it goes out.
    pub fn message(self, id: u16, name: &Labels, qtype: RecordType) -> Message {
        let opcode = match self {
            Self::UdpNotify => OpCode::Notify,
            Self::UdpStatus => OpCode::Status,
            _ => OpCode::Query,
        };
        let mut message = Message::new(id, MessageType::Query, opcode);
        message.metadata.recursion_desired = self != Self::UdpNoRecursion;
        message.metadata.checking_disabled = self == Self::UdpCheckingDisabled;
        let mut query = Query::query(name.to_wire().expect("names were checked"), qtype);
        if self == Self::UdpChaos {
            query.set_query_class(DNSClass::CH);
        }
        message.add_query(query);
        if let Some(size) = self.edns_size() {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(self == Self::UdpDnssecOk);
            edns.set_version(u8::from(self == Self::UdpVersion1));
            if self == Self::UdpSubnet {
                let network = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));
                edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(network, 24, 0)));
            }
            if self == Self::UdpCookie {
                edns.options_mut().insert(EdnsOption::Unknown(10, b"8 bytes.".to_vec()));
            }
            message.set_edns(edns);
        }
        message
    }
}

/// A question: a name, a type and a way to ask.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Question {
    /// The name as it is asked.
    pub name: Labels,
    /// The type.
    pub qtype: RecordType,
    /// The way.
    pub carrier: Carrier,
}

/// Asks `server` all of `questions`; the replies come in their order.
pub async fn ask_all(server: SocketAddr, questions: &[Question]) -> Vec<Reply> {
    let mut by_way: HashMap<bool, Vec<usize>> = HashMap::new();
    for (at, question) in questions.iter().enumerate() {
        by_way.entry(question.carrier.is_udp()).or_default().push(at);
    }
    let mut replies: Vec<Option<Reply>> = questions.iter().map(|_| None).collect();
    for (is_udp, places) in by_way {
        let batches = stream::iter(places.chunks(BATCH)).map(async |places| {
            let batch: Vec<&Question> = places.iter().map(|at| &questions[*at]).collect();
            let replies = if is_udp {
                over_udp(server, &batch).await
            } else {
                over_tcp(server, &batch).await
            };
            places.iter().copied().zip(replies).collect::<Vec<_>>()
        });
        for (at, reply) in batches.buffered(BATCHES).collect::<Vec<_>>().await.concat() {
            replies[at] = Some(reply);
        }
    }
    replies.into_iter().map(|reply| reply.expect("each was asked")).collect()
}

async fn over_udp(server: SocketAddr, questions: &[&Question]) -> Vec<Reply> {
    let udp = Udp::connect(server).await;
    let mut replies = Vec::new();
    for (question, id) in questions.iter().zip(1..) {
        udp.send(&bytes(question, id)).await;
        replies.push(read(question, &udp.receive().await, id));
    }
    replies
}

async fn over_tcp(server: SocketAddr, questions: &[&Question]) -> Vec<Reply> {
    let mut tcp = Tcp::connect(server).await;
    let mut replies = Vec::new();
    for (question, id) in questions.iter().zip(1..) {
        tcp.send(&bytes(question, id)).await;
        let frame = tcp
            .receive()
            .await
            .unwrap_or_else(|| panic!("{server}: {question:?}, number {id}: no reply"));
        replies.push(Reply { len: 0, ..read(question, &frame, id) });
    }
    replies
}

fn bytes(question: &Question, id: u16) -> Vec<u8> {
    question.carrier.message(id, &question.name, question.qtype).to_vec().unwrap()
}

fn read(question: &Question, bytes: &[u8], id: u16) -> Reply {
    assert_eq!(bytes.get(..2), Some(&id.to_be_bytes()[..]), "{question:?}: another id");
    Reply::read(bytes).unwrap_or_else(|error| panic!("{question:?}: {error}: {bytes:02x?}"))
}

/// Fewer than the 128 that Consul answers on one connection.
const BATCH: usize = 100;

/// Sockets at once.
const BATCHES: usize = 6;

const USUAL: [Carrier; 12] = [
    Carrier::Tcp,
    Carrier::Tcp,
    Carrier::Tcp,
    Carrier::TcpEdns,
    Carrier::Udp,
    Carrier::Udp,
    Carrier::Udp,
    Carrier::UdpEdns(512),
    Carrier::UdpEdns(600),
    Carrier::UdpEdns(1232),
    Carrier::UdpEdns(4096),
    Carrier::UdpEdns(4096),
];

const ODD: [Carrier; 9] = [
    Carrier::UdpChaos,
    Carrier::UdpCheckingDisabled,
    Carrier::UdpCookie,
    Carrier::UdpDnssecOk,
    Carrier::UdpNoRecursion,
    Carrier::UdpNotify,
    Carrier::UdpStatus,
    Carrier::UdpSubnet,
    Carrier::UdpVersion1,
];
