//! The configuration, from file, environment and flags to types that cannot be wrong.
//!
//! Two layers. A draft is what people write, key by key, each with the place it came from.
//! [`Config`] is what the program runs on: no option is missing, no value is out of range, and
//! nothing downstream checks it again. The table in `keys` is the only list of keys: the file,
//! the environment, `config/example.toml` and the README are all held against it.
//!
//! Precedence: flag > environment > file > default. Nothing here reads a file, a variable or a
//! clock: what was found outside comes in as [`Sources`].

pub mod consul_env;
pub mod cookies;
mod defaults;
pub mod draft;
pub mod duration;
pub mod env;
pub mod file;
pub mod flags;
pub mod key;
pub mod keys;
pub mod keys_answers;
pub mod keys_connections;
pub mod keys_consul;
pub mod keys_dns;
pub mod keys_log;
pub mod keys_recursion;
pub mod live;
pub mod load;
pub mod names;
pub mod reading;
pub mod reverse;
pub mod together;
#[cfg(test)]
pub mod trial;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::answer::{AnyAnswer, Network};

pub use crate::config::draft::{Mistake, Place, Remark};
pub use crate::config::flags::Flags;
pub use crate::config::load::{ConfigErrors, Loaded, Sources};

/// A complete, valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The zone we are authoritative for, lower case, without a trailing dot.
    pub domain: String,
    /// A second zone with the same names, as `domain`; `None` is none.
    pub alt_domain: Option<String>,
    /// Answers with the `wan` addresses of other datacenters.
    pub translate_wan_addrs: bool,
    /// The sockets that are asked.
    pub dns: DnsConfig,
    /// What the answers hold.
    pub answers: AnswersConfig,
    /// Names that are not ours.
    pub recursion: RecursionConfig,
    /// The operator's port.
    pub admin: AdminConfig,
    /// Where Consul is; of no meaning while `catalog_file` is given.
    pub consul: ConsulConfig,
    /// How services without a watch are kept.
    pub cache: CacheConfig,
    /// When what vanishes is believed to be gone.
    pub guard: GuardConfig,
    /// A catalogue file to serve instead of a Consul; `None` asks Consul.
    pub catalog_file: Option<PathBuf>,
    /// What is kept on disk for the next start.
    pub snapshot: SnapshotConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where queries and replies are sent, if anywhere.
    pub dnstap: DnstapConfig,
    /// How many series the catalogue may cause.
    pub metrics: MetricsConfig,
    /// How the program ends.
    pub shutdown: ShutdownConfig,
}

/// `[dns]`: the sockets and their limits.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsConfig {
    /// Each is served over UDP and TCP. Never empty. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// UDP threads per address; 0 is one per core. At most 256.
    pub workers: usize,
    /// The largest UDP reply, and the size in our OPT. Between 512 and 4096 bytes.
    pub udp_payload_max: u16,
    /// Addresses that `ns.<domain>` resolves to; empty means the one that was asked.
    pub advertise: Vec<IpAddr>,
    /// Names in NS records, lower case; empty is `ns.<domain>`. At most 8.
    pub name_servers: Vec<String>,
    /// Zones of reverse names that are ours, lower case.
    pub reverse_zones: Vec<String>,
    /// Whether a forwarder's word is taken for where its client is (EDNS client subnet).
    pub client_subnet: bool,
    /// Whether the version and the identity are told in class CH.
    pub chaos: bool,
    /// The identity; `None` is the machine's name.
    pub identity: Option<String>,
    /// Whether the identity is told to who asks by NSID.
    pub nsid: bool,
    /// What ANY is answered with.
    pub any: AnyAnswer,
    /// The clients to whom answers are explained.
    pub why: Vec<Network>,
    /// Whether cookies are made and looked at.
    pub cookies: bool,
    /// What they are made with, each of 32 hexadecimal digits: two at most. Empty is one that is
    /// drawn at start.
    pub cookie_secrets: Vec<Secret>,
    /// A file of them, a line each. Wins over `cookie_secrets` when both are given in one place.
    pub cookie_secrets_file: Option<PathBuf>,
    /// Served over TLS. Empty serves none, as with the three that follow.
    pub tls_listen: Vec<SocketAddr>,
    /// Served over HTTPS, by HTTP/2 and HTTP/1.1.
    pub https_listen: Vec<SocketAddr>,
    /// Served over HTTPS by HTTP/3.
    pub https3_listen: Vec<SocketAddr>,
    /// Served over QUIC.
    pub quic_listen: Vec<SocketAddr>,
    /// The path of HTTPS URLs; begins with a slash.
    pub https_path: String,
    /// The server's certificate chain, in PEM. Given together with `key_file`, or not at all.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file`, in PEM.
    pub key_file: Option<PathBuf>,
    /// Bounds on connections, of any kind.
    pub connections: ConnectionsConfig,
    /// Queries that may wait for something not yet in memory. At least 1.
    pub waiting_max: usize,
}

/// Of `[dns]`: bounds on connections, be they of TCP, TLS, HTTPS or QUIC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionsConfig {
    /// Open at once, over all addresses. At least 1.
    pub connections_max: usize,
    /// Of one client's. At least 1.
    pub client_connections_max: usize,
    /// Queries of one connection being answered at once. At least 1.
    pub pipeline_max: usize,
    /// Queries after which one is closed. At least 1.
    pub connection_queries_max: usize,
    /// How long one may stay without a query, or without reading. Not zero.
    pub idle: Duration,
    /// How long a query may take from its first byte to its last. Not zero.
    pub message_timeout: Duration,
    /// How long a handshake may take. Not zero.
    pub handshake_timeout: Duration,
    /// Bytes that wait to be read before no more queries are taken.
    pub send_bytes_max: usize,
}

/// `[dns_config]`: what is in the answers, spelled as in Consul.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswersConfig {
    /// Leaves out instances whose worst check is `warning`.
    pub only_passing: bool,
    /// The TTL of node, NS, glue and `.addr` records, in seconds.
    pub node_ttl_secs: u32,
    /// Service name, prefix ending in `*`, or `*`, and the TTL in seconds; keys lower case.
    pub service_ttl_secs: Vec<(String, u32)>,
    /// Most A and AAAA records in one answer, over any transport; 0 is no limit.
    pub a_record_limit: usize,
    /// Most records in an answer over UDP without EDNS, effective up to 8; at least 1.
    pub udp_answer_limit: usize,
    /// How old an answer may be while Consul is away.
    pub max_stale: Duration,
    /// The numbers of the SOA record.
    pub soa: SoaConfig,
}

/// `[dns_config.soa]`, all in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoaConfig {
    /// How often a secondary would look for changes.
    pub refresh_secs: u32,
    /// How soon it would look again after a failure.
    pub retry_secs: u32,
    /// When it would give up.
    pub expire_secs: u32,
    /// Also the TTL of the SOA itself, and so of negative answers.
    pub min_ttl_secs: u32,
}

/// `recursors`, their keys of `[dns_config]`, and `[recursion]`: names that are not ours.
#[derive(Clone, Debug, PartialEq)]
pub struct RecursionConfig {
    /// Who is asked, the preferred first. Empty refuses such names.
    pub recursors: Vec<SocketAddr>,
    /// In which order they are asked.
    pub recursor_strategy: Strategy,
    /// How long one may take. Not zero.
    pub recursor_timeout: Duration,
    /// The clients that may ask for such names.
    pub allow: Vec<Network>,
    /// Memory for their answers; 0 keeps none.
    pub cache_bytes_max: u64,
    /// Questions to recursors under way at once. At least 1.
    pub in_flight_max: usize,
    /// Queries that may wait for one. At least 1.
    pub waiting_max: usize,
}

/// In which order recursors are asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strategy {
    /// A new one for each question.
    Random,
    /// As they are written.
    Sequential,
}

/// `[admin]`: the operator's HTTP port.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Bound over TCP. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Names that it may be asked under beside its addresses, in lower case.
    pub hosts: Vec<String>,
    /// HTTP connections open at once. At least 1.
    pub connections_max: usize,
    /// Of these, streams of events. 0 is none.
    pub events_max: usize,
    /// How long a connection may stay without a complete request, or without reading a reply.
    pub idle: Duration,
}

/// `[consul]`: where Consul is and how it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsulConfig {
    /// Tried in order; the next when one fails. Never empty.
    pub addresses: Vec<ConsulAddress>,
    /// The datacenter to ask for, lower case; `None` is the agent's own.
    pub datacenter: Option<String>,
    /// Sent as `X-Consul-Token`; `None` is the anonymous token.
    pub token: Option<Secret>,
    /// Wins over `token` when both are given in one place. Read at start, and again when it
    /// changes.
    pub token_file: Option<PathBuf>,
    /// User and password for HTTP basic authentication, as `user:password`; has a colon.
    pub http_auth: Option<Secret>,
    /// A PEM file of authorities that may sign Consul's certificate.
    pub ca_file: Option<PathBuf>,
    /// A folder of PEM files.
    pub ca_path: Option<PathBuf>,
    /// Our certificate, in PEM. Given together with `key_file`, or not at all.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file`, in PEM.
    pub key_file: Option<PathBuf>,
    /// The name checked in Consul's certificate instead of the address's.
    pub tls_server_name: Option<String>,
    /// False accepts any certificate of Consul's.
    pub tls_verify: bool,
    /// Enterprise only.
    pub namespace: Option<String>,
    /// Enterprise only.
    pub partition: Option<String>,
    /// How long Consul may hold a blocking query. Between 1 s and 10 min, as Consul allows.
    pub wait: Duration,
    /// How long Consul may take to answer a query that does not block.
    pub timeout: Duration,
    /// Requests to Consul open at once, blocking ones included. Between 8 and 10,000.
    pub connections_max: usize,
    /// Of these, kept free for queries that do not block. At least 2, and 3 less than the whole.
    pub connections_spare: usize,
    /// Requests open at once where each is a stream of HTTP/2. Between 8 and 100,000.
    pub streams_max: usize,
    /// The largest reply of Consul's that is read, in bytes.
    pub response_bytes_max: usize,
    /// The first pause after a failure; it doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest pause. At least `backoff_min`.
    pub backoff_max: Duration,
}

/// Where a Consul listens.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsulAddress {
    /// `http://host:port` or `https://host:port`, without a trailing slash. As in Consul's tools,
    /// the port may be absent (then the scheme's own) and a reverse proxy's path may follow.
    Http(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// `[cache]`: services beyond the watches.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// How long a service fetched on demand is answered without asking again.
    pub kept: Duration,
    /// How old such a service may be before it is fetched again behind the answers; zero is any age.
    pub refresh: Duration,
    /// Such services a second that are fetched so, at most. At least 1.
    pub refresh_per_second: usize,
    /// How long such a service stays in memory without being asked for.
    pub idle: Duration,
    /// Such services in memory at most.
    pub services_max: usize,
    /// What they may take in memory, in bytes.
    pub bytes_max: u64,
    /// How long a question waits for Consul before it is SERVFAIL.
    pub patience: Duration,
    /// How long the result of a prepared query without a TTL is answered without executing it
    /// again.
    pub query_kept: Duration,
    /// Questions a second that may ask Consul for names that nothing here says exist. At least 1.
    pub unlisted_per_second: usize,
    /// Such names in memory at most that Consul denied. At least 1.
    pub denied_max: usize,
    /// How long it takes to read the addresses of all services that are not watched.
    pub sweep_within: Duration,
    /// How often they are read again.
    pub sweep_every: Duration,
    /// How long it takes to compare all that is watched with Consul, once; zero never does.
    pub check_every: Duration,
}

/// `[guard]` and `[split_brain]`: when what vanishes from Consul is believed to be gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardConfig {
    /// How much of a datacenter may vanish within ten seconds, in percent.
    pub share: usize,
    /// In a datacenter with fewer instances, services or nodes, any share may.
    pub least: usize,
    /// How long what vanishes is answered still, to see whether more does.
    pub settle: Duration,
    /// How long all of it is where too much did.
    pub hold: Duration,
    /// Servers of the local datacenter that must be alive; 0 is a majority of them.
    pub min_nodes: usize,
}

/// `[snapshot]`: what is kept on disk for the next start.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotConfig {
    /// The file; `None` keeps nothing.
    pub path: Option<PathBuf>,
    /// How often it is written at most. Not zero.
    pub every: Duration,
    /// The largest file that is written or read, in bytes.
    pub bytes_max: usize,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogConfig {
    /// The least grave level that is still logged.
    pub level: LogLevel,
    /// The form of each line.
    pub format: LogFormat,
    /// Which queries have a line.
    pub queries: Queries,
    /// Of how many queries one has a line, where some have. At least 1.
    pub queries_sample: usize,
    /// Lines of queries in a second at most. At least 1.
    pub queries_per_second: usize,
}

/// Which queries have a line in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queries {
    /// Each.
    All,
    /// Those answered with neither NOERROR nor NXDOMAIN.
    Errors,
    /// None.
    Off,
    /// One of so many.
    Sampled,
}

/// `[dnstap]`: the collector of queries and replies.
#[derive(Clone, Debug, PartialEq)]
pub struct DnstapConfig {
    /// Its Unix socket. Not given together with `address`.
    pub socket: Option<PathBuf>,
    /// Where it is over TCP, as host and port.
    pub address: Option<String>,
    /// Who we say that we are; `None` is the machine's name.
    pub identity: Option<String>,
    /// Frames that may wait for it. At least 2.
    pub queue: usize,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Degraded, and retrying.
    Warn,
    /// Start, stop, Consul lost or back.
    Info,
    /// Each connection.
    Debug,
    /// Each query.
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Text,
}

/// `[metrics]`: bounds on labels that come from the catalogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricsConfig {
    /// Services with series of their own; the rest are `other`.
    pub services_max: usize,
    /// Series of `fingerpost_service_health` at most.
    pub health_series_max: usize,
}

/// `[shutdown]`: on SIGTERM and SIGINT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShutdownConfig {
    /// How long it may take before what is still in flight is dropped.
    pub grace: Duration,
    /// How long answers go on before it begins, while the program says that it is not ready.
    pub lameduck: Duration,
}

/// A value that must not be shown: its `Debug` is `Secret(…)`.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Takes charge of `value`.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
