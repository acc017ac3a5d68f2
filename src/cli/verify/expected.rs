//! What a server should say: the same core, over what was read from Consul just now.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::answer::{Asked, Draft, Outcome, Policy, Recursion, Transport, Turn, respond};
use crate::app;
use crate::catalog::{Builder, Change, Held, Snapshot, Usage};
use crate::cli::verify::question::{Question, Said, Share};
use crate::config::Config;
use crate::name::Zone;

/// Consul's catalogue, and how it is answered from.
#[derive(Debug)]
pub struct Expected {
    builder: Builder,
    policy: Policy,
    a_record_limit: usize,
}

impl Expected {
    /// Nothing read yet. `local` is the datacenter that is near, and `names` are all of them.
    ///
    /// # Errors
    ///
    /// Fails on a zone that is none, which the configuration rules out.
    pub fn new(config: &Config, local: &str, names: Vec<String>) -> anyhow::Result<Self> {
        let rules = app::rules(config, Zone::new(&config.domain)?);
        let mut builder = Builder::new(rules, 1, 0, Arc::new(Usage::new(1, false)));
        builder.apply(Change::Datacenters { local: local.to_owned(), names });
        let policy = app::policy(config)?;
        // All records are wanted, and of hosts elsewhere no more than their names.
        let a_record_limit = policy.a_record_limit;
        let policy = Policy { a_record_limit: 0, recursion: Recursion::default(), ..policy };
        Ok(Self { builder, policy, a_record_limit })
    }

    /// Takes in what was read.
    pub fn apply(&mut self, mut change: Change) {
        if let Change::Service { held, .. } = &mut change {
            *held = Held::Watched;
        }
        self.builder.apply(change);
    }

    /// What was read so far.
    pub fn snapshot(&self) -> Snapshot {
        self.builder.snapshot()
    }

    /// What is to be said to `question`, and how much of it is in one reply.
    pub fn said(&self, question: &Question) -> Option<(Said, Share)> {
        let snapshot = self.builder.snapshot();
        let (mut said, len) = self.reply(&snapshot, question, 0)?;
        let share = match self.a_record_limit {
            _ if said.is_alias() || len > WHOLE_BYTES => Share::Some,
            0 => Share::All,
            limit if question.is_for_addresses() => Share::Count(limit),
            _ => Share::All,
        };
        if share == Share::Some {
            // One host of several, or as many records as fit: in each reply others.
            for seed in 1..SEEDS {
                let (more, _) = self.reply(&snapshot, question, seed)?;
                said.records.extend(more.records);
            }
        }
        Some((said, share))
    }

    fn reply(&self, snapshot: &Snapshot, question: &Question, seed: u64) -> Option<(Said, usize)> {
        let asked = Asked {
            bytes: &question.message(0),
            transport: Transport::Tcp,
            client: LOOPBACK,
            local: Some(LOOPBACK),
            // Neighboring seeds are to differ in all bits.
            seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            now_ms: 0,
            turn: Turn::Last,
            near: None,
            hosts: &[],
        };
        let mut draft = Draft::default();
        match respond(snapshot, &self.policy, &asked, &mut draft) {
            Outcome::Replied(_) => Some((Said::read(&draft.reply)?, draft.reply.len())),
            Outcome::Silence | Outcome::Wants(_) | Outcome::Why { .. } => None,
        }
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A reply that is longer may have been cut: it has room for 65,535 bytes.
const WHOLE_BYTES: usize = 60_000;

/// Enough for each of a few hosts to be picked, and for each record that fits half of the time.
const SEEDS: u64 = 64;
