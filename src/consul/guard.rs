//! Holds back what vanishes until it is clear that it is gone: a cluster that was emptied and a token
//! that sees nothing any more look the same, and only one of them is to be believed.
//!
//! ```text
//!   a change --> weigh: what it lacks that was there stays for `settle`, and is counted
//!                  \-- few --> due: it is gone
//!                  \-- many, or the service `consul` itself --> all that vanishes stays for `hold`,
//!                              then each is read again, and what is missing then is gone
//! ```
//! What turns critical is believed at once, and so is what is new: only what is missing waits. The
//! last instance of a service that is still listed waits as if many had vanished.
//!
//! Starts nothing and publishes nothing. **Invariant:** what is held back was in the catalogue when
//! it was last missed; a change leaves here with all that is held back in it.

pub mod missing;
mod place;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use crate::catalog::queries::Queries;
use crate::catalog::{Change, Datacenter, Form, Found, Missed, Snapshot};
use crate::config::GuardConfig;
use crate::consul::Watched;
use crate::consul::guard::missing::Kind;
use crate::metrics::GuardMetrics;

/// What is held back, and why.
#[derive(Debug)]
pub struct Guard {
    config: GuardConfig,
    metrics: GuardMetrics,
    places: BTreeMap<String, Place>,
    /// What was told to be held back, by datacenter.
    told: BTreeMap<String, Missed>,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Due {
    /// What is believed: to be published as it is.
    pub changes: Vec<Change>,
    /// What is to be read again, by a consistent request, and handed to [`Guard::confirm`].
    pub rechecks: Vec<Watched>,
}

/// One datacenter.
#[derive(Debug, Default)]
struct Place {
    pending: BTreeMap<Watched, Pending>,
    /// What was believed to be gone of late.
    believed: VecDeque<(Instant, Kind, usize)>,
    alarm: Option<Alarm>,
    /// Whether it is believed that the service `consul` is gone.
    is_blind: bool,
    /// The prepared queries as they were last told: in an outage their list is forgotten, as names
    /// that are new must not be denied.
    queries: Queries,
}

/// A part of the catalogue that lacks something.
#[derive(Debug)]
struct Pending {
    /// As it came.
    raw: Change,
    heard: Instant,
    /// What is missing, and since when.
    gone: BTreeMap<Box<str>, Instant>,
    recheck: Recheck,
    /// Whether it could not be read again: the hold over all others does not wait for it.
    is_unread: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Recheck {
    Asked,
    /// Not before this time.
    Due(Instant),
}

#[derive(Clone, Copy, Debug)]
struct Alarm {
    /// When all is read again; `None` until the reason for it is over.
    until: Option<Instant>,
    /// Since when most is back and nothing more has come.
    calm: Option<Instant>,
    /// Whether more is expected to vanish, so that it lasts whatever comes back.
    is_armed: bool,
    /// Whether it was raised and is not any more: if much is missing now, that has a hold of its own.
    is_lowered: bool,
    /// How much was read again and is gone.
    gone: usize,
}

impl Guard {
    /// Nothing is held back yet.
    pub fn new(config: GuardConfig, metrics: GuardMetrics) -> Self {
        Self { config, metrics, places: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Puts back into `change` what it lacks and `snapshot` has, as long as that is not believed.
    /// `now_ms` is of the program's clock.
    pub fn weigh(&mut self, change: &mut Change, snapshot: &Snapshot, now: Instant, now_ms: i64) {
        let Some(watched) = missing::watched(change) else { return };
        let name = watched.datacenter().to_owned();
        let Found::Here(datacenter) = snapshot.datacenter(Some(name.as_bytes())) else { return };
        let place = self.places.entry(name.clone()).or_default();
        // What a snapshot file had, Consul replaces; unless it was right just now, or nothing is
        // believed to vanish anyway.
        let right_since_ms = match place.alarm {
            Some(_) => i64::MIN,
            None => now_ms.saturating_sub(FILE_IS_RIGHT_FOR.as_millis() as i64),
        };
        place.is_blind &= !missing::lists(change, CONSUL);
        let queries = place::known(datacenter, &place.queries);
        let gone = missing::gone(change, datacenter, queries, right_since_ms);
        let before = place.pending.get(&watched).map_or(0, |before| before.gone.len());
        if let Some(alarm) = place.alarm.as_mut().filter(|_| gone.len() < before) {
            alarm.calm = None;
        }
        if gone.is_empty() {
            place.pending.remove(&watched);
        } else {
            let before = place.pending.get(&watched);
            let gone = gone.into_iter().map(|key| {
                let since = before.and_then(|before| before.gone.get(&key));
                (key, since.copied().unwrap_or(now))
            });
            let (gone, recheck) =
                (gone.collect(), before.map_or(Recheck::Due(now), |before| before.recheck));
            let raw = change.clone();
            let pending = Pending { raw, heard: now, gone, recheck, is_unread: false };
            missing::put_back(change, &pending.gone, datacenter, queries);
            place.pending.insert(watched, pending);
        }
        place.remember(change);
        self.assess(&name, datacenter, now);
        self.show();
    }

    /// What is believed by now, and what has to be read again before it is.
    pub fn due(&mut self, snapshot: &Snapshot, now: Instant) -> Due {
        let (mut due, mut ended) = (Due::default(), Vec::new());
        for (name, place) in &mut self.places {
            let Found::Here(datacenter) = snapshot.datacenter(Some(name.as_bytes())) else {
                *place = Place::default();
                continue;
            };
            place.pending.retain(|watched, _| missing::is_there(watched, datacenter));
            match place.alarm {
                None => place.settle(&self.config, datacenter, now, &mut due),
                Some(alarm) if alarm.ends().is_some_and(|end| end <= now) => {
                    place.recheck(alarm, self.config.hold, now, &mut due.rechecks);
                }
                Some(_) => (),
            }
            if place.end_alarm(name, self.config.hold, now) {
                ended.push(name.clone());
            }
        }
        for name in ended {
            let Found::Here(datacenter) = snapshot.datacenter(Some(name.as_bytes())) else {
                continue;
            };
            self.assess(&name, datacenter, now);
            let place = self.places.get_mut(&name).filter(|place| place.alarm.is_none());
            place.into_iter().for_each(|it| it.settle(&self.config, datacenter, now, &mut due));
        }
        self.show();
        due
    }

    /// Takes in what was read again, asked for at `asked`; `None` is a read that failed. Returns what
    /// is to be published as it is: what it lacks is gone, but for what was not missing before, or
    /// for too short a time. Whether a hold is over by that, [`due`](Self::due) sees once it is.
    pub fn confirm(
        &mut self,
        watched: &Watched,
        read: Option<Change>,
        snapshot: &Snapshot,
        asked: Instant,
        now: Instant,
    ) -> Option<Change> {
        let name = watched.datacenter();
        let place = self.places.get_mut(name)?;
        let pending = place.pending.get_mut(watched)?;
        let Some(read) = read else {
            pending.recheck = Recheck::Due(now + RECHECK_AGAIN);
            pending.is_unread = true;
            return None;
        };
        // Much more may have vanished since it was asked for.
        if place.alarm.is_some_and(|alarm| alarm.ends().is_none_or(|end| end > now)) {
            pending.recheck = Recheck::Due(now);
            return None;
        }
        let pending = place.pending.remove(watched)?;
        // What a watch heard since is newer.
        let mut change = if pending.heard > asked { pending.raw } else { read };
        let Found::Here(datacenter) = snapshot.datacenter(Some(name.as_bytes())) else {
            return Some(change);
        };
        let (alarm, hold) = (place.alarm, self.config.hold);
        let since = |key: Box<str>| match pending.gone.get(&key) {
            Some(since) if alarm.is_none_or(|alarm| alarm.covers(*since, hold)) => None,
            since => Some((key, since.copied().unwrap_or(now))),
        };
        let queries = place::known(datacenter, &place.queries);
        let missed = missing::gone(&change, datacenter, queries, i64::MIN);
        place.is_blind |= matches!(watched, Watched::Services { .. })
            && missed.iter().any(|name| &**name == CONSUL);
        let believed = missed.len();
        let young: BTreeMap<_, _> = missed.into_iter().filter_map(since).collect();
        match &mut place.alarm {
            Some(alarm) => alarm.gone += believed - young.len(),
            None => place.believed.push_back((now, Kind::of(watched), believed - young.len())),
        }
        if !young.is_empty() {
            let (raw, heard) = (change.clone(), pending.heard.max(asked));
            missing::put_back(&mut change, &young, datacenter, queries);
            let (gone, recheck) = (young, Recheck::Due(now));
            let pending = Pending { raw, heard, gone, recheck, is_unread: false };
            place.pending.insert(watched.clone(), pending);
        }
        place.remember(&change);
        self.show();
        Some(change)
    }

    /// Holds back what vanishes in `datacenter` from now on: Consul says that it hides something.
    pub fn alarm(&mut self, datacenter: &str, now: Instant) {
        let place = self.places.entry(datacenter.to_owned()).or_default();
        if place.alarm.is_some() {
            return;
        }
        let hold_secs = self.config.hold.as_secs_f64();
        error!(
            datacenter,
            hold_secs,
            "consul hides from the token what it could read; the last good answers are kept"
        );
        self.metrics.alarms.inc();
        let until = Some(now + self.config.hold);
        place.alarm = Some(Alarm { is_armed: true, ..Alarm::until(until) });
        self.show();
    }

    /// Holds back all that vanishes in `datacenter` from now on, for as long as it takes.
    pub fn raise(&mut self, datacenter: &str) {
        let place = self.places.entry(datacenter.to_owned()).or_default();
        let is_armed = place.alarm.is_some_and(|alarm| alarm.is_armed);
        place.alarm = Some(Alarm { is_armed, ..Alarm::until(None) });
        self.show();
    }

    /// What [`raise`](Self::raise) was for is over: what is missing is read again, at once if it is
    /// little. Servers that have lost their data elect a leader too.
    ///
    /// False if it was not raised.
    pub fn lower(&mut self, datacenter: &str, snapshot: &Snapshot, now: Instant) -> bool {
        let alarm = self.places.get_mut(datacenter).and_then(|it| it.alarm.as_mut());
        let Some(alarm) = alarm.filter(|alarm| alarm.until.is_none()) else { return false };
        let hold = if alarm.is_armed { self.config.hold } else { Duration::ZERO };
        (alarm.until, alarm.is_lowered) = (Some(now + hold), !alarm.is_armed);
        if let Found::Here(known) = snapshot.datacenter(Some(datacenter.as_bytes())) {
            self.assess(datacenter, known, now);
        }
        true
    }

    /// Whether all that vanishes in `datacenter` is held back at present.
    pub fn is_holding(&self, datacenter: &str) -> bool {
        self.places.get(datacenter).is_some_and(|place| place.alarm.is_some())
    }

    /// Datacenters whose service `consul` is believed to be gone, as for a token that lost its rights.
    pub fn blinded(&self) -> impl Iterator<Item = &str> {
        let places = self.places.iter().filter(|(_, place)| place.is_blind);
        places.map(|(name, _)| &**name)
    }

    /// Whether something of this is held back, so that it differs from what Consul says.
    pub fn is_held_back(&self, watched: &Watched) -> bool {
        let place = self.places.get(watched.datacenter());
        place.is_some_and(|place| place.pending.contains_key(watched))
    }

    /// Whether anything is missing in `datacenter` that is not believed to be gone.
    pub fn is_uneasy(&self, datacenter: &str) -> bool {
        let place = self.places.get(datacenter);
        place.is_some_and(|place| place.alarm.is_some() || !place.pending.is_empty())
    }

    /// When [`due`](Self::due), which was asked just now, should be asked next; `None` while nothing
    /// is missing.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let places = self.places.values();
        places.filter_map(|place| place.next(&self.config, now)).min()
    }

    /// Sees whether too much has vanished to be believed.
    fn assess(&mut self, name: &str, datacenter: &Datacenter, now: Instant) {
        let Some(place) = self.places.get_mut(name) else { return };
        if place.pending.is_empty() && place.alarm.is_none() {
            return;
        }
        let since = now.checked_sub(WINDOW);
        place.believed.retain(|(at, _, _)| since.is_none_or(|since| *at > since));
        let is_blind = place.names_gone(name).is_some_and(|gone| gone.contains_key(CONSUL));
        // A hold may have been over things that vanish one by one, as in any catalogue. What vanished
        // while nobody could be believed counts together.
        let counts = Kind::ALL.map(|kind| match place.alarm {
            Some(_) => (kind, place.count(kind, datacenter)),
            None => (kind, place.worst(kind, datacenter, now)),
        });
        if let Some(alarm) = place.alarm.as_mut().filter(|alarm| !alarm.is_lowered) {
            let is_few = |(_, (vanished, all)): &(Kind, (usize, usize))| {
                vanished * 100 * CALM <= self.config.share * all
            };
            alarm.calm = match !alarm.is_armed && !is_blind && counts.iter().all(is_few) {
                true => alarm.calm.or(Some(now)),
                false => None,
            };
            return;
        }
        let worst = counts.into_iter().find_map(|(kind, (vanished, all))| {
            let is_many = all >= self.config.least && vanished * 100 > self.config.share * all;
            is_many.then_some((kind, vanished, all))
        });
        let (what, vanished, all) = match worst {
            Some((kind, vanished, all)) => (kind.as_str(), vanished, all),
            None if is_blind => ("the service consul", 1, 1),
            None => return,
        };
        let hold_secs = self.config.hold.as_secs_f64();
        error!(
            datacenter = name,
            what,
            vanished,
            all,
            hold_secs,
            "much has vanished from consul at once: the last good answers are kept until it is \
             clear that they are wrong; was consul emptied, or may the token not read any more?"
        );
        self.metrics.alarms.inc();
        let until = Some(now + self.config.hold);
        place.alarm = Some(Alarm::until(until));
    }

    fn show(&self) {
        let (mut holding, mut held_back) = (0, 0);
        for place in self.places.values() {
            holding += i64::from(place.alarm.is_some());
            held_back += place.pending.values().map(|pending| pending.gone.len()).sum::<usize>();
        }
        self.metrics.holding.set(holding);
        self.metrics.held_back.set(held_back as i64);
    }
}

impl Alarm {
    fn until(until: Option<Instant>) -> Self {
        Self { until, calm: None, is_armed: false, is_lowered: false, gone: 0 }
    }

    /// Whether something that is missing since then has been held back for long enough when the
    /// alarm is over. What vanished late needs a hold of its own, should it be much.
    fn covers(self, since: Instant, hold: Duration) -> bool {
        let late = if self.is_lowered { Duration::ZERO } else { hold / 2 };
        self.until.is_some_and(|until| since + late <= until)
    }

    /// When what is missing is read again; `None` while there is no telling.
    fn ends(self) -> Option<Instant> {
        let until = self.until?;
        Some(self.calm.map_or(until, |calm| until.min(calm + CALM_FOR)))
    }
}

impl Pending {
    /// Whether nothing is left of a service that is in a list.
    fn is_last(&self, watched: &Watched) -> bool {
        let is_listed = matches!(watched, Watched::Service(key) if key.form == Form::Service);
        is_listed && matches!(&self.raw, Change::Service { instances, .. } if instances.is_empty())
    }

    /// Whether it is believed only once it was read again.
    fn needs_read(&self, watched: &Watched) -> bool {
        self.is_unread || self.is_last(watched)
    }

    /// Asks for it, unless that was done.
    fn ask(&mut self, watched: &Watched, now: Instant, rechecks: &mut Vec<Watched>) -> bool {
        let is_due = matches!(self.recheck, Recheck::Due(at) if at <= now);
        if is_due {
            self.recheck = Recheck::Asked;
            rechecks.push(watched.clone());
        }
        is_due
    }
}

/// Most is back where no more is missing than this part of what is too much.
const CALM: usize = 2;

/// Where that lasts for so long, and nothing more comes back, what is missing is read again.
const CALM_FOR: Duration = Duration::from_secs(3);

/// The service that every Consul has: the servers themselves.
pub(in crate::consul) const CONSUL: &str = "consul";

/// What a snapshot file has is doubted no more than what was heard, for so long after it was right:
/// a restart, while a cluster is being emptied say. Later much may have moved.
const FILE_IS_RIGHT_FOR: Duration = Duration::from_secs(600);

/// What vanishes within this time counts together.
const WINDOW: Duration = Duration::from_secs(10);

/// Reads of what is missing under way at once, in a datacenter.
const RECHECKS_MAX: usize = 4;

/// The pause after such a read that failed.
const RECHECK_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
