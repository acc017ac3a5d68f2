//! The sentence that tells an operator why, and what may help.

use crate::answer::finding::Finding;
use crate::catalog::{Form, Found, List, Service};
use crate::explain::instances::{Instances, has_tag};
use crate::explain::reading::{Meant, Subject};
use crate::explain::said::Said;
use crate::explain::{Case, Question, noun, seconds};
use crate::nearest::nearest;

/// What the sentences are made of.
pub struct Sentences<'s, 'a> {
    /// The question and what was found.
    pub case: Case<'s, 'a>,
    /// How its name was read.
    pub meant: &'a Meant<'s>,
    /// What became of the instances.
    pub instances: Option<&'a Instances>,
}

impl Sentences<'_, '_> {
    /// The summary, and what may help.
    pub fn write(
        &self,
        question: &Question,
        reply: Option<&Said>,
        wanted: Option<String>,
    ) -> (String, Vec<String>) {
        let mut hints = Vec::new();
        let Some(reply) = reply else {
            let wanted = wanted.unwrap_or_else(|| "no reply is sent".to_owned());
            return (format!("No answer yet: {wanted}."), hints);
        };
        let why = match &self.case.trace.finding {
            _ if !KNOWN.contains(&&*reply.rcode) => self.refused(reply),
            Finding::Missing => self.missing(&mut hints),
            Finding::Empty => self.empty(),
            Finding::Service { .. } | Finding::Node(_) if reply.rcode == "SERVFAIL" => {
                self.broken(reply)
            }
            Finding::Service { .. } => self.service(question, reply, &mut hints),
            Finding::Node(_) => {
                data(question, reply, "the node has", "nodes are answered whatever their health")
            }
            Finding::Address(_) => data(question, reply, "there is", "the name has one address"),
            Finding::Pointer(_) => {
                data(question, reply, "the address has", "the catalogue knows it")
            }
            Finding::Apex | Finding::NameServer => {
                data(question, reply, "there is", "the zone is this server's own")
            }
            Finding::NotReady => self.not_ready(&mut hints),
            Finding::Unreachable => self.unreachable(&mut hints),
            Finding::Expired => self.expired(),
            Finding::Unserved => "this kind of name is not served here".to_owned(),
            Finding::Wants(_) => "Consul has to be asked first".to_owned(),
        };
        if self.case.trace.is_stale {
            hints.push(self.stale());
        }
        let is_alias = reply.answers.len() == 1 && reply.answers[0].contains(" IN CNAME ");
        if is_alias && self.case.qtype != crate::wire::rtype::CNAME {
            let target = reply.answers[0].rsplit(' ').next().unwrap_or_default();
            hints.push(format!(
                "It is an alias of {target}, of which no such record is known here: with `recursors` \
                 it is looked up."
            ));
        }
        (format!("{}: {why}.", reply.rcode), hints)
    }

    /// A question that is not even looked up.
    fn refused(&self, reply: &Said) -> String {
        let why = reply.error.as_ref().map(|error| error.text.clone());
        why.unwrap_or_else(|| "this type of question is answered by no name".to_owned())
    }

    /// An alias that cannot be followed.
    fn broken(&self, reply: &Said) -> String {
        let why = reply.error.as_ref().map(|error| format!(" ({})", error.text));
        let why = why.unwrap_or_default();
        format!("the alias leads to itself, or to a name that cannot be told of at present{why}")
    }

    fn not_ready(&self, hints: &mut Vec<String>) -> String {
        match (&self.meant.datacenter, self.case.datacenter(None)) {
            (Some(name), Some(_)) => {
                hints.push(format!("What Consul says of {name} is below, and in the log."));
                format!(
                    "nothing has been heard of the datacenter {name:?} yet, so nothing is denied"
                )
            }
            _ => {
                hints.push(
                    "The log says what Consul answers, /ready what is waited for.".to_owned(),
                );
                "the lists have not been heard in full yet, so nothing can be denied".to_owned()
            }
        }
    }

    fn unreachable(&self, hints: &mut Vec<String>) -> String {
        let what = match self.meant.form {
            None | Some(Form::Service) => "it is not in memory",
            Some(_) => {
                hints.push(
                    "Names of this kind are asked of Consul one by one, \
                     cache.unlisted_per_second at most."
                        .to_owned(),
                );
                "no list has names of this kind, and it is not in memory"
            }
        };
        hints.push(
            "Consul may be away, too many may wait, or a hold lasts: see /ready?verbose."
                .to_owned(),
        );
        format!("{what}, and nothing that can be believed was heard of it in time")
    }

    fn expired(&self) -> String {
        let age =
            self.old_since().map(|since| format!("is {} s old, which ", self.secs_since(since)));
        format!(
            "what is in memory {}is more than dns_config.max_stale allows",
            age.unwrap_or_default()
        )
    }

    /// Why the name does not exist.
    fn missing(&self, hints: &mut Vec<String>) -> String {
        let Self { case, meant, .. } = self;
        if let Some(error) = meant.error {
            return error.to_string();
        }
        if meant.is_of_peer && meant.subject != Subject::Service {
            return "of a peer only what it exports is known, its services".to_owned();
        }
        if let Some(name) = &meant.datacenter
            && case.datacenter(Some(name)).is_none()
        {
            return self.missing_datacenter(name, hints);
        }
        let Some(datacenter) = case.datacenter(meant.datacenter.as_deref()) else {
            return "there is no such name".to_owned();
        };
        let place = &datacenter.name;
        match (meant.subject, &meant.name, meant.form) {
            (Subject::Node, Some(name), _) => {
                let known: Vec<&str> = datacenter.node_names().collect();
                hints.extend(did_you_mean(name, &known));
                format!("{place} has no node {name:?}; it has {}", known.len())
            }
            (Subject::Kind, Some(name), _) => {
                let names: Vec<&str> = case.snapshot.datacenters().map(|it| &*it.name).collect();
                hints.extend(did_you_mean(name, &names));
                hints.push(format!("For a service, ask for {name}.service or {name}.{place}."));
                format!("{name:?} is no datacenter; there are: {}", names.join(", "))
            }
            (Subject::Reverse, ..) => {
                "no node and no service that is known has this address".to_owned()
            }
            (_, Some(name), Some(form)) => match meant.service {
                Some(service) => self.missing_part(service, hints),
                None if form == Form::Service => {
                    let known: Vec<&str> = datacenter.services().map(|it| &*it.name).collect();
                    hints.extend(did_you_mean(name, &known));
                    hints.extend(self.elsewhere(name));
                    format!("{place} has no service {name:?}; it has {}", known.len())
                }
                None => format!("{place} has no {} {name:?}", noun(form)),
            },
            _ => "there is no such name".to_owned(),
        }
    }

    fn missing_datacenter(&self, name: &str, hints: &mut Vec<String>) -> String {
        let known: Vec<&str> = self.case.snapshot.datacenters().map(|it| &*it.name).collect();
        hints.extend(did_you_mean(name, &known));
        // `v1.web` below the zone reads as a service of the datacenter `web`.
        if let (Some(local), None, Some(first)) =
            (self.case.datacenter(None), &self.meant.tag, &self.meant.name)
            && let Found::Here(service) = local.service(name.as_bytes())
        {
            let (service, place) = (&service.name, &local.name);
            hints.push(format!(
                "{service:?} is a service of {place}: is {first}.{service}.service meant?"
            ));
        }
        format!("there is no datacenter {name:?}; there are: {}", known.join(", "))
    }

    /// Why a service that there is has nothing under this name.
    fn missing_part(&self, service: &Service, hints: &mut Vec<String>) -> String {
        let (name, meant) = (service.name.split('\0').next().unwrap_or_default(), self.meant);
        let (Some(instances), Some(rrsets)) = (self.instances, service.rrsets.as_deref()) else {
            return self.nothing_of(name);
        };
        if instances.total == 0 {
            return self.nothing_of(name);
        }
        let why = || reasons(instances);
        if rrsets.all().is_empty() && instances.meant > 0 {
            let all = count_of(instances.total, "instance");
            return format!("{name:?} has {all}, and none may be answered with: {}", why());
        }
        if meant.is_virtual {
            return format!(
                "no instance of {name:?} tells an address for the mesh (the tagged address \
                 consul-virtual, of Consul 1.11 and later)"
            );
        }
        if instances.meant > 0 {
            let which = match (&meant.tag, &meant.port) {
                (Some(tag), _) => format!(" with the tag {tag:?}"),
                (None, Some(port)) => format!(" with the port {port:?}"),
                (None, None) => String::new(),
            };
            let count = count_of(instances.meant, "instance");
            let why = reasons_of(instances, |reason| !is_unmeant(reason));
            return format!("{count} of {name:?}{which}, and none may be answered with: {why}");
        }
        if let (Some(port), None) = (&meant.port, &meant.tag) {
            return format!("no instance of {name:?} has a port called {port:?}");
        }
        let Some(tag) = &meant.tag else {
            return format!("nothing of {name:?} may be answered with");
        };
        self.missing_tag(service, tag, hints)
    }

    fn missing_tag(&self, service: &Service, tag: &str, hints: &mut Vec<String>) -> String {
        let name = &service.name;
        let tags = service.instances.iter().flat_map(|instance| &instance.tags);
        let mut tags: Vec<String> = tags.map(|tag| tag.to_ascii_lowercase()).collect();
        tags.sort_unstable();
        tags.dedup();
        let known: Vec<&str> = tags.iter().map(String::as_str).collect();
        hints.extend(did_you_mean(tag, &known));
        let there = match known.len() {
            0 => "they have none".to_owned(),
            1..=TAGS_MAX => {
                let shown: Vec<String> = known.iter().map(|tag| format!("{tag:?}")).collect();
                format!("there are: {}", shown.join(", "))
            }
            many => format!("there are {many} others"),
        };
        match tag.contains('.') && !service.instances.iter().any(|one| has_tag(one, tag)) {
            true => format!(
                "no instance of {name:?} has the tag {tag:?}, nor all of its parts; {there}"
            ),
            false => format!("no instance of {name:?} has the tag {tag:?}; {there}"),
        }
    }

    /// Why a service that is known has no instances.
    fn nothing_of(&self, name: &str) -> String {
        let datacenter = self.case.datacenter(self.meant.datacenter.as_deref());
        let queries = datacenter.and_then(|datacenter| datacenter.queries());
        match self.meant.form {
            Some(Form::Query) => match queries.map(|queries| queries.find(name.as_bytes())) {
                Some(None) => format!("there is no prepared query {name:?}"),
                Some(Some(_)) => format!(
                    "Consul executed the prepared query {name:?} and found no instance that it \
                     takes for healthy"
                ),
                None => format!(
                    "Consul found nothing for the prepared query {name:?}, or has none of this name"
                ),
            },
            Some(Form::Service) => format!("{name:?} is listed, and has no instances"),
            Some(form) => format!("there is no {} {name:?}", noun(form)),
            None => format!("{name:?} has no instances"),
        }
    }

    /// Why there is a name and no record.
    fn empty(&self) -> String {
        match (&self.meant.service, &self.meant.name) {
            (Some(service), _) => {
                format!("the name has no records; names below it do, of {:?}", service.name)
            }
            (None, Some(name)) => format!("{name:?} has no records; names below it do"),
            (None, None) => "the name has no records; names below it do".to_owned(),
        }
    }

    fn service(&self, question: &Question, reply: &Said, hints: &mut Vec<String>) -> String {
        let Some(instances) = self.instances else {
            return "the service has instances that may be answered with".to_owned();
        };
        let Instances { total, answered, cut, cut_by, .. } = instances;
        let rtype = &question.rtype;
        if reply.answers.is_empty() {
            return match reply.is_truncated() {
                true => format!(
                    "none of its records fits in {} bytes; TCP has them",
                    question.bytes_max
                ),
                false => {
                    hints.extend(self.other_types(rtype));
                    format!("the name exists, and has no {rtype} record: {}", reasons(instances))
                }
            };
        }
        let out = total - answered - cut;
        let mut text = format!("{answered} of {} in the answer", count_of(*total, "instance"));
        if *answered != reply.answers.len() && *cut == 0 {
            text +=
                &format!(" ({}, as some share theirs)", count_of(reply.answers.len(), "record"));
        }
        if out > 0 {
            text += &format!(", {out} out: {}", reasons(instances));
        }
        if let Some(cut_by) = cut_by {
            text += &format!("; {cut} not in this reply: {cut_by}");
        }
        if reply.is_truncated() {
            hints.push(format!(
                "A reply to this client holds {} bytes over UDP; TC tells it to ask over TCP.",
                question.bytes_max
            ));
        }
        text
    }

    /// Where else there is a service of this name.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let key = name.to_ascii_lowercase();
        let has = self
            .case
            .snapshot
            .datacenters()
            .filter(|datacenter| matches!(datacenter.service(key.as_bytes()), Found::Here(_)));
        let names: Vec<&str> = has.map(|datacenter| &*datacenter.name).collect();
        (!names.is_empty())
            .then(|| format!("There is a service {name:?} in: {}.", names.join(", ")))
    }

    /// What the name has records of instead.
    fn other_types(&self, rtype: &str) -> Option<String> {
        let Finding::Service { selection, .. } = &self.case.trace.finding else { return None };
        let known = [
            ("A", selection.a.len()),
            ("AAAA", selection.aaaa.len()),
            ("CNAME", selection.cname.len()),
            ("SRV", selection.srv.len()),
        ];
        let known = known.iter().filter(|(name, count)| *count > 0 && *name != rtype);
        let names: Vec<&str> = known.map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| format!("It has records of type {}.", names.join(", ")))
    }

    fn stale(&self) -> String {
        match self.old_since() {
            Some(since) => format!(
                "Stale: Consul has not borne it out for {} s; the last good answer is given.",
                self.secs_since(since)
            ),
            None => "Stale: Consul shows some of it no more; it is held back for guard.hold, \
                     see /ready?verbose."
                .to_owned(),
        }
    }

    /// Since when what was found may be old.
    fn old_since(&self) -> Option<i64> {
        let Self { case, meant, .. } = self;
        let of_service = meant.service.and_then(|it| it.held.old_since(case.asked.now_ms));
        let list = if meant.subject == Subject::Node { List::Nodes } else { List::Services };
        let of_list = || {
            let own = case.datacenter(meant.datacenter.as_deref());
            own.or_else(|| case.datacenter(None))?.old_since(list)
        };
        of_service.or_else(of_list)
    }

    fn secs_since(&self, since: i64) -> u64 {
        let now_ms = i64::try_from(self.case.asked.now_ms).unwrap_or(i64::MAX);
        seconds(now_ms.saturating_sub(since))
    }
}

/// What a name has whose records are no instances'.
fn data(question: &Question, reply: &Said, has: &str, why: &str) -> String {
    let types = reply.answers.iter().filter_map(|line| line.split(' ').nth(3));
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    types.for_each(|rtype| *counts.entry(rtype).or_default() += 1);
    if counts.is_empty() {
        return format!("the name exists, and has no {} record", question.rtype);
    }
    let counts =
        counts.into_iter().map(|(rtype, count)| count_of(count, &format!("{rtype} record")));
    format!("{has} {}; {why}", counts.collect::<Vec<_>>().join(", "))
}

/// The reasons for which instances are out, the most frequent first.
fn reasons(instances: &Instances) -> String {
    reasons_of(instances, |_| true)
}

/// Whether an instance is not even asked for.
fn is_unmeant(reason: &str) -> bool {
    reason.starts_with("without the tag") || reason.starts_with("without a port")
}

fn reasons_of(instances: &Instances, is_one: impl Fn(&str) -> bool) -> String {
    let all = instances.out.iter().filter(|(reason, _)| is_one(reason));
    let mut reasons: Vec<(&String, &usize)> = all.collect();
    reasons.sort_by_key(|(reason, count)| (is_unmeant(reason), std::cmp::Reverse(**count)));
    let more = reasons.len().saturating_sub(REASONS_MAX);
    let texts = reasons.into_iter().take(REASONS_MAX);
    let mut text: Vec<String> = texts.map(|(reason, count)| format!("{count} {reason}")).collect();
    match more {
        0 => (),
        1 => text.push("and one other reason".to_owned()),
        more => text.push(format!("and {more} other reasons")),
    }
    text.join("; ")
}

/// `1 instance`, `2 instances`.
fn count_of(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn did_you_mean(written: &str, known: &[&str]) -> Option<String> {
    nearest(written, known.iter().copied()).map(|meant| format!("Is {meant:?} meant?"))
}

/// What is said of questions that are looked up.
const KNOWN: [&str; 3] = ["NOERROR", "NXDOMAIN", "SERVFAIL"];

const TAGS_MAX: usize = 20;

const REASONS_MAX: usize = 3;
