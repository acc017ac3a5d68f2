//! TLS against a server of our own, with a CA made for each test.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::consul::api;
use crate::consul::client::{Client, Place, SetupError};
use crate::consul::samples::config;

/// A certificate authority, and the folder in which its files lie.
struct Authority {
    folder: tempfile::TempDir,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let root = certificate.der().clone();
        Self { folder, root, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn issue(&self, name: &str) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A server that calls itself `name`, and wants a certificate of its clients where asked to.
    fn serve(&self, name: &str, clients: Clients) -> String {
        self.issue(name);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            Clients::Any => builder.with_no_client_auth(),
            Clients::Known => {
                let mut roots = RootCertStore::empty();
                roots.add(self.root.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = pem::certificates(&self.path(&format!("{name}.pem"))).unwrap();
        let key = pem::key(&self.path(&format!("{name}.key"))).unwrap();
        listen(builder.with_single_cert(chain, key).unwrap())
    }
}

enum Clients {
    Any,
    Known,
}

/// Answers each connection's first request with the datacenter that is its SNI.
fn listen(tls: ServerConfig) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let tls = Arc::new(tls);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = rustls::ServerConnection::new(tls.clone()).unwrap();
            // A client that refuses us ends its connection here, not the server.
            let _ = answer(&mut rustls::Stream::new(&mut connection, &mut stream));
        }
    });
    address
}

fn answer<S: Read + Write>(
    stream: &mut rustls::Stream<'_, rustls::ServerConnection, S>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let body = format!("[{:?}]", stream.conn.server_name().unwrap_or("no name"));
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What comes of one question: the server's SNI, or the last link of the error's chain.
async fn ask(config: ConsulConfig) -> String {
    let client = Client::new(&config).unwrap();
    match client.read(&api::datacenters(), None, Place::Spare).await {
        Ok(reply) => reply.value.join(" "),
        Err(error) => format!("{}: {}", error.kind(), error.chain()),
    }
}

#[tokio::test]
async fn a_server_of_our_ca_is_trusted() {
    let ca = Authority::new();
    let address = ca.serve("127.0.0.1", Clients::Any);
    let by_file = ConsulConfig { ca_file: Some(ca.path("ca.pem")), ..config(&[&address]) };
    assert_eq!(ask(by_file).await, "no name");
    // The folder holds the server's key too, which is no certificate.
    let by_folder =
        ConsulConfig { ca_path: Some(ca.folder.path().to_owned()), ..config(&[&address]) };
    assert_eq!(ask(by_folder).await, "no name");
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = theirs.serve("127.0.0.1", Clients::Any);
    let got = ask(ConsulConfig { ca_file: Some(ours.path("ca.pem")), ..config(&[&address]) }).await;
    assert!(got.starts_with("connect: cannot reach consul: "), "{got}");
    assert!(got.contains("invalid peer certificate"), "{got}");
}

#[tokio::test]
async fn a_server_with_another_name_is_refused_unless_that_name_is_configured() {
    let ca = Authority::new();
    let address = ca.serve("server.east.consul", Clients::Any);
    let ca_file = Some(ca.path("ca.pem"));
    let got = ask(ConsulConfig { ca_file: ca_file.clone(), ..config(&[&address]) }).await;
    assert!(got.contains("not valid for name"), "{got}");

    let tls_server_name = Some("server.east.consul".to_owned());
    let named = ConsulConfig { ca_file, tls_server_name, ..config(&[&address]) };
    assert_eq!(ask(named).await, "server.east.consul");
}

#[tokio::test]
async fn without_verification_any_server_will_do() {
    let address = Authority::new().serve("server.east.consul", Clients::Any);
    assert_eq!(ask(ConsulConfig { tls_verify: false, ..config(&[&address]) }).await, "no name");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let ca = Authority::new();
    let address = ca.serve("127.0.0.1", Clients::Known);
    ca.issue("client");
    let ca_file = Some(ca.path("ca.pem"));
    let got = ask(ConsulConfig { ca_file: ca_file.clone(), ..config(&[&address]) }).await;
    assert!(got.contains("CertificateRequired"), "{got}");

    let known = ConsulConfig {
        ca_file,
        cert_file: Some(ca.path("client.pem")),
        key_file: Some(ca.path("client.key")),
        ..config(&[&address])
    };
    assert_eq!(ask(known).await, "no name");
}

#[tokio::test]
async fn files_that_were_replaced_are_read_again_and_bad_ones_change_nothing() {
    let (ca, theirs) = (Authority::new(), Authority::new());
    let address = ca.serve("127.0.0.1", Clients::Known);
    ca.issue("ours");
    theirs.issue("client");
    let path = |name: &str| theirs.path(name);
    let client = Client::new(&ConsulConfig {
        ca_file: Some(ca.path("ca.pem")),
        cert_file: Some(path("client.pem")),
        key_file: Some(path("client.key")),
        ..config(&[&address])
    });
    let client = client.unwrap();
    let is_let_in = async || {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(5)).await;
        tokio::time::resume();
        client.read(&api::datacenters(), None, Place::Spare).await.is_ok()
    };
    assert!(!is_let_in().await, "the certificate is of another authority");
    for (from, to) in [("ours.pem", "client.pem"), ("ours.key", "client.key")] {
        assert!(!is_let_in().await, "before {to}");
        std::fs::copy(ca.path(from), path(to)).unwrap();
    }
    assert!(is_let_in().await);
    std::fs::write(path("client.pem"), "no certificate").unwrap();
    assert!(is_let_in().await, "the last good one stays");
}

#[track_caller]
fn check_setup(config: &ConsulConfig, expected: &str) {
    let error = match Client::new(config) {
        Ok(_) => panic!("taken"),
        Err(SetupError::Tls(error)) => error.to_string(),
        Err(other) => other.to_string(),
    };
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn files_that_will_not_do_are_named_at_start() {
    let ca = Authority::new();
    ca.issue("client");
    std::fs::write(ca.path("empty.pem"), "").unwrap();
    std::fs::create_dir(ca.path("empty")).unwrap();
    let base = config(&["https://127.0.0.1:8501"]);
    let with = |change: &dyn Fn(&mut ConsulConfig)| {
        let mut config = ConsulConfig { ca_file: Some(ca.path("ca.pem")), ..base.clone() };
        change(&mut config);
        config
    };

    check_setup(&with(&|c| c.ca_file = Some("/nonexistent/ca".into())), "cannot read /nonexistent");
    check_setup(&with(&|c| c.ca_file = Some(ca.path("empty.pem"))), "no certificate in ");
    check_setup(&with(&|c| c.ca_path = Some("/nonexistent/".into())), "cannot list the folder ");
    check_setup(
        &with(&|c| {
            c.cert_file = Some(ca.path("client.pem"));
            c.key_file = Some(ca.path("client.pem"));
        }),
        "cannot read ",
    );
    check_setup(
        &with(&|c| c.tls_server_name = Some("10.0.0.1".to_owned())),
        "tls_server_name must be a host name, not \"10.0.0.1\"",
    );
    check_setup(
        &ConsulConfig { ca_path: Some(ca.path("empty")), ..base.clone() },
        "no certificate in ",
    );
}
