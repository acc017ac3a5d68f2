//! The sentence that tells an operator why, and what may help.

use crate::answer::finding::Finding;
use crate::catalog::{Form, Found, Service};
use crate::explain::instances::{Instances, Verdict};
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
            Finding::Missing => self.missing(&mut hints),
            Finding::Empty => self.empty(),
            Finding::Service { .. } => self.service(question, reply, &mut hints),
            Finding::Node(_) => self.data(
                question,
                reply,
                "the node has",
                "nodes are answered whatever their health",
            ),
            Finding::Address(_) => {
                self.data(question, reply, "there is", "the name has one address")
            }
            Finding::Pointer(_) => {
                self.data(question, reply, "the address has", "it is known to the catalogue")
            }
            Finding::Apex | Finding::NameServer => {
                self.data(question, reply, "the zone has", "it is this server's own")
            }
            Finding::NotReady => {
                hints.push("See /ready for what is waited for.".to_owned());
                "Consul's lists have not been heard in full yet, so nothing can be denied"
                    .to_owned()
            }
            Finding::Unreachable => {
                hints.push("See /v1/watches and the log for what Consul says.".to_owned());
                "Consul did not answer in time, and nothing of it is in memory".to_owned()
            }
            Finding::Expired => {
                "what is in memory is older than dns_config.max_stale allows".to_owned()
            }
            Finding::Unserved => "this kind of name is not served here".to_owned(),
            Finding::Wants(_) => "Consul has to be asked first".to_owned(),
        };
        if self.case.trace.is_stale {
            hints.push(self.stale());
        }
        (format!("{}: {why}.", reply.rcode), hints)
    }

    /// Why the name does not exist.
    fn missing(&self, hints: &mut Vec<String>) -> String {
        let Self { case, meant, .. } = self;
        if let Some(error) = meant.error {
            return error.to_string();
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
                    format!("{place} has no service {name:?}; Consul lists {}", known.len())
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
        format!("there is no datacenter {name:?}; Consul knows: {}", known.join(", "))
    }

    /// Why a service that there is has nothing under this name.
    fn missing_part(&self, service: &Service, hints: &mut Vec<String>) -> String {
        let name = &service.name;
        let (Some(instances), Some(rrsets)) = (self.instances, service.rrsets.as_deref()) else {
            return format!("{name:?} has no instances");
        };
        if instances.total == 0 {
            return match self.meant.form {
                Some(Form::Service) => format!("{name:?} is listed, and has no instances"),
                Some(form) => format!("Consul has nothing for the {} {name:?}", noun(form)),
                None => format!("{name:?} has no instances"),
            };
        }
        if rrsets.all().is_empty() {
            let (all, why) = (count_of(instances.total, "instance"), reasons(instances));
            return format!("{name:?} has {all}, and none may be answered with: {why}");
        }
        if let Some(port) = &self.meant.port
            && rrsets.with_port(port.as_bytes()).is_none()
        {
            return format!(
                "no instance of {name:?} that may be answered with has a port called {port:?}"
            );
        }
        let Some(tag) = &self.meant.tag else {
            return format!("nothing of {name:?} may be answered with");
        };
        let tagged = instances
            .listed
            .iter()
            .filter(|line| line.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)));
        let tagged = tagged.filter_map(|line| line.reason.as_deref()).collect::<Vec<_>>();
        if let Some(reason) = tagged.first() {
            let count = tagged.len();
            let count = count_of(count, "instance");
            return format!(
                "{count} of {name:?} with the tag {tag:?}, and none may be answered with: {reason}"
            );
        }
        let tags: Vec<&str> = rrsets.tags().filter_map(|tag| str::from_utf8(tag).ok()).collect();
        hints.extend(did_you_mean(tag, &tags));
        let tags = match tags.len() {
            0 => "they have none".to_owned(),
            1..=TAGS_MAX => format!("there are: {}", tags.join(", ")),
            many => format!("there are {many} others"),
        };
        format!("no instance of {name:?} has the tag {tag:?}; {tags}")
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
        let Instances { total, answered, cut, .. } = instances;
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
        if out > 0 {
            text += &format!(", {out} out: {}", reasons(instances));
        }
        if *cut > 0 {
            let cut_by = instances.listed.iter().find(|line| line.verdict == Verdict::Cut);
            let why = cut_by.and_then(|line| line.reason.as_deref()).unwrap_or("cut");
            text += &format!("; {cut} not in this reply: {why}");
        }
        if reply.is_truncated() {
            hints.push(format!(
                "A reply to this client holds {} bytes over UDP; TC tells it to ask over TCP.",
                question.bytes_max
            ));
        }
        text
    }

    /// What a name has whose records are no instances'.
    fn data(&self, question: &Question, reply: &Said, has: &str, why: &str) -> String {
        match reply.answers.len() {
            0 => format!("the name exists, and has no {} record", question.rtype),
            count => {
                let records = count_of(count, &format!("{} record", question.rtype));
                format!("{has} {records}; {why}")
            }
        }
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
        let since = self.meant.service.and_then(|it| it.held.old_since(self.case.asked.now_ms));
        let of_list = || {
            let datacenter = self.case.datacenter(self.meant.datacenter.as_deref())?;
            datacenter.old_since(crate::catalog::List::Services)
        };
        let now_ms = i64::try_from(self.case.asked.now_ms).unwrap_or(i64::MAX);
        match since.or_else(of_list) {
            Some(since) => format!(
                "Stale: Consul has not borne it out for {} s; the last good answer is given.",
                seconds(now_ms.saturating_sub(since))
            ),
            None => "Stale: Consul shows some of it no more, and is not believed yet.".to_owned(),
        }
    }
}

/// The reasons for which instances are out, the most frequent first.
fn reasons(instances: &Instances) -> String {
    let mut reasons: Vec<(&String, &usize)> = instances.out.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let more = reasons.len().saturating_sub(REASONS_MAX);
    let texts = reasons.into_iter().take(REASONS_MAX);
    let mut text: Vec<String> =
        texts.map(|(reason, count)| format!("{count} × {reason}")).collect();
    if more > 0 {
        text.push(format!("and {more} other reasons"));
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

const TAGS_MAX: usize = 20;

const REASONS_MAX: usize = 3;
