//! What whoever started the program is told of it, as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::dns::pulse::Pulses;
use crate::store::Store;
use crate::supervisor::Supervisor;

/// Tells the supervisor, if there is one.
#[derive(Clone, Debug)]
pub struct Reporting(Option<Arc<Reporter>>);

#[derive(Debug)]
struct Reporter {
    supervisor: Supervisor,
    subject: Subject,
}

/// What there is to tell of.
#[derive(Debug)]
pub struct Subject {
    /// What is answered for, and where that comes from.
    pub task: String,
    /// What is answered from.
    pub store: Arc<Store>,
    /// Cancelled when the program is told to end.
    pub stop: CancellationToken,
    /// Cancelled when the listeners are: their threads end then.
    pub listening: CancellationToken,
    /// How long it takes from the one to the end, at the longest.
    pub longest: Duration,
}

impl Reporting {
    /// Tells `supervisor` of `subject`.
    pub fn new(supervisor: Option<Supervisor>, subject: Subject) -> Self {
        Self(supervisor.map(|supervisor| Arc::new(Reporter { supervisor, subject })))
    }

    /// What is asked is answered from now on. That Consul was heard is not said: a program that may
    /// not be up without it would be ended for an outage that it is to bridge.
    pub fn ready(&self) {
        if let Self(Some(reporter)) = self
            && !reporter.subject.stop.is_cancelled()
        {
            reporter.supervisor.ready(&reporter.subject.status());
        }
    }

    /// The configuration is read again, until [`Reporting::ready`]. Nothing more once a stop is told.
    pub fn reloading(&self) {
        if let Self(Some(reporter)) = self
            && !reporter.subject.stop.is_cancelled()
        {
            reporter.supervisor.reloading();
        }
    }

    /// The program is told to end.
    pub fn stopping(&self) {
        if let Self(Some(reporter)) = self {
            reporter.supervisor.stopping(reporter.subject.longest);
        }
    }

    /// Tells what changes and gives signs of life, while the threads of `pulses` do, until `cancel`.
    pub async fn watch(self, mut pulses: Pulses, cancel: CancellationToken) {
        let Self(Some(reporter)) = self else { return };
        let Reporter { supervisor, subject } = &*reporter;
        let stuck = || {
            let thread = pulses.find_still().filter(|_| !subject.listening.is_cancelled());
            thread.map(|number| format!("the thread udp-{number}"))
        };
        supervisor.watch(|| subject.status(), stuck, cancel).await;
    }
}

impl Subject {
    fn status(&self) -> String {
        if self.stop.is_cancelled() {
            return "stopping".to_owned();
        }
        let snapshot = self.store.snapshot.load();
        let services: usize = snapshot.datacenters().map(|dc| dc.service_count()).sum();
        let status = format!("answering for {}; {services} services", self.task);
        match self.store.pending.load().0.first() {
            Some(pending) => format!("{status}; not ready: {pending}"),
            None => status,
        }
    }
}
