//! dnstap: a collector of others' making reads it back, and one that is away or slow costs frames alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::dns::{ask, ask_tcp};
use crate::support::metrics::{scrape, value};
use crate::support::process::Process;
use crate::support::program;
use crate::support::server::Server;
use crate::support::wait::{eventually, within};

async fn serve(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::default();
    config.dnstap.identity = Some("ns1".to_owned());
    change(&mut config);
    let server = Server::start(config, Origin::Fixed(file::parse(file::DEMO).unwrap().changes()));
    server.ready().await;
    server
}

async fn until(server: &Server, series: &str, expected: f64) {
    let is_there = async || value(&scrape(server).await, series) == expected;
    eventually(format!("{series} is {expected}"), is_there).await;
}

/// A run of fstrm_capture, which writes what it takes to a file.
struct Capture {
    process: Process,
    folder: TempDir,
}

impl Capture {
    fn start(fstrm_capture: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(fstrm_capture);
        command.args(["-t", "protobuf:dnstap.Dnstap", "-u"]).arg(folder.path().join("socket"));
        command.arg("-w").arg(folder.path().join("frames")).stderr(Stdio::null());
        Self { process: Process::spawn(&mut command), folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Ends it, and has dnstap-ldns tell what it took, a document of YAML for each frame.
    async fn told(mut self, dnstap_ldns: &Path) -> Vec<String> {
        self.process.signal("TERM");
        assert!(self.process.ended().await.success());
        let mut command = Command::new(dnstap_ldns);
        let output =
            command.arg("-y").arg("-r").arg(self.folder.path().join("frames")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator("---\n").map(str::to_owned).collect()
    }
}

/// The value of `key` in a document.
fn field<'d>(document: &'d str, key: &str) -> &'d str {
    let mut lines = document.lines().filter_map(|line| line.trim_start().strip_prefix(key));
    lines.find_map(|rest| rest.strip_prefix(": ")).unwrap_or_default()
}

#[tokio::test]
async fn a_collector_has_each_query_and_its_reply() {
    let (Some(fstrm_capture), Some(dnstap_ldns)) =
        (program("fstrm_capture"), program("dnstap-ldns"))
    else {
        return;
    };
    let capture = Capture::start(&fstrm_capture);
    // It may be there later than the server.
    let server = serve(|config| config.dnstap.socket = Some(capture.socket())).await;
    until(&server, "fingerpost_dnstap_connected", 1.0).await;
    let before = unix_secs();
    let hit = ask(server.dns(), "n1.node.consul", RecordType::A).await;
    let missing = ask_tcp(server.dns(), "nope.service.consul", RecordType::SRV).await;
    until(&server, "fingerpost_dnstap_frames_sent_total", 4.0).await;
    let after = unix_secs();
    let port = server.dns().port().to_string();
    server.stop().await;

    let told = capture.told(&dnstap_ldns).await;
    let said: Vec<[&str; 3]> = told
        .iter()
        .map(|document| {
            let message = document.split_once("message:\n").unwrap().1;
            ["type", "socket_protocol", "socket_family"].map(|key| field(message, key))
        })
        .collect();
    assert_eq!(
        said,
        [
            ["AUTH_QUERY", "UDP", "INET"],
            ["AUTH_RESPONSE", "UDP", "INET"],
            ["AUTH_QUERY", "TCP", "INET"],
            ["AUTH_RESPONSE", "TCP", "INET"],
        ]
    );
    for (at, document) in told.iter().enumerate() {
        let keys = ["identity", "version", "query_address", "response_address", "response_port"];
        let version = concat!("\"fingerpost ", env!("CARGO_PKG_VERSION"), "\"");
        let expected = ["\"ns1\"", version, "\"127.0.0.1\"", "\"127.0.0.1\"", port.as_str()];
        assert_eq!(keys.map(|key| field(document, key)), expected, "{document}");
        assert!(field(document, "query_port").parse::<u16>().is_ok_and(|port| port > 0));
        let id = if at < 2 { hit.id } else { missing.id };
        assert!(document.contains(&format!("id: {id}\n")), "{id} in {document}");
    }
    let asked = |document: &str| field(document, "query_time").to_owned();
    assert_eq!(asked(&told[0]), asked(&told[1]));
    for document in [&told[1], &told[3]] {
        let times = ["query_time", "response_time"].map(|key| field(document, key));
        let [came, went] = times.map(|time| time.strip_prefix("!!timestamp ").unwrap());
        // As text, which is as good as a number here.
        assert!(came <= went && went < date(after + 1).as_str(), "{came} {went}");
        assert!(date(before).as_str() <= came, "{came} is before {}", date(before));
    }
    assert!(told[0].contains(";n1.node.consul.\tIN\tA\n"), "{}", told[0]);
    assert!(told[1].contains("\n    n1.node.consul.\t0\tIN\tA\t10.0.0.1\n"), "{}", told[1]);
    assert!(told[2].contains(";nope.service.consul.\tIN\tSRV\n"), "{}", told[2]);
    assert!(told[3].contains("rcode: NXDOMAIN"), "{}", told[3]);
}

fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// As dnstap-ldns has it.
fn date(unix_secs: u64) -> String {
    let at = format!("@{unix_secs}");
    let output = Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%d %H:%M:%S"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

/// A collector of the test's own, over TCP.
struct Collector(TcpListener);

impl Collector {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// The next connection, up to the sender's READY.
    async fn meet(&self) -> TcpStream {
        let (mut stream, _) = within("a connection", self.0.accept()).await.unwrap();
        assert_eq!(control(&mut stream).await, with_type(4));
        stream
    }
}

/// A word and the type of content.
fn with_type(word: u8) -> Vec<u8> {
    [&[0, 0, 0, word][..], b"\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap"].concat()
}

/// What is in the next control frame.
async fn control(stream: &mut TcpStream) -> Vec<u8> {
    assert_eq!(within("a control frame", stream.read_u32()).await.unwrap(), 0);
    frame(stream).await
}

async fn frame(stream: &mut TcpStream) -> Vec<u8> {
    let len = within("a frame", stream.read_u32()).await.unwrap();
    let mut content = vec![0; len as usize];
    stream.read_exact(&mut content).await.unwrap();
    content
}

/// Takes what is offered.
async fn accept(stream: &mut TcpStream) {
    stream.write_all(b"\0\0\0\0\0\0\0\x22").await.unwrap();
    stream.write_all(&with_type(1)).await.unwrap();
    assert_eq!(control(stream).await, with_type(2), "START");
}

/// Whether a frame has this label of a name.
fn has(frame: &[u8], label: &str) -> bool {
    frame.windows(label.len()).any(|part| part == label.as_bytes())
}

#[tokio::test]
async fn a_collector_that_goes_is_found_again() {
    let collector = Collector::new().await;
    let server = serve(|config| config.dnstap.address = Some(collector.address())).await;
    let mut stream = collector.meet().await;
    accept(&mut stream).await;
    ask(server.dns(), "n1.node.consul", RecordType::A).await;
    assert!(has(&frame(&mut stream).await, "n1") && has(&frame(&mut stream).await, "n1"));
    drop(stream);
    until(&server, "fingerpost_dnstap_connected", 0.0).await;

    // What is asked meanwhile waits.
    ask(server.dns(), "n2.node.consul", RecordType::A).await;
    let mut stream = collector.meet().await;
    accept(&mut stream).await;
    until(&server, "fingerpost_dnstap_connected", 1.0).await;
    assert!(has(&frame(&mut stream).await, "n2") && has(&frame(&mut stream).await, "n2"));

    // At the end all has come, and it says so.
    let finish = async {
        assert_eq!(control(&mut stream).await, [0, 0, 0, 3], "STOP");
        stream.write_all(b"\0\0\0\0\0\0\0\x04\0\0\0\x05").await.unwrap();
    };
    tokio::join!(server.stop(), finish);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_collector_that_says_nothing_costs_frames_and_no_answer() {
    let collector = Collector::new().await;
    let server = serve(|config| {
        config.dnstap.address = Some(collector.address());
        config.dnstap.queue = 4;
    })
    .await;
    let mut stream = collector.meet().await;
    for node in 1..=4 {
        let reply = ask(server.dns(), &format!("n{node}.node.consul"), RecordType::A).await;
        assert_eq!(reply.answers.len(), 1, "n{node}");
    }
    until(&server, "fingerpost_dnstap_frames_dropped_total", 4.0).await;
    accept(&mut stream).await;
    for label in ["n1", "n1", "n2", "n2"] {
        assert!(has(&frame(&mut stream).await, label), "{label}");
    }
    until(&server, "fingerpost_dnstap_frames_sent_total", 4.0).await;
    ask(server.dns(), "n4.node.consul", RecordType::A).await;
    assert!(has(&frame(&mut stream).await, "n4"));
}
