//! Who is told of queries: the log, and the collector of dnstap where there is one.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DnstapConfig;
use crate::dns::{self, Front};
use crate::dnstap::message::Writer;
use crate::dnstap::{Collector, Sender};
use crate::querylog;

/// Starts those who tell of what `front` answers, among `parts`. They end at `cancel`, when all is told.
pub fn start(
    config: &DnstapConfig,
    front: &Front,
    parts: &TaskTracker,
    cancel: &CancellationToken,
) {
    let (tap, metrics) = (&front.tap, &front.metrics.tap);
    let runtime = Handle::current();
    let logging = querylog::run(Arc::clone(tap), metrics.clone(), cancel.clone());
    // A thread of its own: who reads the log may be slow.
    parts.spawn_blocking(move || runtime.block_on(logging));
    let socket = config.socket.clone().map(Collector::Socket);
    let collector = socket.or_else(|| config.address.clone().map(Collector::Address));
    if let (Some(collector), Some(queue)) = (collector, tap.dnstap()) {
        let identity = config.identity.clone().unwrap_or_else(dns::host_name);
        let writer = Writer::new(&identity, VERSION);
        let sender = Sender::new(collector, writer, queue, metrics.clone());
        parts.spawn(sender.run(cancel.clone()));
    }
}

const VERSION: &str = concat!("fingerpost ", env!("CARGO_PKG_VERSION"));
