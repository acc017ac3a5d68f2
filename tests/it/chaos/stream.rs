//! A steady stream of questions, and the log of what became of each.
//!
//! It has a thread of its own: what the test does meanwhile must not look like a slow server. Nor must
//! what the machine does, so an echo is asked beside: when that is late, everything is.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::time::{self, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::support::dns::{question, with_edns};

/// A question that is asked time and again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The name.
    pub name: String,
    /// A or SRV.
    pub qtype: RecordType,
    /// What is asked.
    pub kind: Kind,
}

/// What is asked, and so what may be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A name that Consul never had.
    Absent,
    /// A name that has instances all the while.
    Kept,
    /// The same, of a service that is fetched on demand.
    OnDemand,
}

/// A question that was asked once.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its place in the list of questions.
    pub question: usize,
    /// When it was sent.
    pub sent: Instant,
    /// `None` where none came.
    pub reply: Option<Reply>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How long it took.
    pub after: Duration,
    /// The response code.
    pub code: ResponseCode,
    /// How many records the answer has.
    pub answers: usize,
    /// The addresses among them.
    pub addresses: Vec<Ipv4Addr>,
}

/// A running stream; it ends when this is dropped.
#[derive(Debug)]
pub struct Stream {
    log: Arc<Mutex<Log>>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

/// What a stream has seen.
#[derive(Debug, Default)]
pub struct Log {
    /// The questions that are no longer open.
    pub exchanges: Vec<Exchange>,
    /// When the machine was busy, from and until.
    pub busy: Vec<(Instant, Instant)>,
}

impl Stream {
    /// Asks `server` the `questions` in turn.
    pub fn start(server: SocketAddr, questions: Vec<Question>) -> Self {
        let (log, stop) = (Arc::default(), CancellationToken::new());
        let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let echo_address = echo.local_addr().unwrap();
        let (writing, until) = (Arc::clone(&log), stop.clone());
        let asking = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let asking = run(server, echo_address, &questions, &writing);
                until.run_until_cancelled(asking).await;
            });
        });
        let until = stop.clone();
        let echoing = thread::spawn(move || send_back(&echo, &until));
        Self { log, stop, threads: vec![asking, echoing] }
    }

    /// What was seen since this was asked last.
    pub fn take(&self) -> Log {
        std::mem::take(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() && !thread::panicking() {
                panic!("the stream panicked");
            }
        }
    }
}

async fn run(
    server: SocketAddr,
    echo_address: SocketAddr,
    questions: &[Question],
    log: &Mutex<Log>,
) {
    let open = async || tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (socket, echo) = (open().await, open().await);
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open: HashMap<u16, Exchange> = HashMap::new();
    let (mut buffer, mut echoed) = (vec![0; 4_096], [0; 2]);
    let mut echoes = VecDeque::new();
    let log = || log.lock().unwrap_or_else(PoisonError::into_inner);
    for id in (1..=u16::MAX).cycle() {
        loop {
            tokio::select! {
                _ = ticks.tick() => break,
                received = echo.recv_from(&mut echoed) => {
                    let is_it = |(id, _): &(u16, Instant)| received.is_ok() && id.to_be_bytes() == echoed;
                    let Some(at) = echoes.iter().position(is_it) else { continue };
                    // Those before it are lost, as echoes come in order.
                    let Some((_, sent)) = echoes.drain(..=at).next_back() else { continue };
                    if sent.elapsed() > BUSY {
                        log().busy.push((sent, Instant::now()));
                    }
                }
                received = socket.recv_from(&mut buffer) => {
                    // An error tells of a port that nobody has, and is no reply.
                    let Ok((count, _)) = received else { continue };
                    let Ok(message) = Message::from_vec(&buffer[..count]) else { continue };
                    if let Some(mut exchange) = open.remove(&message.metadata.id) {
                        exchange.reply = Some(Reply::of(&message, exchange.sent.elapsed()));
                        log().exchanges.push(exchange);
                    }
                }
            }
        }
        let is_old = |exchange: &Exchange| exchange.sent.elapsed() > PATIENCE;
        let old = open.extract_if(|_, exchange| is_old(exchange));
        old.for_each(|(_, exchange)| log().exchanges.push(exchange));
        let asked = usize::from(id) % questions.len();
        let exchange = Exchange { question: asked, sent: Instant::now(), reply: None };
        open.insert(id, exchange);
        let _ = socket.send_to(&questions[asked].message(id), server).await;
        echoes.push_back((id, Instant::now()));
        let _ = echo.send_to(&id.to_be_bytes(), echo_address).await;
    }
}

/// Sends every datagram back.
fn send_back(echo: &UdpSocket, until: &CancellationToken) {
    echo.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 2];
    while !until.is_cancelled() {
        if let Ok((count, peer)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..count], peer);
        }
    }
}

impl Reply {
    fn of(message: &Message, after: Duration) -> Self {
        let address = |data: &RData| match data {
            RData::A(address) => Some(address.0),
            _ => None,
        };
        Self {
            after,
            code: message.metadata.response_code,
            answers: message.answers.len(),
            addresses: message.answers.iter().filter_map(|record| address(&record.data)).collect(),
        }
    }
}

impl Question {
    /// A question for `name`.
    pub fn new(kind: Kind, name: &str, qtype: RecordType) -> Self {
        Self { name: name.to_owned(), qtype, kind }
    }

    /// The query for it.
    fn message(&self, id: u16) -> Vec<u8> {
        let mut query = with_edns(question(&self.name, self.qtype), 1232, false);
        query.metadata.id = id;
        query.to_vec().unwrap()
    }
}

/// Between two questions.
const EVERY: Duration = Duration::from_millis(5);

/// An echo that takes longer says that the machine has other things to do.
const BUSY: Duration = Duration::from_millis(25);

/// A question that has no reply after this time gets none. Longer than any bound that is held.
pub const PATIENCE: Duration = Duration::from_secs(4);
