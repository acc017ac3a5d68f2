//! What is held back for longer than it takes to see how much vanishes, for answers to say so.

use std::collections::BTreeMap;

use crate::catalog::{Change, Missed};
use crate::consul::Watched;
use crate::consul::guard::{Guard, Place};

impl Guard {
    /// What is held back now, of each datacenter where that is something else than was told last.
    pub fn news(&mut self) -> Vec<Change> {
        if self.told.is_empty() && self.places.values().all(|place| place.pending.is_empty()) {
            return Vec::new();
        }
        let missed = self.places.iter().map(|(name, place)| (name.clone(), place.missed(name)));
        let missed: BTreeMap<_, _> = missed.filter(|(_, missed)| !missed.is_empty()).collect();
        let told = std::mem::replace(&mut self.told, missed);
        let over = told.keys().filter(|name| !self.told.contains_key(*name));
        let over = over.map(|name| (name, Missed::default()));
        let new = self.told.iter().filter(|(name, missed)| told.get(*name) != Some(*missed));
        let new = new.map(|(name, missed)| (name, missed.clone()));
        let change = |(name, missed): (&String, _)| {
            let datacenter = name.clone();
            Change::Missed { datacenter, missed }
        };
        over.chain(new).map(change).collect()
    }
}

impl Place {
    /// What vanishes for its own reasons is answered for a moment longer, and is not meant: only what
    /// is in doubt.
    fn missed(&self, name: &str) -> Missed {
        let mut missed = Missed::default();
        let names_gone = self.names_gone(name);
        let is_unlisted = |service: &str| names_gone.is_some_and(|gone| gone.contains_key(service));
        for (watched, pending) in &self.pending {
            let gone = || pending.gone.keys().map(|name| name.to_string());
            match watched {
                Watched::Service(key) => {
                    let is_last = pending.is_last(watched) && !is_unlisted(&key.service);
                    if self.alarm.is_some() || is_last {
                        missed.services.insert(key.service.clone());
                    }
                }
                _ if self.alarm.is_none() => (),
                Watched::Nodes { .. } => missed.nodes.extend(gone()),
                Watched::Services { .. } => missed.services.extend(gone()),
                // What they found is missing by itself.
                Watched::Queries { .. } => (),
            }
        }
        missed
    }
}
