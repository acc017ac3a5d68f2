//! Nodes and instances as a snapshot file has them: an address is its text, whatever it is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::Executed;
use crate::catalog::model::{
    Address, Health, Instance, NamedPort, Node, Tagged, Weights, WorstCheck,
};
use crate::warm::Refusal;

/// Borrowed when it is written, owned when it is read.
pub type Text<'a> = Cow<'a, str>;

/// A node.
#[derive(Debug, Deserialize, Serialize)]
pub struct NodeText<'a> {
    name: Text<'a>,
    address: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tagged: Option<TaggedText<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    meta: Vec<(Text<'a>, Text<'a>)>,
}

/// An instance.
#[derive(Debug, Deserialize, Serialize)]
pub struct InstanceText<'a> {
    id: Text<'a>,
    /// The name of its node, if that is as it is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeText<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Text<'a>>,
    port: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<(Text<'a>, u16)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tagged: Option<TaggedText<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Text<'a>>,
    /// While all checks pass, and while the worst is a warning.
    weights: (u16, u16),
    health: Text<'a>,
    /// The check that makes it so, by ID and name, and whether it is the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worst: Option<(Text<'a>, Text<'a>, bool)>,
}

/// What a prepared query said besides.
#[derive(Debug, Deserialize, Serialize)]
pub struct ExecutedText<'a> {
    datacenter: Text<'a>,
    service: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_secs: Option<u32>,
    sorted: bool,
}

/// Addresses by their tags, and a port.
#[derive(Debug, Deserialize, Serialize)]
struct TaggedText<'a> {
    addresses: BTreeMap<Text<'a>, Text<'a>>,
    wan_port: u16,
}

impl<'a> NodeText<'a> {
    /// Writes `node`.
    pub fn of(node: &'a Node) -> Self {
        let meta = node.meta.iter().map(|(key, value)| (key.into(), value.into()));
        Self {
            name: Cow::Borrowed(&node.name),
            address: address(&node.address),
            tagged: node.tagged.as_deref().map(TaggedText::of),
            meta: meta.collect(),
        }
    }

    /// The node.
    ///
    /// # Errors
    ///
    /// Fails where it has no address.
    pub fn read(&self) -> Result<Node, Refusal> {
        let Self { name, address, tagged, meta } = self;
        let Some(address) = Address::from_text(address) else {
            return Err(Refusal::Damaged(format!("the node {name:?} has no address")));
        };
        let owned = |(key, value): &(Text<'_>, Text<'_>)| {
            (key.clone().into_owned(), value.clone().into_owned())
        };
        Ok(Node {
            name: name.clone().into_owned(),
            address,
            tagged: tagged.as_ref().and_then(TaggedText::read),
            meta: meta.iter().map(owned).collect(),
        })
    }
}

impl<'a> InstanceText<'a> {
    /// Writes `instance`; `listed` are nodes by name.
    pub fn of(instance: &'a Instance, listed: &BTreeMap<&str, &Node>) -> Self {
        let node = &instance.node;
        let is_listed = listed.get(&*node.name).is_some_and(|listed| *listed == node);
        let ports = instance.ports.iter().map(|named| (Cow::Borrowed(&*named.name), named.port));
        Self {
            id: Cow::Borrowed(&instance.id),
            on: is_listed.then(|| Cow::Borrowed(&*node.name)),
            node: (!is_listed).then(|| NodeText::of(node)),
            address: instance.address.as_ref().map(address),
            port: instance.port,
            ports: ports.collect(),
            tagged: instance.tagged.as_deref().map(TaggedText::of),
            tags: instance.tags.iter().map(|tag| Cow::Borrowed(&**tag)).collect(),
            weights: (instance.weights.passing, instance.weights.warning),
            health: Cow::Borrowed(instance.health.as_str()),
            worst: instance.worst.as_ref().map(|worst| {
                let WorstCheck { id, name, is_of_node } = &**worst;
                (Cow::Borrowed(&**id), Cow::Borrowed(&**name), *is_of_node)
            }),
        }
    }

    /// The instance; `listed` are nodes by name.
    ///
    /// # Errors
    ///
    /// Fails where it has no node.
    pub fn read(&self, listed: &BTreeMap<&str, &Node>) -> Result<Instance, Refusal> {
        let node = match (&self.node, self.on.as_deref().and_then(|on| listed.get(on))) {
            (Some(node), _) => node.read()?,
            (None, Some(node)) => (*node).clone(),
            (None, None) => {
                let what = format!("the instance {:?} is on no node", self.id);
                return Err(Refusal::Damaged(what));
            }
        };
        let port =
            |(name, port): &(Text<'_>, u16)| NamedPort { name: name.to_string(), port: *port };
        let (passing, warning) = self.weights;
        Ok(Instance {
            id: self.id.clone().into_owned(),
            node,
            address: self.address.as_deref().and_then(Address::from_text),
            port: self.port,
            ports: self.ports.iter().map(port).collect(),
            tagged: self.tagged.as_ref().and_then(TaggedText::read),
            tags: self.tags.iter().map(|tag| tag.clone().into_owned()).collect(),
            weights: Weights { passing, warning },
            health: Health::from_status(&self.health),
            worst: self.worst.as_ref().map(|(id, name, is_of_node)| {
                let (id, name) = (id.to_string(), name.to_string());
                Box::new(WorstCheck { id, name, is_of_node: *is_of_node })
            }),
        })
    }
}

impl<'a> ExecutedText<'a> {
    /// Writes `executed`.
    pub fn of(executed: &'a Executed) -> Self {
        Self {
            datacenter: Cow::Borrowed(&executed.datacenter),
            service: Cow::Borrowed(&executed.service),
            ttl_secs: executed.ttl_secs,
            sorted: executed.is_sorted,
        }
    }

    /// What it was.
    pub fn read(&self) -> Executed {
        Executed {
            datacenter: self.datacenter.clone().into_owned(),
            service: self.service.clone().into_owned(),
            ttl_secs: self.ttl_secs,
            is_sorted: self.sorted,
        }
    }
}

impl<'a> TaggedText<'a> {
    fn of(tagged: &'a Tagged) -> Self {
        let addresses = [
            ("consul-virtual", &tagged.mesh),
            ("lan", &tagged.lan),
            ("lan_ipv4", &tagged.lan_ipv4),
            ("lan_ipv6", &tagged.lan_ipv6),
            ("wan", &tagged.wan),
            ("wan_ipv4", &tagged.wan_ipv4),
            ("wan_ipv6", &tagged.wan_ipv6),
        ];
        let known = addresses
            .into_iter()
            .filter_map(|(tag, known)| Some((Cow::Borrowed(tag), address(known.as_ref()?))));
        Self { addresses: known.collect(), wan_port: tagged.wan_port }
    }

    fn read(&self) -> Option<Box<Tagged>> {
        let at = |tag: &str| Address::from_text(self.addresses.get(tag)?);
        Tagged::by_tag(at, self.wan_port)
    }
}

fn address(address: &Address) -> Text<'_> {
    match address {
        Address::Host(host) => Cow::Borrowed(host),
        Address::Ip(ip) => Cow::Owned(ip.to_string()),
    }
}
