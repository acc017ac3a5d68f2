//! What the OPT record of a query says: a size, a version, and options (RFC 6891).
//!
//! ```text
//!   3   NSID            RFC 5001   asks which of several servers this is
//!   8   client subnet   RFC 7871   says where the client is
//!   10  COOKIE          RFC 7873   proves that the client is at its address
//!   11  keepalive       RFC 7828   asks how long a connection may be idle
//!   12  padding         RFC 7830   hides how long the message is
//! ```
//! Options that are not known are stepped over (RFC 6891 §6.1.2). Of one that comes twice the first
//! counts.
//!
//! **Hot.** Nothing allocates.

use crate::wire::reader::Reader;
use crate::wire::subnet::Subnet;

/// The query's OPT record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edns {
    /// The largest UDP payload the sender takes, as sent; values under 512 mean 512.
    pub payload: u16,
    /// Ours is 0; a higher one is refused with BADVERS.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// The network that the client said it is in.
    pub subnet: Option<Subnet>,
    /// What the client sent to be known again.
    pub cookie: Option<Cookie>,
    /// The edns-tcp-keepalive option, which means nothing over UDP and must not come over QUIC.
    pub keepalive: Option<Keepalive>,
    /// Whether the client asks which server this is.
    pub has_nsid: bool,
    /// Whether the client padded its query, so that the reply is to be padded too.
    pub has_padding: bool,
}

/// A DNS cookie (RFC 7873 §4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie {
    /// The client's own, which comes back as it is.
    pub client: [u8; CLIENT_COOKIE_LEN],
    /// The one that it once had from a server. Of a length that ours never has, it is all zero.
    pub server: Option<[u8; SERVER_COOKIE_LEN]>,
}

/// An edns-tcp-keepalive option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keepalive {
    /// Without a time, as a client has to send it.
    Asked,
    /// With a time, which is a server's to say (RFC 7828 §3.2.1).
    Timed,
}

impl Edns {
    /// Reads the class and the TTL of an OPT record, where these numbers are kept.
    pub fn new(class: u16, ttl: u32) -> Self {
        Self {
            payload: class,
            version: (ttl >> 16) as u8,
            dnssec_ok: ttl & TTL_DO != 0,
            subnet: None,
            cookie: None,
            keepalive: None,
            has_nsid: false,
            has_padding: false,
        }
    }

    /// Reads the options. `None` where one is cut off, or where one we know is malformed; those
    /// before it count all the same.
    pub fn read_options(&mut self, options: &[u8]) -> Option<()> {
        // Of another version we do not know what the options mean.
        if self.version > 0 {
            return Some(());
        }
        let mut reader = Reader::new(options);
        while !reader.is_done() {
            let (code, len) = (reader.u16()?, reader.u16()?);
            let data = reader.take(usize::from(len))?;
            match code {
                // RFC 5001 §2.2: what it holds in a query is ignored.
                OPTION_NSID => self.has_nsid = true,
                OPTION_SUBNET if self.subnet.is_none() => {
                    self.subnet = Some(Subnet::parse(data)?);
                }
                OPTION_COOKIE if self.cookie.is_none() => {
                    self.cookie = Some(Cookie::parse(data)?);
                }
                // Whether it may be like this depends on how the query came.
                OPTION_KEEPALIVE if self.keepalive.is_none() => {
                    let is_asked = data.is_empty();
                    self.keepalive = Some(match is_asked {
                        true => Keepalive::Asked,
                        false => Keepalive::Timed,
                    });
                }
                // RFC 7830 §3: any octets are taken.
                OPTION_PADDING => self.has_padding = true,
                _ => (),
            }
        }
        Some(())
    }
}

impl Cookie {
    /// Reads the option's data. `None` for a length that RFC 7873 §5.2.2 calls malformed.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk()?;
        let server = match server.len() {
            0 => None,
            SERVER_COOKIE_LEN => server.first_chunk().copied(),
            8..=32 => Some([0; SERVER_COOKIE_LEN]),
            _ => return None,
        };
        Some(Self { client: *client, server })
    }
}

/// RFC 6891 §6.1.3: the DO bit, in the OPT record's TTL field.
const TTL_DO: u32 = 0x8000;

/// RFC 7873 §4.1.
pub const CLIENT_COOKIE_LEN: usize = 8;
/// Of the cookies that RFC 9018 §4 makes; others may have from 8 to 32 bytes.
pub const SERVER_COOKIE_LEN: usize = 16;

/// As in the IANA registry of EDNS options.
pub const OPTION_NSID: u16 = 3;
/// The client's network.
pub const OPTION_SUBNET: u16 = 8;
/// Cookies.
pub const OPTION_COOKIE: u16 = 10;
/// How long a connection may be idle.
pub const OPTION_KEEPALIVE: u16 = 11;
/// Nothing, but of some length.
pub const OPTION_PADDING: u16 = 12;
/// Extended errors.
pub const OPTION_EDE: u16 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn option(code: u16, data: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn render(options: &[u8]) -> String {
        let mut edns = Edns::new(1232, 0);
        let whole = edns.read_options(options).is_some();
        let mut text = if whole { "read".to_owned() } else { "malformed".to_owned() };
        if let Some(Cookie { client, server }) = edns.cookie {
            text += &format!(" cookie {} {:?}", client.escape_ascii(), server.map(|it| it[0]));
        }
        for (is, name) in [
            (edns.keepalive == Some(Keepalive::Asked), "keepalive"),
            (edns.keepalive == Some(Keepalive::Timed), "timed"),
            (edns.has_nsid, "nsid"),
            (edns.has_padding, "padding"),
            (edns.subnet.is_some(), "subnet"),
        ] {
            if is {
                text = text + " " + name;
            }
        }
        text
    }

    #[test]
    fn options_that_are_known() {
        for (options, expected) in [
            (option(3, b""), "read nsid"),
            // RFC 5001 §2.2
            (option(3, b"anything"), "read nsid"),
            (option(11, b""), "read keepalive"),
            (option(11, &[0, 9]), "read timed"),
            (option(12, b""), "read padding"),
            (option(12, &[0xff; 300]), "read padding"),
            (option(65_001, b"x"), "read"),
            ([option(12, b""), option(3, b"")].concat(), "read nsid padding"),
            // what is cut off spoils nothing that came before
            ([option(3, b""), vec![0, 10, 0, 8, 1]].concat(), "malformed nsid"),
            (vec![0], "malformed"),
        ] {
            assert_eq!(render(&options), expected, "{options:?}");
        }
    }

    /// RFC 7873 §4 and §5.2.2: 8 bytes, or these and 8 to 32 more.
    #[test]
    fn cookies_of_every_length() {
        for len in 0..60_usize {
            let data: Vec<u8> = b"clientXX".iter().copied().chain([7; 52]).take(len).collect();
            let expected = match len {
                8 => "read cookie clientXX None",
                24 => "read cookie clientXX Some(7)",
                16..=40 => "read cookie clientXX Some(0)",
                _ => "malformed",
            };
            assert_eq!(render(&option(10, &data)), expected, "{len}");
        }
        // RFC 7873 §5.2: only the first is looked at.
        let two = [option(10, b"clientXX"), option(10, b"other")].concat();
        assert_eq!(render(&two), "read cookie clientXX None");
    }

    #[test]
    fn options_of_another_version_are_not_read() {
        let mut edns = Edns::new(1232, 0x1_0000);
        assert_eq!(edns.read_options(&option(10, b"x")), Some(()));
        assert_eq!((edns.version, edns.cookie), (1, None));
    }
}
