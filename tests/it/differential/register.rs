//! A [`World`] goes into two Consuls that know each other.

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::differential::names::ALT_DOMAIN;
use crate::differential::world::{Instance, Kind, Place, PreparedQuery, Settings, World};
use crate::support::consul::Consul;
use crate::support::dns::ask;
use crate::support::wait::eventually;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

/// The two datacenters of a world, registered; the first is the one that is asked.
#[derive(Debug)]
pub struct Pair {
    /// `dc1`.
    pub near: Consul,
    /// `dc2`, which `near` answers for too.
    _far: Consul,
}

impl Pair {
    /// Starts both and registers all of `world`; `None` where this machine has no Consul.
    ///
    /// `near` is not limited yet: its answers over TCP are whole. See [`Pair::limit`].
    pub async fn start(world: &World) -> Option<Self> {
        let base = config(&world.settings);
        let with = |dc: &str| {
            let mut config = base.clone();
            config["datacenter"] = json!(dc);
            config
        };
        let (near, far) =
            tokio::join!(Consul::start_with(with("dc1")), Consul::start_with(with("dc2")));
        let (near, far) = (near?, far?);
        near.put(&format!("/v1/agent/join/{}?wan=1", far.wan_address()), &Value::Null).await;
        tokio::join!(register(&near, &world.places[0]), register(&far, &world.places[1]));
        for query in &world.queries {
            near.post("/v1/query", &prepared(query)).await;
        }
        // Registered last, so what is before it is there when it is seen.
        for consul in [&near, &far] {
            let service = json!({ "Service": MARKER, "Port": 1 });
            let node = json!({ "Node": MARKER, "Address": "10.9.9.9", "Service": service });
            consul.register(node).await;
        }
        for name in [format!("{MARKER}.service.consul"), format!("{MARKER}.service.dc2.consul")] {
            eventually(format!("consul answers {name}"), async || {
                let reply = ask(near.dns_address(), &name, RecordType::A).await;
                reply.metadata.response_code == ResponseCode::NoError
            })
            .await;
        }
        Some(Self { near, _far: far })
    }

    /// Lays the limits of `settings` over what `near` answers, and waits until it keeps them.
    pub async fn limit(&self, settings: &Settings) {
        let limits = json!({
            "a_record_limit": settings.a_record_limit,
            "enable_truncate": settings.enable_truncate,
            "udp_answer_limit": settings.udp_answer_limit,
        });
        self.near.reconfigure(&json!({ "dns_config": limits })).await;
        let most = if settings.a_record_limit > 0 { settings.a_record_limit } else { usize::MAX };
        let expected = settings.udp_answer_limit.min(8).min(most);
        eventually("consul keeps the limits", async || {
            let reply = ask(self.near.dns_address(), "many.service.consul", RecordType::A).await;
            reply.answers.len() == expected
        })
        .await;
    }
}

/// A service that is registered after all others.
pub const MARKER: &str = "marker";

fn config(settings: &Settings) -> Value {
    let ttl = settings.service_ttl.iter();
    let ttl: Value =
        ttl.map(|(name, secs)| ((*name).to_owned(), json!(format!("{secs}s")))).collect();
    json!({
        "limits": { "http_max_conns_per_client": 2_000 },
        "alt_domain": ALT_DOMAIN,
        "translate_wan_addrs": settings.translate_wan_addrs,
        "dns_config": {
            "node_ttl": format!("{}s", settings.node_ttl),
            "only_passing": settings.only_passing,
            "service_ttl": ttl,
            // Other than in any seed, so that the limits are seen to change.
            "udp_answer_limit": 1,
            "soa": { "min_ttl": settings.min_ttl, "refresh": 1800, "retry": 300, "expire": 43_200 },
        },
    })
}

async fn register(consul: &Consul, place: &Place) {
    let nodes = place.nodes.iter().map(|node| {
        let checks = node.checks.iter().map(|(id, status)| {
            json!({ "Node": node.name, "CheckID": id, "Name": id, "Status": status })
        });
        json!({
            "Node": node.name,
            "Address": node.address,
            "TaggedAddresses": node.tagged,
            "NodeMeta": node.meta,
            "Checks": checks.collect::<Vec<_>>(),
        })
    });
    put_all(consul, nodes.collect()).await;
    put_all(consul, place.instances.iter().map(|one| registration(place, one)).collect()).await;
    if !place.ingress.is_empty() {
        let listeners = place.ingress.iter().zip(8888..).map(|(service, port)| {
            json!({ "Port": port, "Protocol": "tcp", "Services": [{ "Name": service }] })
        });
        let entry = json!({
            "Kind": "ingress-gateway",
            "Name": "gateway",
            "Listeners": listeners.collect::<Vec<_>>(),
        });
        consul.put("/v1/config", &entry).await;
    }
}

async fn put_all(consul: &Consul, registrations: Vec<Value>) {
    let all = stream::iter(registrations);
    all.map(|one| consul.register(one)).buffered(AT_ONCE).collect::<Vec<()>>().await;
}

fn registration(place: &Place, instance: &Instance) -> Value {
    let node = &place.nodes[instance.node].name;
    let id = &instance.id;
    let checks = instance.checks.iter().enumerate().map(|(at, status)| {
        let check = format!("{id}-{at}");
        json!({ "Node": node, "CheckID": check, "Name": check, "ServiceID": id, "Status": status })
    });
    let tagged = instance.tagged.iter().map(|(key, (address, port))| {
        ((*key).to_owned(), json!({ "Address": address, "Port": port }))
    });
    let mut service = json!({
        "ID": id,
        "Service": instance.service,
        "Address": instance.address,
        "Port": instance.port,
        "Tags": instance.tags,
        "TaggedAddresses": tagged.collect::<Value>(),
        "Weights": { "Passing": instance.weights.0, "Warning": instance.weights.1 },
    });
    match &instance.kind {
        Kind::IngressGateway => service["Kind"] = json!("ingress-gateway"),
        Kind::Native => service["Connect"] = json!({ "Native": true }),
        Kind::Proxy(destination) => {
            service["Kind"] = json!("connect-proxy");
            service["Proxy"] = json!({ "DestinationServiceName": destination });
        }
        Kind::Typical => (),
    }
    json!({
        "Node": node,
        "SkipNodeUpdate": true,
        "Service": service,
        "Checks": checks.collect::<Vec<_>>(),
    })
}

fn prepared(query: &PreparedQuery) -> Value {
    let mut body = json!({
        "Name": query.name,
        "Service": {
            "Service": query.service,
            "Tags": query.tags,
            "OnlyPassing": query.only_passing,
            "Failover": { "Datacenters": query.failover },
        },
    });
    if let Some(secs) = query.ttl {
        body["DNS"] = json!({ "TTL": format!("{secs}s") });
    }
    if query.is_template {
        body["Template"] = json!({ "Type": "name_prefix_match", "Regexp": "^geo-(.*)$" });
    }
    body
}

/// Registrations under way at once: an agent takes at most 200 connections of one client.
const AT_ONCE: usize = 8;
