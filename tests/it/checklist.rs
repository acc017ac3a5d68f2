//! The checklist of RFC 8906, "A Common Operational Problem in DNS Servers: Failure to Communicate".

pub mod table;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;

use crate::checklist::table::{Carrier, check};
use crate::support::dns::{Tcp, Udp};
use crate::support::server::Server;

/// A server that the checklist can be asked of, with what `change` says.
pub async fn server(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::default();
    change(&mut config);
    let catalog = file::parse(file::DEMO).unwrap();
    let server = Server::start(config, Origin::Fixed(catalog.changes()));
    server.ready().await;
    server
}

#[tokio::test]
async fn every_row_holds_over_udp() {
    let server = server(|_| ()).await;
    let udp = Udp::connect(server.dns()).await;
    let exchange = async |query: Vec<u8>| {
        udp.send(&query).await;
        udp.receive().await
    };
    check("UDP", Carrier::Datagram, exchange).await;
}

#[tokio::test]
async fn every_row_holds_over_tcp() {
    let server = server(|_| ()).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    let exchange = async |query: Vec<u8>| {
        tcp.send(&query).await;
        tcp.receive().await.expect("the server closed the connection")
    };
    check("TCP", Carrier::Stream, exchange).await;
}
