//! Every socket of DNS: bound before anything is promised, or handed over bound, then served.
//!
//! ```text
//!   dns.listen     UDP: a thread for each core, a socket each      TCP: a task
//!   dns.tls_listen                                                 TCP: a task
//!   dns.https_listen                                               TCP: a task
//!   dns.https3_listen  UDP: a task
//!   dns.quic_listen    UDP: a task
//! ```
//! All connections share their places, whatever they carry.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::runtime::Handle;
use tracing::{error, warn};

use crate::answer::Transport;
use crate::config::DnsConfig;
use crate::dns::accept::{self, Door, Speech};
use crate::dns::datagram::Datagrams;
use crate::dns::hall::Hall;
use crate::dns::handed::{Handed, Role};
use crate::dns::places::Places;
use crate::dns::pulse::{Pulse, Pulses};
use crate::dns::quic::endpoint::{self, Dialect, Entrance};
use crate::dns::{Certificate, Front, udp};

/// Sockets of DNS, bound and silent.
#[derive(Debug)]
pub struct Listening {
    plain: Vec<Plain>,
    tls: Vec<TcpListener>,
    https: Vec<TcpListener>,
    quic: Vec<(UdpSocket, Dialect)>,
    /// Given where something is encrypted.
    certificate: Option<Arc<Certificate>>,
}

/// The sockets of one address without encryption.
#[derive(Debug)]
struct Plain {
    tcp: TcpListener,
    udp: Vec<Datagrams>,
}

/// Where DNS is answered, with the ports that the system chose.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Over UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// Over TLS.
    pub tls: Vec<SocketAddr>,
    /// Over HTTPS.
    pub https: Vec<SocketAddr>,
    /// Over HTTPS by HTTP/3.
    pub https3: Vec<SocketAddr>,
    /// Over QUIC.
    pub quic: Vec<SocketAddr>,
}

/// The certificate that `config` names, if it does.
///
/// # Errors
///
/// Fails where its files cannot be used: the operator's to mend.
pub fn certificate(config: &DnsConfig) -> anyhow::Result<Option<Arc<Certificate>>> {
    match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => Ok(Some(Certificate::read(cert, key)?)),
        _ => Ok(None),
    }
}

impl Listening {
    /// Opens every socket that `config` names, but for those that were `handed` over, and reads the
    /// certificate.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be listened on, or the certificate cannot be read; the error
    /// names it.
    pub fn bind(config: &DnsConfig, handed: &mut Handed) -> anyhow::Result<Self> {
        let certificate = certificate(config)?;
        let workers = workers(config);
        let mut plain = Vec::with_capacity(config.listen.len());
        for address in &config.listen {
            plain.push(Plain::open(*address, workers, handed)?);
        }
        let mut tcp = |role, listen: &[SocketAddr], carrier| {
            let sockets = listen.iter().map(|address| tcp(role, *address, carrier, handed));
            sockets.collect::<Result<_, _>>()
        };
        let tls = tcp(Role::Tls, &config.tls_listen, "TLS")?;
        let https = tcp(Role::Https, &config.https_listen, "HTTPS")?;
        let http = Dialect::Http3 { path: config.https_path.as_str().into() };
        let http = config.https3_listen.iter().map(|address| (Role::Https3, address, http.clone()));
        let doq = config.quic_listen.iter().map(|address| (Role::Quic, address, Dialect::Doq));
        let quic = http
            .chain(doq)
            .map(|(role, address, dialect)| quic(role, *address, dialect, handed))
            .collect::<Result<_, _>>()?;
        Ok(Self { plain, tls, https, quic, certificate })
    }

    /// How many UDP threads there will be.
    pub fn threads(&self) -> usize {
        self.plain.iter().map(|plain| plain.udp.len()).sum()
    }

    /// Where that is.
    ///
    /// # Errors
    ///
    /// Fails when the system does not tell.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let plain = self.plain.iter().map(|plain| plain.tcp.local_addr());
        let tls = self.tls.iter().map(TcpListener::local_addr);
        let https = self.https.iter().map(TcpListener::local_addr);
        let of = |transport| {
            let sockets = self.quic.iter().filter(move |(_, to)| to.transport() == transport);
            sockets.map(|(socket, _)| socket.local_addr()).collect::<io::Result<_>>()
        };
        Ok(Addresses {
            dns: plain.collect::<Result<_, _>>()?,
            tls: tls.collect::<Result<_, _>>()?,
            https: https.collect::<Result<_, _>>()?,
            https3: of(Transport::Https3)?,
            quic: of(Transport::Quic)?,
        })
    }

    /// Starts a thread for each UDP socket and a task for each other one.
    ///
    /// # Errors
    ///
    /// Fails when the system has no more threads, or does not take a socket.
    pub fn start(self, config: &DnsConfig, front: &Front) -> anyhow::Result<Workers> {
        let metrics = &front.metrics.dns;
        let places = Places::new(&config.connections, metrics.connections.clone(), front.clock);
        let threads = self.threads();
        let hall = Hall {
            front: front.clone(),
            tally: front.tally(threads),
            limits: config.connections,
            places,
        };
        let door = |speech| Door { hall: hall.clone(), speech };
        let mut workers = Workers::default();
        for plain in self.plain {
            let tcp = tokio::net::TcpListener::from_std(plain.tcp)?;
            front.tasks.spawn(door(Speech::Plain).serve(tcp));
            for socket in plain.udp {
                let lane = workers.threads.len();
                let worker = udp::Worker::new(socket, front.clone(), lane, Handle::current());
                let thread = thread::Builder::new().name(format!("udp-{lane}"));
                workers.pulses.push(worker.pulse());
                workers.threads.push(thread.spawn(move || worker.run())?);
            }
        }
        if let Some(certificate) = self.certificate {
            let tls = Arc::new(certificate.server(&[b"dot"])?);
            for socket in self.tls {
                let tcp = tokio::net::TcpListener::from_std(socket)?;
                front.tasks.spawn(door(Speech::Tls(Arc::clone(&tls))).serve(tcp));
            }
            let tls = Arc::new(certificate.server(&[b"h2", b"http/1.1"])?);
            let path: Arc<str> = config.https_path.as_str().into();
            for socket in self.https {
                let tcp = tokio::net::TcpListener::from_std(socket)?;
                let (tls, path) = (Arc::clone(&tls), Arc::clone(&path));
                front.tasks.spawn(door(Speech::Https { tls, path }).serve(tcp));
            }
            for (socket, dialect) in self.quic {
                let tls = certificate.server(&[dialect.protocol()])?;
                let entrance = Entrance { hall: hall.clone(), dialect };
                let endpoint = endpoint::open(socket, entrance.configure(tls)?)?;
                front.tasks.spawn(entrance.serve(endpoint));
            }
            let counts = (metrics.certificate_loads.clone(), metrics.certificate_failures.clone());
            let cancel = front.cancel.clone();
            front.tasks.spawn(async move { certificate.follow(counts, cancel).await });
        }
        Ok(workers)
    }
}

impl Plain {
    /// Where one was handed over, so was the other: the threads share what there is of UDP.
    fn open(address: SocketAddr, workers: usize, handed: &mut Handed) -> anyhow::Result<Self> {
        let Some(tcp) = handed.take_tcp(Role::Dns, address) else {
            return Self::bind(address, workers);
        };
        let tcp = accept::adopt(tcp)?;
        let sockets = handed.take_udp(Role::Dns, address).into_iter().map(udp::adopt);
        let mut udp = sockets.collect::<io::Result<Vec<_>>>()?;
        for at in udp.len()..workers {
            // Each of them in turn, if there are several.
            let shared = udp.get(at % udp.len().max(1)).map(Datagrams::share).transpose()?;
            udp.extend(shared);
        }
        Ok(Self { tcp, udp })
    }

    /// TCP comes first and shares its port with nobody, so a second program is refused before it
    /// could take queries from the first by way of `SO_REUSEPORT`.
    fn bind(address: SocketAddr, workers: usize) -> anyhow::Result<Self> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            let tcp = accept::bind(address)
                .with_context(|| format!("cannot listen on {address} over TCP"))?;
            let shared = tcp.local_addr()?;
            let udp = (0..workers).map(|_| udp::bind(shared)).collect::<io::Result<Vec<_>>>();
            match udp {
                Ok(udp) => {
                    spread(&udp, shared);
                    return Ok(Self { tcp, udp });
                }
                // The port that the system chose may be taken over UDP.
                Err(error) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => (),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot listen on {shared} over UDP"));
                }
            }
        }
    }
}

/// Gives a client with a single port, as a forwarder may be, the use of all threads.
fn spread(sockets: &[Datagrams], address: SocketAddr) {
    let [first, _, ..] = sockets else { return };
    if let Err(error) = first.spread(sockets.len() as u32) {
        warn!(%address, %error, "each client port has the use of one UDP thread only");
    }
}

fn tcp(
    role: Role,
    address: SocketAddr,
    carrier: &str,
    handed: &mut Handed,
) -> anyhow::Result<TcpListener> {
    let socket = match handed.take_tcp(role, address) {
        Some(socket) => accept::adopt(socket),
        None => accept::bind(address),
    };
    socket.with_context(|| format!("cannot listen on {address} over {carrier}"))
}

fn quic(
    role: Role,
    address: SocketAddr,
    dialect: Dialect,
    handed: &mut Handed,
) -> anyhow::Result<(UdpSocket, Dialect)> {
    let socket = match handed.take_udp(role, address).into_iter().next() {
        Some(socket) => socket.set_nonblocking(true).map(|()| socket),
        None => endpoint::bind(address),
    };
    let socket = socket.with_context(|| format!("cannot listen on {address} over {dialect}"))?;
    Ok((socket, dialect))
}

/// UDP threads for each address.
pub fn workers(config: &DnsConfig) -> usize {
    match config.workers {
        0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
        workers => workers,
    }
}

/// The UDP threads, by their numbers.
#[derive(Debug, Default)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    pulses: Vec<Pulse>,
}

impl Workers {
    /// Their signs of life.
    pub fn pulses(&self) -> Pulses {
        Pulses::new(self.pulses.iter().cloned())
    }

    /// Waits for them without holding up the tasks.
    pub async fn join(self) {
        let joined = tokio::task::spawn_blocking(move || {
            self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if !matches!(joined.await, Ok(0)) {
            error!("a UDP thread had panicked");
        }
    }
}

/// How often a port that the system chose for TCP is tried over UDP.
const PORT_ATTEMPTS: usize = 16;
