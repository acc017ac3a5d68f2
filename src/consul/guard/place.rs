//! One datacenter: what is missing there, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::catalog::queries::{Queries, QueryEntry};
use crate::catalog::{Change, Datacenter, Form};
use crate::config::GuardConfig;
use crate::consul::Watched;
use crate::consul::guard::missing;
use crate::consul::guard::missing::Kind;
use crate::consul::guard::{Alarm, Due, Pending, Place, RECHECKS_MAX, Recheck, WINDOW};

/// Some of a kind that vanished together.
struct Missing {
    since: Instant,
    count: usize,
    /// Whether they were the last of a service that is in the list.
    is_last: bool,
}

impl Place {
    /// Believes what has been missing long enough, each by itself.
    pub(in crate::consul::guard) fn settle(
        &mut self,
        config: &GuardConfig,
        datacenter: &Datacenter,
        now: Instant,
        due: &mut Due,
    ) {
        if self.pending.is_empty() {
            return;
        }
        let unlisted = self.unlisted(datacenter);
        let queries = known(datacenter, &self.queries);
        let first = due.changes.len();
        let mut settled = Vec::new();
        for (watched, pending) in &mut self.pending {
            let needs_read = pending.needs_read(watched) && !unlisted(watched);
            let settle = if needs_read { config.hold } else { config.settle };
            let is_ripe = |since: &Instant| *since + settle <= now;
            if !pending.gone.values().any(is_ripe) {
                continue;
            }
            if needs_read {
                pending.ask(watched, now, &mut due.rechecks);
                continue;
            }
            let gone = std::mem::take(&mut pending.gone).into_iter();
            let ripe: BTreeMap<Box<str>, Instant>;
            (ripe, pending.gone) = gone.partition(|(_, since)| is_ripe(since));
            self.believed.push_back((now, Kind::of(watched), ripe.len()));
            if matches!(watched, Watched::Services { .. }) {
                let instances = missing::instances_of(ripe.keys().map(|name| &**name), datacenter);
                self.believed.push_back((now, Kind::Instances, instances));
            }
            let mut change = pending.raw.clone();
            missing::put_back(&mut change, &pending.gone, datacenter, queries);
            due.changes.push(change);
            if pending.gone.is_empty() {
                settled.push(watched.clone());
            }
        }
        for watched in settled {
            self.pending.remove(&watched);
        }
        due.changes.iter().skip(first).for_each(|change| self.remember(change));
    }

    /// Asks for what is missing, the lists first: a service that is in none is not asked for.
    pub(in crate::consul::guard) fn recheck(
        &mut self,
        alarm: Alarm,
        hold: Duration,
        now: Instant,
        rechecks: &mut Vec<Watched>,
    ) {
        let is_covered =
            |pending: &Pending| pending.gone.values().any(|at| alarm.covers(*at, hold));
        let mut lists = self.pending.iter().filter(|(watched, _)| watched.is_list());
        let has_lists = lists.any(|(_, pending)| is_covered(pending));
        let asked = self.pending.values().filter(|it| it.recheck == Recheck::Asked).count();
        let mut room = RECHECKS_MAX.saturating_sub(asked);
        for (watched, pending) in &mut self.pending {
            if !is_covered(pending) {
                continue;
            }
            if room > 0 && watched.is_list() == has_lists && pending.ask(watched, now, rechecks) {
                room -= 1;
            }
        }
    }

    /// Nothing is missing any more that it was raised for, be it that it is back or that it is gone.
    /// Whether there was something else since.
    pub(in crate::consul::guard) fn end_alarm(
        &mut self,
        name: &str,
        hold: Duration,
        now: Instant,
    ) -> bool {
        let Some(alarm) = self.alarm else { return false };
        let awaited = self.pending.values().filter(|pending| !pending.is_unread);
        let mut missing = awaited.flat_map(|pending| pending.gone.values());
        let is_over = match alarm.until {
            Some(_) if missing.any(|since| alarm.covers(*since, hold)) => false,
            Some(_) if alarm.is_armed || !self.pending.is_empty() => {
                alarm.ends().is_some_and(|end| end <= now)
            }
            Some(_) => true,
            None => false,
        };
        if is_over {
            self.alarm = None;
            self.believed.clear();
            let held_back: usize = self.pending.values().map(|pending| pending.gone.len()).sum();
            match alarm.gone {
                0 => info!(datacenter = name, held_back, "what had vanished from consul is back"),
                gone => warn!(
                    datacenter = name,
                    gone,
                    held_back,
                    "what consul lacks still is not answered any more: the hold is over"
                ),
            }
        }
        is_over && !self.pending.is_empty()
    }

    /// Whether a service is on its way out of the list.
    pub(in crate::consul::guard) fn unlisted(
        &self,
        datacenter: &Datacenter,
    ) -> impl Fn(&Watched) -> bool + use<> {
        let gone = self.names_gone(&datacenter.name).cloned().unwrap_or_default();
        move |watched| match watched {
            Watched::Service(key) => gone.contains_key(&*key.service),
            _ => false,
        }
    }

    /// The names of services that are missing.
    pub(in crate::consul::guard) fn names_gone(
        &self,
        datacenter: &str,
    ) -> Option<&BTreeMap<Box<str>, Instant>> {
        let names = Watched::Services { datacenter: datacenter.to_owned() };
        self.pending.get(&names).map(|pending| &pending.gone)
    }

    /// Notes the prepared queries that are published.
    pub(in crate::consul::guard) fn remember(&mut self, change: &Change) {
        if let Change::Queries { queries: Some(queries), .. } = change {
            self.queries = queries.clone();
        }
    }

    /// How many of a kind are missing or have vanished of late, and how many there were.
    pub(in crate::consul::guard) fn count(
        &self,
        kind: Kind,
        datacenter: &Datacenter,
    ) -> (usize, usize) {
        let missing = self.missing(kind, datacenter).iter().map(|it| it.count).sum::<usize>();
        let believed = self.believed_of(kind);
        (missing + believed, kind.count(datacenter) + believed)
    }

    /// The same of the [`WINDOW`] in which the largest share of them vanished. What was missing
    /// before it had gone already, and is none of those that there were; but the last instances of
    /// services that are listed still count whenever they went, as only that list can tell.
    pub(in crate::consul::guard) fn worst(
        &self,
        kind: Kind,
        datacenter: &Datacenter,
        now: Instant,
    ) -> (usize, usize) {
        let mut missing = self.missing(kind, datacenter);
        missing.iter_mut().filter(|it| it.is_last).for_each(|it| it.since = now);
        missing.sort_unstable_by_key(|it| it.since);
        let (all, believed) = (kind.count(datacenter), self.believed_of(kind));
        let lasting = now.checked_sub(WINDOW);
        let (mut worst, mut before, mut inside) = ((believed, all + believed), 0, 0);
        let mut first = missing.iter().peekable();
        for it in &missing {
            inside += it.count;
            while let Some(early) = first.next_if(|early| early.since + WINDOW < it.since) {
                (before, inside) = (before + early.count, inside - early.count);
            }
            // What was believed is of the last of all windows.
            let of_late = if lasting.is_none_or(|at| it.since > at) { believed } else { 0 };
            let found = (inside + of_late, all.saturating_sub(before) + of_late);
            if found.0 * worst.1 > worst.0 * found.1 {
                worst = found;
            }
        }
        worst
    }

    /// What of a kind is missing.
    fn missing(&self, kind: Kind, datacenter: &Datacenter) -> Vec<Missing> {
        // With the name of a service all its instances have vanished.
        let names = self.names_gone(&datacenter.name).filter(|_| kind == Kind::Instances);
        let with_name = names.into_iter().flatten().map(|(name, since)| {
            let count = missing::instances_of([&**name], datacenter);
            Missing { since: *since, count, is_last: false }
        });
        let is_counted = |watched: &Watched| match watched {
            Watched::Service(key) if key.form == Form::Service => {
                names.is_none_or(|names| !names.contains_key(&*key.service))
            }
            _ => true,
        };
        let pending = self.pending.iter().filter(|(watched, _)| Kind::of(watched) == kind);
        let pending = pending.filter(|(watched, _)| is_counted(watched));
        let pending = pending.flat_map(|(watched, pending)| {
            let is_last = pending.is_last(watched);
            pending.gone.values().map(move |since| Missing { since: *since, count: 1, is_last })
        });
        pending.chain(with_name).collect()
    }

    fn believed_of(&self, kind: Kind) -> usize {
        let believed = self.believed.iter().filter(|(_, other, _)| *other == kind);
        believed.map(|(_, _, count)| count).sum()
    }

    /// When something is to be done next. What is due by `now` was asked for, or waits for that.
    pub(in crate::consul::guard) fn next(
        &self,
        config: &GuardConfig,
        now: Instant,
    ) -> Option<Instant> {
        let to_ask = |pending: &Pending| match pending.recheck {
            Recheck::Asked => None,
            Recheck::Due(at) => Some(at),
        };
        match self.alarm.map(|alarm| alarm.ends()) {
            Some(Some(end)) if end > now => Some(end),
            Some(Some(_)) => self.pending.values().filter_map(to_ask).filter(|at| *at > now).min(),
            Some(None) => None,
            None => {
                let ripe = self.pending.iter().flat_map(|(watched, pending)| {
                    let first = pending.gone.values().min().copied();
                    let settled = first.map(|first| first + config.settle);
                    // One that is on its way out of the list settles as all others do.
                    let held = first.map(|first| first + config.hold).zip(to_ask(pending));
                    let held = held.map(|(held, at)| held.max(at));
                    [settled, held.filter(|_| pending.needs_read(watched))]
                });
                ripe.flatten().filter(|at| *at > now).min()
            }
        }
    }
}

/// The prepared queries that there are, or that were `told` before their list was forgotten.
pub(in crate::consul::guard) fn known<'q>(
    datacenter: &'q Datacenter,
    told: &'q Queries,
) -> &'q [QueryEntry] {
    datacenter.queries().unwrap_or(told).entries()
}
