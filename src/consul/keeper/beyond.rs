//! What the keeper does beyond watching the services that are listed: names in no list, prepared
//! queries, and the addresses of services that are not in memory.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::catalog::change::Executed;
use crate::catalog::model::Instance;
use crate::catalog::queries;
use crate::catalog::{Change, Form, Found, Held, Service, Snapshot};
use crate::consul::Key;
use crate::consul::keeper::{Batch, KEPT_SHORT, Keeper};
use crate::consul::tasks::Swept;
use crate::consul::view::{find, is_askable};

impl Keeper {
    /// How the result of a query is held: as long as the query says, but no longer than anything that
    /// was fetched. Whether it is sorted, only the list of queries tells.
    pub fn on_query(&self, key: &Key, executed: &mut Executed, instances: &[Instance]) -> Held {
        let snapshot = self.publisher.snapshot();
        let datacenter = snapshot.datacenter(Some(key.datacenter.as_bytes()));
        if let Found::Here(datacenter) = datacenter {
            let (name, _) = queries::split(&key.service);
            let query = datacenter.queries().and_then(|all| all.find(name.as_bytes()));
            executed.is_sorted = query.is_some_and(|query| !query.near.is_empty());
        }
        let kept = match executed.ttl_secs {
            None | Some(0) => self.query_kept,
            // However long the client may keep it: what is behind it may change any time.
            Some(secs) => Duration::from_secs(secs.into()).min(self.kept),
        };
        let kept = if instances.is_empty() { kept.min(KEPT_SHORT) } else { kept };
        self.fetched_for(kept)
    }

    /// Decides how what was heard of is kept from now on.
    pub fn place(&mut self, key: &Key, snapshot: &Snapshot) {
        let is_denied = key.form != Form::Service
            && find(snapshot, key).is_some_and(|service| service.instances.is_empty());
        if is_denied {
            self.watches.leave(key, snapshot);
            self.shelf.take(key);
            self.unlisted.deny(key.clone());
            return;
        }
        self.unlisted.allow(key);
        // A query cannot be watched: it does not block. All else can, as long as there is room.
        let could_enter = !matches!(key.form, Form::Query | Form::Service);
        if self.watches.has(key) || could_enter && self.watches.enter(key) {
            self.shelf.take(key);
        } else {
            self.shelve(key.clone(), snapshot);
        }
    }

    /// Takes charge of what a snapshot file had and no watch tells of: it is kept like what was
    /// fetched on demand, and let go of like it.
    pub fn adopt(&self, datacenter: &str, snapshot: &Snapshot) {
        let found = snapshot.datacenter(Some(datacenter.as_bytes()));
        let Found::Here(datacenter) = found else { return };
        let listed = datacenter.services().map(|service| (Form::Service, service));
        for (form, service) in listed.chain(datacenter.all_unlisted()) {
            if service.rrsets.is_none() || !matches!(service.held, Held::Loaded { .. }) {
                continue;
            }
            let key = Key::new(&datacenter.name, form, &service.name);
            if !self.watches.has(&key) && !self.shelf.has(&key) {
                self.shelve(key, snapshot);
            }
        }
    }

    /// Whether a new watch is about to tell of what is in memory, from a snapshot file or from a fetch,
    /// so that nobody waits for it.
    pub fn is_to_be_told(&self, key: &Key) -> bool {
        let is_in_memory = |service: &Service| {
            service.rrsets.is_some() && !matches!(service.held, Held::Due { .. })
        };
        self.watches.has(key)
            && self.watches.told(key).is_none()
            && find(&self.publisher.snapshot(), key).is_some_and(is_in_memory)
    }

    /// Whether something is known to exist, so that nobody can make us ask for it who invents names.
    pub fn is_known(&self, key: &Key) -> bool {
        let snapshot = self.publisher.snapshot();
        if find(&snapshot, key).is_some_and(|service| !service.instances.is_empty()) {
            return true;
        }
        // A list bounds what it names, for whichever client. A template stands for anything; but what
        // one client was told of, another may ask for.
        let (name, client) = queries::split(&key.service);
        let is_query = key.form == Form::Query
            && matches!(
                snapshot.datacenter(Some(key.datacenter.as_bytes())),
                Found::Here(datacenter) if datacenter.queries().is_some_and(|all| {
                    let is_told = client.is_some() && datacenter.has_query_below(name.as_bytes());
                    let query = all.find(name.as_bytes());
                    query.is_some_and(|query| !query.is_template || is_told)
                })
            );
        key.form == Form::Service || is_query
    }

    /// Whether a name in no list is that of a service that is.
    pub fn is_of_listed(&self, key: &Key) -> bool {
        let listed = Key::new(&key.datacenter, Form::Service, &key.service);
        matches!(key.form, Form::Connect | Form::Ingress)
            && find(&self.publisher.snapshot(), &listed).is_some()
    }

    /// Ends watches of names in no list that nobody asks for, and lets go of what was denied.
    pub fn sweep_unlisted(&mut self) {
        let (snapshot, now_ms) = (self.publisher.snapshot(), self.clock.now_ms());
        let is_idle = |key: &&Key| {
            let asked_ms = find(&snapshot, key).map_or(0, |service| service.usage.asked_ms());
            asked_ms + (self.idle.as_millis() as u64) < now_ms
        };
        let idle: Vec<Key> = self.watches.unlisted().filter(is_idle).cloned().collect();
        for key in &idle {
            self.watches.leave(key, &snapshot);
        }
        self.loosen(idle);
        let denied = self.unlisted.sweep().into_iter().map(|removed| {
            let Key { datacenter, form, service } = removed.key;
            Change::Release { datacenter, form, service }
        });
        let denied: Vec<_> = denied.collect();
        self.publisher.publish(denied);
    }

    /// Sees whose addresses are to be read.
    pub fn sweep_addresses(&mut self) {
        let snapshot = self.publisher.snapshot();
        if let Found::Here(local) = snapshot.datacenter(None) {
            let key = |name: &str| Key::new(&local.name, Form::Service, name);
            let is_watched = |name: &str| self.watches.told(&key(name)).is_some();
            self.sweep.tick(local, is_watched, Instant::now());
        }
        self.begin_sweep();
    }

    /// Reads the addresses of services, as far as there are places.
    pub fn begin_sweep(&mut self) {
        let snapshot = self.publisher.snapshot();
        let Found::Here(local) = snapshot.datacenter(None) else { return };
        while let Some(service) = self.sweep.begin() {
            if is_askable(Form::Query, &service) {
                self.tasks.sweep_service(&local.name, &service);
            } else {
                // Nobody can be asked about it.
                let (datacenter, addresses) = (local.name.to_string(), Vec::new());
                self.publisher.publish([Change::Owned { datacenter, service, addresses }]);
                self.sweep.end();
            }
        }
    }

    /// Takes in what came of reading the addresses of a service.
    pub fn take_swept(&mut self, swept: Swept, batch: &mut Batch) {
        self.sweep.end();
        let (change, has_instances, refusal) = match swept {
            Swept::Came { change, has_instances } => (change, has_instances, None),
            Swept::Refused { change, error } => (change, false, Some(error)),
            Swept::Nothing => return,
        };
        let Change::Owned { datacenter, service, addresses } = &change else { return };
        let key = Key::new(datacenter, Form::Service, service);
        let snapshot = self.publisher.snapshot();
        let known = find(&snapshot, &key);
        let (had, was_swept) = known.map_or((0, false), |it| (it.address_count(), it.is_swept()));
        if let Some(error) = refusal {
            if was_swept {
                // What it said before stays.
                return;
            }
            if self.sweep.is_first_refusal() {
                warn!(
                    service,
                    datacenter,
                    error,
                    "consul does not tell the addresses of a service: reverse names have none of it, \
                     and of others like it"
                );
            }
        }
        let is_told = self.watches.told(&key).is_some();
        // At a time when that proves nothing; and where nothing is left of a service, the list is to
        // say first that it has none. Instances that are there without their addresses gave them up.
        if has_instances {
            self.absence.forget(&key);
        }
        let lacks_some = had > addresses.len() && self.guard.is_uneasy(datacenter);
        let lacks_all = had > 0 && !has_instances;
        if is_told || lacks_some || lacks_all && self.is_in_doubt(&key, Instant::now()) {
            return;
        }
        batch.changes.push(change);
    }
}
