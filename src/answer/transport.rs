//! How queries come, and how much of a reply fits on the way back.
//!
//! **Hot.**

use crate::answer::Policy;
use crate::wire::Edns;

/// How the query came, and how the reply travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// DNS over HTTPS (RFC 8484), by HTTP/2 or HTTP/1.1.
    Https,
    /// DNS over HTTPS by HTTP/3.
    Https3,
    /// DNS over dedicated QUIC connections (RFC 9250).
    Quic,
    /// Plain TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// Plain UDP, the one in which a reply has to fit what the client takes.
    Udp,
}

impl Transport {
    /// Whether nobody on the way can read it.
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Https | Self::Https3 | Self::Quic | Self::Tls => true,
            Self::Tcp | Self::Udp => false,
        }
    }

    /// Whether it has connections that edns-tcp-keepalive is about (RFC 7828). HTTP and QUIC say in
    /// their own ways how long one may be idle.
    pub fn has_keepalive(self) -> bool {
        match self {
            Self::Tcp | Self::Tls => true,
            Self::Https | Self::Https3 | Self::Quic | Self::Udp => false,
        }
    }

    /// How long a reply may be, its OPT record included, in bytes.
    pub fn reply_max(self, policy: &Policy, edns: Option<&Edns>) -> usize {
        match (self, edns) {
            (Self::Udp, None) => UDP_PAYLOAD_MIN,
            // RFC 6891 §6.2.3: values below 512 are read as 512.
            (Self::Udp, Some(edns)) => {
                usize::from(edns.payload.min(policy.udp_payload_max)).max(UDP_PAYLOAD_MIN)
            }
            _ => usize::from(u16::MAX),
        }
    }
}

/// RFC 1035 §2.3.4.
pub const UDP_PAYLOAD_MIN: usize = 512;
