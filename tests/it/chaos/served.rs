//! A fingerpost as it is deployed, `fingerpost serve`, and the stream of questions to it.
//!
//! It keeps its addresses when it is killed and started again, and so does the stream.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::chaos::account::{Account, Death, Sample};
use crate::chaos::stream::{Exchange, Log, Question, Stream};
use crate::chaos::trial::say;
use crate::chaos::voice::{Voice, address};
use crate::chaos::world::{WAVERING, WAVERING_NODE};
use crate::support::consul::free_port;
use crate::support::program::Program;
use crate::support::wait::poll;

/// A fingerpost under observation. Where it can, it keeps what it heard in a file.
#[derive(Debug)]
pub struct Served {
    /// Whom it asks, for messages.
    pub label: &'static str,
    /// Whom it asks, past all links.
    pub voice: Voice,
    /// What befell it.
    pub account: Account,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    dns: SocketAddr,
    admin: SocketAddr,
    program: Program,
    samples: Arc<Mutex<Vec<Sample>>>,
    stream: Option<Stream>,
    /// Held for its drop, which ends the task.
    _sampling: JoinSet<()>,
    /// What it keeps is in there.
    _folder: TempDir,
}

impl Served {
    /// Starts one that asks Consul at `urls`, and waits until it is ready.
    pub async fn start(
        label: &'static str,
        urls: &[String],
        voice: Voice,
        mut variables: Vec<(String, String)>,
        questions: Vec<Question>,
    ) -> Self {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (dns, admin) = (local(), local());
        let mut arguments: Vec<String> =
            ["serve", "--dns", &dns.to_string(), "--admin", &admin.to_string()]
                .map(str::to_owned)
                .to_vec();
        for url in urls {
            arguments.extend(["--consul".to_owned(), url.clone()]);
        }
        let folder = TempDir::new().unwrap();
        let keeps = can_keep().await;
        if keeps {
            let path = folder.path().join("snapshot").display().to_string();
            arguments.extend(["--snapshot".to_owned(), path]);
            // It is written all the time, so that a death comes while it is.
            variables.push(("FINGERPOST_SNAPSHOT_EVERY".to_owned(), "1ms".to_owned()));
        }
        variables.push(("FINGERPOST_LOG_LEVEL".to_owned(), "debug".to_owned()));
        let program = launch(&arguments, &variables);
        let (samples, mut sampling) = (Arc::default(), JoinSet::new());
        sampling.spawn(sample(voice.clone(), Arc::clone(&samples)));
        let mut served = Self {
            label,
            voice,
            account: Account { questions, keeps, ..Account::default() },
            arguments,
            variables,
            dns,
            admin,
            program,
            samples,
            stream: None,
            _sampling: sampling,
            _folder: folder,
        };
        served.program.ready().await;
        served.stream = Some(Stream::start(dns, served.account.questions.clone()));
        served
    }

    /// Where it answers DNS.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) {
        self.account.deaths.push(Death { killed: Instant::now(), bound: None, ready: None });
        self.program.signal("KILL");
        self.program.status().await;
    }

    /// Starts it again, once it was killed, and waits until its sockets are open.
    pub async fn start_again(&mut self) {
        self.program = launch(&self.arguments, &self.variables);
        self.program.dns_address().await;
        if let Some(death) = self.account.deaths.last_mut() {
            death.bound = Some(Instant::now());
        }
    }

    /// Waits until it is ready again.
    pub async fn ready_again(&mut self) {
        self.program.ready().await;
        let now = Instant::now();
        for death in &mut self.account.deaths {
            // It may have died before it was ready.
            death.ready.get_or_insert(now);
        }
    }

    /// How many of its requests to Consul have brought nothing so far.
    pub async fn failures(&self) -> f64 {
        let url = format!("http://{}/metrics", self.admin);
        let scraped =
            poll(Duration::from_secs(5), async || reqwest::get(&url).await.ok()?.text().await.ok());
        let text = scraped.await.unwrap_or_else(|| panic!("{}: no metrics", self.label));
        let failures = text.lines().filter_map(|line| -> Option<f64> {
            line.strip_prefix("fingerpost_consul_failures_total{")?.rsplit_once(' ')?.1.parse().ok()
        });
        failures.sum()
    }

    /// What became of the questions since this was asked last; the account is then complete.
    pub fn take(&mut self) -> Vec<Exchange> {
        self.account.samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Log { exchanges, busy } = self.stream.as_ref().map(Stream::take).unwrap_or_default();
        self.account.busy.extend(busy);
        exchanges
    }

    /// From now on Consul cannot be expected to be heard.
    pub fn begin_unheard(&mut self) {
        self.account.unheard.push((Instant::now(), None));
    }

    /// From now on it can.
    pub fn end_unheard(&mut self) {
        if let Some((_, end)) = self.account.unheard.last_mut() {
            end.get_or_insert_with(Instant::now);
        }
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = self.program.stderr();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// Whether fingerpost knows how to keep what it heard in a file.
async fn can_keep() -> bool {
    let mut help = Program::start(&["serve", "--help"], &[]);
    help.status().await;
    let can_keep = help.stdout().contains("--snapshot");
    if !can_keep {
        say("SKIPPED, for lack of serve --snapshot: what is kept over a death of fingerpost");
    }
    can_keep
}

/// Kills all of `served`.
pub async fn kill_ourselves(served: &mut [Served]) {
    for served in served {
        served.kill().await;
    }
}

/// Starts all of `served` again, and waits until their sockets are open.
pub async fn start_ourselves(served: &mut [Served]) {
    for served in served {
        served.start_again().await;
    }
}

/// Waits until all of `served` are ready again.
pub async fn ready_ourselves(served: &mut [Served]) {
    for served in served {
        served.ready_again().await;
    }
}

fn launch(arguments: &[String], variables: &[(String, String)]) -> Program {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Program::start(&arguments, &variables)
}

/// Looks time and again whether Consul shows the instance critical that wavers.
async fn sample(voice: Voice, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut ticks = time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shown = voice.shown(voice.datacenter(), WAVERING).await;
        let is_critical = shown.map(|shown| !shown.contains(&address(WAVERING_NODE)));
        let sample = Sample { at: Instant::now(), is_critical };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

const SAMPLE_EVERY: Duration = Duration::from_millis(100);
