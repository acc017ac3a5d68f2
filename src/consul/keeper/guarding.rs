//! How the keeper deals with what vanishes: through the [`guard`](crate::consul::guard).

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::catalog::Change;
use crate::catalog::{Form, Found, Held};
use crate::consul::guard::missing;
use crate::consul::keeper::{Batch, Keeper};
use crate::consul::quorum::Verdict;
use crate::consul::tasks::{Again, Said};
use crate::consul::view::{Heard, find};
use crate::consul::{Key, Watched, absence, guard};

impl Keeper {
    /// Puts back into `change` what it lacks, as long as that is not believed to be gone.
    pub fn weigh(&mut self, change: &mut Change) {
        let (snapshot, now_ms) = (self.publisher.snapshot(), self.clock.signed_ms());
        self.guard.weigh(change, &snapshot, Instant::now(), now_ms);
    }

    /// Believes what is missing long enough, and reads again what is not believed so.
    pub fn settle(&mut self) {
        let due = self.guard.due(&self.publisher.snapshot(), Instant::now());
        let mut batch = Batch::default();
        for change in due.changes {
            self.believe(change, &mut batch);
        }
        batch.changes.extend(self.guard.news());
        if !batch.changes.is_empty() {
            self.publish(batch);
        }
        due.rechecks.into_iter().for_each(|watched| self.read_again(watched, Said::Confirmed));
    }

    /// Takes in what was read again.
    pub fn take_confirmed(&mut self, read: Again, batch: &mut Batch) {
        let (snapshot, now) = (self.publisher.snapshot(), Instant::now());
        let (change, asked) = read.found.map(|(change, read)| (change, read.asked)).unzip();
        let asked = asked.unwrap_or(now);
        let change = self.guard.confirm(&read.watched, change, &snapshot, asked, now);
        change.into_iter().for_each(|change| self.believe(change, batch));
    }

    /// Whether a name must not be denied because Consul has nothing for it: nothing is in memory that
    /// could be answered instead, and much of what was there is missing.
    pub fn is_doubtful_denial(&self, key: &Key) -> bool {
        self.guard.is_holding(&key.datacenter)
            && find(&self.publisher.snapshot(), key).is_none_or(|it| it.instances.is_empty())
    }

    /// Whether it is in doubt that a listed service has no instances of which nothing is in memory:
    /// there is nothing that could be held back.
    pub fn doubts(&mut self, change: &Change, asked: Option<Instant>) -> bool {
        let Change::Service { datacenter, form: Form::Service, service, instances, .. } = change
        else {
            return false;
        };
        let key = Key::new(datacenter, Form::Service, service);
        if !instances.is_empty() {
            self.absence.forget(&key);
            return false;
        }
        let snapshot = self.publisher.snapshot();
        if find(&snapshot, &key).is_none_or(|it| it.rrsets.is_some()) {
            return false;
        }
        // Nobody waits for it to be told.
        self.watches.set_heard(&key);
        if self.guard.is_holding(datacenter) {
            return true;
        }
        self.is_in_doubt(&key, asked.unwrap_or_else(Instant::now))
    }

    /// Whether it is in doubt that a listed service is empty as it was found when `asked` for. The
    /// list is read anew if need be.
    pub fn is_in_doubt(&mut self, key: &Key, asked: Instant) -> bool {
        match self.absence.note(key, asked, self.watches.lists.listed(&key.datacenter)) {
            absence::Found::Empty => false,
            absence::Found::InDoubt { reads_list } => {
                if reads_list {
                    let datacenter = key.datacenter.clone();
                    let snapshot = self.publisher.snapshot();
                    self.watches.renew(&Watched::Services { datacenter }, &snapshot);
                }
                true
            }
        }
    }

    /// Reads lists again that have lost the service `consul`: Consul wakes no query when a token gets
    /// its rights back, and answers those that wait from what they saw when they began.
    pub fn look_for_rights(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        for datacenter in self.guard.blinded() {
            let watched = Watched::Services { datacenter: datacenter.to_owned() };
            self.read_again(watched, Said::Looked);
        }
    }

    /// Watches the lists anew where `consul` is back.
    pub fn take_looked(&mut self, read: Again) {
        if read.found.is_some_and(|(change, _)| missing::lists(&change, guard::CONSUL)) {
            self.watches.renew(&read.watched, &self.publisher.snapshot());
        }
    }

    /// Takes in whether the servers of the local datacenter can be believed.
    pub fn take_quorum(&mut self, verdict: Verdict) {
        let snapshot = self.publisher.snapshot();
        let Found::Here(local) = snapshot.datacenter(None) else { return };
        let datacenter = &*local.name;
        let now = Instant::now();
        if std::mem::replace(&mut self.quorum.0, verdict) == verdict {
            let is_late = verdict == Verdict::Unknown && now > self.quorum.1 + UNTOLD_MAX;
            if is_late && self.guard.lower(datacenter, &snapshot, now) {
                warn!(
                    datacenter,
                    "nobody tells whether consul has a leader: what is missing is read again"
                );
            }
            return;
        }
        self.quorum.1 = now;
        let is_whole = match verdict {
            Verdict::Unknown => return self.metrics.guard.unset_quorum(datacenter),
            Verdict::Whole => {
                if self.guard.lower(datacenter, &snapshot, Instant::now()) {
                    info!(datacenter, "consul has a leader and enough servers");
                }
                true
            }
            Verdict::NoLeader => {
                warn!(datacenter, "consul has no leader: what vanishes is answered still");
                false
            }
            Verdict::TooFew { alive, needed } => {
                warn!(
                    datacenter,
                    alive, needed, "consul has too few servers: what vanishes is answered still"
                );
                false
            }
        };
        if !is_whole {
            self.guard.raise(datacenter);
        }
        self.metrics.guard.set_quorum(datacenter, is_whole);
    }

    fn believe(&self, mut change: Change, batch: &mut Batch) {
        if let Change::Service { datacenter, form, service, instances, held, executed } =
            &mut change
        {
            let key = Key::new(datacenter, *form, service);
            let is_denied = key.form != Form::Service && instances.is_empty();
            *held = match executed {
                Some(executed) => self.on_query(&key, executed, instances),
                None if self.watches.told(&key).is_some() && !is_denied => Held::Watched,
                None => self.on_demand(instances),
            };
        }
        batch.heard.push((Heard::of(&change), Instant::now(), None));
        batch.changes.push(change);
    }
}

/// How long what was without a leader is held back while nobody tells whether it has one. What is
/// missing is believed only if it can be read consistently, which takes a leader.
const UNTOLD_MAX: Duration = Duration::from_secs(60);

/// How often a list is read that may be whole again.
const LOOK_EVERY: Duration = Duration::from_secs(3);
