//! Places for connections: how many there may be, in all and of one client, and who makes room.
//!
//! Where all places are taken, a newcomer gets that of the connection which has been idle the
//! longest, of a client that has the most. So a crowd of idle ones keeps nobody out, and a client
//! with many connections pushes out its own first. One that was of use a moment ago, or for which
//! something is being fetched, is left alone.
//!
//! **Invariant:** never more places are taken than there are. A connection that is told to go has
//! none any more, and does nothing but close.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::answer::Transport;
use crate::clock::Clock;
use crate::config::ConnectionsConfig;
use crate::metrics::{ConnectionMetrics, End};

/// All places, of all listeners. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Places(Arc<All>);

#[derive(Debug)]
struct All {
    taken: Mutex<Taken>,
    metrics: ConnectionMetrics,
    clock: Clock,
    max: usize,
    of_client_max: usize,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    seat: Arc<Seat>,
}

/// Notes use of a place without having it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Marker {
    seat: Arc<Seat>,
    clock: Clock,
}

/// What is known of a connection while it has its place.
#[derive(Debug)]
struct Seat {
    client: IpAddr,
    transport: Transport,
    /// When it was of use last, by the program's clock; [`BUSY`] while something is fetched for it.
    used_ms: AtomicU64,
    /// Told when it has to make room.
    crowded: CancellationToken,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_client: HashMap<IpAddr, Vec<Arc<Seat>>>,
}

impl Places {
    /// As many as `config` says.
    pub fn new(config: &ConnectionsConfig, metrics: ConnectionMetrics, clock: Clock) -> Self {
        Self(Arc::new(All {
            taken: Mutex::default(),
            metrics,
            clock,
            max: config.connections_max,
            of_client_max: config.client_connections_max,
        }))
    }

    /// A place for a connection from `client`. `None` where nobody can make room for it.
    pub fn take(&self, client: IpAddr, transport: Transport) -> Option<Place> {
        let (all, client) = (&*self.0, network(client));
        let now_ms = all.clock.now_ms();
        let mut taken = all.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = taken.by_client.get(&client).map_or(0, Vec::len);
        let has_room = of_client < all.of_client_max && taken.count < all.max;
        if !has_room {
            let leaving = match of_client < all.of_client_max {
                true => taken.idlest_of_many(now_ms),
                false => taken.by_client.get(&client).and_then(|seats| idlest(seats, now_ms)),
            };
            let Some(leaving) = leaving else {
                all.metrics.count_end(transport, End::Refused);
                return None;
            };
            taken.remove(&leaving);
            leaving.crowded.cancel();
        }
        let (used_ms, crowded) = (AtomicU64::new(now_ms), CancellationToken::new());
        let seat = Arc::new(Seat { client, transport, used_ms, crowded });
        taken.count += 1;
        taken.by_client.entry(client).or_default().push(Arc::clone(&seat));
        drop(taken);
        all.metrics.open(transport).inspect(|open| open.inc());
        Some(Place { places: self.clone(), seat })
    }
}

impl Place {
    /// What notes use of it, for those that serve the connection and do not own it.
    pub fn marker(&self) -> Marker {
        Marker { seat: Arc::clone(&self.seat), clock: self.places.0.clock }
    }

    /// Notes that the connection was of use.
    pub fn touch(&self) {
        self.seat.touch(&self.places.0.clock);
    }

    /// Notes that something is being fetched for it, so that it is left alone until the next touch.
    pub fn hold(&self) {
        self.seat.hold();
    }

    /// Resolves when the connection has to make room for another.
    pub async fn crowded(&self) {
        self.seat.crowded.cancelled().await;
    }

    /// Gives the place back and counts what ended the connection.
    pub fn end(self, end: End) {
        self.places.0.metrics.count_end(self.seat.transport, end);
    }
}

impl Marker {
    /// As [`Place::touch`].
    pub fn touch(&self) {
        self.seat.touch(&self.clock);
    }

    /// As [`Place::hold`].
    pub fn hold(&self) {
        self.seat.hold();
    }
}

impl Seat {
    fn touch(&self, clock: &Clock) {
        self.used_ms.store(clock.now_ms(), Ordering::Relaxed);
    }

    fn hold(&self) {
        self.used_ms.store(BUSY, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.seat);
        drop(taken);
        self.places.0.metrics.open(self.seat.transport).inspect(|open| open.dec());
    }
}

impl Taken {
    /// Nothing where it was removed before, to make room.
    fn remove(&mut self, seat: &Arc<Seat>) {
        let Some(seats) = self.by_client.get_mut(&seat.client) else { return };
        let Some(at) = seats.iter().position(|other| Arc::ptr_eq(other, seat)) else { return };
        seats.swap_remove(at);
        self.count -= 1;
        if seats.is_empty() {
            self.by_client.remove(&seat.client);
        }
    }

    /// Of the clients with the most connections that have one to spare.
    fn idlest_of_many(&self, now_ms: u64) -> Option<Arc<Seat>> {
        let most = |seats: &&Vec<Arc<Seat>>| std::cmp::Reverse(seats.len());
        let mut clients: Vec<_> = self.by_client.values().collect();
        clients.sort_by_key(most);
        // Of those with as many, the one that has been idle the longest.
        clients
            .chunk_by(|one, other| one.len() == other.len())
            .find_map(|equals| idlest(equals.iter().copied().flatten(), now_ms))
    }
}

fn idlest<'s>(seats: impl IntoIterator<Item = &'s Arc<Seat>>, now_ms: u64) -> Option<Arc<Seat>> {
    let used_ms = |seat: &&Arc<Seat>| seat.used_ms.load(Ordering::Relaxed);
    let idlest = seats.into_iter().min_by_key(used_ms)?;
    let is_idle = used_ms(&idlest).saturating_add(IDLE_MS_MIN) <= now_ms;
    is_idle.then(|| Arc::clone(idlest))
}

/// Whom an address belongs to: a host of IPv6 has a whole network of addresses (RFC 4291 §2.5.1).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

/// Later than any time.
const BUSY: u64 = u64::MAX;

/// A connection that was of use within this time makes no room.
const IDLE_MS_MIN: u64 = Duration::from_secs(1).as_millis() as u64;

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tokio::time;

    use super::*;

    fn places(max: usize, of_client_max: usize) -> Places {
        let metrics = ConnectionMetrics::register(&Registry::new()).unwrap();
        let config = ConnectionsConfig {
            connections_max: max,
            client_connections_max: of_client_max,
            ..ConnectionsConfig::default()
        };
        Places::new(&config, metrics, Clock::start())
    }

    fn take(places: &Places, client: &str) -> Option<Place> {
        places.take(client.parse().unwrap(), Transport::Tcp)
    }

    fn is_crowded(place: &Place) -> bool {
        place.seat.crowded.is_cancelled()
    }

    async fn seconds(secs: u64) {
        time::advance(Duration::from_secs(secs)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_idlest_of_the_client_with_the_most_makes_room() {
        let places = places(4, 4);
        let lone = take(&places, "10.0.0.1").unwrap();
        let (one, two, three) = (
            take(&places, "10.0.0.2").unwrap(),
            take(&places, "10.0.0.2").unwrap(),
            take(&places, "10.0.0.2").unwrap(),
        );
        assert!(take(&places, "10.0.0.3").is_none(), "all were of use just now");
        seconds(2).await;
        one.touch();
        three.touch();
        let newcomer = take(&places, "10.0.0.3").unwrap();
        let crowded = [&lone, &one, &two, &three, &newcomer].map(is_crowded);
        assert_eq!(crowded, [false, false, true, false, false]);
        // Its end gives back no place a second time.
        lone.touch();
        drop(two);
        assert!(take(&places, "10.0.0.4").is_none());
        drop(newcomer);
        assert!(take(&places, "10.0.0.4").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_enough_connections_pushes_out_its_own() {
        let places = places(9, 2);
        let other = take(&places, "10.0.0.1").unwrap();
        let first = take(&places, "2001:db8::1").unwrap();
        let second = take(&places, "2001:db8::ffff:2").unwrap();
        assert!(take(&places, "2001:db8::3").is_none(), "all of one network of 64 bits");
        seconds(2).await;
        first.hold();
        let third = take(&places, "2001:db8::3").unwrap();
        let crowded = [&other, &first, &second, &third].map(is_crowded);
        assert_eq!(crowded, [false, false, true, false]);
        assert!(take(&places, "2001:db8:0:1::1").is_some(), "another network");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_consul_is_left_alone() {
        let places = places(1, 1);
        let place = take(&places, "10.0.0.1").unwrap();
        place.hold();
        seconds(100).await;
        assert!(take(&places, "10.0.0.2").is_none());
        place.touch();
        assert!(take(&places, "10.0.0.2").is_none());
        seconds(1).await;
        assert!(take(&places, "10.0.0.2").is_some());
        assert!(is_crowded(&place));
    }
}
