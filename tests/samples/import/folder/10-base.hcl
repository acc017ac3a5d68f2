recursors = ["10.0.0.2"]
dns_config = { node_ttl = "1s", service_ttl = { web = "1s" } }
client_addr = "10.1.2.3"
data_dir = "/opt/consul"
