//! A question for the addresses of a service over UDP, and what a reply to it says.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;

/// A query for the A records of a service, with the id 0.
pub fn question(service: &str) -> Vec<u8> {
    let mut query = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in [service, "service", "consul", ""] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\0\x01\0\x01");
    query
}

/// The addresses in a reply.
///
/// # Panics
///
/// When it is no message, or says anything but `NOERROR`.
pub fn addresses(reply: &[u8]) -> Vec<Ipv4Addr> {
    let message = Message::from_vec(reply).expect("a message");
    assert_eq!(message.metadata.response_code, ResponseCode::NoError, "{message}");
    let address = |data: &RData| match data {
        RData::A(address) => address.0,
        other => panic!("{other} for an address"),
    };
    message.answers.iter().map(|record| address(&record.data)).collect()
}

/// A socket that asks `server`, and gives up a reply after [`LOST`].
pub fn asking(server: SocketAddr) -> UdpSocket {
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let socket = UdpSocket::bind((own, 0)).expect("a socket");
    socket.connect(server).expect("an address to ask");
    socket.set_read_timeout(Some(LOST)).expect("a socket that gives up");
    socket
}

/// Asks `query` with `id`; the reply is what is given back of `reply`, `None` when it was lost.
pub fn ask<'r>(
    socket: &UdpSocket,
    query: &mut [u8],
    id: u16,
    reply: &'r mut [u8],
) -> Option<&'r [u8]> {
    query[..2].copy_from_slice(&id.to_be_bytes());
    socket.send(query).expect("a query that leaves");
    loop {
        let len = socket.recv(reply).ok()?;
        // An earlier one, that was given up, may come late.
        if len > 12 && reply[..2] == query[..2] {
            return Some(&reply[..len]);
        }
    }
}

/// When a datagram is taken for lost.
pub const LOST: Duration = Duration::from_millis(500);
