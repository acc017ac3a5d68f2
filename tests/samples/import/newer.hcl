# Of releases after 1.8, and two keys that no release has.
partition = "team"
dns_confg { node_ttl = "1s" }
ports { dns = -1 http = -1 https = 8501 serf_lan = 8301 htps = 1 }
addresses { https = "10.0.0.5" }
tls {
  defaults {
    ca_file = "/etc/ca.pem"
    cert_file = "/etc/agent.pem"
    key_file = "/etc/agent-key.pem"
    verify_incoming = true
    verify_outgoing = true
  }
  https {
    ca_file = "/etc/https-ca.pem"
    verify_incoming = false
    tls_min_version = "TLSv1_2"
  }
  internal_rpc { verify_server_hostname = true }
}
server_name = "consul.example.com"
acl {
  enabled = true
  tokens {
    default = "00000000-s3cr-et00-0000-000000000005"
    dns = "00000000-s3cr-et00-0000-000000000006"
  }
}
limits { http_max_conns_per_client = 10 }
dns_config { locality_aware_lookup { mode = "always" } enable_truncate = true }
