//! Why an answer is what it is, for whoever is told that a name does not resolve.
//!
//! ```text
//!   respond     the reply itself, as this client gets it, read back
//!   find        what the catalogue has for the name      } the very functions that
//!   Selection   which instances the records are of       } the reply was made with
//!   instances   each of the service's: in or out, and by which check or rule
//!   summary     all of that in a sentence
//! ```
//! **Invariant:** nothing is decided here a second time: what is in the reply is read from the
//! reply, and what could be from the selection that the reply was picked from. Only the *reasons* of
//! what is out are found here.
//!
//! Not hot, and it allocates.

pub mod instances;
pub mod reading;
pub mod said;
pub mod summary;
pub mod text;
pub mod why;
pub mod words;

use std::net::IpAddr;

use serde::Serialize;

use crate::answer::finding::{Finding, Trace};
use crate::answer::{Asked, Draft, Outcome, Policy, Realm, Want, respond};
use crate::catalog::{Datacenter, Form, Found, List, Snapshot};
use crate::explain::instances::Instances;
use crate::explain::reading::{Meant, Subject};
use crate::explain::said::Said;
use crate::name::Labels;
use crate::wire::{Edns, Query, rtype};

/// What is told of one question.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// As it was asked.
    pub question: Question,
    /// The whole in a sentence or two.
    pub summary: String,
    /// What may help, a sentence each.
    pub hints: Vec<String>,
    /// Whether the name is in a zone of ours.
    #[serde(skip)]
    pub is_ours: bool,
    /// How the name was read.
    pub reading: String,
    /// What it is about; `None` where the catalogue is not asked.
    pub subject: Option<Place>,
    /// The instances of the service; `None` where it is about none, or they are not in memory.
    pub instances: Option<Instances>,
    /// Where the TTL comes from; `None` where nothing has one.
    pub ttl: Option<Ttl>,
    /// The reply; `None` where there would be none, or it is the recursors'.
    pub reply: Option<Said>,
}

/// The question.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// With a dot at its end.
    pub name: String,
    /// As `A`, or `TYPE65`.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Who asks.
    pub client: IpAddr,
    /// How large a reply may be, in bytes.
    pub bytes_max: usize,
}

/// What an answer is about.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// In lower case.
    pub datacenter: String,
    /// Whether that is the one meant where a name has none.
    pub is_local: bool,
    /// `service`, `node`, and so on.
    pub kind: &'static str,
    /// Of a service, what kind of name it is: `service`, `connect`, `ingress`, `peer` or `query`.
    pub form: &'static str,
    /// As it is registered, where it is; else as asked.
    pub name: String,
    /// Whether the catalogue has it.
    pub is_there: bool,
    /// How its instances, or its list, are kept fresh.
    pub held: String,
    /// Since when Consul does not bear it out, in seconds; `None` where it does.
    pub old_secs: Option<u64>,
}

/// How long an answer may be kept.
#[derive(Clone, Debug, Serialize)]
pub struct Ttl {
    /// In seconds.
    pub secs: u32,
    /// The key or the rule that sets it.
    pub from: String,
}

impl Explanation {
    /// The same, where the recursors sent `reply` in the end.
    #[must_use]
    pub fn with_foreign(self, reply: &[u8]) -> Self {
        let reply = Said::read(reply);
        let rcode = reply.as_ref().map_or("", |reply| &reply.rcode);
        let why = match reply.as_ref().and_then(|reply| reply.error.as_ref()) {
            Some(error) => error.text.clone(),
            None => "it is not ours, and so the recursors say".to_owned(),
        };
        let summary = format!("{rcode}: {why}.");
        Self { summary, hints: Vec::new(), reply, ..self }
    }
}

/// Explains what `asked` is answered with.
pub fn explain(snapshot: &Snapshot, policy: &Policy, asked: &Asked<'_>) -> Option<Explanation> {
    let query = Query::parse(asked.bytes).ok()?;
    let (mut draft, near) = (Draft::default(), asked.near);
    let outcome = respond(snapshot, policy, asked, &mut draft);
    let wanted = match &outcome {
        Outcome::Wants(want) => Some(wanted(want)),
        Outcome::Why { .. } => Some("this name asks for an explanation itself".to_owned()),
        Outcome::Replied(_) | Outcome::Silence => None,
    };
    let reply = Said::read(&draft.reply).filter(|_| wanted.is_none());
    let labels = Labels::from_wire(query.name);
    let asked = &Asked { near: near.filter(|_| policy.client_subnet), ..*asked };
    let realm = labels.as_ref().and_then(|labels| Realm::of(policy, asked, labels));
    let found = labels.as_ref().zip(realm).and_then(|(labels, realm)| {
        Some((realm.find(snapshot, policy, asked, labels)?, realm, labels))
    });
    let question = Question {
        name: words::name(query.name),
        rtype: said::type_name(query.qtype),
        client: asked.client,
        bytes_max: asked.transport.reply_max(policy, query.edns.as_ref()),
    };
    let Some((trace, realm, labels)) = found else {
        let within = within(snapshot, policy, asked, query.name);
        return Some(foreign(policy, question, within, wanted, reply));
    };
    let (qtype, edns) = (query.qtype, query.edns.as_ref());
    let case = Case { snapshot, policy, asked, qtype, edns, trace: &trace };
    let meant = reading::read(&case, realm, labels);
    let instances = Instances::of(&case, &meant, reply.as_ref());
    let subject = case.place(&meant);
    let ttl = case.ttl(&meant, reply.as_ref());
    let sentences = summary::Sentences { case, meant: &meant, instances: instances.as_ref() };
    let (summary, hints) = sentences.write(&question, reply.as_ref(), wanted);
    let reading = meant.text;
    let is_ours = true;
    Some(Explanation { is_ours, question, summary, hints, reading, subject, instances, ttl, reply })
}

/// A name in no zone of ours.
fn foreign(
    policy: &Policy,
    question: Question,
    within: Option<String>,
    wanted: Option<String>,
    reply: Option<Said>,
) -> Explanation {
    let zones: Vec<&str> = policy.zones.iter().map(crate::name::Zone::as_str).collect();
    let reading =
        format!("a name in no zone of this server, whose zones are: {}", zones.join(", "));
    let summary = match (wanted, &reply) {
        (Some(wanted), _) => format!("It is not ours, and {wanted}."),
        (None, Some(reply)) => match &reply.error {
            Some(error) => format!("{}: {}.", reply.rcode, error.text),
            None => format!("{}: it is a name that servers answer alike everywhere.", reply.rcode),
        },
        (None, None) => "No reply is sent.".to_owned(),
    };
    let is_reverse = question.name.ends_with(".arpa.");
    let hint = match policy.recursion.enabled {
        true if !policy.recursion.allows(question.client) => {
            Some("Other names are for the clients in recursion.allow.")
        }
        true => None,
        false if is_reverse => {
            Some("Of addresses that nobody has, only those in dns.reverse_zones are denied.")
        }
        false => Some("Other names are answered where `recursors` is set."),
    };
    let mut hints: Vec<String> = within.into_iter().chain(hint.map(str::to_owned)).collect();
    hints.truncate(2);
    let (subject, instances, ttl) = (None, None, None);
    let is_ours = false;
    Explanation { is_ours, question, summary, hints, reading, subject, instances, ttl, reply }
}

/// The name below our zone that was probably meant, if there is one.
fn within(snapshot: &Snapshot, policy: &Policy, asked: &Asked<'_>, name: &[u8]) -> Option<String> {
    let zone = policy.zones.first()?;
    let (_, name) = name.split_last()?;
    let kinds: [&[u8]; 2] = [b"", b"\x07service"];
    kinds.into_iter().find_map(|kind| {
        let wire = [name, kind, zone.wire()].concat();
        let labels = Labels::from_wire(&wire)?;
        let realm = Realm::of(policy, asked, &labels)?;
        let trace = realm.find(snapshot, policy, asked, &labels)?;
        let is_there =
            !matches!(trace.finding, Finding::Missing | Finding::NotReady | Finding::Empty);
        is_there.then(|| format!("Is {} meant?", words::name(&wire)))
    })
}

/// What would have to happen first.
fn wanted(want: &Want<'_>) -> String {
    match want {
        Want::Datacenter { datacenter } => {
            format!("the lists of {datacenter} are asked of Consul first")
        }
        Want::Foreign => "the recursors are asked".to_owned(),
        Want::Host { name, .. } => format!("the address of {name} is asked of the recursors first"),
        Want::Service { datacenter, service, .. } => {
            format!("the instances of {service} in {datacenter} are asked of Consul first")
        }
        Want::Unlisted { datacenter, name, .. } => {
            format!("Consul is asked about {name} in {datacenter} first")
        }
    }
}

/// One question, with all that it is explained from.
#[derive(Clone, Copy)]
pub struct Case<'s, 'a> {
    /// What is answered from.
    snapshot: &'s Snapshot,
    policy: &'a Policy,
    asked: &'a Asked<'a>,
    qtype: u16,
    edns: Option<&'a Edns>,
    /// What was found for the name.
    trace: &'a Trace<'s>,
}

impl<'s> Case<'s, '_> {
    /// The datacenter of this name; without a name, the local one.
    fn datacenter(&self, name: Option<&str>) -> Option<&'s Datacenter> {
        match self.snapshot.datacenter(name.map(str::as_bytes)) {
            Found::Here(datacenter) => Some(datacenter),
            Found::Missing | Found::Unheard => None,
        }
    }

    fn place(&self, meant: &Meant<'s>) -> Option<Place> {
        let datacenter = self.datacenter(meant.datacenter.as_deref())?;
        let is_there = meant.service.is_some()
            || matches!(self.trace.finding, Finding::Node(_) | Finding::Empty);
        let local = self.datacenter(None);
        let now_ms = i64::try_from(self.asked.now_ms).unwrap_or(i64::MAX);
        let list = if meant.subject == Subject::Node { List::Nodes } else { List::Services };
        let of_list = datacenter.old_since(list);
        let of_service = meant.service.and_then(|it| it.held.old_since(self.asked.now_ms));
        let old_since = if meant.service.is_some() { of_service.or(of_list) } else { of_list };
        let held = match meant.service {
            Some(service) => service.held.in_words(self.asked.now_ms),
            None => "by the datacenter's list of names".to_owned(),
        };
        let held =
            if meant.subject == Subject::Node { "by the list of nodes".to_owned() } else { held };
        Some(Place {
            datacenter: datacenter.name.to_string(),
            is_local: local.is_some_and(|local| local.name == datacenter.name),
            kind: meant.form.map_or(meant.subject.as_str(), noun),
            form: meant.form.map_or("", Form::as_str),
            name: meant.name.clone()?,
            is_there,
            held,
            old_secs: old_since.map(|since| seconds(now_ms.saturating_sub(since))),
        })
    }

    fn ttl(&self, meant: &Meant<'s>, reply: Option<&Said>) -> Option<Ttl> {
        let reply = reply?;
        let secs = reply.ttl_secs?;
        let rules = self.snapshot.rules.as_deref()?;
        let from = match (&self.trace.finding, meant.service) {
            _ if self.trace.is_stale => {
                "RFC 8767: of an old answer TTLs are 1 s to 30 s".to_owned()
            }
            _ if reply.answers.is_empty() => "dns_config.soa.min_ttl".to_owned(),
            (Finding::Apex, _) if self.qtype == rtype::SOA => "dns_config.soa.min_ttl".to_owned(),
            (Finding::Pointer(pointer), _) if !pointer.is_of_node() => {
                "dns_config.service_ttl of the service that has the address".to_owned()
            }
            (Finding::Service { .. }, Some(service)) => {
                let own = service.executed().and_then(|executed| executed.ttl_secs);
                let of = service.executed().map_or(&*service.name, |executed| &*executed.service);
                let name = of.to_ascii_lowercase();
                match (own, rules.service_ttl_rule(&name)) {
                    (Some(_), _) => "the prepared query's own TTL".to_owned(),
                    (None, Some((key, _))) => format!("dns_config.service_ttl, key {key:?}"),
                    (None, None) => {
                        "dns_config.service_ttl, which has no key for it: Consul's default"
                            .to_owned()
                    }
                }
            }
            _ => "dns_config.node_ttl (0 where it is not set)".to_owned(),
        };
        Some(Ttl { secs, from })
    }
}

/// Milliseconds, in whole seconds; none of what is not over.
fn seconds(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default() / 1000
}

/// What people call the names of a form.
fn noun(form: Form) -> &'static str {
    match form {
        Form::Connect => "mesh service",
        Form::Ingress => "service behind ingress gateways",
        Form::Peer => "service of a peer",
        Form::Query => "prepared query",
        Form::Service => "service",
    }
}

#[cfg(test)]
mod tests;
