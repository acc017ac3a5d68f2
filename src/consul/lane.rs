//! One reqwest client of one address: over TLS a single connection with many streams.
//!
//! ```text
//!   unknown --a few at a time; one, where another lane has streams-->
//!                                a reply says: HTTP/2 --> as many streams as a connection takes
//!                                              HTTP/1.1 --> a connection each, so many of them
//! ```
//! Until the first reply nobody knows which of the two it is, and a hundred requests at once would
//! open a hundred connections before one of them turned out to be enough for all. When an address
//! fails it may be another that answers next, so that is forgotten.
//!
//! Knows nothing of what is asked.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use reqwest::Version;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::consul::address::AddressError;

/// A client, and what is known of its connection.
pub struct Lane {
    http: reqwest::Client,
    open: AtomicUsize,
    /// Those of them that Consul holds.
    held: AtomicUsize,
    spoken: AtomicU8,
    /// Told when the first reply is in.
    known: Notify,
    first: Semaphore,
}

/// A lane chosen for one request; counts as open until dropped.
pub struct Leased<'a> {
    lane: &'a Lane,
    /// Where a request takes a connection.
    _connection: Option<SemaphorePermit<'a>>,
    /// Where it is one of the first, until it has a connection.
    first: Option<SemaphorePermit<'a>>,
    /// Whether Consul holds it.
    is_held: bool,
}

impl Lane {
    /// With a client that opens nothing yet.
    ///
    /// # Errors
    ///
    /// Fails where the client cannot be set up.
    pub fn new(builder: reqwest::ClientBuilder) -> Result<Self, AddressError> {
        let http = builder.build().map_err(AddressError::Http)?;
        let first = Semaphore::new(FIRST_MAX);
        let (open, held, spoken) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU8::new(UNKNOWN));
        Ok(Self { http, open, held, spoken, known: Notify::new(), first })
    }

    /// How many requests are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Leases it at once, whatever its connections.
    pub fn lease(&self) -> Leased<'_> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Leased { lane: self, _connection: None, first: None, is_held: false }
    }

    /// Whether its last reply was in HTTP/2.
    pub fn has_streams(&self) -> bool {
        self.spoken.load(Ordering::Relaxed) == HTTP_2
    }

    /// Leases it once another stream, or another of these `connections`, can be had. Where
    /// `expects_streams`, one request opens the connection of all.
    pub async fn lease_secure<'a>(
        &'a self,
        connections: &'a Semaphore,
        expects_streams: bool,
    ) -> Leased<'a> {
        let places = if expects_streams { FIRST_MAX } else { 1 };
        // Counted from here on: those who wait for the first reply will be on its connection.
        let mut leased = self.lease();
        loop {
            // Registered before the look, so that a reply between the two is not missed.
            let known = self.known.notified();
            // The semaphores are never closed.
            match self.spoken.load(Ordering::Relaxed) {
                HTTP_1 => leased._connection = connections.acquire().await.ok(),
                HTTP_2 => (),
                _ => tokio::select! {
                    place = self.first.acquire_many(places as u32) => leased.first = place.ok(),
                    () = known => continue,
                },
            }
            return leased;
        }
    }
}

impl Leased<'_> {
    /// The client itself.
    pub fn http(&self) -> &reqwest::Client {
        &self.lane.http
    }

    /// Notes which HTTP a reply was in. Whether it is one whose connections have many streams.
    pub fn note(&self, version: Version) -> bool {
        let has_streams = version == Version::HTTP_2;
        self.lane.spoken.store(if has_streams { HTTP_2 } else { HTTP_1 }, Ordering::Relaxed);
        self.lane.known.notify_waiters();
        has_streams
    }

    /// Notes that its connection has been opened, though nothing came: Consul holds a query.
    pub fn settle(&mut self) {
        self.first = None;
        if !std::mem::replace(&mut self.is_held, true) {
            self.lane.held.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether Consul holds a query on another connection, or on another stream.
    pub fn has_held(&self) -> bool {
        self.lane.held.load(Ordering::Relaxed) > usize::from(self.is_held)
    }

    /// Notes that the connection broke.
    pub fn forget(&self) {
        self.lane.spoken.store(UNKNOWN, Ordering::Relaxed);
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        self.lane.open.fetch_sub(1, Ordering::Relaxed);
        self.lane.held.fetch_sub(usize::from(self.is_held), Ordering::Relaxed);
    }
}

/// Before the first reply: each may open a connection.
const FIRST_MAX: usize = 4;

const UNKNOWN: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    /// A lane that ten requests want, and those of them that have it.
    struct Queue {
        lane: Arc<Lane>,
        begun: Arc<AtomicUsize>,
        _tasks: JoinSet<()>,
    }

    impl Queue {
        fn new(connections: usize) -> Self {
            Self::of(10, connections, false)
        }

        fn of(count: usize, connections: usize, expects_streams: bool) -> Self {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured(crate::consul::tls::unused().unwrap());
            let lane = Arc::new(Lane::new(builder).unwrap());
            let connections = Arc::new(Semaphore::new(connections));
            let begun = Arc::new(AtomicUsize::new(0));
            let mut tasks = JoinSet::new();
            for _ in 0..count {
                let (lane, begun) = (Arc::clone(&lane), Arc::clone(&begun));
                let connections = Arc::clone(&connections);
                tasks.spawn(async move {
                    let _leased = lane.lease_secure(&connections, expects_streams).await;
                    begun.fetch_add(1, Ordering::Relaxed);
                    std::future::pending::<()>().await;
                });
            }
            Self { lane, begun, _tasks: tasks }
        }

        /// How many have begun once all had their turn.
        async fn begun(&self) -> usize {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.begun.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_few_find_out_whether_all_can_share_a_connection() {
        let queue = Queue::new(0);
        assert_eq!((queue.begun().await, queue.lane.open()), (4, 10));
        queue.lane.lease().note(Version::HTTP_2);
        assert_eq!(queue.begun().await, 10);
    }

    #[tokio::test]
    async fn where_others_have_streams_one_finds_out() {
        let queue = Queue::of(10, 0, true);
        assert_eq!(queue.begun().await, 1);
        queue.lane.lease().note(Version::HTTP_2);
        assert_eq!(queue.begun().await, 10);
    }

    #[tokio::test]
    async fn who_has_a_connection_and_waits_holds_up_nobody() {
        let lane = Queue::of(0, 0, false).lane;
        let none = Semaphore::new(0);
        let mut leased = Vec::new();
        for _ in 0..FIRST_MAX {
            leased.push(lane.lease_secure(&none, false).await);
        }
        assert!(!leased[1].has_held());
        leased[0].settle();
        assert!(leased[1].has_held() && !leased[0].has_held(), "none but its own");
        lane.lease_secure(&none, false).await;
        drop(leased.remove(0));
        assert!(!leased[0].has_held());
    }

    #[tokio::test]
    async fn where_each_takes_a_connection_there_are_so_many() {
        let queue = Queue::new(3);
        assert_eq!(queue.begun().await, 4);
        queue.lane.lease().note(Version::HTTP_11);
        assert_eq!(queue.begun().await, 4 + 3);
    }

    #[tokio::test]
    async fn after_a_failure_it_is_found_out_again() {
        let queue = Queue::new(0);
        queue.lane.lease().note(Version::HTTP_2);
        queue.lane.lease().forget();
        assert_eq!(queue.begun().await, 4);
    }
}
