//! Reads once more what a watch follows, without blocking, so that both can be compared.

use tokio::time::Instant;
use tracing::debug;

use crate::catalog::Change;
use crate::consul::client::{Ask, Place};
use crate::consul::tasks::{Said, Tasks, instances};
use crate::consul::watch::{Read, Source as _};
use crate::consul::{Watched, api};

/// What was read again.
#[derive(Debug)]
pub struct Checked {
    /// What a watch follows.
    pub watched: Watched,
    /// What Consul has, and when it was asked; `None` if it could not be read.
    pub found: Option<(Change, Read)>,
}

impl Tasks {
    /// Reads `watched` once, a service by the name that it is registered as.
    pub fn read_again(&self, watched: Watched, service: &str) {
        let dc = watched.datacenter().to_owned();
        match watched.clone() {
            Watched::Nodes { datacenter } => {
                self.check(watched, api::nodes(Some(&dc)), |list: api::NodeList| Change::Nodes {
                    datacenter,
                    nodes: list.nodes,
                });
            }
            Watched::Queries { datacenter } => {
                self.check(watched, api::queries(Some(&dc)), |queries| Change::Queries {
                    datacenter,
                    queries: Some(queries),
                });
            }
            Watched::Service(key) => {
                let (ask, name) = (api::health(Some(&dc), key.form, service), service.to_owned());
                let change = move |value| instances(&dc, key.form, &name, value, None);
                self.check(watched, ask, change);
            }
            Watched::Services { datacenter } => {
                let change = |listing| Change::Services { datacenter, listing };
                self.check(watched, api::services(Some(&dc)), change);
            }
        }
    }

    fn check<T: Send + 'static>(
        &self,
        watched: Watched,
        ask: Ask<T>,
        change: impl FnOnce(T) -> Change + Send + 'static,
    ) {
        let mut source = self.counted(watched.to_string(), ask, Place::Spare, true);
        let tasks = self.clone();
        let checking = async move {
            let asked = Instant::now();
            let read = source.fetch(None).await;
            let read = read.inspect_err(|error| {
                debug!(error = error.chain(), %watched, "cannot read again");
            });
            let found = read.ok().map(|reply| {
                let read = Read { asked, position: reply.position() };
                (change(reply.value), read)
            });
            tasks.report(Said::Checked(Checked { watched, found }), Instant::now()).await;
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(checking));
    }
}
