//! The snapshot file: a restart while Consul is away loses nothing, whatever ended the last run.

mod clocks;
mod ground;
mod moved;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fingerpost::warm::seal;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::dns::addresses;
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::program::Program;
use crate::support::stage::{self, NODES, fill, health, list};
use crate::support::wait::eventually;
use crate::support::{on_path, skip};
use crate::warm::ground::{Ground, get, metric, told};

/// Names with their types, and what is said of them once nothing is heard.
const QUESTIONS: [(&str, RecordType, &str, &str); 7] = [
    ("a.service.consul", RecordType::A, "NOERROR", "answer a.service.consul. 1 IN A 10.0.0.1"),
    ("e.service.consul", RecordType::A, "NOERROR", "answer e.service.consul. 1 IN A 10.0.0.1"),
    (
        "a.service.consul",
        RecordType::SRV,
        "NOERROR",
        "answer a.service.consul. 1 IN SRV 1 1 80 0a000001.addr.dc1.consul.",
    ),
    ("n1.node.consul", RecordType::A, "NOERROR", "answer n1.node.consul. 1 IN A 10.0.0.1"),
    (
        "1.0.0.10.in-addr.arpa",
        RecordType::PTR,
        "NOERROR",
        "answer 1.0.0.10.in-addr.arpa. 1 IN PTR n1.node.dc1.consul.",
    ),
    ("a.service.consul", RecordType::TXT, "NOERROR", "authority consul. 1 IN SOA ns.consul."),
    ("nope.service.consul", RecordType::A, "NXDOMAIN", "authority consul. 1 IN SOA ns.consul."),
];

/// A program that was started without Consul answers all that an earlier one did.
async fn check_answers(program: &Program) {
    assert_eq!(get(program, "ready").await, (200, "ready\nstale, from snapshot\n".to_owned()));
    for (name, qtype, rcode, record) in QUESTIONS {
        let (text, code) = told(program, name, qtype).await;
        assert!(text.starts_with(&format!("{rcode} aa")), "{name} {qtype}: {text}");
        assert!(text.contains(record), "{name} {qtype}: {text}");
        let expected = if rcode == "NXDOMAIN" { "19" } else { "3" };
        assert_eq!(code.as_deref(), Some(expected), "{name} {qtype}");
    }
}

#[tokio::test]
async fn a_restart_while_consul_is_away_loses_nothing() {
    for signal in ["KILL", "TERM"] {
        let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
        let ground = Ground::new(&consul.url());
        let mut program = ground.serve().await;
        // One that is fetched on demand, and all of whose like were swept.
        let server = program.dns_address().await;
        assert_eq!(addresses(server, "e.service.consul").await, ["10.0.0.1"]);
        let denied = async || {
            told(&program, "9.9.9.10.in-addr.arpa", RecordType::PTR).await.0.starts_with("NXDOMAIN")
        };
        eventually("all addresses were read", denied).await;
        ground.holds(r#""name":"e","instances""#).await;
        program.signal(signal);
        let expected = if signal == "TERM" { Some(0) } else { None };
        assert_eq!(program.status().await, expected, "SIG{signal}");
        drop(consul);

        let program = ground.serve().await;
        check_answers(&program).await;
        // The addresses of all services are still known, so that one which is nobody's is denied.
        let (text, code) = told(&program, "9.9.9.10.in-addr.arpa", RecordType::PTR).await;
        assert!(text.starts_with("NXDOMAIN"), "{text}");
        assert_eq!(code.as_deref(), Some("19"));
        assert_eq!(ground.names(), ["snapshot"], "SIG{signal}");
        assert!(metric(&program, "fingerpost_snapshot_bytes").await > 0.0);
    }
}

#[tokio::test]
async fn a_last_change_is_written_at_the_end() {
    let consul = stage::consul(&["a"]).await;
    let mut ground = Ground::new(&consul.url());
    ground.set("FINGERPOST_SNAPSHOT_EVERY", "1h");
    let mut program = ground.serve().await;
    fill(&consul, 11, "a", "10.0.0.7");
    let server = program.dns_address().await;
    let changed = async || addresses(server, "a.service.consul").await == ["10.0.0.7"];
    eventually("the change is answered", changed).await;
    program.signal("TERM");
    assert_eq!(program.status().await, Some(0));
    drop(consul);
    let program = ground.serve().await;
    assert_eq!(addresses(program.dns_address().await, "a.service.consul").await, ["10.0.0.7"]);
}

#[tokio::test]
async fn consul_is_believed_as_soon_as_it_is_heard() {
    let consul = stage::consul(&["a", "b", "c", "d", "e", "gone"]).await;
    let ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    for name in ["e.service.consul", "gone.service.consul"] {
        assert_eq!(addresses(program.dns_address().await, name).await, ["10.0.0.1"]);
    }
    ground.holds(r#""name":"e","instances""#).await;
    ground.holds(r#""name":"gone","instances""#).await;
    consul.silence("dc1");
    program.signal("KILL");
    program.status().await;

    list(&consul, 20, &["a", "b", "c", "d", "e", "new"]);
    for name in ["a", "e", "new"] {
        fill(&consul, 20, name, "10.0.0.9");
    }
    let program = ground.serve().await;
    let server = program.dns_address().await;
    assert_eq!(get(&program, "ready").await.1, "ready\nstale, from snapshot\n");
    for name in ["a.service.consul", "e.service.consul", "gone.service.consul"] {
        assert_eq!(addresses(server, name).await, ["10.0.0.1"], "{name}");
    }
    consul.unsilence("dc1");
    let is_heard = async || get(&program, "ready").await.1 == "ready\n";
    eventually("Consul is heard", is_heard).await;
    // From here on, as after a start without a file: each question has its answer fetched, unless
    // a watch is about to tell.
    for name in ["a.service.consul", "e.service.consul", "new.service.consul"] {
        let expected = (format!("NOERROR aa rd\nanswer {name}. 0 IN A 10.0.0.9"), None);
        let is_new = async || told(&program, name, RecordType::A).await == expected;
        eventually("it is heard", is_new).await;
    }
    // The file was right just now, so what has vanished waits as if it had been heard.
    let is_gone = async || {
        let (text, code) = told(&program, "gone.service.consul", RecordType::A).await;
        text.starts_with("NXDOMAIN") && code.is_none()
    };
    eventually("gone is denied", is_gone).await;
}

/// What a file had takes no memory for ever.
#[tokio::test]
async fn what_nobody_asks_for_any_more_is_let_go_of() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    assert_eq!(addresses(program.dns_address().await, "e.service.consul").await, ["10.0.0.1"]);
    ground.holds(r#""name":"e","instances""#).await;
    program.signal("TERM");
    program.status().await;
    ground.set("FINGERPOST_CACHE_IDLE", "50ms");
    let program = ground.serve().await;
    let released =
        async || !fs::read_to_string(ground.file()).unwrap().contains(r#""name":"e","instances""#);
    eventually("e is let go of", released).await;
    // The watched ones are not, and neither is its name.
    ground.holds(r#""name":"d","instances""#).await;
    assert_eq!(addresses(program.dns_address().await, "e.service.consul").await, ["10.0.0.1"]);
}

#[tokio::test]
async fn a_list_that_is_not_heard_stays_old_and_the_other_does_not() {
    let consul = stage::consul(&["a"]).await;
    let ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    ground.holds(r#""instances""#).await;
    program.signal("KILL");
    program.status().await;
    (0..10_000).for_each(|_| consul.script(NODES, Reply::status(500, "no")));
    let program = ground.serve().await;
    let is_new = async || told(&program, "a.service.consul", RecordType::A).await.1.is_none();
    eventually("services are heard", is_new).await;
    let (text, code) = told(&program, "n1.node.consul", RecordType::A).await;
    assert_eq!(text, "NOERROR aa rd\nanswer n1.node.consul. 1 IN A 10.0.0.1");
    assert_eq!(code.as_deref(), Some("3"));
    consul.unscript(NODES);
    let is_new = async || told(&program, "n1.node.consul", RecordType::A).await.1.is_none();
    eventually("nodes are heard", is_new).await;
}

/// A datacenter that a file has is watched from the first question about it, as any other.
#[tokio::test]
async fn another_datacenter_of_the_file_is_asked_for_when_somebody_asks() {
    // It tells the same of both datacenters.
    let consul = stage::consul(&["a"]).await;
    consul.set("/v1/catalog/datacenters", 2, &json!(["dc1", "dc2"]));
    let ground = Ground::new(&consul.url());
    let place = |name: &str| {
        json!({
            "name": name,
            "nodes": [{ "name": "n1", "address": "10.0.0.7" }],
            "services": [{ "name": "a", "instances": [{
                "id": "a", "on": "n1", "port": 80, "weights": [1, 1], "health": "passing",
            }] }],
        })
    };
    let text = json!({ "datacenters": [place("dc1"), place("dc2")] }).to_string();
    let head = seal::head(text.as_bytes(), 0);
    fs::write(ground.file(), [&head[..], text.as_bytes()].concat()).unwrap();
    consul.silence("dc1");
    let program = ground.serve().await;
    let old = ("NOERROR aa rd\nanswer a.service.dc2.consul. 1 IN A 10.0.0.7", Some("3"));
    let (text, code) = told(&program, "a.service.dc2.consul", RecordType::A).await;
    assert_eq!((&*text, code.as_deref()), old, "Consul is not heard at all");
    let reachable = "fingerpost_datacenter_reachable{dc=\"dc2\"}";
    assert_eq!(metric(&program, reachable).await, 0.0);
    consul.unsilence("dc1");
    let is_heard = async || get(&program, "ready").await.1 == "ready\n";
    eventually("Consul is heard", is_heard).await;
    assert_eq!(metric(&program, reachable).await, 1.0, "nobody has asked for it yet");
    // Nobody waits for what is in memory, be it from a file; but it is asked for from here on.
    let (text, code) = told(&program, "a.service.dc2.consul", RecordType::A).await;
    assert_eq!((&*text, code.as_deref()), old);
    for name in ["a.service.dc2.consul", "n1.node.dc2.consul"] {
        let expected = (format!("NOERROR aa rd\nanswer {name}. 0 IN A 10.0.0.1"), None);
        let is_new = async || told(&program, name, RecordType::A).await == expected;
        eventually("it is heard", is_new).await;
    }
}

/// An agent that was restarted too knows only its own datacenter until it has met the others.
#[tokio::test]
async fn another_datacenter_of_the_file_is_known_though_consul_does_not_list_it() {
    let consul = stage::consul(&["a"]).await;
    consul.set("/v1/catalog/datacenters", 2, &json!(["dc1", "dc2"]));
    let ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    let name = "a.service.dc2.consul";
    assert_eq!(addresses(program.dns_address().await, name).await, ["10.0.0.1"]);
    ground.holds(r#""name":"dc2""#).await;
    program.signal("TERM");
    program.status().await;
    consul.set("/v1/catalog/datacenters", 3, &json!(["dc1"]));
    consul.silence("dc2");
    let program = ground.serve().await;
    let is_heard = async || get(&program, "ready").await.1 == "ready\n";
    eventually("Consul is heard", is_heard).await;
    let (text, code) = told(&program, name, RecordType::A).await;
    assert_eq!(text, format!("NOERROR aa rd\nanswer {name}. 1 IN A 10.0.0.1"));
    assert_eq!(code.as_deref(), Some("3"));
    ground.holds(r#""name":"dc2""#).await;
}

#[tokio::test]
async fn a_file_that_is_right_still_says_so() {
    let consul = stage::consul(&["a"]).await;
    let ground = Ground::new(&consul.url());
    let program = ground.serve().await;
    ground.holds(r#""instances""#).await;
    let swept = async || metric(&program, "fingerpost_snapshot_age_seconds").await < 1.0;
    eventually("it is new", swept).await;
    let writes = metric(&program, "fingerpost_snapshot_writes_total").await;
    let file = fs::File::options().append(true).open(ground.file()).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let modified = || fs::metadata(ground.file()).unwrap().modified().unwrap();
    let is_new = async || modified() > SystemTime::now() - Duration::from_secs(60);
    eventually("its time is renewed", is_new).await;
    assert!(metric(&program, "fingerpost_snapshot_writes_total").await <= writes + 1.0);
}

#[tokio::test]
async fn no_moment_is_wrong_to_be_killed_at() {
    let consul = stage::consul(&["a", "b"]).await;
    let mut ground = Ground::new(&consul.url());
    ground.set("FINGERPOST_SNAPSHOT_EVERY", "1ms");
    let mut addresses_seen = 0;
    for round in 0..40_u64 {
        let mut program = ground.start();
        // It writes all the while, and is killed while it does.
        for step in 0..=(round % 8) {
            let address = format!("10.0.{round}.{step}");
            fill(&consul, 100 + 10 * round + step, "a", &address);
            // Whoever reads meanwhile would see half of it, too.
            for _ in 0..100 {
                if let Ok(bytes) = fs::read(ground.file()) {
                    check_whole(&bytes);
                }
                tokio::task::yield_now().await;
            }
        }
        if round % 4 != 3 {
            let wanted = format!("\"10.0.{round}.");
            ground.holds(&wanted).await;
            addresses_seen += 1;
        }
        program.signal("KILL");
        program.status().await;
        check_whole(&fs::read(ground.file()).unwrap());
    }
    assert_eq!(addresses_seen, 30);
    drop(consul);
    let program = ground.serve().await;
    assert!(!program.stderr().contains("file refused"), "{}", program.stderr());
    assert_eq!(ground.names(), ["snapshot"], "what was being written is removed");
}

#[track_caller]
fn check_whole(bytes: &[u8]) {
    seal::open(bytes).unwrap_or_else(|refusal| panic!("{refusal}: {}", bytes.escape_ascii()));
}

/// Starts a program on a file of `bytes`, without Consul, and gives its log.
async fn log_of(bytes: &[u8]) -> (Ground, Program) {
    let ground = Ground::new("http://127.0.0.1:9");
    fs::write(ground.file(), bytes).unwrap();
    let program = ground.start();
    let (text, code) = told(&program, "a.service.consul", RecordType::A).await;
    assert_eq!((&*text, code.as_deref()), ("SERVFAIL aa rd", Some("14")), "{}", program.stderr());
    assert_eq!(metric(&program, "fingerpost_snapshot_refused_total").await, 1.0);
    assert_eq!(get(&program, "ready").await.0, 503);
    (ground, program)
}

#[tokio::test]
async fn a_file_that_cannot_be_taken_is_named_and_set_aside() {
    let payload = br#"{"datacenters":[{"name":"dc1","nodes":[],"services":[]}]}"#;
    let good = [&seal::head(payload, 7)[..], payload].concat();
    let text = String::from_utf8(good.clone()).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() = b' ';
    for (bytes, why) in [
        (damaged, "it is damaged: its digest is another than it says"),
        (good[..good.len() - 1].to_vec(), "it is damaged: its length is another than it says"),
        (Vec::new(), "it is damaged: it is empty"),
        (b"{\"anything\": 1}\n".to_vec(), "it is no snapshot of fingerpost's"),
        (
            text.replace("\"version\":1", "\"version\":2").into_bytes(),
            "its version is 2, and this program reads 1",
        ),
    ] {
        let (ground, program) = log_of(&bytes).await;
        let log = program.stderr();
        let line = log.lines().find(|line| line.contains("snapshot file refused"));
        let line = line.unwrap_or_else(|| panic!("{why}: {log}"));
        let file = ground.file().display().to_string();
        for part in [why, &file, &format!("{file}.refused"), "advice=", "starting without it"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(ground.names(), ["snapshot.refused"]);
        let aside = fs::read(ground.folder.path().join("snapshot.refused")).unwrap();
        assert!(aside == bytes, "{why}: it is as it was");
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read() {
    let mut ground = Ground::new("http://127.0.0.1:9");
    ground.set("FINGERPOST_SNAPSHOT_BYTES_MAX", "1024");
    fs::write(ground.file(), [b' '; 1025]).unwrap();
    let program = ground.start();
    program.dns_address().await;
    let log = program.stderr();
    assert!(log.contains("it has more than 1024 bytes, which is snapshot.bytes_max"), "{log}");
}

#[tokio::test]
async fn what_is_no_file_is_left_alone() {
    let consul = stage::consul(&["a"]).await;
    let ground = Ground::new(&consul.url());
    fs::create_dir(ground.file()).unwrap();
    let program = ground.serve().await;
    assert!(program.stderr().contains("it is no regular file"), "{}", program.stderr());
    let failures = async || metric(&program, "fingerpost_snapshot_failures_total").await > 1.0;
    eventually("it is not written", failures).await;
    assert_eq!(ground.names(), ["snapshot"]);
    assert!(ground.file().is_dir());
}

/// Where nothing is heard, what there is is not written over by less.
#[tokio::test]
async fn a_file_outlives_runs_that_hear_nothing() {
    let consul = stage::consul(&["a"]).await;
    let mut ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    ground.holds(r#""instances""#).await;
    program.signal("TERM");
    program.status().await;
    let before = fs::read(ground.file()).unwrap();
    ground.url = "http://127.0.0.1:9".to_owned();
    for _ in 0..2 {
        let mut program = ground.serve().await;
        let age = metric(&program, "fingerpost_snapshot_age_seconds").await;
        assert!((0.0..60.0).contains(&age), "{age}");
        program.signal("TERM");
        assert_eq!(program.status().await, Some(0));
        assert!(fs::read(ground.file()).unwrap() == before, "it is as it was");
    }
}

#[tokio::test]
async fn how_old_the_file_is_counts_as_time_without_consul() {
    let consul = stage::consul(&["a"]).await;
    let mut ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    ground.holds(r#""instances""#).await;
    program.signal("KILL");
    program.status().await;
    drop(consul);
    ground.set("FINGERPOST_DNS_CONFIG_MAX_STALE", "1h");
    let program = ground.serve().await;
    let (text, code) = told(&program, "a.service.consul", RecordType::A).await;
    assert!(text.starts_with("NOERROR") && code.as_deref() == Some("3"), "{text}");
    drop(program);

    make_older(&ground.file());
    let program = ground.serve().await;
    for name in ["a.service.consul", "nope.service.consul", "n1.node.consul"] {
        let said = told(&program, name, RecordType::A).await;
        assert_eq!(said, ("SERVFAIL aa rd".to_owned(), Some("22".to_owned())), "{name}");
    }
    let age = metric(&program, "fingerpost_snapshot_age_seconds").await;
    assert!((7_200.0..7_300.0).contains(&age), "{age}");
}

/// Makes a file two hours old.
fn make_older(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let opened = seal::open(&bytes).unwrap();
    let head = seal::head(opened.payload, opened.saved_unix_ms - 7_200_000);
    fs::write(path, [&head[..], opened.payload].concat()).unwrap();
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
}

/// A disk that is full: a file may not grow past a limit, which the system then says.
#[tokio::test]
async fn a_full_disk_costs_nothing_but_news() {
    if on_path("prlimit").is_none() {
        return skip("prlimit of util-linux");
    }
    let names: Vec<String> = (0..500).map(|number| format!("s{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["a"]).collect();
    let consul = stage::consul(&names).await;
    let ground = Ground::new(&consul.url());
    let mut program = ground.serve().await;
    ground.holds(r#""instances""#).await;
    program.signal("TERM");
    program.status().await;

    let program = ground.start_by(Program::start_on_full_disk);
    program.ready().await;
    let refused = async || metric(&program, "fingerpost_snapshot_failures_total").await;
    // Larger than the log, which is a file as well.
    let file = fs::read(ground.file()).unwrap();
    assert!(file.len() > 12_288 && program.stderr().len() < 8_192);
    limit_files(&program, 12_288);
    fill(&consul, 11, "a", "10.0.0.7");
    eventually("it cannot be written", async || refused().await > 1.0).await;
    let earlier = fs::read(ground.file()).unwrap();
    let opened = seal::open(&earlier).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert!(!String::from_utf8_lossy(opened.payload).contains("10.0.0.7"));
    let leftovers = async || ground.names() == ["snapshot"];
    eventually("nothing is left of the attempts", leftovers).await;
    let log = program.stderr();
    assert_eq!(log.matches("cannot write the snapshot file").count(), 1, "{log}");
    assert_eq!(addresses(program.dns_address().await, "a.service.consul").await, ["10.0.0.7"]);

    limit_files(&program, 1_000_000);
    ground.holds("10.0.0.7").await;
    let log = async || program.stderr().contains("the snapshot file is written again");
    eventually("that is said", log).await;
}

/// No file that `program` writes grows past `bytes`; its log must not have to.
fn limit_files(program: &Program, bytes: u64) {
    let (pid, limit) = (program.pid().to_string(), format!("--fsize={bytes}:unlimited"));
    let status = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn nothing_is_kept_where_it_is_not_wanted() {
    let consul: FakeConsul = stage::consul(&["a"]).await;
    let server = stage::serve(stage::config(&consul)).await;
    let url = format!("http://{}/metrics", server.admin());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    for name in ["bytes", "age_seconds", "writes_total", "failures_total", "refused_total"] {
        assert!(text.contains(&format!("fingerpost_snapshot_{name} 0\n")), "{name}");
    }
    assert_eq!(consul.requests_for(&health("a")).len(), 2);
}
