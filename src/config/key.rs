//! One key: its name, its default, what it may be, and where it goes in a [`Config`].
//!
//! How a value of each [`Kind`] is read is told in `reading`; which keys there are, in `keys`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::answer::Network;
use crate::config::Config;
use crate::config::ConsulAddress;
use crate::config::Secret;
use crate::config::consul_env;
use crate::config::duration;
use crate::config::env;

/// A key of the configuration.
pub struct Key {
    /// With its section, as in `dns.workers`.
    pub name: &'static str,
    /// As one would write it in the file; `""` where nothing is the default.
    pub default: &'static str,
    /// A sentence or two for whoever sets it.
    pub meaning: &'static str,
    /// Whether it does anything here.
    pub effect: Effect,
    /// What it may be, and where it goes.
    pub kind: Kind,
}

/// Whether a key does anything here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Its value counts.
    Counts,
    /// One of Consul's that is checked and means nothing here; the meaning says why.
    Inert,
}

/// A word, and what it does.
pub type Choice = (&'static str, fn(&mut Config));

/// What a key may be, each with the way to put it into a [`Config`].
///
/// Where a kind puts an `Option`, the empty string is `None`.
pub enum Kind {
    /// Where Consul listens: one or several.
    Addresses(fn(&mut Config, Vec<ConsulAddress>)),
    /// One of these words.
    Choice(&'static [Choice]),
    /// A DNS name below the root, lower case, without a trailing dot.
    Domain(fn(&mut Config, String)),
    /// A Go duration.
    Duration {
        /// The shortest that is taken.
        min: Duration,
        /// The longest that is taken.
        max: Duration,
        /// Where it goes.
        put: fn(&mut Config, Duration),
    },
    /// True or false.
    Flag(fn(&mut Config, bool)),
    /// Any number of IP addresses.
    Ips(fn(&mut Config, Vec<IpAddr>)),
    /// Any number of DNS names, each read by a rule of its own.
    Names {
        /// The form, as in `must be …`.
        allowed: &'static str,
        /// Reads one; it may stand for several.
        read: fn(&str) -> Option<Vec<String>>,
        /// Where they go.
        put: fn(&mut Config, Vec<String>),
    },
    /// Any number of networks.
    Networks(fn(&mut Config, Vec<Network>)),
    /// A path; relative ones begin where the process was started.
    Path(fn(&mut Config, Option<PathBuf>)),
    /// Any number of DNS servers: IP addresses, with a port where it is not 53.
    Recursors(fn(&mut Config, Vec<SocketAddr>)),
    /// Text that no message may show.
    Secret(fn(&mut Config, Option<Secret>)),
    /// One or two secrets of cookies, that no message may show; none is a list as well.
    Secrets(fn(&mut Config, Vec<Secret>)),
    /// An IP address with a port.
    Socket(fn(&mut Config, SocketAddr)),
    /// One or several of them.
    Sockets(fn(&mut Config, Vec<SocketAddr>)),
    /// Any number of them.
    SocketsOrNone(fn(&mut Config, Vec<SocketAddr>)),
    /// Text of a form of its own.
    Text {
        /// The form, as in `must be …`.
        allowed: &'static str,
        /// Whether a text has the form. Never asked about the empty one.
        fits: fn(&str) -> bool,
        /// Where it goes.
        put: fn(&mut Config, Option<String>),
    },
    /// A Go duration of whole seconds that fits a TTL.
    Ttl(fn(&mut Config, u32)),
    /// TTLs by name of service. Only the file can hold one.
    Ttls(fn(&mut Config, Vec<(String, u32)>)),
    /// A whole number.
    Whole {
        /// The smallest that is taken.
        min: usize,
        /// The greatest that is taken; it fits the field.
        max: usize,
        /// Where it goes.
        put: fn(&mut Config, usize),
    },
}

impl Key {
    /// A key that does something.
    pub const fn new(
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
        kind: Kind,
    ) -> Self {
        Self { name, default, meaning, effect: Effect::Counts, kind }
    }

    /// One of Consul's that does nothing here; `reason` follows "means nothing here: ".
    pub const fn inert(
        name: &'static str,
        default: &'static str,
        reason: &'static str,
        kind: Kind,
    ) -> Self {
        Self { name, default, meaning: reason, effect: Effect::Inert, kind }
    }

    /// The variable that sets this key: `FINGERPOST_DNS_WORKERS`.
    pub fn variable(&self) -> String {
        format!("{}{}", env::PREFIX, self.name.to_ascii_uppercase().replace('.', "_"))
    }

    /// Consul's own variable for it, if there is one.
    pub fn consul_variable(&self) -> Option<&'static str> {
        consul_env::variable(self.name)
    }

    /// True for keys that hold a table, which no variable can set.
    pub fn is_table(&self) -> bool {
        matches!(self.kind, Kind::Ttls(_))
    }

    /// Whether `text`, a value for this key, must be left out of messages.
    ///
    /// Beside secrets that is an address with a user and a password in it.
    pub fn is_hidden(&self, text: &str) -> bool {
        match self.kind {
            Kind::Secret(_) | Kind::Secrets(_) => true,
            Kind::Addresses(_) => text.contains('@'),
            _ => false,
        }
    }

    /// What the key may be, to be read after `must be`.
    pub fn allowed(&self) -> String {
        let fixed = match &self.kind {
            Kind::Addresses(_) => {
                "host:port, http://host:port, https://host:port or unix:///path, one or several"
            }
            Kind::Choice(choices) => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                return format!("one of {}", words.join(", "));
            }
            Kind::Domain(_) => {
                "a domain such as consul or consul.example.com, neither the root nor below arpa"
            }
            Kind::Duration { min, max, .. } => {
                let (min, max) = (duration::render(*min), duration::render(*max));
                return format!("a duration such as \"1m30s\", from {min} to {max}");
            }
            Kind::Flag(_) => "true or false",
            Kind::Ips(_) => "an IP address such as 10.0.0.1 or ::1, none or several",
            Kind::Names { allowed, .. } => allowed,
            Kind::Networks(_) => "a network such as 10.0.0.0/8 or an IP address, none or several",
            Kind::Path(_) => "a path",
            Kind::Recursors(_) => {
                "an IP address, with a port where it is not 53, such as 10.0.0.2 or [::1]:5353, \
                 none or several"
            }
            Kind::Secret(_) => "text of printable ASCII characters",
            Kind::Secrets(_) => "a secret of 32 hexadecimal digits, none, one or two",
            Kind::Socket(_) => "an IP address and a port such as 127.0.0.1:53 or [::1]:53",
            Kind::Sockets(_) => {
                "an IP address and a port such as 127.0.0.1:53 or [::1]:53, one or several"
            }
            Kind::SocketsOrNone(_) => {
                "an IP address and a port such as 127.0.0.1:853 or [::1]:853, none or several"
            }
            Kind::Text { allowed, .. } => allowed,
            Kind::Ttl(_) => TTL_ALLOWED,
            Kind::Ttls(_) => "a table of names of services and durations",
            Kind::Whole { min, max, .. } => {
                return format!("a whole number from {min} to {max}");
            }
        };
        fixed.to_owned()
    }
}

/// What a TTL may be, to be read after `must be`.
pub const TTL_ALLOWED: &str =
    "a duration such as \"30s\", from 0s to 2147483647s, of which whole seconds count";
