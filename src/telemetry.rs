//! Log lines: to standard error, as text or as JSON.

use std::io::IsTerminal;
use std::panic;

use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Starts logging for the whole process. Later calls change nothing.
///
/// A panic becomes a log line too: it is caught where it happens, and must not pass unseen.
pub fn start(config: LogConfig) {
    let level = match config.level {
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
    let filter = format!(
        "{library},h2={outside},hickory_net={outside},hickory_proto={outside},quinn={outside},\
         quinn_proto={outside},fingerpost={level}"
    );
    let filter = EnvFilter::new(filter);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // It fails when a subscriber is there already, as in tests with several servers.
    match config.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init().ok(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init().ok(),
    };
    panic::set_hook(Box::new(|panic| error!(%panic, "panicked")));
}
