//! A network of loopback addresses whose links a test can cut, slow down and make lossy.
//!
//! ```text
//!   .1 --asks .102--> [link 1 -> 2] --> .2     a host listens on .k and is known by .(100 + k)
//! ```
//! Whatever is sent to a host's known address goes through a link, TCP and gossip alike. Who sent it
//! is told by its address: Consul sends RPC and gossip from the address that it is bound to. Only
//! gossip over TCP cannot be told, so it stops where any link to its receiver is cut.
//!
//! What a cut link was given before, and meanwhile, arrives once it is whole again, as TCP would
//! send it again; connections that are begun meanwhile are open and silent.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::wait::pause_until;

/// A place in the network, from 1 to 99.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Host(pub u8);

/// How a link is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Condition {
    /// As loopback is.
    #[default]
    Clear,
    /// Nothing arrives.
    Cut,
    /// Of gossip a third is lost. Of TCP some is sent again, which takes its time, and now and then
    /// a connection breaks.
    Lossy,
    /// Everything takes so long.
    Slow(Duration),
}

/// The ports of all hosts.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// HTTP, which is asked at the host itself.
    pub http: u16,
    /// Gossip within a datacenter.
    pub lan: u16,
    /// RPC of servers.
    pub server: u16,
    /// Gossip between datacenters.
    pub wan: u16,
}

/// The network; its links end when this is dropped.
#[derive(Debug)]
pub struct Net {
    octets: [u8; 2],
    ports: Ports,
    weather: watch::Sender<Weather>,
    tasks: JoinSet<()>,
}

/// The condition of each link that is not clear, and how often it was broken.
#[derive(Clone, Debug, Default)]
struct Weather(BTreeMap<(Host, Host), (Condition, u32)>);

/// One direction between two hosts, as it changes.
#[derive(Clone, Debug)]
struct Link {
    ends: (Host, Host),
    weather: watch::Receiver<Weather>,
}

impl Net {
    /// A network of `hosts`, all links clear.
    pub async fn of(hosts: &[Host]) -> Self {
        loop {
            // Nobody else is in such a network, but for another test by a rare chance.
            let octets = [fastrand::u8(2..), fastrand::u8(..)];
            let first = fastrand::u16(15_000..31_000);
            let ports = Ports { http: first, lan: first + 1, server: first + 2, wan: first + 3 };
            let (weather, tasks) = (watch::Sender::default(), JoinSet::new());
            let mut net = Self { octets, ports, weather, tasks };
            if net.link_all(hosts).await.is_ok() {
                return net;
            }
        }
    }

    /// The ports of all hosts.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Where `host` listens. Whoever asks there uses no link.
    pub fn bound(&self, host: Host) -> IpAddr {
        self.address(host.0)
    }

    /// Where `host` is known to be.
    pub fn known(&self, host: Host) -> IpAddr {
        self.address(KNOWN + host.0)
    }

    /// Another way to `to`, for one who is at `from`; gives where it begins.
    pub async fn open(&mut self, from: Host, host: Host, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let link = self.link(from, host);
        self.tasks.spawn(accept(listener, to, move |_| link.clone()));
        address
    }

    /// Sets how the link from `from` to `to` is, and the one back.
    pub fn set(&self, from: Host, to: Host, condition: Condition) {
        self.weather.send_modify(|weather| {
            for ends in [(from, to), (to, from)] {
                weather.0.entry(ends).or_default().0 = condition;
            }
        });
    }

    /// Sets how the links between `host` and all of `others` are.
    pub fn set_all(&self, host: Host, others: &[Host], condition: Condition) {
        others.iter().filter(|other| **other != host).for_each(|other| {
            self.set(host, *other, condition);
        });
    }

    /// Breaks all connections from `from` to `to`.
    pub fn break_off(&self, from: Host, to: Host) {
        self.weather.send_modify(|weather| weather.0.entry((from, to)).or_default().1 += 1);
    }

    async fn link_all(&mut self, hosts: &[Host]) -> io::Result<()> {
        for port in [self.ports.lan, self.ports.server, self.ports.wan] {
            for host in hosts {
                let listener = TcpListener::bind((self.known(*host), port)).await?;
                let to = SocketAddr::from((self.bound(*host), port));
                // It must be free for the host itself.
                drop(TcpListener::bind(to).await?);
                let (host, octets, weather) = (*host, self.octets, self.weather.subscribe());
                let link_of = move |peer: SocketAddr| Link {
                    ends: (host_of(octets, peer).unwrap_or(UNKNOWN), host),
                    weather: weather.clone(),
                };
                self.tasks.spawn(accept(listener, to, link_of));
            }
        }
        for port in [self.ports.lan, self.ports.wan] {
            let mut sockets = BTreeMap::new();
            for host in hosts {
                let socket = UdpSocket::bind((self.known(*host), port)).await?;
                sockets.insert(*host, Arc::new(socket));
            }
            for host in hosts {
                let to = SocketAddr::from((self.bound(*host), port));
                let carrying = carry(*host, to, sockets.clone(), self.octets, self.weather());
                self.tasks.spawn(carrying);
            }
        }
        Ok(())
    }

    fn link(&self, from: Host, to: Host) -> Link {
        Link { ends: (from, to), weather: self.weather() }
    }

    fn weather(&self) -> watch::Receiver<Weather> {
        self.weather.subscribe()
    }

    fn address(&self, last: u8) -> IpAddr {
        let [second, third] = self.octets;
        Ipv4Addr::new(127, second, third, last).into()
    }
}

impl Weather {
    fn condition(&self, ends: (Host, Host)) -> Condition {
        if ends.0 == UNKNOWN {
            let to = |(key, _): &(&(Host, Host), &(Condition, u32))| key.1 == ends.1;
            let is_cut = self.0.iter().filter(to).any(|(_, value)| value.0 == Condition::Cut);
            return if is_cut { Condition::Cut } else { Condition::Clear };
        }
        self.0.get(&ends).map(|link| link.0).unwrap_or_default()
    }

    fn breaks(&self, ends: (Host, Host)) -> u32 {
        self.0.get(&ends).map_or(0, |link| link.1)
    }
}

impl Link {
    fn condition(&self) -> Condition {
        self.weather.borrow().condition(self.ends)
    }

    /// Waits until something can pass.
    async fn passable(&mut self) {
        let ends = self.ends;
        // The sender lives as long as the tasks do.
        let _ = self.weather.wait_for(|weather| weather.condition(ends) != Condition::Cut).await;
    }

    /// Waits until its connections are broken.
    async fn broken(&mut self) {
        let (ends, before) = (self.ends, self.weather.borrow().breaks(self.ends));
        let _ = self.weather.wait_for(|weather| weather.breaks(ends) != before).await;
    }

    /// How long what is sent over TCP now takes; `None` where its connection breaks.
    fn delay(&self) -> Option<Duration> {
        match self.condition() {
            Condition::Clear | Condition::Cut => Some(Duration::ZERO),
            Condition::Lossy if fastrand::u8(..100) < 2 => None,
            Condition::Lossy if fastrand::u8(..100) < 25 => {
                Some(Duration::from_millis(fastrand::u64(200..1_600)))
            }
            Condition::Lossy => Some(Duration::ZERO),
            Condition::Slow(delay) => Some(delay),
        }
    }
}

/// Takes connections for `to`, each over the link of whoever began it.
async fn accept(listener: TcpListener, to: SocketAddr, link_of: impl Fn(SocketAddr) -> Link) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, peer)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let link = link_of(peer);
        let mut breaking = link.clone();
        connections.spawn(async move {
            tokio::select! {
                () = relay(near, to, link) => (),
                () = breaking.broken() => (),
            }
        });
    }
}

async fn relay(near: TcpStream, to: SocketAddr, mut link: Link) {
    link.passable().await;
    let Ok(far) = TcpStream::connect(to).await else { return };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let back = Link { ends: (link.ends.1, link.ends.0), weather: link.weather.clone() };
    let back = if link.ends.0 == UNKNOWN { link.clone() } else { back };
    // An error ends both directions, an end only its own.
    let _ = tokio::try_join!(pump(near_in, far_out, link), pump(far_in, near_out, back));
}

/// Moves bytes from `from` to `to` as `link` lets them.
async fn pump(from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: Link) -> io::Result<()> {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let reading = read(from, sender, link.clone());
    let writing = async {
        while let Some((due, bytes)) = queue.recv().await {
            pause_until(due).await;
            link.passable().await;
            to.write_all(&bytes).await?;
        }
        link.passable().await;
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

async fn read(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    link: Link,
) -> io::Result<()> {
    let mut buffer = vec![0; 16_384];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let delay = link.delay().ok_or(io::ErrorKind::ConnectionReset)?;
        let bytes = buffer[..count].to_vec();
        if queue.send((Instant::now() + delay, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

/// Carries the gossip for `host`, each datagram from the known address of its sender.
async fn carry(
    host: Host,
    to: SocketAddr,
    sockets: BTreeMap<Host, Arc<UdpSocket>>,
    octets: [u8; 2],
    weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; 65_536];
    let mut late = JoinSet::new();
    loop {
        let Ok((count, peer)) = sockets[&host].recv_from(&mut buffer).await else { continue };
        while late.try_join_next().is_some() {}
        let Some(from) = host_of(octets, peer) else { continue };
        let Some(socket) = sockets.get(&from) else { continue };
        let condition = weather.borrow().condition((from, host));
        match condition {
            Condition::Clear => {
                let _ = socket.send_to(&buffer[..count], to).await;
            }
            Condition::Cut => (),
            Condition::Lossy if fastrand::u8(..3) == 0 => (),
            Condition::Lossy => {
                let _ = socket.send_to(&buffer[..count], to).await;
            }
            Condition::Slow(delay) => {
                let (socket, datagram) = (Arc::clone(socket), buffer[..count].to_vec());
                let due = Instant::now() + delay;
                late.spawn(async move {
                    pause_until(due).await;
                    let _ = socket.send_to(&datagram, to).await;
                });
            }
        }
    }
}

/// Which host of the network sends from `address`.
fn host_of(octets: [u8; 2], address: SocketAddr) -> Option<Host> {
    let IpAddr::V4(address) = address.ip() else { return None };
    let [_, second, third, last] = address.octets();
    ([second, third] == octets && last < KNOWN).then_some(Host(last))
}

/// Whoever cannot be told by an address.
const UNKNOWN: Host = Host(0);

/// What a host's known address has more than its own.
const KNOWN: u8 = 100;

/// All of `hosts` but `one`.
pub fn all_but(hosts: &[Host], one: Host) -> Vec<Host> {
    let others: BTreeSet<Host> = hosts.iter().copied().filter(|host| *host != one).collect();
    others.into_iter().collect()
}
