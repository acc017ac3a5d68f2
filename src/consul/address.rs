//! One address of Consul: how it is reached, and the connections to it.
//!
//! An address is a URL, a unix socket (then the URL's host is only for show), or a URL whose
//! certificate carries another name. In the last case the URL gets that name, which is then sent
//! as SNI and checked as usual, and the name resolves to where the address really is.
//!
//! Knows nothing of tokens, parameters or replies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tower::util::MapResponseLayer;

use crate::config::{ConsulAddress, ConsulConfig};
use crate::consul::client::Costs;
use crate::consul::fetch;
use crate::consul::lane::{Lane, Leased};

/// An address with its connections.
pub struct Address {
    /// Scheme, host and port, or the socket's path; for the log.
    label: String,
    base: Url,
    /// Never empty.
    lanes: Vec<Lane>,
    /// Over TLS, those there may be where each request takes one. Elsewhere that is so anyway.
    connections: Option<Semaphore>,
}

/// Why an address cannot be used at all. For the operator to mend.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AddressError {
    #[error("cannot set up HTTP to consul")]
    Http(#[source] reqwest::Error),
    #[error("no http or https URL: consul's address {address}")]
    NoUrl { address: String },
    #[error("tls_server_name must be a host name, not {name:?}")]
    ServerName { name: String },
}

/// Resolves any name to the host that the operator configured.
#[derive(Clone)]
struct Pinned {
    host: String,
    port: u16,
}

impl Address {
    /// Prepares for `address`; opens no connection.
    ///
    /// # Errors
    ///
    /// Fails on what is no URL, and on a TLS server name that is none.
    pub fn new(
        address: &ConsulAddress,
        config: &ConsulConfig,
        tls: &ClientConfig,
        costs: &Costs,
    ) -> Result<Self, AddressError> {
        match address {
            ConsulAddress::Http(text) => {
                let mut base = base(text)?;
                let label = label(&base);
                let secure = base.scheme() == "https";
                let pinned = match &config.tls_server_name {
                    Some(name) if secure => Some(pin(&mut base, name)?),
                    _ => None,
                };
                // Without TLS there is no HTTP/2, and each request has a connection of its own.
                let count = if secure { config.streams_max.div_ceil(STREAMS_MAX) } else { 1 };
                // To reqwest a connection with streams is idle since the last one began, and each
                // request that comes after that time would open another.
                let idle = (!secure).then_some(IDLE);
                let lanes = (0..count.max(1))
                    .map(|_| {
                        let builder = builder(config, tls, costs, idle);
                        Lane::new(match pinned.clone() {
                            Some(pinned) => builder.dns_resolver(pinned),
                            None => builder,
                        })
                    })
                    .collect::<Result<_, _>>()?;
                let connections = secure.then(|| Semaphore::new(config.connections_max));
                Ok(Self { label, base, lanes, connections })
            }
            ConsulAddress::Unix(path) => {
                let lane =
                    Lane::new(builder(config, tls, costs, Some(IDLE)).unix_socket(path.as_path()))?;
                let base = base("http://localhost")?;
                Ok(Self {
                    label: path.display().to_string(),
                    base,
                    lanes: vec![lane],
                    connections: None,
                })
            }
        }
    }

    /// Whether TLS is spoken to `address`.
    pub fn is_secure(address: &ConsulAddress) -> bool {
        match address {
            ConsulAddress::Http(text) => base(text).is_ok_and(|base| base.scheme() == "https"),
            ConsulAddress::Unix(_) => false,
        }
    }

    /// Scheme, host and port, or the socket's path. Never a password.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The URL of `path`, each element of which is one segment, whatever it holds.
    pub fn url(&self, path: &[String]) -> Url {
        let mut url = self.base.clone();
        // It fails only for URLs such as `mailto:`, which `base` does not let through.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A client for one more request, once there is room on a connection. Those that have one fill
    /// up before another is opened.
    pub async fn lease(&self) -> Leased<'_> {
        let has_room = |lane: &&Lane| lane.open() < STREAMS_MAX;
        let least = || self.lanes.iter().min_by_key(|lane| lane.open());
        let lane = self.lanes.iter().find(has_room).or_else(least).unwrap_or(&self.lanes[0]);
        match &self.connections {
            Some(connections) => {
                let expects_streams = self.lanes.iter().any(Lane::has_streams);
                lane.lease_secure(connections, expects_streams).await
            }
            None => lane.lease(),
        }
    }
}

impl Resolve for Pinned {
    fn resolve(&self, _name: Name) -> Resolving {
        let Self { host, port } = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn builder(
    config: &ConsulConfig,
    tls: &ClientConfig,
    costs: &Costs,
    idle: Option<Duration>,
) -> reqwest::ClientBuilder {
    let costs = Arc::clone(costs);
    let counting = MapResponseLayer::new(move |connection| {
        costs.get().iter().for_each(|costs| costs.connections.inc());
        fetch::note_opened();
        connection
    });
    reqwest::Client::builder()
        .connect_timeout(config.timeout)
        // Consul redirects browsers to its UI; for us that is a reply that is not JSON.
        .redirect(Policy::none())
        // HTTP_PROXY is meant for the outside, Consul's agent is on this machine.
        .no_proxy()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("fingerpost/", env!("CARGO_PKG_VERSION")))
        .connector_layer(counting)
        // Consul counts connections that are idle too, and there may be more than requests: one
        // that is opened while another becomes free is not needed any more.
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(config.connections_spare)
}

fn base(text: &str) -> Result<Url, AddressError> {
    let bad = || AddressError::NoUrl { address: text.to_owned() };
    let mut url = Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn label(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    match base.port_or_known_default() {
        Some(port) => format!("{}://{host}:{port}", base.scheme()),
        None => format!("{}://{host}", base.scheme()),
    }
}

/// Puts `name` into `base`, and returns where `base` pointed before.
fn pin(base: &mut Url, name: &str) -> Result<Pinned, AddressError> {
    let bad = || AddressError::ServerName { name: name.to_owned() };
    let host = base.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = base.port_or_known_default().unwrap_or(443);
    // An IP address would be connected to, without asking the resolver.
    if name.parse::<IpAddr>().is_ok() {
        return Err(bad());
    }
    base.set_host(Some(name)).map_err(|_| bad())?;
    Ok(Pinned { host, port })
}

/// Longer than a watch rests between two rounds.
const IDLE: Duration = Duration::from_secs(15);

/// Requests per client. Past 250 streams of its one HTTP/2 connection, reqwest queues silently.
const STREAMS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, name: &str, expected: &str) {
        let pinned = base(address).and_then(|mut url| {
            let at = pin(&mut url, name)?;
            Ok(format!("{url} at {} port {}", at.host, at.port))
        });
        let got = pinned.unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(got, expected, "address {address}, name {name}");
    }

    #[test]
    fn another_server_name_goes_into_the_url_and_resolves_to_the_address() {
        for (address, name, expected) in [
            (
                "https://10.0.0.1:8501",
                "server.dc1.consul",
                "https://server.dc1.consul:8501/ at 10.0.0.1 port 8501",
            ),
            (
                "https://[fd00::1]:8501",
                "server.dc1.consul",
                "https://server.dc1.consul:8501/ at fd00::1 port 8501",
            ),
            (
                "https://consul.example",
                "server.dc1.consul",
                "https://server.dc1.consul/ at consul.example port 443",
            ),
            (
                "https://10.0.0.1:8501",
                "10.0.0.2",
                "error: tls_server_name must be a host name, not \"10.0.0.2\"",
            ),
            ("ftp://10.0.0.1", "x", "error: no http or https URL: consul's address ftp://10.0.0.1"),
            ("10.0.0.1", "x", "error: no http or https URL: consul's address 10.0.0.1"),
        ] {
            check(address, name, expected);
        }
    }

    #[test]
    fn a_label_shows_no_password() {
        for (address, expected) in [
            ("http://user:secret@consul.example:8500/prefix", "http://consul.example:8500"),
            ("https://[fd00::1]", "https://[fd00::1]:443"),
        ] {
            assert_eq!(label(&base(address).unwrap()), expected);
        }
    }
}
