//! The services of a datacenter: which there are, and what each is answered with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::catalog::builder::{Builder, count_down, count_up, proved, swap};
use crate::catalog::change::{Executed, Held};
use crate::catalog::form::Form;
use crate::catalog::model::{Address, Instance};
use crate::catalog::press::Order;
use crate::catalog::queries;
use crate::catalog::reverse::{self, Owned, Owner};
use crate::catalog::rrsets::RRsets;
use crate::catalog::shards::Shards;
use crate::catalog::snapshot::{Datacenter, Service};

/// What was heard of a name of an unlisted form.
pub struct Told {
    /// All instances.
    pub instances: Vec<Instance>,
    /// How long that may be believed.
    pub held: Held,
    /// What a prepared query said besides.
    pub executed: Option<Executed>,
}

impl Builder {
    pub(in crate::catalog) fn set_services(
        &mut self,
        datacenter: &str,
        listing: Vec<(String, Vec<String>)>,
    ) -> bool {
        let mut new = BTreeMap::<String, (String, BTreeSet<String>)>::new();
        for (name, tags) in listing {
            let entry =
                new.entry(name.to_ascii_lowercase()).or_insert_with(|| (name, BTreeSet::new()));
            entry.1.extend(tags.iter().map(|tag| tag.to_ascii_lowercase()));
        }
        let Some(at) = self.position(datacenter) else { return false };
        let before = self.next.datacenters.get(at).map(Arc::clone);
        let first = before.as_ref().is_none_or(|datacenter| datacenter.services.is_none());
        let mut changed = first;

        let gone: Vec<Arc<Service>> = before
            .iter()
            .flat_map(|datacenter| datacenter.services())
            .filter(|old| str::from_utf8(&old.key).is_ok_and(|key| !new.contains_key(key)))
            .cloned()
            .collect();
        drop(before);
        if let Some(datacenter) = self.next.datacenters.get_mut(at).filter(|_| first) {
            Arc::make_mut(datacenter).services = Some(Shards::default());
        }
        for old in gone {
            self.labels_left += usize::from(old.usage.is_own());
            self.replace(at, &old.key, None);
            self.disown(at, &old);
            changed = true;
        }
        for (key, (name, tags)) in new {
            let tags: Arc<[Box<str>]> = tags.into_iter().map(String::into_boxed_str).collect();
            let next = match self.service(at, key.as_bytes()) {
                Some(old) if old.listed_tags == tags => continue,
                // Other tags mean other instances: what was fetched before is not fresh any more,
                // or a tag that is listed now would be denied.
                Some(old) => Service {
                    awaited_tags: awaited(&tags, old.rrsets.is_some(), &old.instances),
                    listed_tags: tags,
                    held: due(old.held),
                    ..old.as_ref().clone()
                },
                None => {
                    self.add_unswept(at);
                    Service {
                        name: name.into(),
                        usage: self.usage(),
                        held: Held::NEVER,
                        instances: Arc::default(),
                        rrsets: None,
                        key: key.clone().into_bytes().into(),
                        listed_tags: tags,
                        awaited_tags: Arc::default(),
                        owned: None,
                        owned_is_loaded: false,
                        executed: None,
                    }
                }
            };
            self.replace(at, key.as_bytes(), Some(next));
            changed = true;
        }
        changed | self.confirm_services(at)
    }

    /// Notes that a list was heard in the place of a file's. The addresses that the file had are
    /// still the best that is known, and are to be read again.
    fn confirm_services(&mut self, at: usize) -> bool {
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else {
            return false;
        };
        if datacenter.services_loaded_ms.take().is_none() {
            return false;
        }
        let Some(services) = &mut datacenter.services else { return true };
        let owners = services.iter().filter(|service| service.is_swept()).cloned();
        let owners: Vec<_> = owners.collect();
        datacenter.unswept += owners.len();
        for service in owners {
            let service = Service { owned_is_loaded: true, ..service.as_ref().clone() };
            services.insert(Arc::new(service));
        }
        datacenter.forget_loaded_owners();
        true
    }

    /// Takes in the instances of a service that is listed.
    pub(in crate::catalog) fn set_service(
        &mut self,
        datacenter: &str,
        service: &str,
        instances: Vec<Instance>,
        held: Held,
    ) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()).cloned() else { return false };
        let owned: BTreeSet<_> =
            instances.iter().filter_map(|instance| owned(instance, &old.name)).collect();
        if old.rrsets.is_some() && *old.instances == *instances {
            // What was read of the addresses meanwhile is older than this.
            let is_new = self.set_owned(at, key.as_bytes(), owned);
            return self.hold(datacenter, Form::Service, service, held) || is_new;
        }
        let rrsets = self.encode(at, &key, &instances);
        let next = Service {
            held,
            awaited_tags: awaited(&old.listed_tags, true, &instances),
            instances: instances.into(),
            rrsets: Some(Arc::new(rrsets)),
            ..old.as_ref().clone()
        };
        self.replace(at, key.as_bytes(), Some(next));
        self.set_owned(at, key.as_bytes(), owned);
        true
    }

    pub(in crate::catalog) fn encode(
        &self,
        at: usize,
        key: &str,
        instances: &[Instance],
    ) -> RRsets {
        let scope = self.next.datacenters.get(at).map_or("", |datacenter| &*datacenter.name);
        let order = Order {
            rules: &self.rules,
            form: Form::Service,
            name: key,
            node_scope: scope,
            address_scope: scope,
            view: self.view(at),
            leaves_out: true,
            ttl_secs: self.rules.service_ttl_secs(key),
        };
        order.encode(instances)
    }

    /// Takes in the addresses of a service whose instances are not kept.
    pub(in crate::catalog) fn set_addresses(
        &mut self,
        datacenter: &str,
        service: &str,
        addresses: &[(IpAddr, String, String)],
    ) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()) else { return false };
        let owned = addresses.iter().map(|(ip, node, id)| {
            let (node, id) = ((**node).into(), (**id).into());
            (reverse::name(*ip).into(), Owner::Service { node, id, service: old.name.clone() })
        });
        let owned = owned.collect();
        self.set_owned(at, key.as_bytes(), owned)
    }

    /// Says how a service is held whose instances are as they were.
    pub(in crate::catalog) fn hold(
        &mut self,
        datacenter: &str,
        form: Form,
        service: &str,
        held: Held,
    ) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let old = match form.place() {
            None => self.service(at, key.as_bytes()),
            Some(_) => self.unlisted(at, form, key.as_bytes()),
        };
        let Some(old) = old.filter(|old| old.rrsets.is_some()) else { return false };
        // Each failure says that it is failing; the first one says since when.
        let is_failing_still =
            matches!((old.held, held), (Held::Failing { .. }, Held::Failing { .. }));
        if old.held == held || is_failing_still {
            return false;
        }
        let next = Service { held, ..old.as_ref().clone() };
        match form.place() {
            None => {
                self.replace(at, key.as_bytes(), Some(next));
                true
            }
            Some(_) => self.replace_unlisted(at, form, key.as_bytes(), Some(next)),
        }
    }

    /// Takes in what was heard of a name that only Consul can deny; no instances deny it.
    pub(in crate::catalog) fn set_unlisted(
        &mut self,
        datacenter: &str,
        form: Form,
        name: &str,
        told: Told,
    ) -> bool {
        let Told { instances, held, executed } = told;
        let key = name.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let known = self.unlisted(at, form, key.as_bytes()).cloned();
        let is_same = known.as_ref().is_some_and(|old| {
            old.held == held && *old.instances == *instances && old.executed == executed
        });
        if is_same {
            return false;
        }
        let rrsets = self.encode_unlisted(at, form, &key, &instances, executed.as_ref());
        let next = Service {
            name: known.as_ref().map_or_else(|| name.into(), |old| old.name.clone()),
            usage: known
                .as_ref()
                .map_or_else(|| Arc::new(self.other.shared()), |old| Arc::clone(&old.usage)),
            held,
            instances: instances.into(),
            rrsets: Some(Arc::new(rrsets)),
            key: key.as_bytes().into(),
            listed_tags: Arc::default(),
            awaited_tags: Arc::default(),
            owned: None,
            owned_is_loaded: false,
            executed,
        };
        self.replace_unlisted(at, form, key.as_bytes(), Some(next))
    }

    fn unlisted(&self, at: usize, form: Form, key: &[u8]) -> Option<&Arc<Service>> {
        self.next.datacenters.get(at)?.unlisted.get(form.place()?)?.get(key)
    }

    /// Puts `next` in the place of what is known of `key`, and keeps the count of each parent of
    /// a query's name right. Whether there is such a form.
    pub(in crate::catalog) fn replace_unlisted(
        &mut self,
        at: usize,
        form: Form,
        key: &[u8],
        next: Option<Service>,
    ) -> bool {
        let datacenter = self.next.datacenters.get_mut(at).map(Arc::make_mut);
        let Some((place, datacenter)) = form.place().zip(datacenter) else { return false };
        let Some(services) = datacenter.unlisted.get_mut(place) else { return false };
        let is_below = |service: &Service| {
            let rrsets = service.rrsets.as_ref();
            form == Form::Query && rrsets.is_some_and(|rrsets| !rrsets.all().is_empty())
        };
        let is = next.as_ref().is_some_and(is_below);
        let old = swap(services, key, next, &mut datacenter.answerable);
        match (old.as_deref().is_some_and(is_below), is) {
            (false, true) => {
                proved(key).for_each(|name| count_up(&mut datacenter.query_parents, name));
            }
            (true, false) => {
                proved(key).for_each(|name| count_down(&mut datacenter.query_parents, name));
            }
            (false, false) | (true, true) => (),
        }
        true
    }

    pub(in crate::catalog) fn encode_unlisted(
        &self,
        at: usize,
        form: Form,
        key: &str,
        instances: &[Instance],
        executed: Option<&Executed>,
    ) -> RRsets {
        let asked = self.next.datacenters.get(at).map_or("", |datacenter| &*datacenter.name);
        let (service, peer) = match form {
            Form::Peer => key.split_once('.').unwrap_or((key, "")),
            Form::Query => (queries::split(key).0, ""),
            Form::Connect | Form::Ingress | Form::Service => (key, ""),
        };
        let peer_scope = format!("{peer}.peer");
        let in_datacenter = executed.map_or(asked, |executed| &*executed.datacenter);
        let of_service = executed.map_or(service, |executed| &*executed.service);
        let ttl_secs = executed.and_then(|executed| executed.ttl_secs);
        let order = Order {
            rules: &self.rules,
            form,
            name: service,
            node_scope: if form == Form::Peer { &peer_scope } else { in_datacenter },
            address_scope: if form == Form::Peer { "" } else { in_datacenter },
            view: self.position(in_datacenter).map_or_else(|| self.view(1), |at| self.view(at)),
            // Consul: which warnings a query leaves out, it says itself.
            leaves_out: form != Form::Query,
            ttl_secs: ttl_secs
                .unwrap_or_else(|| self.rules.service_ttl_secs(&of_service.to_ascii_lowercase())),
        };
        let is_sorted = executed.is_some_and(|executed| executed.is_sorted);
        RRsets { is_sorted, ..order.encode(instances) }
    }

    /// What is known of a service is newer than the list of names.
    pub(in crate::catalog) fn settle(&mut self, datacenter: &str, service: &str) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()) else { return false };
        if old.awaited_tags.is_empty() {
            return false;
        }
        let next = Service { awaited_tags: Arc::default(), ..old.as_ref().clone() };
        self.replace(at, key.as_bytes(), Some(next));
        true
    }

    /// Lets go of instances. A name that is listed stays.
    pub(in crate::catalog) fn release(
        &mut self,
        datacenter: &str,
        form: Form,
        service: &str,
    ) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        if form.place().is_some() {
            let is_known = self.unlisted(at, form, key.as_bytes()).is_some();
            return is_known && self.replace_unlisted(at, form, key.as_bytes(), None);
        }
        let Some(old) = self.service(at, key.as_bytes()) else { return false };
        if old.rrsets.is_none() {
            return false;
        }
        let next = Service {
            held: Held::NEVER,
            awaited_tags: Arc::default(),
            instances: Arc::default(),
            rrsets: None,
            ..old.as_ref().clone()
        };
        self.replace(at, key.as_bytes(), Some(next));
        true
    }

    /// Puts `next` in the place of the service `key`, and keeps the count of each tag right.
    pub(in crate::catalog) fn replace(&mut self, at: usize, key: &[u8], next: Option<Service>) {
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else { return };
        let Some(services) = &mut datacenter.services else { return };
        let new = next.as_ref().map(tags_of).unwrap_or_default();
        let old = swap(services, key, next, &mut datacenter.answerable);
        let old = old.as_deref().map(tags_of).unwrap_or_default();
        new.difference(&old).for_each(|tag| count_up(&mut datacenter.tags, tag));
        old.difference(&new).for_each(|tag| count_down(&mut datacenter.tags, tag));
    }

    /// Makes `owned` the addresses of the service `key` in the index, in the place of its last.
    fn set_owned(&mut self, at: usize, key: &[u8], owned: BTreeSet<Owned>) -> bool {
        let Some(old) = self.service(at, key).cloned() else { return false };
        let owned: Arc<[_]> = owned.into_iter().collect();
        if old.is_swept() && old.owned.as_ref() == Some(&owned) {
            return false;
        }
        let ttl_secs = self.rules.service_ttl_secs(&String::from_utf8_lossy(key));
        let zone = self.rules.zone.as_str().to_owned();
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else {
            return false;
        };
        let scope = format!("{}.{zone}", datacenter.name);
        let before = old.owned.as_deref().unwrap_or_default();
        // Both are sorted.
        let is_in = |list: &[Owned], one| list.binary_search(one).is_ok();
        for (name, owner) in before.iter().filter(|old| !is_in(&owned, old)) {
            datacenter.disown(name, owner);
        }
        for (name, owner) in owned.iter().filter(|new| !is_in(before, new)) {
            datacenter.own(name, owner.clone(), owner.record(&scope, ttl_secs));
        }
        datacenter.unswept -= usize::from(!old.is_swept());
        datacenter.forget_loaded_owners();
        let next = Service { owned: Some(owned), owned_is_loaded: false, ..old.as_ref().clone() };
        self.replace(at, key, Some(next));
        true
    }

    /// One more service is listed of which nothing was heard.
    fn add_unswept(&mut self, at: usize) {
        if let Some(datacenter) = self.next.datacenters.get_mut(at) {
            Arc::make_mut(datacenter).unswept += 1;
        }
    }

    /// Takes the addresses of a service that is gone out of the index.
    fn disown(&mut self, at: usize, gone: &Service) {
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else { return };
        for (name, owner) in gone.owned.iter().flat_map(|owned| owned.iter()) {
            datacenter.disown(name, owner);
        }
        datacenter.unswept -= usize::from(!gone.is_swept());
        datacenter.forget_loaded_owners();
    }
}

impl Datacenter {
    /// Once the list was heard and all addresses were, none of the index is a file's any more.
    fn forget_loaded_owners(&mut self) {
        if self.unswept == 0 && self.services_loaded_ms.is_none() {
            self.owners_loaded_ms = None;
        }
    }
}

/// The reverse name of an instance's own address, and the instance as its owner.
fn owned(instance: &Instance, service: &str) -> Option<Owned> {
    let Some(Address::Ip(ip)) = instance.address else { return None };
    let owner = Owner::Service {
        node: (*instance.node.name).into(),
        id: (*instance.id).into(),
        service: service.into(),
    };
    Some((reverse::name(ip).into(), owner))
}

/// How what was fetched is held once a newer list contradicts it; what is watched will be told of.
fn due(held: Held) -> Held {
    match held {
        Held::OnDemand { fresh_until_ms, .. } => {
            Held::Due { since_ms: i64::try_from(fresh_until_ms).unwrap_or(i64::MAX) }
        }
        Held::Due { .. } | Held::Failing { .. } | Held::Loaded { .. } | Held::Watched => held,
    }
}

/// Those of the tags `listed` that none of the known `instances` has.
fn awaited(listed: &[Box<str>], is_known: bool, instances: &[Instance]) -> Arc<[Box<str>]> {
    // What is not known is fetched before anything is denied.
    if !is_known {
        return Arc::default();
    }
    let tags = instances.iter().flat_map(|instance| &instance.tags);
    let tags: BTreeSet<String> = tags.map(|tag| tag.to_ascii_lowercase()).collect();
    listed.iter().filter(|tag| !tags.contains(&***tag)).cloned().collect()
}

/// The tags of a service that can be a label of their own: of its listing and of its instances.
fn tags_of(service: &Service) -> BTreeSet<Box<[u8]>> {
    let listed = service.listed_tags.iter().map(|tag| tag.as_bytes());
    let used = service.rrsets.iter().flat_map(|rrsets| rrsets.tags());
    listed.chain(used).filter(|tag| !tag.contains(&b'.')).map(Into::into).collect()
}
