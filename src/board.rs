//! What the source's watches say of themselves, for the operator's port: how each stands with Consul.
//!
//! The source writes a line when a watch has heard something or failed; whoever explains an answer
//! reads it. No answer depends on it, and no query comes here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::catalog::Form;

/// Something that is watched.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Watch {
    /// Where it is, in lower case.
    pub datacenter: String,
    /// What it is.
    pub what: What,
}

/// What a watch follows in its datacenter.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum What {
    /// All nodes.
    Nodes,
    /// All prepared queries.
    Queries,
    /// The names of all services.
    Services,
    /// The instances of a service.
    Instances {
        /// What kind of name it has.
        form: Form,
        /// Its name, in lower case.
        service: String,
    },
}

/// How a watch stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Where Consul's history stood when it was heard last; `None` where Consul does not say.
    pub index: Option<u64>,
    /// When it was heard last; `None` where it never was.
    pub heard: Option<Instant>,
    /// When it brought something else than before.
    pub changed: Option<Instant>,
    /// Rounds in a row that brought nothing.
    pub failures: u32,
    /// Why the last of them did not; `None` while it hears Consul.
    pub error: Option<String>,
    /// Whether Consul says that the token may not read all of it.
    pub is_filtered: bool,
}

/// All watches that there are.
#[derive(Debug, Default)]
pub struct Board(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// Each with the number of its writer.
    watches: BTreeMap<Watch, (u64, Standing)>,
    written: u64,
}

impl Board {
    /// Begins the line of `watch`. One that another has there is not that one's any more.
    pub fn begin(self: &Arc<Self>, watch: Watch) -> Line {
        let mut lines = self.lines();
        lines.written += 1;
        let number = lines.written;
        lines.watches.insert(watch.clone(), (number, Standing::default()));
        drop(lines);
        Line { board: Arc::clone(self), watch, number }
    }

    /// How `watch` stands; `None` where there is no such watch.
    pub fn find(&self, watch: &Watch) -> Option<Standing> {
        self.lines().watches.get(watch).map(|(_, standing)| standing.clone())
    }

    /// All of them, by datacenter.
    pub fn all(&self) -> Vec<(Watch, Standing)> {
        let lines = self.lines();
        let all = lines.watches.iter();
        all.map(|(watch, (_, standing))| (watch.clone(), standing.clone())).collect()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // What a panic leaves is a line that is as it was, or as it will be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of one watch. It is gone when this is.
#[derive(Debug)]
pub struct Line {
    board: Arc<Board>,
    watch: Watch,
    number: u64,
}

impl Line {
    /// Changes what is said of the watch.
    pub fn note(&self, change: impl FnOnce(&mut Standing)) {
        match self.board.lines().watches.get_mut(&self.watch) {
            Some((number, standing)) if *number == self.number => change(standing),
            Some(_) | None => (),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut lines = self.board.lines();
        if lines.watches.get(&self.watch).is_some_and(|(number, _)| *number == self.number) {
            lines.watches.remove(&self.watch);
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => f.write_str("the nodes"),
            Self::Queries => f.write_str("the prepared queries"),
            Self::Services => f.write_str("the names of the services"),
            Self::Instances { form: Form::Service, service } => {
                write!(f, "the instances of {service}")
            }
            Self::Instances { form, service } => {
                write!(f, "the instances of {service}.{}", form.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_there_until_it_ends() {
        let board = Arc::new(Board::default());
        let watch = |what| Watch { datacenter: "dc1".to_owned(), what };
        assert_eq!(board.find(&watch(What::Nodes)), None);
        let _services = board.begin(watch(What::Services));
        let nodes = board.begin(watch(What::Nodes));
        nodes.note(|standing| standing.index = Some(7));
        nodes.note(|standing| standing.failures += 1);
        let expected = Standing { index: Some(7), failures: 1, ..Standing::default() };
        assert_eq!(board.find(&watch(What::Nodes)), Some(expected));
        drop(nodes);
        let left: Vec<What> = board.all().into_iter().map(|(watch, _)| watch.what).collect();
        assert_eq!(left, [What::Services]);
    }

    #[test]
    fn one_that_is_replaced_says_nothing_more() {
        let board = Arc::new(Board::default());
        let watch = || Watch { datacenter: "dc1".to_owned(), what: What::Nodes };
        let first = board.begin(watch());
        let second = board.begin(watch());
        second.note(|standing| standing.index = Some(8));
        first.note(|standing| standing.index = Some(7));
        drop(first);
        assert_eq!(board.find(&watch()).and_then(|standing| standing.index), Some(8));
        drop(second);
        assert_eq!(board.find(&watch()), None);
    }
}
