//! What is in memory, as JSON: `/v1/datacenters`, `/v1/services`, `/v1/nodes`, `/v1/watches`.
//!
//! What was not fetched is `null`: unknown, and neither healthy nor empty. Times are ages in
//! seconds, so that nobody's clock has to agree with ours.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::admin::Admin;
use crate::board::{Standing, Watch, What};
use crate::catalog::model::{Address, Health, Instance, Node, Weights};
use crate::catalog::{Datacenter, Form, Found, List, Service, Snapshot};
use crate::news::{HEALTHS, Healths, healths};

/// Which datacenter is asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Where {
    /// In any letter case; `None` is all, or for one service the local one.
    datacenter: Option<String>,
}

/// What is wrong with a request.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Problem {
    /// For people.
    pub error: String,
}

impl Problem {
    /// A reply that says it.
    pub(in crate::admin) fn reply(status: StatusCode, error: String) -> Response {
        (status, Json(Self { error })).into_response()
    }
}

/// What is asked for in a URL; what cannot be read is a [`Problem`] like any other.
#[derive(Debug)]
pub(in crate::admin) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::reply(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

#[derive(Debug, Serialize)]
struct DatacenterJson {
    name: String,
    is_local: bool,
    /// `null` until the list was heard.
    services: Option<usize>,
    nodes: Option<usize>,
    instances_not_critical: usize,
    /// Since when Consul is not heard, or what is here is a snapshot file's; `null` while it is.
    old_secs: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ServiceJson {
    datacenter: String,
    name: String,
    /// Those of the list of names.
    tags: Vec<String>,
    /// How its instances are kept fresh.
    held: String,
    old_secs: Option<u64>,
    /// How many there are of each health; `null` where they are not in memory.
    health: Option<BTreeMap<&'static str, usize>>,
}

#[derive(Debug, Serialize)]
struct OneServiceJson {
    #[serde(flatten)]
    service: ServiceJson,
    instances: Option<Vec<InstanceJson>>,
}

#[derive(Debug, Serialize)]
struct InstanceJson {
    id: String,
    node: String,
    node_address: String,
    /// Of its own; `null` is the node's.
    address: Option<String>,
    port: u16,
    tags: Vec<String>,
    health: &'static str,
    /// The check that makes it so.
    check: Option<CheckJson>,
    weights: WeightsJson,
}

#[derive(Debug, Serialize)]
struct CheckJson {
    id: String,
    name: String,
    is_of_node: bool,
}

#[derive(Debug, Serialize)]
struct WeightsJson {
    passing: u16,
    warning: u16,
}

#[derive(Debug, Serialize)]
struct NodeJson {
    datacenter: String,
    name: String,
    address: String,
    meta: BTreeMap<String, String>,
}

/// One watch, as `/v1/watches` and explanations show it.
#[derive(Clone, Debug, Serialize)]
pub(in crate::admin) struct WatchJson {
    datacenter: String,
    /// `services`, `nodes`, `queries` or `instances`.
    what: &'static str,
    /// Of instances: what kind of name it is.
    form: Option<&'static str>,
    /// Of instances: the service's name.
    name: Option<String>,
    /// Where Consul's history stood.
    index: Option<u64>,
    heard_secs_ago: Option<f64>,
    changed_secs_ago: Option<f64>,
    /// Rounds in a row that brought nothing.
    failures: u32,
    error: Option<String>,
    /// Whether Consul says that the token may not read all of it.
    is_filtered: bool,
}

impl WatchJson {
    pub(in crate::admin) fn new(watch: Watch, standing: Standing) -> Self {
        let Watch { datacenter, what } = watch;
        let Standing { index, heard, changed, failures, error, is_filtered } = standing;
        let ago = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs_f64());
        let (heard_secs_ago, changed_secs_ago) = (ago(heard), ago(changed));
        let (what, form, name) = match what {
            What::Nodes => ("nodes", None, None),
            What::Queries => ("queries", None, None),
            What::Services => ("services", None, None),
            What::Instances { form, service } => ("instances", Some(form.as_str()), Some(service)),
        };
        Self {
            datacenter,
            what,
            form,
            name,
            index,
            heard_secs_ago,
            changed_secs_ago,
            failures,
            error,
            is_filtered,
        }
    }

    /// In words.
    pub(in crate::admin) fn text(&self) -> String {
        let Self { datacenter, what, name, index, heard_secs_ago, error, .. } = self;
        let subject = match name {
            Some(name) => format!("{what} of {name}"),
            None => (*what).to_owned(),
        };
        let index = index.map_or_else(|| "no index".to_owned(), |index| format!("index {index}"));
        let heard = match heard_secs_ago {
            Some(ago) => format!("heard {ago:.1} s ago"),
            None => "not heard yet".to_owned(),
        };
        let error = error.as_ref().map(|error| format!("; failing: {error}")).unwrap_or_default();
        format!("{subject} in {datacenter}: {index}, {heard}{error}")
    }
}

pub(in crate::admin) async fn datacenters(State(admin): State<Admin>) -> Response {
    let snapshot = admin.parts.store.snapshot.load();
    let now_ms = admin.parts.clock.signed_ms();
    let local = local_name(&snapshot);
    let all = snapshot.datacenters().map(|datacenter| DatacenterJson {
        name: datacenter.name.to_string(),
        is_local: local.as_deref() == Some(&*datacenter.name),
        services: datacenter.has_services().then(|| datacenter.service_count()),
        nodes: datacenter.has_nodes().then(|| datacenter.node_count()),
        instances_not_critical: datacenter.answerable_count(),
        old_secs: old_secs(datacenter.old_since(List::Services), now_ms),
    });
    Json(all.collect::<Vec<_>>()).into_response()
}

pub(in crate::admin) async fn services(
    State(admin): State<Admin>,
    Params(place): Params<Where>,
) -> Response {
    let snapshot = admin.parts.store.snapshot.load();
    let (datacenters, now_ms) = match within(&snapshot, &place) {
        Ok(datacenters) => (datacenters, admin.parts.clock.signed_ms()),
        Err(problem) => return *problem,
    };
    let mut all = Vec::new();
    for datacenter in datacenters {
        all.extend(datacenter.services().map(|service| service_json(datacenter, service, now_ms)));
    }
    all.sort_by(|a, b| (&a.datacenter, &a.name).cmp(&(&b.datacenter, &b.name)));
    Json(all).into_response()
}

pub(in crate::admin) async fn service(
    State(admin): State<Admin>,
    name: Result<Path<String>, PathRejection>,
    Params(place): Params<Where>,
) -> Response {
    let name = match name {
        Ok(Path(name)) => name,
        Err(error) => return Problem::reply(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let snapshot = admin.parts.store.snapshot.load();
    let scope = place.datacenter.as_deref().map(str::to_ascii_lowercase);
    let datacenter = match snapshot.datacenter(scope.as_deref().map(str::as_bytes)) {
        Found::Here(datacenter) => datacenter,
        Found::Missing => return no_datacenter(&snapshot, &scope.unwrap_or_default()),
        Found::Unheard => return unheard(),
    };
    match datacenter.service(name.to_ascii_lowercase().as_bytes()) {
        Found::Here(service) => {
            let instances = service.rrsets.as_ref().map(|_| service.instances.iter());
            let instances = instances.map(|all| all.map(instance_json).collect());
            let service = service_json(datacenter, service, admin.parts.clock.signed_ms());
            Json(OneServiceJson { service, instances }).into_response()
        }
        Found::Missing => {
            let error = format!("{} has no service {name:?}", datacenter.name);
            Problem::reply(StatusCode::NOT_FOUND, error)
        }
        Found::Unheard => unheard(),
    }
}

pub(in crate::admin) async fn nodes(
    State(admin): State<Admin>,
    Params(place): Params<Where>,
) -> Response {
    let snapshot = admin.parts.store.snapshot.load();
    let datacenters = match within(&snapshot, &place) {
        Ok(datacenters) => datacenters,
        Err(problem) => return *problem,
    };
    let mut all = Vec::new();
    for datacenter in datacenters {
        all.extend(datacenter.nodes().map(|node| node_json(datacenter, node)));
    }
    all.sort_by(|a, b| (&a.datacenter, &a.name).cmp(&(&b.datacenter, &b.name)));
    Json(all).into_response()
}

pub(in crate::admin) async fn watches(State(admin): State<Admin>) -> Response {
    let all = admin.parts.board.all().into_iter();
    Json(all.map(|(watch, standing)| WatchJson::new(watch, standing)).collect::<Vec<_>>())
        .into_response()
}

/// The datacenters that are meant: all, or the one that is named.
fn within<'s>(snapshot: &'s Snapshot, place: &Where) -> Result<Vec<&'s Datacenter>, Box<Response>> {
    let Some(name) = place.datacenter.as_deref().map(str::to_ascii_lowercase) else {
        return Ok(snapshot.datacenters().map(|datacenter| &**datacenter).collect());
    };
    match snapshot.datacenter(Some(name.as_bytes())) {
        Found::Here(datacenter) => Ok(vec![datacenter]),
        Found::Missing => Err(Box::new(no_datacenter(snapshot, &name))),
        Found::Unheard => Err(Box::new(unheard())),
    }
}

fn no_datacenter(snapshot: &Snapshot, name: &str) -> Response {
    let known: Vec<&str> = snapshot.datacenters().map(|datacenter| &*datacenter.name).collect();
    let error = format!("there is no datacenter {name:?}; there are: {}", known.join(", "));
    Problem::reply(StatusCode::NOT_FOUND, error)
}

fn unheard() -> Response {
    let error = "Consul has not been heard yet; see /ready".to_owned();
    Problem::reply(StatusCode::SERVICE_UNAVAILABLE, error)
}

/// The name of the local datacenter; `None` where it is not known.
pub(in crate::admin) fn local_name(snapshot: &Snapshot) -> Option<String> {
    match snapshot.datacenter(None) {
        Found::Here(local) => Some(local.name.to_string()),
        Found::Missing | Found::Unheard => None,
    }
}

fn service_json(datacenter: &Datacenter, service: &Service, now_ms: i64) -> ServiceJson {
    let now = u64::try_from(now_ms).unwrap_or_default();
    let old_since = service.held.old_since(now).filter(|_| service.rrsets.is_some());
    ServiceJson {
        datacenter: datacenter.name.to_string(),
        name: service.name.to_string(),
        tags: service.listed_tags().map(str::to_owned).collect(),
        held: service.held.in_words(now),
        old_secs: old_secs(old_since.or_else(|| datacenter.old_since(List::Services)), now_ms),
        health: healths(service).map(health_counts),
    }
}

/// Each health with its count.
pub(in crate::admin) fn health_counts(counts: Healths) -> BTreeMap<&'static str, usize> {
    HEALTHS.into_iter().map(Health::as_str).zip(counts).collect()
}

fn instance_json(instance: &Instance) -> InstanceJson {
    let Weights { passing, warning } = instance.weights;
    InstanceJson {
        id: instance.id.clone(),
        node: instance.node.name.clone(),
        node_address: address(&instance.node.address),
        address: instance.address.as_ref().map(address),
        port: instance.port,
        tags: instance.tags.clone(),
        health: instance.health.as_str(),
        check: instance.worst.as_deref().map(|worst| CheckJson {
            id: worst.id.clone(),
            name: worst.name.clone(),
            is_of_node: worst.is_of_node,
        }),
        weights: WeightsJson { passing, warning },
    }
}

fn node_json(datacenter: &Datacenter, node: &Node) -> NodeJson {
    NodeJson {
        datacenter: datacenter.name.to_string(),
        name: node.name.clone(),
        address: address(&node.address),
        meta: node.meta.iter().cloned().collect(),
    }
}

fn address(address: &Address) -> String {
    match address {
        Address::Host(host) => host.clone(),
        Address::Ip(ip) => ip.to_string(),
    }
}

fn old_secs(since_ms: Option<i64>, now_ms: i64) -> Option<u64> {
    since_ms.map(|since| u64::try_from(now_ms.saturating_sub(since)).unwrap_or_default() / 1000)
}

/// What Consul is asked for, where a service's own watch is looked for.
pub(in crate::admin) fn form(word: &str) -> Form {
    let all = Form::UNLISTED.into_iter().find(|form| form.as_str() == word);
    all.unwrap_or(Form::Service)
}
