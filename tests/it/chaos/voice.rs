//! What Consul says over HTTP, asked past all links: the truth that answers are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::choose_crypto;

/// Asks agents of one datacenter, each in turn until one answers.
#[derive(Clone, Debug)]
pub struct Voice {
    client: reqwest::Client,
    urls: Vec<String>,
    datacenters: &'static [&'static str],
}

/// The addresses of each service's instances that are to be shown, and of each node, by DNS name.
pub type Truth = BTreeMap<String, BTreeSet<Ipv4Addr>>;

impl Voice {
    /// Asks the agents at `urls`, with `token` where there is one. The truth is that of
    /// `datacenters`, the first of which is the agents' own.
    pub fn of(urls: &[&str], token: Option<&str>, datacenters: &'static [&'static str]) -> Self {
        choose_crypto();
        let mut headers = reqwest::header::HeaderMap::new();
        if let Some(token) = token {
            headers.insert("X-Consul-Token", token.parse().unwrap());
        }
        let client = reqwest::Client::builder().default_headers(headers).no_proxy();
        // Consul counts connections by address, and ours are not to be among those of a test.
        let client = client.local_address(IpAddr::from([127, 0, 0, 2])).timeout(PATIENCE);
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Self { client: client.build().unwrap(), urls, datacenters }
    }

    /// Where the first agent is.
    pub fn url(&self) -> &str {
        &self.urls[0]
    }

    /// The JSON at `path`, from the first that answers with 200.
    pub async fn get(&self, path: &str) -> Option<Value> {
        for url in &self.urls {
            let asking = self.client.get(format!("{url}{path}")).send();
            if let Ok(reply) = asking.await
                && reply.status() == 200
                && let Ok(value) = reply.json().await
            {
                return Some(value);
            }
        }
        None
    }

    /// Puts `body` to `path`; whether somebody took it.
    pub async fn put(&self, path: &str, body: &Value) -> bool {
        for url in &self.urls {
            let asking = self.client.put(format!("{url}{path}")).json(body).send();
            if asking.await.is_ok_and(|reply| reply.status() == 200) {
                return true;
            }
        }
        false
    }

    /// The state of the cluster, as `consul snapshot save` gets it.
    pub async fn save(&self) -> Vec<u8> {
        let url = format!("{}/v1/snapshot", self.url());
        let reply = self.client.get(url).send().await.unwrap().error_for_status().unwrap();
        reply.bytes().await.unwrap().to_vec()
    }

    /// Sets the state of the cluster, as `consul snapshot restore` does.
    pub async fn restore(&self, snapshot: Vec<u8>) {
        let request = self.client.put(format!("{}/v1/snapshot", self.url())).body(snapshot);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// The datacenter that it is in.
    pub fn datacenter(&self) -> &'static str {
        self.datacenters[0]
    }

    /// What is true; `None` where Consul cannot say.
    pub async fn truth(&self) -> Option<Truth> {
        let mut truth = Truth::new();
        for datacenter in self.datacenters {
            let path = format!("/v1/catalog/services?consistent&dc={datacenter}");
            for service in self.get(&path).await?.as_object()?.keys() {
                let shown = self.shown(datacenter, service).await?;
                truth.insert(name(service, datacenter), shown);
            }
            let path = format!("/v1/catalog/nodes?consistent&dc={datacenter}");
            for node in self.get(&path).await?.as_array()? {
                let address = node["Address"].as_str()?.parse().ok()?;
                let name = format!("{}.node.{datacenter}.consul", node["Node"].as_str()?);
                truth.insert(name, BTreeSet::from([address]));
            }
        }
        Some(truth)
    }

    /// The addresses of `service` that are to be shown.
    pub async fn shown(&self, datacenter: &str, service: &str) -> Option<BTreeSet<Ipv4Addr>> {
        let path = format!("/v1/health/service/{service}?consistent&dc={datacenter}");
        let instances = self.get(&path).await?;
        let is_critical = |check: &Value| check["Status"] == "critical";
        let shown = instances.as_array()?.iter().filter(|instance| {
            !instance["Checks"].as_array().is_some_and(|checks| checks.iter().any(is_critical))
        });
        let address =
            |instance: &Value| instance["Node"]["Address"].as_str()?.parse::<Ipv4Addr>().ok();
        Some(shown.filter_map(address).collect())
    }

    /// Whether every agent by itself shows `service` on `node`, or none does.
    pub async fn all_show(&self, service: &str, node: u8, is_shown: bool) -> bool {
        for url in &self.urls {
            let path = format!("{url}/v1/health/service/{service}?stale&passing");
            let Ok(reply) = self.client.get(path).send().await else { return false };
            let Ok(instances) = reply.json::<Value>().await else { return false };
            let name = format!("n{node}");
            let mut nodes = instances.as_array().into_iter().flatten();
            if nodes.any(|instance| instance["Node"]["Node"] == *name) != is_shown {
                return false;
            }
        }
        true
    }

    /// Registers an instance of `service`, tagged `v1`, on `node`.
    pub async fn register(&self, service: &str, node: u8) -> bool {
        let registration = json!({
            "Node": format!("n{node}"),
            "Address": address(node).to_string(),
            "Service": { "ID": service, "Service": service, "Port": 80, "Tags": ["v1"] },
            "Check": { "CheckID": service, "Name": service, "ServiceID": service, "Status": "passing" },
        });
        self.put("/v1/catalog/register", &registration).await
    }

    /// Takes `service` off `node`.
    pub async fn deregister(&self, service: &str, node: u8) -> bool {
        let body = json!({ "Node": format!("n{node}"), "ServiceID": service });
        self.put("/v1/catalog/deregister", &body).await
    }

    /// Sets the check of `service` on `node`.
    pub async fn set_check(&self, service: &str, node: u8, status: &str) -> bool {
        let name = format!("n{node}");
        let check = json!({
            "Node": name,
            "CheckID": service,
            "Name": service,
            "ServiceID": service,
            "Status": status,
        });
        let body = json!({ "Node": name, "SkipNodeUpdate": true, "Check": check });
        self.put("/v1/catalog/register", &body).await
    }
}

/// The DNS name of `service`.
pub fn name(service: &str, datacenter: &str) -> String {
    format!("{service}.service.{datacenter}.consul")
}

/// The address of the node `n{node}`.
pub fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, node)
}

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
