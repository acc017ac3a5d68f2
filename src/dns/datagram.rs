//! A UDP socket that answers from the address that was asked.
//!
//! A socket bound to one address has no choice. One bound to a wildcard (`0.0.0.0`, `[::]`) is
//! told the address of each datagram (`IP_PKTINFO`, `IPV6_RECVPKTINFO`) and names it again when
//! it replies; else the system would choose, and a client on a host with several addresses would
//! drop the reply of a stranger.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// One UDP socket.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    /// What it is bound to; `None` for a wildcard.
    address: Option<IpAddr>,
    unspecified: IpAddr,
    is_stopping: AtomicBool,
}

/// Where a datagram came from, and where it went to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// The client.
    pub peer: SocketAddr,
    /// The address that was asked; `None` if the system did not tell.
    pub local: Option<IpAddr>,
}

impl Datagrams {
    /// Opens a socket on `address` that others of ours may share.
    ///
    /// A receive ends after `pause` if nothing comes, so that a quiet socket can be stopped.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses it: the operator's to mend.
    pub fn bind(address: SocketAddr, pause: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // So that `[::]` and `0.0.0.0` can be listened on side by side.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(true)?;
        prepare(&socket, address, pause)?;
        socket.bind(&address.into())?;
        Ok(Self::of(socket.into(), address))
    }

    /// Makes use of a socket that is bound already, perhaps together with others.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses it.
    pub fn adopt(socket: UdpSocket, pause: Duration) -> io::Result<Self> {
        let address = socket.local_addr()?;
        socket.set_nonblocking(false)?;
        let socket = Socket::from(socket);
        prepare(&socket, address, pause)?;
        Ok(Self::of(socket.into(), address))
    }

    fn of(socket: UdpSocket, address: SocketAddr) -> Self {
        let unspecified = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let bound = Some(address.ip()).filter(|ip| !ip.is_unspecified());
        Self { socket, address: bound, unspecified, is_stopping: AtomicBool::new(false) }
    }

    /// The same socket once more: who has it takes of the one queue what the others have not. A reply
    /// may leave by any.
    ///
    /// # Errors
    ///
    /// Fails when the system has no more descriptors.
    pub fn share(&self) -> io::Result<Self> {
        let (address, unspecified) = (self.address, self.unspecified);
        let socket = self.socket.try_clone()?;
        Ok(Self { socket, address, unspecified, is_stopping: AtomicBool::new(false) })
    }

    /// Has the system spread what comes over this socket and the others on its address, `count` of
    /// them in all: each datagram goes to one at random.
    ///
    /// Of itself it would choose by the client's address and port, and a forwarder may ask from a
    /// single one.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses it.
    pub fn spread(&self, count: u32) -> io::Result<()> {
        let step = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
        let mut steps = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, random),
            step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count),
            step(libc::BPF_RET | libc::BPF_A, 0),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        setsockopt(&self.socket, sockopt::AttachReusePortCbpf, &program)?;
        Ok(())
    }

    /// From now on a receive ends at once if nothing is queued. It is not said to the system: others
    /// who have the socket too would wait no more.
    pub fn stop_waiting(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// How a receive is to wait: for one datagram, or for none.
    pub fn waiting(&self) -> MsgFlags {
        match self.is_stopping.load(Ordering::Relaxed) {
            true => MsgFlags::MSG_DONTWAIT,
            false => MsgFlags::MSG_WAITFORONE,
        }
    }

    /// What it is bound to; `None` for a wildcard.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The address of its family that stands for none.
    pub fn unspecified(&self) -> IpAddr {
        self.unspecified
    }

    /// Where it is, with the port that the system chose.
    ///
    /// # Errors
    ///
    /// Fails when the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends `reply` back the way that its query came.
    ///
    /// # Errors
    ///
    /// Fails when the system does not take it.
    pub fn send(&self, reply: &[u8], route: Route) -> io::Result<()> {
        let Some(local) = route.local.filter(|_| self.address.is_none()) else {
            return self.socket.send_to(reply, route.peer).map(drop);
        };
        let slices = [IoSlice::new(reply)];
        let peer = SockaddrStorage::from(route.peer);
        let send = |control: ControlMessage<'_>| {
            let fd = self.socket.as_raw_fd();
            sendmsg(fd, &slices, &[control], MsgFlags::empty(), Some(&peer))
        };
        match local {
            IpAddr::V4(ip) => send(ControlMessage::Ipv4PacketInfo(&info_v4(ip)))?,
            IpAddr::V6(ip) => send(ControlMessage::Ipv6PacketInfo(&info_v6(ip)))?,
        };
        Ok(())
    }
}

impl AsRawFd for Datagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Has the system tell the address asked where `address` does not, and end a receive after `pause`.
fn prepare(socket: &Socket, address: SocketAddr, pause: Duration) -> io::Result<()> {
    let is_wildcard = address.ip().is_unspecified();
    if is_wildcard && address.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else if is_wildcard {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    socket.set_read_timeout(Some(pause))
}

/// Says that a datagram leaves from `ip`. Interface 0: which way is the routing table's business.
pub fn info_v4(ip: Ipv4Addr) -> libc::in_pktinfo {
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

/// The same for IPv6.
pub fn info_v6(ip: Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 }
}

/// The address that the system has written; `None` where it is no IP address.
pub fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::batch::Batch;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// What the server sees of a query to `asked`, and whether a client that takes replies from
    /// that address only gets one that was late.
    fn exchange(bound: &str, asked: &str) -> String {
        let server = Datagrams::bind(bound.parse().unwrap(), PATIENCE).unwrap();
        let port = server.local_addr().unwrap().port();
        let asked: IpAddr = asked.parse().unwrap();
        let client = UdpSocket::bind((asked, 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect((asked, port)).unwrap();
        client.send(b"query").unwrap();

        let mut batch = Batch::new(&server);
        assert_eq!(batch.receive(&server).unwrap(), 1);
        let (query, route) = batch.query(0).unwrap();
        assert_eq!((query, route.peer), (&b"query"[..], client.local_addr().unwrap()));
        server.send(b"reply", route).unwrap();
        let mut buffer = [0; 64];
        let len = client.recv(&mut buffer).unwrap();
        format!("{:?} {}", route.local, String::from_utf8_lossy(&buffer[..len]))
    }

    #[test]
    fn a_reply_leaves_from_the_address_that_was_asked() {
        for (bound, asked, expected) in [
            ("127.0.0.1:0", "127.0.0.1", "Some(127.0.0.1) reply"),
            ("0.0.0.0:0", "127.0.0.1", "Some(127.0.0.1) reply"),
            // The system itself would reply from 127.0.0.1.
            ("0.0.0.0:0", "127.0.0.9", "Some(127.0.0.9) reply"),
        ] {
            assert_eq!(exchange(bound, asked), expected, "{bound} asked at {asked}");
        }
    }

    #[test]
    fn the_same_holds_for_ipv6() {
        if UdpSocket::bind("[::1]:0").is_err() {
            // A machine without IPv6 cannot be asked over it.
            return;
        }
        assert_eq!(exchange("[::1]:0", "::1"), "Some(::1) reply");
        assert_eq!(exchange("[::]:0", "::1"), "Some(::1) reply");
    }

    #[test]
    fn one_client_port_reaches_all_sockets() {
        for ip in ["127.0.0.1", "0.0.0.0", "::1"] {
            let Ok(first) = Datagrams::bind((ip.parse::<IpAddr>().unwrap(), 0).into(), PATIENCE)
            else {
                // A machine without IPv6 cannot be asked over it.
                assert_eq!(ip, "::1");
                continue;
            };
            let address = first.local_addr().unwrap();
            let sockets = [first, Datagrams::bind(address, PATIENCE).unwrap()];
            sockets[0].spread(2).unwrap();
            let to = if ip == "::1" { "::1" } else { "127.0.0.1" };
            let client = UdpSocket::bind((to, 0)).unwrap();
            for _ in 0..100 {
                client.send_to(b"query", (to, address.port())).unwrap();
            }
            // None of a hundred on one of two is a chance of 2 to the power of -99.
            for socket in &sockets {
                let mut buffer = [0; 8];
                assert_eq!(socket.socket.recv(&mut buffer).unwrap(), 5, "{ip}");
            }
        }
    }

    #[test]
    fn one_who_stops_leaves_the_socket_to_those_who_share_it() {
        let first = Datagrams::bind("127.0.0.1:0".parse().unwrap(), PATIENCE).unwrap();
        let second = first.share().unwrap();
        first.stop_waiting();
        let error = Batch::new(&first).receive(&first).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let address = first.local_addr().unwrap();
        drop(first);
        let (asking, asked) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            asking.send(()).unwrap();
            Batch::new(&second).receive(&second)
        });
        asked.recv().unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"query", address).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    }

    #[test]
    fn a_socket_that_others_have_bound_is_used_as_our_own() {
        // As somebody may have left it, who waited for nothing.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = Datagrams::adopt(socket, PATIENCE).unwrap();
        assert_eq!(server.waiting(), MsgFlags::MSG_WAITFORONE);
        let client = UdpSocket::bind("127.0.0.9:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(("127.0.0.9", port)).unwrap();
        let asking = std::thread::spawn(move || {
            client.send(b"query").unwrap();
            client.recv(&mut [0; 8]).unwrap()
        });
        let mut batch = Batch::new(&server);
        assert_eq!(batch.receive(&server).unwrap(), 1);
        let (_, route) = batch.query(0).unwrap();
        server.send(b"reply", route).unwrap();
        assert_eq!(asking.join().unwrap(), 5);
    }

    #[test]
    fn a_quiet_socket_can_be_stopped() {
        let server = Datagrams::bind("0.0.0.0:0".parse().unwrap(), PATIENCE).unwrap();
        server.stop_waiting();
        let error = Batch::new(&server).receive(&server).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
