//! All records made anew, by rules that have changed: what there is stays as it is.

use std::sync::Arc;

use crate::catalog::builder::Builder;
use crate::catalog::form::Form;
use crate::catalog::nodes::NodeRecord;
use crate::catalog::reverse::{Owner, Pointer};
use crate::catalog::selection::Rules;
use crate::catalog::shards::Keyed;
use crate::catalog::snapshot::Service;

impl Builder {
    /// Makes all records anew, by other rules of the same zone. False if they are those in force.
    pub fn set_rules(&mut self, rules: Rules) -> bool {
        if rules == self.rules {
            return false;
        }
        self.next.rules = Some(Arc::new(rules.clone()));
        self.rules = rules;
        for at in 0..self.next.datacenters.len() {
            self.renew_services(at);
            self.renew_unlisted(at);
            self.renew_nodes(at);
            self.renew_pointers(at);
        }
        true
    }

    fn renew_nodes(&mut self, at: usize) {
        let (view, ttl_secs) = (self.view(at), self.rules.node_ttl_secs);
        let datacenter = self.next.datacenters.get_mut(at).map(Arc::make_mut);
        let Some(nodes) = datacenter.and_then(|datacenter| datacenter.nodes.as_mut()) else {
            return;
        };
        let all: Vec<Arc<NodeRecord>> = nodes.iter().cloned().collect();
        for node in all {
            nodes.insert(Arc::new(NodeRecord::encode(node.key(), &node.node, view, ttl_secs)));
        }
    }

    /// Whose an address is stays; how long that may be kept does not.
    fn renew_pointers(&mut self, at: usize) {
        let rules = self.rules.clone();
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else { return };
        let scope = format!("{}.{}", datacenter.name, rules.zone.as_str());
        let record = |owner: &Owner| {
            let ttl_secs = match owner {
                Owner::Node(_) => rules.node_ttl_secs,
                Owner::Service { service, .. } => {
                    rules.service_ttl_secs(&service.to_ascii_lowercase())
                }
            };
            owner.record(&scope, ttl_secs)
        };
        let all: Vec<Arc<Pointer>> = datacenter.pointers.iter().cloned().collect();
        for pointer in all {
            let owners = pointer.owners.iter().map(|(owner, _)| (owner.clone(), record(owner)));
            let next = Pointer { key: pointer.key.clone(), owners: owners.collect() };
            datacenter.pointers.insert(Arc::new(next));
        }
    }

    /// Makes the records of all services in memory anew.
    fn renew_services(&mut self, at: usize) {
        let all = self.next.datacenters.get(at).into_iter().flat_map(|it| it.services());
        let all: Vec<Arc<Service>> =
            all.filter(|service| service.rrsets.is_some()).cloned().collect();
        for service in all {
            let key = String::from_utf8_lossy(&service.key).into_owned();
            let rrsets = Some(Arc::new(self.encode(at, &key, &service.instances)));
            let next = Service { rrsets, ..service.as_ref().clone() };
            self.replace(at, key.as_bytes(), Some(next));
        }
    }

    /// The same of all that is in no list.
    fn renew_unlisted(&mut self, at: usize) {
        let all = self.next.datacenters.get(at).into_iter().flat_map(|it| it.all_unlisted());
        let all: Vec<(Form, Arc<Service>)> =
            all.map(|(form, service)| (form, Arc::clone(service))).collect();
        for (form, service) in all.iter().filter(|(_, service)| service.rrsets.is_some()) {
            let key = String::from_utf8_lossy(&service.key).into_owned();
            let (instances, executed) = (&service.instances, service.executed.as_ref());
            let rrsets = Some(Arc::new(self.encode_unlisted(at, *form, &key, instances, executed)));
            let next = Service { rrsets, ..service.as_ref().clone() };
            self.replace_unlisted(at, *form, key.as_bytes(), Some(next));
        }
    }
}
