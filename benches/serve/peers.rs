//! The servers that are asked, each with the same zone, one thread and the first core.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::figures::said_by;
use crate::processes::pss;
use crate::question::asking;
use crate::support::authority::{Authority, SERVER};
use crate::support::consul::free_port;
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::{on_path, skip};
use crate::zone::{REVERSE_ZONE, Zone};

/// A kind of server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Server {
    /// fingerpost as it is by default.
    Ours,
    /// The same on a wildcard address.
    Wild,
    /// The same over IPv6.
    Six,
    /// The same with two threads, on both cores.
    Double,
    /// Our batches and answers without what is around them: no counts, no watch over panics.
    Bare,
    Consul,
    Nsd,
    Knot,
    Unbound,
    Dnsmasq,
    /// hickory-server with a handler that has the records at hand.
    Hickory,
    /// Takes datagrams in batches and sends them back: the limit.
    Echo,
}

impl Server {
    /// The peers that have all records.
    pub const ALL: &'static [Self] = &[
        Self::Consul,
        Self::Nsd,
        Self::Knot,
        Self::Unbound,
        Self::Dnsmasq,
        Self::Hickory,
        Self::Echo,
    ];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "fingerpost",
            Self::Wild => "fingerpost on 0.0.0.0",
            Self::Six => "fingerpost on [::1]",
            Self::Double => "fingerpost, two threads",
            Self::Bare => "fingerpost, bare",
            Self::Consul => "Consul",
            Self::Nsd => "NSD",
            Self::Knot => "Knot",
            Self::Unbound => "unbound",
            Self::Dnsmasq => "dnsmasq",
            Self::Hickory => "hickory-server",
            Self::Echo => "echo",
        }
    }
}

/// A server that runs.
pub struct Peer {
    pub server: Server,
    pub udp: SocketAddr,
    pub tcp: Option<SocketAddr>,
    pub tls: Option<SocketAddr>,
    pub pid: u32,
    /// What it says of its version.
    pub version: String,
    /// It ends with this value.
    _held: Held,
}

/// What a server ends with.
#[allow(dead_code)]
enum Held {
    Program(Program),
    Process(Process),
    Role(Role),
    Consul(crate::support::consul::Consul),
}

impl Peer {
    /// Its share of the machine's memory in MiB.
    pub fn memory_mib(&self) -> f64 {
        pss(self.pid)
    }
}

/// What the servers read.
pub struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    pub fn new(zone: &Zone) -> Self {
        let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
        authority.issue("server", SERVER);
        let files = Self { folder, authority };
        files.write("catalog.json", &zone.catalog().to_string());
        files.write("consul.zone", &zone.master_file());
        files.write("reverse.zone", &zone.reverse_file());
        files.write("records", &zone.records().map(|line| line + "\n").collect::<String>());
        files.write("hosts", &zone.hosts());
        files.write("dnsmasq.srv", &zone.srv_hosts());
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("room on the disk");
    }

    fn certificate(&self) -> [String; 2] {
        ["server.pem", "server.key"].map(|name| self.authority.path(name).display().to_string())
    }

    /// The authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.authority.path("ca.pem")
    }
}

/// Starts `server`, if this machine has it, and waits until it answers.
pub async fn start(server: Server, zone: &Zone, files: &Files) -> Option<Peer> {
    let peer = match server {
        Server::Ours => ours(server, "127.0.0.1:0", "1", files).await,
        Server::Wild => ours(server, "0.0.0.0:0", "1", files).await,
        Server::Six => {
            if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
                skip("IPv6");
                return None;
            }
            ours(server, "[::1]:0", "1", files).await
        }
        Server::Double => ours(server, "127.0.0.1:0", "2", files).await,
        Server::Consul => consul(zone).await?,
        Server::Bare | Server::Hickory | Server::Echo => role(server, files),
        Server::Nsd => nsd(files)?,
        Server::Knot => knot(files)?,
        Server::Unbound => unbound(files, zone)?,
        Server::Dnsmasq => dnsmasq(files)?,
    };
    if server != Server::Echo {
        until_it_answers(&peer);
    }
    Some(peer)
}

async fn ours(server: Server, listen: &str, workers: &str, files: &Files) -> Peer {
    let [cert, key] = files.certificate();
    let tls = loopback(free_port());
    let catalog = files.path("catalog.json").display().to_string();
    let arguments = ["serve", "--dns", listen, "--admin", "127.0.0.1:0", "--catalog", &catalog];
    let variables = [
        ("FINGERPOST_DNS_WORKERS", workers),
        ("FINGERPOST_DNS_TLS_LISTEN", &tls.to_string()),
        ("FINGERPOST_DNS_CERT_FILE", &cert),
        ("FINGERPOST_DNS_KEY_FILE", &key),
    ];
    let program = Program::start(&arguments, &variables);
    program.ready().await;
    let address = program.dns_address().await;
    let udp = if address.ip().is_unspecified() { loopback(address.port()) } else { address };
    let (pid, version) = (program.pid(), env!("CARGO_PKG_VERSION").to_owned());
    let _held = Held::Program(program);
    Peer { server, udp, tcp: Some(udp), tls: Some(tls), pid, version, _held }
}

/// A Consul, with everything registered in its catalogue.
async fn consul(zone: &Zone) -> Option<Peer> {
    let consul = crate::support::consul::Consul::start().await?;
    let mut registrations = zone.instances().map(|instance| Zone::registration(&instance));
    loop {
        let some = registrations.by_ref().take(AT_ONCE).map(|one| consul.register(one));
        let some: Vec<_> = some.collect();
        if some.is_empty() {
            break;
        }
        futures_util::future::join_all(some).await;
    }
    let (udp, pid) = (consul.dns_address(), consul.pid());
    let binary = crate::support::consul_binary()?;
    let version = said_by(&binary.to_string_lossy(), &["version"]);
    let _held = Held::Consul(consul);
    Some(Peer { server: Server::Consul, udp, tcp: Some(udp), tls: None, pid, version, _held })
}

fn nsd(files: &Files) -> Option<Peer> {
    let (program, port) = (program("nsd")?, free_port());
    let folder = files.folder.path().display();
    // Over TLS 4.6.1 leaves queries unanswered that come together, so it is not asked there.
    files.write(
        "nsd.conf",
        &format!(
            "server:\n server-count: 1\n ip-address: 127.0.0.1@{port}\n \
             username: \"\"\n chroot: \"\"\n database: \"\"\n zonesdir: \"{folder}\"\n \
             pidfile: \"{folder}/nsd.pid\"\n xfrdfile: \"{folder}/nsd.xfrd\"\n \
             xfrdir: \"{folder}\"\n zonelistfile: \"{folder}/nsd.list\"\n rrl-ratelimit: 0\n \
             minimal-responses: yes\n verbosity: 0\n\
             remote-control:\n control-enable: no\n\
             zone:\n name: consul\n zonefile: consul.zone\n\
             zone:\n name: {REVERSE_ZONE}\n zonefile: reverse.zone\n"
        ),
    );
    let version = version(&program, "-v");
    let mut command = Command::new(program);
    command.args(["-d", "-c"]).arg(files.path("nsd.conf"));
    Some(spawned(Server::Nsd, command, port, None, version))
}

fn knot(files: &Files) -> Option<Peer> {
    let (program, port) = (program("knotd")?, free_port());
    let folder = files.folder.path().display();
    files.write(
        "knot.conf",
        &format!(
            "server:\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
             background-workers: 1\n    rundir: \"{folder}\"\n\
             database:\n    storage: \"{folder}/knot\"\n\
             log:\n  - target: stderr\n    any: error\n\
             template:\n  - id: default\n    zonefile-sync: -1\n    journal-content: none\n    \
             semantic-checks: off\n\
             zone:\n  - domain: consul\n    file: \"{folder}/consul.zone\"\n  \
             - domain: {REVERSE_ZONE}\n    file: \"{folder}/reverse.zone\"\n"
        ),
    );
    let version = version(&program, "--version");
    let mut command = Command::new(program);
    command.arg("-c").arg(files.path("knot.conf"));
    Some(spawned(Server::Knot, command, port, None, version))
}

fn unbound(files: &Files, zone: &Zone) -> Option<Peer> {
    let (program, port, tls) = (program("unbound")?, free_port(), free_port());
    let ([cert, key], folder) = (files.certificate(), files.folder.path().display());
    let records = zone.records().map(|record| format!(" local-data: '{record}'\n"));
    files.write(
        "unbound.conf",
        &format!(
            "server:\n num-threads: 1\n interface: 127.0.0.1@{port}\n interface: 127.0.0.1@{tls}\n \
             tls-port: {tls}\n tls-service-key: \"{key}\"\n tls-service-pem: \"{cert}\"\n \
             username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n \
             do-daemonize: no\n use-syslog: no\n logfile: \"\"\n verbosity: 0\n \
             module-config: \"iterator\"\n minimal-responses: yes\n \
             local-zone: \".\" refuse\n local-zone: \"consul.\" static\n{}\
             remote-control:\n control-enable: no\n",
            records.collect::<String>()
        ),
    );
    let version = version(&program, "-V");
    let mut command = Command::new(program);
    command.args(["-d", "-c"]).arg(files.path("unbound.conf"));
    Some(spawned(Server::Unbound, command, port, Some(tls), version))
}

fn dnsmasq(files: &Files) -> Option<Peer> {
    let (program, port) = (program("dnsmasq")?, free_port());
    let version = version(&program, "--version");
    let mut command = Command::new(program);
    let [hosts, srv] = ["hosts", "dnsmasq.srv"].map(|name| files.path(name).display().to_string());
    command.args(["--keep-in-foreground", "--user=root", "--no-resolv", "--no-hosts"]);
    command.args(["--bind-interfaces", "--listen-address=127.0.0.1", "--local=/consul/"]);
    // Its table of names is as large as its cache is to be.
    command.arg("--cache-size=50000");
    command.args([format!("--port={port}"), format!("--addn-hosts={hosts}")]);
    command.args([format!("--conf-file={srv}"), "--pid-file=".to_owned()]);
    Some(spawned(Server::Dnsmasq, command, port, None, version))
}

fn spawned(
    server: Server,
    mut command: Command,
    port: u16,
    tls: Option<u16>,
    version: String,
) -> Peer {
    with_libraries(&mut command);
    let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let (udp, pid) = (loopback(port), process.pid());
    let _held = Held::Process(process);
    // dnsmasq has a process of its own for each connection, whose time is gone when it ends.
    let tcp = (server != Server::Dnsmasq).then_some(udp);
    Peer { server, udp, tcp, tls: tls.map(loopback), pid, version, _held }
}

/// The first line that `program` says of itself.
fn version(program: &Path, option: &str) -> String {
    let mut command = Command::new(program);
    let output = with_libraries(&mut command).arg(option).output().expect("a program that runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
}

/// Those that were unpacked beside it.
fn with_libraries(command: &mut Command) -> &mut Command {
    if let Some(root) = unpacked() {
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", root.join(libraries));
    }
    command
}

/// Where `name` is: unpacked for the benches, or on `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let unpacked = unpacked().map(|root| root.join("usr/sbin").join(name));
    let system = Path::new("/usr/sbin").join(name);
    let found = unpacked.into_iter().chain([system]).find(|path| path.is_file());
    let found = found.or_else(|| on_path(name));
    if found.is_none() {
        skip(&format!("{name} (tests/run bench provides it)"));
    }
    found
}

/// The folder in which packages were unpacked.
fn unpacked() -> Option<PathBuf> {
    std::env::var_os("FINGERPOST_BENCH_PEERS").map(PathBuf::from)
}

/// This program in another role; it ends when its standard input does.
struct Role(Child);

impl Drop for Role {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn role(server: Server, files: &Files) -> Peer {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    match server {
        Server::Bare => command.arg("--bare").arg(files.path("catalog.json")),
        Server::Hickory => {
            command.arg("--hickory").arg(files.path("records")).args(files.certificate())
        }
        _ => command.arg("--echo"),
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a role");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("its addresses");
    let mut addresses = line.split_whitespace().map(|text| text.parse().expect("an address"));
    let udp = addresses.next().expect("where it listens");
    let (tcp, tls, pid) = (addresses.next(), addresses.next(), child.id());
    let version = if server == Server::Hickory { "0.26" } else { "" }.to_owned();
    Peer { server, udp, tcp, tls, pid, version, _held: Held::Role(Role(child)) }
}

/// Asks until a reply comes with the answers that the zone has.
fn until_it_answers(peer: &Peer) {
    let socket = asking(peer.udp);
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket that gives up");
    let case = crate::case::UDP.iter().find(|case| case.label == "10,000 names");
    let queries = case.expect("a case of all names").queries();
    let begun = Instant::now();
    let mut reply = [0; 4096];
    while begun.elapsed() < PATIENCE {
        let asked = socket.send(queries.get(0)).and_then(|_| socket.recv(&mut reply));
        if asked.is_ok_and(|len| len > 12 && reply[3] & 0xf == 0 && reply[7] == 1) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} does not answer at {} after {PATIENCE:?}", peer.server.name(), peer.udp);
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Registrations under way at once.
const AT_ONCE: usize = 16;

/// How long a server may take to load its zone.
const PATIENCE: Duration = Duration::from_secs(60);
