//! What is going on on one connection, and until when it may stay as it is.
//!
//! ```text
//!   a head or a frame begins      whole within the message timeout      else it is ended
//!   a body follows                whole within the same time            else it is ended
//!   nothing is asked              something is, within the idle time    else it is ended
//!   a reply is written            read within the idle time             else it is given up
//! ```
//! It is told what happens by the stream below HTTP and by the requests above, which run in tasks
//! of their own; the connection's own task looks here whenever it is woken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::ConnectionsConfig;
use crate::dns::https::LINGER;
use crate::dns::https::frames::Frames;
use crate::dns::places::Marker;
use crate::metrics::End;

/// What is known of a connection. Shared by all that serve it.
#[derive(Debug)]
pub(in crate::dns::https) struct Traffic {
    state: Mutex<State>,
    /// Told when replies have left.
    left: Notify,
    limits: ConnectionsConfig,
    marker: Marker,
}

#[derive(Debug)]
struct State {
    /// Given where HTTP/2 is spoken.
    frames: Option<Frames>,
    /// When the first byte came of something that is not whole.
    begun: Option<Instant>,
    /// When that came of the head that was whole last.
    head_begun: Option<Instant>,
    /// Requests so far.
    requests: usize,
    /// Requests whose head is whole and that have no response.
    open: usize,
    /// Of these, those that wait for something to be fetched.
    waiting: usize,
    /// Whether the body of one was not whole in time.
    is_late: bool,
    /// When the replies were written that have not left.
    unread: Vec<Instant>,
    unread_bytes: usize,
    /// Since when the stream takes nothing.
    stalled: Option<Instant>,
    /// When a query was answered last.
    used: Instant,
    /// Since when nothing is left to do, of one that is ending.
    rested: Option<Instant>,
    /// Whether it has ended.
    is_over: bool,
}

/// A request that has no response yet.
#[derive(Debug)]
pub(in crate::dns::https) struct Open {
    traffic: Arc<Traffic>,
    /// When it began to come.
    pub since: Instant,
}

/// A request that waits for something to be fetched.
#[derive(Debug)]
pub(in crate::dns::https) struct Fetching<'t>(&'t Traffic);

/// A reply that has not left yet.
struct Unread {
    reply: Bytes,
    since: Instant,
    traffic: Arc<Traffic>,
}

impl Traffic {
    /// A connection that has just begun.
    pub(in crate::dns::https) fn new(
        frames: Option<Frames>,
        limits: ConnectionsConfig,
        marker: Marker,
    ) -> Self {
        let state = State {
            frames,
            begun: None,
            head_begun: None,
            requests: 0,
            open: 0,
            waiting: 0,
            is_late: false,
            unread: Vec::new(),
            unread_bytes: 0,
            stalled: None,
            used: Instant::now(),
            rested: None,
            is_over: false,
        };
        Self { state: Mutex::new(state), left: Notify::new(), limits, marker }
    }

    /// Notes what was received.
    pub(in crate::dns::https) fn note_received(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.state().receive(bytes);
        }
    }

    /// Notes whether something waits until the stream takes more.
    pub(in crate::dns::https) fn note_sending(&self, is_stalled: bool) {
        let mut state = self.state();
        if is_stalled {
            state.stalled.get_or_insert_with(Instant::now);
        } else if state.stalled.take().is_some() {
            // Nothing is read meanwhile, so what had begun could not be whole.
            state.begun = state.begun.map(|_| Instant::now());
        }
    }

    /// Notes that the body of a request was not whole in time.
    pub(in crate::dns::https) fn note_late(&self) {
        self.state().is_late = true;
    }

    /// Notes that a query was answered.
    pub(in crate::dns::https) fn note_use(&self) {
        let mut state = self.state();
        state.used = Instant::now();
        if state.waiting == 0 {
            self.marker.touch();
        }
    }

    /// Notes a request whose head is whole, until that is dropped.
    pub(in crate::dns::https) fn open(self: &Arc<Self>) -> Open {
        let mut state = self.state();
        state.requests += 1;
        state.open += 1;
        // By HTTP/1 the head is all that has begun.
        let begun = if state.frames.is_some() { state.head_begun } else { state.begun.take() };
        let since = begun.unwrap_or_else(Instant::now);
        drop(state);
        Open { traffic: Arc::clone(self), since }
    }

    /// Notes that a request waits for something to be fetched, until that is dropped.
    pub(in crate::dns::https) fn fetch(&self) -> Fetching<'_> {
        self.state().waiting += 1;
        self.marker.hold();
        Fetching(self)
    }

    /// Waits until the client has read enough for one more reply to be made.
    ///
    /// # Errors
    ///
    /// Gives 503, to nobody, when the connection has ended meanwhile.
    pub(in crate::dns::https) async fn room(&self) -> Result<(), StatusCode> {
        loop {
            let left = self.left.notified();
            match self.state() {
                state if state.is_over => return Err(StatusCode::SERVICE_UNAVAILABLE),
                state if state.unread_bytes < self.limits.send_bytes_max => return Ok(()),
                _ => (),
            }
            left.await;
        }
    }

    /// Notes the end, before requests are told of it.
    pub(in crate::dns::https) fn close(&self) {
        self.state().is_over = true;
        self.left.notify_waiters();
    }

    /// `reply`, noted until it has left.
    pub(in crate::dns::https) fn send(self: &Arc<Self>, reply: Bytes) -> Bytes {
        if reply.is_empty() {
            return reply;
        }
        let since = Instant::now();
        let mut state = self.state();
        state.unread.push(since);
        state.unread_bytes += reply.len();
        drop(state);
        Bytes::from_owner(Unread { reply, since, traffic: Arc::clone(self) })
    }

    /// What ends the connection, whatever the time, by what was asked on it.
    pub(in crate::dns::https) fn end(&self) -> Option<End> {
        self.state().end(&self.limits)
    }

    /// Until when it may stay as it is, and what ends it then.
    ///
    /// While we are to act that is some time from now: it is asked again by then, since a request
    /// that is taken back ends in a task of its own, maybe when nobody is woken any more.
    pub(in crate::dns::https) fn deadline(&self) -> (Instant, End) {
        let (state, now) = (self.state(), Instant::now());
        if let Some(end) = state.end(&self.limits) {
            return (now, end);
        }
        let begun = state.begun.filter(|_| state.stalled.is_none());
        let message = begun.map(|begun| (begun + self.limits.message_timeout, End::Message));
        let unread = state.unread_since().map(|since| (since + self.limits.idle, End::Unread));
        let used = if state.open == 0 { state.used } else { now };
        let idle = (used + self.limits.idle, End::Idle);
        [unread, message].into_iter().flatten().fold(idle, |first, other| match other.0 < first.0 {
            true => other,
            false => first,
        })
    }

    /// The same, of one that `ending` ends: when all has been said, and heard.
    pub(in crate::dns::https) fn last_deadline(&self, ending: End) -> (Instant, End) {
        let (mut state, now) = (self.state(), Instant::now());
        let (unread_max, linger, busy) = match ending {
            // It was idle, and its place is another's.
            End::Crowded => (LINGER, Duration::ZERO, state.waiting),
            _ => (self.limits.idle, LINGER, state.open),
        };
        let unread = state.unread_since();
        state.rested = match unread.is_none() && busy == 0 {
            true => Some(state.rested.unwrap_or(now)),
            false => None,
        };
        match (unread, state.rested) {
            (Some(since), _) if ending == End::Crowded => (since + unread_max, ending),
            (Some(since), _) => (since + unread_max, End::Unread),
            (None, Some(rested)) => (rested + linger, ending),
            (None, None) => (now + LINGER, ending),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn receive(&mut self, bytes: &[u8]) {
        match &mut self.frames {
            Some(frames) => {
                let passed = frames.pass(bytes);
                if passed.ended {
                    self.head_begun = Some(self.begun.take().unwrap_or_else(Instant::now));
                }
                if passed.is_partial {
                    self.begun.get_or_insert_with(Instant::now);
                }
            }
            // What comes while a request is served is its body.
            None if self.open == 0 => {
                self.begun.get_or_insert_with(Instant::now);
            }
            None => (),
        }
    }

    fn end(&self, limits: &ConnectionsConfig) -> Option<End> {
        if self.is_late {
            return Some(End::Message);
        }
        (self.requests >= limits.connection_queries_max).then_some(End::Queries)
    }

    /// Since when the client has not read what it was sent.
    fn unread_since(&self) -> Option<Instant> {
        self.unread.iter().copied().chain(self.stalled).min()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.traffic.state().open -= 1;
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let Self(traffic) = self;
        let mut state = traffic.state();
        state.waiting -= 1;
        if state.waiting == 0 {
            traffic.marker.touch();
        }
    }
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.reply
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let mut state = self.traffic.state();
        if let Some(at) = state.unread.iter().position(|since| *since == self.since) {
            state.unread.swap_remove(at);
        }
        state.unread_bytes -= self.reply.len();
        drop(state);
        self.traffic.left.notify_waiters();
    }
}
