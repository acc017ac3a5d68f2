//! Whether the local datacenter's servers can be believed when something is missing: one of them
//! leads, and enough are alive.
//!
//! A few servers that were cut off from the others, or that lost their data, may still answer. What
//! they lack need not be gone.

use crate::consul::api::status::Servers;

/// What the servers said; `None` is what they did not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Whether one leads.
    pub has_leader: Option<bool>,
    /// How many vote, be they alive or not.
    pub peers: Option<usize>,
    /// As the agents see each other.
    pub servers: Option<Servers>,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// There is no telling: what was held back stays so, and nothing more is.
    Unknown,
    /// Nobody leads.
    NoLeader,
    /// Too few are alive.
    TooFew {
        /// So many are.
        alive: usize,
        /// So many have to be.
        needed: usize,
    },
    /// All is well.
    Whole,
}

impl Seen {
    /// Judges by the number of servers that have to be alive; 0 is a majority of those that vote.
    pub fn judge(self, needed: usize) -> Verdict {
        let Some(has_leader) = self.has_leader else { return Verdict::Unknown };
        if !has_leader {
            return Verdict::NoLeader;
        }
        let too_few = |servers: Servers, needed: usize| {
            let Servers { alive, .. } = servers;
            (alive < needed).then_some(Verdict::TooFew { alive, needed })
        };
        let lacking = match (needed, self.servers, self.peers) {
            // A token that may not read all nodes does not see all servers.
            (0, Some(servers), Some(peers)) if servers.known >= peers => {
                too_few(servers, peers / 2 + 1)
            }
            (0, _, _) => None,
            (_, Some(servers), _) if servers.known > 0 => too_few(servers, needed),
            _ => None,
        };
        lacking.unwrap_or(Verdict::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `leader 3 peers 2/3 servers`, of which each may be absent.
    fn seen(text: &str) -> Seen {
        let mut seen = Seen::default();
        let mut before = "";
        for word in text.split(' ') {
            match word {
                "leader" => seen.has_leader = Some(true),
                "leaderless" => seen.has_leader = Some(false),
                "peers" => seen.peers = before.parse().ok(),
                "servers" => {
                    let (alive, known) = before.split_once('/').unwrap();
                    let (alive, known) = (alive.parse().unwrap(), known.parse().unwrap());
                    seen.servers = Some(Servers { known, alive });
                }
                _ => before = word,
            }
        }
        seen
    }

    #[test]
    fn servers_that_can_be_believed() {
        let too_few = |alive, needed| Verdict::TooFew { alive, needed };
        for (text, needed, expected) in [
            ("", 0, Verdict::Unknown),
            ("3 peers 3/3 servers", 0, Verdict::Unknown),
            ("leaderless 3 peers 3/3 servers", 0, Verdict::NoLeader),
            ("leader", 0, Verdict::Whole),
            ("leader 3 peers 3/3 servers", 0, Verdict::Whole),
            ("leader 3 peers 2/3 servers", 0, Verdict::Whole),
            ("leader 3 peers 1/3 servers", 0, too_few(1, 2)),
            ("leader 5 peers 2/5 servers", 0, too_few(2, 3)),
            // Not all servers are seen.
            ("leader 3 peers 1/1 servers", 0, Verdict::Whole),
            ("leader 3 peers 0/0 servers", 3, Verdict::Whole),
            ("leader 1 peers 1/1 servers", 3, too_few(1, 3)),
            ("leader 3/3 servers", 3, Verdict::Whole),
        ] {
            assert_eq!(seen(text).judge(needed), expected, "{text:?} {needed}");
        }
    }
}
