//! Services that are listed and were found without instances, though nothing of them was in memory.
//!
//! ```text
//!   found empty --the list is heard again and still has it--> it has none
//!        \-- asked for again: the list is read anew, now and then
//! ```
//! A fetch may reach a Consul that was emptied, or one that knows nothing yet, before the list says
//! so; and what was never in memory cannot be held back. One that is on its way out of the list is
//! denied by that. What remains is a token that may read the list and no instances.
//!
//! Starts nothing and reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::consul::Key;

/// The services that are in doubt.
#[derive(Debug, Default)]
pub struct Absence {
    /// When each was asked for that was first found empty.
    since: BTreeMap<Key, Instant>,
    /// When the list of a datacenter was last read anew for this.
    renewed: BTreeMap<String, Instant>,
}

/// What to make of a service that was found empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// It has no instances.
    Empty,
    /// Nobody knows; it must not be denied.
    InDoubt {
        /// Whether the list is to be read anew.
        reads_list: bool,
    },
}

impl Absence {
    /// Notes that `key` was found empty, asked for at `asked`, where the list that has it was last
    /// heard at `listed`.
    pub fn note(&mut self, key: &Key, asked: Instant, listed: Option<Instant>) -> Found {
        if self.since.len() >= KEPT_MAX && !self.since.contains_key(key) {
            // They are in doubt for longer, and for no other reason.
            self.since.clear();
        }
        let first = *self.since.entry(key.clone()).or_insert(asked);
        if listed.is_some_and(|listed| listed > first) {
            self.since.remove(key);
            return Found::Empty;
        }
        let renewed = self.renewed.get(&key.datacenter);
        let reads_list = asked >= first + LIST_COMES_WITHIN
            && renewed.is_none_or(|renewed| asked >= *renewed + LIST_EVERY);
        if reads_list {
            self.renewed.insert(key.datacenter.clone(), asked);
        }
        Found::InDoubt { reads_list }
    }

    /// Notes that `key` was found with instances: a list that was heard since its doubt says nothing
    /// of the next one.
    pub fn forget(&mut self, key: &Key) {
        self.since.remove(key);
    }
}

/// The list usually follows within milliseconds.
const LIST_COMES_WITHIN: Duration = Duration::from_secs(1);

/// To read it anew abandons a query that Consul goes on holding.
const LIST_EVERY: Duration = Duration::from_secs(10);

/// Services that are in doubt at once.
const KEPT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Form;

    #[test]
    fn a_service_has_no_instances_when_a_newer_list_has_it_all_the_same() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let key = |name| Key::new("dc1", Form::Service, name);
        let mut absence = Absence::default();
        let mut note =
            |name, asked_ms, listed_ms| absence.note(&key(name), at(asked_ms), Some(at(listed_ms)));
        let in_doubt = |reads_list| Found::InDoubt { reads_list };
        assert_eq!(note("a", 100, 0), in_doubt(false));
        assert_eq!(note("a", 1_099, 0), in_doubt(false), "the list may be on its way");
        assert_eq!(note("b", 1_099, 0), in_doubt(false));
        assert_eq!(note("a", 1_100, 0), in_doubt(true));
        assert_eq!(note("b", 2_200, 0), in_doubt(false), "it was read just now");
        assert_eq!(note("a", 2_200, 1_101), Found::Empty);
        assert_eq!(note("b", 11_100, 1_101), Found::Empty);
        assert_eq!(note("b", 11_100, 1_101), in_doubt(false), "it begins anew");
        assert_eq!(note("b", 12_100, 1_101), in_doubt(true));
    }

    #[test]
    fn a_doubt_that_was_none_begins_anew() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let key = Key::new("dc1", Form::Service, "a");
        let mut absence = Absence::default();
        let in_doubt = Found::InDoubt { reads_list: false };
        assert_eq!(absence.note(&key, at(100), Some(at(0))), in_doubt);
        absence.forget(&key);
        // The list was heard before it was found empty again.
        assert_eq!(absence.note(&key, at(9_000), Some(at(200))), in_doubt);
        assert_eq!(absence.note(&key, at(9_500), Some(at(9_001))), Found::Empty);
    }

    #[test]
    fn those_in_doubt_are_bounded() {
        let (now, mut absence) = (Instant::now(), Absence::default());
        for number in 0..3 * KEPT_MAX {
            absence.note(&Key::new("dc1", Form::Service, &format!("s{number}")), now, None);
            assert!(absence.since.len() <= KEPT_MAX);
        }
    }
}
