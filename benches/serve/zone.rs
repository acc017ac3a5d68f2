//! The one catalogue that all servers are given, in the words of each.
//!
//! Instance `i` of every service is on node `i`, so a target has an address of its own and a
//! service of `n` has `n` different ones.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Services by name, and how many instances each has.
pub struct Zone {
    services: Vec<(String, usize)>,
}

/// One instance of a service.
pub struct Instance<'z> {
    pub service: &'z str,
    /// All of [`TAGGED`] have it.
    pub tag: Option<&'static str>,
    pub node: String,
    pub address: Ipv4Addr,
}

impl Zone {
    /// `web<n>` for each of [`SIZES`], and [`MIX`] small ones.
    pub fn new() -> Self {
        let sizes = SIZES.map(|size| (format!("web{size}"), size));
        let mix = (0..MIX).map(|number| (mixed(number), 1));
        Self { services: sizes.into_iter().chain(mix).collect() }
    }

    /// All instances, service by service.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        self.services.iter().flat_map(|(service, count)| {
            (0..*count).map(move |at| Instance {
                service,
                tag: (service == TAGGED).then_some(TAG),
                node: format!("node-{at}"),
                address: Ipv4Addr::from_bits(0x0a00_0001 + at as u32),
            })
        })
    }

    /// Every node with its address.
    fn nodes(&self) -> BTreeMap<String, Ipv4Addr> {
        self.instances().map(|instance| (instance.node, instance.address)).collect()
    }

    /// As our catalogue file says it.
    pub fn catalog(&self) -> Value {
        let mut nodes: BTreeMap<String, (Ipv4Addr, Vec<Value>)> = BTreeMap::new();
        for instance in self.instances() {
            let (_, services) = nodes.entry(instance.node).or_insert((instance.address, vec![]));
            services.push(json!({
                "name": instance.service, "port": PORT, "tags": Vec::from_iter(instance.tag),
            }));
        }
        let nodes = nodes.into_iter().map(|(name, (address, services))| {
            json!({ "name": name, "address": address, "services": services })
        });
        json!({ "datacenter": "dc1", "nodes": nodes.collect::<Vec<Value>>() })
    }

    /// As Consul is told of one instance.
    pub fn registration(instance: &Instance<'_>) -> Value {
        let Instance { service, tag, node, address } = instance;
        json!({
            "Node": node, "Address": address,
            "Service": {
                "ID": format!("{service}-{node}"), "Service": service, "Port": PORT,
                "Tags": Vec::from_iter(tag),
            },
        })
    }

    /// As a master file of RFC 1035 says it.
    pub fn master_file(&self) -> String {
        let text = head("consul.") + "ns A 127.0.0.1\n";
        self.records().fold(text, |text, line| text + &line + "\n")
    }

    /// The same of [`REVERSE_ZONE`], with all of its names.
    pub fn reverse_file(&self) -> String {
        self.nodes().into_iter().fold(head(REVERSE_ZONE), |text, (node, address)| {
            let [_, b, c, d] = address.octets();
            text + &format!("{d}.{c}.{b} 5 IN PTR {}\n", node_name(&node))
        })
    }

    /// Every record as a line of such a file, with names in full.
    pub fn records(&self) -> impl Iterator<Item = String> {
        let services = self.instances().flat_map(|Instance { service, tag, node, address }| {
            let (name, target) = (service_name(service), node_name(&node));
            let srv = format!("{name} 5 IN SRV 1 1 {PORT} {target}");
            let tagged = tag.map(|tag| address_record(&format!("{tag}.{name}"), address));
            [address_record(&name, address), srv].into_iter().chain(tagged)
        });
        let nodes = self.nodes();
        services.chain(nodes.into_iter().map(|(node, ip)| address_record(&node_name(&node), ip)))
    }

    /// As a file of hosts says it, each address with a name.
    pub fn hosts(&self) -> String {
        let line = |ip: Ipv4Addr, name: &str| format!("{ip} {}\n", name.trim_end_matches('.'));
        let services = self.instances();
        let services =
            services.map(|instance| line(instance.address, &service_name(instance.service)));
        let nodes = self.nodes();
        let nodes = nodes.into_iter().map(|(node, ip)| line(ip, &node_name(&node)));
        services.chain(nodes).collect()
    }

    /// The SRV records as dnsmasq's options say them.
    pub fn srv_hosts(&self) -> String {
        let option = |Instance { service, node, .. }: Instance<'_>| {
            let [name, target] = [service_name(service), node_name(&node)];
            let [name, target] = [&name, &target].map(|name| name.trim_end_matches('.'));
            format!("srv-host={name},{target},{PORT},1,1\n")
        };
        self.instances().map(option).collect()
    }
}

/// What a zone begins with.
fn head(origin: &str) -> String {
    format!(
        "$ORIGIN {origin}\n$TTL 5\n@ SOA ns.consul. hostmaster.consul. 1 3600 600 86400 5\n\
         @ NS ns.consul.\n"
    )
}

/// The name of the small service `number`; all are of one length.
pub fn mixed(number: usize) -> String {
    format!("mix{number:05}")
}

fn service_name(service: &str) -> String {
    format!("{service}.service.consul.")
}

fn node_name(node: &str) -> String {
    format!("{node}.node.dc1.consul.")
}

fn address_record(name: &str, address: Ipv4Addr) -> String {
    format!("{name} 5 IN A {address}")
}

/// How many small services there are.
pub const MIX: usize = 10_000;

/// Instances of the services `web3`, `web10` and so on.
const SIZES: [usize; 4] = [3, 10, 50, 1_500];

/// Whose instances have the tag [`TAG`].
const TAGGED: &str = "web3";
const TAG: &str = "v1";

/// Where the addresses of all nodes are.
pub const REVERSE_ZONE: &str = "10.in-addr.arpa.";

/// The address of the last node, which few services share.
pub const REVERSED: &str = "220.5.0.10.in-addr.arpa";

const PORT: u16 = 8080;
