//! Metrics that are read from the snapshot when a scrape comes.
//!
//! Labels are names from the catalogue, never from a query. Services beyond the bound have no
//! label of their own: their cache results are counted as `other`, and of their instances'
//! health there is only the number of services it is not told for.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use crate::answer::stale::is_away;
use crate::catalog::model::Health;
use crate::catalog::{CacheResult, Datacenter, Service, Snapshot, Usage};
use crate::metrics::OTHER;
use crate::metrics::family::{family, label};
use crate::store::Store;

/// Collects from the snapshot.
#[derive(Debug)]
pub struct CatalogCollector {
    store: Arc<Store>,
    other: Arc<Usage>,
    health_series_max: usize,
    descriptions: Vec<Desc>,
}

impl CatalogCollector {
    /// Reads `store`'s snapshots. `other` holds the cache results of no labelled service.
    ///
    /// # Errors
    ///
    /// Fails on a name that Prometheus does not allow, which is a bug in this file.
    pub fn new(
        store: Arc<Store>,
        other: Arc<Usage>,
        health_series_max: usize,
    ) -> Result<Self, prometheus::Error> {
        let descriptions = FAMILIES
            .into_iter()
            .map(|(name, help, labels)| {
                let labels = labels.iter().map(|name| (*name).to_owned()).collect();
                Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { store, other, health_series_max, descriptions })
    }

    fn cache(&self, snapshot: &Snapshot) -> Vec<(Vec<LabelPair>, f64)> {
        // A service of this name may be in several datacenters; the label has the name alone.
        let mut totals = BTreeMap::<&str, [u64; CacheResult::ALL.len()]>::new();
        let own = own_services(snapshot).map(|(_, service)| (&*service.name, &*service.usage));
        for (name, usage) in own.chain([(OTHER, &*self.other)]) {
            let total = totals.entry(name).or_default();
            for (sum, result) in total.iter_mut().zip(CacheResult::ALL) {
                *sum += usage.total(result);
            }
        }
        let values = totals.into_iter().flat_map(|(name, totals)| {
            CacheResult::ALL.into_iter().zip(totals).map(move |(result, total)| {
                (vec![label("result", result.as_str()), label("service", name)], total as f64)
            })
        });
        values.collect()
    }

    /// The health of each instance, and the number of services it is not told for.
    fn health(&self, snapshot: &Snapshot) -> (Vec<(Vec<LabelPair>, f64)>, f64) {
        let mut values = Vec::new();
        let mut services: Vec<_> = own_services(snapshot).collect();
        services.sort_by(|a, b| (&a.0.name, &a.1.name).cmp(&(&b.0.name, &b.1.name)));
        let mut told = 0;
        for (datacenter, service) in &services {
            // Nothing is known of the instances that were not fetched.
            let is_known = service.rrsets.is_some();
            if !is_known || values.len() + service.instances.len() > self.health_series_max {
                continue;
            }
            told += 1;
            values.extend(service.instances.iter().map(|instance| {
                let identity = format!("{}/{}", instance.node.name, instance.id);
                let labels = vec![
                    label("dc", &datacenter.name),
                    label("instance", &identity),
                    label("service", &service.name),
                ];
                (labels, health_value(instance.health))
            }));
        }
        let all: usize = snapshot.datacenters().map(|datacenter| datacenter.service_count()).sum();
        (values, (all - told) as f64)
    }
}

impl Collector for CatalogCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.store.snapshot.load();
        let (health, omitted) = self.health(&snapshot);
        let per_datacenter = |value: &dyn Fn(&Datacenter) -> f64| -> Vec<_> {
            let datacenters = snapshot.datacenters();
            datacenters.map(|dc| (vec![label("dc", &dc.name)], value(dc))).collect()
        };
        let values = [
            self.cache(&snapshot),
            health,
            vec![(Vec::new(), omitted)],
            per_datacenter(&|datacenter| datacenter.service_count() as f64),
            per_datacenter(&|datacenter| datacenter.node_count() as f64),
            per_datacenter(&|datacenter| f64::from(u8::from(!is_away(&snapshot, datacenter)))),
        ];
        let families = FAMILIES.into_iter().zip(values).map(|((name, help, _), values)| {
            let counts = name.ends_with("_total");
            family(name, help, if counts { MetricType::COUNTER } else { MetricType::GAUGE }, values)
        });
        families.collect()
    }
}

/// Services with labels of their own, each with its datacenter.
fn own_services(snapshot: &Snapshot) -> impl Iterator<Item = (&Datacenter, &Service)> {
    snapshot.datacenters().flat_map(|datacenter| {
        let services = datacenter.services().filter(|service| service.usage.is_own());
        services.map(move |service| (datacenter.as_ref(), service.as_ref()))
    })
}

fn health_value(health: Health) -> f64 {
    match health {
        Health::Passing => 1.0,
        Health::Unknown | Health::Warning => 0.5,
        Health::Critical => 0.0,
    }
}

const FAMILIES: [(&str, &str, &[&str]); 6] = [
    (
        "fingerpost_cache_total",
        "What the cache had for questions, by service.",
        &["result", "service"],
    ),
    (
        "fingerpost_service_health",
        "Health of each instance: 1 passing, 0.5 warning, 0 critical.",
        &["dc", "instance", "service"],
    ),
    (
        "fingerpost_service_health_omitted_services",
        "Services whose instances have no series in fingerpost_service_health.",
        &[],
    ),
    ("fingerpost_catalog_services", "Services known by name.", &["dc"]),
    ("fingerpost_catalog_nodes", "Nodes known.", &["dc"]),
    (
        "fingerpost_datacenter_reachable",
        "Whether Consul is heard from about this datacenter: 1, or 0 while answers may be old.",
        &["dc"],
    ),
];
