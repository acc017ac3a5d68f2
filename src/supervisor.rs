//! Whoever started us and wants to be told how we do: systemd, or who speaks as it does.
//!
//! ```text
//!   READY=1       every socket is bound, and what is asked is answered
//!   STATUS=...    a line for people, when it changes
//!   RELOADING=1   the configuration is read again; READY=1 once it is in use or refused
//!   WATCHDOG=1    twice in the time that the watchdog has, while everything moves
//!   STOPPING=1    told to end, and how long that may take
//! ```
//! The protocol of `sd_notify(3)`: a datagram of lines to the Unix socket that a variable names. A
//! few lines of std say all of it, so no crate does. Nothing here can end the program or hold it up.
//!
//! Knows neither what is answered nor who answers: it is handed what there is to say.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::machine;

/// Where to say it.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How long the watchdog waits for a sign of life; `None` is for ever.
    watchdog: Option<Duration>,
    /// The line for people that was told last.
    said: Mutex<String>,
}

/// What cannot be told to whom.
#[derive(Debug, Error)]
#[error("cannot speak to NOTIFY_SOCKET = {name}")]
pub struct SpeakError {
    name: String,
    source: io::Error,
}

impl Supervisor {
    /// The one that the environment `env` names; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Fails where there is one that is not to be spoken to: one line of the log is due to it.
    pub fn find(env: &[(String, String)]) -> Result<Option<Self>, SpeakError> {
        let value = |name: &str| {
            let found = env.iter().find(|(variable, _)| variable == name);
            found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
        };
        let Some(name) = value("NOTIFY_SOCKET") else { return Ok(None) };
        let failed = |source| SpeakError { name: name.to_owned(), source };
        let address = address(name).map_err(failed)?;
        let socket = UnixDatagram::unbound().map_err(failed)?;
        // Who does not read what it wants to be told must not hold us up.
        socket.set_nonblocking(true).map_err(failed)?;
        let is_ours = value("WATCHDOG_PID").is_none_or(|pid| pid == process::id().to_string());
        let watchdog = value("WATCHDOG_USEC").filter(|_| is_ours);
        let watchdog = watchdog.and_then(|micros| micros.parse().ok()).filter(|micros| *micros > 0);
        let watchdog = watchdog.map(Duration::from_micros);
        Ok(Some(Self { socket, address, watchdog, said: Mutex::default() }))
    }

    /// Says that what is asked is answered, and how things stand.
    pub fn ready(&self, status: &str) {
        self.is_new(status);
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// Notes that `status` is told, and returns whether another was told before.
    fn is_new(&self, status: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *said != status;
        status.clone_into(&mut said);
        is_new
    }

    /// Says that the configuration is read again, until [`Supervisor::ready`] is said.
    pub fn reloading(&self) {
        // By the time systemd tells this one from what an earlier reload left behind.
        match machine::uptime() {
            Ok(now) => {
                let micros = now.as_micros();
                self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
            }
            Err(error) => warn!(%error, "no time to tell NOTIFY_SOCKET of a reload by"),
        }
    }

    /// Says that we end, which may take `longest`.
    pub fn stopping(&self, longest: Duration) {
        let micros = (longest + STOP_SPARE).as_micros();
        self.say(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={micros}"));
    }

    /// Tells `status` when it is another, and that everything moves while `stuck` names nothing that
    /// does not; until `cancel`. That this goes on at all is the runtime's sign of life.
    pub async fn watch(
        &self,
        status: impl Fn() -> String,
        mut stuck: impl FnMut() -> Option<String>,
        cancel: CancellationToken,
    ) {
        let half = self.watchdog.map(|watchdog| watchdog / 2);
        let mut ticks = interval(half.map_or(STATUS_EVERY, |half| half.min(STATUS_EVERY)));
        // The watchdog wants a sign of life now and then, not several to make up for a pause.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_stuck = false;
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            let stuck = stuck();
            match &stuck {
                Some(what) if !was_stuck => {
                    error!(what, "stands still, the watchdog is told nothing")
                }
                None if was_stuck => info!("moves again"),
                Some(_) | None => (),
            }
            was_stuck = stuck.is_some();
            if !was_stuck && self.watchdog.is_some() {
                self.say("WATCHDOG=1");
            }
            let now = stuck.map_or_else(&status, |what| format!("{what} stands still"));
            if self.is_new(&now) {
                self.say(&format!("STATUS={now}"));
            }
        }
    }

    fn say(&self, lines: &str) {
        match self.socket.send_to_addr(lines.as_bytes(), &self.address) {
            Ok(_) => debug!(lines, "told"),
            Err(error) => warn!(%error, lines, "cannot tell NOTIFY_SOCKET"),
        }
    }
}

/// The address of a socket: a path, or after `@` an abstract name.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor @ and a name")),
    }
}

/// How often a line for people is looked at.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// What a stop may take beside what is configured.
const STOP_SPARE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Somebody who listens, and the environment that says where.
    fn listener(watchdog: &[(&str, &str)]) -> (UnixDatagram, Vec<(String, String)>) {
        let name = format!("fingerpost-test-{:016x}", fastrand::u64(..));
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let named = ("NOTIFY_SOCKET".to_owned(), format!("@{name}"));
        let owned = watchdog.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        (socket, [named].into_iter().chain(owned).collect())
    }

    /// What has come by now.
    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next = || socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec());
        std::iter::from_fn(next).map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_while_everything_moves() {
        let (socket, env) = listener(&[("WATCHDOG_USEC", "4000000")]);
        let supervisor = Supervisor::find(&env).unwrap().unwrap();
        let (services, stuck) = (Cell::new(1), Cell::new(false));
        // What has changed between this and the first look is told too.
        supervisor.ready("none yet");
        heard(&socket);
        let cancel = CancellationToken::new();
        let watching = supervisor.watch(
            || format!("{} services", services.get()),
            || stuck.get().then(|| "udp-1".to_owned()),
            cancel.clone(),
        );
        let script = async {
            let pause = async || {
                tokio::time::sleep(Duration::from_millis(2001)).await;
                heard(&socket)
            };
            // At once, and after half of the time.
            assert_eq!(pause().await, ["WATCHDOG=1", "STATUS=1 services", "WATCHDOG=1"]);
            services.set(2);
            assert_eq!(pause().await, ["WATCHDOG=1", "STATUS=2 services"]);
            stuck.set(true);
            assert_eq!(pause().await, ["STATUS=udp-1 stands still"]);
            assert_eq!(pause().await, [""; 0]);
            stuck.set(false);
            assert_eq!(pause().await, ["WATCHDOG=1", "STATUS=2 services"]);
            cancel.cancel();
        };
        tokio::join!(watching, script);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_watchdog_is_told_of_changes_only() {
        let pid = (process::id() + 1).to_string();
        // Of the second, another process is to give the signs of life.
        for watchdog in [&[][..], &[("WATCHDOG_USEC", "4000000"), ("WATCHDOG_PID", &pid)]] {
            let (socket, env) = listener(watchdog);
            let supervisor = Supervisor::find(&env).unwrap().unwrap();
            supervisor.ready("fine");
            heard(&socket);
            let cancel = CancellationToken::new();
            let watching = supervisor.watch(|| "fine".to_owned(), || None, cancel.clone());
            let script = async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                cancel.cancel();
            };
            tokio::join!(watching, script);
            assert_eq!(heard(&socket), [""; 0]);
        }
    }

    #[test]
    fn a_stop_says_how_long_it_may_take() {
        let (socket, env) = listener(&[]);
        let supervisor = Supervisor::find(&env).unwrap().unwrap();
        supervisor.ready("fine");
        supervisor.stopping(Duration::from_secs(20));
        let expected =
            ["READY=1\nSTATUS=fine", "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=25000000"];
        assert_eq!(heard(&socket), expected);
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let (socket, env) = listener(&[]);
        let supervisor = Supervisor::find(&env).unwrap().unwrap();
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let before = uptime();
        supervisor.reloading();
        let said = heard(&socket).remove(0);
        let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let secs = micros.parse::<f64>().unwrap() / 1e6;
        // The system tells hundredths; it does not sleep in between.
        assert!((before - 0.01..=uptime() + 0.01).contains(&secs), "{before} {secs}");
    }

    #[test]
    fn what_is_no_address_is_an_error_and_nothing_is_none() {
        let find = |name: &str| {
            Supervisor::find(&[("NOTIFY_SOCKET".to_owned(), name.to_owned())])
                .map(|found| found.is_some())
                .map_err(|error| error.to_string())
        };
        assert_eq!(find(""), Ok(false));
        assert_eq!(find("/run/nobody"), Ok(true));
        let refused = |name| Err(format!("cannot speak to NOTIFY_SOCKET = {name}"));
        assert_eq!(find("vsock:2:1234"), refused("vsock:2:1234"));
        assert_eq!(Supervisor::find(&[]).map(|found| found.is_some()).ok(), Some(false));
    }
}
