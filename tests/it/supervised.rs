//! Started by one who wants to be told, as systemd does, on a socket of the test's own.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::support::dns;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::{eventually, within};

/// One who started a program.
struct Listener {
    socket: UnixDatagram,
    /// Where it is, as the program is told.
    name: String,
    _folder: TempDir,
}

impl Listener {
    fn new(is_abstract: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let (address, name) = match is_abstract {
            true => {
                let name = path.to_str().unwrap();
                (SocketAddr::from_abstract_name(name).unwrap(), format!("@{name}"))
            }
            false => (SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap().to_owned()),
        };
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, name, _folder: folder }
    }

    /// Runs the program with this listener, a watchdog of 400 ms, and these `args`.
    fn start(&self, args: &[&str], env: &[(&str, &str)]) -> Program {
        let told = [("NOTIFY_SOCKET", &*self.name), ("WATCHDOG_USEC", "400000")];
        let listen = ["--dns", ANY_PORT, "--admin", ANY_PORT];
        Program::start(&[args, &listen].concat(), &[&told, env].concat())
    }

    /// The next message.
    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let mut message = None;
        eventually("the program says something", async || {
            message = self.socket.recv(&mut buffer).ok();
            message.is_some()
        })
        .await;
        String::from_utf8(buffer[..message.unwrap_or_default()].to_vec()).unwrap()
    }

    /// The next message that is no mere sign of life.
    async fn next_word(&self) -> String {
        let next = async {
            loop {
                let message = self.next().await;
                if message != "WATCHDOG=1" {
                    return message;
                }
            }
        };
        within("a word from the program", next).await
    }
}

#[tokio::test]
async fn a_start_its_life_and_its_end_are_told() {
    for is_abstract in [false, true] {
        let listener = Listener::new(is_abstract);
        let env = [("FINGERPOST_SHUTDOWN_GRACE", "7s"), ("FINGERPOST_SHUTDOWN_LAMEDUCK", "1s")];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        std::fs::write(&path, r#"{"services": [{"name": "web", "port": 80}]}"#).unwrap();
        let path = path.to_str().unwrap();
        let mut program = listener.start(&["serve", "--catalog", path], &env);
        let ready = listener.next().await;
        let status = format!("STATUS=answering for consul from catalogue file {path}; ");
        assert!(ready.starts_with(&format!("READY=1\n{status}")), "{ready}");
        let services = format!("{status}1 services");
        // It may have been ready before the file was read, and published before that was noted.
        let mut word = ready.trim_start_matches("READY=1\n").to_owned();
        while word != services {
            assert!(word.starts_with(&status) && word.contains("; not ready: "), "{word}");
            word = listener.next_word().await;
        }
        for _ in 0..3 {
            assert_eq!(listener.next().await, "WATCHDOG=1");
        }
        program.signal("TERM");
        let stopping = "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=13000000";
        assert_eq!(listener.next_word().await, stopping);
        assert_eq!(program.status().await, Some(0), "{}", program.stderr());
    }
}

/// As `Type=notify-reload` wants it.
#[tokio::test]
async fn a_reload_is_told_whatever_comes_of_it() {
    let listener = Listener::new(true);
    let folder = tempfile::tempdir().unwrap();
    let (config, catalog) = (folder.path().join("f.toml"), folder.path().join("c.json"));
    std::fs::write(&config, "[log]\nlevel = 'info'\n").unwrap();
    std::fs::write(&catalog, r#"{"services": [{"name": "web", "port": 80}]}"#).unwrap();
    let args =
        ["serve", "--config", config.to_str().unwrap(), "--catalog", catalog.to_str().unwrap()];
    let program = listener.start(&args, &[]);
    program.ready().await;
    for text in ["[log]\nlevel = 'warn'\n", "[log]\nlevel = 'loud'\n"] {
        std::fs::write(&config, text).unwrap();
        program.signal("HUP");
        let began = loop {
            let word = listener.next_word().await;
            if let Some(began) = word.strip_prefix("RELOADING=1\nMONOTONIC_USEC=") {
                break began.parse::<u64>().unwrap();
            }
        };
        assert!(began > 0);
        let done = listener.next_word().await;
        let status = "READY=1\nSTATUS=answering for consul from catalogue file ";
        assert!(done.starts_with(status), "{done}");
    }
}

#[tokio::test]
async fn who_is_up_need_not_have_heard_consul() {
    let listener = Listener::new(false);
    // Nothing listens on port 1.
    let program = listener.start(&["serve", "--consul", "http://127.0.0.1:1"], &[]);
    let ready = listener.next().await;
    let status = "READY=1\nSTATUS=answering for consul from consul at http://127.0.0.1:1; \
                  0 services; not ready: ";
    assert!(ready.starts_with(status), "{ready}");
    // It is bound and says what it can.
    let reply = dns::ask(program.dns_address().await, "web.service.consul", RecordType::A).await;
    assert_eq!(dns::zone_text(&reply), "SERVFAIL aa rd");
}

#[tokio::test]
async fn one_who_cannot_be_told_keeps_nobody_from_serving() {
    for (name, said) in [
        ("/nonexistent/notify", "cannot tell NOTIFY_SOCKET"),
        ("vsock:2:1234", "cannot speak to NOTIFY_SOCKET = vsock:2:1234: neither a path nor @"),
    ] {
        let args =
            ["serve", "--consul", "http://127.0.0.1:1", "--dns", ANY_PORT, "--admin", ANY_PORT];
        let mut program = Program::start(&args, &[("NOTIFY_SOCKET", name)]);
        dns::ask(program.dns_address().await, "web.service.consul", RecordType::A).await;
        program.signal("TERM");
        assert_eq!(program.status().await, Some(0), "{}", program.stderr());
        assert!(program.stderr().contains(said), "{}", program.stderr());
    }
}
