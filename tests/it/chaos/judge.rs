//! What must hold of every reply, whatever happens to Consul.
//!
//! - Every question is answered, but for those to a fingerpost that has just been killed.
//! - No reply is late that comes from memory, unless the whole machine is.
//! - What Consul's last good catalogue has is answered.
//! - What Consul never had is denied.
//! - No instance is answered that a healthy Consul has shown critical for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::time::Instant;

use crate::chaos::account::Account;
use crate::chaos::stream::{Exchange, Kind, Reply};
use crate::chaos::times::{CRITICAL_WITHIN, Times};
use crate::chaos::voice::address;
use crate::chaos::world::{WAVERING, WAVERING_NODE};

/// What the replies of one fingerpost come to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many questions were asked.
    pub questions: usize,
    /// The longest that a reply took whose name was in memory for sure, of a machine that was not busy.
    pub slowest: Duration,
    /// How many said SERVFAIL.
    pub failed: usize,
    /// How many could have shown an instance that had long been critical.
    pub hidden: usize,
    /// How often each rule was broken, and how it was at first.
    pub complaints: BTreeMap<&'static str, (usize, String)>,
}

/// Judges what became of the questions. `begun` is where the time of complaints begins.
pub fn judge(account: &Account, exchanges: &[Exchange], times: Times, begun: Instant) -> Verdict {
    let mut verdict = Verdict { questions: exchanges.len(), ..Verdict::default() };
    for exchange in exchanges {
        let question = &account.questions[exchange.question];
        if let Some(reply) = &exchange.reply {
            let is_busy = account.is_busy(exchange.sent, exchange.sent + reply.after);
            if question.kind != Kind::OnDemand && account.is_ready(exchange.sent) && !is_busy {
                verdict.slowest = verdict.slowest.max(reply.after);
            }
            verdict.failed += usize::from(reply.code == ResponseCode::ServFail);
        }
        verdict.hidden += usize::from(is_hiding(account, exchange));
        let Some(rule) = broken_rule(account, times, exchange) else { continue };
        let broken = verdict.complaints.entry(rule).or_insert_with(|| {
            let at = exchange.sent.saturating_duration_since(begun);
            let reply = &exchange.reply;
            (0, format!("{} {} at {at:.1?}: {reply:?}", question.name, question.qtype))
        });
        broken.0 += 1;
    }
    verdict
}

/// The rule that an exchange breaks, if it does.
fn broken_rule(account: &Account, times: Times, exchange: &Exchange) -> Option<&'static str> {
    let question = &account.questions[exchange.question];
    let sent = exchange.sent;
    let Some(reply) = &exchange.reply else {
        return (!account.is_dead(sent)).then_some("a question was not answered");
    };
    let is_ready = account.is_ready(sent);
    let patience = match question.kind {
        Kind::OnDemand => ON_DEMAND_PATIENCE,
        // What is not heard yet may be waited for.
        Kind::Absent | Kind::Kept if !is_ready => ON_DEMAND_PATIENCE,
        Kind::Absent | Kind::Kept => Duration::ZERO,
    };
    let is_late = reply.after > times.reply_within + patience;
    // Work comes in bursts, and not to all processors at once.
    let near = Duration::from_millis(500);
    if is_late && !account.is_busy(sent.checked_sub(near)?, sent + reply.after + near) {
        return Some("a reply was late");
    }
    match (question.kind, reply.code) {
        (_, ResponseCode::ServFail) if !is_ready => None,
        (Kind::Absent, ResponseCode::NXDomain) => None,
        (Kind::Absent, _) => Some("what never was is not denied"),
        (_, ResponseCode::NXDomain) if account.is_lacking(sent) => None,
        (_, ResponseCode::NXDomain) => Some("what Consul has was denied"),
        (_, ResponseCode::NoError) if reply.answers > 0 => critical(account, exchange, reply),
        _ => Some("what was heard is not answered"),
    }
}

fn critical(account: &Account, exchange: &Exchange, reply: &Reply) -> Option<&'static str> {
    let is_shown = reply.addresses.contains(&address(WAVERING_NODE));
    let is_wrong = is_shown && is_hiding(account, exchange);
    is_wrong.then_some("an instance was answered that has long been critical")
}

/// Whether the reply must leave the instance out that wavers.
fn is_hiding(account: &Account, exchange: &Exchange) -> bool {
    let is_asked = account.questions[exchange.question].name.starts_with(WAVERING);
    let at = exchange.sent;
    let Some(since) = at.checked_sub(CRITICAL_WITHIN).filter(|_| is_asked) else { return false };
    account.is_heard(since, at) && account.was_critical(since, at)
}

/// What a question waits for Consul at most, see `cache.patience`.
const ON_DEMAND_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::chaos::account::{Death, Sample};
    use crate::chaos::stream::Question;

    /// What is wrong with a reply to `name` ten seconds after the start of an account of a minute.
    #[derive(Clone, Debug)]
    struct Case {
        account: Account,
        start: Instant,
        exchange: Exchange,
    }

    impl Case {
        fn new(kind: Kind, name: &str, code: ResponseCode, addresses: &[u8]) -> Self {
            let start = Instant::now();
            let addresses: Vec<_> = addresses.iter().map(|node| address(*node)).collect();
            let reply = Reply {
                after: Duration::from_millis(1),
                code,
                answers: addresses.len(),
                addresses,
            };
            let questions = vec![Question::new(kind, name, RecordType::A)];
            Self {
                account: Account { questions, ..Account::default() },
                start,
                exchange: Exchange { question: 0, sent: start + secs(10.0), reply: Some(reply) },
            }
        }

        fn at(&self, at: f64) -> Instant {
            self.start + secs(at)
        }

        fn rule(&self) -> &'static str {
            broken_rule(&self.account, TIMES, &self.exchange).unwrap_or("none")
        }

        /// The instance that wavers is critical from `from` until `until`.
        fn critical(mut self, from: f64, until: f64) -> Self {
            let samples = (0..200).map(|number| f64::from(number) / 10.0).map(|at| Sample {
                at: self.start + secs(at),
                is_critical: Some((from..until).contains(&at)),
            });
            self.account.samples = samples.collect();
            self
        }
    }

    const TIMES: Times = Times {
        reply_within: Duration::from_millis(100),
        hold: Duration::ZERO,
        hang: Duration::ZERO,
        guard_hold: Duration::ZERO,
        is_long: true,
    };

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn each_kind_of_name_has_its_answers() {
        use Kind::{Absent, Kept, OnDemand};
        use ResponseCode::{NXDomain, NoError, ServFail};
        for (kind, code, addresses, expected) in [
            (Kept, NoError, &[1][..], "none"),
            (Kept, NoError, &[], "what was heard is not answered"),
            (Kept, ServFail, &[], "what was heard is not answered"),
            (Kept, NXDomain, &[], "what Consul has was denied"),
            (OnDemand, NXDomain, &[], "what Consul has was denied"),
            (OnDemand, ServFail, &[], "what was heard is not answered"),
            (Absent, NXDomain, &[], "none"),
            (Absent, ServFail, &[], "what never was is not denied"),
        ] {
            assert_eq!(Case::new(kind, "app", code, addresses).rule(), expected, "{kind:?} {code}");
        }
    }

    #[test]
    fn a_reply_has_its_time() {
        let mut case = Case::new(Kind::Kept, "app", ResponseCode::NoError, &[1]);
        let take = |case: &mut Case, after| {
            case.exchange.reply.as_mut().unwrap().after = secs(after);
            case.rule()
        };
        assert_eq!(take(&mut case, 0.1), "none");
        assert_eq!(take(&mut case, 0.2), "a reply was late");
        // Where the whole machine is late, it is no wonder.
        case.account.busy = vec![(case.at(10.1), case.at(10.2))];
        assert_eq!(take(&mut case, 0.2), "none");
        case.account.busy = vec![(case.at(9.0), case.at(9.4))];
        assert_eq!(take(&mut case, 0.2), "a reply was late");
        case.account.questions[0].kind = Kind::OnDemand;
        assert_eq!(take(&mut case, 1.1), "none");
        assert_eq!(take(&mut case, 1.2), "a reply was late");
        case.exchange.reply = None;
        assert_eq!(case.rule(), "a question was not answered");
    }

    #[test]
    fn the_dead_need_not_answer_nor_the_newborn_know() {
        let mut case = Case::new(Kind::Kept, "app", ResponseCode::ServFail, &[]);
        let die = |case: &mut Case, bound: f64, ready: f64| {
            let (killed, bound, ready) = (case.at(9.0), case.at(bound), case.at(ready));
            case.account.deaths = vec![Death { killed, bound: Some(bound), ready: Some(ready) }];
            case.rule()
        };
        assert_eq!(die(&mut case, 9.5, 10.5), "none");
        assert_eq!(die(&mut case, 9.5, 9.8), "what was heard is not answered");
        case.exchange.reply.as_mut().unwrap().code = ResponseCode::NXDomain;
        assert_eq!(die(&mut case, 9.5, 10.5), "what Consul has was denied");
        case.exchange.reply = None;
        assert_eq!(die(&mut case, 10.5, 11.0), "none");
        assert_eq!(die(&mut case, 9.5, 11.0), "a question was not answered");
    }

    #[test]
    fn a_catalogue_without_a_name_may_be_believed() {
        let mut case = Case::new(Kind::Kept, "app", ResponseCode::NXDomain, &[]);
        let lack = |case: &mut Case, from, until| {
            case.account.lacking = vec![(case.at(from), Some(case.at(until)))];
            case.rule()
        };
        assert_eq!(lack(&mut case, 9.0, 11.0), "none");
        assert_eq!(lack(&mut case, 10.1, 11.0), "what Consul has was denied");
        assert_eq!(lack(&mut case, 8.0, 9.9), "what Consul has was denied");
    }

    #[test]
    fn an_instance_may_be_critical_for_two_seconds() {
        let wrong = "an instance was answered that has long been critical";
        let case = Case::new(Kind::Kept, WAVERING, ResponseCode::NoError, &[1, WAVERING_NODE]);
        for (from, until, expected) in [
            (7.0, 20.0, wrong),
            (8.5, 20.0, "none"),
            // It may have been told a moment ago that it is well.
            (5.0, 10.05, "none"),
            (30.0, 31.0, "none"),
        ] {
            assert_eq!(case.clone().critical(from, until).rule(), expected, "{from} {until}");
        }
        let mut unheard = case.clone().critical(7.0, 20.0);
        unheard.account.unheard = vec![(case.at(5.0), Some(case.at(9.0)))];
        assert_eq!(unheard.rule(), "none");
        unheard.account.unheard = vec![(case.at(5.0), Some(case.at(7.5)))];
        assert_eq!(unheard.rule(), wrong);
        let mut unseen = case.critical(7.0, 20.0);
        unseen.account.samples.retain(|sample| sample.at < unseen.start + secs(9.0));
        assert_eq!(unseen.rule(), "none");
        let mut hidden = Case::new(Kind::Kept, WAVERING, ResponseCode::NoError, &[1]);
        hidden = hidden.critical(7.0, 20.0);
        assert_eq!(hidden.rule(), "none");
    }
}
