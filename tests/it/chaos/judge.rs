//! What must hold of every reply, whatever happens to Consul.
//!
//! - Every question is answered, but for those to a fingerpost that has just been killed.
//! - No reply is late that comes from memory.
//! - What Consul's last good catalogue has is not denied, and once it was heard, not refused.
//! - What Consul never had is denied.
//! - No instance is answered that a healthy Consul has shown critical for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::time::Instant;

use crate::chaos::served::{Sample, Served};
use crate::chaos::stream::{Exchange, Kind, Reply};
use crate::chaos::times::{CRITICAL_WITHIN, Times};
use crate::chaos::voice::address;
use crate::chaos::world::{WAVERING, WAVERING_NODE};

/// What the replies of one fingerpost come to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many questions were asked.
    pub questions: usize,
    /// The longest that a reply from memory took.
    pub slowest: Duration,
    /// How many said SERVFAIL.
    pub failed: usize,
    /// How often each rule was broken, and how it was at first.
    pub complaints: BTreeMap<&'static str, (usize, String)>,
}

/// What is known beside the exchanges.
#[derive(Debug)]
struct Witness<'s> {
    served: &'s Served,
    times: Times,
    samples: Vec<Sample>,
}

/// Judges what became of the questions to `served` since it was judged last.
pub fn judge(served: &Served, times: Times, begun: Instant) -> Verdict {
    let witness = Witness { served, times, samples: served.samples() };
    let mut verdict = Verdict::default();
    for exchange in served.take() {
        verdict.questions += 1;
        if let Some(reply) = &exchange.reply {
            let kind = served.questions[exchange.question].kind;
            if kind != Kind::OnDemand {
                verdict.slowest = verdict.slowest.max(reply.after);
            }
            verdict.failed += usize::from(reply.code == ResponseCode::ServFail);
        }
        if let Some(rule) = witness.broken_rule(&exchange) {
            let broken = verdict.complaints.entry(rule).or_insert_with(|| {
                let question = &served.questions[exchange.question];
                let at = exchange.sent.saturating_duration_since(begun);
                let reply = &exchange.reply;
                (0, format!("{} {} at {at:.1?}: {reply:?}", question.name, question.qtype))
            });
            broken.0 += 1;
        }
    }
    verdict
}

impl Witness<'_> {
    /// The rule that an exchange breaks, if it does.
    fn broken_rule(&self, exchange: &Exchange) -> Option<&'static str> {
        let question = &self.served.questions[exchange.question];
        let Some(reply) = &exchange.reply else {
            return (!self.is_dead(exchange.sent)).then_some("a question was not answered");
        };
        let is_ready = self.is_ready(exchange.sent);
        let patience = match question.kind {
            Kind::OnDemand => ON_DEMAND_PATIENCE,
            // What is not heard yet may be waited for.
            _ if !is_ready => ON_DEMAND_PATIENCE,
            Kind::Absent | Kind::Kept => Duration::ZERO,
        };
        if reply.after > self.times.reply_within + patience {
            return Some("a reply was late");
        }
        match (question.kind, reply.code) {
            (_, ResponseCode::ServFail) if !is_ready => None,
            (Kind::Absent, ResponseCode::NXDomain) => None,
            (Kind::Absent, _) => Some("what never was is not denied"),
            (_, ResponseCode::NXDomain) if self.is_lacking(exchange.sent) => None,
            (_, ResponseCode::NXDomain) => Some("what Consul has was denied"),
            (_, ResponseCode::NoError) if reply.answers > 0 => self.critical(exchange, reply),
            _ => Some("what was heard is not answered"),
        }
    }

    fn critical(&self, exchange: &Exchange, reply: &Reply) -> Option<&'static str> {
        let question = &self.served.questions[exchange.question];
        let is_shown = question.name.starts_with(WAVERING)
            && reply.addresses.contains(&address(WAVERING_NODE));
        let is_wrong =
            is_shown && self.is_heard(exchange.sent) && self.was_critical(exchange.sent);
        is_wrong.then_some("an instance was answered that has long been critical")
    }

    /// Whether Consul has shown the instance that wavers critical for longer than it may take to
    /// show here, without a break and also just after `at`.
    fn was_critical(&self, at: Instant) -> bool {
        let Some(since) = at.checked_sub(CRITICAL_WITHIN) else { return false };
        let before = self.samples.partition_point(|sample| sample.at < since);
        let after = self.samples.partition_point(|sample| sample.at <= at);
        let Some(seen) = self.samples.get(before.saturating_sub(1)..=after) else { return false };
        seen.iter().all(|sample| sample.is_critical == Some(true))
            && seen.windows(2).all(|two| two[1].at - two[0].at < GAP)
    }

    /// Whether nothing was wrong with Consul, nor with the way to it, for as long as that takes.
    fn is_heard(&self, at: Instant) -> bool {
        let overlaps = |(from, until): &(Instant, Option<Instant>)| {
            *from <= at && until.is_none_or(|until| at < until + CRITICAL_WITHIN)
        };
        !self.served.unheard.iter().any(overlaps)
    }

    fn is_dead(&self, at: Instant) -> bool {
        self.served.deaths.iter().any(|death| {
            // What had arrived and was not answered yet dies too.
            death.killed <= at + UNDER_WAY && death.bound.is_none_or(|bound| at < bound)
        })
    }

    fn is_ready(&self, at: Instant) -> bool {
        !self.served.deaths.iter().any(|death| {
            death.killed <= at && death.ready.is_none_or(|ready| at < ready)
        })
    }

    fn is_lacking(&self, at: Instant) -> bool {
        self.served.lacking.iter().any(|(from, until)| (*from..*until).contains(&at))
    }
}

/// What a question waits for Consul at most, see `cache.patience`.
const ON_DEMAND_PATIENCE: Duration = Duration::from_secs(1);

/// Consul is looked at more often than this, or it is not known what it showed.
const GAP: Duration = Duration::from_millis(600);

/// How long a question may be under way on a busy machine.
const UNDER_WAY: Duration = Duration::from_millis(500);
