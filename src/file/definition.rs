//! From the text of a catalogue file to a [`Catalog`]: datacenters, nodes, services, checks.
//!
//! Each kind of object has a table of its keys, its shape, and one function that reads it. What a
//! broken value leaves open is filled with a placeholder, so that reading goes on to the next
//! mistake; the mistake itself keeps the catalogue from existing.

use std::collections::HashMap;

use crate::catalog::model::{
    Address, Health, Instance, NamedPort, Node, Tagged, Weights, WorstCheck,
};
use crate::file::catalog::{Catalog, Registration};
use crate::file::fields::{Fields, Found, Reader};
use crate::file::json::Json;
use crate::file::mistake::{CatalogFileErrors, Fault, Mistake};
use crate::file::shapes::{
    CHECK, CONNECT, FILE, NODE, PORT, PROXY, SERVICE, TAGGED_ADDRESS, WEIGHTS,
};

/// Reads a catalogue file.
///
/// # Errors
///
/// Fails with all mistakes that the file has; the writer of the file must mend them.
pub fn parse(text: &str) -> Result<Catalog, CatalogFileErrors> {
    let json: Json =
        serde_json::from_str(text).map_err(|error| Mistake::new("", Fault::Syntax(error)))?;
    let mut reader = Reader::default();
    let catalog = read_file(&mut reader, &json);
    match CatalogFileErrors::from_mistakes(reader.mistakes) {
        None => Ok(catalog),
        Some(errors) => Err(errors),
    }
}

/// A node with all that it runs.
struct NodeDraft {
    datacenter: String,
    node: Node,
    runs: Vec<Registration>,
}

/// One check: its status, and the service it is about; `None` is the whole node.
struct Check<'j> {
    health: Health,
    id: &'j str,
    name: &'j str,
    service_id: Option<(String, &'j str)>,
}

impl Check<'_> {
    fn judge(&self, is_of_node: bool) -> (Health, WorstCheck) {
        let (id, name) = (self.id.to_owned(), self.name.to_owned());
        (self.health, WorstCheck { id, name, is_of_node })
    }
}

fn read_file(reader: &mut Reader, json: &Json) -> Catalog {
    let Some(fields) = reader.fields(&Found { place: String::new(), json }, &FILE) else {
        return Catalog::new(String::new());
    };
    let local = read_datacenter(reader, &fields).unwrap_or_else(|| "dc1".to_owned());
    let mut drafts: Vec<(String, NodeDraft)> = Vec::new();
    if fields.has_any(&DEFAULT_NODE_KEYS) {
        let name = reader.text(&fields, "node_name").unwrap_or("local").to_owned();
        let address = reader.address(&fields, "advertise_addr").unwrap_or(LOOPBACK);
        let node = Node::new(name, address);
        let runs = read_services(reader, &fields, &node);
        let draft = NodeDraft { datacenter: local.clone(), node, runs };
        drafts.push((fields.place_of("node_name"), draft));
    }
    for found in reader.list(&fields, "nodes") {
        if let Some(fields) = reader.fields(&found, &NODE) {
            drafts.push((fields.place_of("name"), read_node(reader, &fields, &local)));
        }
    }
    gather(reader, local, drafts)
}

/// Puts the nodes into a catalogue; two of one name in a datacenter are a mistake.
fn gather(reader: &mut Reader, local: String, drafts: Vec<(String, NodeDraft)>) -> Catalog {
    let mut catalog = Catalog::new(local);
    let mut places: HashMap<(String, String), String> = HashMap::new();
    for (place, NodeDraft { datacenter, node, runs }) in drafts {
        let key = (datacenter.clone(), node.name.to_lowercase());
        match places.get(&key) {
            // A node whose name is itself a mistake has the empty one.
            Some(first) if !node.name.is_empty() => {
                reader.note(&place, Fault::DuplicateName(node.name, first.clone()));
            }
            _ => {
                places.insert(key, place);
                catalog.add_node(datacenter, node, runs);
            }
        }
    }
    catalog
}

fn read_node(reader: &mut Reader, fields: &Fields<'_>, local: &str) -> NodeDraft {
    let name = reader.required_text(fields, "name", "the node's name").unwrap_or_default();
    let address = reader.required_address(fields, "address").unwrap_or(LOOPBACK);
    let datacenter = read_datacenter(reader, fields).unwrap_or_else(|| local.to_owned());
    let tagged = read_entries(reader, fields, "tagged_addresses", Reader::address_of);
    let at = |tag: &str| tagged.iter().find(|(key, _)| key == tag).map(|(_, to)| to.clone());
    let mut meta = read_entries(reader, fields, "meta", |reader, found| match found.json {
        Json::Text(value) => Some(value.clone()),
        _ => {
            reader.wrong(found, "a string");
            None
        }
    });
    meta.sort();
    let node = Node { tagged: Tagged::by_tag(at, 0), meta, ..Node::new(name.to_owned(), address) };
    let runs = read_services(reader, fields, &node);
    NodeDraft { datacenter, node, runs }
}

/// The datacenter that an object names, in lower case as Consul keeps it.
fn read_datacenter(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let name = reader.text(fields, "datacenter")?.to_ascii_lowercase();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.len() > 63 || !name.bytes().all(is_allowed) {
        if let Some(found) = fields.get("datacenter") {
            reader.wrong(found, "at most 63 letters, digits, hyphens and underscores");
        }
        return None;
    }
    Some(name)
}

/// All services of a node, each with the health that its own checks and the node's give it.
fn read_services(reader: &mut Reader, fields: &Fields<'_>, node: &Node) -> Vec<Registration> {
    let mut drafts: Vec<Registration> = Vec::new();
    let mut places: HashMap<String, String> = HashMap::new();
    for found in one_and_many(reader, fields, ("service", "services")) {
        let Some(fields) = reader.fields(&found, &SERVICE) else {
            continue;
        };
        let draft = read_service(reader, &fields, node);
        let (id, place) = (draft.instance.id.clone(), fields.place().to_owned());
        match places.get(&id) {
            Some(first) if !id.is_empty() => {
                let key = if fields.has_any(&["id"]) { "id" } else { "name" };
                reader.note(&fields.place_of(key), Fault::DuplicateId(id, first.clone()));
            }
            _ => {
                places.insert(id, place);
                drafts.push(draft);
            }
        }
    }
    for check in read_checks(reader, fields) {
        let about = |id: &str| check.service_id.as_ref().is_none_or(|(_, about)| *about == id);
        let mut found = check.service_id.is_none();
        for draft in drafts.iter_mut().filter(|draft| about(&draft.instance.id)) {
            draft.instance.judge([check.judge(check.service_id.is_none())]);
            found = true;
        }
        if let (false, Some((place, id))) = (found, check.service_id) {
            reader.note(&place, Fault::UnknownService(id.to_owned()));
        }
    }
    drafts
}

fn read_service(reader: &mut Reader, fields: &Fields<'_>, node: &Node) -> Registration {
    let name = reader.required_text(fields, "name", "the service's name").unwrap_or_default();
    let id = reader.text(fields, "id").unwrap_or(name);
    let tags = read_tags(reader, fields);
    let address = reader.address(fields, "address");
    let (port, ports) = read_ports(reader, fields);
    let tagged = read_tagged(reader, fields);
    let speaks_for = read_speaks_for(reader, fields, name);
    let weights = read_weights(reader, fields);
    // Checks in a service are the service's own, whatever ID they give.
    let checks = read_checks(reader, fields);
    let (id, node, health) = (id.to_owned(), node.clone(), Health::Passing);
    let mut instance =
        Instance { id, node, address, port, ports, tagged, tags, weights, health, worst: None };
    instance.judge(checks.iter().map(|check| check.judge(false)));
    Registration { service: name.to_owned(), instance, speaks_for }
}

/// The port that all clients use, and those that have names.
///
/// Consul: without a port, it is the default one of several, else the first.
fn read_ports(reader: &mut Reader, fields: &Fields<'_>) -> (u16, Vec<NamedPort>) {
    let port = reader.number(fields, "port", (0, 0), PORT_NUMBER);
    let (mut ports, mut default) = (Vec::<NamedPort>::new(), None);
    let mut places = HashMap::new();
    for found in reader.list(fields, "ports") {
        let Some(fields) = reader.fields(&found, &PORT) else {
            continue;
        };
        let name = read_port_name(reader, &fields);
        let port = reader.number(&fields, "port", (0, 0), PORT_NUMBER);
        if reader.flag(&fields, "default") {
            let place = fields.place_of("default");
            match &default {
                None => default = Some((port, place)),
                Some((_, first)) => reader.note(&place, Fault::DuplicateDefault(first.clone())),
            }
        }
        let place = fields.place_of("name");
        match places.get(&name.to_lowercase()) {
            // A name that is itself a mistake is the empty one.
            Some(first) if !name.is_empty() => {
                reader.note(&place, Fault::DuplicateName(name, String::clone(first)));
            }
            _ => {
                places.insert(name.to_lowercase(), place);
                ports.push(NamedPort { name, port });
            }
        }
    }
    let first = || ports.first().map(|first| first.port);
    let default = default.map(|(port, _)| port);
    let port = if port == 0 { default.or_else(first).unwrap_or_default() } else { port };
    (port, ports)
}

/// The name of a port, which stands in names of DNS; empty where it is a mistake.
fn read_port_name(reader: &mut Reader, fields: &Fields<'_>) -> String {
    let name = reader.required_text(fields, "name", "the port's name").unwrap_or_default();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_allowed);
    if name.is_empty() || name.split('.').all(is_label) {
        return name.to_owned();
    }
    if let Some(found) = fields.get("name") {
        reader.wrong(found, "letters, digits, hyphens and underscores, 63 at most between dots");
    }
    String::new()
}

/// The tagged addresses of a service, which have ports.
fn read_tagged(reader: &mut Reader, fields: &Fields<'_>) -> Option<Box<Tagged>> {
    let tagged = read_entries(reader, fields, "tagged_addresses", |reader, found| {
        let fields = reader.fields(found, &TAGGED_ADDRESS)?;
        let port = reader.number(&fields, "port", (0, 0), PORT_NUMBER);
        Some((reader.address(&fields, "address")?, port))
    });
    let at = |tag: &str| tagged.iter().find(|(key, _)| key == tag).map(|(_, to)| to);
    let wan_port = at("wan").map_or(0, |(_, port)| *port);
    Tagged::by_tag(|tag| at(tag).map(|(address, _)| address.clone()), wan_port)
}

/// The service that an instance of `service` speaks for in the mesh.
fn read_speaks_for(reader: &mut Reader, fields: &Fields<'_>, service: &str) -> Option<String> {
    let kind = reader.text(fields, "kind").unwrap_or_default();
    if let Some(found) = fields.get("kind").filter(|_| !KINDS.contains(&kind)) {
        reader.wrong(found, "a kind of service that Consul has, such as \"connect-proxy\"");
    }
    let proxy = fields.get("proxy").and_then(|found| reader.fields(found, &PROXY));
    if kind == "connect-proxy" {
        let Some(proxy) = proxy else {
            reader.note(
                &format!("{}.{DESTINATION}", fields.place_of("proxy")),
                Fault::Missing(DESTINATION_IS),
            );
            return None;
        };
        return reader.required_text(&proxy, DESTINATION, DESTINATION_IS).map(str::to_owned);
    }
    let connect = fields.get("connect").and_then(|found| reader.fields(found, &CONNECT))?;
    reader.flag(&connect, "native").then(|| service.to_owned())
}

/// What an object holds whose keys are not ours to say, in the order of the file.
fn read_entries<T>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    read: impl Fn(&mut Reader, &Found<'_>) -> Option<T>,
) -> Vec<(String, T)> {
    let entries = reader.entries(fields, key).into_iter();
    entries.filter_map(|(key, found)| Some((key, read(reader, &found)?))).collect()
}

fn read_tags(reader: &mut Reader, fields: &Fields<'_>) -> Vec<String> {
    let mut tags = Vec::new();
    for found in reader.list(fields, "tags") {
        match found.json {
            Json::Text(tag) => tags.push(tag.clone()),
            _ => reader.wrong(&found, "a string"),
        }
    }
    tags
}

/// The weights of a service; the bounds are Consul's own.
fn read_weights(reader: &mut Reader, fields: &Fields<'_>) -> Weights {
    let found = fields.get("weights");
    let Some(fields) = found.and_then(|found| reader.fields(found, &WEIGHTS)) else {
        return Weights::default();
    };
    let Weights { passing, warning } = Weights::default();
    Weights {
        passing: reader.number(
            &fields,
            "passing",
            (1, passing),
            "a whole number between 1 and 65535",
        ),
        warning: reader.number(
            &fields,
            "warning",
            (0, warning),
            "a whole number between 0 and 65535",
        ),
    }
}

fn read_checks<'j>(reader: &mut Reader, fields: &Fields<'j>) -> Vec<Check<'j>> {
    one_and_many(reader, fields, ("check", "checks"))
        .iter()
        .filter_map(|found| {
            let fields = reader.fields(found, &CHECK)?;
            let service_id = reader.text(&fields, "service_id");
            let service_id = service_id.map(|id| (fields.place_of("service_id"), id));
            let text = |reader: &mut Reader, key| reader.text(&fields, key).unwrap_or_default();
            let (name, id) = (text(reader, "name"), text(reader, "id"));
            Some(Check { health: read_status(reader, &fields), id, name, service_id })
        })
        .collect()
}

/// The health that a check stands for; passing where it has none, as nobody will ever run it.
fn read_status(reader: &mut Reader, fields: &Fields<'_>) -> Health {
    let Some(found) = fields.get("status") else {
        return Health::Passing;
    };
    match found.json {
        Json::Text(status) if status.is_empty() => Health::Passing,
        Json::Text(status) if STATUSES.contains(&status.as_str()) => Health::from_status(status),
        _ => {
            reader.wrong(found, "\"passing\", \"warning\" or \"critical\"");
            Health::Passing
        }
    }
}

/// What a pair of keys such as `check` and `checks` holds: one object, and a list of them.
fn one_and_many<'j>(
    reader: &mut Reader,
    fields: &Fields<'j>,
    (one, many): (&str, &str),
) -> Vec<Found<'j>> {
    let mut all: Vec<Found<'j>> = fields.get(one).cloned().into_iter().collect();
    all.extend(reader.list(fields, many));
    all
}

/// The address of a node that none is given for.
const LOOPBACK: Address = Address::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

const PORT_NUMBER: &str = "a whole number between 0 and 65535";

const DESTINATION: &str = "destination_service_name";

const DESTINATION_IS: &str = "the name of the service that the proxy is for";

/// Consul's kinds of services; the empty one is an ordinary service.
const KINDS: [&str; 7] = [
    "",
    "api-gateway",
    "connect-proxy",
    "destination",
    "ingress-gateway",
    "mesh-gateway",
    "terminating-gateway",
];

const STATUSES: [&str; 3] = ["passing", "warning", "critical"];

/// Keys at the top of the file that call for a default node.
const DEFAULT_NODE_KEYS: [&str; 6] =
    ["node_name", "advertise_addr", "service", "services", "check", "checks"];

#[cfg(test)]
mod tests;
