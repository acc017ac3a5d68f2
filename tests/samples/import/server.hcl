# A server of Consul 1.8, as its documentation writes it.
datacenter = "East-1"
data_dir   = "/opt/consul"
domain     = "consul."
alt_domain = "consul.example.com"
server     = true
bootstrap_expect = 3
bind_addr   = "{{ GetPrivateIP }}"
client_addr = "0.0.0.0 {{ GetInterfaceIP \"eth0\" }}"
retry_join  = ["provider=aws tag_key=consul secret_access_key=s3cret"]
encrypt     = "MDEyMzQ1Njc4OWFiY2RlZg=="
recursors   = ["10.0.0.2", "{{ GetPrivateIP }}", "[2001:db8::53]:5353"]

ports {
  dns  = 53
  https = 8501
  grpc = 8502
}

dns_config {
  allow_stale  = true
  node_ttl     = "30s"
  only_passing = true
  recursor_timeout = "2m"
  service_ttl {
    "*"   = "5s"
    "db*" = "10s"
  }
  soa {
    min_ttl = 60
  }
}

verify_incoming        = true
verify_outgoing        = true
verify_server_hostname = true
ca_file   = "/etc/consul.d/ca.pem"
cert_file = "/etc/consul.d/server.pem"
key_file  = "/etc/consul.d/server-key.pem"

acl {
  enabled        = true
  default_policy = "deny"
  tokens {
    agent   = "00000000-s3cr-et00-0000-000000000001"
    default = "00000000-s3cr-et00-0000-000000000002"
  }
}

telemetry {
  prometheus_retention_time = "30s"
}

log_level     = "WARN"
enable_syslog = true
