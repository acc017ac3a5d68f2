//! Asks again and again which datacenters there are, and in which one we are.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::catalog::Change;
use crate::consul::api;
use crate::consul::fetch::FetchError;
use crate::consul::tasks::{Said, Tasks};
use crate::consul::watch::Outage;

/// What is known of the datacenters.
#[derive(Debug, Default)]
struct Known {
    /// The one that we are in.
    local: Option<String>,
    /// Whether the configuration says so, whatever the agent says.
    is_configured: bool,
    /// All, and when Consul last listed each.
    seen: BTreeMap<String, Instant>,
    /// Whether the log knows that the agent is in another datacenter now.
    is_move_said: bool,
    /// Whether the log knows that there are more than are kept.
    is_excess_said: bool,
}

/// How often the datacenters are asked for: an agent that has just been started meets the others
/// one by one.
#[derive(Debug, Default)]
struct Rhythm {
    names: Vec<String>,
    pause: Duration,
}

impl Tasks {
    /// Asks again and again which datacenters there are, and in which one we are, unless that is
    /// `configured`. Those that are `loaded` from a file are known for a while, as if listed.
    pub fn poll_datacenters(&self, configured: Option<String>, loaded: Vec<String>) {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let polling = tasks.clone();
            tasks.cancel.run_until_cancelled(polling.poll(configured, loaded)).await;
        });
    }

    async fn poll(&self, configured: Option<String>, loaded: Vec<String>) {
        let is_configured = configured.is_some();
        let mut known = Known { local: configured, is_configured, ..Known::default() };
        known.remember(loaded, Instant::now());
        let mut is_open = None;
        let mut outage = Outage::default();
        let mut rhythm = Rhythm::default();
        loop {
            let failed = match self.datacenters(&mut known, &mut is_open).await {
                Ok(Some((local, names, arrived))) => {
                    if outage.end("datacenters", &self.wake) {
                        info!("consul tells its datacenters");
                        rhythm = Rhythm::default();
                    }
                    let pause = rhythm.pause(&names);
                    let datacenter = local.clone();
                    let change = Change::Datacenters { local, names };
                    self.report(Said::Change(change, None), arrived).await;
                    if is_open == Some(true) {
                        is_open = Some(false);
                        self.report(Said::Open { datacenter }, arrived).await;
                    }
                    time::sleep(pause).await;
                    continue;
                }
                Ok(None) => None,
                Err(error) => Some(error.chain()),
            };
            match (outage.add(), failed) {
                (1, None) => warn!(
                    "consul does not say which datacenter it is in: give the token agent:read \
                     or node:read, or set consul.datacenter"
                ),
                (1, Some(error)) => {
                    let consul = self.client.labels();
                    warn!(consul, error, "cannot ask consul for its datacenters, retrying");
                }
                _ => (),
            }
            outage.rest(self.pace.alert(), Duration::ZERO, &self.wake).await;
        }
    }

    /// The datacenters there are. `None` where it cannot be told in which one we are.
    async fn datacenters(
        &self,
        known: &mut Known,
        is_open: &mut Option<bool>,
    ) -> Result<Option<(String, Vec<String>, Instant)>, FetchError> {
        let listed = self.once("datacenters", api::datacenters()).await?;
        let (listed, arrived) = (listed.value, listed.arrived);
        if is_open.is_none() || known.is_astray(&listed) {
            match api::fetch_self(&self.client).await {
                Ok(said) => {
                    is_open.get_or_insert(said.is_open);
                    if let Some(datacenter) = said.datacenter {
                        known.stand_in(datacenter, &listed);
                    }
                }
                // What it says besides can wait.
                Err(_) if known.local.is_some() => (),
                Err(error) => return Err(error),
            }
        }
        if known.local.is_none() {
            // The agent's own datacenter is what its nodes are in where none is named.
            known.local = self.once("nodes", api::nodes(None)).await?.value.datacenter;
        }
        let names = known.remember(listed, arrived);
        Ok(known.local.clone().map(|local| (local, names, arrived)))
    }
}

impl Known {
    /// Whether Consul does not list the datacenter that we are in.
    fn is_astray(&self, listed: &[String]) -> bool {
        let is_listed = |local| listed.contains(local);
        !self.is_configured && self.local.as_ref().is_some_and(|local| !is_listed(local))
    }

    /// Notes the datacenter that the agent says it is in. What is known of another one is answered
    /// until that is known no more, see [`remember`](Self::remember): an agent that was mistaken
    /// for a moment must not take all names away.
    fn stand_in(&mut self, datacenter: String, listed: &[String]) {
        let Some(local) = self.local.as_ref().filter(|local| **local != datacenter) else {
            self.local = Some(datacenter);
            self.is_move_said = false;
            return;
        };
        if self.is_configured || !self.is_astray(listed) {
            return;
        }
        let (from, to) = (local.as_str(), datacenter.as_str());
        if !self.seen.contains_key(local) {
            warn!(from, to, "the local datacenter is another now");
            (self.local, self.is_move_said) = (Some(datacenter), false);
        } else if !std::mem::replace(&mut self.is_move_said, true) {
            let kept_secs = DATACENTER_KEPT.as_secs();
            warn!(
                from,
                to,
                kept_secs,
                "consul is in another datacenter, and knows nothing of the one before: that is \
                 answered from memory for a while; restart to follow at once"
            );
        }
    }

    /// The datacenters of `names`, and those that were among them not long ago.
    ///
    /// An agent that has just been restarted knows only its own datacenter until it has met the
    /// others again. Their names must not be denied for it.
    fn remember(&mut self, names: Vec<String>, now: Instant) -> Vec<String> {
        let (listed, kept_max) = (names.len(), DATACENTERS_MAX);
        match (listed > kept_max, self.is_excess_said) {
            (true, false) => {
                warn!(listed, kept_max, "consul has too many datacenters, the nearest are kept");
            }
            (false, true) => info!(listed, kept_max, "consul has few enough datacenters again"),
            (true, true) | (false, false) => (),
        }
        self.is_excess_said = listed > kept_max;
        let is_local = |name: &String| self.local.as_ref() == Some(name);
        let local = names.iter().skip(kept_max).find(|name| is_local(name)).cloned();
        let kept = names.into_iter().take(kept_max).chain(local);
        self.seen.extend(kept.map(|name| (name, now)));
        self.seen.retain(|_, at| now.saturating_duration_since(*at) <= DATACENTER_KEPT);
        self.shed();
        self.seen.keys().cloned().collect()
    }

    /// Forgets those that are too many: what was listed last stays, and where we are.
    fn shed(&mut self) {
        let excess = self.seen.len().saturating_sub(DATACENTERS_MAX);
        let others = self.seen.iter().filter(|(name, _)| self.local.as_ref() != Some(*name));
        let mut others: Vec<_> = others.map(|(name, at)| (*at, name.clone())).collect();
        others.sort();
        for (_, name) in others.into_iter().take(excess) {
            self.seen.remove(&name);
        }
    }
}

impl Rhythm {
    /// The pause after having heard `names`.
    fn pause(&mut self, names: &[String]) -> Duration {
        if self.names != names {
            *self = Self { names: names.to_vec(), pause: Duration::ZERO };
        }
        self.pause = (self.pause * 2).clamp(DATACENTERS_SOON, DATACENTERS_EVERY);
        self.pause
    }
}

/// The first pause, and the one after a change.
const DATACENTERS_SOON: Duration = Duration::from_secs(1);

/// Consul has no blocking query for its datacenters. One that is new is denied for no longer than
/// this, however often it is asked for: no question makes a poll.
const DATACENTERS_EVERY: Duration = Duration::from_secs(5);

/// Far more than any federation has. Each is two series and a part of every snapshot, and a question
/// that names one looks through all; so a Consul that makes names up must not fill memory with them.
const DATACENTERS_MAX: usize = 1000;

/// How long a datacenter is known that Consul no longer lists.
const DATACENTER_KEPT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn datacenters_are_asked_for_soon_after_a_start_and_a_change() {
        let mut rhythm = Rhythm::default();
        let mut pauses = |names: &str, times| -> Vec<u64> {
            (0..times).map(|_| rhythm.pause(&strings(names)).as_secs()).collect()
        };
        assert_eq!(pauses("dc1", 5), [1, 2, 4, 5, 5]);
        assert_eq!(pauses("dc1 dc2", 3), [1, 2, 4]);
    }

    #[test]
    fn a_datacenter_that_is_not_listed_is_known_for_a_while() {
        let start = Instant::now();
        let mut known = Known::default();
        let mut names = |names: &str, secs| {
            known.remember(strings(names), start + Duration::from_secs(secs)).join(" ")
        };
        assert_eq!(names("dc1 dc2", 0), "dc1 dc2");
        assert_eq!(names("dc1", 600), "dc1 dc2");
        assert_eq!(names("dc1", 630), "dc1");
        assert_eq!(names("dc1 dc2", 660), "dc1 dc2");
    }

    #[test]
    fn no_more_datacenters_are_known_than_the_nearest_and_where_we_are() {
        let start = Instant::now();
        let made_up =
            |round: usize, count: usize| (0..count).map(move |at| format!("x{round}-{at}"));
        let mut known = Known { local: Some("dc1".to_owned()), ..Known::default() };
        let names = known.remember(strings("dc1 dc2"), start);
        assert_eq!(names, ["dc1", "dc2"]);
        for round in 0..3_usize {
            let now = start + Duration::from_secs(5 * (1 + round as u64));
            let nearest = ["dc2".to_owned()];
            let last = ["dc1".to_owned()];
            let listed = nearest.into_iter().chain(made_up(round, 20_000)).chain(last);
            let names = known.remember(listed.collect(), now);
            assert_eq!((names.len(), known.seen.len()), (1000, 1000), "round {round}");
            assert!(names.contains(&"dc1".to_owned()), "round {round}");
            let of_now =
                names.iter().filter(|name| name.starts_with(&format!("x{round}-"))).count();
            assert!(of_now >= 998, "round {round}: {of_now}");
        }
        // As many as there may be are no excess, and what was made up goes when its time is over.
        let listed = strings("dc1 dc2").into_iter().chain(made_up(9, 998));
        let later = start + Duration::from_secs(20);
        assert_eq!(known.remember(listed.collect(), later).len(), 1000);
        assert!(!known.is_excess_said);
        let over = later + DATACENTER_KEPT + Duration::from_secs(1);
        assert_eq!(known.remember(strings("dc1 dc2"), over), ["dc1", "dc2"]);
    }

    #[test]
    fn an_agent_that_has_moved_is_followed_when_its_datacenter_is_known_no_more() {
        let start = Instant::now();
        let mut known = Known::default();
        known.stand_in("dc1".to_owned(), &strings("dc1 dc2"));
        for (secs, listed, said, expected) in [
            (0, "dc1 dc2", "dc1", "dc1"),
            // Another address, in another datacenter, that sees ours.
            (5, "dc1 dc2", "dc2", "dc1"),
            (10, "dc2", "dc2", "dc1"),
            (605, "dc2", "dc2", "dc1"),
            (606, "dc2", "dc2", "dc1"),
            (607, "dc2", "dc2", "dc2"),
            (608, "dc1 dc2", "dc2", "dc2"),
        ] {
            known.stand_in(said.to_owned(), &strings(listed));
            known.remember(strings(listed), start + Duration::from_secs(secs));
            assert_eq!(known.local.as_deref(), Some(expected), "after {secs} s");
        }
        let (local, is_configured) = (Some("dc1".to_owned()), true);
        let mut known = Known { local, is_configured, ..Known::default() };
        known.stand_in("dc2".to_owned(), &strings("dc2"));
        assert_eq!(known.local.as_deref(), Some("dc1"));
    }
}
