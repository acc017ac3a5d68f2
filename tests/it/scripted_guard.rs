//! Consul is emptied, and a fetch finds out before any watch does.

use std::net::SocketAddr;

use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::dns::{ask, zone_text};
use crate::support::stage::{self, SERVICES, health, list};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_listed_service_is_not_denied_by_a_fetch_alone() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    // Room for four watches, so that e is fetched.
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    consul.set(&health("e"), 11, &json!([]));
    let asked = consul.requests_for(SERVICES).len();
    let text = async || code(server.dns(), "e.service.consul").await;
    assert_eq!(text().await, "SERVFAIL");
    // After a second the list is read anew; it still has e, so there is nothing of e to be seen.
    let is_denied = async || {
        let text = text().await;
        assert!(text == "SERVFAIL" || consul.requests_for(SERVICES).len() > asked, "{text}");
        text == "NXDOMAIN"
    };
    eventually("e is denied", is_denied).await;
}

#[tokio::test]
async fn a_service_that_goes_is_denied_by_the_list() {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    let server = stage::serve(config).await;
    consul.set(&health("e"), 11, &json!([]));
    assert_eq!(code(server.dns(), "e.service.consul").await, "SERVFAIL");
    list(&consul, 11, &["a", "b", "c", "d"]);
    let is_denied = async || code(server.dns(), "e.service.consul").await == "NXDOMAIN";
    eventually("e is denied", is_denied).await;
}

async fn code(server: SocketAddr, name: &str) -> String {
    let text = zone_text(&ask(server, name, RecordType::A).await);
    text.split(' ').next().unwrap_or_default().to_owned()
}
