//! Names that Consul 1.8.7 denies, and which of its own names they are the same as.

use crate::differential::judge::Look;
use crate::differential::name::Labels;
use crate::differential::names::{self, Form};
use crate::differential::reply::{Line, Reply};
use crate::differential::rules::Step;

/// `web.dc1` is `web.service.dc1`.
pub fn short(look: &Look<'_>, reply: &Reply) -> Step {
    same_as(look, reply, &[Form::Short])
}

/// `_web._tcp` is `_web._tcp.service` and `_web` is `_web.service`, for SRV in Consul too.
pub fn marked(look: &Look<'_>, reply: &Reply) -> Step {
    same_as(look, reply, &[Form::Marked])
}

/// A label with a space is a label; Consul looks up its escaped text.
pub fn escaped(look: &Look<'_>, reply: &Reply) -> Step {
    same_as(look, reply, &[Form::Escaped, Form::EscapedNode])
}

/// `a.b.web`, where no instance has the tag `a.b`, are the instances of `web` that have both tags.
pub fn tag_pair(look: &Look<'_>, reply: &Reply) -> Step {
    same_as(look, reply, &[Form::TagPair])
}

/// `web.service.dc1.dc` is `web.service.dc1`, as in Consul since 1.11.
pub fn scope_words(look: &Look<'_>, reply: &Reply) -> Step {
    same_as(look, reply, &[Form::ScopeWords])
}

/// `_q._tcp.query`, which Consul has since 1.14, is `q.query`.
pub fn marked_query(look: &Look<'_>, reply: &Reply) -> Step {
    same_as(look, reply, &[Form::QueryMarked])
}

/// Consul 1.8.7 names its first domain in targets and SOA, whatever domain was asked.
pub fn alt_domain(look: &Look<'_>, reply: &Reply) -> Step {
    if !matches!(look.case.subject.form, Form::AltDomain | Form::AltNode) {
        return Step::None;
    }
    let mut reply = reply.clone();
    let (zone, alt) = (names::zone(), Labels::new(names::ALT_DOMAIN));
    let into_alt = |name: &Labels| {
        let head = name.labels().len().saturating_sub(zone.labels().len());
        match name.last(zone.labels().len()) == zone {
            true => Labels::from_labels(&name.labels()[..head]).below(&alt),
            false => name.clone(),
        }
    };
    for line in reply.sections_mut().into_iter().flatten() {
        line.owner = into_alt(&line.owner);
        if line.rtype == "SRV" || line.rtype == "SOA" {
            let (old, new) = (format!(".{zone}"), format!(".{alt}"));
            line.data = line.data.replace(&old, &new);
        }
    }
    Step::To(reply)
}

/// What Consul says to the name that this one is the same as, owned by this one.
fn same_as(look: &Look<'_>, reply: &Reply, forms: &[Form]) -> Step {
    let subject = &look.case.subject;
    let Some(same) = subject.same.as_ref().filter(|_| forms.contains(&subject.form)) else {
        return Step::None;
    };
    // Without a look at the catalogue Consul says NOERROR to some types of a node.
    let has_nothing = reply.rcode == "NOERROR" && reply.is_bare() && subject.form.is_of_node();
    if !reply.denies() && !has_nothing {
        return Step::None;
    }
    let mut reply = look.run.whole(same, look.qtype).clone();
    if reply.denies() {
        return Step::None;
    }
    let own = |line: &mut Line| {
        if line.owner == *same {
            line.owner = subject.name.clone();
        }
    };
    reply.sections_mut().into_iter().flatten().for_each(own);
    Step::To(reply)
}
