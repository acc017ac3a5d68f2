//! Reads once more what a watch follows, without blocking: to compare both, or to see whether what is
//! missing is gone.

use tokio::time::Instant;
use tracing::debug;

use crate::catalog::{Change, Form};
use crate::consul::client::{Ask, Place};
use crate::consul::tasks::{Said, Tasks, instances, is_denial};
use crate::consul::watch::{Read, Source as _};
use crate::consul::{Watched, api};

/// What was read again.
#[derive(Debug)]
pub struct Again {
    /// What a watch follows.
    pub watched: Watched,
    /// What Consul has, and when it was asked; `None` if it could not be read.
    pub found: Option<(Change, Read)>,
}

impl Tasks {
    /// Reads `watched` once, a service by the name that it is registered as, and reports it as `said`.
    pub fn read_again(&self, watched: Watched, service: &str, said: fn(Again) -> Said) {
        let datacenter = watched.datacenter().to_owned();
        let dc = Some(&*datacenter.clone());
        match &watched {
            Watched::Nodes { .. } => {
                let change = |list: api::NodeList| Change::Nodes { datacenter, nodes: list.nodes };
                self.again(watched, api::nodes(dc), said, change);
            }
            Watched::Queries { .. } => {
                let change = |all| Change::Queries { datacenter, queries: Some(all) };
                self.again(watched, api::queries(dc), said, change);
            }
            Watched::Services { .. } => {
                let change = |listing| Change::Services { datacenter, listing };
                self.again(watched, api::services(dc), said, change);
            }
            Watched::Service(key) => match (key.form, service.to_owned()) {
                (form @ Form::Query, name) => {
                    let ask = api::execution(dc, service);
                    self.again(watched, ask, said, move |found: api::Execution| {
                        instances(&datacenter, form, &name, found.instances, found.executed)
                    });
                }
                (form, name) => {
                    let ask = api::health(dc, form, service);
                    let change = move |all| instances(&datacenter, form, &name, all, None);
                    self.again(watched, ask, said, change);
                }
            },
        }
    }

    fn again<T: Default + Send + 'static>(
        &self,
        watched: Watched,
        ask: Ask<T>,
        said: fn(Again) -> Said,
        change: impl FnOnce(T) -> Change + Send + 'static,
    ) {
        let mut source = self.counted(watched.to_string(), ask, Place::Spare, true);
        let is_query = matches!(&watched, Watched::Service(key) if key.form == Form::Query);
        let tasks = self.clone();
        let reading = async move {
            let read = Read { asked: Instant::now(), position: None };
            let found = match source.fetch(None).await {
                Ok(reply) => {
                    let position = reply.position();
                    Some((change(reply.value), Read { position, ..read }))
                }
                Err(error) if is_query && is_denial(&error) => Some((change(T::default()), read)),
                Err(error) => {
                    debug!(error = error.chain(), %watched, "cannot read again");
                    None
                }
            };
            tasks.report(said(Again { watched, found }), Instant::now()).await;
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(reading));
    }
}
