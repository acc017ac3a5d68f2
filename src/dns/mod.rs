//! The sockets of DNS: bytes in, bytes out.
//!
//! A listener decides nothing about an answer. It hands what it read to [`Front::respond`], sends
//! the bytes that come back, and holds the limits: how many connections, how many queries at
//! once, how long.

pub mod accept;
pub mod batch;
pub mod certificate;
pub mod datagram;
pub mod descriptors;
pub mod exchange;
pub mod front;
pub mod hall;
pub mod handed;
pub mod https;
pub mod https3;
pub mod peer;
pub mod places;
pub mod pulse;
pub mod quic;
pub mod stream;
pub mod udp;

pub use certificate::Certificate;
pub use front::{Front, Limit, Limits, Parts};

/// The name of this machine, as far as it is one; empty where the system does not tell.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().chars().take(255).collect()
}
