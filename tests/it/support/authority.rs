//! A certificate authority of a test's own, with a Consul that lets its clients in and no others.

use std::path::PathBuf;

use fingerpost::config::{Config, ConsulAddress};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An authority, and the folder in which its files lie.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One that nobody else trusts: `ca.pem`.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // OpenSSL takes a certificate for self-signed whose issuer has the same name.
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Another authority in the same files: nobody trusts the first any more.
    pub fn replace(&mut self) {
        let other = Self::new();
        std::fs::copy(other.path("ca.pem"), self.path("ca.pem")).unwrap();
        self.issuer = other.issuer;
        self.issue("server", SERVER);
        self.issue("client", CLIENT);
    }

    /// Where the file `name` is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<file>.pem` and `<file>.key` for whoever is called `name`.
    pub fn issue(&self, file: &str, name: &str) {
        self.sign(file, CertificateParams::new(vec![name.to_owned()]).unwrap());
    }

    /// The same, good up to `year`.
    pub fn issue_until(&self, file: &str, name: &str, year: i32) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(file, params);
    }

    fn sign(&self, file: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    /// What a Consul is configured with that calls itself `server.dc1.consul`, and whose clients
    /// must show a certificate of this authority.
    pub fn consul(&self) -> Value {
        self.issue("server", SERVER);
        json!({
            "ca_file": self.path("ca.pem"),
            "cert_file": self.path("server.pem"),
            "key_file": self.path("server.key"),
            "verify_incoming_https": true,
        })
    }

    /// What a client of that Consul is configured with, at `https`.
    pub fn client(&self, https: std::net::SocketAddr) -> Config {
        self.issue("client", CLIENT);
        let mut config = Config::default();
        config.consul.addresses = vec![ConsulAddress::Http(format!("https://{https}"))];
        config.consul.ca_file = Some(self.path("ca.pem"));
        config.consul.cert_file = Some(self.path("client.pem"));
        config.consul.key_file = Some(self.path("client.key"));
        config.consul.tls_server_name = Some(SERVER.to_owned());
        config
    }
}

/// Whom the files `server.pem` and `server.key` are of.
pub const SERVER: &str = "server.dc1.consul";
const CLIENT: &str = "client.dc1.consul";
