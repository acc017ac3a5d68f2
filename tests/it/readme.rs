//! The README is true: its blocks load, its commands give what it shows, its tables are complete.
//!
//! Commands in `console` blocks begin with `$ `; what follows is their output. Of `dig` the
//! records are compared, in any order, since a server shuffles; a line `...` stands for the rest.

mod against_consul;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fingerpost::app::{App, Origin};
use fingerpost::config::{Config, Flags, Sources, keys, live};
use fingerpost::file;
use fingerpost::metrics::Operation;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::consul::Consul;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::poll;
use crate::support::{choose_crypto, dns, on_path, skip, wait};

const README: &str = include_str!("../../README.md");

#[test]
fn each_toml_block_loads() {
    let blocks = blocks("toml");
    assert!(!blocks.is_empty());
    for text in blocks {
        let file = Some((PathBuf::from("README.md"), text.clone()));
        let loaded = Config::load(Sources { file, env: Vec::new(), flags: Flags::default() });
        let remarks = loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}")).remarks;
        assert_eq!(remarks, [], "{text}");
    }
}

#[test]
fn the_json_block_is_a_catalogue() {
    let [text] = &blocks("json")[..] else { panic!("one json block") };
    file::parse(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn every_key_is_listed() {
    let (_, rest) = README.split_once("<!-- keys: begin -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- keys: end -->").unwrap();
    assert!(table == keys::markdown(), "the table of keys is:\n{}", keys::markdown());
}

#[test]
fn every_key_that_can_change_live_is_listed() {
    let shown = blocks("text").into_iter().find(|text| text.starts_with("admin.hosts"));
    let shown: Vec<String> = shown.unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(shown, live::LIVE);
}

#[test]
fn each_forwarder_is_shown_as_it_is_in_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shown = BTreeSet::new();
    for (info, text) in all_blocks() {
        let Some((_, path)) = info.split_once("file=") else { continue };
        assert_eq!(std::fs::read_to_string(root.join(path)).expect(path), text, "{path}");
        shown.insert(root.join(path));
    }
    let folder = std::fs::read_dir(root.join("config/forwarders")).unwrap();
    assert_eq!(shown, folder.map(|entry| entry.unwrap().path()).collect());
}

#[test]
fn each_link_leads_somewhere() {
    let links = README.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let links: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
    assert!(!links.is_empty());
    // As a heading is named when it is shown; none of those that are linked has a comma or a dash.
    let headings = README.lines().filter_map(|line| Some(line.split_once("# ")?.1));
    let headings: BTreeSet<String> =
        headings.map(|heading| heading.to_lowercase().replace(' ', "-")).collect();
    for link in links {
        let leads_somewhere = match link.strip_prefix('#') {
            Some(heading) => headings.contains(heading),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(),
        };
        assert!(leads_somewhere, "{link}");
    }
}

#[tokio::test]
async fn every_flag_is_listed() {
    let mut serve = Program::start(&["serve", "--help"], &[]);
    assert_eq!(serve.status().await, Some(0));
    let help = serve.stdout();
    let in_help: BTreeSet<&str> = words(&help, "--").filter(|flag| *flag != "--help").collect();
    let rows = table("| flag of `serve`");
    let in_readme: BTreeSet<&str> = rows.iter().flat_map(|row| words(&row[0], "--")).collect();
    assert_eq!(in_help.iter().filter(|flag| **flag != "--version").count(), in_readme.len());
    assert!(in_readme.is_subset(&in_help), "{in_readme:?} {in_help:?}");
}

#[tokio::test]
async fn every_metric_is_listed_with_its_type_and_labels() {
    choose_crypto();
    let flags = Flags {
        dns: vec![ANY_PORT.to_owned()],
        admin: Some(ANY_PORT.to_owned()),
        ..Flags::default()
    };
    // The series of a recursor are there with it; nobody asks this one.
    let env = vec![("FINGERPOST_RECURSORS".to_owned(), "127.0.0.1:9".to_owned())];
    let config = Config::load(Sources { file: None, env, flags }).unwrap().config;
    let catalog = file::parse(file::DEMO).unwrap();
    let app = App::bind(config, Origin::Fixed(catalog.changes())).unwrap();
    let (metrics, admin) = (app.metrics().clone(), app.admin_address().unwrap());
    // These have no series before Consul was asked for a service, and who leads.
    metrics.consul.observe("web", Operation::Fetch, Duration::from_millis(1));
    metrics.guard.set_quorum("dc1", true);

    let stop = CancellationToken::new();
    let scraping = async {
        let url = format!("http://{admin}/metrics");
        let scraped = poll(wait::PATIENCE, async || {
            let text = reqwest::get(&url).await.ok()?.text().await.ok()?;
            text.contains("fingerpost_service_health{").then_some(text)
        });
        let text = scraped.await;
        stop.cancel();
        text.expect("the catalogue shows in the metrics")
    };
    let (ended, text) = tokio::join!(app.run(stop.clone()), scraping);
    ended.unwrap();

    let listed: BTreeMap<String, (String, BTreeSet<String>)> = table("| name | type | labels |")
        .iter()
        .map(|row| {
            (quoted(&row[0]).concat(), (row[1].clone(), quoted(&row[2]).into_iter().collect()))
        })
        .collect();
    assert_eq!(listed, exported(&text));

    let mentioned = words(README, "fingerpost_").map(|word| word.trim_end_matches('_'));
    for name in mentioned {
        assert!(listed.contains_key(name), "{name} is mentioned, but is no metric");
    }
}

/// The families of a scrape: type and labels by name.
fn exported(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let series = lines.peek().copied().unwrap_or_default();
        let labels = series.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let labels = labels.map_or("", |(labels, _)| labels).split(',');
        let names = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        let names = names.filter(|name| name != "le").collect();
        families.insert(name.to_owned(), (kind.to_owned(), names));
    }
    families
}

#[tokio::test]
async fn the_demo_answers_as_the_table_of_names_says() {
    let Some(dig) = dig() else { return };
    let demo = Program::demo().await;
    let server = demo.dns_address().await;
    let rows = table("| form | example | type | answer |");
    assert!(rows.len() > 50);
    for row in rows {
        check_row(&dig, server, &row[1..]);
    }
}

#[tokio::test]
async fn settings_change_the_demo_as_the_readme_says() {
    let Some(dig) = dig() else { return };
    let rows = table("| setting | example | type | answer |");
    assert!(rows.len() > 5);
    for row in rows {
        let settings = quoted(&row[0]);
        let env = settings.iter().map(|setting| setting.split_once('=').unwrap());
        let args = ["demo", "--dns", ANY_PORT, "--admin", ANY_PORT];
        let demo = Program::start(&args, &env.collect::<Vec<_>>());
        demo.ready().await;
        check_row(&dig, demo.dns_address().await, &row[1..]);
    }
}

/// Holds a server against an example, its type and its answer.
#[track_caller]
fn check_row(dig: &Path, server: SocketAddr, row: &[String]) {
    let [example, qtype, answer] = row else { panic!("{row:?}") };
    let arguments = format!("{} {qtype}", quoted(example).concat());
    assert_eq!(said(dig, server, &arguments), shown(answer), "{arguments}");
}

/// What a cell says of a reply: its data, sorted, or a word for why there is none.
fn shown(cell: &str) -> String {
    let mut data = quoted(cell);
    data.sort();
    if data.is_empty() { cell.to_owned() } else { data.join(" ") }
}

/// The same of the reply to a question.
///
/// Of more records than one reads, their number; of a SOA, all but the serial.
fn said(dig: &Path, server: SocketAddr, arguments: &str) -> String {
    let base = "+nocookie +ignore +noall +comments +answer +authority";
    let output = ask(dig, server, &format!("{base} {arguments}"));
    let Some((_, head)) = output.split_once("status: ") else { panic!("{arguments}: {output}") };
    let (status, _) = head.split_once(',').unwrap();
    let section = |name: &str| {
        let (_, rest) = output.split_once(&format!(";; {name} SECTION:\n"))?;
        Some(records(rest.split("\n\n").next()?))
    };
    let mut data: Vec<String> = section("ANSWER")
        .unwrap_or_default()
        .iter()
        .map(|record| {
            let mut words: Vec<&str> = record.split(' ').skip(4).collect();
            if record.contains(" SOA ") {
                words[2] = "*";
            }
            words.join(" ")
        })
        .collect();
    data.sort();
    let mut said = match (data.len(), status) {
        (0, "NOERROR") => "NODATA".to_owned(),
        (0, other) => other.to_owned(),
        (1..=4, _) => data.join(" "),
        (count, _) => format!("{count} records"),
    };
    if said == "NODATA" && section("AUTHORITY").is_none() {
        said += " without SOA";
    }
    let flags = output.split_once(";; flags: ").and_then(|(_, rest)| rest.split_once(';'));
    if flags.is_some_and(|(flags, _)| flags.split(' ').any(|flag| flag == "tc")) {
        said += ", TC";
    }
    said
}

#[tokio::test]
async fn each_dig_shows_what_the_readme_shows() {
    let Some(dig) = dig() else { return };
    let demo = Program::demo().await;
    let server = demo.dns_address().await;
    let (mut commands, mut digs, mut explains) = (0, 0, 0);
    for block in blocks("console") {
        for shown in block.split("$ ").skip(1) {
            commands += 1;
            let (command, shown) = shown.split_once('\n').unwrap();
            if let Some(arguments) = command.strip_prefix("fingerpost explain ") {
                explains += 1;
                check_explained(&demo, arguments, shown).await;
            }
            let Some(arguments) = command.strip_prefix("dig @127.0.0.1 -p 8653 ") else {
                continue;
            };
            digs += 1;
            let output = ask(&dig, server, arguments);
            assert_eq!(records(&output), records(shown), "{command}\n{output}");
            for line in shown.lines().filter(|line| line.starts_with(";;")) {
                assert!(output.contains(line), "{command}: no {line:?}\n{output}");
            }
        }
    }
    assert_eq!((commands, digs, explains), (7, 3, 2), "a command that no test runs");
}

/// What is shown, in parts with `...` between them, is in what the command prints, in that order.
async fn check_explained(demo: &Program, arguments: &str, shown: &str) {
    let admin = demo.admin_address().await.to_string();
    let args = ["explain", "--admin", &admin].into_iter().chain(arguments.split(' '));
    let mut explain = Program::start(&args.collect::<Vec<_>>(), &[]);
    explain.status().await;
    let printed = explain.stdout();
    let mut rest = &*printed;
    for part in shown.split("...\n").filter(|part| !part.is_empty()) {
        let found = rest.split_once(part);
        (_, rest) = found.unwrap_or_else(|| panic!("{arguments}: {part:?} is not in {printed}"));
    }
}

#[tokio::test]
async fn check_says_what_the_readme_shows() {
    let blocks = blocks("console");
    let shown = blocks.iter().find_map(|block| block.strip_prefix("$ fingerpost check "));
    let (arguments, shown) = shown.unwrap().split_once('\n').unwrap();
    assert_eq!(arguments, "--config fingerpost.toml");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fingerpost.toml");
    std::fs::write(&path, "[dns]\nworkers = 999\nworker = 1\n").unwrap();
    let mut check = Program::start(&["check", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(check.status().await, Some(78));
    let beginning = format!("{}/", folder.path().display());
    assert_eq!(check.stderr().replace(&beginning, ""), shown);
}

#[tokio::test]
async fn import_says_what_the_readme_shows() {
    let consoles = blocks("console");
    let shown = consoles.iter().find_map(|block| block.strip_prefix("$ fingerpost import "));
    let (name, shown) = shown.unwrap().split_once('\n').unwrap();
    let [agent] = &blocks(&format!("text agent={name}"))[..] else { panic!("no {name}") };

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, agent).unwrap();
    let mut import = Program::start(&["import", path.to_str().unwrap()], &[]);
    assert_eq!(import.status().await, Some(0));
    let beginning = format!("{}/", folder.path().display());
    assert_eq!(import.stdout().replace(&beginning, ""), shown);
}

#[tokio::test]
async fn the_rights_that_the_readme_gives_the_token_are_enough() {
    let extra = json!({
        "acl": { "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER } },
    });
    let Some(consul) = Consul::start_with(extra).await else { return };
    let service = json!({ "Service": "web", "Port": 80 });
    consul.register(json!({ "Node": "n1", "Address": "10.0.0.1", "Service": service })).await;
    let [rules] = &blocks("hcl")[..] else { panic!("one hcl block") };
    put(&consul, "/v1/acl/policy", json!({ "Name": "fingerpost", "Rules": rules })).await;
    let query = json!({ "Name": "geo", "Service": { "Service": "web" } });
    post(&consul, "/v1/query", query).await;
    let token = json!({ "Policies": [{ "Name": "fingerpost" }] });
    let token = put(&consul, "/v1/acl/token", token).await;

    let url = consul.url("");
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
    let env = [("CONSUL_HTTP_TOKEN", token["SecretID"].as_str().unwrap())];
    let program = Program::start(&args, &env);
    program.ready().await;
    for name in ["web.service.consul", "geo.query.consul"] {
        let reply = dns::ask(program.dns_address().await, name, RecordType::A).await;
        let expected = format!("NOERROR aa rd\nanswer {name}. 0 IN A 10.0.0.1");
        assert_eq!(dns::zone_text(&reply), expected);
    }
}

async fn post(consul: &Consul, path: &str, body: Value) {
    let request = reqwest::Client::new().post(consul.url(path)).header("X-Consul-Token", MASTER);
    request.json(&body).send().await.unwrap().error_for_status().unwrap();
}

async fn put(consul: &Consul, path: &str, body: Value) -> Value {
    let request = reqwest::Client::new().put(consul.url(path)).header("X-Consul-Token", MASTER);
    let reply = request.json(&body).send().await.unwrap().error_for_status().unwrap();
    reply.json().await.unwrap()
}

/// Each fenced block: the words after the fence, and the text.
fn all_blocks() -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            blocks.push((info, text.map(|line| format!("{line}\n")).collect()));
        }
    }
    blocks
}

/// The text of each block in `language`.
fn blocks(language: &str) -> Vec<String> {
    let blocks = all_blocks().into_iter();
    blocks.filter(|(info, _)| *info == language).map(|(_, text)| text).collect()
}

/// The cells of each row of the table whose head begins with `head`.
fn table(head: &str) -> Vec<Vec<String>> {
    let lines = README.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows: Vec<Vec<String>> = lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" |").map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "no table {head}");
    rows
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The words of `text` that begin with `beginning` and go on with small letters.
fn words<'t>(text: &'t str, beginning: &'static str) -> impl Iterator<Item = &'t str> {
    text.match_indices(beginning).map(move |(at, _)| {
        let rest = &text[at..];
        let is_word = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '_');
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    })
}

fn dig() -> Option<PathBuf> {
    let found = on_path("dig");
    if found.is_none() {
        skip("dig (tests/run provides it)");
    }
    found
}

fn ask(dig: &Path, server: SocketAddr, arguments: &str) -> String {
    let mut command = Command::new(dig);
    // Not the machine's own dig settings.
    command.args(["-r", &format!("@{}", server.ip()), "-p", &server.port().to_string()]);
    let output = command.args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The lines that are records, sorted, each with one blank between its fields.
fn records(output: &str) -> Vec<String> {
    let lines = output.lines().filter(|line| !line.starts_with(';') && *line != "...");
    let fields = lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    let mut records: Vec<String> = fields.filter(|line| !line.is_empty()).collect();
    records.sort();
    records
}

/// The token of the test's own requests.
const MASTER: &str = "5d1f7b0c-0000-4000-8000-000000000001";
