//! `fingerpost import` on whole configurations, each beside the page that is expected of it.
//!
//! A real Consul says that it takes them too, and which of the keys in our tables it knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fingerpost::cli::import::agent::Agent;
use fingerpost::cli::import::hcl;
use fingerpost::cli::import::known;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::authority::{Authority, SERVER};
use crate::support::consul::{Consul, lay_over, version};
use crate::support::program::{ANY_PORT, Program};
use crate::support::{consul_binary, dns};

/// A sample, and whether Consul 1.8 takes it.
const SAMPLES: [(&str, bool); 4] =
    [("server.hcl", true), ("client.json", true), ("folder", true), ("newer.hcl", false)];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/import").join(name)
}

/// What an import of `paths` prints, without the folder of the samples.
async fn imported(paths: &[&Path]) -> String {
    let paths = paths.iter().map(|path| path.to_str().unwrap());
    let args: Vec<&str> = std::iter::once("import").chain(paths).collect();
    let mut program = Program::start(&args, &[]);
    assert_eq!(program.status().await, Some(0), "{}", program.stderr());
    assert_eq!(program.stderr(), "");
    program.stdout().replace(&format!("{}/", sample("").display()).replace("//", "/"), "")
}

#[tokio::test]
async fn each_sample_becomes_the_page_beside_it() {
    for (name, _) in SAMPLES {
        let expected = fs::read_to_string(sample(&format!("{name}.toml"))).unwrap();
        let page = imported(&[&sample(name)]).await;
        assert!(page == expected, "{name} becomes\n{page}");
    }
}

#[tokio::test]
async fn check_has_nothing_to_say_about_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fingerpost.toml");
    for (name, _) in SAMPLES {
        fs::write(&path, imported(&[&sample(name)]).await).unwrap();
        // The samples name certificates that are nowhere.
        let mut check =
            Program::start(&["check", "--no-files", "--config", path.to_str().unwrap()], &[]);
        assert_eq!(check.status().await, Some(0), "{name}\n{}", check.stderr());
        assert_eq!(check.stdout(), format!("{}: ok\n", path.display()), "{name}");
    }
}

#[tokio::test]
async fn a_folder_is_as_good_as_its_files_in_order() {
    let files = [sample("folder/10-base.hcl"), sample("folder/20-more.json")];
    let one_by_one = imported(&[&files[0], &files[1]]).await;
    assert_eq!(one_by_one, imported(&[&sample("folder")]).await);
    let other_order = imported(&[&files[1], &files[0]]).await;
    assert!(
        other_order.contains("service_ttl = { \"db\" = \"3s\", \"web\" = \"1s\" }"),
        "{other_order}"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_status_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.hcl");
    fs::write(&path, "domain = \"a\"\nencrypt = s3cret\n").unwrap();
    let mut import = Program::start(&["import", path.to_str().unwrap(), "/nonexistent.json"], &[]);
    assert_eq!(import.status().await, Some(78));
    let expected = format!(
        "{}:2: not valid HCL: text must be in quotes\n\
         /nonexistent.json: No such file or directory (os error 2)\n",
        path.display()
    );
    assert_eq!((import.stdout(), import.stderr()), (String::new(), expected));
}

fn validate(consul: &Path, path: &Path) -> Output {
    Command::new(consul).arg("validate").arg(path).output().unwrap()
}

/// The samples and the keys are held against this release.
fn consul_1_8() -> Option<PathBuf> {
    consul_binary().filter(|consul| version(consul) == (1, 8))
}

/// By HTTP, and by HTTPS with a certificate; the answers are the agent's own.
#[tokio::test]
async fn what_was_imported_answers_as_the_agent_did() {
    let authority = Authority::new();
    let mut secure = authority.consul();
    secure["server_name"] = json!(SERVER);
    for extra in [json!({}), secure] {
        let mut config = json!({
            "domain": "corp.",
            "dns_config": { "node_ttl": "7s", "service_ttl": { "w*": "9s" }, "only_passing": true },
        });
        lay_over(&mut config, &extra);
        let Some(consul) = Consul::start_with(config).await else { return };
        let service = json!({ "Service": "web", "Port": 80 });
        let node = json!({ "Node": "n1", "Address": "10.0.0.1", "Service": service });
        consul.register(node).await;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fingerpost.toml");
        fs::write(&path, imported(&[&consul.config_file()]).await).unwrap();
        let path = path.to_str().unwrap();
        let serve = ["serve", "--config", path, "--dns", ANY_PORT, "--admin", ANY_PORT];
        let program = Program::start(&serve, &[]);
        program.ready().await;
        for (name, expected) in [
            ("web.service.corp", "NOERROR aa rd\nanswer web.service.corp. 9 IN A 10.0.0.1"),
            ("n1.node.corp", "NOERROR aa rd\nanswer n1.node.corp. 7 IN A 10.0.0.1"),
        ] {
            for server in [consul.dns_address(), program.dns_address().await] {
                let reply = dns::ask(server, name, RecordType::A).await;
                assert_eq!(dns::zone_text(&reply), expected, "{extra}");
            }
        }
    }
}

#[tokio::test]
async fn consul_takes_the_samples() {
    let Some(consul) = consul_1_8() else { return };
    for (name, is_taken) in SAMPLES {
        let output = validate(&consul, &sample(name));
        assert_eq!(output.status.success(), is_taken, "{name}: {output:?}");
    }
}

/// Keys that came after 1.8, but for `advertise_addr_wan_ipv6`: it had that under another's name.
const NEWER: [&str; 34] = [
    "acl.tokens.agent_recovery",
    "acl.tokens.config_file_service_registration",
    "acl.tokens.dns",
    "acl.tokens.initial_management",
    "addresses.grpc_tls",
    "advertise_addr_wan_ipv6",
    "advertise_reconnect_timeout",
    "auto_reload_config",
    "build_date",
    "cloud",
    "default_intention_policy",
    "experiments",
    "license_path",
    "license_poll_base_time",
    "license_poll_max_time",
    "license_update_base_time",
    "license_update_max_time",
    "limits.request_limits",
    "limits.rpc_client_timeout",
    "locality",
    "log_sublevels",
    "partition",
    "peering",
    "ports.grpc_tls",
    "raft_logstore",
    "read_replica",
    "reporting",
    "rpc",
    "server_rejoin_age_max",
    "tls",
    "ui_config",
    "use_streaming_backend",
    "version_metadata",
    "xds",
];

#[tokio::test]
async fn consul_knows_the_keys_of_our_tables() {
    let Some(consul) = consul_1_8() else { return };
    // A key that is nothing is a key all the same; the dot parts a table from what is in it.
    let mut root = json!({ "partition": null });
    for name in known::names().chain(Agent::names()) {
        match name.split_once('.') {
            Some((table, rest)) => {
                let (last, parents) = (rest.rsplit('.').next().unwrap(), rest.rsplit_once('.'));
                let table = match parents {
                    Some((parent, _)) => &mut root[table][parent],
                    None => &mut root[table],
                };
                table[last] = Value::Null;
            }
            None if root.get(name).is_none() => root[name] = Value::Null,
            None => (),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    fs::write(&path, root.to_string()).unwrap();
    let output = validate(&consul, &path);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let refused = said.lines().filter_map(|line| line.split_once("invalid config key "));
    let mut refused: Vec<&str> = refused.map(|(_, key)| key.trim()).collect();
    refused.sort_unstable();
    assert_eq!(refused, NEWER, "{said}");
}

/// Whether HCL is what Consul takes for it: each text beside its judgment.
#[tokio::test]
async fn consul_reads_hcl_as_we_do() {
    let Some(consul) = consul_1_8() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.hcl");
    for (text, is_sound) in [
        (r#"dns_config { service_ttl { "*" = "5s" "db*" = "10s" } }"#, true),
        (r#""ports" = { dns = 0x2198, http = 8500, }, domain = "a""#, true),
        ("ports { dns = 010 } ports = []", true),
        ("domain\n=\n\"a\" /* one */ # two\n// three", true),
        (r#"recursors = ["10.0.0.2",, "10.0.0.3",]"#, true),
        (r#"dns_config "soa" { retry = 5.0 }"#, true),
        ("domain = <<E\na\nE\n", true),
        ("node_meta { a = <<-E\n  a\n  E\n}", true),
        (r#"node_meta { a = "${x("y")} \x41\u00e9\101\t" }"#, true),
        ("domain = \"a\" domain = \"b\" recursors = [] recursors = []", true),
        ("domain = a", false),
        ("domain = 'a'", false),
        ("domain = \"a\nb\"", false),
        ("domain = \"a", false),
        (r#"domain = "\q""#, false),
        ("domain = <<E\na", false),
        ("domain = \"${\"", false),
        ("ports { dns = +1 }", false),
        ("ports { dns = 8_600 }", false),
        ("ports { dns = 1", false),
        ("ports [ ]", false),
        ("recursors = [\"10.0.0.2\" \"10.0.0.3\"]", false),
        ("ports { } }", false),
        ("{ } ports", false),
        ("domain", false),
        ("domain \"a\" = \"b\"", false),
        ("/* domain", false),
    ] {
        fs::write(&path, format!("data_dir = \"/nonexistent\"\n{text}\n")).unwrap();
        let output = validate(&consul, &path);
        assert_eq!(output.status.success(), is_sound, "Consul: {text}\n{output:?}");
        assert_eq!(hcl::parse(text).is_ok(), is_sound, "here: {text}");
    }
}
