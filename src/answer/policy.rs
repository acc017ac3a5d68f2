//! What decides an answer besides the catalogue. Made at start, read by every query.

use std::net::IpAddr;
use std::time::Duration;

use crate::answer::chaos::Chaos;
use crate::answer::cookie::{CookieCheck, Cookies};
use crate::answer::foreign::Recursion;
use crate::answer::{Asked, Network, Transport};
use crate::name::{Labels, Zone};
use crate::wire::{Edns, Keepalive, Opt};

/// What decides an answer besides the catalogue: the configuration, as far as it concerns one.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What we are authoritative for. Never empty; records are named in the first.
    pub zones: Vec<Zone>,
    /// Zones of reverse names that are ours, so that what they lack does not exist.
    pub reverse_zones: Vec<Zone>,
    /// The names in NS records; empty is `ns` in the zone that was asked.
    pub name_servers: Vec<Zone>,
    /// What is said in class CH; `None` says nothing.
    pub chaos: Option<Chaos>,
    /// The largest reply over UDP, and the size in our OPT. At least 512.
    pub udp_payload_max: u16,
    /// Most records over UDP without EDNS, at most 8 as in Consul.
    pub udp_answer_limit: usize,
    /// Most addresses of a service in one reply; 0 is no limit.
    pub a_record_limit: usize,
    /// The TTL of NS records, of our own addresses and of `.addr` names.
    pub node_ttl_secs: u32,
    /// The zone's timers.
    pub soa: Soa,
    /// What `ns.<zone>` resolves to; empty means the address that was asked.
    pub advertise: Vec<IpAddr>,
    /// What becomes of names in no zone of ours.
    pub recursion: Recursion,
    /// How old an answer may be, in milliseconds.
    pub max_stale_ms: u64,
    /// Whether a forwarder's word is taken for where its client is (RFC 7871).
    pub client_subnet: bool,
    /// Makes the cookies that clients are known by (RFC 7873); `None` looks at none.
    pub cookies: Option<Cookies>,
    /// What is said to who asks which server this is (RFC 5001); `None` says nothing.
    pub nsid: Option<Box<[u8]>>,
    /// How long a connection may be idle, which is told to who asks (RFC 7828).
    pub idle: Duration,
    /// What ANY is answered with.
    pub any: AnyAnswer,
    /// The clients to whom answers are explained under `_why`; empty is none.
    pub why: Vec<Network>,
}

/// What ANY is answered with (RFC 8482).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnyAnswer {
    /// All there is, as in Consul.
    All,
    /// Over UDP one RRset of the name, so that a forged question brings little (§4.1). Over the
    /// others, whose clients are where they say they are, all there is (§4.4).
    Minimal,
}

/// The timers of the zone's SOA record, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Soa {
    /// How often a secondary would look.
    pub refresh_secs: u32,
    /// How soon it would look again.
    pub retry_secs: u32,
    /// How long it would go on alone.
    pub expire_secs: u32,
    /// The TTL of the SOA and of negative answers (RFC 2308 §4).
    pub min_ttl_secs: u32,
}

impl Policy {
    /// Consul's defaults, for `zone` alone.
    pub fn new(zone: Zone) -> Self {
        Self {
            zones: vec![zone],
            reverse_zones: Vec::new(),
            name_servers: Vec::new(),
            chaos: None,
            // The size that crosses any network unfragmented: DNS Flag Day 2020.
            udp_payload_max: 1232,
            udp_answer_limit: 3,
            a_record_limit: 0,
            node_ttl_secs: 0,
            soa: Soa { refresh_secs: 3600, retry_secs: 600, expire_secs: 86_400, min_ttl_secs: 0 },
            advertise: Vec::new(),
            recursion: Recursion::default(),
            max_stale_ms: TEN_YEARS_MS,
            client_subnet: true,
            cookies: None,
            nsid: None,
            idle: Duration::from_secs(30),
            any: AnyAnswer::All,
            why: Vec::new(),
        }
    }

    /// Our OPT record in a reply to `asked`, whose own is `edns`, and what its cookie is worth. The
    /// answer is the same for all networks.
    pub fn opt(&self, asked: &Asked<'_>, edns: Option<&Edns>) -> (Option<Opt<'_>>, CookieCheck) {
        let Some(edns) = edns else { return (None, CookieCheck::Absent) };
        let (check, cookie) = match (&self.cookies, edns.cookie) {
            (Some(cookies), Some(cookie)) => cookies.judge(cookie, asked.client, asked.now_ms),
            _ => (CookieCheck::Absent, None),
        };
        let is_kept = edns.keepalive == Some(Keepalive::Asked) && asked.transport.has_keepalive();
        let is_padded = edns.has_padding && asked.transport.is_encrypted();
        let opt = Opt {
            payload: self.udp_payload_max,
            dnssec_ok: edns.dnssec_ok,
            error: None,
            // A server that does not use it says so by leaving it out (RFC 7871 §7.2.1).
            subnet: edns.subnet.filter(|_| self.client_subnet).map(|subnet| (subnet, 0)),
            cookie,
            nsid: if edns.has_nsid { self.nsid_within(asked, edns) } else { None },
            keepalive: is_kept.then(|| self.keepalive()),
            padded_to: if is_padded { PADDED_TO } else { 0 },
        };
        (Some(opt), check)
    }

    /// Which server this is, where there is room for it: a long question and a long name of ours do
    /// not fit together.
    fn nsid_within(&self, asked: &Asked<'_>, edns: &Edns) -> Option<&[u8]> {
        let limit = asked.transport.reply_max(self, Some(edns));
        let fits = |nsid: &&[u8]| asked.bytes.len() + nsid.len() + OPTIONS_MAX <= limit;
        self.nsid.as_deref().filter(fits)
    }

    /// In units of 100 ms.
    fn keepalive(&self) -> u16 {
        u16::try_from(self.idle.as_millis() / 100).unwrap_or(u16::MAX)
    }

    /// Whether one RRset is enough for ANY.
    pub fn is_any_minimal(&self, transport: Transport) -> bool {
        self.any == AnyAnswer::Minimal && transport == Transport::Udp
    }

    /// Whether something that was last known to be right at `since_ms` is too old at `now_ms`, both
    /// of the program's clock.
    pub fn is_expired(&self, since_ms: i64, now_ms: u64) -> bool {
        let age_ms = i128::from(now_ms) - i128::from(since_ms);
        age_ms > i128::from(self.max_stale_ms)
    }

    /// Whether `labels` are the name of a name server.
    pub fn is_name_server(&self, labels: &Labels) -> bool {
        self.name_servers.iter().any(|name| labels.below(name) == Some(0))
    }
}

/// Consul's own default for `max_stale`.
const TEN_YEARS_MS: u64 = 87_600 * 3_600_000;

/// What the options of a reply take at most beside NSID and padding: none has a text that is longer
/// than 80 bytes.
const OPTIONS_MAX: usize = 160;

/// RFC 8467 §4.1, of all replies over encrypted transports.
const PADDED_TO: usize = 468;
