//! The snapshot file: the catalogue on disk, so that a restart while Consul is away loses nothing.
//!
//! ```text
//!   start    disk --bytes--> seal --payload--> contents --Change--> the publisher, before the source
//!   then     the store's snapshot --> contents --> seal --> disk, if it changed, every so often
//! ```
//! **Invariant:** at the path there is a whole file or none, whenever we are killed; a file that
//! cannot be read is set aside, never overwritten. What is read is answered as old until the source
//! has told better: where something was heard already, nothing is read.
//!
//! Knows neither Consul nor the listeners.

pub mod contents;
pub mod disk;
pub mod seal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::catalog::{Change, Found, List, Snapshot};
use crate::clock::Clock;
use crate::config::SnapshotConfig;
use crate::metrics::SnapshotMetrics;
use crate::store::Store;
use crate::warm::contents::{Contents, Loading};

/// Reads the file at start, and keeps it.
#[derive(Clone, Debug)]
pub struct Warm {
    place: Arc<FilePlace>,
    every: Duration,
    clock: Clock,
    metrics: SnapshotMetrics,
}

/// Where the file is, and what bounds it.
#[derive(Debug)]
struct FilePlace {
    path: PathBuf,
    bytes_max: usize,
    /// What the program's clock counts from. Kept, so that a time is written alike each time.
    start_unix_ms: i64,
}

/// Why a file was not taken.
///
/// The program starts without it. It is for the operator to look at, who is told what to do.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Part of it is missing, or is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Whatever it is, we have not written it.
    #[error("it is no snapshot of fingerpost's")]
    Foreign,
    /// It has a format that this program does not know.
    #[error("its version is {version}, and this program reads {}", seal::VERSION)]
    Future {
        /// Above our own.
        version: u64,
    },
    /// A folder, a device or the like.
    #[error("it is no regular file")]
    NoFile,
    /// It is not read, so that it takes no more memory than it may.
    #[error("it has more than {bytes_max} bytes, which is snapshot.bytes_max")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The system does not let us.
    #[error("it cannot be read")]
    Unreadable(#[from] std::io::Error),
}

/// Why the file could not be written. What was there stays; it is tried again.
#[derive(Debug, Error)]
pub enum WriteError {
    /// What the system says.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What is at the path is nothing that we would replace.
    #[error("there is something else than a regular file")]
    NoFile,
    /// The next start would not read it.
    #[error("the catalogue takes {bytes} bytes, and snapshot.bytes_max is {bytes_max}")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
}

/// What was written last, and how that went.
#[derive(Default)]
struct Last {
    snapshot: Option<Arc<Snapshot>>,
    digest: Option<String>,
    /// In a row.
    failures: u32,
}

/// What a file says of the time when it was written, by the clock that people read. That may have
/// been set since, or not yet then.
#[derive(Clone, Copy, Debug)]
struct Times {
    saved_unix_ms: i64,
    /// The file is touched while it stays right.
    modified_unix_ms: i64,
}

/// What came of writing.
enum Written {
    /// A new file of so many bytes, and the digest of what is in it.
    New { bytes: usize, digest: String },
    /// The file has the same already, and now says that it is right still.
    Same,
}

impl Warm {
    /// What `config` says; `None` where it names no file.
    pub fn new(config: &SnapshotConfig, clock: Clock, metrics: SnapshotMetrics) -> Option<Self> {
        let (path, bytes_max) = (config.path.clone()?, config.bytes_max);
        let place = FilePlace { path, bytes_max, start_unix_ms: clock.start_unix_ms() };
        Some(Self { place: Arc::new(place), every: config.every, clock, metrics })
    }

    /// What an earlier run left, for a publisher that has heard nothing; `local` is the datacenter
    /// meant where a name has none, if that is known. Nothing where there is no file, or none that
    /// can be taken, which is then said and set aside.
    pub fn load(&self, local: Option<&str>) -> Vec<Change> {
        disk::remove_leftovers(&self.place.path);
        let file = self.place.path.display();
        match self.read(local) {
            Ok(Some(changes)) => changes,
            Ok(None) => {
                info!(%file, "there is no snapshot file yet");
                Vec::new()
            }
            Err(refusal) => {
                self.metrics.refused.inc();
                let kept_as = match refusal {
                    Refusal::NoFile => "what it is".to_owned(),
                    _ => match disk::set_aside(&self.place.path) {
                        Ok(path) => path.display().to_string(),
                        Err(error) => format!("it is, as it cannot be renamed: {error}"),
                    },
                };
                let advice = refusal.advice();
                let why = format!("{:#}", anyhow::Error::from(refusal));
                warn!(%file, why, kept_as, advice, "snapshot file refused, starting without it");
                Vec::new()
            }
        }
    }

    /// Writes what `store` has, as often as it may, until cancelled; and once more then.
    pub async fn keep(self, store: Arc<Store>, cancel: CancellationToken) {
        let mut last = Last::default();
        let mut ticks = time::interval(self.every);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let is_over = cancel.run_until_cancelled(ticks.tick()).await.is_none();
            let snapshot = Arc::clone(&store.snapshot.load());
            self.save(snapshot, &mut last).await;
            if is_over {
                return;
            }
        }
    }

    fn read(&self, local: Option<&str>) -> Result<Option<Vec<Change>>, Refusal> {
        let FilePlace { path, bytes_max, start_unix_ms } = &*self.place;
        let Some((bytes, modified_unix_ms)) = disk::read(path, *bytes_max)? else {
            return Ok(None);
        };
        let sealed = seal::open(&bytes)?;
        let contents = Contents::read(sealed.payload)?;
        let times = Times { saved_unix_ms: sealed.saved_unix_ms, modified_unix_ms };
        let loading = times.loading(*start_unix_ms, self.clock.signed_ms(), local);
        let right_ms = loading.right_ms;
        let changes = contents.changes(&loading)?;
        self.metrics.set_file(bytes.len() as u64, right_ms);
        Ok(Some(changes))
    }

    async fn save(&self, snapshot: Arc<Snapshot>, last: &mut Last) {
        // Until Consul was heard, the file has what there is, or more.
        let Found::Here(local) = snapshot.datacenter(None) else { return };
        if !local.is_heard() {
            return;
        }
        let now_ms = self.clock.signed_ms();
        let right_ms = local.old_since(List::Services).unwrap_or(now_ms);
        let is_same = last.snapshot.as_ref().is_some_and(|last| Arc::ptr_eq(last, &snapshot));
        if is_same && local.is_cut_off() {
            return;
        }
        let earlier = last.digest.clone();
        let (place, written) = (Arc::clone(&self.place), Arc::clone(&snapshot));
        let writing = tokio::task::spawn_blocking(move || match (is_same, earlier) {
            (true, _) => disk::touch(&place.path).map(|()| Written::Same).map_err(WriteError::from),
            (false, earlier) => place.write(&written, now_ms, earlier),
        });
        let ended = match writing.await {
            Ok(ended) => ended.map_err(|error| format!("{:#}", anyhow::Error::from(error))),
            Err(broken) => Err(broken.to_string()),
        };
        match ended {
            Ok(Written::New { bytes, digest }) => {
                self.metrics.writes.inc();
                self.metrics.set_file(bytes as u64, right_ms);
                self.succeed(last);
                (last.snapshot, last.digest) = (Some(snapshot), Some(digest));
            }
            Ok(Written::Same) => {
                self.metrics.set_right(right_ms);
                self.succeed(last);
                last.snapshot = Some(snapshot);
            }
            Err(error) => self.fail(&error, last),
        }
    }

    fn succeed(&self, last: &mut Last) {
        let failures = std::mem::take(&mut last.failures);
        if failures > 0 {
            let file = self.place.path.display();
            info!(%file, failures, "the snapshot file is written again");
        }
    }

    /// What was there stays. Whatever became of it, all is written the next time.
    fn fail(&self, error: &str, last: &mut Last) {
        self.metrics.failures.inc();
        *last = Last { failures: last.failures.saturating_add(1), ..Last::default() };
        let file = self.place.path.display();
        match last.failures {
            1 => warn!(%file, error, "cannot write the snapshot file, retrying"),
            failures => debug!(%file, error, failures, "cannot write the snapshot file, retrying"),
        }
    }
}

impl FilePlace {
    /// Writes `snapshot`, unless the file has the same by its digest.
    fn write(
        &self,
        snapshot: &Snapshot,
        now_ms: i64,
        earlier: Option<String>,
    ) -> Result<Written, WriteError> {
        let Self { path, bytes_max, start_unix_ms } = self;
        let payload = Contents::of(snapshot, *start_unix_ms).to_payload();
        let digest = seal::digest(&[&payload]);
        if earlier.as_ref() == Some(&digest) {
            disk::touch(path)?;
            return Ok(Written::Same);
        }
        let head = seal::head(&payload, start_unix_ms.saturating_add(now_ms));
        let bytes = head.len() + payload.len();
        if bytes > *bytes_max {
            return Err(WriteError::TooLarge { bytes, bytes_max: *bytes_max });
        }
        disk::replace(path, &[&head, &payload])?;
        Ok(Written::New { bytes, digest })
    }
}

impl Times {
    /// How old the file is, for a program whose clock counts from `start_unix_ms` and says `now_ms`.
    /// A time in the future is now, and so is one when nothing could have been written: how old such a
    /// file is, nobody knows.
    fn loading(self, start_unix_ms: i64, now_ms: i64, local: Option<&str>) -> Loading<'_> {
        let Self { saved_unix_ms, modified_unix_ms } = self;
        let is_clock_set = |unix_ms: &i64| *unix_ms >= FIRST_UNIX_MS;
        let right_unix_ms =
            [saved_unix_ms, modified_unix_ms].into_iter().filter(is_clock_set).max();
        let right_ms = right_unix_ms.map(|unix_ms| unix_ms.saturating_sub(start_unix_ms));
        let right_ms = right_ms.map_or(now_ms, |right_ms| right_ms.min(now_ms));
        let start_unix_ms = match is_clock_set(&saved_unix_ms) {
            true => start_unix_ms,
            // The times in it are of the same clock: they tell how much older each thing was.
            false => saved_unix_ms.saturating_sub(right_ms),
        };
        Loading { start_unix_ms, right_ms, local }
    }
}

impl Refusal {
    /// What is to be done about it.
    fn advice(&self) -> &'static str {
        match self {
            Self::Damaged(_) => "remove it; a new one is written once Consul is heard",
            Self::Foreign | Self::NoFile => "see whether snapshot.path is the file that is meant",
            Self::Future { .. } => "run the version that wrote it, with it put back, to use it",
            Self::TooLarge { .. } => "raise snapshot.bytes_max and put it back",
            Self::Unreadable(_) => "let the program read it, and put it back",
        }
    }
}

/// When 2025 began, which is before any file was written. A machine that keeps no time when it is off
/// is in 1970 until it is told.
const FIRST_UNIX_MS: i64 = 1_735_689_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_old_a_file_is_by_clocks_that_were_set() {
        let start = FIRST_UNIX_MS + 1_000_000;
        for (saved, modified, start, expected) in [
            (start - 9_000, start - 9_000, start, (start, -9_000)),
            (start - 9_000, start - 4_000, start, (start, -4_000)),
            // The clock was set back since, or is not set yet: as right as can be.
            (start + 9_000, start - 9_000, start, (start, 50)),
            (start - 9_000, start + 9_000, start, (start, 50)),
            (start, start, 7_000, (7_000, 50)),
            // It was not set when the file was written: its times say nothing but how far apart
            // they are.
            (60_000, start - 4_000, start, (64_000, -4_000)),
            (60_000, 61_000, start, (59_950, 50)),
            (60_000, 61_000, 7_000, (59_950, 50)),
        ] {
            let times = Times { saved_unix_ms: saved, modified_unix_ms: modified };
            let Loading { start_unix_ms, right_ms, .. } = times.loading(start, 50, None);
            assert_eq!((start_unix_ms, right_ms), expected, "{saved} {modified} {start}");
        }
    }
}
