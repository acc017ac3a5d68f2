//! What the keeper fetches: what questions wait for, and behind the answers what they do not.

use tokio::time::Instant;

use crate::consul::Key;
use crate::consul::keeper::Keeper;
use crate::consul::view::find;
use crate::consul::waiting::Ended;
use crate::demand::Wanted;

impl Keeper {
    /// Fetches what questions wait for, as far as there are places.
    pub fn begin(&mut self) {
        while let Some(wanted) = self.waiting.next(Instant::now()) {
            self.fetch(&wanted);
        }
    }

    /// Sees what is to be fetched in this second though nobody waits for it.
    pub fn look_behind(&mut self) {
        self.refresh.tick(&self.publisher.snapshot(), self.clock.now_ms());
        self.begin_behind();
    }

    /// Fetches it, as far as there are places once [`begin`](Self::begin) has given questions theirs.
    pub fn begin_behind(&mut self) {
        loop {
            let has_place = |datacenter: &str| self.waiting.has_place_behind(datacenter);
            let Some(wanted) = self.refresh.next(has_place) else { return };
            if self.waiting.begin_behind(&wanted, Instant::now()) {
                self.metrics.consul.refreshes.inc();
                self.fetch(&wanted);
            }
        }
    }

    /// A fetch is over.
    pub fn end_fetch(&mut self, wanted: &Wanted, outcome: Ended) {
        self.waiting.end(wanted, outcome, Instant::now());
        if outcome == Ended::Failed {
            self.refresh.rest(wanted, self.clock.now_ms());
        }
    }

    fn fetch(&mut self, wanted: &Wanted) {
        match wanted {
            // Its lists are watched, and never fetched; and what is the forwarder's comes not.
            Wanted::Datacenter { .. } | Wanted::Foreign { .. } | Wanted::Host { .. } => {
                self.end_fetch(wanted, Ended::Failed);
            }
            Wanted::Service { datacenter, form, service } => {
                let key = Key::new(datacenter, *form, service);
                let known = find(&self.publisher.snapshot(), &key)
                    .is_some_and(|service| service.rrsets.is_some());
                self.tasks.fetch_service(datacenter, *form, service, known);
            }
        }
    }
}
