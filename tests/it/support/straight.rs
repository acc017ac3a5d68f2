//! The core without sockets: a catalogue, a policy, and [`respond`] on bytes.
//!
//! What comes back is bytes; whoever reads them does so with hickory-proto.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fingerpost::answer::{Asked, Draft, Host, Outcome, Policy, Transport, Turn, Want, respond};
use fingerpost::catalog::{Builder, Change, Rules, Snapshot, Usage};
use fingerpost::name::Zone;

/// One snapshot and what it is answered with.
#[derive(Debug)]
pub struct Core {
    /// What is answered from.
    pub snapshot: Snapshot,
    /// Who asks; 127.0.0.1 if nobody says otherwise.
    pub client: IpAddr,
    /// What is known of hosts elsewhere.
    pub hosts: Vec<Host>,
    policy: Policy,
    draft: Draft,
}

impl Core {
    /// Answers from `changes`.
    pub fn new(rules: Rules, policy: Policy, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut builder = builder(rules);
        for change in changes {
            builder.apply(change);
        }
        Self::of(builder.snapshot(), policy)
    }

    /// Answers from `snapshot`.
    pub fn of(snapshot: Snapshot, policy: Policy) -> Self {
        Self { snapshot, client: LOOPBACK, hosts: Vec::new(), policy, draft: Draft::default() }
    }

    /// The reply to `bytes`; empty where there is none.
    ///
    /// # Panics
    ///
    /// When something is to be fetched first: these catalogues are whole.
    pub fn ask(&mut self, bytes: &[u8], transport: Transport, seed: u64) -> &[u8] {
        match self.outcome(bytes, transport, seed) {
            Ok(reply) => reply,
            Err(want) => panic!("{want} is wanted"),
        }
    }

    /// The reply to `bytes`, or what is to be fetched first.
    pub fn outcome(
        &mut self,
        bytes: &[u8],
        transport: Transport,
        seed: u64,
    ) -> Result<&[u8], String> {
        let (local, client) = (Some(LOOPBACK), self.client);
        let (turn, hosts) = (Turn::First, &self.hosts);
        let asked =
            Asked { bytes, transport, client, local, seed, now_ms: 0, turn, near: None, hosts };
        match respond(&self.snapshot, &self.policy, &asked, &mut self.draft) {
            Outcome::Replied(_) | Outcome::Silence => Ok(&self.draft.reply),
            Outcome::Wants(Want::Datacenter { datacenter }) => Err(datacenter.to_owned()),
            Outcome::Wants(Want::Service { datacenter, service, .. }) => {
                Err(format!("{}.{datacenter}", service.to_lowercase()))
            }
            Outcome::Wants(Want::Foreign) => Err("the recursors".to_owned()),
            Outcome::Why { rtype } => Err(format!("why, of type {rtype}")),
            Outcome::Wants(Want::Host { name, .. }) => Err(name.to_string()),
            Outcome::Wants(Want::Unlisted { datacenter, form, name }) => {
                Err(format!("{name}.{}.{datacenter}", form.as_str()))
            }
        }
    }
}

/// A builder that has heard nothing.
pub fn builder(rules: Rules) -> Builder {
    Builder::new(rules, 1, usize::MAX, Arc::new(Usage::new(1, false)))
}

/// The rules of a configuration that says nothing.
pub fn rules() -> Rules {
    Rules::new(Zone::new("consul").unwrap())
}

/// The policy of a configuration that says nothing but that we are 127.0.0.1.
pub fn policy() -> Policy {
    let advertise = vec![LOOPBACK];
    Policy { advertise, ..Policy::new(Zone::new("consul").unwrap()) }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
