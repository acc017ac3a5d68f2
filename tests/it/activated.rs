//! Started with sockets that are open already, as systemd hands them over.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::support::dns::{self, ask, ask_tcp, question};
use crate::support::program::Program;
use crate::support::wait::{eventually, within};

/// Sockets for DNS and the admin port, which stay open whoever comes and goes.
struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    admin: TcpListener,
    address: SocketAddr,
    /// Has a catalogue file with one service.
    folder: TempDir,
}

impl Sockets {
    fn open(ip: &str) -> Self {
        // A port that is free over TCP may be taken over UDP.
        let (tcp, udp) = std::iter::repeat_with(|| TcpListener::bind((ip, 0)).unwrap())
            .find_map(|tcp| {
                let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
                Some((tcp, udp))
            })
            .unwrap();
        let address = udp.local_addr().unwrap();
        let admin = TcpListener::bind((ip, 0)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let catalog = r#"{"services": [{"name": "web", "port": 80}]}"#;
        fs::write(folder.path().join("c.json"), catalog).unwrap();
        Self { udp, tcp, admin, address, folder }
    }

    /// Starts the program with all of them.
    fn start(&self, env: &[(&str, &str)]) -> Program {
        let sockets: Vec<OwnedFd> = vec![
            self.udp.try_clone().unwrap().into(),
            self.tcp.try_clone().unwrap().into(),
            self.admin.try_clone().unwrap().into(),
        ];
        let path = self.folder.path().join("c.json");
        // What is handed over wins over the flags.
        let args = ["serve", "--catalog", path.to_str().unwrap(), "--dns", "192.0.2.1:53"];
        Program::start_with(sockets, "dns:dns:admin", &args, env)
    }
}

/// The names of the threads of `program`.
fn threads(program: &Program) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    names.filter_map(|name| Some(name.ok()?.trim().to_owned())).collect()
}

#[tokio::test]
async fn what_is_handed_over_is_served() {
    let sockets = Sockets::open("127.0.0.1");
    let program = sockets.start(&[("FINGERPOST_DNS_WORKERS", "3")]);
    program.ready().await;
    let listening = (program.dns_address().await, program.admin_address().await);
    assert_eq!(listening, (sockets.address, sockets.admin.local_addr().unwrap()));
    // Each gives itself its name, once it runs.
    eventually("three threads share the one socket", async || {
        let names = threads(&program).into_iter().filter(|name| name.starts_with("udp-"));
        names.collect::<BTreeSet<_>>() == ["udp-0", "udp-1", "udp-2"].map(str::to_owned).into()
    })
    .await;
    for _ in 0..100 {
        let reply = ask(sockets.address, "web.service.consul", RecordType::A).await;
        assert_eq!(reply.answers.len(), 1);
    }
    let reply = ask_tcp(sockets.address, "web.service.consul", RecordType::A).await;
    assert_eq!(reply.answers.len(), 1);
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let sockets = Sockets::open("127.0.0.1");
    let query = question("web.service.consul", RecordType::A);
    let mut program = sockets.start(&[("FINGERPOST_DNS_WORKERS", "2")]);
    program.ready().await;
    for _ in 0..3 {
        program.signal("TERM");
        assert_eq!(program.status().await, Some(0), "{}", program.stderr());
        // While nobody is there.
        let (udp, mut tcp) =
            (dns::Udp::connect(sockets.address).await, dns::Tcp::connect(sockets.address).await);
        udp.send(&query.to_vec().unwrap()).await;
        tcp.send(&query.to_vec().unwrap()).await;
        program = sockets.start(&[("FINGERPOST_DNS_WORKERS", "2")]);
        let reply = within("a reply over UDP", udp.receive()).await;
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, query.metadata.id);
        let reply = tcp.receive().await.expect("the connection was closed");
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, query.metadata.id);
        program.ready().await;
    }
}

#[tokio::test]
async fn one_of_all_addresses_answers_from_the_one_that_was_asked() {
    let sockets = Sockets::open("0.0.0.0");
    let program = sockets.start(&[]);
    program.ready().await;
    // The client takes replies from that address only.
    let asked = SocketAddr::from(([127, 0, 0, 9], sockets.address.port()));
    assert_eq!(ask(asked, "web.service.consul", RecordType::A).await.answers.len(), 1);
}

#[tokio::test]
async fn what_fits_nothing_is_an_error_that_names_it() {
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let connection = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    };
    let file = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    for (sockets, names, expected) in [
        (
            vec![tcp(), udp()],
            "admin:web",
            "descriptor 4 named \"web\" is handed over, and is for none of dns, tls, https, https3, \
             quic, admin",
        ),
        (
            vec![udp()],
            "tls",
            "descriptor 3 named \"tls\" is handed over, and is of UDP, in which tls does not come",
        ),
        (
            vec![file()],
            "dns",
            "descriptor 3 named \"dns\" is handed over, and is neither a socket of TCP nor of UDP",
        ),
        (
            vec![connection()],
            "admin",
            "descriptor 3 named \"admin\" is handed over, and is a connection, and no listener: set \
             Accept=no",
        ),
        (vec![tcp()], "tls", "sockets are handed over for tls, which needs dns.cert_file"),
        (
            vec![tcp(), tcp()],
            "admin:admin",
            "several sockets are handed over for admin, which is a single one",
        ),
    ] {
        let mut program = Program::start_with(sockets, names, &["serve"], &[]);
        assert_eq!(program.status().await, Some(78), "{}", program.stderr());
        assert!(program.stderr().lines().any(|line| line == expected), "{}", program.stderr());
    }
    // What has no name is for DNS, which is of both.
    let mut program = Program::start_with(vec![udp()], "", &["serve"], &[]);
    assert_eq!(program.status().await, Some(78), "{}", program.stderr());
    let stderr = program.stderr();
    assert!(stderr.contains("is of UDP, without one of TCP beside it"), "{stderr}");
}
