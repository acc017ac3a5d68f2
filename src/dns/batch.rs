//! Datagrams by the batch: as many as are queued in one system call, all replies in another.
//!
//! ```text
//!   recvmmsg   waits for one, takes what else is there     queries, peers, addresses asked
//!              each is answered in its place               replies, by swapping buffers
//!   sendmmsg   all, those from one address together        what cannot be sent is counted
//! ```
//! **Hot.** All buffers are made once; per query nothing is allocated and only the peer's address
//! is copied.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmmsg,
};

use crate::dns::datagram::{self, Datagrams, Route};

/// Room for datagrams that are received together, and for their replies.
#[derive(Debug)]
pub struct Batch {
    receiving: MultiHeaders<SockaddrStorage>,
    /// Of its own: the system writes the lengths that it has found into the other.
    sending: MultiHeaders<SockaddrStorage>,
    queries: Box<[[u8; QUERY_MAX]]>,
    arrived: Vec<Arrival>,
    /// One for each query, empty where there is none.
    replies: Box<[Vec<u8>]>,
}

/// How a datagram came.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    len: usize,
    peer: SockaddrStorage,
    local: Option<IpAddr>,
}

impl Batch {
    /// Room for [`BATCH_MAX`] datagrams of `socket`.
    pub fn new(socket: &Datagrams) -> Self {
        let space = || match (socket.address(), socket.unspecified()) {
            (Some(_), _) => None,
            (None, IpAddr::V4(_)) => Some(nix::cmsg_space!(libc::in_pktinfo)),
            (None, IpAddr::V6(_)) => Some(nix::cmsg_space!(libc::in6_pktinfo)),
        };
        Self {
            receiving: MultiHeaders::preallocate(BATCH_MAX, space()),
            sending: MultiHeaders::preallocate(BATCH_MAX, space()),
            queries: vec![[0; QUERY_MAX]; BATCH_MAX].into_boxed_slice(),
            arrived: Vec::with_capacity(BATCH_MAX),
            replies: vec![Vec::new(); BATCH_MAX].into_boxed_slice(),
        }
    }

    /// Waits for a datagram, and takes with it those that are queued behind it. Returns how many.
    ///
    /// # Errors
    ///
    /// Fails when nothing came in time, or when the system says so.
    pub fn receive(&mut self, socket: &Datagrams) -> io::Result<usize> {
        let Self { receiving, queries, arrived, replies, .. } = self;
        arrived.clear();
        replies.iter_mut().for_each(Vec::clear);
        let mut rest = queries.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH_MAX] = std::array::from_fn(|_| {
            let room = rest.next().map_or(&mut [][..], |query| &mut query[..]);
            [IoSliceMut::new(room)]
        });
        let fd = socket.as_raw_fd();
        let received = recvmmsg(fd, receiving, &mut slices, socket.waiting(), None)?;
        arrived.extend(received.map(|message| Arrival::of(&message, socket.address())));
        Ok(arrived.len())
    }

    /// The datagram at `at`, and where it came from. `None` past the last.
    pub fn query(&self, at: usize) -> Option<(&[u8], Route)> {
        let arrival = self.arrived.get(at)?;
        let query = self.queries.get(at)?.get(..arrival.len)?;
        let peer = datagram::socket_address(&arrival.peer)?;
        Some((query, Route { peer, local: arrival.local }))
    }

    /// Takes the reply to the datagram at `at`; a buffer without use comes back in its place.
    pub fn reply(&mut self, at: usize, reply: &mut Vec<u8>) {
        if let Some(place) = self.replies.get_mut(at) {
            std::mem::swap(place, reply);
        }
    }

    /// Sends all replies. Returns how many could not be sent, and why the last of them.
    pub fn send(&mut self, socket: &Datagrams) -> Option<(usize, io::Error)> {
        let mut failed = None;
        let mut at = 0;
        while at < self.arrived.len() {
            let local = self.arrived.get(at).and_then(|arrival| arrival.local);
            let is_alike =
                |arrival: &&Arrival| socket.address().is_some() || arrival.local == local;
            let rest = self.arrived.get(at..).unwrap_or_default();
            let end = at + rest.iter().take_while(is_alike).count();
            self.send_alike(socket, at..end, local, &mut failed);
            at = end;
        }
        failed
    }

    /// Sends those of `range`, all from `local`.
    fn send_alike(
        &mut self,
        socket: &Datagrams,
        range: std::ops::Range<usize>,
        local: Option<IpAddr>,
        failed: &mut Option<(usize, io::Error)>,
    ) {
        let Self { sending, arrived, replies, .. } = self;
        let pairs = arrived.iter().zip(replies.iter()).skip(range.start).take(range.len());
        let pairs = pairs.filter(|(_, reply)| !reply.is_empty());
        let mut slices = [[IoSlice::new(&[])]; BATCH_MAX];
        let mut peers = [None; BATCH_MAX];
        let mut count = 0;
        for ((arrival, reply), (slice, peer)) in pairs.zip(slices.iter_mut().zip(peers.iter_mut()))
        {
            *slice = [IoSlice::new(reply)];
            *peer = Some(arrival.peer);
            count += 1;
        }
        let mut begun = 0;
        while begun < count {
            let (slices, peers) = (slices.get(begun..count), peers.get(begun..count));
            let (slices, peers) = (slices.unwrap_or_default(), peers.unwrap_or_default());
            match send_some(socket, sending, slices, peers, local) {
                // It stopped at one that it could not send, and says why when that is the first.
                Ok(sent) => begun += sent.max(1),
                Err(error) => {
                    let failures = failed.take().map_or(0, |(failures, _)| failures);
                    *failed = Some((failures + 1, error));
                    begun += 1;
                }
            }
        }
    }
}

impl Arrival {
    fn of(message: &RecvMsg<'_, '_, SockaddrStorage>, bound: Option<IpAddr>) -> Self {
        let local = bound.or_else(|| local_of(message));
        // One without a sender has nobody to be answered, and is too short for that.
        let nobody = || (0, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into());
        let (len, peer) = message.address.map_or_else(nobody, |peer| (message.bytes, peer));
        Self { len, peer, local }
    }
}

/// The address that was asked, as the system tells it.
fn local_of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<IpAddr> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
        }
        _ => None,
    })
}

/// Sends some, from the first on. Returns how many.
fn send_some(
    socket: &Datagrams,
    sending: &mut MultiHeaders<SockaddrStorage>,
    slices: &[[IoSlice<'_>; 1]],
    peers: &[Option<SockaddrStorage>],
    local: Option<IpAddr>,
) -> io::Result<usize> {
    // Whoever is slow to take a reply must not hold up the others.
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    if socket.address().is_some() {
        return Ok(sendmmsg(fd, sending, slices, peers, [], flags)?.count());
    }
    // Where the system did not tell, it chooses: the headers have room that must not stay empty.
    let from = local.unwrap_or_else(|| socket.unspecified());
    let count = match from {
        IpAddr::V4(ip) => {
            let info = datagram::info_v4(ip);
            let from = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmmsg(fd, sending, slices, peers, from, flags)?.count()
        }
        IpAddr::V6(ip) => {
            let info = datagram::info_v6(ip);
            let from = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmmsg(fd, sending, slices, peers, from, flags)?.count()
        }
    };
    Ok(count)
}

/// Datagrams of one batch. More save less: the system calls are then a small part of the whole.
pub const BATCH_MAX: usize = 32;

/// The largest query that is read whole. None that is sound is larger than what we say we take.
const QUERY_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn client(ip: &str, server: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(server).unwrap();
        client
    }

    fn received(client: &UdpSocket) -> String {
        let mut buffer = [0; 64];
        let len = client.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    /// Answers each of a batch with its own text and `!`, but what begins with a dash.
    fn answer(batch: &mut Batch, server: &Datagrams) {
        let count = batch.receive(server).unwrap();
        for at in 0..count {
            let (query, _) = batch.query(at).unwrap();
            if !query.starts_with(b"-") {
                let mut reply = [query, b"!"].concat();
                batch.reply(at, &mut reply);
            }
        }
        assert!(batch.query(count).is_none());
        assert!(batch.send(server).is_none());
    }

    #[test]
    fn each_is_answered_where_it_came_from_and_from_where_it_was_asked() {
        for (bound, ips) in [
            ("127.0.0.1:0", ["127.0.0.1", "127.0.0.1"]),
            // Connected clients take replies from the address that they asked only.
            ("0.0.0.0:0", ["127.0.0.1", "127.0.0.9"]),
            ("[::1]:0", ["::1", "::1"]),
            ("[::]:0", ["::1", "::1"]),
        ] {
            let Ok(server) = Datagrams::bind(bound.parse().unwrap(), PATIENCE) else {
                // A machine without IPv6 cannot be asked over it.
                assert!(bound.starts_with('['), "{bound}");
                continue;
            };
            let port = server.local_addr().unwrap().port();
            let to = |ip: &str| client(ip, (ip.parse::<IpAddr>().unwrap(), port).into());
            let clients = [to(ips[0]), to(ips[1]), to(ips[0]), to(ips[1])];
            let mut batch = Batch::new(&server);
            for round in 0..3 {
                for (number, client) in clients.iter().enumerate() {
                    client.send(format!("{round}.{number}").as_bytes()).unwrap();
                    client.send(b"- nothing for this one").unwrap();
                }
                answer(&mut batch, &server);
                for (number, client) in clients.iter().enumerate() {
                    assert_eq!(received(client), format!("{round}.{number}!"), "{bound}");
                }
            }
        }
    }

    #[test]
    fn more_than_a_batch_takes_are_left_for_the_next() {
        let server = Datagrams::bind("127.0.0.1:0".parse().unwrap(), PATIENCE).unwrap();
        let client = client("127.0.0.1", server.local_addr().unwrap());
        for number in 0..BATCH_MAX + 3 {
            client.send(format!("{number}").as_bytes()).unwrap();
        }
        let mut batch = Batch::new(&server);
        assert_eq!(batch.receive(&server).unwrap(), BATCH_MAX);
        assert_eq!(batch.receive(&server).unwrap(), 3);
        assert_eq!(batch.query(0).unwrap().0, b"32");
    }

    #[test]
    fn a_reply_that_cannot_be_sent_is_told_and_costs_no_other() {
        let server = Datagrams::bind("127.0.0.1:0".parse().unwrap(), PATIENCE).unwrap();
        let client = client("127.0.0.1", server.local_addr().unwrap());
        for _ in 0..3 {
            client.send(b"query").unwrap();
        }
        let mut batch = Batch::new(&server);
        assert_eq!(batch.receive(&server).unwrap(), 3);
        batch.reply(0, &mut b"first".to_vec());
        // No datagram is as large.
        batch.reply(1, &mut vec![0; 70_000]);
        batch.reply(2, &mut b"last".to_vec());
        let (failures, error) = batch.send(&server).unwrap();
        assert_eq!((failures, error.raw_os_error()), (1, Some(libc::EMSGSIZE)));
        assert_eq!([received(&client), received(&client)], ["first", "last"]);
    }

    #[test]
    fn a_datagram_that_is_too_large_is_cut() {
        let server = Datagrams::bind("127.0.0.1:0".parse().unwrap(), PATIENCE).unwrap();
        let client = client("127.0.0.1", server.local_addr().unwrap());
        client.send(&[7; QUERY_MAX + 1]).unwrap();
        let mut batch = Batch::new(&server);
        assert_eq!(batch.receive(&server).unwrap(), 1);
        assert_eq!(batch.query(0).unwrap().0, [7; QUERY_MAX]);
    }
}
