//! How a name was read, and what of the catalogue it leads to.

use crate::answer::finding::Finding;
use crate::answer::{Realm, RealmZone, find};
use crate::catalog::{Datacenter, Form, Found, Service, queries};
use crate::explain::words::shown;
use crate::explain::{Case, noun};
use crate::name::{Labels, Lookup, ParseError, Place, Subject as NameSubject};

/// What a name asks for.
#[derive(Debug)]
pub struct Meant<'s> {
    /// In words.
    pub text: String,
    /// What kind of thing.
    pub subject: Subject,
    /// The datacenter that was named, in lower case; `None` is the local one.
    pub datacenter: Option<String>,
    /// Of the service, the node or what else it is; `None` where it is none.
    pub name: Option<String>,
    /// Only instances with this tag.
    pub tag: Option<String>,
    /// Only instances with a port of this name.
    pub port: Option<String>,
    /// What kind of names it has in Consul, where it has instances.
    pub form: Option<Form>,
    /// The service, where the catalogue has it.
    pub service: Option<&'s Service>,
    /// Whether it is the mesh's address of a service.
    pub is_virtual: bool,
    /// Whether it is something that a cluster peer exports.
    pub is_of_peer: bool,
    /// Why it is no name of ours.
    pub error: Option<ParseError>,
}

/// What kind of thing a name is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the grammar")]
pub enum Subject {
    Address,
    Apex,
    Kind,
    Node,
    Reverse,
    Service,
    Unreadable,
}

impl Subject {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Apex => "zone",
            Self::Kind => "parent of names",
            Self::Node => "node",
            Self::Reverse => "reverse name",
            Self::Service => "service",
            Self::Unreadable => "no name of ours",
        }
    }
}

/// Reads the name of `labels`, which is in `realm`.
pub fn read<'s>(case: &Case<'s, '_>, realm: Realm<'_>, labels: &Labels) -> Meant<'s> {
    if !matches!(realm.zone, Some(RealmZone::Forward(_))) {
        let text = match realm.count {
            0 => "the top of a reverse zone of this server",
            _ => "a reverse name: whose address is this?",
        };
        return Meant::plain(Subject::Reverse, text);
    }
    let lookup = match find::read(case.snapshot, labels, realm.count) {
        Ok(lookup) => lookup,
        Err(error) => {
            let text = format!("no name that can be here, as {error}");
            return Meant { error: Some(error), ..Meant::plain(Subject::Unreadable, &text) };
        }
    };
    if matches!(case.trace.finding, Finding::NameServer) {
        return Meant::plain(Subject::Apex, "the name of this server");
    }
    let (place, datacenter) = place(case, &lookup);
    let is_of_peer = matches!(lookup.place, Place::Peer(_));
    let meant = |subject, name: &[u8], what: String| Meant {
        is_of_peer,
        datacenter: datacenter.clone(),
        name: Some(text(name)),
        ..Meant::plain(subject, &what)
    };
    let of_form = |form, name: &[u8], what: String| {
        let (known, key) = service(case, form, &lookup, name);
        let registered =
            known.map_or_else(|| text(&key), |service| shown(registered(&service.name)));
        let meant = meant(Subject::Service, name, format!("{what}{place}"));
        Meant { name: Some(registered), form: Some(form), service: known, ..meant }
    };
    match lookup.subject {
        NameSubject::Address { address } => {
            let what = format!("the address {address}, spelled out{place}");
            Meant { datacenter, ..Meant::plain(Subject::Address, &what) }
        }
        NameSubject::Apex => Meant::plain(Subject::Apex, "the zone itself"),
        NameSubject::Bare { label } => {
            let what = format!("{:?}, alone: a datacenter, or the parent of names", text(label));
            meant(Subject::Kind, label, what)
        }
        NameSubject::Kind | NameSubject::Scope => {
            let what = format!("a parent of names{place}");
            Meant { datacenter, ..Meant::plain(Subject::Kind, &what) }
        }
        NameSubject::Node { node } => {
            meant(Subject::Node, node, format!("the node {:?}{place}", text(node)))
        }
        NameSubject::Connect { service } => {
            of_form(Form::Connect, service, format!("the mesh instances of {:?}", text(service)))
        }
        NameSubject::Virtual { service } => {
            let what = format!("the mesh's address of {:?}", text(service));
            Meant { is_virtual: true, ..of_form(Form::Connect, service, what) }
        }
        NameSubject::Ingress { service } => {
            of_form(Form::Ingress, service, format!("the ingress gateways of {:?}", text(service)))
        }
        NameSubject::Query { query, .. } => {
            of_form(Form::Query, query, format!("the {} {:?}", noun(Form::Query), text(query)))
        }
        NameSubject::Service { service, tag, port, is_marked } => {
            let form = if let Place::Peer(_) = lookup.place { Form::Peer } else { Form::Service };
            let meant = of_form(form, service, instances(service, tag, port, is_marked));
            Meant { tag: tag.map(text), port: port.map(text), ..meant }
        }
    }
}

impl Meant<'_> {
    fn plain(subject: Subject, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            subject,
            datacenter: None,
            name: None,
            tag: None,
            port: None,
            form: None,
            service: None,
            is_virtual: false,
            is_of_peer: false,
            error: None,
        }
    }
}

/// Which instances of a service, in words.
fn instances(service: &[u8], tag: Option<&[u8]>, port: Option<&[u8]>, is_marked: bool) -> String {
    let mut what = format!("the service {:?}", text(service));
    if let Some(tag) = tag {
        what += &format!(", its instances with the tag {:?}", text(tag));
    }
    if let Some(port) = port {
        what += &format!(", their port {:?}", text(port));
    }
    if is_marked {
        what += ", written as in RFC 2782";
    }
    what
}

/// A name off the wire. Whoever asked wrote it, and it is shown in quotes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A result of a prepared query is kept by the client's network too.
fn registered(name: &str) -> &str {
    name.split('\0').next().unwrap_or_default()
}

/// Where it is, in words, and the datacenter that was named.
fn place(case: &Case<'_, '_>, lookup: &Lookup<'_>) -> (String, Option<String>) {
    match lookup.place {
        Place::Datacenter(name) => {
            (format!(", in the datacenter {:?}", text(name)), Some(text(name)))
        }
        Place::Local => match case.datacenter(None) {
            Some(local) => (format!(", in {}, the local datacenter", local.name), None),
            None => (", in the local datacenter, which is not known yet".to_owned(), None),
        },
        Place::Peer(peer) => (format!(", as the peer {:?} exports it", text(peer)), None),
    }
}

/// What is kept under the name, and the name that it is kept under.
fn service<'s>(
    case: &Case<'s, '_>,
    form: Form,
    lookup: &Lookup<'_>,
    name: &[u8],
) -> (Option<&'s Service>, Vec<u8>) {
    let named = match lookup.place {
        Place::Datacenter(datacenter) => Some(datacenter),
        Place::Local | Place::Peer(_) => None,
    };
    let Found::Here(datacenter) = case.snapshot.datacenter(named) else {
        return (None, name.to_vec());
    };
    let found = |found| match found {
        Found::Here(service) => Some(service),
        Found::Missing | Found::Unheard => None,
    };
    let unlisted = |datacenter: &'s Datacenter, key: &[u8]| found(datacenter.unlisted(form, key));
    match (form, lookup.place) {
        (Form::Connect | Form::Ingress | Form::Query, Place::Peer(_)) => (None, name.to_vec()),
        (Form::Service, _) => (found(datacenter.service(name)), name.to_vec()),
        (Form::Peer, Place::Peer(peer)) => {
            let key = [name, b".", peer].concat();
            (unlisted(datacenter, &key), key)
        }
        (Form::Query, _) => {
            let client = case.asked.near.unwrap_or(case.asked.client);
            let by_client = str::from_utf8(name).map(|name| queries::name_for(name, client));
            let by_client = by_client.ok().and_then(|key| unlisted(datacenter, key.as_bytes()));
            (by_client.or_else(|| unlisted(datacenter, name)), name.to_vec())
        }
        _ => (unlisted(datacenter, name), name.to_vec()),
    }
}
