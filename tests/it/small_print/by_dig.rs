//! The same, as `dig` and `kdig` read it, which share nothing with us, nor with each other.

use std::process::Command;

use crate::checklist::server;
use crate::support::authority::{Authority, SERVER};
use crate::support::program;
use crate::support::server::Server;

/// What `dig` prints with `options`, in few words: the status, and the lines about EDNS and TSIG.
fn dig(server: &Server, options: &str) -> Option<String> {
    let program = program("dig")?;
    let address = server.dns();
    let mut command = Command::new(program);
    command.args([format!("@{}", address.ip()), "-p".to_owned(), address.port().to_string()]);
    command.args(["+tries=1", "+timeout=20"]).args(options.split(' '));
    let output = command.env("HOME", "/nonexistent").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = ["status: ", "COOKIE: ", "NSID: ", "PAD", "KEEPALIVE: ", "EDE: ", "TSIG\t"];
    let lines = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    Some(lines.map(str::trim).collect::<Vec<_>>().join("\n"))
}

#[tokio::test]
async fn dig_learns_who_answers_and_takes_the_cookie() {
    let server = server(|config| {
        config.dns.nsid = true;
        config.dns.identity = Some("ns-7".to_owned());
    })
    .await;
    let asked = "+cookie=6d79436f6f6b6965 +nsid n1.node.consul A";
    let Some(said) = dig(&server, asked) else { return };
    assert!(said.contains("status: NOERROR"), "{said}");
    // "good" is said of the cookie that was sent, with a server's behind it.
    let cookie = said.lines().find_map(|line| line.strip_prefix("; COOKIE: ")).unwrap();
    assert!(
        cookie.starts_with("6d79436f6f6b696501000000") && cookie.ends_with(" (good)"),
        "{said}"
    );
    assert!(said.contains(r#"; NSID: 6e 73 2d 37 ("ns-7")"#), "{said}");
}

#[tokio::test]
async fn dig_is_told_how_long_it_may_stay() {
    let server = server(|_| ()).await;
    let asked = "+tcp +keepalive +nocookie n1.node.consul A";
    let Some(said) = dig(&server, asked) else { return };
    assert!(
        said.contains("TCP KEEPALIVE: 30.0 secs") || said.contains("TCP-KEEPALIVE: 30.0 secs"),
        "{said}"
    );
}

#[tokio::test]
async fn dig_reads_why_there_is_no_answer() {
    let server = server(|_| ()).await;
    for (asked, status, error) in [
        ("+nocookie consul TYPE128", "FORMERR", "EDE: 30"),
        (
            "+nocookie example.com A",
            "REFUSED",
            "EDE: 20 (Not Authoritative): (not a zone of this server)",
        ),
        ("+nocookie -c HS consul A", "REFUSED", "EDE: 20 (Not Authoritative)"),
    ] {
        let Some(said) = dig(&server, asked) else { return };
        assert!(said.contains(&format!("status: {status}")) && said.contains(error), "{said}");
    }
}

/// kdig pads what it asks over TLS.
#[tokio::test]
async fn kdig_is_padded_over_tls_and_takes_the_rest_too() {
    let Some(kdig) = program("kdig") else { return };
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let server = server(|config| {
        config.dns.tls_listen = vec!["127.0.0.1:853".parse().unwrap()];
        config.dns.cert_file = Some(authority.path("server.pem"));
        config.dns.key_file = Some(authority.path("server.key"));
        config.dns.nsid = true;
        config.dns.identity = Some("ns-7".to_owned());
    })
    .await;
    let options = ["+tls", "+nsid", "+cookie=6d79436f6f6b6965", "+retry=0", "n1.node.consul", "A"];
    let mut command = Command::new(kdig);
    command.args(["@127.0.0.1", "-p", &server.tls().port().to_string()]).args(options);
    command.arg(format!("+tls-ca={}", authority.path("ca.pem").display()));
    command.arg(format!("+tls-host={SERVER}"));
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    // RFC 8467 §4.1
    for expected in [
        "status: NOERROR",
        ";; PADDING: ",
        ";; Received 468 B",
        r#";; NSID: 6E732D37 "ns-7""#,
        ";; COOKIE: 6D79436F6F6B696501000000",
    ] {
        assert!(said.contains(expected), "{expected} of\n{said}");
    }
    assert!(!said.contains("WARNING"), "{said}");
}

/// RFC 8945 §5.2.1: NOTAUTH, and BADKEY in a record that is not signed.
#[tokio::test]
async fn a_signed_query_hears_that_its_key_is_not_known() {
    let server = server(|_| ()).await;
    for way in ["+notcp", "+tcp"] {
        let key = "-y hmac-sha256:my.key:c2VjcmV0c2VjcmV0c2VjcmV0";
        let asked = format!("{way} +nocookie {key} n1.node.consul A");
        let Some(said) = dig(&server, &asked) else { return };
        assert!(said.contains("status: NOTAUTH"), "{said}");
        let tsig = said.lines().find(|line| line.starts_with("my.key.")).unwrap_or_default();
        assert!(tsig.contains("hmac-sha256.") && tsig.contains("BADKEY"), "{said}");
    }
}
