//! Who is at the other end of a listener.

use std::net::IpAddr;

use tokio::time::Instant;

use crate::answer::{Asked, Outcome, Transport, Turn};
use crate::tap::{Exchange, Tap};

/// Who is at the other end, and how it asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// How its queries come.
    pub transport: Transport,
    /// Its address.
    pub client: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// The address that it asks, where that is known.
    pub local: Option<IpAddr>,
    /// The port that it asks.
    pub local_port: u16,
}

impl Peer {
    /// What it asks with `query`, for the first time.
    pub fn asked<'q>(&self, query: &'q [u8], now_ms: u64) -> Asked<'q> {
        Asked {
            bytes: query,
            transport: self.transport,
            client: self.client,
            local: self.local,
            seed: fastrand::u64(..),
            now_ms,
            turn: Turn::First,
            near: None,
            hosts: &[],
        }
    }

    /// Tells `tap` of its query and the reply. What is not answered is not told of.
    #[cold]
    pub fn tell(
        &self,
        tap: &Tap,
        (query, reply): (&[u8], &[u8]),
        outcome: &Outcome<'_>,
        since: Instant,
        has_waited: bool,
    ) {
        let Outcome::Replied(replied) = outcome else { return };
        tap.tell(&Exchange {
            query,
            reply,
            replied,
            transport: self.transport,
            client: (self.client, self.client_port),
            local: (self.local, self.local_port),
            since,
            has_waited,
        });
    }
}
