//! Each instance of a service: in the reply or not, and by which check or rule.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::answer::finding::Finding;
use crate::catalog::addressing::{Accept, By, Reached, View};
use crate::catalog::model::{Address, Health, Instance, WorstCheck};
use crate::catalog::{Form, Rules, Selection, selection};
use crate::explain::Case;
use crate::explain::reading::Meant;
use crate::explain::said::Said;
use crate::wire::rtype;

/// The instances of a service.
#[derive(Clone, Debug, Serialize)]
pub struct Instances {
    /// All, whatever their health.
    pub total: usize,
    /// In the reply.
    pub answered: usize,
    /// Meant, and not in this reply: it is too small, or a limit is set.
    pub cut: usize,
    /// Why the others are out, with how many there are of each reason.
    pub out: BTreeMap<String, usize>,
    /// Those that are out first, then those that were cut.
    pub listed: Vec<Line>,
    /// Instances beyond [`LISTED_MAX`], which are not in `listed`.
    pub left_off: usize,
}

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The node's name.
    pub node: String,
    /// The ID on that node.
    pub id: String,
    /// What is answered with, or would be.
    pub address: String,
    /// 0 where none is registered.
    pub port: u16,
    /// As registered.
    pub tags: Vec<String>,
    /// `passing`, `warning`, `critical` or `unknown`.
    pub health: &'static str,
    /// The check that makes it so; `None` where all pass.
    pub check: Option<CheckSaid>,
    /// Of its SRV record.
    pub weight: u16,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it is not in; `None` where it is.
    pub reason: Option<String>,
}

/// A check that does not pass.
#[derive(Clone, Debug, Serialize)]
pub struct CheckSaid {
    /// Unique on its node.
    pub id: String,
    /// For people.
    pub name: String,
    /// `node` or `service`.
    pub about: &'static str,
}

/// What became of an instance.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is not answered with.
    Out,
    /// It may be answered with, and is not in this reply.
    Cut,
    /// It is in this reply.
    In,
}

impl Instances {
    /// Those of what is meant; `None` where that is no service, or none are in memory.
    pub fn of(case: &Case<'_, '_>, meant: &Meant<'_>, reply: Option<&Said>) -> Option<Self> {
        let service = meant.service?;
        service.rrsets.as_ref()?;
        // The mesh has one address for all of them.
        if matches!(case.trace.finding, Finding::Address(_)) {
            return None;
        }
        let judge = Judge::new(case, meant, reply)?;
        let mut place = 0;
        let mut lines: Vec<Line> = Vec::with_capacity(service.instances.len());
        for instance in service.instances.iter() {
            let at = judge.shows(instance).then_some(place);
            place += u32::from(at.is_some());
            lines.push(judge.line(instance, at));
        }
        let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
        let (answered, cut) = (count(Verdict::In), count(Verdict::Cut));
        let mut out = BTreeMap::new();
        for line in lines.iter().filter(|line| line.verdict == Verdict::Out) {
            *out.entry(line.reason.clone().unwrap_or_default()).or_default() += 1;
        }
        lines.sort_by_key(|line| line.verdict);
        let total = lines.len();
        lines.truncate(LISTED_MAX);
        Some(Self { total, answered, cut, out, left_off: total - lines.len(), listed: lines })
    }
}

/// Says of one instance after the other what became of it.
struct Judge<'c> {
    qtype: u16,
    rules: &'c Rules,
    view: View,
    /// Whether instances are left out by their health.
    leaves_out: bool,
    meant: &'c Meant<'c>,
    /// `None` where nothing of the service is answered.
    selection: Option<&'c Selection>,
    members: HashSet<u32>,
    reply: Option<&'c Said>,
    /// What the answers say, in lower case.
    rdata: HashSet<String>,
    /// Why some are not in the reply, where that is so.
    cut: Option<String>,
}

impl<'c> Judge<'c> {
    fn new(case: &'c Case<'_, '_>, meant: &'c Meant<'_>, reply: Option<&'c Said>) -> Option<Self> {
        let rules = case.snapshot.rules.as_deref()?;
        let datacenter = case.datacenter(meant.datacenter.as_deref())?;
        let is_local = case.datacenter(None).is_some_and(|local| local.name == datacenter.name);
        let selection = match &case.trace.finding {
            Finding::Service { selection, .. } => Some(&**selection),
            _ => None,
        };
        let answers = reply.map_or(0, |reply| reply.answers.len());
        let cut = selection.filter(|it| answers < pool(it, case.qtype)).map(|selection| {
            let (limit, policy) = (pool(selection, case.qtype), case.policy);
            match reply.is_some_and(Said::is_truncated) {
                true => format!("did not fit: {answers} of {limit} records did; TCP has them all"),
                false if policy.a_record_limit == answers => {
                    format!("dns_config.a_record_limit is {answers}: others are in other replies")
                }
                false if policy.udp_answer_limit == answers => {
                    format!("dns_config.udp_answer_limit holds replies without EDNS to {answers}")
                }
                false => format!("{answers} of {limit} records are in each reply"),
            }
        });
        Some(Self {
            qtype: case.qtype,
            rules,
            view: rules.view(is_local),
            leaves_out: meant.form != Some(Form::Query),
            meant,
            selection,
            members: selection.iter().flat_map(|it| it.members()).copied().collect(),
            reply,
            rdata: reply.iter().flat_map(|it| &it.rdata).map(|it| it.to_lowercase()).collect(),
            cut,
        })
    }

    fn shows(&self, instance: &Instance) -> bool {
        !self.leaves_out || self.rules.shows(instance.health)
    }

    /// What became of `instance`, which is at `place` among those that are shown.
    fn line(&self, instance: &Instance, place: Option<u32>) -> Line {
        let reached = self.reached(instance);
        let (verdict, reason) = match self.reason(instance, place, reached) {
            Some(reason) => (Verdict::Out, Some(reason)),
            None if self.is_in(instance, reached) => (Verdict::In, None),
            None => (Verdict::Cut, self.cut.clone()),
        };
        Line {
            node: instance.node.name.clone(),
            id: instance.id.clone(),
            address: match reached.address {
                Address::Host(host) => host.clone(),
                Address::Ip(ip) => ip.to_string(),
            },
            port: self.view.port(instance),
            tags: instance.tags.clone(),
            health: instance.health.as_str(),
            check: instance.worst.as_deref().map(|worst| CheckSaid {
                id: worst.id.clone(),
                name: worst.name.clone(),
                about: if worst.is_of_node { "node" } else { "service" },
            }),
            weight: selection::weight(instance),
            verdict,
            reason,
        }
    }

    fn reached<'i>(&self, instance: &'i Instance) -> Reached<'i> {
        self.view.reach(
            instance,
            match self.qtype {
                rtype::A => Accept::A,
                rtype::AAAA => Accept::Aaaa,
                _ => Accept::Any,
            },
        )
    }

    /// Why an instance is not even meant.
    fn reason(
        &self,
        instance: &Instance,
        place: Option<u32>,
        reached: Reached<'_>,
    ) -> Option<String> {
        let Some(place) = place else { return Some(unhealthy(instance)) };
        if !self.members.contains(&place) {
            let has = |own: &str, wanted: &str| own.eq_ignore_ascii_case(wanted);
            let has_tag = |tag: &String| instance.tags.iter().any(|own| has(own, tag));
            let has_port = |port: &String| instance.ports.iter().any(|own| has(&own.name, port));
            return Some(match (&self.meant.tag, &self.meant.port) {
                (Some(tag), _) if !has_tag(tag) => format!("no tag {tag:?}"),
                (_, Some(port)) if !has_port(port) => format!("no port called {port:?}"),
                _ => "nothing of the service is answered at present".to_owned(),
            });
        }
        let is_v4 = matches!(reached.address, Address::Ip(IpAddr::V4(_)));
        let is_v6 = matches!(reached.address, Address::Ip(IpAddr::V6(_)));
        match self.qtype {
            rtype::A if is_v6 => Some("no IPv4 address".to_owned()),
            rtype::AAAA if is_v4 => Some("no IPv6 address".to_owned()),
            rtype::A | rtype::AAAA | rtype::ANY => {
                let is_host = matches!(reached.address, Address::Host(_));
                let others = self.selection.is_some_and(|it| it.cname.is_empty());
                (is_host && others && !self.is_in(instance, reached)).then(|| {
                    "a host name, where others have addresses: a CNAME stands alone".to_owned()
                })
            }
            rtype::SRV => None,
            _ if self.selection.is_some_and(|it| !it.cname.is_empty()) => None,
            _ => Some("no records of this type".to_owned()),
        }
    }

    /// Whether the reply has its record.
    fn is_in(&self, instance: &Instance, reached: Reached<'_>) -> bool {
        if self.reply.is_none_or(|reply| reply.answers.is_empty()) {
            return false;
        }
        // Names that are escaped in texts are found in no text.
        if self.cut.is_none() && !matches!(reached.address, Address::Host(_)) {
            return true;
        }
        let node_ip = match &instance.node.address {
            Address::Ip(ip) => Some(ip.to_string()),
            Address::Host(_) => None,
        };
        if self.qtype != rtype::SRV {
            return match reached.address {
                Address::Ip(ip) => self.rdata.contains(&ip.to_string()),
                Address::Host(host) => {
                    self.rdata.contains(&dotted(host))
                        || node_ip.is_some_and(|ip| self.rdata.contains(&ip))
                }
            };
        }
        let port = match &self.meant.port {
            None => self.view.port(instance),
            Some(port) => {
                let named = instance.ports.iter().find(|own| own.name.eq_ignore_ascii_case(port));
                named.map_or(0, |named| named.port)
            }
        };
        let target = match (reached.by, reached.address) {
            (By::Host, Address::Host(host)) => dotted(host),
            (By::Node, _) => format!("{}.node.", instance.node.name.to_lowercase()),
            (_, Address::Ip(IpAddr::V4(ip))) => format!("{:08x}.addr.", ip.to_bits()),
            (_, Address::Ip(IpAddr::V6(ip))) => format!("{:032x}.addr.", ip.to_bits()),
            (_, Address::Host(host)) => dotted(host),
        };
        self.rdata.iter().any(|rdata| {
            let mut words = rdata.split(' ').skip(2);
            let (its_port, its_target) = (words.next(), words.next().unwrap_or_default());
            its_port == Some(&*port.to_string()) && its_target.starts_with(&target)
        })
    }
}

/// How many records of a type there are to pick from.
fn pool(selection: &Selection, qtype: u16) -> usize {
    match qtype {
        rtype::SRV => selection.srv.len(),
        _ if !selection.cname.is_empty() => selection.cname.len(),
        rtype::A => selection.a.len(),
        rtype::AAAA => selection.aaaa.len(),
        rtype::ANY => {
            let both = selection.a.len() + selection.aaaa.len();
            selection.any.as_ref().map_or(both, |any| any.len())
        }
        _ => 0,
    }
}

/// Why an instance of this health is not answered with.
fn unhealthy(instance: &Instance) -> String {
    let rule = match instance.health {
        Health::Critical => "",
        _ => ", and dns_config.only_passing is set",
    };
    let check = instance.worst.as_deref().map_or_else(String::new, by);
    format!("{}{check}{rule}", instance.health.as_str())
}

/// By which check.
fn by(worst: &WorstCheck) -> String {
    let WorstCheck { id, name, is_of_node } = worst;
    let about = if *is_of_node { "node" } else { "service" };
    match (&**id, &**name) {
        ("serfHealth", _) => " (serfHealth: Consul's agents do not reach its node)".to_owned(),
        ("_node_maintenance", _) => " (its node is in maintenance)".to_owned(),
        (id, _) if id.starts_with("_service_maintenance:") => " (it is in maintenance)".to_owned(),
        ("", "") => format!(" (a check of its {about})"),
        ("", name) => format!(" (the {about}'s check {name:?})"),
        (id, "") => format!(" (the {about}'s check {id:?})"),
        (id, name) => format!(" (the {about}'s check {name:?}, {id})"),
    }
}

fn dotted(host: &str) -> String {
    format!("{}.", host.strip_suffix('.').unwrap_or(host).to_lowercase())
}

/// Instances that are listed one by one. The rest is counted.
pub const LISTED_MAX: usize = 1000;
