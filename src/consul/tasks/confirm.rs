//! Reads again what is missing, before it is believed to be gone.

use tokio::time::Instant;
use tracing::debug;

use crate::catalog::{Change, Form};
use crate::consul::client::{Ask, Place};
use crate::consul::tasks::{Said, Tasks, instances, is_denial};
use crate::consul::watch::Source;
use crate::consul::{Key, Watched, api};

impl Tasks {
    /// Reads something again, as the leader has it.
    pub fn recheck(&self, watched: Watched) {
        let name = watched.datacenter().to_owned();
        let datacenter = Some(name.clone());
        match &watched {
            Watched::Nodes { .. } => {
                self.confirm(watched, api::nodes(Some(&name)), move |list: api::NodeList| {
                    Change::Nodes { datacenter: name, nodes: list.nodes }
                });
            }
            Watched::Queries { .. } => {
                self.confirm(watched, api::queries(Some(&name)), |queries| Change::Queries {
                    datacenter: name,
                    queries: Some(queries),
                });
            }
            Watched::Services { .. } => {
                self.confirm(watched, api::services(Some(&name)), |listing| Change::Services {
                    datacenter: name,
                    listing,
                });
            }
            Watched::Service(key) => {
                let Key { form, service, .. } = key.clone();
                let datacenter = datacenter.as_deref();
                match form {
                    Form::Query => {
                        let ask = api::execution(datacenter, &service);
                        self.confirm(watched, ask, move |found: api::Execution| {
                            instances(&name, form, &service, found.instances, found.executed)
                        });
                    }
                    Form::Connect | Form::Ingress | Form::Peer | Form::Service => {
                        let ask = api::health(datacenter, form, &service);
                        self.confirm(watched, ask, move |value| {
                            instances(&name, form, &service, value, None)
                        });
                    }
                }
            }
        }
    }

    fn confirm<T: Default + Send + 'static>(
        &self,
        watched: Watched,
        ask: Ask<T>,
        change: impl FnOnce(T) -> Change + Send + 'static,
    ) {
        let mut source = self.counted(watched.to_string(), ask, Place::Spare, true);
        let tasks = self.clone();
        let reading = async move {
            let asked = Instant::now();
            let change = match source.fetch(None).await {
                Ok(reply) if reply.known_leader == Some(false) => None,
                Ok(reply) => Some(change(reply.value)),
                Err(error) if is_denial(&error) => Some(change(T::default())),
                Err(error) => {
                    debug!(error = error.chain(), %watched, "cannot read again what is missing");
                    None
                }
            };
            tasks.report(Said::Confirmed { watched, change, asked }, Instant::now()).await;
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(reading));
    }
}
