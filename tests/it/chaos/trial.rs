//! One fault after the other: struck, held, healed, and judged.
//!
//! ```text
//!   strike --> a change, where Consul takes one --> held --> heal
//!     --> Consul is heard, and takes a change --> its truth is answered, soon --> judged
//! ```
//! All faults of a set-up are gone through, and what was wrong is said of all together.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use crate::chaos::judge::judge;
use crate::chaos::served::{Served, kill_ourselves, start_ourselves};
use crate::chaos::times::{CONVERGED_WITHIN, CRITICAL_WITHIN, Times};
use crate::chaos::voice::{Truth, Voice, address, name};
use crate::chaos::world::{WAVERING, WAVERING_NODE};
use crate::support::dns::{exchange, question, with_edns};
use crate::support::wait::{pause, poll};

/// A set-up, and what may happen to it.
pub trait Scene {
    /// What may happen.
    type Fault: Copy + Debug;

    /// The fault in the words of the README.
    fn words(fault: Self::Fault) -> &'static str;

    /// The fingerposts under observation.
    fn served(&mut self) -> &mut [Served];

    /// Whoever takes changes, in each datacenter; its own is the first.
    fn voices(&self) -> Vec<Voice>;

    /// Lets it happen.
    async fn strike(&mut self, fault: Self::Fault);

    /// Lets it last.
    async fn hold(&mut self, fault: Self::Fault);

    /// Ends it.
    async fn heal(&mut self, fault: Self::Fault);

    /// Whether the fingerpost at this place of [`Scene::served`] hears less of its own datacenter.
    fn touches(fault: Self::Fault, served: usize) -> bool;

    /// How much longer it may take until what is true is answered.
    fn grace(&self, fault: Self::Fault) -> Duration;

    /// Whether a fingerpost that is killed meanwhile, and started again, has the same to keep to.
    fn may_die(fault: Self::Fault) -> bool;

    /// Whether requests of the first fingerpost to Consul must have failed for it.
    fn is_felt(fault: Self::Fault) -> bool;
}

/// What is changed, and what was wrong.
#[derive(Debug)]
pub struct Trial {
    times: Times,
    /// Numbers the services that come and go.
    fresh: u32,
    /// Whether there was time in which Consul was heard.
    is_watchful: bool,
    /// How many replies could have shown what had long been critical.
    hidden: usize,
    complaints: Vec<String>,
    /// Held for its drop, which ends the task.
    _wavering: JoinSet<()>,
}

impl Trial {
    /// Begins to waver one instance of what `scene` has registered, once all that is so is answered.
    pub async fn of(scene: &mut impl Scene, times: Times) -> Self {
        let mut wavering = JoinSet::new();
        wavering.spawn(waver(scene.voices().remove(0)));
        let mut trial = Self {
            times,
            fresh: 0,
            is_watchful: false,
            hidden: 0,
            complaints: Vec::new(),
            _wavering: wavering,
        };
        for served in scene.served() {
            trial.converge("at first", served, CONVERGED_WITHIN).await;
            // Nothing was in memory yet.
            served.take();
        }
        trial
    }

    /// Lets `fault` happen to `scene`, and where `dies`, kills fingerpost and starts it again
    /// meanwhile.
    pub async fn suffer<S: Scene>(&mut self, scene: &mut S, fault: S::Fault, dies: bool) {
        let words = match dies {
            true => format!("{}, and fingerpost is killed meanwhile", S::words(fault)),
            false => S::words(fault).to_owned(),
        };
        let begun = Instant::now();
        let mut failures = Vec::new();
        for (at, served) in scene.served().iter_mut().enumerate() {
            match S::touches(fault, at) || dies {
                true => served.begin_unheard(),
                false => self.is_watchful = true,
            }
            failures.push(served.failures().await);
        }
        scene.strike(fault).await;
        if dies {
            kill_ourselves(scene.served()).await;
            start_ourselves(scene.served()).await;
        }
        // Where Consul takes it, it is to be heard of later.
        self.change(&scene.voices()).await;
        scene.hold(fault).await;
        scene.heal(fault).await;
        let within = CONVERGED_WITHIN + scene.grace(fault);
        let voices = scene.voices();
        let is_taken = poll(HEALTHY_WITHIN, async || self.change(&voices).await.then_some(()));
        assert!(is_taken.await.is_some(), "{words}: Consul takes no change again");
        for (at, (served, before)) in scene.served().iter_mut().zip(failures).enumerate() {
            let took = self.converge(&words, served, within).await;
            served.end_unheard();
            self.turn_critical(&words, served, &voices[0]).await;
            if dies {
                // Each datacenter is ready when it is heard, not with the first.
                served.ready_again().await;
            }
            let failures = served.failures().await - before;
            // One that was killed has forgotten what it counted.
            if at == 0 && S::is_felt(fault) && !dies && failures <= 0.0 {
                self.complain(&words, served, "it is not felt: no request has failed");
            }
            self.judge(&words, served, begun, took, failures);
        }
    }

    /// Sees how soon an instance leaves that turns critical, now that all is well.
    async fn turn_critical(&mut self, words: &str, served: &Served, voice: &Voice) {
        let (service, node) = TURNING;
        let name = name(service, served.voice.datacenter());
        for (status, is_shown) in [("critical", false), ("passing", true)] {
            let is_set = poll(HEALTHY_WITHIN, async || {
                // A server that is late itself cannot tell in time.
                (voice.set_check(service, node, status).await
                    && served.voice.all_show(service, node, is_shown).await)
                    .then_some(())
            });
            assert!(is_set.await.is_some(), "{words}: Consul takes no {status}");
            let since = Instant::now();
            let seen = poll(CRITICAL_WITHIN * 5, async || {
                let (_, addresses) = ask(served.dns(), &name).await?;
                (addresses.contains(&address(node)) == is_shown).then(|| since.elapsed())
            });
            let seen = seen.await;
            if seen.is_none_or(|seen| seen > CRITICAL_WITHIN) {
                let what = format!("what turned {status} is answered as such after {seen:.1?}");
                self.complain(words, served, &what);
            }
        }
    }

    /// Fails with all that was wrong.
    pub fn end(self) {
        assert!(
            !self.is_watchful || self.hidden > 0,
            "nothing was critical for long while Consul was heard"
        );
        let complaints = self.complaints.join("\n");
        assert!(complaints.is_empty(), "\n{complaints}\n");
    }

    /// A new service, and one less, in each datacenter; whether Consul took all.
    async fn change(&mut self, voices: &[Voice]) -> bool {
        self.fresh += 1;
        for voice in voices {
            let (new, old) = (fresh(self.fresh), fresh(self.fresh - 1));
            if !voice.register(&new, FRESH_NODE).await || !voice.deregister(&old, FRESH_NODE).await
            {
                return false;
            }
        }
        true
    }

    /// Waits until `served` answers what is true, and says how long that took since Consul could
    /// be heard. Longer than `within` is wrong; what is gone may be answered for longer, since it
    /// may be held back.
    async fn converge(
        &mut self,
        words: &str,
        served: &Served,
        within: Duration,
    ) -> Option<Duration> {
        let (mut since, mut known, mut last) = (None, None, String::new());
        let converged = poll(HEALTHY_WITHIN + within, async || {
            let Some(truth) = served.voice.truth().await else {
                // It is heard and not heard: that is the fault still.
                (since, known) = (None, None);
                return None;
            };
            let since = *since.get_or_insert_with(Instant::now);
            let differences = self.differences(served, &truth).await;
            // It may have changed while it was asked for.
            if served.voice.truth().await.as_ref() != Some(&truth) {
                return None;
            }
            let [wrong, lingering] = differences?;
            if wrong.is_empty() {
                known.get_or_insert_with(|| since.elapsed());
            }
            if wrong.is_empty() && lingering.is_empty() {
                return Some(since.elapsed());
            }
            last = [wrong, lingering].concat().join(", ");
            None
        });
        let took = converged.await;
        let is_late = |took: Option<Duration>, within| took.is_none_or(|took| took > within);
        if is_late(known, within) || is_late(took, within + self.times.guard_hold) {
            let what =
                format!("true after {known:.1?}, and all of it after {took:.1?}; was {last}");
            self.complain(words, served, &what);
        }
        took
    }

    /// What is answered otherwise than `truth` has it, in words, and what is answered that is gone;
    /// `None` without an answer.
    async fn differences(&self, served: &Served, truth: &Truth) -> Option<[Vec<String>; 2]> {
        let (mut wrong, mut lingering) = (Vec::new(), Vec::new());
        for (name, expected) in truth {
            let (code, got) = ask(served.dns(), name).await?;
            if got != *expected {
                wrong.push(format!("{name}: {code:?} {got:?}, not {expected:?}"));
            }
        }
        for gone in (1..self.fresh).rev().take(2) {
            let name = name(&fresh(gone), served.voice.datacenter());
            let (code, _) = ask(served.dns(), &name).await?;
            if !truth.contains_key(&name) && code != ResponseCode::NXDomain {
                lingering.push(format!("{name}: {code:?}, not NXDOMAIN"));
            }
        }
        Some([wrong, lingering])
    }

    fn judge(
        &mut self,
        words: &str,
        served: &mut Served,
        begun: Instant,
        took: Option<Duration>,
        failures: f64,
    ) {
        let exchanges = served.take();
        let verdict = judge(&served.account, &exchanges, self.times, begun);
        let (questions, slowest) = (verdict.questions, verdict.slowest);
        self.hidden += verdict.hidden;
        let failed = verdict.failed;
        say(&format!(
            "{words}: {}: {questions} questions, {failed} SERVFAIL, slowest {slowest:.1?}, true \
             again after {took:.1?}, {failures} requests to Consul failed",
            served.label
        ));
        for (rule, (count, first)) in &verdict.complaints {
            self.complain(words, served, &format!("{rule}: {count} of {questions}, first {first}"));
        }
    }

    fn complain(&mut self, words: &str, served: &Served, what: &str) {
        let complaint = format!("{words}: {}: {what}", served.label);
        say(&format!("WRONG: {complaint}\n{}", served.last_words()));
        self.complaints.push(complaint);
    }
}

/// A line for whoever watches a long run. Libtest keeps what `eprintln!` says to itself.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "chaos: {line}");
}

/// The service that came as the `number`th.
fn fresh(number: u32) -> String {
    format!("fresh-{number}")
}

/// The addresses of `name`, and the response code.
pub async fn ask(server: SocketAddr, name: &str) -> Option<(ResponseCode, BTreeSet<Ipv4Addr>)> {
    let query = with_edns(question(name, RecordType::A), 1232, false);
    let reply = time::timeout(Duration::from_secs(3), exchange(server, &query)).await.ok()?;
    let addresses = reply.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    Some((reply.metadata.response_code, addresses.collect()))
}

/// Turns one instance critical and passing again, for ever.
async fn waver(voice: Voice) {
    for (status, lasts) in
        [("critical", CRITICAL_WITHIN * 2), ("passing", CRITICAL_WITHIN)].into_iter().cycle()
    {
        voice.set_check(WAVERING, WAVERING_NODE, status).await;
        pause(lasts).await;
    }
}

/// The node of what comes and goes.
const FRESH_NODE: u8 = 3;

/// The service and the node of what turns critical once.
const TURNING: (&str, u8) = ("db", 3);

/// How long Consul itself may take to be well again, once a fault has ended.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);
