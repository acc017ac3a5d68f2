//! Asks again and again whether the servers can be believed.

use std::time::Duration;

use tokio::time::{self, Instant};
use tracing::debug;

use crate::consul::api::status::{self, Servers};
use crate::consul::fetch::FetchError;
use crate::consul::quorum::{Seen, Verdict};
use crate::consul::tasks::{Said, Tasks};

impl Tasks {
    /// Reports what the servers are, time and again, where so many of them have to be alive.
    pub fn watch_quorum(&self, needed: usize) {
        let tasks = self.clone();
        let watching = async move {
            let (mut before, mut refused) = (Verdict::Unknown, None);
            loop {
                let verdict = tasks.seen(&mut refused).await.judge(needed);
                // The first may come before it is known where we are, and nothing comes of it.
                tasks.report(Said::Quorum(verdict), Instant::now()).await;
                let is_well = verdict == Verdict::Whole && before == verdict;
                before = verdict;
                time::sleep(if is_well { QUORUM_EVERY } else { QUORUM_SOON }).await;
            }
        };
        self.tracker.spawn(self.cancel.clone().run_until_cancelled_owned(watching));
    }

    /// What the servers say. `refused` is when they last would not tell what autopilot sees.
    async fn seen(&self, refused: &mut Option<Instant>) -> Seen {
        let has_leader = match self.once("leader", status::has_leader()).await {
            Ok(reply) => Some(reply.value),
            // An agent that knows no server says so in this way.
            Err(FetchError::Status { status: 500, .. } | FetchError::NoLeader) => Some(false),
            Err(error) => {
                debug!(error = error.chain(), "cannot ask who leads");
                None
            }
        };
        if has_leader != Some(true) {
            return Seen { has_leader, ..Seen::default() };
        }
        let peers = self.once("peers", status::peers()).await.ok().map(|reply| reply.value);
        let members = self.once("members", status::servers()).await.ok();
        let mut servers = members.map(|reply| reply.value);
        // A token that may not read all nodes does not see all servers among the members.
        if servers.map_or(0, |servers| servers.known) < peers.unwrap_or(1)
            && refused.is_none_or(|at| at.elapsed() >= REFUSED_FOR)
        {
            servers = self.autopilot(refused).await.or(servers);
        }
        Seen { has_leader, peers, servers }
    }

    async fn autopilot(&self, refused: &mut Option<Instant>) -> Option<Servers> {
        match self.once("autopilot", status::autopilot()).await {
            Ok(reply) => Some(reply.value),
            Err(error) => {
                debug!(error = error.chain(), "cannot ask for autopilot's health");
                *refused = error.is_of_name().then(Instant::now);
                None
            }
        }
    }
}

/// What vanished meanwhile is to be believed as soon as they can be again.
const QUORUM_SOON: Duration = Duration::from_secs(1);

/// What a token may not ask for is rarely allowed later.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// Consul elects a leader within a few seconds.
const QUORUM_EVERY: Duration = Duration::from_secs(5);
