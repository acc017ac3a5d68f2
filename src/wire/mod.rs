//! Bytes of DNS, and nothing of Consul.
//!
//! ```text
//!   12 bytes     header: id, flags, four counts          RFC 1035 §4.1.1
//!   question     name, qtype, qclass                     echoed as typed, letter case included
//!   answer       records whose owner is 0xC00C: a pointer to the question's name, at byte 12
//!   authority    the SOA of a negative answer, its owner a pointer into the question's name
//!   additional   addresses of SRV targets, then the OPT record (RFC 6891)
//! ```
//! [`Query`] reads what came in, [`Reply`] writes what goes out, and [`record`] encodes the
//! records that are copied in between. [`ttl`] limits the TTLs of what was written, and
//! [`lifetime`] tells how long a cache may keep it.

pub mod edns;
pub mod lifetime;
pub mod opt;
pub mod query;
pub mod reader;
pub mod record;
pub mod reply;
pub mod subnet;
pub mod tsig;
pub mod ttl;

pub use edns::{Cookie, Edns, Keepalive};
pub use opt::Opt;
pub use query::{Head, Query, Refusal};
pub use reply::Reply;
pub use subnet::Subnet;
pub use tsig::Signature;

/// Response codes, as in the IANA registry of DNS RCODEs.
pub mod rcode {
    /// The name exists; there may still be no record of the type.
    pub const NOERROR: u16 = 0;
    /// The message is malformed.
    pub const FORMERR: u16 = 1;
    /// There may be an answer, but not here and not now.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist, and nothing below it does.
    pub const NXDOMAIN: u16 = 3;
    /// An opcode that is not served.
    pub const NOTIMP: u16 = 4;
    /// Not ours to answer.
    pub const REFUSED: u16 = 5;
    /// RFC 8945 §5.2: signed with a key that is not known.
    pub const NOTAUTH: u16 = 9;
    /// RFC 6891 §9; needs an OPT record for its upper bits.
    pub const BADVERS: u16 = 16;
    /// RFC 7873 §5.4: only of a cookie that was asked for alone. Of recursors it is between two
    /// neighbors, and nothing to the name (§5.3).
    pub const BADCOOKIE: u16 = 23;
}

/// Record and query types, as in the IANA registry of resource record types.
#[allow(missing_docs, reason = "the names are the registry's")]
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const MAILB: u16 = 253;
    pub const MAILA: u16 = 254;
    pub const ANY: u16 = 255;
}

/// Extended DNS errors (RFC 8914 §4, RFC 9824 §8).
#[allow(missing_docs, reason = "the names are the registry's")]
pub mod ede {
    pub const OTHER: u16 = 0;
    pub const STALE_ANSWER: u16 = 3;
    pub const NOT_READY: u16 = 14;
    pub const PROHIBITED: u16 = 18;
    pub const STALE_NXDOMAIN: u16 = 19;
    pub const NOT_AUTHORITATIVE: u16 = 20;
    pub const NOT_SUPPORTED: u16 = 21;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub const NETWORK_ERROR: u16 = 23;
    pub const INVALID_QUERY_TYPE: u16 = 30;
}

/// The class of everything in this program but what it says of itself (RFC 1035 §3.2.4).
pub const CLASS_IN: u16 = 1;

/// The class in which a server says what it is (RFC 4892).
pub const CLASS_CH: u16 = 3;

/// The class of records about a message, and not in a zone (RFC 8945 §4.2).
pub const CLASS_ANY: u16 = 255;

/// Where the question's name starts in every message.
pub const QUESTION_AT: usize = 12;
