//! From a question and a [`Snapshot`] to the bytes of a reply.
//!
//! ```text
//!   bytes --> Query --> Labels --> Lookup --> Finding --> Reply
//!             wire       name       name      catalog      wire
//! ```
//! Everything here is a function of its arguments: no clock, no randomness, no socket, no lock,
//! no log line. The seed that spreads load and the time come in with the question, so a test can
//! pin them. Counting and logging are the caller's, from the [`Outcome`] it gets back.
//!
//! **Invariant:** no function in this module can fail. A question we cannot answer has an answer
//! too: NXDOMAIN, NODATA, SERVFAIL or REFUSED. NXDOMAIN is said only of what the catalogue's own
//! lists lack, never of what was not heard yet.
//!
//! **Hot.** Nothing allocates once the buffers have grown, but for what has to be asked of Consul
//! and for several tags at once.

pub mod alias;
pub mod any;
pub mod apex;
pub mod chaos;
pub mod cookie;
pub mod find;
pub mod finding;
pub mod foreign;
pub mod meta;
pub mod negative;
pub mod network;
pub mod node;
pub mod pick;
pub mod policy;
pub mod refused;
pub mod select;
pub mod service;
pub mod stale;
pub mod transport;
pub mod why;

use std::net::IpAddr;

use crate::answer::finding::{Finding, Trace};
use crate::answer::refused::Refused;
use crate::answer::transport::UDP_PAYLOAD_MIN;
use crate::catalog::{CacheResult, Form, Snapshot, Usage};
use crate::name::{Labels, Zone};
use crate::wire::{CLASS_CH, CLASS_IN, Query, Refusal, Reply, ede, rcode, rtype};

pub use cookie::{CookieCheck, Cookies};
pub use foreign::{Recursion, deliver};
pub use network::Network;
pub use pick::{Picks, Random};
pub use policy::{AnyAnswer, Policy, Soa};
pub use refused::fail;
pub use transport::Transport;

/// One question, and all that varies from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'q> {
    /// The message as it came.
    pub bytes: &'q [u8],
    /// How it came, and how the reply goes.
    pub transport: Transport,
    /// Who asks.
    pub client: IpAddr,
    /// The address that was asked, where the listener knows it.
    pub local: Option<IpAddr>,
    /// Drawn anew for each query: which records, in which order.
    pub seed: u64,
    /// The program's clock, in milliseconds since its start.
    pub now_ms: u64,
    /// Whether something may be fetched first.
    pub turn: Turn,
    /// Where the client is, for answers that depend on it; `None` is at its address.
    pub near: Option<IpAddr>,
    /// What hosts in no zone of ours have, as far as it was asked for because of this question.
    pub hosts: &'q [Host],
}

/// What a host in no zone of ours has, of one type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// In lower case, without a trailing dot.
    pub name: Box<str>,
    /// Of its records.
    pub rtype: u16,
    /// Each without its owner; none where the host has none, or its servers do not answer.
    pub records: Vec<Box<[u8]>>,
}

/// Whether something may still be fetched for this question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// What is not in memory is wanted still, but what is there was fetched just now.
    Again,
    /// What is not in memory is wanted, and so is what is old.
    First,
    /// What is not in memory now will not be.
    Last,
}

/// Buffers that a worker reuses from query to query.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The reply. Empty where nothing is to be sent.
    pub reply: Vec<u8>,
    /// Whether clients at other addresses may be answered otherwise, of which the query says
    /// nothing.
    pub is_by_address: bool,
    picks: Picks,
    placed: service::Placed,
}

/// What was decided.
#[derive(Clone, Debug)]
pub enum Outcome<'s> {
    /// The reply is in the draft.
    Replied(Replied<'s>),
    /// Nothing is sent.
    Silence,
    /// Something is to be fetched first; then the question comes again, on its last turn.
    Wants(Want<'s>),
    /// The answer to another question is to be explained: the one without this one's first label,
    /// and of this type. What is told is the answer.
    Why {
        /// The type.
        rtype: u16,
    },
}

/// Enough of a reply for the metrics and the query log.
#[derive(Clone, Copy, Debug)]
pub struct Replied<'s> {
    /// All twelve bits of it.
    pub rcode: u16,
    /// `None` where no question could be read.
    pub qtype: Option<u16>,
    /// Whether TC is set.
    pub truncated: bool,
    /// What the cache had, and the counts of the service it was had for; no counts for names of
    /// no service. `None` for replies that need no catalogue.
    pub cache: Option<(CacheResult, Option<&'s Usage>)>,
    /// Whether the client has shown that it is at its address.
    pub cookie: CookieCheck,
}

/// What the core lacks to answer.
#[derive(Clone, Debug)]
pub enum Want<'s> {
    /// The lists of a datacenter that was not asked for before.
    Datacenter {
        /// Its name.
        datacenter: &'s str,
    },
    /// The recursors' reply to the question itself.
    Foreign,
    /// The records of a host in no zone of ours.
    Host {
        /// As registered, in lower case.
        name: Box<str>,
        /// Of what type.
        rtype: u16,
    },
    /// The instances of a service.
    Service {
        /// Where it is.
        datacenter: &'s str,
        /// Its name as registered.
        service: &'s str,
        /// Counts the miss.
        usage: &'s Usage,
    },
    /// What only Consul can say or deny.
    Unlisted {
        /// Where it is.
        datacenter: &'s str,
        /// What kind of name it is.
        form: Form,
        /// In lower case.
        name: Box<str>,
    },
}

/// Decides and writes the reply to one message.
///
/// The bytes are in `draft` and go out unchanged. On [`Turn::Last`] the outcome is never
/// [`Outcome::Wants`].
pub fn respond<'s>(
    snapshot: &'s Snapshot,
    policy: &Policy,
    asked: &Asked<'_>,
    draft: &mut Draft,
) -> Outcome<'s> {
    draft.reply.clear();
    draft.is_by_address = false;
    let query = match Query::parse(asked.bytes) {
        Ok(query) => query,
        Err(Refusal::Silence) => return Outcome::Silence,
        Err(Refusal::CookieAlone { head, edns }) => {
            let refused = Refused::for_cookie(policy, asked, head, edns);
            return refused.reply(policy, asked, draft);
        }
        Err(Refusal::Reply { head, edns, rcode, signature }) => {
            let refused = Refused { head, edns, rcode, error: None, signature };
            return refused.reply(policy, asked, draft);
        }
    };
    if let Some(refused) = Refused::of(asked, &query) {
        return refused.reply(policy, asked, draft);
    }
    if query.qclass == CLASS_CH && policy.chaos.is_some() {
        return chaos::respond(policy, asked, &query, draft);
    }
    // Consul answers any class as IN; RFC 1035 §3.2.4 knows no reason to.
    if query.qclass != CLASS_IN {
        let error = (ede::NOT_AUTHORITATIVE, "the zones of this server are of class IN");
        return Refused::new(&query, rcode::REFUSED, Some(error)).reply(policy, asked, draft);
    }
    let near = query.edns.and_then(|edns| edns.subnet?.address());
    let asked = &Asked { near: near.filter(|_| policy.client_subnet), ..*asked };
    let labels = Labels::from_wire(query.name);
    let why = labels.as_ref().and_then(|labels| why::asked_type(policy, asked, labels));
    if let (Some(rtype), rtype::TXT | rtype::ANY) = (why, query.qtype) {
        return Outcome::Why { rtype };
    }
    let found = labels.as_ref().and_then(|labels| {
        let realm = Realm::of(policy, asked, labels)?;
        let found = match why {
            Some(_) => Trace::of_parent(),
            None => realm.find(snapshot, policy, asked, labels)?,
        };
        Some((found, realm, labels))
    });
    let Some((found, realm, labels)) = found else {
        return foreign::respond(policy, asked, &query, labels.as_ref(), draft);
    };
    if let Finding::Wants(want) = found.finding {
        return Outcome::Wants(want);
    }
    let limit = asked.transport.reply_max(policy, query.edns.as_ref());
    let question = Question {
        snapshot,
        policy,
        asked,
        qtype: any::narrowed(policy, asked, query.qtype, &found.finding),
        has_small_limit: asked.transport == Transport::Udp && limit == UDP_PAYLOAD_MIN,
        zone: realm.zone,
        zone_at: labels.wire_offset(realm.count),
    };
    match write(draft, &question, &query, limit, found) {
        Ok(replied) => Outcome::Replied(replied),
        Err(want) => Outcome::Wants(want),
    }
}

/// The zone that a name is in, as far as it concerns us.
#[derive(Clone, Copy, Debug)]
pub struct Realm<'p> {
    /// `None` for a reverse name in no zone of ours: a known address has an answer all the same.
    pub zone: Option<RealmZone<'p>>,
    /// The labels left when the zone is removed.
    pub count: usize,
}

/// A zone that concerns us.
#[derive(Clone, Copy, Debug)]
pub enum RealmZone<'p> {
    /// One in which services and nodes have their names.
    Forward(&'p Zone),
    /// One of addresses.
    Reverse,
}

impl<'p> Realm<'p> {
    /// The zone that the name of `labels` is in; `None` where it is in none that concerns us.
    pub fn of(policy: &'p Policy, asked: &Asked<'_>, labels: &Labels) -> Option<Self> {
        // Of two zones with a common end, the longer one is meant.
        let closest = |zones: &'p [Zone]| {
            let below = zones.iter().filter_map(|zone| Some((labels.below(zone)?, zone)));
            below.min_by_key(|(count, _)| *count)
        };
        if let Some((count, zone)) = closest(&policy.zones) {
            return Some(Self { zone: Some(RealmZone::Forward(zone)), count });
        }
        if let Some((count, _)) = closest(&policy.reverse_zones) {
            return Some(Self { zone: Some(RealmZone::Reverse), count });
        }
        // Where there are recursors, these must not be asked for addresses of our own network; and
        // what was not registered yet must not be denied for hours, as by an empty zone.
        let may_ask = policy.recursion.enabled && policy.recursion.allows(asked.client);
        if let Some(zone) = foreign::private_zone(labels).filter(|_| may_ask) {
            let count = labels.count().saturating_sub(zone);
            return Some(Self { zone: Some(RealmZone::Reverse), count });
        }
        // The name of a whole address is then taken for one in the zone of its network.
        let root = labels.count().checked_sub(2)?;
        let is_address = match labels.join(root..root + 2) {
            b"in-addr.arpa" => root == 4,
            b"ip6.arpa" => root == 32,
            _ => false,
        };
        is_address.then_some(Self { zone: None, count: 1 })
    }

    /// What there is. `None` where that is not ours to say.
    pub fn find<'s>(
        &self,
        snapshot: &'s Snapshot,
        policy: &Policy,
        asked: &Asked<'_>,
        labels: &Labels,
    ) -> Option<Trace<'s>> {
        match self.zone {
            Some(RealmZone::Forward(_)) => {
                Some(find::find(snapshot, policy, asked, labels, self.count))
            }
            Some(RealmZone::Reverse) if self.count == 0 => Some(Trace::of_zone()),
            Some(RealmZone::Reverse) | None => {
                find::find_reverse(snapshot, policy, asked, labels, self.zone.is_some())
            }
        }
    }
}

/// Writes the reply of at most `limit` bytes that says what was found.
///
/// # Errors
///
/// Gives back what is wanted first.
fn write<'s>(
    draft: &mut Draft,
    question: &Question<'s, '_>,
    query: &Query<'_>,
    limit: usize,
    found: Trace<'s>,
) -> Result<Replied<'s>, Want<'s>> {
    let (mut opt, cookie) = question.policy.opt(question.asked, query.edns.as_ref());
    if let Some(opt) = &mut opt {
        opt.error = match found.is_stale {
            true => Some(stale::error(found.finding.rcode())),
            false => found.finding.extended_error(),
        };
        if let (Some((subnet, scope)), true) = (&mut opt.subnet, found.is_by_client) {
            *scope = subnet.scope();
        }
    }
    draft.is_by_address = found.is_by_client && question.asked.near.is_none();
    let Draft { reply: buffer, picks, placed, .. } = draft;
    let mut reply = Reply::start(buffer, &query.head, limit, opt.as_mut());
    reply.set_authoritative();
    if question.policy.recursion.enabled {
        reply.set_recursion_available();
    }
    let mut desk = service::Desk { picks, placed };
    let start = reply.offset();
    let written = match &found.finding {
        Finding::Address(ip) => node::write_address(&mut reply, question, *ip),
        Finding::Apex => apex::write(&mut reply, question),
        Finding::NameServer => apex::write_name_server(&mut reply, question),
        Finding::Node(node) => node::write(&mut reply, question, node, &mut desk)?,
        Finding::Pointer(pointer) => node::write_pointer(&mut reply, question, pointer),
        Finding::Service { rrsets, selection } => {
            service::write(&mut reply, question, rrsets, selection, &mut desk)?
        }
        Finding::Empty
        | Finding::Expired
        | Finding::Missing
        | Finding::NotReady
        | Finding::Unreachable
        | Finding::Unserved
        | Finding::Wants(_) => Written::default(),
    };
    if written.is_stale && !found.is_stale {
        // An alias leads to something old, which its OPT needs room to say.
        let cache = found.cache.map(|(_, usage)| (CacheResult::Stale, usage));
        return write(draft, question, query, limit, Trace { is_stale: true, cache, ..found });
    }
    let rcode = if written.is_broken { rcode::SERVFAIL } else { found.finding.rcode() };
    if written.is_broken {
        // What led there is no answer.
        reply.rewind(start, 0);
        reply.set_error(written.error);
    }
    if written.answers == 0 && !written.truncated && rcode != rcode::SERVFAIL {
        negative::write_soa(&mut reply, question);
    }
    reply.finish(rcode);
    if found.is_stale {
        stale::limit_ttls(buffer, question.policy);
    }
    let truncated = written.truncated;
    Ok(Replied { rcode, qtype: Some(query.qtype), truncated, cache: found.cache, cookie })
}

/// The question, as the writers of records see it.
pub struct Question<'s, 'a> {
    snapshot: &'s Snapshot,
    policy: &'a Policy,
    asked: &'a Asked<'a>,
    qtype: u16,
    /// Over UDP without EDNS, where Consul answers with few records.
    has_small_limit: bool,
    /// The zone that was asked; `None` for a reverse name that is in no zone of ours.
    zone: Option<RealmZone<'a>>,
    /// Where the zone's name starts in the question's.
    zone_at: usize,
}

impl<'a> Question<'_, 'a> {
    /// What is known of a host in no zone of ours: nothing where nobody can be asked.
    ///
    /// # Errors
    ///
    /// Gives back what is wanted first.
    fn host<'s>(&self, name: &Labels, rtype: u16) -> Result<&'a [Box<[u8]>], Want<'s>> {
        let text = name.join(0..name.count());
        let hosts = self.asked.hosts;
        let known = hosts.iter().find(|host| host.rtype == rtype && host.name.as_bytes() == text);
        match (known, str::from_utf8(text), self.asked.turn) {
            (Some(host), ..) => Ok(&host.records),
            (None, Ok(name), Turn::Again | Turn::First)
                if self.policy.recursion.enabled && hosts.len() < HOSTS_MAX =>
            {
                Err(Want::Host { name: name.into(), rtype })
            }
            (None, ..) => Ok(&[]),
        }
    }
}

impl Question<'_, '_> {
    /// The zone that names are made in: the one that was asked, or the first where that is one of
    /// addresses.
    fn names_in(&self) -> Option<&Zone> {
        match self.zone {
            Some(RealmZone::Forward(zone)) => Some(zone),
            Some(RealmZone::Reverse) | None => self.policy.zones.first(),
        }
    }

    /// Whether the question's own end is that zone, so that names can point into it.
    fn ends_with_names(&self) -> bool {
        matches!(self.zone, Some(RealmZone::Forward(_)))
    }
}

/// What a writer of records did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    answers: usize,
    truncated: bool,
    /// Whether an alias leads to itself, or to a name that cannot be told of at present.
    is_broken: bool,
    /// Why, for clients that sent EDNS.
    error: Option<(u16, &'static str)>,
    /// Whether one leads to something that may be old.
    is_stale: bool,
}

/// Hosts that are asked for because of one question, each type apart.
pub const HOSTS_MAX: usize = 8;
