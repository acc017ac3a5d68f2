//! What befell a fingerpost and the Consul that it asks, for whoever judges its replies.

use std::time::Duration;

use tokio::time::Instant;

use crate::chaos::stream::Question;

/// What befell one fingerpost.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What it is asked.
    pub questions: Vec<Question>,
    /// Whether it keeps what it heard in a file, and so knows it in its next life.
    pub keeps: bool,
    /// Its deaths.
    pub deaths: Vec<Death>,
    /// When it cannot be expected to hear what Consul says. Where there is no end yet it goes on.
    pub unheard: Vec<(Instant, Option<Instant>)>,
    /// When a later catalogue of Consul's lacks all names, and may be believed.
    pub lacking: Vec<(Instant, Option<Instant>)>,
    /// When the machine had other things to do, from and until.
    pub busy: Vec<(Instant, Instant)>,
    /// How the instance that wavers was seen, in this order.
    pub samples: Vec<Sample>,
}

/// A death by SIGKILL, and what followed.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// When it was killed.
    pub killed: Instant,
    /// When its sockets were open again.
    pub bound: Option<Instant>,
    /// When it was ready again.
    pub ready: Option<Instant>,
}

/// Whether Consul shows the instance critical that wavers, at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was seen.
    pub at: Instant,
    /// `None` where Consul did not say.
    pub is_critical: Option<bool>,
}

impl Account {
    /// Whether the machine had other things to do between `from` and `until`.
    pub fn is_busy(&self, from: Instant, until: Instant) -> bool {
        self.busy.iter().any(|(began, ended)| *began <= until && from <= *ended)
    }

    /// Whether it was dead at `at`, or about to die.
    pub fn is_dead(&self, at: Instant) -> bool {
        self.deaths.iter().any(|death| {
            // What had arrived and was not answered yet dies too.
            death.killed <= at + UNDER_WAY && death.bound.is_none_or(|bound| at < bound)
        })
    }

    /// Whether it knew what Consul has at `at`, in the life that it was in.
    pub fn is_ready(&self, at: Instant) -> bool {
        let is_unready = |death: &Death| {
            let ready = if self.keeps { death.bound } else { death.ready };
            death.killed <= at && ready.is_none_or(|ready| at < ready)
        };
        !self.deaths.iter().any(is_unready)
    }

    /// Whether what Consul said last lacks all names.
    pub fn is_lacking(&self, at: Instant) -> bool {
        let holds = |(from, until): &(Instant, Option<Instant>)| {
            *from <= at && until.is_none_or(|until| at < until)
        };
        self.lacking.iter().any(holds)
    }

    /// Whether nothing was wrong with Consul, nor with the way to it, since `since`.
    pub fn is_heard(&self, since: Instant, at: Instant) -> bool {
        let overlaps = |(from, until): &(Instant, Option<Instant>)| {
            *from <= at && until.is_none_or(|until| since < until)
        };
        !self.unheard.iter().any(overlaps)
    }

    /// Whether Consul showed the instance that wavers critical since `since`, without a break, and
    /// also just after `at`.
    pub fn was_critical(&self, since: Instant, at: Instant) -> bool {
        let before = self.samples.partition_point(|sample| sample.at < since);
        let after = self.samples.partition_point(|sample| sample.at <= at);
        let Some(seen) = self.samples.get(before.saturating_sub(1)..=after) else { return false };
        seen.iter().all(|sample| sample.is_critical == Some(true))
            && seen.windows(2).all(|two| two[1].at - two[0].at < GAP)
            && seen.first().is_some_and(|sample| sample.at <= since)
    }
}

/// Consul is looked at more often than this, or it is not known what it showed.
const GAP: Duration = Duration::from_millis(600);

/// How long a question may be under way on a busy machine.
const UNDER_WAY: Duration = Duration::from_millis(500);
