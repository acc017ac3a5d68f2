//! What becomes of a few keys each: HCL in, our page out.

use std::path::PathBuf;

use crate::cli::import::hcl;
use crate::cli::import::source::Source;
use crate::cli::import::translate::translate;

/// The lines of the page for `text` that say something, without the head and the titles.
fn lines(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.hcl");
    std::fs::write(&path, text).unwrap();
    let Source { files, root } = Source::read(&[path]).unwrap();
    assert_eq!(files.len(), 1);
    let page = translate(&root).render(&[PathBuf::from("agent.hcl")]);
    let says = |line: &&str| line.contains('=') || line.contains(": ");
    page.lines().skip(2).filter(says).map(str::to_owned).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(lines(text), expected, "{text}");
}

#[test]
fn dns_is_where_consuls_own_is() {
    let off = "turn that off (ports.dns = -1), or change this";
    let template = "a template such as {{ GetPrivateIP }} is evaluated by Consul alone: write the \
                    address that it stands for";
    check(
        "server = true",
        &["# server: means nothing here: it is of the cluster, and of how agents and servers talk"],
    );
    check(
        "addresses { dns = \"10.0.0.1 ::1\" }",
        &[
            &format!("# addresses.dns: translated: where Consul's own DNS is; {off}"),
            "listen = [\"10.0.0.1:8600\", \"[::1]:8600\"]",
        ],
    );
    check(
        "ports { dns = 53 }\naddresses { dns = \"{{ GetInterfaceIP \\\"eth0\\\" }} 127.0.0.1\" }",
        &[
            &format!("# ports.dns, addresses.dns: by hand: {template}, in dns.listen"),
            &format!("# ports.dns, addresses.dns: translated: where Consul's own DNS is; {off}"),
            "listen = [\"127.0.0.1:53\"]",
        ],
    );
    check(
        "ports { dns = 0 }",
        &["# ports.dns: means nothing here: Consul's own DNS is off; this one listens at its \
           default, 127.0.0.1:8653"],
    );
}

#[test]
fn the_agent_is_asked_by_loopback_where_it_listens_there() {
    for (text, expected) in [
        ("addresses { http = \"0.0.0.0\" }", "addresses = [\"http://127.0.0.1:8500\"]"),
        ("addresses { http = \"::\" }", "addresses = [\"http://[::1]:8500\"]"),
        ("addresses { http = \"10.0.0.1 127.0.0.2\" }", "addresses = [\"http://127.0.0.2:8500\"]"),
        ("ports { http = 80 }", "addresses = [\"http://127.0.0.1:80\"]"),
        ("addresses { http = \"unix:///c\" }", "addresses = [\"unix:///c\"]"),
        (
            "ports { https = 8501 }\naddresses { https = \"10.0.0.1\" }",
            "addresses = [\"https://10.0.0.1:8501\"]",
        ),
    ] {
        assert!(lines(text).iter().any(|line| line == expected), "{text}\n{:#?}", lines(text));
    }
    check(
        "ports { http = -1 }",
        &["# ports.http: by hand: Consul's HTTP port is off, without which nothing can be asked"],
    );
    check(
        "addresses { http = \"{{ GetPrivateIP }}\" }",
        &[
            "# addresses.http: by hand: a template such as {{ GetPrivateIP }} is evaluated by Consul \
           alone: write the address that it stands for, in consul.addresses",
        ],
    );
}

#[test]
fn of_tls_what_is_nearest_to_https_counts() {
    let agent = "# ports.https: translated: the agent, on the same machine";
    let addresses = "addresses = [\"https://127.0.0.1:8501\"]";
    let shown = "translated: shown to the agent, which wants a certificate; one of this program's own \
                 is better";
    check(
        "ports { https = 8501 }",
        &[
            "# ports.https: by hand: who signed the agent's certificate is not in these files: \
             unless the system trusts them, name them in consul.ca_file",
            agent,
            addresses,
        ],
    );
    check(
        "ports { https = 8501 } verify_incoming_https = true ca_path = \"/ca\" cert_file = \"/c\" key_file = \"/k\"",
        &[
            agent,
            addresses,
            "# ca_path: taken",
            "ca_path = \"/ca\"",
            &format!("# cert_file, verify_incoming_https: {shown}"),
            "cert_file = \"/c\"",
            &format!("# key_file: {shown}"),
            "key_file = \"/k\"",
        ],
    );
    check(
        "ports { https = 8501 } tls { https { verify_incoming = true } defaults { ca_file = \"/ca\" verify_incoming = false } }",
        &[
            "# tls.https.verify_incoming: by hand: the agent wants a certificate: name one in \
             consul.cert_file and its key in consul.key_file",
            agent,
            addresses,
            "# tls.defaults.ca_file: taken",
            "ca_file = \"/ca\"",
            "# tls.defaults.verify_incoming: means nothing here: something nearer to HTTPS is given",
        ],
    );
    // One without the other would be refused.
    check(
        "ports { https = 8501 } verify_incoming = true ca_file = \"/ca\" cert_file = \"/c\"",
        &[
            "# cert_file, verify_incoming: by hand: consul.cert_file is left out: it needs \
             consul.key_file beside it",
            agent,
            addresses,
            "# ca_file: taken",
            "ca_file = \"/ca\"",
        ],
    );
}

#[test]
fn ours_stays_below_the_agents_limit() {
    let name = "limits.http_max_conns_per_client";
    for (limit, https, expected) in [
        (200, "", "means nothing here: consul.connections_max is 80 by default, which it lets in"),
        (0, "", "means nothing here: the agent has no limit"),
        (-i64::MAX, "", "means nothing here: the agent has no limit"),
        (
            i64::MAX,
            "",
            "means nothing here: consul.connections_max is 80 by default, which it lets in",
        ),
        (199, "", "connections_max = 79"),
        (20, "", "connections_max = 8"),
        (20, "", "connections_spare = 4"),
        (19, "", "by hand: too few to ask the agent by: raise it to 20 or more"),
        (
            25,
            "ports { https = 1 }",
            "means nothing here: consul.streams_max is 2000 by default, which it lets in",
        ),
        (24, "ports { https = 1 }", "streams_max = 1800"),
        (2, "ports { https = 1 }", "by hand: too few to ask the agent by: raise it to 20 or more"),
    ] {
        let lines = lines(&format!("{https} limits {{ http_max_conns_per_client = {limit} }}"));
        let said = format!("# {name}: {expected}");
        assert!(lines.iter().any(|line| *line == said || line == expected), "{limit}\n{lines:#?}");
    }
}

#[test]
fn of_a_token_only_its_key_is_said() {
    for text in [
        "acl { tokens { default = \"s3cret\" agent = \"s3cret\" } }",
        "acl_token = \"s3cret\" acl_master_token = \"s3cret\" encrypt = \"s3cret\"",
        "acl { tokens { defualt = \"s3cret\" } tokns { default = \"s3cret\" } }",
        "acl = \"s3cret\" log_level = \"s3cret\" log_json = \"s3cret\" ports = \"s3cret\"",
        "recursors = [\"s3cret\"] limits { http_max_conns_per_client = \"s3cret\" }",
        "dns_config = \"s3cret\" client_addr = \"s3cret\" domain = \"s3 cret\" ",
        "service { token = \"s3cret\" } telemetry { circonus_api_token = \"s3cret\" } tokne = \"s3cret\"",
    ] {
        assert!(hcl::parse(text).is_ok());
        let lines = lines(text).join("\n");
        assert!(!lines.contains("s3") && lines.contains("# "), "{text}\n{lines}");
    }
}

#[test]
fn what_is_no_key_of_consuls_is_told_with_the_one_that_was_meant() {
    check(
        "dns_config { node_tll = \"1s\" soa = 5 } recusors = [] ports { dsn = 53 } service_mesh = 1",
        &[
            "# dns_config.node_tll: not understood: no key of a Consul agent; did you mean \
             dns_config.node_ttl?",
            "# dns_config.soa: by hand: it must be one table",
            "# ports.dsn: not understood: no key of a Consul agent; did you mean ports.dns?",
            "# recusors: not understood: no key of a Consul agent; did you mean recursors?",
            "# service_mesh: not understood: no key of a Consul agent",
        ],
    );
}

#[test]
fn two_blocks_are_no_table_as_in_consul() {
    check(
        "dns_config { node_ttl = \"1s\" }\ndns_config { only_passing = true }",
        &["# dns_config: by hand: it must be one table"],
    );
}
