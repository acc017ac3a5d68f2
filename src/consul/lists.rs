//! The datacenters in use: those whose lists of services and nodes are watched, and who waits for
//! them.
//!
//! **Invariant:** nobody waits for lists that another has given up.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::demand::Supply;

/// The datacenters whose lists are watched.
#[derive(Debug, Default)]
pub struct Lists {
    datacenters: BTreeMap<String, InUse>,
}

#[derive(Debug)]
struct InUse {
    /// Ends the watches.
    cancel: CancellationToken,
    /// One whose question was abandoned stays: it says that the lists are late.
    waiting: Vec<oneshot::Sender<Supply>>,
    /// When the names of services last changed.
    listed: Option<Instant>,
}

impl Lists {
    /// Puts `datacenter` in use; `cancel` ends its watches.
    pub fn enter(&mut self, datacenter: &str, cancel: CancellationToken) {
        let in_use = InUse { cancel, waiting: Vec::new(), listed: None };
        self.datacenters.insert(datacenter.to_owned(), in_use);
    }

    /// Puts other watches in the place of those of `datacenter`; `cancel` ends them.
    pub fn renew(&mut self, datacenter: &str, cancel: CancellationToken) {
        if let Some(in_use) = self.datacenters.get_mut(datacenter) {
            std::mem::replace(&mut in_use.cancel, cancel).cancel();
        }
    }

    /// Whether `datacenter` is in use.
    pub fn has(&self, datacenter: &str) -> bool {
        self.datacenters.contains_key(datacenter)
    }

    /// Those in use, `local` first.
    pub fn names(&self, local: &str) -> Vec<String> {
        let mut names: Vec<_> = self.datacenters.keys().cloned().collect();
        names.sort_by_key(|name| name != local);
        names
    }

    /// Lets a question wait for the lists, unless that is in vain: its sender is dropped then.
    pub fn join(&mut self, datacenter: &str, done: oneshot::Sender<Supply>) {
        let Some(in_use) = self.datacenters.get_mut(datacenter) else { return };
        if !in_use.waiting.iter().any(oneshot::Sender::is_closed) {
            in_use.waiting.push(done);
        }
    }

    /// Tells those who wait that the lists are in.
    pub fn tell(&mut self, datacenter: &str) {
        let Some(in_use) = self.datacenters.get_mut(datacenter) else { return };
        // Those whose question was abandoned meanwhile do not listen any more.
        in_use.waiting.drain(..).for_each(|done| drop(done.send(Supply::Published)));
    }

    /// Sends those who wait away: one of the lists cannot be had at present.
    pub fn dismiss(&mut self, datacenter: &str) {
        if let Some(in_use) = self.datacenters.get_mut(datacenter) {
            in_use.waiting.clear();
        }
    }

    /// Notes that the names of services changed at this time.
    pub fn set_listed(&mut self, datacenter: &str, at: Instant) {
        if let Some(in_use) = self.datacenters.get_mut(datacenter) {
            in_use.listed = Some(at);
        }
    }

    /// When the names of services last changed; `None` where they were not heard.
    pub fn listed(&self, datacenter: &str) -> Option<Instant> {
        self.datacenters.get(datacenter)?.listed
    }

    /// Ends the watches of datacenters for which `is_there` is false. Returns their names.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let gone: Vec<_> =
            self.datacenters.keys().filter(|name| !is_there(name)).cloned().collect();
        for name in &gone {
            if let Some(in_use) = self.datacenters.remove(name) {
                in_use.cancel.cancel();
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn lists(names: &[&str]) -> Lists {
        let mut lists = Lists::default();
        names.iter().for_each(|name| lists.enter(name, CancellationToken::new()));
        lists
    }

    fn join(lists: &mut Lists, datacenter: &str) -> oneshot::Receiver<Supply> {
        let (done, answered) = oneshot::channel();
        lists.join(datacenter, done);
        answered
    }

    #[test]
    fn the_local_datacenter_comes_first() {
        assert_eq!(lists(&["a", "b", "c"]).names("b"), ["b", "a", "c"]);
    }

    #[test]
    fn nobody_waits_for_lists_that_another_has_given_up() {
        let mut lists = lists(&["dc2"]);
        let first = join(&mut lists, "dc2");
        let mut second = join(&mut lists, "dc2");
        assert_eq!(second.try_recv(), Err(TryRecvError::Empty), "it waits");
        drop(first);
        assert_eq!(join(&mut lists, "dc2").try_recv(), Err(TryRecvError::Closed));
        lists.tell("dc2");
        assert_eq!(second.try_recv(), Ok(Supply::Published));
        assert_eq!(join(&mut lists, "dc2").try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn who_waits_for_one_datacenter_is_not_sent_away_with_another() {
        let mut lists = lists(&["dc2", "dc3"]);
        let (mut two, mut three) = (join(&mut lists, "dc2"), join(&mut lists, "dc3"));
        lists.dismiss("dc2");
        assert_eq!(two.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(three.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn who_is_gone_is_no_longer_watched() {
        let cancel = CancellationToken::new();
        let mut lists = lists(&["dc1"]);
        lists.enter("dc2", cancel.clone());
        assert_eq!(lists.retain(|name| name == "dc1"), ["dc2"]);
        assert!(cancel.is_cancelled() && lists.has("dc1") && !lists.has("dc2"));
    }
}
