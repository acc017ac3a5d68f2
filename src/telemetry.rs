//! Log lines: to standard error, as text or as JSON.
//!
//! A thread of its own writes them: who reads standard error may be slow, or stand still, and neither an
//! answer nor a stop waits for that. What finds no room is lost and counted.

use std::io::IsTerminal;
use std::panic;
use std::sync::OnceLock;

use tracing::error;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// The target of the query log's lines, which are written at level info.
pub const QUERIES: &str = "fingerpost::queries";

/// Has the lines written; dropped, it waits for those that are left, for a second at the longest.
#[derive(Debug)]
#[must_use = "what is logged is written as long as this is kept"]
pub struct Log {
    _writing: WorkerGuard,
}

/// Starts logging for the whole process. Later calls change nothing.
///
/// A panic becomes a log line too: it is caught where it happens, and must not pass unseen.
pub fn start(config: LogConfig) -> Log {
    let (writer, writing) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let lines = || fmt::layer().with_writer(writer.clone()).with_target(false);
    let all = tracing_subscriber::registry().with(filter);
    // It fails when a subscriber is there already, as in tests with several servers.
    let started = match config.format {
        LogFormat::Json => all.with(lines().json().flatten_event(true)).try_init(),
        LogFormat::Text => all.with(lines().with_ansi(std::io::stderr().is_terminal())).try_init(),
    };
    if started.is_ok() {
        RELOAD.set(Box::new(move |filter| drop(handle.reload(filter)))).ok();
        LOST.set(lost).ok();
    }
    panic::set_hook(Box::new(|panic| error!(%panic, "panicked")));
    Log { _writing: writing }
}

/// How many lines were not written, because so many waited already.
pub fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines that may wait to be written: some megabytes.
const LINES_MAX: usize = 10_000;

/// Logs from now on what this level lets through. Nothing where [`start`] was not the first.
pub fn set_level(level: LogLevel) {
    if let Some(reload) = RELOAD.get() {
        reload(filter(level));
    }
}

/// Puts another filter in the place of the one that is there.
type Reload = Box<dyn Fn(EnvFilter) + Send + Sync>;

static RELOAD: OnceLock<Reload> = OnceLock::new();

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries speak up only when something is wrong, or when everything is wanted.
    let library = if level == "trace" { "debug" } else { "warn" };
    // What comes from outside must not fill the log: hickory and quinn warn of each stray datagram,
    // h2 of each answer to a ping that was not asked for.
    let outside = if level == "trace" { "debug" } else { "error" };
    // Which queries have a line is said by a key of its own.
    let filter = format!(
        "{library},h2={outside},hickory_net={outside},hickory_proto={outside},quinn={outside},\
         quinn_proto={outside},fingerpost={level},{QUERIES}=info"
    );
    EnvFilter::new(filter)
}
