//! Where the sockets that were handed over are, there is listened, whatever the configuration says.

use std::net::SocketAddr;

use tracing::info;

use crate::config::Config;
use crate::dns::handed::{Handed, Role};

/// Makes `config` say so.
///
/// # Errors
///
/// Fails where one cannot be served as the rest is configured: for whoever hands over to mend.
pub fn listen_on(config: &mut Config, handed: &Handed) -> anyhow::Result<()> {
    let dns = &mut config.dns;
    for (role, is_encrypted, listen) in [
        (Role::Dns, false, &mut dns.listen),
        (Role::Tls, true, &mut dns.tls_listen),
        (Role::Https, true, &mut dns.https_listen),
        (Role::Https3, true, &mut dns.https3_listen),
        (Role::Quic, true, &mut dns.quic_listen),
    ] {
        let addresses = handed.addresses(role);
        if addresses.is_empty() {
            continue;
        }
        if is_encrypted && dns.cert_file.is_none() {
            anyhow::bail!("sockets are handed over for {role}, which needs dns.cert_file");
        }
        say(role, &addresses);
        *listen = addresses;
    }
    match *handed.addresses(Role::Admin) {
        [] => (),
        [address] => {
            say(Role::Admin, &[address]);
            config.admin.listen = address;
        }
        [..] => anyhow::bail!("several sockets are handed over for admin, which is a single one"),
    }
    Ok(())
}

fn say(role: Role, addresses: &[SocketAddr]) {
    info!(%role, ?addresses, "handed over, instead of what is configured");
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn tcp(handed: &mut Handed, role: Role) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        handed.add_tcp(role, socket, "x".to_owned()).unwrap();
        address
    }

    #[test]
    fn what_is_handed_over_wins_and_the_rest_stays() {
        let mut handed = Handed::default();
        let (first, admin) = (tcp(&mut handed, Role::Dns), tcp(&mut handed, Role::Admin));
        let tls = tcp(&mut handed, Role::Tls);
        let mut config = Config::default();
        config.dns.cert_file = Some("c.pem".into());
        config.dns.https_listen = vec!["127.0.0.1:443".parse().unwrap()];
        let https = config.dns.https_listen.clone();
        listen_on(&mut config, &handed).unwrap();
        assert_eq!((config.dns.listen, config.admin.listen), (vec![first], admin));
        assert_eq!((config.dns.tls_listen, config.dns.https_listen), (vec![tls], https));
        assert_eq!(config.dns.quic_listen, []);
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        let mut handed = Handed::default();
        let quic = UdpSocket::bind("127.0.0.1:0").unwrap();
        handed.add_udp(Role::Quic, quic, "x".to_owned()).unwrap();
        let mut config = Config::default();
        let error = listen_on(&mut config, &handed).unwrap_err().to_string();
        assert_eq!(error, "sockets are handed over for quic, which needs dns.cert_file");

        let mut handed = Handed::default();
        tcp(&mut handed, Role::Admin);
        tcp(&mut handed, Role::Admin);
        let error = listen_on(&mut config, &handed).unwrap_err().to_string();
        assert_eq!(error, "several sockets are handed over for admin, which is a single one");
    }
}
