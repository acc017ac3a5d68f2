//! The subcommands, a file each. They print; what they say is decided below.

pub mod check;
pub mod completions;
pub mod demo;
pub mod explain;
pub mod files;
pub mod import;
pub mod man;
pub mod serve;
pub mod verify;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// As a client of this machine reaches it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
