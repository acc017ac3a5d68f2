//! What of the catalogue changed, for those who look on: the admin port's stream of events.
//!
//! ```text
//!   publisher --before, after--> difference --items--> ring --> each listener, at its own pace
//! ```
//! While nobody listens a publication costs the look whether somebody does. What is kept is
//! bounded, by the number of items and by the size of each: a listener that falls behind is told
//! how many it has missed, and reads the catalogue again. No answer depends on this, and no query
//! comes here.

mod difference;

use std::sync::Arc;

use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::catalog::model::Health;
use crate::catalog::{Service, Snapshot};

/// Something that is different.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// Datacenters came or went, or another one is the local one.
    Datacenters {
        /// Those that came.
        added: Vec<String>,
        /// Those that went.
        removed: Vec<String>,
        /// The local one; `None` where it is not known.
        local: Option<String>,
    },
    /// Nodes came, went, or are not as they were; or their list was heard for the first time, and
    /// it may be empty then.
    Nodes {
        /// Where they are.
        datacenter: Arc<str>,
        /// What became of them.
        names: Names,
    },
    /// Consul hears of a datacenter again, or not any more.
    Reach {
        /// Which one.
        datacenter: Arc<str>,
        /// Whether Consul can be asked about it.
        is_heard: bool,
        /// Whether what is in memory of it may be old.
        is_old: bool,
    },
    /// A service has other instances, or they are in memory now, or not any more.
    Service {
        /// Where it is.
        datacenter: Arc<str>,
        /// As registered.
        name: String,
        /// How many instances there are of each health; `None` where they are not in memory.
        health: Option<Healths>,
    },
    /// Names of services came or went; or their list was heard for the first time, and it may be
    /// empty then.
    Services {
        /// Where they are.
        datacenter: Arc<str>,
        /// What became of them.
        names: Names,
    },
}

/// What became of names of one list, [`NAMES_MAX`] of them at most.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// New ones.
    pub added: Vec<String>,
    /// Those that are there still, and whose own data is not what it was. None of services.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

/// How many instances there are of each health, in the order of [`HEALTHS`].
pub type Healths = [usize; HEALTHS.len()];

/// Tells it to whoever listens. Clones tell it to the same.
#[derive(Clone, Debug)]
pub struct News(Sender<Arc<Item>>);

impl News {
    /// Starts with nobody listening.
    pub fn new() -> Self {
        Self(broadcast::channel(KEPT_MAX).0)
    }

    /// All that is told from now on.
    pub fn listen(&self) -> Receiver<Arc<Item>> {
        self.0.subscribe()
    }

    /// Tells what is different in `after`, which is published already.
    pub fn tell(&self, before: &Snapshot, after: &Snapshot) {
        if self.0.receiver_count() > 0 {
            difference::find(before, after, &mut |item| {
                // The last listener may have gone meanwhile.
                self.0.send(Arc::new(item)).ok();
            });
        }
    }
}

impl Default for News {
    fn default() -> Self {
        Self::new()
    }
}

/// How many instances of `service` there are of each health; `None` where they are not in memory.
pub fn healths(service: &Service) -> Option<Healths> {
    service.rrsets.as_ref()?;
    let count = |health| service.instances.iter().filter(|it| it.health == health).count();
    Some(HEALTHS.map(count))
}

/// As they are shown, from best to worst.
pub const HEALTHS: [Health; 4] =
    [Health::Passing, Health::Warning, Health::Unknown, Health::Critical];

/// Items that a listener may be behind. A larger change is read again whole.
pub const KEPT_MAX: usize = 1024;

/// Names in one item.
pub const NAMES_MAX: usize = 100;
