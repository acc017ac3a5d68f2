//! A core with a Consul behind it that knows what it was told and denies all else.
//!
//! What is in no list can only be denied by Consul. Here that happens at once, so that every
//! question about a random catalogue has an answer.

use std::net::{IpAddr, Ipv4Addr};

use fingerpost::answer::{Asked, Cookies, Draft, Outcome, Policy, Transport, Turn, Want, respond};
use fingerpost::catalog::{Builder, Change, Held, Rules, Snapshot};
use fingerpost::name::Zone;

use crate::support::generate::{World, message};
use crate::support::straight;

/// Answers all questions about one catalogue.
pub struct Known {
    builder: Builder,
    snapshot: Snapshot,
    policy: Policy,
    draft: Draft,
}

impl Known {
    /// Knows `changes`.
    pub fn new(rules: Rules, policy: Policy, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut builder = straight::builder(rules);
        for change in changes {
            builder.apply(change);
        }
        Self { snapshot: builder.snapshot(), builder, policy, draft: Draft::default() }
    }

    /// Knows `world`, with the zones of [`policy`].
    pub fn of(world: &World) -> Self {
        Self::new(rules(), policy(), world.changes())
    }

    /// The reply to `bytes`.
    pub fn ask(&mut self, bytes: &[u8], transport: Transport, seed: u64) -> &[u8] {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (client, local, turn) = (ip, Some(ip), Turn::First);
        let (near, hosts) = (None, &[]);
        let asked = Asked { bytes, transport, client, local, seed, now_ms: 0, turn, near, hosts };
        loop {
            let denied = match respond(&self.snapshot, &self.policy, &asked, &mut self.draft) {
                Outcome::Replied(_) | Outcome::Silence => break,
                Outcome::Wants(Want::Unlisted { datacenter, form, name }) => Change::Service {
                    datacenter: datacenter.to_owned(),
                    form,
                    service: name.into(),
                    instances: Vec::new(),
                    held: Held::Watched,
                    executed: None,
                },
                Outcome::Why { .. } => panic!("nobody may ask why"),
                Outcome::Wants(want) => panic!("{want:?} of a catalogue that is whole"),
            };
            assert!(self.builder.apply(denied), "asked again for what was denied");
            self.snapshot = self.builder.snapshot();
        }
        &self.draft.reply
    }

    /// The header of the reply over TCP, where nothing is left out.
    pub fn head(&mut self, name: &str, qtype: u16) -> Head {
        let reply = self.ask(&message(name, qtype, None), Transport::Tcp, 0);
        Head { rcode: reply[3] & 0xf, answers: u16::from_be_bytes([reply[6], reply[7]]) }
    }
}

/// What a reply's header says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The lower four bits, which are all where there is no EDNS.
    pub rcode: u8,
    /// Records in the answer section.
    pub answers: u16,
}

/// TTLs that differ by what they are of, and other addresses for another datacenter.
pub fn rules() -> Rules {
    let service_ttl_secs = vec![("web".to_owned(), 7), ("*".to_owned(), 5)];
    let translate_wan_addrs = true;
    Rules { node_ttl_secs: 2, service_ttl_secs, translate_wan_addrs, ..straight::rules() }
}

/// Two domains, the second of them longer, two zones of addresses, cookies and a name of its own.
pub fn policy() -> Policy {
    let zones = |names: &[&str]| names.iter().map(|name| Zone::new(name).unwrap()).collect();
    let mut policy = Policy { zones: zones(&[ZONE, ALT]), node_ttl_secs: 2, ..straight::policy() };
    policy.reverse_zones = zones(&REVERSE);
    policy.soa.min_ttl_secs = 4;
    policy.cookies = Some(Cookies::new(&[[1; 16], [2; 16]], 1_700_000_000_000));
    policy.nsid = Some(Box::from(&b"ns-7"[..]));
    policy
}

/// `name`, which may be empty, in `zone`.
pub fn within(name: &str, zone: &str) -> String {
    if name.is_empty() { zone.to_owned() } else { format!("{name}.{zone}") }
}

/// `b.web` and `web` for `a.b.web`.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(at, _)| &name[at + 1..])
}

/// Whether `name` is `zone`, or below it.
pub fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The first domain.
pub const ZONE: &str = "consul";

/// The second.
pub const ALT: &str = "alt.example";

/// Zones of addresses.
pub const REVERSE: [&str; 2] = ["9.10.in-addr.arpa", "0.0.d.f.ip6.arpa"];

/// A, AAAA, SRV, TXT, CNAME, PTR, SOA, NS, MX, HTTPS, ANY and one that nobody knows.
pub const QTYPES: [u16; 12] = [1, 28, 33, 16, 5, 12, 6, 2, 15, 65, 255, 65_280];
