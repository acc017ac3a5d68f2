//! Watches that start over: what can be compared with Consul, and what is watched anew where the
//! comparison found that its watch had told something else.

use crate::catalog::{Form, Snapshot};
use crate::consul::view::find;
use crate::consul::watches::Watches;
use crate::consul::{Key, Watched};

impl Watches {
    /// All that a watch has told and keeps telling.
    pub fn telling(&self) -> Vec<Watched> {
        let services = self.roster.keys().filter(|key| self.roster.told(key).is_some());
        let services = services.cloned().map(Watched::Service);
        let lists = self.lists.names("").into_iter().flat_map(|datacenter| {
            let nodes = Watched::Nodes { datacenter: datacenter.clone() };
            [Watched::Services { datacenter }, nodes]
        });
        let all = lists.chain(self.queries.keys().cloned()).chain(services);
        all.filter(|watched| !self.failing.has(watched)).collect()
    }

    /// Ends the watch that told something wrong, and starts another in its place: what that hears
    /// first is consistent. A list is watched anew together with the other of its datacenter.
    pub fn renew(&mut self, watched: &Watched, snapshot: &Snapshot) {
        let cancel = self.tasks.cancel().child_token();
        match watched {
            Watched::Nodes { datacenter } | Watched::Services { datacenter } => {
                self.lists.renew(datacenter, cancel.clone());
                self.tasks.watch_lists(datacenter, &cancel);
            }
            Watched::Queries { datacenter } => {
                if let Some(old) = self.queries.insert(watched.clone(), cancel.clone()) {
                    old.cancel();
                }
                self.tasks.watch_queries(datacenter, cancel);
            }
            Watched::Service(key) => self.renew_service(key, snapshot),
        }
    }

    fn renew_service(&mut self, key: &Key, snapshot: &Snapshot) {
        if !self.roster.leave(key) {
            return;
        }
        let Some(ends) = self.roster.enter(key, self.tasks.cancel()) else { return };
        // Consul is asked for it as it is registered.
        let known = find(snapshot, key).filter(|_| key.form == Form::Service);
        let name = known.map_or(&*key.service, |service| &*service.name);
        self.tasks.watch_service(&key.datacenter, key.form, name, ends);
    }
}
