//! The Consul that is changed and looked at: a real one or a scripted one.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::time::Instant;

use crate::catalog::{self, Catalog};
use crate::processes::cpu;
use crate::real;
use crate::scripted::Scripted;
use crate::support::authority::{Authority, SERVER};
use crate::support::consul::Consul;

/// Which, and how it is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Http,
    Https,
    Scripted,
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "Consul over HTTP",
            Self::Https => "Consul over HTTPS",
            Self::Scripted => "a scripted Consul over HTTPS",
        }
    }
}

pub struct Source {
    consul: Either,
    kind: Kind,
    authority: Authority,
    /// Changes without a file of configuration that a certificate needs.
    client: reqwest::Client,
}

enum Either {
    Real(Box<Consul>),
    Scripted(Scripted),
}

impl Source {
    /// One that has all of `catalog`.
    pub async fn start(kind: Kind, catalog: Catalog) -> Self {
        let authority = Authority::new();
        authority.issue("server", SERVER);
        let read = |name: &str| std::fs::read(authority.path(name)).expect("a file of PEM");
        let consul = match kind {
            Kind::Scripted => {
                let (cert, key) = (read("server.pem"), read("server.key"));
                Either::Scripted(Scripted::start(catalog, &cert, &key).await)
            }
            _ => {
                let secure = (kind == Kind::Https).then_some(&authority);
                Either::Real(Box::new(real::start(catalog, secure).await))
            }
        };
        let ca = reqwest::Certificate::from_pem(&read("ca.pem")).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        let address = https(&consul).unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let client = client.resolve(SERVER, address).build().expect("a client");
        Self { consul, kind, authority, client }
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        match (&self.consul, self.kind) {
            (Either::Real(consul), Kind::Http) => format!("http://{}", consul.http_address()),
            (consul, _) => {
                let address = https(consul).expect("an address for HTTPS");
                format!("https://{SERVER}:{}", address.port())
            }
        }
    }

    /// What the server needs to speak to it: an address, and a name to find in its certificate.
    pub fn address(&self) -> String {
        match self.kind {
            Kind::Http => self.url(),
            _ => format!("https://{}", https(&self.consul).expect("an address for HTTPS")),
        }
    }

    /// The authority that signed its certificate.
    pub fn ca(&self) -> PathBuf {
        self.authority.path("ca.pem")
    }

    /// One that trusts it.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Its own DNS.
    pub fn dns(&self) -> Option<SocketAddr> {
        match &self.consul {
            Either::Real(consul) => Some(consul.dns_address()),
            Either::Scripted(_) => None,
        }
    }

    /// CPU time that it has had, in ms.
    pub fn cpu_ms(&self) -> Option<f64> {
        match &self.consul {
            Either::Real(consul) => Some(cpu(consul.pid()).as_secs_f64() * 1e3),
            // It shares this process with those who look.
            Either::Scripted(_) => None,
        }
    }

    /// Makes `version` of a service; gives when that was sent.
    pub async fn change(&self, service: usize, version: u64) -> Instant {
        self.flip(service, 0, catalog::status(version)).await
    }

    /// Sets one check; the scripted one has one of each service that changes.
    pub async fn flip(&self, service: usize, instance: usize, status: &str) -> Instant {
        let since = Instant::now();
        match &self.consul {
            Either::Real(consul) => {
                consul.register(catalog::flip(service, instance, status)).await;
            }
            Either::Scripted(scripted) => scripted.change(service),
        }
        since
    }
}

fn https(consul: &Either) -> Option<SocketAddr> {
    match consul {
        Either::Real(consul) => Some(consul.https_address()),
        Either::Scripted(scripted) => Some(scripted.address()),
    }
}
