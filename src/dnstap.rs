//! dnstap: every query and its reply, sent to a collector as they went over the wire.
//!
//! ```text
//!   tap's queue --> messages, some together --> Unix socket or TCP --> collector
//!                     not connected: again, ever later, up to ten seconds
//! ```
//! A collector that is away or slow costs frames, which are counted, and nothing else: what waits is
//! bounded by the queue, and no answer waits for it. Queries that are not answered are not sent.

pub mod frames;
pub mod message;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::dnstap::frames::Word;
use crate::dnstap::message::{Event, Writer};
use crate::metrics::TapMetrics;
use crate::tap::{FRAMES, Queue};

/// Where the collector is.
#[derive(Clone, Debug)]
pub enum Collector {
    /// Over TCP: host and port.
    Address(String),
    /// At a Unix socket.
    Socket(PathBuf),
}

/// Sends what is in the queue.
#[derive(Debug)]
pub struct Sender {
    collector: Collector,
    writer: Writer,
    queue: Arc<Queue>,
    metrics: TapMetrics,
}

impl Sender {
    /// Sends `queue` to `collector`, in the name of `writer`.
    pub fn new(
        collector: Collector,
        writer: Writer,
        queue: Arc<Queue>,
        metrics: TapMetrics,
    ) -> Self {
        Self { collector, writer, queue, metrics }
    }

    /// Sends until `cancel`, and then what is left where there is a collector.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut failures: u32 = 0;
        while !cancel.is_cancelled() {
            let ended = match cancel.run_until_cancelled(self.connect()).await {
                Some(Ok(mut stream)) => {
                    info!(collector = %self.collector, failures, "dnstap: connected");
                    failures = 0;
                    self.metrics.connected.set(1);
                    let ended = self.send_all(&mut stream, &cancel).await;
                    self.metrics.connected.set(0);
                    ended
                }
                Some(Err(error)) => Err(error),
                None => Ok(()),
            };
            let Err(error) = ended else { break };
            failures = failures.saturating_add(1);
            match failures {
                1 => warn!(collector = %self.collector, %error, "dnstap: no collector, trying on"),
                _ => debug!(collector = %self.collector, %error, failures, "dnstap: no collector"),
            }
            cancel.run_until_cancelled(sleep(delay(failures))).await;
        }
        while let Some(record) = self.queue.take() {
            self.metrics.frames_dropped.inc_by(FRAMES as u64);
            self.queue.give_back(record);
        }
    }

    /// Connects, and agrees on what is sent.
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let connected = async {
            let mut stream: Box<dyn Stream> = match &self.collector {
                Collector::Address(address) => Box::new(TcpStream::connect(address).await?),
                Collector::Socket(path) => Box::new(UnixStream::connect(path).await?),
            };
            stream.write_all(&Word::Ready.bytes()).await?;
            frames::expect(Word::Accept, &mut stream).await?;
            stream.write_all(&Word::Start.bytes()).await?;
            Ok(stream)
        };
        within(PATIENCE, connected).await
    }

    /// Sends what comes, until `cancel`; then what is left, and takes its leave.
    ///
    /// # Errors
    ///
    /// Fails where the collector goes, or reads too slowly.
    async fn send_all(
        &mut self,
        stream: &mut Box<dyn Stream>,
        cancel: &CancellationToken,
    ) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(SEND_BYTES);
        loop {
            let is_last = cancel.is_cancelled();
            let frames = self.fill(&mut bytes);
            if frames > 0 {
                if let Err(error) = within(PATIENCE, stream.write_all(&bytes)).await {
                    self.metrics.frames_dropped.inc_by(frames);
                    return Err(error);
                }
                self.metrics.frames_sent.inc_by(frames);
                continue;
            }
            if is_last {
                break;
            }
            tokio::select! {
                () = cancel.cancelled() => (),
                // It has nothing to say until we stop.
                said = stream.read_u8() => return Err(left(said)),
                () = sleep(LOOK) => (),
            }
        }
        stream.write_all(&Word::Stop.bytes()).await?;
        match within(LINGER, frames::expect(Word::Finish, stream)).await {
            Ok(()) => info!(collector = %self.collector, "dnstap: finished"),
            Err(error) => warn!(collector = %self.collector, %error, "dnstap: not finished"),
        }
        Ok(())
    }

    /// Puts frames into `bytes`, not many more than are sent at once. Returns how many.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> u64 {
        bytes.clear();
        let mut frames = 0;
        while bytes.len() < SEND_BYTES
            && let Some(record) = self.queue.take()
        {
            let came = Clock::since_1970(record.since);
            for event in [Event::Query, Event::Response] {
                let start = bytes.len();
                bytes.extend_from_slice(&[0; 4]);
                self.writer.put(bytes, event, &record, came);
                let len = (bytes.len() - start - 4) as u32;
                if let Some(place) = bytes.get_mut(start..start + 4) {
                    place.copy_from_slice(&len.to_be_bytes());
                }
                frames += 1;
            }
            self.queue.give_back(record);
        }
        frames
    }
}

impl std::fmt::Display for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Either of the two kinds of socket.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What `sending` comes to; what takes longer than `patience` has failed.
async fn within<T>(
    patience: Duration,
    sending: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, sending).await.unwrap_or_else(|late| Err(late.into()))
}

/// Why a collector is none any more.
fn left(said: io::Result<u8>) -> io::Error {
    match said {
        Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "the collector spoke out of turn"),
        Err(error) => error,
    }
}

/// How long to wait after so many failures in a row: twice as long each time, and no two servers
/// at once.
fn delay(failures: u32) -> Duration {
    let doubled = DELAY_MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(DELAY_MAX).mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// How often it is looked for records: what wakes nobody costs the UDP threads nothing.
const LOOK: Duration = Duration::from_millis(10);

/// How long the collector may take to be reached, and to take what is sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to say that all has come.
const LINGER: Duration = Duration::from_secs(1);

/// What is sent at once, roughly.
const SEND_BYTES: usize = 65_536;

const DELAY_MIN: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_ever_later_and_no_later_than_that() {
        for (failures, longest_ms) in
            [(1, 200), (2, 400), (3, 800), (6, 6_400), (7, 10_000), (40, 10_000)]
        {
            let longest = Duration::from_millis(longest_ms);
            for _ in 0..100 {
                let delay = delay(failures);
                assert!((longest / 2..=longest).contains(&delay), "{failures}: {delay:?}");
            }
        }
    }
}
