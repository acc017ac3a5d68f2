//! Each instance of a service: in the reply or not, and by which check or rule.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::RData;
use serde::Serialize;

use crate::answer::Transport;
use crate::answer::finding::Finding;
use crate::answer::transport::UDP_PAYLOAD_MIN;
use crate::catalog::addressing::{Accept, By, Reached, View};
use crate::catalog::model::{Address, Health, Instance, WorstCheck};
use crate::catalog::{Form, Rules, Selection, selection};
use crate::explain::Case;
use crate::explain::reading::Meant;
use crate::explain::said::Said;
use crate::explain::words::{of_name, shown};
use crate::wire::{record, rtype};

/// The instances of a service.
#[derive(Clone, Debug, Serialize)]
pub struct Instances {
    /// All, whatever their health.
    pub total: usize,
    /// In the reply.
    pub answered: usize,
    /// Meant, and not in this reply: it is too small, or a limit is set.
    pub cut: usize,
    /// Why these are not in it; `None` where there are none.
    pub cut_by: Option<String>,
    /// Why the others are out, with how many there are of each reason.
    pub out: BTreeMap<String, usize>,
    /// Those that are out first, then those that were cut.
    pub listed: Vec<Line>,
    /// Instances beyond [`LISTED_MAX`], which are not in `listed`.
    pub left_off: usize,
    /// How many have the tag, or the port, that is asked for; all where none is.
    #[serde(skip)]
    pub meant: usize,
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
    /// The worst of its checks; `None` where all pass.
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

/// Why an instance is out. Those of one reason are counted together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Reason<'i> {
    NoTag(&'i str),
    NoPort(&'i str),
    /// `None` is a check that the source does not tell.
    Health(Health, Option<&'i WorstCheck>),
    NoFamily(&'static str),
    HostAmongAddresses,
    NoType,
    NothingAtPresent,
}

impl Reason<'_> {
    /// The same for all that differ in the check's ID alone.
    fn group(&self) -> String {
        match self {
            Self::Health(health, worst) => {
                let by = worst.map_or_else(String::new, |worst| by(worst, false));
                format!("{}{by}{}", health.as_str(), rule(*health))
            }
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTag(tag) => write!(f, "without the tag {tag:?}"),
            Self::NoPort(port) => write!(f, "without a port called {port:?}"),
            Self::Health(health, worst) => {
                let by = worst.map_or_else(String::new, |worst| by(worst, true));
                write!(f, "{}{by}{}", health.as_str(), rule(*health))
            }
            Self::NoFamily(family) => write!(f, "without an {family} address"),
            Self::HostAmongAddresses => {
                f.write_str("with a host name, where others have addresses: a CNAME stands alone")
            }
            Self::NoType => f.write_str("without records of this type, as all services are"),
            Self::NothingAtPresent => f.write_str("not answered with at present"),
        }
    }
}

impl Instances {
    /// Those of what is meant; `None` where that is no service, or none are in memory.
    pub fn of(case: &Case<'_, '_>, meant: &Meant<'_>, reply: Option<&Said>) -> Option<Self> {
        let service = meant.service?;
        service.rrsets.as_ref()?;
        // The mesh has one address for all of them.
        if matches!(case.trace.finding, Finding::Address(_) | Finding::Unserved) {
            return None;
        }
        let judge = Judge::new(case, meant, reply)?;
        let mut counts = [0_usize; 3];
        let mut out = BTreeMap::<Reason<'_>, usize>::new();
        let mut listed: [Vec<(usize, Option<Reason<'_>>)>; 3] = Default::default();
        let (mut place, mut is_meant) = (0, 0);
        for (at, instance) in service.instances.iter().enumerate() {
            let shown = judge.shows(instance).then_some(place);
            place += u32::from(shown.is_some());
            let reached = judge.reached(instance);
            let reason = judge.reason(instance, shown, reached);
            is_meant += usize::from(!matches!(reason, Some(Reason::NoTag(_) | Reason::NoPort(_))));
            let verdict = match reason {
                Some(_) => Verdict::Out,
                None if judge.is_in(instance, reached) => Verdict::In,
                None => Verdict::Cut,
            };
            if let Some(reason) = reason {
                *out.entry(reason).or_default() += 1;
            }
            let [outs, cuts, ins] = &mut counts;
            let [out_lines, cut_lines, in_lines] = &mut listed;
            let (count, lines) = match verdict {
                Verdict::Out => (outs, out_lines),
                Verdict::Cut => (cuts, cut_lines),
                Verdict::In => (ins, in_lines),
            };
            *count += 1;
            if lines.len() < LISTED_MAX {
                lines.push((at, reason));
            }
        }
        let verdicts = [Verdict::Out, Verdict::Cut, Verdict::In];
        let lines = verdicts.into_iter().zip(listed);
        let lines = lines.flat_map(|(verdict, lines)| {
            lines.into_iter().map(move |(at, reason)| (verdict, at, reason))
        });
        let listed: Vec<Line> = lines
            .take(LISTED_MAX)
            .filter_map(|(verdict, at, reason)| {
                Some(judge.line(service.instances.get(at)?, verdict, reason))
            })
            .collect();
        let mut groups = BTreeMap::new();
        out.iter().for_each(|(reason, count)| *groups.entry(reason.group()).or_default() += count);
        let ([_, cut, answered], total) = (counts, service.instances.len());
        Some(Self {
            total,
            answered,
            cut,
            cut_by: judge.cut.clone().filter(|_| cut > 0),
            out: groups,
            left_off: total - listed.len(),
            listed,
            meant: is_meant,
        })
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
    /// Whether the reply has answers.
    has_answers: bool,
    /// The addresses that the answers have.
    ips: HashSet<IpAddr>,
    /// The hosts that they are aliases of, in lower case.
    hosts: HashSet<String>,
    /// Ports with targets, in lower case.
    targets: Vec<(u16, String)>,
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
        let mut judge = Self {
            qtype: case.qtype,
            rules,
            view: rules.view(is_local),
            leaves_out: meant.form != Some(Form::Query),
            meant,
            selection,
            has_answers: reply.is_some_and(|reply| !reply.answers.is_empty()),
            ips: HashSet::new(),
            hosts: HashSet::new(),
            targets: Vec::new(),
            cut: selection.and_then(|selection| cut(case, selection, reply)),
        };
        for data in reply.iter().flat_map(|reply| &reply.data) {
            match data {
                RData::A(a) => drop(judge.ips.insert(a.0.into())),
                RData::AAAA(aaaa) => drop(judge.ips.insert(aaaa.0.into())),
                RData::CNAME(host) => drop(judge.hosts.insert(of_name(&host.0).to_lowercase())),
                RData::SRV(srv) => {
                    judge.targets.push((srv.port, of_name(&srv.target).to_lowercase()));
                }
                _ => (),
            }
        }
        Some(judge)
    }

    fn shows(&self, instance: &Instance) -> bool {
        !self.leaves_out || self.rules.shows(instance.health)
    }

    fn line(&self, instance: &Instance, verdict: Verdict, reason: Option<Reason<'_>>) -> Line {
        let reason = match verdict {
            Verdict::Out => reason.map(|reason| reason.to_string()),
            Verdict::Cut => self.cut.clone(),
            Verdict::In => None,
        };
        Line {
            node: shown(&instance.node.name),
            id: shown(&instance.id),
            address: match self.reached(instance).address {
                Address::Host(host) => shown(host),
                Address::Ip(ip) => ip.to_string(),
            },
            port: self.view.port(instance),
            tags: instance.tags.iter().map(|tag| shown(tag)).collect(),
            health: instance.health.as_str(),
            check: instance.worst.as_deref().map(|worst| CheckSaid {
                id: shown(&worst.id),
                name: shown(&worst.name),
                about: if worst.is_of_node { "node" } else { "service" },
            }),
            weight: selection::weight(instance),
            verdict,
            reason,
        }
    }

    fn reached<'i>(&self, instance: &'i Instance) -> Reached<'i> {
        let accept = match self.qtype {
            rtype::A => Accept::A,
            rtype::AAAA => Accept::Aaaa,
            _ => Accept::Any,
        };
        self.view.reach(instance, accept)
    }

    /// Why an instance is out; `place` is its own among those that are shown.
    fn reason<'i>(
        &'i self,
        instance: &'i Instance,
        place: Option<u32>,
        reached: Reached<'_>,
    ) -> Option<Reason<'i>> {
        if let Some(tag) = self.meant.tag.as_deref().filter(|tag| !has_tag(instance, tag)) {
            return Some(Reason::NoTag(tag));
        }
        if let Some(port) = self.meant.port.as_deref().filter(|port| !has_port(instance, port)) {
            return Some(Reason::NoPort(port));
        }
        let Some(place) = place else {
            return Some(Reason::Health(instance.health, instance.worst.as_deref()));
        };
        let Some(selection) = self.selection else { return Some(Reason::NothingAtPresent) };
        if selection.members().binary_search(&place).is_err() {
            return Some(Reason::NothingAtPresent);
        }
        let is_v4 = matches!(reached.address, Address::Ip(IpAddr::V4(_)));
        let is_v6 = matches!(reached.address, Address::Ip(IpAddr::V6(_)));
        let is_host = matches!(reached.address, Address::Host(_));
        match self.qtype {
            rtype::A if is_v6 => Some(Reason::NoFamily("IPv4")),
            rtype::AAAA if is_v4 => Some(Reason::NoFamily("IPv6")),
            rtype::A | rtype::AAAA | rtype::ANY => {
                let is_beaten = is_host && selection.cname.is_empty();
                (is_beaten && !self.is_in(instance, reached)).then_some(Reason::HostAmongAddresses)
            }
            rtype::SRV => None,
            _ if !selection.cname.is_empty() => None,
            _ => Some(Reason::NoType),
        }
    }

    /// Whether the reply has its record.
    fn is_in(&self, instance: &Instance, reached: Reached<'_>) -> bool {
        if !self.has_answers {
            return false;
        }
        let is_node_in = || match &instance.node.address {
            Address::Ip(ip) => self.ips.contains(ip),
            Address::Host(host) => self.has_host(host),
        };
        match (self.qtype, reached.address) {
            (rtype::SRV, _) => self.is_target(instance, reached),
            (_, Address::Ip(ip)) => self.ips.contains(ip),
            (_, Address::Host(host)) => self.has_host(host) || is_node_in(),
        }
    }

    fn has_host(&self, host: &str) -> bool {
        target(host).is_some_and(|host| self.hosts.contains(&host))
    }

    fn is_target(&self, instance: &Instance, reached: Reached<'_>) -> bool {
        let named = |port: &str| {
            let mut ports = instance.ports.iter();
            ports.find(|own| own.name.eq_ignore_ascii_case(port)).map(|own| own.port)
        };
        let port = match self.meant.port.as_deref() {
            Some(port) => named(port),
            None => self.meant.tag.as_deref().and_then(|tag| named(tag.strip_suffix(".port")?)),
        };
        let port = port.unwrap_or_else(|| self.view.port(instance));
        let mut targets = self.targets.iter().filter(|(its, _)| *its == port).peekable();
        if targets.peek().is_none() {
            return false;
        }
        let node = || target(&format!("{}.node", instance.node.name));
        let wanted = match (reached.by, reached.address) {
            (By::Node, _) => node(),
            (_, Address::Ip(IpAddr::V4(ip))) => Some(format!("{:08x}.addr.", ip.to_bits())),
            (_, Address::Ip(IpAddr::V6(ip))) => Some(format!("{:032x}.addr.", ip.to_bits())),
            // One that is registered under the name that leads to it is reached by its node.
            (_, Address::Host(host)) => target(host),
        };
        let others = [wanted, node()];
        targets.any(|(_, its)| others.iter().flatten().any(|wanted| its.starts_with(wanted)))
    }
}

/// A name of a record's, in lower case; `None` where it is none.
fn target(text: &str) -> Option<String> {
    record::name(text).map(|name| of_name(&name).to_lowercase())
}

/// Whether an instance has the tag, or each of several that are written with dots.
pub fn has_tag(instance: &Instance, tag: &str) -> bool {
    let has = |tag: &str| instance.tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
    has(tag)
        || tag.strip_suffix(".port").is_some_and(|port| has_port(instance, port))
        || tag.contains('.') && tag.split('.').all(has)
}

fn has_port(instance: &Instance, port: &str) -> bool {
    instance.ports.iter().any(|own| own.name.eq_ignore_ascii_case(port))
}

/// Why a reply has fewer records than there are to pick from.
fn cut(case: &Case<'_, '_>, selection: &Selection, reply: Option<&Said>) -> Option<String> {
    let (answers, policy) = (reply.map_or(0, |reply| reply.answers.len()), case.policy);
    let all = pool(selection, case.qtype);
    if answers >= all {
        return None;
    }
    let limit = case.asked.transport.reply_max(policy, case.edns);
    let is_small = case.asked.transport == Transport::Udp && limit == UDP_PAYLOAD_MIN;
    let is_srv = case.qtype == rtype::SRV;
    Some(match reply.is_some_and(Said::is_truncated) {
        true => format!("did not fit: {answers} of {all} records did; TCP has them all"),
        false if !selection.cname.is_empty() && !is_srv => {
            format!("a name has one CNAME, so one of {all} hosts is answered with at a time")
        }
        false if !is_srv && policy.a_record_limit == answers => {
            format!("dns_config.a_record_limit is {answers}")
        }
        false if is_small && policy.udp_answer_limit == answers => format!(
            "dns_config.udp_answer_limit, of 8 at most, is {answers} for replies of up to 512 bytes"
        ),
        false if case.qtype == rtype::ANY => {
            "dns.any is \"minimal\": over UDP one type is answered with".to_owned()
        }
        false => format!("{answers} of {all} records are in each reply"),
    })
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

/// The rule that leaves this health out, where it is not always left out.
fn rule(health: Health) -> &'static str {
    match health {
        Health::Critical => "",
        _ => ", and dns_config.only_passing is set",
    }
}

/// By which check.
fn by(worst: &WorstCheck, with_id: bool) -> String {
    let WorstCheck { id, name, is_of_node } = worst;
    let about = if *is_of_node { "node" } else { "service" };
    match (&**id, &**name) {
        ("serfHealth", _) => " (serfHealth: Consul's agents do not reach its node)".to_owned(),
        ("_node_maintenance", _) => " (its node is in maintenance)".to_owned(),
        (id, _) if id.starts_with("_service_maintenance:") => " (it is in maintenance)".to_owned(),
        ("", "") => format!(" (a check of its {about})"),
        ("", name) => format!(" (the {about}'s check {name:?})"),
        (id, "") => format!(" (the {about}'s check {id:?})"),
        (id, name) if with_id => format!(" (the {about}'s check {name:?}, {})", shown(id)),
        (_, name) => format!(" (the {about}'s check {name:?})"),
    }
}

/// Instances that are listed one by one. The rest is counted.
pub const LISTED_MAX: usize = 1000;
