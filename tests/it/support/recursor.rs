//! A scripted recursor: UDP and TCP on one loopback port, and a test's own answers.
//!
//! A script is a function from what was asked to the messages that are sent back, as bytes, so
//! that they may be anything. What was asked is remembered, with the port that it came from.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A listening recursor; it stops when this is dropped.
#[derive(Debug)]
pub struct Recursor {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Held for its drop, which ends the tasks.
    _serving: JoinSet<()>,
}

/// One question as it was seen.
#[derive(Clone, Debug)]
pub struct Question {
    /// The message, decoded.
    pub message: Message,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Whether over TCP.
    pub is_tcp: bool,
}

type Script = dyn Fn(&Question) -> Vec<Vec<u8>> + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Question>>,
    /// One permit for each question that may be answered.
    gate: Semaphore,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Recursor {
    /// Answers by `script`, at once.
    pub async fn start(script: impl Fn(&Question) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let recursor = Self::held(script).await;
        recursor.release(Semaphore::MAX_PERMITS);
        recursor
    }

    /// Answers by `script`, but each question only when it is released.
    pub async fn held(script: impl Fn(&Question) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let (script, seen) = (Box::new(script), Mutex::default());
        let shared = Arc::new(Shared { script, seen, gate: Semaphore::new(0) });
        let mut serving = JoinSet::new();
        serving.spawn(serve_udp(Arc::new(udp), Arc::clone(&shared)));
        serving.spawn(serve_tcp(tcp, Arc::clone(&shared)));
        Self { address, shared, _serving: serving }
    }

    /// Answers each question with `answer`'s message.
    pub async fn of(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> Self {
        Self::start(move |asked| vec![answer(&asked.message).to_vec().unwrap()]).await
    }

    /// Answers every question with `code` and nothing else.
    pub async fn saying(code: ResponseCode) -> Self {
        Self::of(move |query| reply_to(query, code)).await
    }

    /// Hears every question and says nothing.
    pub async fn silent() -> Self {
        Self::start(|_| Vec::new()).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Question> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `count` more questions be answered.
    pub fn release(&self, count: usize) {
        self.shared.gate.add_permits(count);
    }
}

/// A reply to `query` without records, with RA and, as an honest recursor, EDNS if it was there.
pub fn reply_to(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.checking_disabled = query.metadata.checking_disabled;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    if let Some(edns) = &query.edns {
        let mut own = hickory_proto::op::Edns::new();
        own.set_max_payload(1232).set_dnssec_ok(edns.flags().dnssec_ok);
        reply.set_edns(own);
    }
    reply
}

/// An address for documentation.
pub fn a(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(192, 0, 2, last)))
}

/// An answer of `data` for an hour, owned by the question.
pub fn answer(query: &Message, data: RData) -> Message {
    let mut reply = reply_to(query, ResponseCode::NoError);
    reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), 3600, data));
    reply
}

/// The port that the system chose for TCP may be taken over UDP.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut asked = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // An error is of an earlier send: nobody listened any more.
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        let bytes = buffer[..len].to_vec();
        asked.spawn(async move {
            for reply in shared.replies(&bytes, peer, false).await {
                let _ = socket.send_to(&reply, peer).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move { converse(stream, peer, &shared).await });
    }
}

async fn converse(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) -> Option<()> {
    loop {
        let len = stream.read_u16().await.ok()?;
        let mut bytes = vec![0; usize::from(len)];
        stream.read_exact(&mut bytes).await.ok()?;
        for reply in shared.replies(&bytes, peer, true).await {
            let len = u16::try_from(reply.len()).unwrap().to_be_bytes();
            stream.write_all(&[&len[..], &reply].concat()).await.ok()?;
        }
    }
}

impl Shared {
    async fn replies(&self, bytes: &[u8], peer: SocketAddr, is_tcp: bool) -> Vec<Vec<u8>> {
        let message = Message::from_vec(bytes).unwrap();
        assert_eq!(message.metadata.message_type, MessageType::Query);
        let question = Question { message, peer, is_tcp };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
        self.gate.acquire().await.unwrap().forget();
        (self.script)(&question)
    }
}
