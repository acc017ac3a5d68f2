//! The one catalogue that all servers are given, in the words of each.
//!
//! Instance `i` of every service is on node `i`, so a target has an address of its own and a
//! service of `n` has `n` different ones.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

/// Services by name, and how many instances each has.
pub struct Zone {
    services: Vec<(String, usize)>,
    six: usize,
}

/// One instance of a service.
pub struct Instance<'z> {
    pub service: &'z str,
    pub node: String,
    pub address: IpAddr,
}

impl Zone {
    /// `web<n>` for each of [`SIZES`], `six` of three with IPv6 addresses, and [`MIX`] small ones.
    pub fn new() -> Self {
        let sizes = SIZES.map(|size| (format!("web{size}"), size));
        let mix = (0..MIX).map(|number| (mixed(number), 1));
        Self { services: sizes.into_iter().chain(mix).collect(), six: 3 }
    }

    /// All instances, service by service.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        let four = self.services.iter().flat_map(|(service, count)| {
            (0..*count).map(move |at| Instance {
                service,
                node: format!("node-{at}"),
                address: Ipv4Addr::from_bits(0x0a00_0001 + at as u32).into(),
            })
        });
        let six = (0..self.six).map(|at| Instance {
            service: "six",
            node: format!("six-{at}"),
            address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1 + at as u16).into(),
        });
        four.chain(six)
    }

    /// Every node with its address.
    fn nodes(&self) -> BTreeMap<String, IpAddr> {
        self.instances().map(|instance| (instance.node, instance.address)).collect()
    }

    /// As our catalogue file says it.
    pub fn catalog(&self) -> Value {
        let mut nodes: BTreeMap<String, (IpAddr, Vec<Value>)> = BTreeMap::new();
        for instance in self.instances() {
            let (_, services) = nodes.entry(instance.node).or_insert((instance.address, vec![]));
            services.push(json!({ "name": instance.service, "port": PORT }));
        }
        let nodes = nodes.into_iter().map(|(name, (address, services))| {
            json!({ "name": name, "address": address, "services": services })
        });
        json!({ "datacenter": "dc1", "nodes": nodes.collect::<Vec<Value>>() })
    }

    /// As Consul is told of one instance.
    pub fn registration(instance: &Instance<'_>) -> Value {
        let Instance { service, node, address } = instance;
        json!({
            "Node": node, "Address": address,
            "Service": { "ID": format!("{service}-{node}"), "Service": service, "Port": PORT },
        })
    }

    /// As a master file of RFC 1035 says it.
    pub fn master_file(&self) -> String {
        let mut text = "$ORIGIN consul.\n$TTL 5\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\n\
            ns A 127.0.0.1\n"
            .to_owned();
        for line in self.records() {
            writeln!(text, "{line}").expect("room");
        }
        text
    }

    /// Every record as a line of such a file, with names in full.
    pub fn records(&self) -> impl Iterator<Item = String> {
        let services = self.instances().flat_map(|Instance { service, node, address }| {
            let (name, target) = (service_name(service), node_name(&node));
            let srv = format!("{name} 5 IN SRV 1 1 {PORT} {target}");
            [address_record(&name, address), srv]
        });
        let nodes = self.nodes();
        services.chain(nodes.into_iter().map(|(node, ip)| address_record(&node_name(&node), ip)))
    }

    /// As a file of hosts says it, each address with a name.
    pub fn hosts(&self) -> String {
        let line = |ip: IpAddr, name: &str| format!("{ip} {}\n", name.trim_end_matches('.'));
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

fn address_record(name: &str, address: IpAddr) -> String {
    let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
    format!("{name} 5 IN {rtype} {address}")
}

/// How many small services there are.
pub const MIX: usize = 10_000;

/// Instances of the services `web1`, `web3` and so on.
const SIZES: [usize; 5] = [1, 3, 10, 50, 1_500];

const PORT: u16 = 8080;
