//! Consul's keys that mean nothing here, each with the reason.
//!
//! They are those of its releases from 1.8 on, old spellings included. What is in a table of theirs
//! is not looked at, and neither is any value: it may be a secret.

/// Why the key `name`, as in `ports.serf_lan`, means nothing here; `None` where it is none of these.
pub fn reason(name: &str) -> Option<&'static str> {
    REASONS.iter().find(|(_, keys)| keys.contains(&name)).map(|(reason, _)| *reason)
}

/// All names in the table.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    REASONS.iter().flat_map(|(_, keys)| keys.iter().copied())
}

const REASONS: &[(&str, &[&str])] = &[
    ("it is of the agent as a process and of its data", AGENT),
    ("it is of the cluster, and of how agents and servers talk", CLUSTER),
    ("Consul judges what a token may read", RIGHTS),
    ("it is another token than the one that DNS asks with", OTHER_TOKENS),
    ("the agent registers it, and Consul's catalogue tells of it", REGISTERED),
    ("the mesh is Consul's; its names are answered", MESH),
    ("it is of the agent's own HTTP port and of its user interface", HTTP),
    ("it is of gRPC, which nothing here speaks", GRPC),
    ("the agent's limits, but for that on connections, are not reached", LIMITS),
    ("logs go to standard error; what runs this program keeps them", LOGS),
    ("metrics are at /metrics of admin.listen, for Prometheus", &["telemetry"]),
    ("what is asked may be old where that is told; see dns_config.max_stale", STALE),
    ("TLS 1.2 and 1.3 are spoken, with the ciphers of rustls", CIPHERS),
    ("it is of TLS between agents and servers", RPC_TLS),
];

const AGENT: &[&str] = &[
    "ae_interval",
    "audit",
    "auto_reload_config",
    "build_date",
    "cloud",
    "data_dir",
    "disable_anonymous_signature",
    "disable_host_node_id",
    "disable_remote_exec",
    "disable_update_check",
    "experiments",
    "leave_on_terminate",
    "license_path",
    "license_poll_base_time",
    "license_poll_max_time",
    "license_update_base_time",
    "license_update_max_time",
    "locality",
    "node_id",
    "performance",
    "pid_file",
    "reporting",
    "revision",
    "skip_leave_on_interrupt",
    "snapshot_agent",
    "version",
    "version_metadata",
    "version_prerelease",
    "watches",
];

const CLUSTER: &[&str] = &[
    "acl_datacenter",
    "advertise_addr",
    "advertise_addr_ipv4",
    "advertise_addr_ipv6",
    "advertise_addr_wan",
    "advertise_addr_wan_ipv4",
    "advertise_addr_wan_ipv6",
    "advertise_reconnect_timeout",
    "auto_config",
    "auto_encrypt",
    "autopilot",
    "bind_addr",
    "bootstrap",
    "bootstrap_expect",
    "cache",
    "consul",
    "disable_coordinates",
    "disable_keyring_file",
    "encrypt",
    "encrypt_verify_incoming",
    "encrypt_verify_outgoing",
    "gossip_lan",
    "gossip_wan",
    "non_voting_server",
    "peering",
    "ports.serf_lan",
    "ports.serf_wan",
    "ports.server",
    "primary_datacenter",
    "primary_gateways",
    "primary_gateways_interval",
    "protocol",
    "raft_logstore",
    "raft_protocol",
    "raft_snapshot_interval",
    "raft_snapshot_threshold",
    "raft_trailing_logs",
    "read_replica",
    "reconnect_timeout",
    "reconnect_timeout_wan",
    "rejoin_after_leave",
    "retry_interval",
    "retry_interval_wan",
    "retry_join",
    "retry_join_wan",
    "retry_max",
    "retry_max_wan",
    "rpc",
    "segment",
    "segment_limit",
    "segment_name_limit",
    "segments",
    "serf_lan",
    "serf_lan_allowed_cidrs",
    "serf_wan",
    "serf_wan_allowed_cidrs",
    "server",
    "server_rejoin_age_max",
    "start_join",
    "start_join_wan",
    "sync_coordinate_interval_min",
    "sync_coordinate_rate_target",
    "use_streaming_backend",
];

const RIGHTS: &[&str] = &[
    "acl.default_policy",
    "acl.disabled_ttl",
    "acl.down_policy",
    "acl.enable_key_list_policy",
    "acl.enable_token_persistence",
    "acl.enable_token_replication",
    "acl.msp_disable_bootstrap",
    "acl.policy_ttl",
    "acl.role_ttl",
    "acl.token_ttl",
    "acl_default_policy",
    "acl_disabled_ttl",
    "acl_down_policy",
    "acl_enable_key_list_policy",
    "acl_ttl",
    "default_intention_policy",
    "enable_acl_replication",
];

const OTHER_TOKENS: &[&str] = &[
    "acl.tokens.agent",
    "acl.tokens.agent_master",
    "acl.tokens.agent_recovery",
    "acl.tokens.config_file_service_registration",
    "acl.tokens.initial_management",
    "acl.tokens.managed_service_provider",
    "acl.tokens.master",
    "acl.tokens.replication",
    "acl_agent_master_token",
    "acl_agent_token",
    "acl_master_token",
    "acl_replication_token",
];

const REGISTERED: &[&str] = &[
    "check",
    "check_deregister_interval_min",
    "check_output_max_size",
    "check_reap_interval",
    "check_update_interval",
    "checks",
    "config_entries",
    "discard_check_output",
    "enable_agent_tls_for_checks",
    "enable_local_script_checks",
    "enable_script_checks",
    "node_meta",
    "service",
    "services",
    "session_ttl_min",
    "tagged_addresses",
];

const MESH: &[&str] = &[
    "connect",
    "enable_central_service_config",
    "ports.expose_max_port",
    "ports.expose_min_port",
    "ports.proxy_max_port",
    "ports.proxy_min_port",
    "ports.sidecar_max_port",
    "ports.sidecar_min_port",
];

const HTTP: &[&str] = &[
    "default_query_time",
    "disable_http_unprintable_char_filter",
    "enable_debug",
    "http_config",
    "max_query_time",
    "ui",
    "ui_config",
    "ui_content_path",
    "ui_dir",
    "unix_sockets",
];

const GRPC: &[&str] =
    &["addresses.grpc", "addresses.grpc_tls", "ports.grpc", "ports.grpc_tls", "tls.grpc", "xds"];

const LIMITS: &[&str] = &[
    "limits.https_handshake_timeout",
    "limits.kv_max_value_size",
    "limits.request_limits",
    "limits.rpc_client_timeout",
    "limits.rpc_handshake_timeout",
    "limits.rpc_max_burst",
    "limits.rpc_max_conns_per_client",
    "limits.rpc_rate",
    "limits.txn_max_req_len",
];

const LOGS: &[&str] = &[
    "enable_syslog",
    "log_file",
    "log_rotate_bytes",
    "log_rotate_duration",
    "log_rotate_max_files",
    "log_sublevels",
    "syslog_facility",
];

const STALE: &[&str] = &["discovery_max_stale"];

const CIPHERS: &[&str] = &[
    "tls.defaults.tls_cipher_suites",
    "tls.defaults.tls_min_version",
    "tls.https.tls_cipher_suites",
    "tls.https.tls_min_version",
    "tls_cipher_suites",
    "tls_min_version",
    "tls_prefer_server_cipher_suites",
];

const RPC_TLS: &[&str] = &[
    "tls.defaults.use_auto_cert",
    "tls.defaults.verify_outgoing",
    "tls.defaults.verify_server_hostname",
    "tls.https.use_auto_cert",
    "tls.https.verify_outgoing",
    "tls.https.verify_server_hostname",
    "tls.internal_rpc",
    "verify_incoming_rpc",
    "verify_outgoing",
    "verify_server_hostname",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_key_has_one_reason() {
        let distinct: BTreeSet<&str> = names().collect();
        assert_eq!(distinct.len(), names().count());
    }
}
