//! A steady stream of questions, and the log of what became of each.
//!
//! It has a thread of its own: what the test does meanwhile must not look like a slow server.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::net::UdpSocket;
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
    log: Arc<Mutex<Vec<Exchange>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Asks `server` the `questions` in turn.
    pub fn start(server: SocketAddr, questions: Vec<Question>) -> Self {
        let (log, stop) = (Arc::default(), CancellationToken::new());
        let (writing, until) = (Arc::clone(&log), stop.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                until.run_until_cancelled(run(server, &questions, &writing)).await;
            });
        });
        Self { log, stop, thread: Some(thread) }
    }

    /// What became of the questions since this was asked last, but for those that are still open.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.cancel();
        let joined = self.thread.take().map(JoinHandle::join);
        if matches!(joined, Some(Err(_))) && !thread::panicking() {
            panic!("the stream panicked");
        }
    }
}

async fn run(server: SocketAddr, questions: &[Question], log: &Mutex<Vec<Exchange>>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open: HashMap<u16, Exchange> = HashMap::new();
    let mut buffer = vec![0; 4_096];
    let write = |exchange| log.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
    for id in (1..=u16::MAX).cycle() {
        let asked = usize::from(id) % questions.len();
        loop {
            tokio::select! {
                _ = ticks.tick() => break,
                received = socket.recv_from(&mut buffer) => {
                    // An error tells of a port that nobody has, and is no reply.
                    let Ok((count, _)) = received else { continue };
                    let Ok(message) = Message::from_vec(&buffer[..count]) else { continue };
                    if let Some(mut exchange) = open.remove(&message.metadata.id) {
                        exchange.reply = Some(Reply::of(&message, exchange.sent.elapsed()));
                        write(exchange);
                    }
                }
            }
        }
        let is_old = |exchange: &Exchange| exchange.sent.elapsed() > PATIENCE;
        open.extract_if(|_, exchange| is_old(exchange)).for_each(|(_, exchange)| write(exchange));
        let Question { name, qtype, .. } = &questions[asked];
        let mut query = with_edns(question(name, *qtype), 1232, false);
        query.metadata.id = id;
        let exchange = Exchange { question: asked, sent: Instant::now(), reply: None };
        open.insert(id, exchange);
        let _ = socket.send_to(&query.to_vec().unwrap(), server).await;
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
}

/// Between two questions.
const EVERY: Duration = Duration::from_millis(5);

/// A question that has no reply after this time gets none. Longer than any bound that is held.
pub const PATIENCE: Duration = Duration::from_secs(4);
