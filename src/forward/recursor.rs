//! One recursor: a question goes out, a reply comes back, or the reason why none did.
//!
//! Each question has an id and a source port of its own, both drawn by hickory's generator, and a
//! reply counts only if it comes from the address asked and repeats id and question. UDP first,
//! once more at half the time; TCP where the reply was cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hickory_net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::DnsRequestSender;
use hickory_net::{DnsMultiplexer, NetError};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse};
use tokio::io::ReadBuf;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::forward::message::{self, Message};
use crate::forward::question::Question;
use crate::metrics::RecursorMetrics;
use crate::wire::rcode;

/// A recursor, and how patient we are with it.
#[derive(Clone, Debug)]
pub struct Recursor {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    /// How long it may take, over each of the two.
    pub timeout: Duration,
    /// Its own counts.
    pub metrics: RecursorMetrics,
}

/// Why a recursor gave no reply.
///
/// The next one is asked, whatever it is; it differs for the metrics and for what clients read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// What came is no reply to the question.
    Garbage,
    /// The system said that it cannot be reached.
    Network,
    /// Nothing came in time.
    Timeout,
}

impl Recursor {
    /// Asks `question`, offering `payload` as our size over UDP.
    ///
    /// # Errors
    ///
    /// Fails when no reply came; any response code is a reply.
    pub async fn ask(&self, question: &Question, payload: u16) -> Result<Message, Failure> {
        let since = Instant::now();
        let mut reply = self.exchange(question, Some(payload)).await;
        // RFC 6891 §7: so answers who has never heard of EDNS. And our version is the lowest there
        // is, so whoever knows EDNS and not that version is better asked without (§6.1.3).
        if reply.as_ref().is_ok_and(|reply| match reply.rcode() {
            rcode::FORMERR | rcode::NOTIMP => !reply.has_edns(),
            rcode => rcode == rcode::BADVERS,
        }) {
            reply = self.exchange(question, None).await;
        }
        self.metrics.duration.observe(since.elapsed().as_secs_f64());
        match &reply {
            Ok(reply) => self.metrics.count_reply(reply.rcode()),
            Err(failure) => self.metrics.count_failure(failure.as_str()),
        }
        reply
    }

    async fn exchange(&self, question: &Question, edns: Option<u16>) -> Result<Message, Failure> {
        let message = question.message(edns).ok_or(Failure::Garbage)?;
        let request = DnsRequest::new(message, DnsRequestOptions::default());
        let reply = self.read(self.ask_udp(request.clone(), question).await, question)?;
        if !reply.is_truncated() {
            return Ok(reply);
        }
        let over_tcp = timeout(self.timeout, self.ask_tcp(request, question)).await;
        let reply = self.read(over_tcp.unwrap_or(Err(NetError::Timeout)), question)?;
        if reply.is_truncated() { Err(Failure::Garbage) } else { Ok(reply) }
    }

    async fn ask_udp(
        &self,
        request: DnsRequest,
        question: &Question,
    ) -> Result<DnsResponse, NetError> {
        let half = u64::try_from(self.timeout.as_millis() / 2).unwrap_or(u64::MAX);
        let provider = Connecting::new(question);
        let mut stream = UdpClientStream::builder(self.address, provider)
            .with_timeout(Some(self.timeout))
            .with_max_retries(SENT_MAX)
            .with_retry_interval_floor(half)
            .build();
        // hickory's streams of replies end where the time is over.
        stream.send_message(request).next().await.unwrap_or(Err(NetError::Timeout))
    }

    async fn ask_tcp(
        &self,
        request: DnsRequest,
        question: &Question,
    ) -> Result<DnsResponse, NetError> {
        let provider = Connecting::new(question);
        let (connecting, sender) =
            TcpClientStream::new(self.address, None, Some(self.timeout), provider);
        let mut connection = DnsMultiplexer::new(connecting.await?, sender);
        let mut reply = connection.send_message(request);
        loop {
            // The connection moves only while it is polled.
            tokio::select! {
                biased;
                reply = reply.next() => return reply.unwrap_or(Err(NetError::Timeout)),
                moved = connection.next() => {
                    if moved.is_none() {
                        return reply.next().await.unwrap_or(Err(NetError::Timeout));
                    }
                }
            }
        }
    }

    fn read(
        &self,
        reply: Result<DnsResponse, NetError>,
        question: &Question,
    ) -> Result<Message, Failure> {
        let reply = reply.map_err(|error| {
            debug!(%error, recursor = %self.address, "no reply");
            Failure::of(&error)
        })?;
        Message::read(reply.as_buffer(), &question.bytes).ok_or(Failure::Garbage)
    }
}

impl Failure {
    fn of(error: &NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            NetError::Io(_) => Self::Network,
            _ => Self::Garbage,
        }
    }

    /// For the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Network => "network",
            Self::Timeout => "timeout",
        }
    }
}

/// tokio's runtime with UDP sockets of our own, for one question.
#[derive(Clone)]
struct Connecting {
    tokio: TokioRuntimeProvider,
    question: Arc<[u8]>,
}

impl Connecting {
    fn new(question: &Question) -> Self {
        Self { tokio: TokioRuntimeProvider::new(), question: question.bytes.as_slice().into() }
    }
}

impl RuntimeProvider for Connecting {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Connected;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        wait_for: Option<Duration>,
    ) -> BoxFuture<'static, io::Result<Self::Tcp>> {
        self.tokio.connect_tcp(server, bind, wait_for)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Self::Udp>> {
        let question = Arc::clone(&self.question);
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(Connected { socket, question })
        })
    }
}

/// A socket that takes datagrams of one server only, and notices at once where nobody listens: the
/// system then hands over the ICMP message as an error.
///
/// A reply without its question gets that back where it may do without: hickory would pass it over.
struct Connected {
    socket: UdpSocket,
    question: Arc<[u8]>,
}

impl DnsUdpSocket for Connected {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buf = ReadBuf::new(buf);
        let peer = ready!(self.socket.poll_recv_from(cx, &mut buf))?;
        let len = buf.filled().len();
        let len = message::put_question(buf.initialized_mut(), len, &self.question);
        Poll::Ready(Ok((len, peer)))
    }

    /// Not by polling, as it is by default: that is woken by datagrams only, not by errors.
    fn recv_from<'s, 'b, 'f>(
        &'s self,
        buf: &'b mut [u8],
    ) -> BoxFuture<'f, io::Result<(usize, SocketAddr)>>
    where
        's: 'f,
        'b: 'f,
        Self: 'f,
    {
        Box::pin(async {
            let (len, peer) = self.socket.recv_from(buf).await?;
            Ok((message::put_question(buf, len, &self.question), peer))
        })
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send_to(cx, buf, target)
    }
}

/// How often a question is sent over UDP: a lost datagram must not cost a recursor its turn.
const SENT_MAX: u8 = 2;
