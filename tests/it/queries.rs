//! The query log as its readers have it: which queries have a line, and what is in it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::dns::{Udp, ask, ask_tcp, exchange, question, with_edns};
use crate::support::metrics::find;
use crate::support::program::{ANY_PORT, Program};
use crate::support::recursor::{Recursor, a, answer};
use crate::support::wait::eventually;

const DEMO: [&str; 5] = ["demo", "--dns", ANY_PORT, "--admin", ANY_PORT];

/// The demo with these variables, and where it answers.
async fn demo(env: &[(&str, &str)]) -> (Program, SocketAddr) {
    let program = Program::start(&DEMO, env);
    program.ready().await;
    let address = program.dns_address().await;
    (program, address)
}

/// The lines of queries: from the transport on, without what differs from run to run.
fn lines(program: &Program) -> Vec<String> {
    let log = program.stderr();
    let lines = log.lines().filter_map(|line| line.split_once(" query client=127.0.0.1:"));
    lines
        .map(|(_, line)| {
            let (_, line) = line.split_once(' ').unwrap();
            line.split_once(" micros=").unwrap().0.to_owned()
        })
        .collect()
}

async fn until_lines(program: &Program, count: usize) -> Vec<String> {
    eventually(format!("{count} lines"), async || lines(program).len() >= count).await;
    lines(program)
}

async fn metric(program: &Program, series: &str) -> f64 {
    let url = format!("http://{}/metrics", program.admin_address().await);
    find(&reqwest::get(url).await.unwrap().text().await.unwrap(), series).unwrap()
}

#[tokio::test]
async fn each_query_has_a_line_of_text() {
    let (program, server) = demo(&[("FINGERPOST_LOG_QUERIES", "all")]).await;
    let hit = ask(server, "n1.node.consul", RecordType::A).await;
    let mixed = ask(server, "N1.Node.Consul", RecordType::AAAA).await;
    let missing = ask_tcp(server, "nope.service.consul", RecordType::SRV).await;
    let foreign = ask(server, "example.com", RecordType::A).await;
    let of = |reply: &Message| reply.to_vec().unwrap().len();
    assert_eq!(
        until_lines(&program, 4).await,
        [
            format!(
                "transport=udp name=n1.node.consul. type=A rcode=NOERROR tc=false stale=false \
                 waited=false bytes={}",
                of(&hit)
            ),
            format!(
                "transport=udp name=N1.Node.Consul. type=AAAA rcode=NOERROR tc=false stale=false \
                 waited=false bytes={}",
                of(&mixed)
            ),
            format!(
                "transport=tcp name=nope.service.consul. type=SRV rcode=NXDOMAIN tc=false \
                 stale=false waited=false bytes={}",
                of(&missing)
            ),
            format!(
                "transport=udp name=example.com. type=A rcode=REFUSED tc=false stale=false \
                 waited=false bytes={}",
                of(&foreign)
            ),
        ]
    );
    assert_eq!(metric(&program, "fingerpost_query_log_lines_total").await, 4.0);
    assert_eq!(metric(&program, "fingerpost_query_log_left_out_total").await, 0.0);
}

#[tokio::test]
async fn a_line_can_be_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("f.toml");
    let text = "[dns]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n\
                [log]\nformat = 'json'\nqueries = 'all'\n";
    fs::write(&config, text).unwrap();
    let catalog = folder.path().join("c.json");
    fs::write(&catalog, "{ \"nodes\": [{ \"name\": \"n1\", \"address\": \"10.0.0.1\" }] }")
        .unwrap();
    let paths = [&config, &catalog].map(|path| path.to_str().unwrap());
    let program = Program::start(&["serve", "--config", paths[0], "--catalog", paths[1]], &[]);
    let told = || -> Vec<Value> {
        let log = program.stderr();
        // The last may be half written.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let listening = || told().into_iter().find(|line| line["message"] == "listening");
    eventually("it listens", async || listening().is_some()).await;
    let addresses = listening().unwrap()["dns"].as_str().unwrap().to_owned();
    let server: SocketAddr = addresses.trim_matches(['[', ']']).parse().unwrap();

    let is_ready = async || {
        ask(server, "n1.node.consul", RecordType::A).await.response_code == ResponseCode::NoError
    };
    eventually("it answers", is_ready).await;
    let reply = ask(server, "n1.node.consul", RecordType::TXT).await;
    let asked =
        || told().into_iter().find(|line| line["message"] == "query" && line["type"] == "TXT");
    eventually("the line is there", async || asked().is_some()).await;
    let mut line = asked().unwrap();
    let line = line.as_object_mut().unwrap();
    assert!(line.remove("timestamp").is_some());
    assert!(line.remove("client").unwrap().as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(line.remove("micros").unwrap().is_u64());
    let expected = json!({
        "level": "INFO", "message": "query", "transport": "udp", "name": "n1.node.consul.",
        "type": "TXT", "rcode": "NOERROR", "tc": false, "stale": false, "waited": false,
        "bytes": reply.to_vec().unwrap().len(),
    });
    assert_eq!(Value::Object(line.clone()), expected);
}

#[tokio::test]
async fn errors_alone_can_have_lines() {
    let (program, server) = demo(&[("FINGERPOST_LOG_QUERIES", "errors")]).await;
    for name in ["n1.node.consul", "nope.service.consul", "example.com", "n2.node.consul"] {
        ask(server, name, RecordType::A).await;
    }
    // No question can be read of it: a count of two, and none.
    Udp::connect(server).await.send(b"\x00\x07\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00").await;
    let lines = until_lines(&program, 2).await;
    let rcodes: Vec<&str> = lines.iter().map(|line| line.split_once(" tc=").unwrap().0).collect();
    assert_eq!(
        rcodes,
        ["transport=udp name=example.com. type=A rcode=REFUSED", "transport=udp rcode=FORMERR"]
    );
}

#[tokio::test]
async fn some_can_have_lines() {
    for (sample, expected) in [("1", 20), ("1000000000", 0)] {
        let env =
            [("FINGERPOST_LOG_QUERIES", "sampled"), ("FINGERPOST_LOG_QUERIES_SAMPLE", sample)];
        let (mut program, server) = demo(&env).await;
        for _ in 0..20 {
            ask(server, "n1.node.consul", RecordType::A).await;
        }
        // At its end it has written what it has.
        program.signal("TERM");
        assert_eq!(program.status().await, Some(0));
        assert_eq!(lines(&program).len(), expected, "one of {sample}");
    }
}

#[tokio::test]
async fn what_is_beyond_the_bound_is_counted_and_told() {
    let env = [("FINGERPOST_LOG_QUERIES", "all"), ("FINGERPOST_LOG_QUERIES_PER_SECOND", "5")];
    let (mut program, server) = demo(&env).await;
    let mut asked = 0.0;
    let left_out = "fingerpost_query_log_left_out_total";
    // More than five at once, however slow this machine is.
    eventually("some are left out", async || {
        for _ in 0..50 {
            ask(server, "n1.node.consul", RecordType::A).await;
            asked += 1.0;
        }
        metric(&program, left_out).await > 0.0
    })
    .await;
    let written = "fingerpost_query_log_lines_total";
    let are_all =
        async || metric(&program, written).await + metric(&program, left_out).await == asked;
    eventually("each is written or left out", are_all).await;
    let missing = metric(&program, left_out).await;
    program.signal("TERM");
    assert_eq!(program.status().await, Some(0));
    assert_eq!(lines(&program).len() as f64, asked - missing);
    let log = program.stderr();
    let told: f64 = log
        .lines()
        .filter_map(|line| line.split_once("more than log.queries_per_second queries="))
        .map(|(_, queries)| queries.parse::<f64>().unwrap())
        .sum();
    assert_eq!(told, missing, "{log}");
}

#[tokio::test]
async fn a_name_makes_no_line_of_its_own() {
    let (program, server) = demo(&[("FINGERPOST_LOG_QUERIES", "all")]).await;
    let name = b"\x13a\nINFO query name=b\x03\x1b[m\x06consul\x00";
    let head = b"\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let client = Udp::connect(server).await;
    client.send(&[&head[..], name, b"\x00\x01\x00\x01"].concat()).await;
    client.receive().await;
    let lines = until_lines(&program, 1).await;
    let shown = r"transport=udp name=a\010INFO\032query\032name\=b.\027[m.consul. type=A rcode=";
    assert!(lines[0].starts_with(shown), "{lines:?}");
    let count = program.stderr().lines().filter(|line| line.contains("INFO query")).count();
    assert_eq!(count, 1, "{}", program.stderr());
}

#[tokio::test]
async fn a_line_says_what_was_cut_and_what_was_waited_for() {
    let recursor = Recursor::of(|query| answer(query, a(9))).await;
    let mut nodes = String::new();
    for node in 1..=60 {
        let comma = if node == 1 { "" } else { "," };
        write!(
            nodes,
            "{comma}{{ \"name\": \"n{node}\", \"address\": \"10.0.0.{node}\", \
             \"services\": [{{ \"name\": \"web\", \"port\": 80 }}] }}"
        )
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join("c.json");
    fs::write(&catalog, format!("{{ \"nodes\": [{nodes}] }}")).unwrap();
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--catalog"];
    let args = [&args[..], &[catalog.to_str().unwrap()]].concat();
    let recursors = recursor.address().to_string();
    let env = [("FINGERPOST_LOG_QUERIES", "all"), ("FINGERPOST_RECURSORS", recursors.as_str())];
    let program = Program::start(&args, &env);
    program.ready().await;
    let server = program.dns_address().await;
    exchange(server, &with_edns(question("web.service.consul", RecordType::SRV), 1232, false))
        .await;
    ask(server, "example.com", RecordType::A).await;
    let lines = until_lines(&program, 2).await;
    let cut: Vec<&str> = lines.iter().map(|line| line.split_once(" bytes=").unwrap().0).collect();
    assert_eq!(
        cut,
        [
            "transport=udp name=web.service.consul. type=SRV rcode=NOERROR tc=true stale=false \
             waited=false",
            "transport=udp name=example.com. type=A rcode=NOERROR tc=false stale=false waited=true",
        ]
    );
}

/// And whatever else is logged.
#[tokio::test]
async fn it_is_turned_on_and_off_while_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["f.toml", "c.json"].map(|name| folder.path().join(name));
    let [config, catalog] = &paths;
    fs::write(config, "").unwrap();
    fs::write(catalog, "{ \"nodes\": [{ \"name\": \"n1\", \"address\": \"10.0.0.1\" }] }").unwrap();
    let [file, source] = paths.each_ref().map(|path| path.to_str().unwrap());
    let args =
        ["serve", "--config", file, "--catalog", source, "--dns", ANY_PORT, "--admin", ANY_PORT];
    let program = Program::start(&args, &[]);
    program.ready().await;
    let server = program.dns_address().await;
    let reload = async |text: &str| {
        fs::write(config, text).unwrap();
        let url = format!("http://{}/v1/reload", program.admin_address().await);
        let request = reqwest::Client::new().post(url).header("X-Fingerpost-Request", "1");
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    ask(server, "n1.node.consul", RecordType::A).await;
    reload("[log]\nlevel = 'error'\nqueries = 'all'\n").await;
    ask(server, "n1.node.consul", RecordType::TXT).await;
    until_lines(&program, 1).await;
    reload("").await;
    ask(server, "n1.node.consul", RecordType::A).await;
    reload("[log]\nqueries = 'all'\n").await;
    ask(server, "n1.node.consul", RecordType::AAAA).await;
    let lines = until_lines(&program, 2).await;
    let types: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(types, ["type=TXT", "type=AAAA"]);
}
