//! The number of watches follows the room that there is for them.

use tokio::time::Instant;
use tracing::{info, warn};

use crate::catalog::Snapshot;
use crate::consul::growth::{Seen, Step};
use crate::consul::watches::{LISTS, Watches};
use crate::consul::{Key, Watched};

impl Watches {
    /// Takes what room there is, and gives up what there is not. Returns the services whose watches
    /// ended for it. To be called once a second, and where there [is more](Self::may_stream) before.
    pub fn grow(&mut self, snapshot: &Snapshot) -> Vec<Key> {
        let client = self.tasks.client();
        let (is_refused, has_streams) = (client.take_refusals(), client.has_streams());
        let hearing = (self.count() + self.queries.len() + self.lists.names("").len() * LISTS)
            .saturating_sub(self.failing.count());
        let seen = Seen { is_refused, has_streams, hearing };
        match self.growth.step(seen, Instant::now()) {
            Step::Keep => Vec::new(),
            Step::More(places) => {
                self.roster.add(places);
                self.staff(snapshot);
                Vec::new()
            }
            Step::Fewer { places, is_first } => {
                let ended = self.shrink(places);
                if is_first {
                    let (watches, ended) = (self.growth.allowed(), ended.len());
                    warn!(
                        watches,
                        ended,
                        "consul lets no more connections in, watching fewer services: raise its \
                         limits.http_max_conns_per_client or lower consul.connections_max"
                    );
                }
                ended
            }
            Step::Well => {
                info!("consul lets all connections in again");
                Vec::new()
            }
        }
    }

    /// Whether there is more room already, as each request turns out to be a stream.
    pub fn may_stream(&self) -> bool {
        self.growth.awaits_streams() && self.tasks.client().has_streams()
    }

    /// Whether there will be more room soon.
    pub fn is_growing(&self) -> bool {
        self.growth.is_growing()
    }

    /// Gives up places. Those who hear nothing go first: they have no connection to lose.
    fn shrink(&mut self, places: usize) -> Vec<Key> {
        let is_deaf = |key: &&Key| self.failing.has(&Watched::Service((*key).clone()));
        let mut ended: Vec<Key> = self.roster.keys().filter(is_deaf).cloned().collect();
        ended.truncate(places);
        for key in &ended {
            self.roster.leave(key);
        }
        ended.extend(self.roster.take(places));
        if let Some(starting) = &mut self.starting {
            starting.retain(|key| !ended.contains(key));
        }
        self.forget_ended();
        ended
    }
}
