//! The snapshot file: how large and how old it is, and what became of writing it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{IntCounter, Registry};

use crate::clock::Clock;
use crate::metrics::add;
use crate::metrics::family::family;

/// Metrics of the snapshot file.
#[derive(Clone, Debug)]
pub struct SnapshotMetrics {
    /// Times that it was written.
    pub writes: IntCounter,
    /// Times that it could not be written; the earlier one stayed.
    pub failures: IntCounter,
    /// Files that an earlier run seemed to have left, and that were not taken.
    pub refused: IntCounter,
    file: Arc<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    bytes: AtomicU64,
    /// When what is in it was last known to be right, in milliseconds of the program's clock.
    right_ms: AtomicI64,
}

impl SnapshotMetrics {
    /// Makes and registers the metrics. Ages are taken by `clock`.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry, clock: Clock) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            add(registry, IntCounter::new(format!("fingerpost_snapshot_{name}_total"), help)?)
        };
        let file = Arc::new(FileState::default());
        let describe = |(name, help): (&str, &str)| {
            Desc::new(name.to_owned(), help.to_owned(), Vec::new(), Default::default())
        };
        let descriptions = FAMILIES.into_iter().map(describe).collect::<Result<_, _>>()?;
        let collector = FileCollector { file: Arc::clone(&file), clock, descriptions };
        registry.register(Box::new(collector))?;
        Ok(Self {
            writes: counter("writes", "Times that the snapshot file was written.")?,
            failures: counter("failures", "Times that the snapshot file could not be written.")?,
            refused: counter("refused", "Snapshot files that were not taken at start.")?,
            file,
        })
    }

    /// Says that there is a file of so many bytes, which was right at `right_ms` of the program's
    /// clock.
    pub fn set_file(&self, bytes: u64, right_ms: i64) {
        self.file.bytes.store(bytes, Ordering::Relaxed);
        self.file.right_ms.store(right_ms, Ordering::Relaxed);
    }

    /// Says that what is in the file was still right at `right_ms` of the program's clock.
    pub fn set_right(&self, right_ms: i64) {
        self.file.right_ms.store(right_ms, Ordering::Relaxed);
    }
}

/// Reads what is known of the file when a scrape comes.
#[derive(Debug)]
struct FileCollector {
    file: Arc<FileState>,
    clock: Clock,
    descriptions: Vec<Desc>,
}

impl Collector for FileCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let bytes = self.file.bytes.load(Ordering::Relaxed);
        let age_ms = self.clock.signed_ms() - self.file.right_ms.load(Ordering::Relaxed);
        let age_secs = if bytes == 0 { 0.0 } else { age_ms.max(0) as f64 / 1e3 };
        let values = FAMILIES.into_iter().zip([age_secs, bytes as f64]);
        let gauge =
            |((name, help), value)| family(name, help, MetricType::GAUGE, [(Vec::new(), value)]);
        values.map(gauge).collect()
    }
}

const FAMILIES: [(&str, &str); 2] = [
    (
        "fingerpost_snapshot_age_seconds",
        "Since the snapshot file was last known to be right; 0 without one.",
    ),
    ("fingerpost_snapshot_bytes", "Size of the snapshot file; 0 without one."),
];
