//! What the tests of this folder share.

use std::time::Duration;

use crate::config::{ConsulAddress, ConsulConfig};

/// A configuration for the URLs `addresses`, patient enough for a slow machine.
pub(super) fn config(addresses: &[&str]) -> ConsulConfig {
    ConsulConfig {
        addresses: addresses.iter().map(|&url| ConsulAddress::Http(url.to_owned())).collect(),
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
        wait: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        connections_max: 8,
        connections_spare: 2,
        response_bytes_max: 1_000_000,
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
    }
}
