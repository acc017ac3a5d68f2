//! What the recursors have said, for as long as they said.
//!
//! moka holds the bound in bytes and drops what was used least recently; how old an answer is, is
//! told by tokio's clock, so that a test can turn it.
//!
//! **Invariant:** nothing is answered after its lifetime.

use std::sync::Arc;
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use tokio::time::Instant;

use crate::forward::message::Message;
use crate::forward::question::Key;
use crate::metrics::ForwardMetrics;

/// Answers by question.
#[derive(Debug)]
pub struct Cache {
    answers: moka::sync::Cache<Key, Kept>,
    metrics: ForwardMetrics,
}

/// An answer, and when it came.
#[derive(Clone, Debug)]
struct Kept {
    message: Arc<Message>,
    since: Instant,
}

impl Cache {
    /// Holds answers of at most `bytes_max` bytes in all.
    pub fn new(bytes_max: u64, metrics: ForwardMetrics) -> Self {
        let evictions = metrics.evictions.clone();
        let answers = moka::sync::Cache::builder()
            .max_capacity(bytes_max)
            .weigher(|key: &Key, kept: &Kept| {
                u32::try_from(key.weight() + kept.message.weight()).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            // No answer lasts longer; those that last less are looked at when they are used.
            .time_to_live(LIFETIME_MAX)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    evictions.inc();
                }
            })
            .build();
        Self { answers, metrics }
    }

    /// The answer to `key`, and how old it is `now`.
    pub fn find(&self, key: &Key, now: Instant) -> Option<(Arc<Message>, Duration)> {
        let kept = self.answers.get(key)?;
        let age = now.saturating_duration_since(kept.since);
        if age < kept.message.lifetime() {
            return Some((kept.message, age));
        }
        self.answers.invalidate(key);
        None
    }

    /// Keeps `message`, which came `now`, unless it lasts no longer.
    pub fn keep(&self, key: Key, message: &Arc<Message>, now: Instant) {
        if message.lifetime().is_zero() {
            return;
        }
        self.answers.insert(key, Kept { message: Arc::clone(message), since: now });
        self.answers.run_pending_tasks();
        let bytes = i64::try_from(self.answers.weighted_size()).unwrap_or(i64::MAX);
        self.metrics.cache_bytes.set(bytes);
    }
}

const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
