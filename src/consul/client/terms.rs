//! From where something is asked, who may answer it, and how long that may take.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::consul::index::Index;

/// From where something is asked, and who may answer it.
#[derive(Clone, Copy, Debug)]
pub enum Terms {
    /// What changes after it within this time, from any server.
    After(Index, Duration),
    /// What is there, from a server that has lost its leader.
    Leaderless,
    /// What is there, from the leader once it has read its whole log.
    Start,
}

impl Terms {
    /// Whether a server without a leader is believed that heard of its last one so long ago.
    ///
    /// One that has met none since its start has not read its log yet. 1.8.7 then answers with 500,
    /// and the time would be that since the year 1; one that met it just now may be reading still.
    pub fn believe(self, last_contact_ms: Option<u64>) -> bool {
        matches!(self, Self::Leaderless)
            && last_contact_ms.is_some_and(|ms| LEADER_LOST_MS.contains(&ms))
    }

    /// Whether such a reply says that the token may not read what was asked for.
    ///
    /// Asked for proxies or gateways of a service, Consul answers a token that may not read the
    /// service with nothing, and with headers that nobody has filled in: index 1, and no leader.
    /// Without a leader a question from the beginning is an error.
    pub fn is_denied(self, endpoint: &str, index: Option<Index>, body: &[u8]) -> bool {
        matches!(endpoint, "health/connect" | "health/ingress")
            && matches!(self, Self::Start)
            && index.is_none_or(|index| index.get() == 1)
            && matches!(body.trim_ascii(), b"[]" | b"null")
    }

    /// How long Consul is asked to hold the question.
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::After(_, wait) => Some(wait),
            Self::Leaderless | Self::Start => None,
        }
    }

    /// How long a reply may take of a Consul that takes up to `timeout` when it holds nothing.
    pub fn deadline(self, timeout: Duration) -> Duration {
        match self {
            // Consul holds a query for up to a sixteenth longer than asked.
            Self::After(_, wait) => wait + wait / 16 + timeout,
            Self::Leaderless | Self::Start => timeout,
        }
    }
}

/// How long Consul is asked to hold a query, `age` after the start, where `most` is configured.
/// `draw` is drawn from 0.0 to 1.0.
///
/// An abandoned query keeps its place at Consul until this is over, so those of a program that is
/// started again and again are short. Later ones must not all return at the same time.
pub fn wait(most: Duration, age: Duration, draw: f64) -> Duration {
    match age < YOUNG {
        true => most.min(WAIT_AT_START),
        false => most / 2 + (most / 2).mul_f64(draw.clamp(0.0, 1.0)),
    }
}

/// How long ago a server may have lost the leader to be asked in its stead: 5 s to ten years.
const LEADER_LOST_MS: RangeInclusive<u64> = 5_000..=315_360_000_000;

/// So long a start may be one of several.
const YOUNG: Duration = Duration::from_secs(60);

const WAIT_AT_START: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_may_not_read_has_headers_that_say_nothing() {
        for (terms, endpoint, index, body, expected) in [
            (Terms::Start, "health/connect", "1", "[]", true),
            (Terms::Start, "health/ingress", "1", " null\n", true),
            (Terms::Start, "health/ingress", "7", "[]", false),
            (Terms::Start, "health/ingress", "1", "[{}]", false),
            (Terms::Start, "health/service", "1", "[]", false),
            (Terms::Leaderless, "health/ingress", "1", "[]", false),
        ] {
            let got = terms.is_denied(endpoint, Index::from_header(index), body.as_bytes());
            assert_eq!(got, expected, "{terms:?} {endpoint} {index} {body}");
        }
    }

    #[test]
    fn waits_are_short_at_first_and_then_differ() {
        for (most, age, draw, expected) in [
            (60, 0, 1.0, 10_000),
            (60, 59, 0.5, 10_000),
            (5, 0, 0.5, 5_000),
            (60, 60, 0.0, 30_000),
            (60, 3_600, 0.5, 45_000),
            (60, 3_600, 1.0, 60_000),
        ] {
            let secs = Duration::from_secs;
            let got = wait(secs(most), secs(age), draw).as_millis();
            assert_eq!(got, expected, "{most} s, after {age} s, drawn {draw}");
        }
    }
}
