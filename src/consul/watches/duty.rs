//! Who is watched where there is no room for all: who was asked for last.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::catalog::{Form, Found, Snapshot};
use crate::consul::Key;
use crate::consul::view::{find, is_askable};
use crate::consul::watches::Watches;

/// A service that could be watched.
struct Candidate {
    key: Key,
    /// As registered.
    name: String,
    asked_ms: u64,
}

impl Watches {
    /// Watches whoever is listed and is not watched, while there is room: those that were asked for
    /// last before others, and the local ones first among those that nobody has asked for.
    pub fn staff(&mut self, snapshot: &Snapshot) {
        let Found::Here(local) = snapshot.datacenter(None) else { return };
        let mut entered = BTreeSet::new();
        if self.roster.has_room() {
            for Candidate { key, name, .. } in self.candidates(snapshot) {
                if let Some(ends) = self.roster.enter(&key, self.tasks.cancel()) {
                    self.tasks.watch_service(&key.datacenter, Form::Service, &name, ends);
                    entered.insert(key);
                }
            }
        }
        if self.starting.is_none() && self.lists.has(&local.name) && local.has_services() {
            entered.retain(|key| *key.datacenter == *local.name);
            self.starting = Some(entered);
        }
    }

    /// Sees that those are watched that are asked for: others that nobody has asked for within `idle`
    /// make room for them. Returns how many will. To be called every few seconds.
    ///
    /// Who is asked for all the time stays, so that as many who are asked for as often do not take
    /// turns for nothing.
    pub fn rotate(&mut self, snapshot: &Snapshot, idle: Duration, now_ms: u64) -> usize {
        let idle_ms = idle.as_millis() as u64;
        if self.is_growing() || self.roster.has_room() {
            return 0;
        }
        let listed = self.roster.keys().filter(|key| key.form == Form::Service);
        let (relieved, on_duty): (Vec<&Key>, Vec<&Key>) =
            listed.partition(|key| self.roster.is_relieved(key));
        let asked_ms = |key: &Key| find(snapshot, key).map_or(0, |it| it.usage.asked_ms());
        let on_duty = on_duty.into_iter().map(|key| (asked_ms(key), key.clone()));
        let mut idle: Vec<_> =
            on_duty.filter(|(asked_ms, _)| asked_ms + idle_ms <= now_ms).collect();
        if idle.is_empty() {
            return 0;
        }
        idle.sort();
        let wanted = self.candidates(snapshot);
        let wanted = wanted.iter().take_while(|it| it.asked_ms + idle_ms > now_ms);
        // Those who make room already do so for the first.
        let wanted = wanted.skip(relieved.len());
        let most = RELIEVED_MAX.saturating_sub(relieved.len());
        let pairs = idle.into_iter().zip(wanted).take(most);
        pairs.map(|((_, key), _)| self.roster.relieve(&key)).count()
    }

    /// Whether the watch of a service ends with the round that it is in, or has.
    pub fn is_relieved(&self, key: &Key) -> bool {
        self.roster.is_relieved(key)
    }

    /// Whoever is listed and is not watched, in the order in which they are to be.
    fn candidates(&self, snapshot: &Snapshot) -> Vec<Candidate> {
        let Found::Here(local) = snapshot.datacenter(None) else { return Vec::new() };
        let mut candidates = Vec::new();
        for datacenter in self.lists.names(&local.name) {
            let found = snapshot.datacenter(Some(datacenter.as_bytes()));
            let Found::Here(listed) = found else { continue };
            let first = candidates.len();
            for service in listed.services() {
                let key = Key::new(&datacenter, Form::Service, &service.name);
                if is_askable(Form::Service, &service.name) && !self.roster.has(&key) {
                    let (name, asked_ms) = (service.name.to_string(), service.usage.asked_ms());
                    candidates.push(Candidate { key, name, asked_ms });
                }
            }
            candidates[first..].sort_by(|a, b| a.name.cmp(&b.name));
        }
        candidates.sort_by_key(|it| Reverse(it.asked_ms));
        candidates
    }
}

/// Services that make room at once.
const RELIEVED_MAX: usize = 8;
