//! The watches that hear nothing at present, and what is said of them in the log.
//!
//! A Consul that goes away fails all watches at once, and the list of services of each datacenter
//! says so, once. A watch that fails while that list is heard is said on its own: when it has
//! failed three times, and when it is back.

use std::collections::BTreeMap;

use prometheus::IntGauge;
use tracing::{info, warn};

use crate::consul::Watched;

/// The watches that fail.
#[derive(Debug)]
pub struct Failing {
    /// Each with whether the log knows.
    watches: BTreeMap<Watched, bool>,
    gauge: IntGauge,
}

impl Failing {
    /// None. `gauge` shows how many there are.
    pub fn new(gauge: IntGauge) -> Self {
        Self { watches: BTreeMap::new(), gauge }
    }

    /// Notes that `watched` has failed for the `failures`th time in a row.
    pub fn fail(&mut self, watched: &Watched, failures: u32, error: &str) {
        let datacenter = watched.datacenter();
        let is_said = self.watches.get(watched) == Some(&true);
        let is_due = match watched {
            Watched::Services { .. } => true,
            _ => failures >= FAILURES_UNSAID && !self.is_cut_off(datacenter),
        };
        match watched {
            _ if is_said || !is_due => (),
            Watched::Services { .. } => {
                warn!(
                    datacenter,
                    error,
                    "consul does not tell of this datacenter: its last good answers are given, retrying"
                );
            }
            _ => {
                let watched = watched.to_string();
                warn!(watched, error, "a watch hears nothing, retrying");
            }
        }
        self.watches.insert(watched.clone(), is_due || is_said);
        self.show();
    }

    /// Notes that `watched` is heard again.
    pub fn back(&mut self, watched: &Watched) {
        if self.watches.remove(watched) == Some(true) {
            let datacenter = watched.datacenter();
            match watched {
                Watched::Services { .. } => {
                    info!(datacenter, "consul tells of this datacenter again")
                }
                _ => {
                    let watched = watched.to_string();
                    info!(watched, "the watch hears again");
                }
            }
        }
        self.show();
    }

    /// Whether `watched` fails.
    pub fn has(&self, watched: &Watched) -> bool {
        self.watches.contains_key(watched)
    }

    /// How many fail.
    pub fn count(&self) -> usize {
        self.watches.len()
    }

    /// Forgets the watches that have ended.
    pub fn retain(&mut self, goes_on: impl Fn(&Watched) -> bool) {
        self.watches.retain(|watched, _| goes_on(watched));
        self.show();
    }

    /// Whether the log says that nothing is heard of this datacenter.
    fn is_cut_off(&self, datacenter: &str) -> bool {
        self.has(&Watched::Services { datacenter: datacenter.to_owned() })
    }

    fn show(&self) {
        self.gauge.set(self.watches.len() as i64);
    }
}

/// So many failures in a row and the log says it. Fewer are a hiccup, or the beginning of an outage
/// that the list of services has not noticed yet.
pub const FAILURES_UNSAID: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Form;
    use crate::consul::Key;

    fn failing() -> Failing {
        Failing::new(IntGauge::new("failing", "For a test.").unwrap())
    }

    fn web() -> Watched {
        Watched::Service(Key::new("dc1", Form::Service, "web"))
    }

    fn list() -> Watched {
        Watched::Services { datacenter: "dc1".to_owned() }
    }

    #[test]
    fn a_watch_that_fails_alone_is_said_the_third_time_and_once() {
        let mut failing = failing();
        let said: Vec<_> = (1..=5)
            .map(|failures| {
                failing.fail(&web(), failures, "no");
                failing.watches[&web()]
            })
            .collect();
        assert_eq!(said, [false, false, true, true, true]);
        assert_eq!(failing.gauge.get(), 1);
        failing.back(&web());
        assert_eq!((failing.has(&web()), failing.gauge.get()), (false, 0));
    }

    #[test]
    fn in_an_outage_the_list_alone_is_said() {
        let mut failing = failing();
        failing.fail(&web(), 1, "no");
        failing.fail(&list(), 1, "no");
        failing.fail(&web(), 9, "no");
        assert_eq!((failing.watches[&web()], failing.watches[&list()]), (false, true));
        assert_eq!(failing.gauge.get(), 2);
        // The outage is over, and this watch still fails.
        failing.back(&list());
        failing.fail(&web(), 10, "no");
        assert!(failing.watches[&web()]);
        failing.retain(Watched::is_list);
        assert_eq!(failing.gauge.get(), 0);
    }
}
