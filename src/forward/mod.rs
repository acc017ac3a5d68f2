//! Names that are not ours: asked of the recursors, and kept for as long as they said.
//!
//! ```text
//!   demands --> the cache has it ------------------------------------------> the client's reply
//!               somebody asked the same and waits: wait too                         ^
//!               the recursors, one after the other, until one has an answer --> cache
//! ```
//! A client's query and what comes of it are whole messages (`message`): nothing is resolved here,
//! and nothing left out. The same serves hosts of external services (`host`), whose addresses are
//! then put into answers of our own.
//!
//! One task owns everything, so there is no lock; what waits for the network are futures inside
//! it. It knows neither the zone nor the clients: what reaches it may be asked, and for whom, was
//! decided by the core.
//!
//! **Invariant:** a question is asked once at a time, however many wait for it. Questions under
//! way, those that wait, and the bytes that are kept all have a bound.

pub mod cache;
pub mod host;
pub mod message;
pub mod question;
pub mod recursor;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use prometheus::IntGauge;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{RecursionConfig, Strategy};
use crate::demand::{Demand, Supply, Wanted};
use crate::forward::cache::Cache;
use crate::forward::message::Message;
use crate::forward::question::{Key, Question};
use crate::forward::recursor::{Failure, Recursor};
use crate::metrics::ForwardMetrics;
use crate::wire::{Query, ede, rcode};

/// What answers for the rest of the world.
#[derive(Debug)]
pub struct Forwarder {
    posts: Vec<Post>,
    strategy: Strategy,
    /// Our size over UDP, towards recursors and clients.
    payload: u16,
    cache: Cache,
    /// Who waits for the answer to each question that is being asked.
    waiting: HashMap<Key, Vec<Waiter>>,
    asking: FuturesUnordered<BoxFuture<'static, (Key, Asked)>>,
    /// Questions being asked, or waiting to be.
    asking_max: usize,
    places: Arc<Semaphore>,
    /// How long a question may take, its wait for a place included.
    patience: Duration,
    metrics: ForwardMetrics,
}

/// A recursor, and when it was heard.
#[derive(Debug)]
struct Post {
    recursor: Recursor,
    replied_at: Option<Instant>,
    /// The last question without a reply, if none came to another meanwhile or since.
    silent_since: Option<Instant>,
}

/// Who waits for an answer.
#[derive(Debug)]
struct Waiter {
    asker: Asker,
    done: oneshot::Sender<Supply>,
}

/// For whom a question is asked.
#[derive(Debug)]
enum Asker {
    /// A client, by this query.
    Client(Vec<u8>),
    /// The core, for the records of this type of a host: its name, uncompressed.
    Host(Vec<u8>, u16),
}

/// What came of a question.
struct Asked {
    message: Arc<Message>,
    /// Each recursor that was asked.
    heard: Vec<Heard>,
}

/// What was heard of a recursor.
#[derive(Clone, Copy)]
struct Heard {
    /// Its place in the configuration.
    at: usize,
    asked_at: Instant,
    /// Why it did not reply; `None` if it did.
    failure: Option<Failure>,
}

impl Forwarder {
    /// Asks the recursors of `config`, offering and replying at most `payload` bytes over UDP.
    pub fn new(config: &RecursionConfig, payload: u16, metrics: ForwardMetrics) -> Self {
        let posts = config.recursors.iter().map(|address| Post {
            recursor: Recursor {
                address: *address,
                timeout: config.recursor_timeout,
                metrics: metrics.recursor(*address),
            },
            replied_at: None,
            silent_since: None,
        });
        Self {
            posts: posts.collect(),
            strategy: config.recursor_strategy,
            payload,
            cache: Cache::new(config.cache_bytes_max, metrics.clone()),
            waiting: HashMap::new(),
            asking: FuturesUnordered::new(),
            asking_max: config.waiting_max,
            places: Arc::new(Semaphore::new(config.in_flight_max)),
            patience: patience(config),
            metrics,
        }
    }

    /// Serves `demands` until `cancel`.
    pub async fn run(mut self, mut demands: mpsc::Receiver<Demand>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some((key, asked)) = self.asking.next(), if !self.asking.is_empty() => {
                    self.settle(key, asked);
                }
                demand = demands.recv() => match demand {
                    Some(demand) => self.meet(demand),
                    None => return cancel.cancelled().await,
                },
            }
        }
    }

    fn meet(&mut self, demand: Demand) {
        let Demand { wanted, done } = demand;
        let asked = match wanted {
            Wanted::Foreign { message } => {
                let question = Query::parse(&message).ok().map(|query| Question::of(&query));
                question.map(|question| (question, Asker::Client(message)))
            }
            Wanted::Host { name, rtype } => {
                let Some(question) = Question::of_host(&name, rtype) else { return };
                let name = question.name().to_vec();
                if let Some(supply) = host::local(&name, rtype) {
                    return drop(done.send(supply));
                }
                Some((question, Asker::Host(name, rtype)))
            }
            // The source's.
            Wanted::Datacenter { .. } | Wanted::Service { .. } => None,
        };
        // What is no question is dropped, and its query is told so.
        if let Some((question, asker)) = asked {
            self.answer_or_ask(question, Waiter { asker, done });
        }
    }

    fn answer_or_ask(&mut self, question: Question, waiter: Waiter) {
        let key = question.key();
        if let Some((message, age)) = self.cache.find(&key, Instant::now()) {
            self.metrics.hits.inc();
            return waiter.tell(&message, Some(age), self.payload);
        }
        let also_waiting: usize =
            self.waiting.values().map(|waiting| waiting.len().saturating_sub(1)).sum();
        if let Some(waiting) = self.waiting.get_mut(&key) {
            // Those whose patience has ended do not listen any more.
            waiting.retain(|waiter| !waiter.done.is_closed());
            if also_waiting >= self.asking_max && !waiting.is_empty() {
                return self.metrics.refused.inc();
            }
            self.metrics.merged.inc();
            return waiting.push(waiter);
        }
        if self.asking.len() >= self.asking_max {
            return self.metrics.refused.inc();
        }
        self.metrics.misses.inc();
        self.waiting.insert(key.clone(), vec![waiter]);
        let order = self.order(Instant::now());
        let (payload, places) = (self.payload, Arc::clone(&self.places));
        let in_flight = self.metrics.in_flight.clone();
        let patience = self.patience;
        let asking = async move {
            let asking = async {
                let _place = places.acquire().await;
                let _counted = Counted::new(in_flight);
                ask(&question, &order, payload).await
            };
            // A panic costs this one answer; it was logged.
            let asked = timeout(patience, AssertUnwindSafe(asking).catch_unwind()).await;
            let asked = asked.ok().and_then(Result::ok);
            (key, asked.unwrap_or_else(|| Asked::in_vain(&question, Vec::new(), &[])))
        };
        self.asking.push(asking.boxed());
    }

    /// The recursors as they are asked: those that lately did not reply come last.
    fn order(&self, now: Instant) -> Vec<(usize, Recursor)> {
        let mut order: Vec<usize> = (0..self.posts.len()).collect();
        if self.strategy == Strategy::Random {
            fastrand::shuffle(&mut order);
        }
        let is_resting = |at: &usize| {
            let since = self.posts.get(*at).and_then(|post| post.silent_since);
            since.is_some_and(|since| now.saturating_duration_since(since) < REST)
        };
        order.sort_by_key(is_resting);
        let post = |at: usize| Some((at, self.posts.get(at)?.recursor.clone()));
        order.into_iter().filter_map(post).collect()
    }

    fn settle(&mut self, key: Key, asked: Asked) {
        let now = Instant::now();
        for heard in asked.heard {
            if let Some(post) = self.posts.get_mut(heard.at) {
                post.note(heard, now);
            }
        }
        if !is_answer(asked.message.rcode()) {
            self.metrics.unanswered.inc();
        }
        for waiter in self.waiting.remove(&key).unwrap_or_default() {
            waiter.tell(&asked.message, None, self.payload);
        }
        self.cache.keep(key, &asked.message, now);
    }
}

impl Post {
    /// Notes what was heard, and logs where the recursor falls silent or is back.
    fn note(&mut self, heard: Heard, now: Instant) {
        let recursor = self.recursor.address;
        let Some(failure) = heard.failure else {
            self.replied_at = Some(now);
            if self.silent_since.take().is_some() {
                info!(%recursor, "a recursor replies again");
            }
            return;
        };
        // Where it replied to others meanwhile, the name is slow, not the recursor.
        let is_silent = self.replied_at.is_none_or(|replied_at| replied_at < heard.asked_at);
        if is_silent && self.silent_since.replace(now).is_none() {
            match failure {
                Failure::Garbage => warn!(
                    %recursor,
                    "a recursor replied with something that is no DNS message for the question"
                ),
                Failure::Network | Failure::Timeout => {
                    warn!(%recursor, failure = failure.as_str(), "a recursor does not reply");
                }
            }
        }
    }
}

impl Waiter {
    fn tell(self, message: &Message, age: Option<Duration>, payload: u16) {
        let supply = match &self.asker {
            Asker::Client(query) => match Query::parse(query) {
                Ok(query) => Supply::Message(message.reply(&query, age, payload)),
                Err(_) => return,
            },
            Asker::Host(name, rtype) => {
                host::records(message, name, *rtype, age.unwrap_or_default())
            }
        };
        // Its patience may have ended.
        drop(self.done.send(supply));
    }
}

impl Asked {
    /// SERVFAIL, since no recursor had an answer.
    fn in_vain(question: &Question, heard: Vec<Heard>, failures: &[Failure]) -> Self {
        let is_network = !failures.is_empty()
            && failures.iter().all(|failure| *failure == Failure::Network)
            && !heard.iter().any(|heard| heard.failure.is_none());
        let error = match (is_network, failures.contains(&Failure::Timeout)) {
            (true, _) => (ede::NETWORK_ERROR, "no recursor can be reached"),
            (false, true) => (ede::NO_REACHABLE_AUTHORITY, "no recursor answered in time"),
            (false, false) => (ede::NO_REACHABLE_AUTHORITY, "no recursor had an answer"),
        };
        Self { message: Arc::new(Message::failure(&question.bytes, error)), heard }
    }
}

/// Asks one recursor after the other, until one has an answer.
async fn ask(question: &Question, order: &[(usize, Recursor)], payload: u16) -> Asked {
    let (mut heard, mut failures) = (Vec::new(), Vec::new());
    let mut reasoned = None;
    for (at, recursor) in order {
        let asked_at = Instant::now();
        let reply = recursor.ask(question, payload).await;
        heard.push(Heard { at: *at, asked_at, failure: reply.as_ref().err().copied() });
        match reply {
            Ok(message) if is_answer(message.rcode()) => {
                return Asked { message: Arc::new(message), heard };
            }
            // As of a zone whose signatures are bad: the client is to know.
            Ok(message) if message.rcode() == rcode::SERVFAIL && message.has_reason() => {
                reasoned = Some(message);
            }
            Ok(_) => (),
            Err(failure) => failures.push(failure),
        }
    }
    match reasoned {
        Some(message) => Asked { message: Arc::new(message), heard },
        None => Asked::in_vain(question, heard, &failures),
    }
}

/// How long a question may take: each recursor over UDP and over TCP, and a moment for ourselves.
pub fn patience(config: &RecursionConfig) -> Duration {
    let turns = u32::try_from(config.recursors.len()).unwrap_or(u32::MAX).saturating_mul(2);
    config.recursor_timeout.saturating_mul(turns).saturating_add(MOMENT)
}

/// Counts one question as under way, also if it is dropped before its end.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether the next recursor could not know better. As in Consul, but that only those are passed
/// over that say nothing of the name: YXDOMAIN (RFC 6672 §2.2), for one, does.
fn is_answer(rcode: u16) -> bool {
    !matches!(
        rcode,
        rcode::FORMERR
            | rcode::SERVFAIL
            | rcode::NOTIMP
            | rcode::REFUSED
            | rcode::BADVERS
            | rcode::BADCOOKIE
    )
}

const MOMENT: Duration = Duration::from_millis(500);

/// How long a recursor that did not reply is asked last.
const REST: Duration = Duration::from_secs(10);
