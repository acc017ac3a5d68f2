//! Where a blocking query stands in Consul's history, and the rules for going on.
//!
//! An index is a number of one Consul's. Another server's numbers are another history, so an
//! index travels with the address that it came from: that pair is a [`Position`].
//!
//! Nothing here talks to Consul.

use std::num::NonZeroU64;

/// A position in Consul's change history, as sent in `X-Consul-Index`.
///
/// Opaque: compare it with nothing but the previous index of *the same* watch. Never zero, since
/// a query with index 0 does not block and would turn a watch into a busy loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Index(NonZeroU64);

impl Index {
    /// Reads the value of `X-Consul-Index`. `None` for what is no number.
    ///
    /// Consul: a 0 is to be taken as 1. Its agents never send one; a proxy before them might.
    pub fn from_header(text: &str) -> Option<Self> {
        let number: u64 = text.trim().parse().ok()?;
        Some(Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN)))
    }

    /// The number to send as the parameter `index`.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The index to send next, after a reply that carried `self` to a query that sent `sent`.
    ///
    /// Returns `None` ("start over") when the history went backwards, as it does after a
    /// snapshot restore or a change of leader.
    pub fn next(self, sent: Option<Self>) -> Option<Self> {
        match sent {
            Some(sent) if self.0 < sent.0 => None,
            _ => Some(self),
        }
    }
}

/// An index with the address whose history it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// The address's place in the configured list, from 0.
    pub address: usize,
    /// Of that address's history.
    pub index: Index,
}

impl Position {
    /// The position to go on from, after a reply at `self` to a query that stood at `sent`.
    ///
    /// A reply from another address began that address's history, so its index stands for
    /// itself. `None` starts over, see [`Index::next`].
    pub fn next(self, sent: Option<Self>) -> Option<Self> {
        let sent = sent.filter(|sent| sent.address == self.address);
        self.index.next(sent.map(|sent| sent.index)).map(|index| Self { index, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn at(address: usize, index: &str) -> Option<Position> {
        Some(Position { address, index: Index::from_header(index).unwrap() })
    }

    #[test]
    fn headers_and_the_index_they_mean() {
        for (header, expected) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(1)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(Index::from_header(header).map(Index::get), expected, "header: {header:?}");
        }
    }

    #[test]
    fn where_to_go_on_after_a_reply() {
        for (sent, reply, expected) in [
            // the first reply, a change, a wait that ran out
            (None, at(0, "7"), at(0, "7")),
            (at(0, "7"), at(0, "8"), at(0, "8")),
            (at(0, "7"), at(0, "7"), at(0, "7")),
            // the history went back
            (at(0, "7"), at(0, "3"), None),
            // another address has its own history, be its numbers lower or higher
            (at(0, "7"), at(1, "3"), at(1, "3")),
            (at(0, "7"), at(1, "9"), at(1, "9")),
        ] {
            assert_eq!(reply.unwrap().next(sent), expected, "sent {sent:?}, reply {reply:?}");
        }
    }
}
