//! What this program is as a child of itself: an echo, our answers bare, and a hickory-server.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fingerpost::answer::{Asked, Cookies, Draft, Policy, Transport, Turn, respond};
use fingerpost::catalog::{Builder, Rules, Usage};
use fingerpost::dns::batch::Batch;
use fingerpost::dns::datagram::Datagrams;
use fingerpost::name::Zone;
use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Says where it listens, and sees to its own end.
fn introduce(addresses: &[SocketAddr]) {
    let line: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    println!("{}", line.join(" "));
    io::stdout().flush().ok();
    std::thread::spawn(|| {
        io::stdin().lines().for_each(drop);
        std::process::exit(0);
    });
}

/// Sends every datagram back: a batch in, a batch out, and nothing else.
pub fn echo() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    introduce(&[socket.local_addr().expect("an address")]);
    let fd = socket.as_raw_fd();
    let mut receiving = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut sending = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut buffers = [[0; 4096]; BATCH];
    loop {
        let mut heads = [(0, None); BATCH];
        let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let Ok(taken) = recvmmsg(fd, &mut receiving, slices.iter_mut(), flags, None) else {
            continue;
        };
        let mut count = 0;
        for (message, head) in taken.zip(&mut heads) {
            *head = (message.bytes, message.address);
            count += 1;
        }
        let mut replies = [[IoSlice::new(&[])]; BATCH];
        let peers = heads.map(|(_, peer)| peer);
        for ((reply, buffer), (len, _)) in replies.iter_mut().zip(&buffers).zip(heads) {
            *reply = [IoSlice::new(&buffer[..len])];
        }
        let flags = MsgFlags::empty();
        sendmmsg(fd, &mut sending, &replies[..count], &peers[..count], [], flags).ok();
    }
}

/// Answers from the catalogue file at `path`.
pub fn bare(path: &str) {
    let catalog = fingerpost::file::read(Path::new(path)).expect("a catalogue");
    let zone = || Zone::new("consul").expect("consul is a zone");
    let usage = Arc::new(Usage::new(1, false));
    let mut builder = Builder::new(Rules::new(zone()), 1, 1_000, usage);
    for change in catalog.changes() {
        builder.apply(change);
    }
    let (snapshot, mut policy) = (builder.snapshot(), Policy::new(zone()));
    policy.cookies = Some(Cookies::new(&[[7; 16]], 1_700_000_000_000));
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let socket = Datagrams::bind(address, Duration::from_secs(1)).expect("a socket");
    introduce(&[socket.local_addr().expect("an address")]);
    let (mut batch, mut draft) = (Batch::new(&socket), Draft::default());
    loop {
        let Ok(count) = batch.receive(&socket) else { continue };
        for at in 0..count {
            let Some((bytes, route)) = batch.query(at) else { continue };
            let asked = Asked {
                bytes,
                transport: Transport::Udp,
                client: route.peer.ip(),
                local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                seed: fastrand::u64(..),
                now_ms: 0,
                turn: Turn::Last,
                near: None,
                hosts: &[],
            };
            respond(&snapshot, &policy, &asked, &mut draft);
            batch.reply(at, &mut draft.reply);
        }
        batch.send(&socket);
    }
}

/// A hickory-server over UDP, TCP and TLS, with the records of the file `records`.
pub fn hickory(records: &str, certificate: &str, key: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let udp = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let listener = async || {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            listener.expect("a listener")
        };
        let (tcp, tls) = (listener().await, listener().await);
        let address = "an address";
        let addresses = [udp.local_addr(), tcp.local_addr(), tls.local_addr()];
        let addresses = addresses.map(|found| found.expect(address));
        let mut server = Server::new(Memory::read(records));
        server.register_socket(udp);
        server.register_listener(tcp, STREAM_PATIENCE, 65_536);
        let config = Arc::new(tls_config(certificate, key));
        server.register_tls_listener_with_tls_config(tls, STREAM_PATIENCE, config).expect("TLS");
        introduce(&addresses);
        server.block_until_done().await.expect("a server that goes on");
    });
}

fn tls_config(certificate: &str, key: &str) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(certificate).expect("a certificate");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    config.expect("a certificate with its key")
}

/// Records by name and type, and those that go with them.
struct Memory {
    sets: HashMap<(LowerName, RecordType), (Vec<Record>, Vec<Record>)>,
    zone: LowerName,
    nothing: Vec<Record>,
}

impl Memory {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(path).expect("records");
        let mut sets: HashMap<_, (Vec<Record>, Vec<Record>)> = HashMap::new();
        let mut addresses: HashMap<Name, Record> = HashMap::new();
        for line in text.lines() {
            let record = record(line);
            if !matches!(record.data, RData::SRV(_)) {
                addresses.insert(record.name.clone(), record.clone());
            }
            let key = (LowerName::from(&record.name), record.record_type());
            sets.entry(key).or_default().0.push(record);
        }
        for (answers, additional) in sets.values_mut() {
            additional.extend(answers.iter().filter_map(|answer| match &answer.data {
                RData::SRV(srv) => addresses.get(&srv.target).cloned(),
                _ => None,
            }));
        }
        let zone = LowerName::from(Name::from_ascii("consul.").expect("a name"));
        Self { sets, zone, nothing: Vec::new() }
    }
}

/// Of a line as the zone writes it: name, TTL, class, type and the rest.
fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split(' ').collect();
    let (name, ttl) = (Name::from_ascii(words[0]).expect("a name"), words[1].parse().expect("TTL"));
    let number = |at: usize| words[at].parse().expect("a number");
    let data = match words[3] {
        "A" => RData::A(A(words[4].parse().expect("an address"))),
        _ => {
            let target = Name::from_ascii(words[7]).expect("a name");
            RData::SRV(SRV::new(number(4), number(5), number(6), target))
        }
    };
    Record::from_rdata(name, ttl, data)
}

#[async_trait::async_trait]
impl RequestHandler for Memory {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let info = request.request_info().expect("one question");
        let mut metadata = Metadata::response_from_request(info.metadata);
        metadata.authoritative = true;
        let found = self.sets.get(&(info.query.name().clone(), info.query.query_type()));
        let (answers, additional) = found.map_or((&self.nothing, &self.nothing), |(a, b)| (a, b));
        if found.is_none() {
            let is_ours = self.zone.zone_of(info.query.name());
            let code = if is_ours { ResponseCode::NXDomain } else { ResponseCode::Refused };
            metadata.response_code = code;
        }
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(512, 1232));
            builder.edns(&edns);
        }
        let reply = builder.build(metadata, answers, &self.nothing, &self.nothing, additional);
        response.send_response(reply).await.expect("a reply that can be sent")
    }
}

const BATCH: usize = 32;

/// For clients that say nothing.
const STREAM_PATIENCE: Duration = Duration::from_secs(30);
