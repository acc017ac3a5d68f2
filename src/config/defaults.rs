//! What the program runs on when nobody says otherwise.
//!
//! The table of keys holds the same defaults as text; a test holds the two equal.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::answer::{AnyAnswer, Network};
use crate::config::AdminConfig;
use crate::config::AnswersConfig;
use crate::config::CacheConfig;
use crate::config::Config;
use crate::config::ConnectionsConfig;
use crate::config::ConsulAddress;
use crate::config::ConsulConfig;
use crate::config::DnsConfig;
use crate::config::DnstapConfig;
use crate::config::GuardConfig;
use crate::config::LogConfig;
use crate::config::LogFormat;
use crate::config::LogLevel;
use crate::config::MetricsConfig;
use crate::config::Queries;
use crate::config::RecursionConfig;
use crate::config::ShutdownConfig;
use crate::config::SnapshotConfig;
use crate::config::SoaConfig;
use crate::config::Strategy;

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "consul".to_owned(),
            alt_domain: None,
            translate_wan_addrs: false,
            dns: DnsConfig::default(),
            answers: AnswersConfig::default(),
            recursion: RecursionConfig::default(),
            admin: AdminConfig::default(),
            consul: ConsulConfig::default(),
            cache: CacheConfig::default(),
            guard: GuardConfig::default(),
            catalog_file: None,
            snapshot: SnapshotConfig::default(),
            log: LogConfig::default(),
            dnstap: DnstapConfig::default(),
            metrics: MetricsConfig { services_max: 1000, health_series_max: 10_000 },
            shutdown: ShutdownConfig::default(),
        }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), lameduck: Duration::ZERO }
    }
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            listen: vec![loopback(8653)],
            workers: 0,
            // The size that crosses any network unfragmented: DNS Flag Day 2020.
            udp_payload_max: 1232,
            advertise: Vec::new(),
            name_servers: Vec::new(),
            reverse_zones: Vec::new(),
            client_subnet: true,
            chaos: true,
            identity: None,
            nsid: false,
            any: AnyAnswer::All,
            why: LOOPBACK_NETWORKS.iter().filter_map(|text| Network::parse(text)).collect(),
            cookies: true,
            cookie_secrets: Vec::new(),
            cookie_secrets_file: None,
            tls_listen: Vec::new(),
            https_listen: Vec::new(),
            https3_listen: Vec::new(),
            quic_listen: Vec::new(),
            https_path: "/dns-query".to_owned(),
            cert_file: None,
            key_file: None,
            connections: ConnectionsConfig::default(),
            waiting_max: 1024,
        }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            client_connections_max: 256,
            pipeline_max: 32,
            connection_queries_max: 1_000_000,
            // CoreDNS keeps a connection for up to 20 s, and takes one that is gone for a failure.
            idle: Duration::from_secs(30),
            message_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            send_bytes_max: 65_536,
        }
    }
}

impl Default for AnswersConfig {
    fn default() -> Self {
        Self {
            only_passing: false,
            node_ttl_secs: 0,
            service_ttl_secs: Vec::new(),
            a_record_limit: 0,
            udp_answer_limit: 3,
            // Consul's own: ten years.
            max_stale: Duration::from_secs(87_600 * 3600),
            soa: SoaConfig {
                refresh_secs: 3600,
                retry_secs: 600,
                expire_secs: 86_400,
                min_ttl_secs: 0,
            },
        }
    }
}

impl Default for RecursionConfig {
    fn default() -> Self {
        let allow = ALLOWED.iter().filter_map(|text| Network::parse(text));
        Self {
            recursors: Vec::new(),
            recursor_strategy: Strategy::Sequential,
            recursor_timeout: Duration::from_secs(2),
            allow: allow.collect(),
            cache_bytes_max: 16_777_216,
            in_flight_max: 256,
            waiting_max: 1024,
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8654),
            hosts: Vec::new(),
            connections_max: 64,
            events_max: 16,
            idle: Duration::from_secs(10),
        }
    }
}

impl Default for ConsulConfig {
    fn default() -> Self {
        Self {
            addresses: vec![ConsulAddress::Http("http://127.0.0.1:8500".to_owned())],
            datacenter: None,
            token: None,
            token_file: None,
            http_auth: None,
            ca_file: None,
            ca_path: None,
            cert_file: None,
            key_file: None,
            tls_server_name: None,
            tls_verify: true,
            namespace: None,
            partition: None,
            wait: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            connections_max: 80,
            connections_spare: 8,
            streams_max: 2000,
            response_bytes_max: 67_108_864,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(15),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            kept: Duration::from_secs(30),
            refresh: Duration::from_secs(1),
            refresh_per_second: 100,
            idle: Duration::from_secs(600),
            services_max: 10_000,
            bytes_max: 268_435_456,
            patience: Duration::from_secs(1),
            query_kept: Duration::from_secs(5),
            unlisted_per_second: 20,
            denied_max: 1024,
            sweep_within: Duration::from_secs(60),
            sweep_every: Duration::from_secs(600),
            check_every: Duration::from_secs(600),
        }
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            share: 50,
            least: 10,
            settle: Duration::from_secs(1),
            hold: Duration::from_secs(60),
            min_nodes: 0,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Text,
            queries: Queries::Off,
            queries_sample: 100,
            queries_per_second: 1000,
        }
    }
}

impl Default for DnstapConfig {
    fn default() -> Self {
        // As many wait in CoreDNS.
        Self { socket: None, address: None, identity: None, queue: 10_000 }
    }
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { path: None, every: Duration::from_secs(5), bytes_max: 268_435_456 }
    }
}

/// Loopback, RFC 1918, link-local, and the same in IPv6: nobody from afar.
const ALLOWED: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Those of this machine.
const LOOPBACK_NETWORKS: [&str; 2] = ["127.0.0.0/8", "::1/128"];
