//! DNS cookies (RFC 7873), in the form that all servers can share (RFC 9018).
//!
//! ```text
//!   client 8 | version 1 | reserved 3 | made at 4 | hash 8
//!   hash = SipHash-2-4(secret, client | version | reserved | made at | the client's address)
//! ```
//! A client that sends ours back is where it says it is. One that sends another's, or an old one, is
//! answered all the same and gets a new one: a forwarder tells its cookie to every replica, and they
//! need not have one secret.
//!
//! **Hot.** A query with a cookie costs a hash or two.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::wire::Cookie;
use crate::wire::edns::CLIENT_COOKIE_LEN;
use crate::wire::opt::CookiePair;

/// Makes cookies, and knows its own.
#[derive(Clone)]
pub struct Cookies {
    /// The first makes them. Any is taken that one of these made.
    keys: Vec<SipHasher24>,
    /// When the program's clock started, in milliseconds since 1970.
    started_unix_ms: i64,
}

/// What a query's cookie says of its sender.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CookieCheck {
    /// None was sent, or they are not looked at.
    #[default]
    Absent,
    /// The client has no server's cookie yet.
    Alone,
    /// It was made here lately, for this client at this address.
    Valid,
    /// It was made by somebody else, for somebody else, or too long ago.
    Wrong,
}

impl Cookies {
    /// Makes cookies with the first of `secrets`, in a program whose clock started at
    /// `started_unix_ms`.
    pub fn new(secrets: &[[u8; 16]], started_unix_ms: i64) -> Self {
        Self { keys: secrets.iter().map(SipHasher24::new_with_key).collect(), started_unix_ms }
    }

    /// What `cookie`, sent by `client`, is worth at `now_ms` of the program's clock, and what the
    /// reply has. `None` without a secret.
    pub fn judge(
        &self,
        cookie: Cookie,
        client: IpAddr,
        now_ms: u64,
    ) -> (CookieCheck, Option<CookiePair>) {
        let now_ms = self.started_unix_ms.saturating_add_unsigned(now_ms);
        // RFC 9018 §4.3: the lower 32 bits, compared as serial numbers.
        let now_secs = (now_ms / 1000) as u32;
        let fresh = || {
            let key = self.keys.first()?;
            Some(Draft::new(cookie.client, now_secs).sealed(key, client))
        };
        let Some(server) = cookie.server else { return (CookieCheck::Alone, fresh()) };
        let sent = Draft::of(cookie.client, server);
        let age_secs = now_secs.wrapping_sub(sent.made_at()).cast_signed();
        let is_current = sent.version() == VERSION && (-AHEAD_SECS..=AGE_SECS).contains(&age_secs);
        let is_made_by = |key: &SipHasher24| sent.sealed(key, client) == sent.bytes;
        let maker = self.keys.iter().position(is_made_by).filter(|_| is_current);
        match maker {
            None => (CookieCheck::Wrong, fresh()),
            // RFC 9018 §4.3 and §5: younger than half an hour, and of the secret in use.
            Some(0) if age_secs <= RENEWED_SECS && sent.is_plain() => {
                (CookieCheck::Valid, Some(sent.bytes))
            }
            Some(_) => (CookieCheck::Valid, fresh()),
        }
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookies({} secrets)", self.keys.len())
    }
}

/// A client's cookie and a server's, whether their hash is right or not.
#[derive(Clone, Copy)]
struct Draft {
    bytes: CookiePair,
}

impl Draft {
    /// One without a hash yet.
    fn new(client: [u8; CLIENT_COOKIE_LEN], now_secs: u32) -> Self {
        let [a, b, c, d] = now_secs.to_be_bytes();
        Self::of(client, [VERSION, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    fn of(client: [u8; CLIENT_COOKIE_LEN], server: [u8; 16]) -> Self {
        let mut bytes = CookiePair::default();
        for (byte, value) in bytes.iter_mut().zip(client.into_iter().chain(server)) {
            *byte = value;
        }
        Self { bytes }
    }

    /// The same with the hash that `key` makes for `client`.
    fn sealed(&self, key: &SipHasher24, client: IpAddr) -> CookiePair {
        let mut hashed = [0; HASH_AT + 16];
        // Of the two ways to write an address of IPv4, a socket for both sees the longer.
        let len = HASH_AT + put_address(&mut hashed, client.to_canonical());
        for (byte, value) in hashed.iter_mut().zip(self.bytes.iter().take(HASH_AT)) {
            *byte = *value;
        }
        let hash = key.hash(hashed.get(..len).unwrap_or_default());
        let mut sealed = self.bytes;
        for (byte, value) in sealed.iter_mut().skip(HASH_AT).zip(hash.to_le_bytes()) {
            *byte = value;
        }
        sealed
    }

    fn version(&self) -> u8 {
        self.bytes[CLIENT_COOKIE_LEN]
    }

    /// Whether the reserved bytes are as we leave them.
    fn is_plain(&self) -> bool {
        matches!(self.bytes, [_, _, _, _, _, _, _, _, _, 0, 0, 0, ..])
    }

    fn made_at(&self) -> u32 {
        let [.., a, b, c, d, _, _, _, _, _, _, _, _] = self.bytes;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Writes `address` where the hash would be; returns its length.
fn put_address(hashed: &mut [u8; HASH_AT + 16], address: IpAddr) -> usize {
    let mut put = |octets: &[u8]| {
        for (byte, value) in hashed.iter_mut().skip(HASH_AT).zip(octets) {
            *byte = *value;
        }
        octets.len()
    };
    match address {
        IpAddr::V4(ip) => put(&ip.octets()),
        IpAddr::V6(ip) => put(&ip.octets()),
    }
}

/// RFC 9018 §4.1.
const VERSION: u8 = 1;

/// Client cookie, version, reserved bytes and time come before the hash.
const HASH_AT: usize = 16;

/// RFC 9018 §4.3: how old a cookie may be, and how far ahead the clock of who made it.
const AGE_SECS: i32 = 3600;
const AHEAD_SECS: i32 = 300;

/// RFC 9018 §4.3: older ones are replaced by new ones.
const RENEWED_SECS: i32 = 1800;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks_exact(2);
        pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn secret(text: &str) -> [u8; 16] {
        hex(text).try_into().unwrap()
    }

    /// What is said of the cookie `sent`, at a second since 1970, and what it is answered with.
    fn judge(secrets: &[[u8; 16]], client: &str, sent: &str, unix_secs: i64) -> String {
        let cookies = Cookies::new(secrets, unix_secs * 1000 - 250);
        let cookie = Cookie::parse(&hex(sent)).unwrap();
        let (check, pair) = cookies.judge(cookie, client.parse().unwrap(), 250);
        let pair: String = pair.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{check:?} {pair}")
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const CLIENT: &str = "198.51.100.100";
    const LEARNED: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
    const MADE_AT: i64 = 1_559_731_985;

    /// RFC 9018, appendix A.
    #[test]
    fn the_cookies_of_the_standard() {
        let (old, new) = ("dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962");
        let v6 = "2001:db8:220:1:59de:d0f4:8769:82b8";
        let (another, its) = ("203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        for (secrets, client, sent, unix_secs, expected) in [
            // A.1: it has none yet
            (vec![SECRET], CLIENT, "2464c4abcf10c957", MADE_AT, format!("Alone {LEARNED}")),
            // A.2: 40 minutes later it gets a new one
            (
                vec![SECRET],
                CLIENT,
                LEARNED,
                1_559_734_385,
                "Valid 2464c4abcf10c957010000005cf7a871d4a564a1442aca77".to_owned(),
            ),
            // A.3: reserved bytes are part of the hash, and are cleared. When it was made it was
            // valid; at the time of the example it is almost two hours old, which is too old by §4.3.
            (
                vec![SECRET],
                another,
                its,
                1_559_734_700,
                "Wrong fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e".to_owned(),
            ),
            // A.4: made with the secret before
            (
                vec![new, old],
                v6,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                1_559_741_961,
                "Valid 22681ab97d52c298010000005cf7c609a6bb79d16625507a".to_owned(),
            ),
        ] {
            let secrets: Vec<_> = secrets.into_iter().map(secret).collect();
            assert_eq!(judge(&secrets, client, sent, unix_secs), expected, "{sent}");
        }
        let said = judge(&[secret(SECRET)], another, its, 1_559_727_985);
        assert!(said.starts_with("Valid fc93fc62807ddb86010000005cf78f71"), "{said}");
    }

    /// RFC 9018 §4.3: half an hour, an hour, and five minutes ahead.
    #[test]
    fn a_cookie_is_good_for_an_hour_and_kept_for_half_of_it() {
        let secrets = [secret(SECRET)];
        for (age_secs, check, is_kept) in [
            (0, "Valid", true),
            (1800, "Valid", true),
            (1801, "Valid", false),
            (3600, "Valid", false),
            (3601, "Wrong", false),
            (-300, "Valid", true),
            (-301, "Wrong", false),
            // half of all seconds there are, past which nothing is before or after
            (i64::from(i32::MAX), "Wrong", false),
            (i64::from(i32::MIN), "Wrong", false),
        ] {
            let said = judge(&secrets, CLIENT, LEARNED, MADE_AT + age_secs);
            assert!(said.starts_with(check), "{age_secs}: {said}");
            assert_eq!(said.ends_with(LEARNED), is_kept, "{age_secs}: {said}");
        }
    }

    /// Serial numbers (RFC 1982): the 32 bits begin anew in 2106.
    #[test]
    fn time_goes_on_when_its_numbers_begin_anew() {
        let secrets = [secret(SECRET)];
        let turn = 1_i64 << 32;
        let made = judge(&secrets, CLIENT, "2464c4abcf10c957", turn - 60);
        let made = made.strip_prefix("Alone ").unwrap();
        assert!(judge(&secrets, CLIENT, made, turn + 60).starts_with("Valid"));
        assert!(judge(&secrets, CLIENT, made, turn + 4000).starts_with("Wrong"));
    }

    #[test]
    fn what_is_not_ours_is_wrong_and_replaced() {
        let secrets = [secret(SECRET)];
        let fresh = format!("Wrong {LEARNED}");
        let flipped = LEARNED.replace("94", "95");
        let version_2 = format!("{}02{}", &LEARNED[..16], &LEARNED[18..]);
        let short = format!("{}0102030405060708", &LEARNED[..16]);
        for sent in [&flipped, &version_2, &short] {
            assert_eq!(judge(&secrets, CLIENT, sent, MADE_AT), fresh, "{sent}");
        }
        // another client, another address, another secret
        let other = format!("3464c4abcf10c957{}", &LEARNED[16..]);
        assert!(judge(&secrets, CLIENT, &other, MADE_AT).starts_with("Wrong 3464c4abcf10c957"));
        assert!(judge(&secrets, "198.51.100.101", LEARNED, MADE_AT).starts_with("Wrong"));
        assert!(judge(&[[7; 16]], CLIENT, LEARNED, MADE_AT).starts_with("Wrong"));
        // one address in two forms
        let mapped = format!("::ffff:{CLIENT}");
        assert_eq!(judge(&secrets, &mapped, LEARNED, MADE_AT), format!("Valid {LEARNED}"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let cookies = Cookies::new(&[secret(SECRET), [7; 16]], 0);
        assert_eq!(format!("{cookies:?}"), "Cookies(2 secrets)");
    }
}
