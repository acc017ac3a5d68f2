//! The checklist of RFC 8906, "A Common Operational Problem in DNS Servers: Failure to Communicate".

pub mod table;

use fingerpost::app::Origin;
use fingerpost::config::Config;
use fingerpost::file;
use reqwest::header::CONTENT_TYPE;

use crate::checklist::table::{Carrier, check};
use crate::support::dns::{Tcp, Udp};
use crate::support::https::Site;
use crate::support::quic::{self, Spoken, framed, open};
use crate::support::server::Server;
use crate::support::wait::within;

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

#[tokio::test]
async fn every_row_holds_over_https() {
    let site = Site::demo(|_| ()).await;
    for version in [1, 2] {
        let client = site.client(version);
        let exchange = async |query: Vec<u8>| {
            let request = client.post(site.url()).header(CONTENT_TYPE, "application/dns-message");
            let response = request.body(query).send().await.unwrap();
            assert_eq!(response.status(), 200);
            response.bytes().await.unwrap().to_vec()
        };
        check(&format!("HTTP/{version}"), Carrier::Stream, exchange).await;
    }
}

#[tokio::test]
async fn every_row_holds_over_quic() {
    let (server, client) = quic::serve(Spoken::Doq, |_| (), file::DEMO).await;
    let connection = client.connect(server.quic()).await;
    let exchange = async |mut query: Vec<u8>| {
        // RFC 9250 §4.2.1: the id is 0 on the way.
        let id: Vec<u8> = query.splice(..2, [0, 0]).collect();
        let (_, mut stream) = open(&connection, &framed(&query), true).await;
        let mut reply = within("a reply", stream.read_to_end(65_537)).await.unwrap();
        assert_eq!(reply[2..4], [0, 0]);
        reply.splice(..4, id);
        reply
    };
    check("QUIC", Carrier::Stream, exchange).await;
}
