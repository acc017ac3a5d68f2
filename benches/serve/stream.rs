//! Asks over TCP and TLS: pipelined on a few connections, as much as a server answers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::time::Instant;

use crate::case::Case;
use crate::generator::{Queries, Run, settle};
use crate::peers::Peer;
use crate::processes::cpu;
use crate::support::authority::SERVER;

/// What carries the messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    Tcp,
    Tls,
}

/// Asks `peer` so that it always has more to do; nothing where it does not serve that.
pub fn saturate(
    peer: &Peer,
    carrier: Carrier,
    authority: &Path,
    case: &Case,
    queries: &Queries,
) -> Option<Run> {
    let address = match carrier {
        Carrier::Tcp => peer.tcp?,
        Carrier::Tls => peer.tls?,
    };
    let open = || -> Box<dyn Stream> {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_nodelay(true).expect("an option");
        match carrier {
            Carrier::Tcp => {
                socket.set_nonblocking(true).expect("a socket that does not block");
                Box::new(socket)
            }
            Carrier::Tls => Box::new(secure(socket, authority)),
        }
    };
    let line = |at: usize| {
        let (stream, out, read) = (open(), Vec::new(), Vec::new());
        Line { open: &open, stream, queries, next: at, id: 0, outstanding: 0, out, read }
    };
    let mut lines: Vec<Line<'_>> = (0..LINES).map(line).collect();
    ask_for(WARM_UP, &mut lines, case);
    let begun = (Instant::now(), cpu(peer.pid));
    let answered = ask_for(ROUND, &mut lines, case);
    let run = Run::new(peer.pid, answered, begun);
    drop(lines);
    settle(peer.pid);
    Some(run)
}

fn ask_for(duration: Duration, lines: &mut [Line<'_>], case: &Case) -> u64 {
    let (since, mut answered) = (Instant::now(), 0);
    while since.elapsed() < duration {
        answered += lines.iter_mut().map(|line| line.turn(case)).sum::<u64>();
    }
    answered
}

/// A session whose handshake is over, on a socket that does not block.
fn secure(mut socket: TcpStream, authority: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(authority).expect("an authority");
    roots.add(root).expect("a root");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(SERVER).expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
    while session.is_handshaking() {
        session.complete_io(&mut socket).expect("a handshake");
    }
    socket.set_nonblocking(true).expect("a socket that does not block");
    StreamOwned::new(session, socket)
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// One connection, with its queries.
struct Line<'q> {
    open: &'q dyn Fn() -> Box<dyn Stream>,
    stream: Box<dyn Stream>,
    queries: &'q Queries,
    next: usize,
    id: u16,
    outstanding: usize,
    /// What is not yet written.
    out: Vec<u8>,
    /// What is not yet a whole reply.
    read: Vec<u8>,
}

impl Line<'_> {
    /// Takes all replies that are there, and asks as much again. Gives the number of replies.
    fn turn(&mut self, case: &Case) -> u64 {
        let mut buffer = [0; 65_536];
        let mut answered = 0;
        match self.stream.read(&mut buffer) {
            Ok(len) if len > 0 => self.read.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            // Some take so many queries of a connection, Consul 128, and end it.
            Ok(_) | Err(_) => {
                self.reopen();
                return 0;
            }
        }
        let mut at = 0;
        while let Some(&[high, low]) = self.read.get(at..at + 2) {
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            let Some(reply) = self.read.get(at + 2..end) else { break };
            case.check(reply);
            (at, answered) = (end, answered + 1);
        }
        self.read.drain(..at);
        self.outstanding -= answered;
        while self.outstanding + BURST <= WINDOW {
            self.append_burst();
        }
        if !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(len) => drop(self.out.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                // What was answered before is still to be read.
                Err(_) => self.out.clear(),
            }
        }
        answered as u64
    }

    fn reopen(&mut self) {
        self.stream = (self.open)();
        self.outstanding = 0;
        self.out.clear();
        self.read.clear();
    }

    fn append_burst(&mut self) {
        for _ in 0..BURST {
            self.out.extend_from_slice(&(self.queries.len() as u16).to_be_bytes());
            let at = self.out.len();
            self.out.extend_from_slice(self.queries.get(self.next));
            self.out[at..at + 2].copy_from_slice(&self.id.to_be_bytes());
            self.id = self.id.wrapping_add(1);
            self.next += 1;
        }
        self.outstanding += BURST;
    }
}

const LINES: usize = 4;
const WINDOW: usize = 64;
const BURST: usize = 16;

const WARM_UP: Duration = Duration::from_millis(50);
const ROUND: Duration = Duration::from_millis(400);
