//! The query log: a line for each query that is due one.
//!
//! It takes the records from the [`Tap`] and writes them as events of the log, a few milliseconds
//! after the answers. Who reads the log may be slow, so this blocks a thread that nobody else needs.
//!
//! **Invariant:** what comes from outside is escaped: no name makes a second line, or a second field.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::answer::Transport;
use crate::explain::said::{rcode_name, type_name};
use crate::metrics::TapMetrics;
use crate::tap::{Record, Tap};
use crate::telemetry::QUERIES;
use crate::wire::QUESTION_AT;
use crate::wire::reader::Reader;

/// Writes the lines of `tap` until `cancel`, and then those that are left.
///
/// To be run where it may block.
pub async fn run(tap: Arc<Tap>, metrics: TapMetrics, cancel: CancellationToken) {
    let mut left_out = LeftOut { told: metrics.log_left_out.get(), told_at: None };
    while !cancel.is_cancelled() {
        tokio::select! {
            () = cancel.cancelled() => (),
            () = tap.opened() => follow(&tap, &metrics, &mut left_out, &cancel).await,
        }
    }
    write_all(&tap, &metrics);
    left_out.tell(metrics.log_left_out.get());
}

/// Writes lines as long as queries are logged.
async fn follow(
    tap: &Tap,
    metrics: &TapMetrics,
    left_out: &mut LeftOut,
    cancel: &CancellationToken,
) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = Instant::now();
    tap.refill();
    while tap.is_logging() {
        if cancel.run_until_cancelled(looks.tick()).await.is_none() {
            return;
        }
        write_all(tap, metrics);
        if second.elapsed() >= SECOND {
            second = Instant::now();
            tap.refill();
        }
        let now = metrics.log_left_out.get();
        if now > left_out.told && left_out.told_at.is_none_or(|at| at.elapsed() >= MINUTE) {
            left_out.tell(now);
        }
    }
    write_all(tap, metrics);
}

/// Of queries without their line.
struct LeftOut {
    /// How many were told of.
    told: u64,
    /// When.
    told_at: Option<Instant>,
}

impl LeftOut {
    fn tell(&mut self, now: u64) {
        let queries = now.saturating_sub(self.told);
        if queries > 0 {
            warn!(queries, "left out of the query log: more than log.queries_per_second");
        }
        (self.told, self.told_at) = (now, Some(Instant::now()));
    }
}

fn write_all(tap: &Tap, metrics: &TapMetrics) {
    while let Some(record) = tap.log().take() {
        write(&record);
        metrics.log_lines.inc();
        tap.log().give_back(record);
    }
}

fn write(record: &Record) {
    let (name, qtype) = question(&record.query).unzip();
    info!(
        target: QUERIES,
        client = %SocketAddr::from(record.client),
        transport = %transport(record.transport),
        name = name.map(tracing::field::display),
        r#type = qtype.map(tracing::field::display),
        rcode = %rcode_name(record.rcode),
        tc = record.is_truncated,
        stale = record.is_stale,
        waited = record.has_waited,
        bytes = record.reply_bytes,
        micros = u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX),
        "query"
    );
}

/// Name and type, where they can be read.
fn question(query: &[u8]) -> Option<(String, String)> {
    let mut reader = Reader::new(query);
    reader.take(QUESTION_AT)?;
    let question = reader.question()?;
    Some((escaped(question.name), type_name(question.qtype)))
}

/// A name as in a zone file (RFC 1035 §5.1): what is no visible character of ASCII is `\DDD`, and a
/// character with a meaning there, or in a line of `key=value`, has a backslash before it.
fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let mut reader = Reader::new(name);
    while let Some(len @ 1..) = reader.u8() {
        for byte in reader.take(usize::from(len)).unwrap_or_default() {
            // Writing to a string does not fail.
            match byte {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' | b'=' => {
                    write!(text, "\\{}", char::from(*byte)).ok()
                }
                0x21..=0x7e => write!(text, "{}", char::from(*byte)).ok(),
                other => write!(text, "\\{other:03}").ok(),
            };
        }
        text.push('.');
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

/// As the metrics call it.
fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Https => "https",
        Transport::Https3 => "https3",
        Transport::Quic => "quic",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Udp => "udp",
    }
}

/// How often it is looked for lines that are due, while queries are logged.
const LOOK: Duration = Duration::from_millis(10);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_is_escaped() {
        for (wire, expected) in [
            (&b"\x03Web\x07service\x06consul\x00"[..], "Web.service.consul."),
            (b"\x00", "."),
            (b"\x04_web\x04_tcp\x00", "_web._tcp."),
            (b"\x03a.b\x01*\x00", r"a\.b.*."),
            (b"\x04a\nb\r\x01c\x00", r"a\010b\013.c."),
            (b"\x03\x1b[m\x00", r"\027[m."),
            (b"\x05a b\tc\x00", r"a\032b\009c."),
            (b"\x06x rc=y\x00", r"x\032rc\=y."),
            (b"\x03\"\\;\x00", r#"\"\\\;."#),
            (b"\x04\xc3\xbc\x7f\x00\x00", r"\195\188\127\000."),
        ] {
            assert_eq!(escaped(wire), expected);
        }
    }

    #[test]
    fn what_is_no_question_has_no_name() {
        let head = [0; 12];
        assert_eq!(question(&head), None);
        assert_eq!(question(&head[..5]), None);
        let whole = [&head[..], b"\x03web\x00\x00\x21\x00\x01"].concat();
        assert_eq!(question(&whole), Some(("web.".to_owned(), "SRV".to_owned())));
        assert_eq!(question(&whole[..whole.len() - 1]), None);
    }
}
