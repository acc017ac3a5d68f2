//! How a listener asks for what the answers lack, without knowing who has it.
//!
//! ```text
//!   respond() -> Wants --ask--> [bounded queue] --> the source fetches, publishes, says done
//!   respond() again, on its last turn  <------------------------------------------┘
//! ```
//! **Invariant:** asking never waits. A full queue is an answer too, and it is SERVFAIL.

use tokio::sync::{mpsc, oneshot};

use crate::answer::Want;

/// Something to be fetched, with the names written out.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Wanted {
    /// The lists of a datacenter.
    Datacenter {
        /// Its name.
        datacenter: String,
    },
    /// The instances of a service.
    Service {
        /// Where it is.
        datacenter: String,
        /// Its name as registered.
        service: String,
    },
}

impl Wanted {
    /// The datacenter that has to be asked.
    pub fn datacenter(&self) -> &str {
        match self {
            Self::Datacenter { datacenter } | Self::Service { datacenter, .. } => datacenter,
        }
    }
}

/// One question's wish.
#[derive(Debug)]
pub struct Demand {
    /// What is to be fetched.
    pub wanted: Wanted,
    /// Told when it is published; dropped when it cannot be had.
    pub done: oneshot::Sender<()>,
}

/// The listeners' end of the queue.
#[derive(Clone, Debug)]
pub struct Demands(mpsc::Sender<Demand>);

impl Demands {
    /// A queue for at most `waiting_max` demands, and the source's end of it.
    pub fn new(waiting_max: usize) -> (Self, mpsc::Receiver<Demand>) {
        let (sender, receiver) = mpsc::channel(waiting_max.max(1));
        (Self(sender), receiver)
    }

    /// Asks for `want`. `None` if the queue is full, or nobody serves it.
    pub fn ask(&self, want: &Want<'_>) -> Option<oneshot::Receiver<()>> {
        let wanted = match want {
            Want::Datacenter { datacenter } => {
                Wanted::Datacenter { datacenter: (*datacenter).to_owned() }
            }
            Want::Service { datacenter, service, .. } => Wanted::Service {
                datacenter: (*datacenter).to_owned(),
                service: (*service).to_owned(),
            },
        };
        let (done, answered) = oneshot::channel();
        self.0.try_send(Demand { wanted, done }).ok().map(|()| answered)
    }
}
