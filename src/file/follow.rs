//! The catalogue file, read again when it changes.
//!
//! The system tells of changes in the file's *folder*: editors rename a new file over the old
//! one, and Kubernetes swaps a link beside it, so a watch on the file itself would be left with
//! what is no longer there. Some changes are never told of (a network file system, a folder that
//! was replaced), so the file is also looked at every ten seconds, and read where it is another.
//!
//! **Invariant:** a file that cannot be read, or is no catalogue, changes nothing of what was
//! published.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::catalog::change::Change;
use crate::file::catalog::Catalog;
use crate::file::{ReadError, read};
use crate::stamp::Stamp;

/// Reads the file at `path` whenever it changes, and passes on what differs, until `cancel`.
///
/// `published` is what the caller has read and passed on before. The file is read once more at
/// once, since it may have changed between that and the start of the watch.
pub async fn follow(
    path: PathBuf,
    published: Catalog,
    cancel: CancellationToken,
    mut publish: impl AsyncFnMut(Vec<Change>),
) {
    let changed = Arc::new(Notify::new());
    let mut watcher = watch_folder(&path, &changed);
    let mut copy = Copy { path, published, trouble: None, stamp: None };
    let mut wake = Wake::Told;
    loop {
        let changes = copy.renew(wake).await;
        if !changes.is_empty() {
            publish(changes).await;
            if wake == Wake::Recheck {
                // We were not told, so the watch is on a folder that is no longer there.
                drop(watcher);
                watcher = watch_folder(&copy.path, &changed);
            }
        }
        wake = tokio::select! {
            () = cancel.cancelled() => return,
            wake = next_wake(&changed) => wake,
        };
    }
}

/// Why the file is read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wake {
    /// It is time.
    Recheck,
    /// The system told of a change.
    Told,
}

/// What we hold of the file.
#[derive(Debug)]
struct Copy {
    path: PathBuf,
    published: Catalog,
    /// What is wrong with the file at present, as it was logged.
    trouble: Option<String>,
    /// The file as it was when it was read.
    stamp: Option<Stamp>,
}

impl Copy {
    /// Reads the file, and returns what differs from what was published; nothing if it is bad.
    async fn renew(&mut self, wake: Wake) -> Vec<Change> {
        let path = self.path.clone();
        // Taken first: what is replaced in between is read once more.
        let stamp = Stamp::of(&path).ok();
        if wake == Wake::Recheck && stamp.is_some() && stamp == self.stamp {
            return Vec::new();
        }
        self.stamp = stamp;
        // A disk can take its time; the runtime's threads have other work.
        match tokio::task::spawn_blocking(move || read(&path)).await {
            Ok(Ok(catalog)) => self.take(catalog),
            Ok(Err(error)) => self.suffer(&error),
            Err(error) => {
                let source = std::io::Error::other(error);
                self.suffer(&ReadError::Unreadable { path: self.path.clone(), source })
            }
        }
    }

    fn take(&mut self, catalog: Catalog) -> Vec<Change> {
        if self.trouble.take().is_some() {
            info!(path = %self.path.display(), "catalogue file is good again");
        }
        let changes = catalog.changes_since(&self.published);
        self.published = catalog;
        changes
    }

    /// Logs what is wrong, once for each thing that is: a person may be mending it right now.
    fn suffer(&mut self, error: &ReadError) -> Vec<Change> {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        if self.trouble.as_ref() != Some(&reason) {
            let path = self.path.display();
            warn!(%path, error = %reason, "catalogue file is bad, keeping the last good one");
            self.trouble = Some(reason);
        }
        Vec::new()
    }
}

/// Asks the system to tell of changes in the folder of `path`, for as long as the watcher lives.
///
/// `None` if it refuses, as it does when a user has too many watches; the rechecks remain.
fn watch_folder(path: &Path, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let teller = Arc::clone(changed);
    let tell = move |event: notify::Result<notify::Event>| {
        // Our own reading is told too. To react to it would be to read for ever.
        if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
            teller.notify_one();
        }
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            let folder = folder.display();
            warn!(%folder, %error, "cannot watch the catalogue file's folder, reading it at times");
            None
        }
    }
}

/// Waits for a change, and then until no more come, so that a file being written is let finish.
async fn next_wake(changed: &Notify) -> Wake {
    if timeout(RECHECK, changed.notified()).await.is_err() {
        return Wake::Recheck;
    }
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let quiet = (Instant::now() + SETTLE).min(deadline);
        // A folder in which something is always written must not keep us from reading.
        if timeout_at(quiet, changed.notified()).await.is_err() || Instant::now() >= deadline {
            return Wake::Told;
        }
    }
}

/// How often the file is read without having been told of a change.
const RECHECK: Duration = Duration::from_secs(10);

/// How long no change must come before the file is read.
const SETTLE: Duration = Duration::from_millis(50);

/// How long after the first change the file is read in any case.
const SETTLE_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use tokio::sync::mpsc;
    use tokio_util::task::TaskTracker;

    use super::*;

    /// A followed file in a folder of its own, and what was published of it.
    struct Followed {
        folder: TempDir,
        path: PathBuf,
        patience: Duration,
        published: mpsc::UnboundedReceiver<String>,
        cancel: CancellationToken,
        tasks: TaskTracker,
    }

    impl Followed {
        fn start(port: u16, patience: Duration) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let inner = folder.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let path = inner.join("catalog.json");
            fs::write(&path, text(port)).unwrap();

            let (sender, published) = mpsc::unbounded_channel();
            let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
            let before = read(&path).unwrap();
            let publish = async move |changes: Vec<Change>| {
                sender.send(render(&changes)).unwrap();
            };
            tasks.spawn(follow(path.clone(), before, cancel.clone(), publish));
            Self { folder, path, patience, published, cancel, tasks }
        }

        /// Writes aside and renames, as an editor does.
        fn replace(&self, text: &str) {
            let aside = self.path.with_extension("new");
            fs::write(&aside, text).unwrap();
            fs::rename(&aside, &self.path).unwrap();
        }

        async fn expect(&mut self, expected: &str) {
            let published = timeout(self.patience, self.published.recv()).await;
            assert_eq!(published.unwrap().unwrap(), expected);
        }

        async fn stop(self) {
            self.cancel.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        }
    }

    fn text(port: u16) -> String {
        format!(r#"{{"service": {{"name": "web", "port": {port}}}}}"#)
    }

    fn render(changes: &[Change]) -> String {
        let [Change::Service { instances, .. }] = changes else {
            panic!("not one service: {changes:?}");
        };
        format!("web at {:?}", instances.iter().map(|instance| instance.port).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_file_renamed_over_is_read_again() {
        let mut followed = Followed::start(80, PATIENCE);
        // The first change may be found by the reading at start; the second has to be told.
        for port in [81, 82] {
            followed.replace(&text(port));
            followed.expect(&format!("web at [{port}]")).await;
        }
        followed.stop().await;
    }

    #[tokio::test]
    async fn a_file_written_in_place_is_read_again() {
        let mut followed = Followed::start(80, PATIENCE);
        // The first change may be found by the reading at start; the second has to be told.
        for port in [81, 82] {
            fs::write(&followed.path, text(port)).unwrap();
            followed.expect(&format!("web at [{port}]")).await;
        }
        followed.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_was_replaced_is_found() {
        let mut followed = Followed::start(80, 60 * RECHECK);
        let inner = followed.folder.path().join("inner");
        for port in [81, 82, 83] {
            let aside = followed.folder.path().join(format!("aside-{port}"));
            fs::create_dir(&aside).unwrap();
            fs::write(aside.join("catalog.json"), text(port)).unwrap();
            fs::rename(&inner, followed.folder.path().join(format!("old-{port}"))).unwrap();
            fs::rename(&aside, &inner).unwrap();
            followed.expect(&format!("web at [{port}]")).await;
        }
        followed.stop().await;
    }

    #[tokio::test]
    async fn a_bad_file_keeps_the_last_good_catalogue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.json");
        fs::write(&path, text(80)).unwrap();
        let published = read(&path).unwrap();
        let mut copy = Copy { path: path.clone(), published, trouble: None, stamp: None };
        assert!(copy.renew(Wake::Told).await.is_empty());
        assert_eq!(copy.trouble, None);

        fs::write(&path, text(80).replace("80", "70000")).unwrap();
        assert!(copy.renew(Wake::Told).await.is_empty());
        let trouble = "service.port is 70000; it must be a whole number between 0 and 65535";
        assert_eq!(copy.trouble.as_deref(), Some(trouble));

        fs::remove_file(&path).unwrap();
        assert!(copy.renew(Wake::Told).await.is_empty());
        assert!(copy.trouble.as_ref().unwrap().starts_with("No such file"));

        // What differs is told against the last good one.
        fs::write(&path, text(80)).unwrap();
        assert!(copy.renew(Wake::Told).await.is_empty());
        assert_eq!(copy.trouble, None);
        fs::write(&path, text(81)).unwrap();
        assert_eq!(render(&copy.renew(Wake::Told).await), "web at [81]");

        // Where nobody tells of a change, it is seen all the same.
        assert!(copy.renew(Wake::Recheck).await.is_empty());
        fs::write(&path, text(82)).unwrap();
        assert_eq!(render(&copy.renew(Wake::Recheck).await), "web at [82]");
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_never_rests_does_not_keep_us_from_reading() {
        let changed = Notify::new();
        let started = Instant::now();
        let noise = async {
            let mut ticks = tokio::time::interval(SETTLE / 2);
            loop {
                ticks.tick().await;
                changed.notify_one();
            }
        };
        tokio::select! {
            wake = next_wake(&changed) => assert_eq!(wake, Wake::Told),
            () = noise => (),
        }
        let elapsed = started.elapsed();
        assert!(elapsed <= SETTLE_MAX + SETTLE, "{elapsed:?}");
    }

    /// How long the system may take to tell; less than [`RECHECK`], which would hide that it
    /// never did.
    const PATIENCE: Duration = Duration::from_secs(8);
}
