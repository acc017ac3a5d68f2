//! Whether a reply of ours is what it has to be, given Consul's.
//!
//! ```text
//!   Consul's whole answer --> rule, rule, ... --> what ours is made of
//!   Consul's own reply    --> is part of its whole answer, as far as its limits let it
//!   our reply             --> is all of what it is made of, as far as our limits let it
//! ```
//! A rule recognizes what Consul says to a form and a type, and says what we say instead; what no
//! rule recognizes stays as Consul says it. So a difference is explained by the set of rules that
//! lead from the one reply to the other, and by nothing else.

use hickory_proto::rr::RecordType;

use crate::differential::limits;
use crate::differential::pending::PENDING;
use crate::differential::reply::Reply;
use crate::differential::rules::{RULES, Step};
use crate::differential::run::{Case, Run};
use crate::differential::wire;

/// What the judge says of one question.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong, a line each.
    pub complaints: Vec<String>,
    /// The rules that were needed.
    pub rules: Vec<&'static str>,
    /// What is known not to be done yet, where that is why there are no complaints.
    pub pending: Option<&'static str>,
}

/// What a rule is shown.
#[derive(Clone, Copy)]
pub struct Look<'r> {
    /// All about this seed.
    pub run: &'r Run,
    /// The question and both replies.
    pub case: &'r Case,
    /// The type, which a rule may ask about another than the case's.
    pub qtype: RecordType,
}

impl Look<'_> {
    /// What our reply would be made of, were this type asked.
    pub fn as_asked_for(&self, qtype: RecordType) -> Reply {
        made_of(&Look { qtype, ..*self }, &mut Vec::new())
    }
}

/// Judges `case`.
pub fn judge(run: &Run, case: &Case) -> Verdict {
    let mut verdict = strictly(run, case);
    if !verdict.complaints.is_empty() {
        let pending = PENDING.iter().find(|pending| (pending.explains)(run, case));
        if let Some(pending) = pending {
            verdict = Verdict { pending: Some(pending.name), ..Verdict::default() };
        }
    }
    verdict
}

/// Judges `case` by the rules alone.
pub fn strictly(run: &Run, case: &Case) -> Verdict {
    let mut verdict = Verdict::default();
    let Verdict { complaints, rules, .. } = &mut verdict;
    let look = Look { run, case, qtype: case.qtype };
    let expected = match wire::refusal(run, case, rules) {
        Some(Ok(expected)) => expected,
        Some(Err(complaint)) => {
            complaints.push(complaint);
            return verdict;
        }
        None => {
            limits::check_consul(&look, complaints);
            let mut expected = made_of(&look, rules);
            wire::carry_flags(case.carrier, &mut expected);
            expected
        }
    };
    compare(&expected, case, complaints);
    limits::check_ours(&look, &expected, complaints, rules);
    wire::check_opt(case, complaints, rules);
    rules.sort_unstable();
    rules.dedup();
    verdict
}

/// What our replies are made of: Consul's whole answer, as the rules change it.
pub fn made_of(look: &Look<'_>, rules: &mut Vec<&'static str>) -> Reply {
    let mut reply = look.run.whole(&look.case.subject.name, look.qtype).clone();
    for rule in &RULES {
        let step = (rule.apply)(look, &reply);
        let (next, ends) = match step {
            Step::None => continue,
            Step::To(next) => (next.sorted(), false),
            Step::End(next) => (next.sorted(), true),
        };
        if next != reply || ends {
            rules.push(rule.name);
        }
        reply = next;
        if ends {
            break;
        }
    }
    reply
}

/// Compares all but what limits may leave out.
fn compare(expected: &Reply, case: &Case, complaints: &mut Vec<String>) {
    let ours = &case.ours;
    let mut differ = |what: &str, expected: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
        complaints.push(format!("{what}: {ours:?}, not {expected:?}"));
    };
    if ours.rcode != expected.rcode {
        differ("rcode", &expected.rcode, &ours.rcode);
    }
    let flags = |reply: &Reply| {
        let all = reply.flags.iter().copied();
        all.filter(|flag| *flag != "tc").collect::<Vec<_>>()
    };
    if flags(ours) != flags(expected) {
        differ("flags", &flags(expected), &flags(ours));
    }
    let question = wire::question_text(case);
    if ours.question != question {
        differ("question", &question, &ours.question);
    }
    if ours.authority != expected.authority {
        differ("authority", &expected.authority, &ours.authority);
    }
}
