//! Sockets that others have opened for us: systemd, by the protocol of `sd_listen_fds(3)`.
//!
//! ```text
//!   LISTEN_FDS=3 LISTEN_PID=ours LISTEN_FDNAMES=dns:dns:admin
//!        3 dns     UDP   \  a pair, on one address         instead of dns.listen
//!        4 dns     TCP   /
//!        5 admin   TCP                                     instead of admin.listen
//! ```
//! What has no name of its own, which systemd calls by its unit, is for DNS. **Invariant:** what is
//! handed over is used or is an error that names it; nothing stays open that nobody serves.
//!
//! `listenfd` is what makes sockets of numbers here: nothing says that a number is an open one of
//! ours, so that takes `unsafe`, which this crate is without.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process;

use listenfd::ListenFd;
use socket2::SockRef;
use thiserror::Error;

/// Sockets that are open already, and who is to have them.
#[derive(Debug, Default)]
pub struct Handed(Vec<Given>);

/// What a socket is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// The operator's port, over TCP.
    Admin,
    /// Over UDP and TCP.
    Dns,
    /// Over TCP.
    Https,
    /// Over UDP.
    Https3,
    /// Over UDP.
    Quic,
    /// Over TCP.
    Tls,
}

/// One of them.
#[derive(Debug)]
struct Given {
    role: Role,
    address: SocketAddr,
    socket: Opened,
    /// What it is called in a complaint.
    label: String,
}

#[derive(Debug)]
enum Opened {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Why what was handed over is of no use: for whoever does so to mend.
#[derive(Debug, Error)]
pub enum HandedError {
    /// One of them is none of ours.
    #[error("{label} is handed over, and is {what}")]
    Misfit {
        /// Which.
        label: String,
        /// What is wrong with it.
        what: String,
    },
    /// What it is cannot be found out.
    #[error("{label} is handed over, and cannot be used")]
    Unusable {
        /// Which.
        label: String,
        /// What the system says.
        source: io::Error,
    },
}

impl Handed {
    /// What systemd has left to this process, as the environment `env` says. Only to be called once,
    /// and before there are threads: what it says is removed from the process' environment.
    ///
    /// # Errors
    ///
    /// Fails with the first that fits nowhere.
    pub fn from_systemd(env: &[(String, String)]) -> Result<Self, HandedError> {
        let value = |name: &str| env.iter().find(|(variable, _)| variable == name);
        let is_ours = value("LISTEN_PID").is_some_and(|(_, pid)| *pid == process::id().to_string());
        if !is_ours {
            return Ok(Self::default());
        }
        let mut names = value("LISTEN_FDNAMES").map_or("", |(_, names)| names).split(':');
        let mut sockets = ListenFd::from_env();
        let mut handed = Self::default();
        for at in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            let label = format!("descriptor {} named \"{name}\"", at + FIRST);
            let Some(role) = Role::named(name) else {
                let what = format!("for none of {}", Role::NAMES.map(|(name, _)| name).join(", "));
                return Err(HandedError::Misfit { label, what });
            };
            let socket = match (sockets.take_tcp_listener(at), sockets.take_udp_socket(at)) {
                (Ok(Some(tcp)), _) => Opened::Tcp(tcp),
                (_, Ok(Some(udp))) => Opened::Udp(udp),
                _ => {
                    let what = "neither a socket of TCP nor of UDP".to_owned();
                    return Err(HandedError::Misfit { label, what });
                }
            };
            handed.0.push(Given::new(role, socket, label)?);
        }
        handed.check_pairs()?;
        Ok(handed)
    }

    /// Takes in one for `role` that listens already; what else is known of it is `label`.
    ///
    /// # Errors
    ///
    /// Fails where it is not as the role has it.
    pub fn add_tcp(
        &mut self,
        role: Role,
        tcp: TcpListener,
        label: String,
    ) -> Result<(), HandedError> {
        self.0.push(Given::new(role, Opened::Tcp(tcp), label)?);
        Ok(())
    }

    /// The same for a UDP socket.
    ///
    /// # Errors
    ///
    /// Fails where it is not as the role has it.
    pub fn add_udp(
        &mut self,
        role: Role,
        udp: UdpSocket,
        label: String,
    ) -> Result<(), HandedError> {
        self.0.push(Given::new(role, Opened::Udp(udp), label)?);
        Ok(())
    }

    /// Where those for `role` are.
    pub fn addresses(&self, role: Role) -> Vec<SocketAddr> {
        let ours = self.0.iter().filter(|given| given.role == role);
        let addresses: BTreeSet<SocketAddr> = ours.map(|given| given.address).collect();
        addresses.into_iter().collect()
    }

    /// A listener for `role` at `address`, if one is left.
    pub fn take_tcp(&mut self, role: Role, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |given: &Given| {
            (given.role, given.address) == (role, address) && matches!(given.socket, Opened::Tcp(_))
        };
        let at = self.0.iter().position(is_it)?;
        match self.0.remove(at).socket {
            Opened::Tcp(tcp) => Some(tcp),
            Opened::Udp(_) => None,
        }
    }

    /// All UDP sockets for `role` at `address` that are left.
    pub fn take_udp(&mut self, role: Role, address: SocketAddr) -> Vec<UdpSocket> {
        let is_it = |given: &mut Given| {
            (given.role, given.address) == (role, address) && matches!(given.socket, Opened::Udp(_))
        };
        let taken = self.0.extract_if(.., is_it);
        let sockets = taken.filter_map(|given| match given.socket {
            Opened::Udp(udp) => Some(udp),
            Opened::Tcp(_) => None,
        });
        sockets.collect()
    }

    /// Says that nothing is left.
    ///
    /// # Errors
    ///
    /// Fails with the first that nobody has taken.
    pub fn check_taken(&self) -> Result<(), HandedError> {
        self.0.first().map_or(Ok(()), |given| Err(given.misfit("one too many for its address")))
    }

    /// UDP without TCP would leave those without an answer to whom it says that it was cut.
    fn check_pairs(&self) -> Result<(), HandedError> {
        let dns = || self.0.iter().filter(|given| given.role == Role::Dns);
        let is_tcp = |given: &Given| matches!(given.socket, Opened::Tcp(_));
        let is_paired = |given: &Given| {
            dns().any(|other| other.address == given.address && is_tcp(other) != is_tcp(given))
        };
        match dns().find(|given| !is_paired(given)) {
            Some(given) if is_tcp(given) => {
                Err(given.misfit("of TCP, without one of UDP beside it"))
            }
            Some(given) => Err(given.misfit("of UDP, without one of TCP beside it")),
            None => Ok(()),
        }
    }
}

impl Given {
    fn new(role: Role, socket: Opened, label: String) -> Result<Self, HandedError> {
        let unusable = |source| HandedError::Unusable { label: label.clone(), source };
        let misfit =
            |what: &str| HandedError::Misfit { label: label.clone(), what: what.to_owned() };
        let (has_role, address) = match &socket {
            Opened::Tcp(tcp) => {
                if !SockRef::from(tcp).is_listener().map_err(unusable)? {
                    return Err(misfit("a connection, and no listener: set Accept=no"));
                }
                (!matches!(role, Role::Https3 | Role::Quic), tcp.local_addr())
            }
            Opened::Udp(udp) => {
                (matches!(role, Role::Dns | Role::Https3 | Role::Quic), udp.local_addr())
            }
        };
        if !has_role {
            let what = format!("{socket}, in which {role} does not come");
            return Err(misfit(&what));
        }
        let address = address.map_err(unusable)?;
        let only_v6 = match &socket {
            Opened::Tcp(tcp) => SockRef::from(tcp).only_v6(),
            Opened::Udp(udp) => SockRef::from(udp).only_v6(),
        };
        // A client of IPv4 would have an address of IPv6, which is in no network that is configured.
        if address.is_ipv6() && address.ip().is_unspecified() && !only_v6.map_err(unusable)? {
            return Err(misfit("of IPv4 and IPv6 at once: set BindIPv6Only=ipv6-only"));
        }
        Ok(Self { role, address, socket, label })
    }

    fn misfit(&self, what: &str) -> HandedError {
        let label = format!("{} at {}", self.label, self.address);
        HandedError::Misfit { label, what: what.to_owned() }
    }
}

impl Role {
    /// How each is called by whoever hands over.
    const NAMES: [(&'static str, Self); 6] = [
        ("dns", Self::Dns),
        ("tls", Self::Tls),
        ("https", Self::Https),
        ("https3", Self::Https3),
        ("quic", Self::Quic),
        ("admin", Self::Admin),
    ];

    /// Whose name that is. What has none, or its unit's, is DNS.
    fn named(name: &str) -> Option<Self> {
        if matches!(name, "" | "unknown") || name.ends_with(".socket") {
            return Some(Self::Dns);
        }
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, role)| role == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "of TCP",
            Self::Udp(_) => "of UDP",
        })
    }
}

/// The number of the first descriptor that is handed over.
const FIRST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn udp(address: &str) -> UdpSocket {
        UdpSocket::bind(address).unwrap()
    }

    #[test]
    fn a_name_says_what_it_is_for() {
        for (name, expected) in [
            ("dns", "dns"),
            ("", "dns"),
            ("unknown", "dns"),
            ("fingerpost.socket", "dns"),
            ("tls", "tls"),
            ("https", "https"),
            ("https3", "https3"),
            ("quic", "quic"),
            ("admin", "admin"),
            ("DNS", "none"),
            ("web", "none"),
        ] {
            let got = Role::named(name).map(|role| role.to_string());
            assert_eq!(got.as_deref().unwrap_or("none"), expected, "{name}");
        }
    }

    #[test]
    fn each_is_taken_by_its_role_and_address() {
        let mut handed = Handed::default();
        let (dns, admin) = (tcp(), tcp());
        let (at, admin_at) = (dns.local_addr().unwrap(), admin.local_addr().unwrap());
        let udp = udp(&at.to_string());
        let twin = udp.try_clone().unwrap();
        handed.add_tcp(Role::Dns, dns, "a".to_owned()).unwrap();
        handed.add_udp(Role::Dns, udp, "b".to_owned()).unwrap();
        handed.add_udp(Role::Dns, twin, "c".to_owned()).unwrap();
        handed.add_tcp(Role::Admin, admin, "d".to_owned()).unwrap();
        handed.check_pairs().unwrap();
        assert_eq!((handed.addresses(Role::Dns), handed.addresses(Role::Tls)), (vec![at], vec![]));
        assert!(handed.take_tcp(Role::Admin, at).is_none());
        assert!(
            handed.take_tcp(Role::Dns, at).is_some() && handed.take_tcp(Role::Dns, at).is_none()
        );
        assert_eq!(handed.take_udp(Role::Dns, at).len(), 2);
        let left = handed.check_taken().unwrap_err().to_string();
        assert_eq!(
            left,
            format!("d at {admin_at} is handed over, and is one too many for its address")
        );
        assert!(handed.take_tcp(Role::Admin, admin_at).is_some() && handed.check_taken().is_ok());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let said = |added: Result<(), HandedError>| added.unwrap_err().to_string();
        let mut handed = Handed::default();
        for (role, expected) in [
            (Role::Tls, "x is handed over, and is of UDP, in which tls does not come"),
            (Role::Admin, "x is handed over, and is of UDP, in which admin does not come"),
        ] {
            assert_eq!(said(handed.add_udp(role, udp("127.0.0.1:0"), "x".to_owned())), expected);
        }
        let expected = "x is handed over, and is of TCP, in which quic does not come";
        assert_eq!(said(handed.add_tcp(Role::Quic, tcp(), "x".to_owned())), expected);
        let lone = udp("127.0.0.1:0");
        let at = lone.local_addr().unwrap();
        handed.add_udp(Role::Dns, lone, "x".to_owned()).unwrap();
        let expected =
            format!("x at {at} is handed over, and is of UDP, without one of TCP beside it");
        assert_eq!(said(handed.check_pairs()), expected);
    }

    #[test]
    fn both_families_at_once_are_refused() {
        let both = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None);
        let Ok(both) = both else {
            // A machine without IPv6 has no such socket.
            return;
        };
        both.set_only_v6(false).unwrap();
        both.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let added = Handed::default().add_udp(Role::Dns, both.into(), "x".to_owned());
        let expected =
            "x is handed over, and is of IPv4 and IPv6 at once: set BindIPv6Only=ipv6-only";
        assert_eq!(added.unwrap_err().to_string(), expected);
    }
}
