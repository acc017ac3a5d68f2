//! The binary as a user sees it: flags, messages, exit statuses, signals, logs.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::dns::{self, zone_text};
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::eventually;

/// What a run that ends by itself comes to: its status, what it printed and what it logged.
async fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut program = Program::start(args, env);
    let status = program.status().await;
    (status, program.stdout(), program.stderr())
}

#[tokio::test]
async fn what_is_no_command_is_status_2() {
    for args in [
        &["serve", "--verbose"][..],
        &["serve", "--config"],
        &["serve", "--consul", "c:8500", "--catalog", "c.json"],
        &["serve", "--snapshot", "s", "--catalog", "c.json"],
        &["demo", "--catalog", "c.json"],
        &["dance"],
        &[],
    ] {
        let (status, _, stderr) = run(args, &[]).await;
        assert_eq!(status, Some(2), "{args:?}\n{stderr}");
        assert!(stderr.contains("--help"), "{args:?}\n{stderr}");
    }
}

#[tokio::test]
async fn it_says_its_version() {
    let revision = commit().map_or_else(String::new, |commit| format!(" ({commit})"));
    let version = format!("fingerpost {}{revision}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"], &[]).await, (Some(0), version, String::new()));
}

/// The first twelve digits of the commit that is checked out, if these sources are a checkout.
fn commit() -> Option<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    fs::exists(Path::new(root).join(".git")).unwrap().then_some(())?;
    let output =
        Command::new("git").args(["-C", root, "log", "-1", "--format=%H"]).output().ok()?;
    output.status.success().then_some(())?;
    Some(String::from_utf8(output.stdout).unwrap()[..12].to_owned())
}

#[tokio::test]
async fn all_mistakes_are_told_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.toml");
    fs::write(&path, "[dns]\nworkers = 999\nworker = 1\n\n[log]\nlevel = true\n").unwrap();
    let path = path.to_str().unwrap();
    let env = [("FINGERPOST_SHUTDOWN_GRACE", "soon"), ("CONSUL_HTTP_SSL", "perhaps")];
    let told = format!(
        "{path}:2: dns.workers = 999: must be a whole number from 0 to 256\n\
         {path}:3: dns.worker: unknown key; did you mean dns.workers?\n\
         {path}:6: log.level = true: must be one of error, warn, info, debug, trace\n\
         environment: CONSUL_HTTP_SSL = perhaps: must be true or false\n\
         environment: FINGERPOST_SHUTDOWN_GRACE = soon: \
         must be a duration such as \"1m30s\", from 0s to 1h\n"
    );
    let checked = run(&["check", "--config", path], &env).await;
    assert_eq!(checked, (Some(78), String::new(), told.clone()));

    let flag = "command line: --dns = here: must be an IP address and a port such as \
                127.0.0.1:53 or [::1]:53, one or several\n";
    let served = run(&["serve", "--config", path, "--dns", "here"], &env).await;
    assert_eq!(served, (Some(78), String::new(), told + flag));
}

#[tokio::test]
async fn a_file_that_is_named_must_be_there() {
    for flag in ["--config", "--catalog"] {
        let (status, _, stderr) = run(&["serve", flag, "/nonexistent/file"], &[]).await;
        assert_eq!(status, Some(78), "{flag}\n{stderr}");
        assert!(stderr.contains("/nonexistent/file: No such file"), "{flag}\n{stderr}");
    }
}

#[tokio::test]
async fn a_file_of_secrets_is_judged_before_anything_starts_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets");
    let env = [("FINGERPOST_DNS_COOKIE_SECRETS_FILE", path.to_str().unwrap())];
    let serve = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT];
    let (status, _, stderr) = run(&serve, &env).await;
    assert_eq!(status, Some(78), "{stderr}");
    assert!(stderr.contains("/secrets: No such file"), "{stderr}");
    fs::write(&path, "00112233445566778899aabbccddeef\n").unwrap();
    let (status, _, stderr) = run(&serve, &env).await;
    let expected = format!(
        "dns.cookie_secrets_file: {} line 1 is no secret of 32 hexadecimal digits\n",
        path.display()
    );
    assert_eq!((status, stderr), (Some(78), expected));
}

#[tokio::test]
async fn a_certificate_is_judged_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.pem");
    let path = path.to_str().unwrap();
    let tls = ("FINGERPOST_DNS_TLS_LISTEN", ANY_PORT);
    let files = [("FINGERPOST_DNS_CERT_FILE", path), ("FINGERPOST_DNS_KEY_FILE", path)];
    let env = [tls, files[0], files[1]];
    for command in [&["serve", "--dns", ANY_PORT, "--admin", ANY_PORT][..], &["demo"]] {
        let (status, _, stderr) = run(command, &env).await;
        assert_eq!(status, Some(78), "{stderr}");
        assert!(stderr.contains(&format!("cannot read {path}")), "{stderr}");
    }
}

#[tokio::test]
async fn each_mistake_of_a_catalogue_file_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    fs::write(&path, r#"{"nodes": [{"name": "n1"}], "services": [{"port": 80}]}"#).unwrap();
    let (status, _, stderr) = run(&["serve", "--catalog", path.to_str().unwrap()], &[]).await;
    assert_eq!((status, stderr.lines().count()), (Some(78), 2), "{stderr}");
    let beginning = format!("{}: ", path.display());
    assert!(stderr.lines().all(|line| line.starts_with(&beginning)), "{stderr}");
    assert!(stderr.contains("nodes[0].address is missing"), "{stderr}");
    assert!(stderr.contains("services[0].name is missing"), "{stderr}");
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_program_with_status_1() {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    check_taken(taken.local_addr().unwrap(), taken.local_addr().unwrap()).await;
}

#[tokio::test]
async fn a_second_program_on_the_same_ports_is_refused_and_takes_nothing() {
    let first = Program::demo().await;
    let (dns, admin) = (first.dns_address().await, first.admin_address().await);
    check_taken(dns, admin).await;
    for _ in 0..20 {
        let reply = dns::ask(dns, "n1.node.consul", RecordType::A).await;
        assert_eq!(reply.answers.len(), 1);
    }
}

/// Starts a program on `dns`, and one with its admin port on `admin`: both say what is taken.
async fn check_taken(dns: SocketAddr, admin: SocketAddr) {
    for (args, address) in [
        (["demo", "--dns", &dns.to_string(), "--admin", ANY_PORT], dns),
        (["demo", "--dns", ANY_PORT, "--admin", &admin.to_string()], admin),
    ] {
        let (status, stdout, stderr) = run(&args, &[]).await;
        assert_eq!((status, &*stdout), (Some(1), ""), "{args:?}\n{stderr}");
        let says =
            stderr.contains(&address.to_string()) && stderr.contains("Address already in use");
        assert!(says, "{args:?}\n{stderr}");
    }
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    for signal in ["TERM", "INT"] {
        let mut demo = Program::demo().await;
        // A client that keeps its connection does not keep the program.
        let _idle = dns::Tcp::connect(demo.dns_address().await).await;
        let since = Instant::now();
        demo.signal(signal);
        assert_eq!(demo.status().await, Some(0), "SIG{signal}\n{}", demo.stderr());
        assert!(since.elapsed() < GRACE, "SIG{signal} took {:?}", since.elapsed());
        assert!(demo.stderr().contains("stopped"), "SIG{signal}\n{}", demo.stderr());
    }
}

#[tokio::test]
async fn half_a_request_to_the_admin_port_keeps_it_from_no_end() {
    let env = [("FINGERPOST_SHUTDOWN_GRACE", "1h"), ("FINGERPOST_ADMIN_IDLE", "1h")];
    let mut demo = Program::start(&["demo", "--dns", ANY_PORT, "--admin", ANY_PORT], &env);
    demo.ready().await;
    let mut half = TcpStream::connect(demo.admin_address().await).await.unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    let admin = format!("http://{}/metrics", demo.admin_address().await);
    let connections = async || {
        let text = reqwest::get(&admin).await.unwrap().text().await.unwrap();
        // Ours that asks for them, and the other.
        text.lines().any(|line| line == "fingerpost_admin_connections 2")
    };
    eventually("both connections are open", connections).await;
    demo.signal("TERM");
    assert_eq!(demo.status().await, Some(0));
    assert!(!demo.stderr().contains("grace, the rest"), "{}", demo.stderr());
}

#[tokio::test]
async fn what_the_grace_was_too_short_for_is_said() {
    let env = [("FINGERPOST_SHUTDOWN_GRACE", "0s")];
    let mut demo = Program::start(&["demo", "--dns", ANY_PORT, "--admin", ANY_PORT], &env);
    demo.ready().await;
    demo.signal("TERM");
    assert_eq!(demo.status().await, Some(0));
    let said = "not everything was finished within the grace, the rest is dropped";
    assert!(demo.stderr().contains(said), "{}", demo.stderr());
}

#[tokio::test]
async fn the_demo_says_what_to_try() {
    let demo = Program::demo().await;
    let address = demo.dns_address().await;
    let beginning = format!("dig @{} -p {} ", address.ip(), address.port());
    let stdout = demo.stdout();
    let lines: Vec<_> =
        stdout.lines().filter_map(|line| line.trim().strip_prefix(&beginning)).collect();
    assert_eq!(lines.len(), 3, "{stdout}");
    for line in lines {
        let (name, qtype) = line.split_once(' ').unwrap_or((line, "A"));
        let reply = dns::ask(address, name, qtype.parse().unwrap()).await;
        assert!(!reply.answers.is_empty(), "{line}\n{}", zone_text(&reply));
    }
    assert!(stdout.contains(&format!("curl http://{}/", demo.admin_address().await)), "{stdout}");
}

#[tokio::test]
async fn the_demo_warns_of_a_variable_that_is_no_key() {
    let args = ["demo", "--dns", ANY_PORT, "--admin", ANY_PORT];
    let demo = Program::start(&args, &[("FINGERPOST_DNS_WORKER", "2")]);
    demo.ready().await;
    let warning = "WARN environment: FINGERPOST_DNS_WORKER: no such key, ignored; \
                   did you mean FINGERPOST_DNS_WORKERS?";
    assert!(demo.stderr().contains(warning), "{}", demo.stderr());
}

#[tokio::test]
async fn a_catalogue_file_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.json");
    replace(&path, &catalog("10.0.0.1"));
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--catalog"];
    let program = Program::start(&[&args[..], &[path.to_str().unwrap()]].concat(), &[]);
    program.ready().await;
    let server = program.dns_address().await;
    let answer = async || zone_text(&dns::ask(server, "web.dc1.consul", RecordType::A).await);
    let has = |address: &str| format!("NOERROR aa rd\nanswer web.dc1.consul. 0 IN A {address}");
    assert_eq!(answer().await, has("10.0.0.1"));

    replace(&path, &catalog("10.0.0.2"));
    eventually("the answer has changed", async || answer().await == has("10.0.0.2")).await;

    replace(&path, r#"{"nodes": [{"name": "n1", "adress": "10.0.0.3"}]}"#);
    eventually("the file is complained of", async || bad_lines(&program).len() == 1).await;
    let line = bad_lines(&program).remove(0);
    assert!(line.contains(path.to_str().unwrap()) && line.contains("nodes[0].adress"), "{line}");
    assert_eq!(answer().await, has("10.0.0.2"));

    replace(&path, &catalog("10.0.0.4"));
    eventually("the answer has changed", async || answer().await == has("10.0.0.4")).await;
    assert_eq!(bad_lines(&program).len(), 1, "{}", program.stderr());
}

/// Log lines about a catalogue file that is bad.
fn bad_lines(program: &Program) -> Vec<String> {
    let log = program.stderr();
    log.lines().filter(|line| line.contains("catalogue file is bad")).map(str::to_owned).collect()
}

/// In one step, as editors and deployments do it: no reader sees a half.
fn replace(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, path).unwrap();
}

/// A catalogue with one `web`, on a node with this address.
fn catalog(address: &str) -> String {
    serde_json::json!({
        "nodes": [{ "name": "n1", "address": address, "services": [{ "name": "web", "port": 80 }] }],
    })
    .to_string()
}

#[tokio::test]
async fn a_flag_wins_over_a_variable_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog_path, config_path) = (folder.path().join("c.json"), folder.path().join("f.toml"));
    fs::write(&catalog_path, catalog("10.0.0.1")).unwrap();
    let text = format!(
        "dns.listen = [\"127.0.0.2:0\"]\nadmin.listen = \"127.0.0.2:0\"\ncatalog.file = {:?}\n",
        catalog_path.display()
    );
    fs::write(&config_path, text).unwrap();
    let file = ["serve", "--config", config_path.to_str().unwrap()];
    let flags = ["--dns", "127.0.0.4:0", "--admin", "127.0.0.4:0"];
    let env =
        [("FINGERPOST_DNS_LISTEN", "127.0.0.3:0"), ("FINGERPOST_ADMIN_LISTEN", "127.0.0.3:0")];
    for (args, env, expected) in [
        (file.to_vec(), &[][..], "127.0.0.2"),
        (file.to_vec(), &env[..], "127.0.0.3"),
        ([&file[..], &flags].concat(), &env[..], "127.0.0.4"),
    ] {
        let program = Program::start(&args, env);
        program.ready().await;
        let (dns, admin) = (program.dns_address().await, program.admin_address().await);
        let expected = expected.parse::<std::net::IpAddr>().unwrap();
        assert_eq!((dns.ip(), admin.ip()), (expected, expected));
        let reply = dns::ask(dns, "web.dc1.consul", RecordType::A).await;
        assert_eq!(reply.answers.len(), 1, "{}", zone_text(&reply));
    }
}

#[tokio::test]
async fn json_logs_are_an_object_a_line() {
    let args = ["demo", "--dns", ANY_PORT, "--admin", ANY_PORT];
    let env = [("FINGERPOST_LOG_FORMAT", "json"), ("FINGERPOST_PORT", "tcp://10.0.0.1:53")];
    let mut demo = Program::start(&args, &env);
    eventually("it is ready", async || demo.stderr().contains("\"ready\"")).await;
    demo.signal("TERM");
    assert_eq!(demo.status().await, Some(0));

    let log = demo.stderr();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    let levels = ["WARN", "INFO"].map(|level| lines.iter().any(|line| line["level"] == level));
    assert_eq!(levels, [true, true], "{log}");
    let listening = lines.iter().find(|line| line["message"] == "listening").expect("listening");
    assert!(listening["admin"].as_str().is_some_and(|admin| admin.starts_with("127.0.0.1:")));
}

/// The default of `shutdown.grace`.
const GRACE: Duration = Duration::from_secs(5);
