//! How a listener asks for what the answers lack, without knowing who has it.
//!
//! ```text
//!   respond() -> Wants --ask--+--> [bounded queue] --> the source fetches, publishes, says so
//!                             └--> [bounded queue] --> the forwarder asks, and hands over
//!   the listener goes on, with what was supplied  <-----------------------┘
//! ```
//! What is Consul's to know goes to the source, the rest of the world to the forwarder: a slow
//! recursor fills no queue but its own.
//!
//! **Invariant:** asking never waits. A full queue is an answer too, and it is SERVFAIL.

use tokio::sync::{mpsc, oneshot};

use crate::answer::Want;
use crate::catalog::Form;
use crate::wire::CLASS_IN;
use crate::wire::record::TAIL_HEAD;

/// Something to be fetched, with the names written out.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Wanted {
    /// The lists of a datacenter.
    Datacenter {
        /// Its name.
        datacenter: String,
    },
    /// The recursors' reply to a query.
    Foreign {
        /// The query as it came, which the core has let pass.
        message: Vec<u8>,
    },
    /// The records of a host in no zone of ours.
    Host {
        /// As registered.
        name: String,
        /// Of what type.
        rtype: u16,
    },
    /// The instances of a service, or of what else has some.
    Service {
        /// Where it is.
        datacenter: String,
        /// What kind of name it has.
        form: Form,
        /// Its name, as registered or as asked.
        service: String,
    },
}

impl Wanted {
    /// The datacenter that has to be asked; the empty name where it is none of Consul's.
    pub fn datacenter(&self) -> &str {
        match self {
            Self::Datacenter { datacenter } | Self::Service { datacenter, .. } => datacenter,
            Self::Foreign { .. } | Self::Host { .. } => "",
        }
    }
}

/// What became of a wish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Supply {
    /// A whole reply to the query, but for the id and the size that its client takes.
    Message(Vec<u8>),
    /// It is in the snapshot now.
    Published,
    /// What a host has.
    Records {
        /// NOERROR and NXDOMAIN are what the host's own servers said.
        rcode: u16,
        /// Of the type asked for, aliases followed; empty is no such records.
        records: Vec<HostRecord>,
    },
}

/// A record of a host, without its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostRecord {
    /// As in the IANA registry.
    pub rtype: u16,
    /// The least of the record and the aliases that lead to it, less its time in the cache.
    pub ttl_secs: u32,
    /// Without compression, so that it means the same in any message.
    pub rdata: Vec<u8>,
}

impl HostRecord {
    /// It as on the wire, without its owner.
    pub fn tail(&self) -> Box<[u8]> {
        let len = u16::try_from(self.rdata.len()).unwrap_or_default();
        let mut tail = Vec::with_capacity(TAIL_HEAD + self.rdata.len());
        tail.extend_from_slice(&self.rtype.to_be_bytes());
        tail.extend_from_slice(&CLASS_IN.to_be_bytes());
        tail.extend_from_slice(&self.ttl_secs.to_be_bytes());
        tail.extend_from_slice(&len.to_be_bytes());
        tail.extend_from_slice(&self.rdata);
        tail.into()
    }
}

/// One question's wish.
#[derive(Debug)]
pub struct Demand {
    /// What is to be fetched.
    pub wanted: Wanted,
    /// Told when it is there; dropped when it cannot be had.
    pub done: oneshot::Sender<Supply>,
}

/// The listeners' end of the queues.
#[derive(Clone, Debug)]
pub struct Demands {
    source: mpsc::Sender<Demand>,
    forwarder: mpsc::Sender<Demand>,
}

/// The other ends.
#[derive(Debug)]
pub struct Served {
    /// What Consul, or a catalogue file, knows.
    pub source: mpsc::Receiver<Demand>,
    /// What the recursors know. Dropped where there are none.
    pub forwarder: mpsc::Receiver<Demand>,
}

/// Whose a wish is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Server {
    /// What asks the recursors.
    Forwarder,
    /// What fills the snapshots.
    Source,
}

impl Server {
    /// Who has what `want` asks for.
    pub fn of(want: &Want<'_>) -> Self {
        match want {
            Want::Datacenter { .. } | Want::Service { .. } | Want::Unlisted { .. } => Self::Source,
            Want::Foreign | Want::Host { .. } => Self::Forwarder,
        }
    }
}

impl Demands {
    /// Queues for at most so many demands each, and their other ends.
    pub fn new(source_max: usize, forwarder_max: usize) -> (Self, Served) {
        let (to_source, source) = mpsc::channel(source_max.max(1));
        let (to_forwarder, forwarder) = mpsc::channel(forwarder_max.max(1));
        let demands = Self { source: to_source, forwarder: to_forwarder };
        (demands, Served { source, forwarder })
    }

    /// Asks for `want`, which the query `message` lacks.
    ///
    /// `None` if the queue is full, or nobody serves it.
    pub fn ask(&self, want: &Want<'_>, message: &[u8]) -> Option<oneshot::Receiver<Supply>> {
        let wanted = match want {
            Want::Datacenter { datacenter } => {
                Wanted::Datacenter { datacenter: (*datacenter).to_owned() }
            }
            Want::Foreign => Wanted::Foreign { message: message.to_vec() },
            Want::Host { name, rtype } => Wanted::Host { name: name.to_string(), rtype: *rtype },
            Want::Service { datacenter, service, .. } => Wanted::Service {
                datacenter: (*datacenter).to_owned(),
                form: Form::Service,
                service: (*service).to_owned(),
            },
            Want::Unlisted { datacenter, form, name } => Wanted::Service {
                datacenter: (*datacenter).to_owned(),
                form: *form,
                service: name.to_string(),
            },
        };
        let queue = match Server::of(want) {
            Server::Forwarder => &self.forwarder,
            Server::Source => &self.source,
        };
        let (done, answered) = oneshot::channel();
        queue.try_send(Demand { wanted, done }).ok().map(|()| answered)
    }
}
