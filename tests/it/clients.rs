//! Clients of others' making, over each transport: kdig and dnspython decode what we send.

use std::path::Path;
use std::process::Command;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;

use crate::support::authority::{Authority, SERVER};
use crate::support::server::Server;
use crate::support::{dnspython, program};

#[tokio::test]
async fn kdig_is_answered_over_each_transport() {
    let Some(kdig) = program("kdig") else { return };
    let (authority, server) = serve().await;
    let ca = format!("+tls-ca={}", authority.path("ca.pem").display());
    let host = format!("+tls-host={SERVER}");
    let encrypted = [ca.as_str(), host.as_str()];
    for (transport, port, options) in [
        ("UDP", server.dns().port(), &[][..]),
        ("TCP", server.dns().port(), &["+tcp"][..]),
        ("TLS", server.tls().port(), &[&["+tls"][..], &encrypted[..]].concat()),
        ("QUIC", server.quic().port(), &[&encrypted[..], &["+quic"][..]].concat()),
    ] {
        let port = port.to_string();
        let line = ["@127.0.0.1", "-p", &port, "+retry=0", "n1.node.consul", "A"];
        let args = [&line[..], options].concat();
        let text = run(&kdig, &args);
        let has = |part: &str| text.lines().any(|line| line.contains(part));
        let record = text.lines().find(|line| line.starts_with("n1.node.consul."));
        let fields: Vec<_> = record.unwrap_or_default().split_whitespace().collect();
        assert_eq!(fields, ["n1.node.consul.", "0", "IN", "A", "10.0.0.1"], "{transport}:\n{text}");
        assert!(has("status: NOERROR"), "{transport}:\n{text}");
        assert!(!has("WARNING"), "{transport}:\n{text}");
    }
}

#[tokio::test]
async fn dnspython_is_answered_over_each_transport() {
    let Some(python) = dnspython() else { return };
    let (authority, server) = serve().await;
    let ca = authority.path("ca.pem");
    let plain = server.dns().port().to_string();
    let tls = server.tls().port().to_string();
    let (quic, http) = (server.quic().port().to_string(), server.https3().port().to_string());
    let ports = [&plain, &tls, &quic, &http].map(String::as_str);
    let ask = [&["-c", ASK][..], &ports[..], &[ca.to_str().unwrap(), SERVER][..]].concat();
    let text = run(&python, &ask);
    let expected = ["udp", "tcp", "tls", "quic", "post", "get"]
        .map(|transport| format!("{transport} {ANSWER}\n"));
    assert_eq!(text, expected.concat());
}

/// A server of the demo's catalogue over every transport, and the authority behind it.
async fn serve() -> (Authority, Server) {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let mut config = Config::default();
    config.dns.tls_listen = vec!["127.0.0.1:853".parse().unwrap()];
    config.dns.quic_listen = vec!["127.0.0.1:853".parse().unwrap()];
    config.dns.https3_listen = vec!["127.0.0.1:443".parse().unwrap()];
    config.dns.cert_file = Some(authority.path("server.pem"));
    config.dns.key_file = Some(authority.path("server.key"));
    let server = Server::start(config, Origin::Fixed(file::parse(file::DEMO).unwrap().changes()));
    server.ready().await;
    (authority, server)
}

/// What `program` says, which must be content.
fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Asks for a service over one transport after the other, and prints what is of interest.
const ASK: &str = r#"
import sys
import dns.flags, dns.message, dns.query, dns.rcode
plain, tls, quic, http = (int(port) for port in sys.argv[1:5])
ca, host = sys.argv[5:]
def ask(transport, exchange):
    query = dns.message.make_query("n1.node.consul", "A", use_edns=0, payload=1232)
    reply = exchange(query)
    assert query.is_response(reply)
    answers = ", ".join(str(rrset) for rrset in reply.answer)
    print(transport, dns.rcode.to_text(reply.rcode()), dns.flags.to_text(reply.flags), answers)
where = "127.0.0.1"
ask("udp", lambda query: dns.query.udp(query, where, 5, plain))
ask("tcp", lambda query: dns.query.tcp(query, where, 5, plain))
ask("tls", lambda query: dns.query.tls(query, where, 5, tls, server_hostname=host, verify=ca))
ask("quic", lambda query: dns.query.quic(query, where, 5, quic, server_hostname=host, verify=ca))
url = f"https://{host}:{http}/dns-query"
def https(post):
    return lambda query: dns.query.https(
        query, url, 5, post=post, bootstrap_address=where, verify=ca,
        http_version=dns.query.HTTPVersion.HTTP_3)
ask("post", https(True))
ask("get", https(False))
"#;

const ANSWER: &str = "NOERROR QR AA RD n1.node.consul. 0 IN A 10.0.0.1";
