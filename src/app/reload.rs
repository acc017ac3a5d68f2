//! A new configuration, while the program runs: checked whole, then used as far as that can be.
//!
//! ```text
//!   the file again --> config::live --> mistakes: nothing changes
//!                                   \-> policy   one pointer, the next query sees it
//!                                    -> rules    the source makes all records anew
//!                                    -> names of the admin port, level of the log, which queries are logged
//! ```
//! No socket is touched and no query is lost. What waits for a restart is named.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::admin::{Refused, Reloaded};
use crate::answer::Policy;
use crate::app::reporting::Reporting;
use crate::app::{cookies, policy, rules};
use crate::catalog::Rules;
use crate::clock::Clock;
use crate::config::live::{self, Renewed};
use crate::config::{Config, ConfigErrors, Sources};
use crate::metrics::Metrics;
use crate::name::Zone;
use crate::store::{Cell, Store};
use crate::tap::Tap;
use crate::telemetry;

/// Reads the configuration again, and uses it.
#[derive(Debug)]
pub struct Reloader {
    state: Mutex<State>,
    store: Arc<Store>,
    metrics: Metrics,
    clock: Clock,
    rules: watch::Sender<Rules>,
    hosts: Arc<Cell<Vec<String>>>,
    tap: Arc<Tap>,
    /// Who is told of it; from when the program is up.
    reporting: OnceLock<Reporting>,
}

/// What is in use.
struct State {
    /// What the program was started with; `None` where that is no configuration of anybody's.
    started: Option<Sources>,
    /// What was read last and taken.
    last: Option<Sources>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Reloader {
    /// Changes what is in `store`, and tells the source by `rules`, the admin port and the query log.
    pub fn new(
        store: Arc<Store>,
        metrics: Metrics,
        clock: Clock,
        rules: watch::Sender<Rules>,
        (hosts, tap): (Arc<Cell<Vec<String>>>, Arc<Tap>),
    ) -> Self {
        let state = Mutex::new(State { started: None, last: None });
        Self { state, store, metrics, clock, rules, hosts, tap, reporting: OnceLock::new() }
    }

    /// Tells `reporting` of each time, from now on.
    pub fn report_to(&self, reporting: Reporting) {
        // Told once in a program's life.
        self.reporting.set(reporting).ok();
    }

    /// Says what the program was started with.
    pub fn set_sources(&self, sources: Sources) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { last: Some(sources.clone()), started: Some(sources) };
    }

    /// Reads the file again, and uses what it says.
    ///
    /// # Errors
    ///
    /// Fails on a file that has mistakes, or that there is not; then all is as it was.
    pub fn reload(&self) -> Result<Reloaded, Refused> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.reporting.get().into_iter().for_each(Reporting::reloading);
        let reloaded = self.apply(&mut state);
        match &reloaded {
            Ok(Reloaded { changed, waiting, remarks }) => {
                self.metrics.reload.count(true);
                remarks.iter().for_each(|remark| warn!("{remark}"));
                info!(?changed, "the configuration was read again");
                if !waiting.is_empty() {
                    warn!(?waiting, "these keys wait for a restart");
                }
            }
            Err(refused @ Refused::NoFile) => warn!("{refused}"),
            Err(refused @ Refused::Mistakes(_)) => {
                self.metrics.reload.count(false);
                for mistake in refused.to_string().lines() {
                    error!("{mistake}");
                }
                error!("the configuration is refused, the old one goes on");
            }
        }
        self.reporting.get().into_iter().for_each(Reporting::ready);
        reloaded
    }

    fn apply(&self, state: &mut State) -> Result<Reloaded, Refused> {
        let State { started: Some(started), last: Some(last) } = &*state else {
            return Err(Refused::NoFile);
        };
        let Some((path, _)) = &started.file else { return Err(Refused::NoFile) };
        let path: PathBuf = path.clone();
        let text = std::fs::read_to_string(&path);
        let text =
            text.map_err(|error| Refused::Mistakes(format!("{}: {error}", path.display())))?;
        let new = Sources { file: Some((path, text)), ..started.clone() };
        let renewed = live::renew(started, &new).map_err(mistakes)?;
        let changed = live::renew(last, &new).map_err(mistakes)?.changed;
        let Renewed { config, waiting, remarks, .. } = renewed;
        let put = self.put(&config, &changed);
        put.map_err(|error| Refused::Mistakes(format!("{error:#}")))?;
        state.last = Some(new);
        let remarks = remarks.iter().map(ToString::to_string).collect();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Ok(Reloaded { changed: owned(changed), waiting: owned(waiting), remarks })
    }

    /// Makes all that can fail first.
    fn put(&self, config: &Config, changed: &[&str]) -> anyhow::Result<()> {
        let is_of_cookies = |name: &&str| name.starts_with("dns.cookie");
        // A secret that was drawn at start is not drawn again, and a file may say something else.
        let are_new = config.dns.cookie_secrets_file.is_some() || changed.iter().any(is_of_cookies);
        let cookies = match are_new {
            true => cookies::make(&config.dns, self.clock)?,
            false => self.store.policy.load().cookies.clone(),
        };
        let policy = Policy { cookies, ..policy(config)? };
        let rules = rules(config, Zone::new(&config.domain)?);
        self.store.policy.publish(policy);
        self.rules.send_if_modified(|known| {
            let is_new = *known != rules;
            *known = rules;
            is_new
        });
        self.hosts.publish(config.admin.hosts.clone());
        telemetry::set_level(config.log.level);
        self.tap.set_log(&config.log);
        Ok(())
    }
}

fn mistakes(errors: ConfigErrors) -> Refused {
    Refused::Mistakes(errors.to_string())
}
