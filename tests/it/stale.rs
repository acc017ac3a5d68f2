//! While Consul is away: answers from memory at once, that say what they are, for as long as they may.

use std::time::Duration;

use hickory_proto::rr::RecordType;

use crate::support::dns::{
    addresses, ask, exchange, extended_error, question, with_edns, zone_text,
};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, NODES, SERVICES, fill, health};
use crate::support::wait::eventually;

/// A Consul with five services, and a server with watches for four of them.
async fn stage(patience: Duration, max_stale: Duration) -> (FakeConsul, Server) {
    let consul = stage::consul(&["a", "b", "c", "d", "e"]).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    (config.cache.kept, config.cache.patience) = (Duration::ZERO, patience);
    config.answers.max_stale = max_stale;
    // A request that hangs is not given up while a test lasts.
    config.consul.timeout = Duration::from_secs(60);
    let server = stage::serve(config).await;
    assert_eq!(addresses(server.dns(), "e.service.consul").await, ["10.0.0.1"]);
    (consul, server)
}

/// Fails the lists from now on, and waits until that is known.
async fn cut_off(consul: &FakeConsul, server: &Server) {
    for path in [SERVICES, NODES] {
        (0..10_000).for_each(|_| consul.script(path, Reply::status(500, "no")));
    }
    let series = "fingerpost_datacenter_reachable{dc=\"dc1\"}";
    let is_known = async || value(&scrape(server).await, series) == 0.0;
    eventually("it is known that Consul is away", is_known).await;
}

/// The reply to a question with EDNS, and the extended error in it.
async fn told(server: &Server, name: &str) -> (String, Option<String>) {
    let query = with_edns(question(name, RecordType::A), 1232, false);
    let reply = exchange(server.dns(), &query).await;
    let code = extended_error(&reply);
    (zone_text(&reply), code.map(|said| said.split(' ').next().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn nobody_waits_for_what_is_in_memory() {
    // Whoever waited, would do so for longer than a test does.
    let (consul, server) = stage(Duration::from_secs(60), MAX_STALE).await;
    (0..1_000).for_each(|_| consul.script(&health("e"), Reply::hang()));
    cut_off(&consul, &server).await;
    let stale = "NOERROR aa rd\nanswer e.service.consul. 1 IN A 10.0.0.1";
    for _ in 0..20 {
        let answer = told(&server, "e.service.consul").await;
        assert_eq!(answer, (stale.to_owned(), Some("3".to_owned())));
    }
    let series = "fingerpost_cache_total{result=\"stale\",service=\"e\"}";
    assert_eq!(value(&scrape(&server).await, series), 20.0);
}

#[tokio::test]
async fn what_is_old_is_fetched_behind_the_answers() {
    let (consul, server) = stage(Duration::from_secs(60), MAX_STALE).await;
    cut_off(&consul, &server).await;
    fill(&consul, 11, "e", "10.0.0.9");
    // The lists alone cannot be had: what is asked for is fetched all the same.
    let follows = async || addresses(server.dns(), "e.service.consul").await == ["10.0.0.9"];
    eventually("the change is answered", follows).await;
    let (answer, code) = told(&server, "e.service.consul").await;
    assert_eq!(answer, "NOERROR aa rd\nanswer e.service.consul. 1 IN A 10.0.0.9");
    assert_eq!(code.as_deref(), Some("3"));
}

#[tokio::test]
async fn answers_that_are_too_old_end_until_consul_is_back() {
    let (consul, server) = stage(Duration::from_secs(1), Duration::ZERO).await;
    (0..10_000).for_each(|_| consul.script(&health("a"), Reply::status(500, "no")));
    cut_off(&consul, &server).await;
    let too_old = async || told(&server, "a.service.consul").await;
    let expected = ("SERVFAIL aa rd".to_owned(), Some("22".to_owned()));
    eventually("the answer is too old", async || too_old().await == expected).await;
    for name in ["n1.node.consul", "nope.service.consul"] {
        assert_eq!(told(&server, name).await, expected, "{name}");
    }
    let series = "fingerpost_cache_total{result=\"expired\",service=\"a\"}";
    assert!(value(&scrape(&server).await, series) > 0.0);

    [SERVICES, NODES, &health("a")].into_iter().for_each(|path| consul.unscript(path));
    let heard = async || {
        let reply = zone_text(&ask(server.dns(), "a.service.consul", RecordType::A).await);
        reply == "NOERROR aa rd\nanswer a.service.consul. 0 IN A 10.0.0.1"
    };
    eventually("Consul is heard again", heard).await;
}

#[tokio::test]
async fn a_service_whose_own_watch_fails_is_old_alone() {
    let (consul, server) = stage(Duration::from_secs(1), MAX_STALE).await;
    (0..10_000).for_each(|_| consul.script(&health("a"), Reply::status(500, "no")));
    let stale = "NOERROR aa rd\nanswer a.service.consul. 1 IN A 10.0.0.1".to_owned();
    let is_old =
        async || told(&server, "a.service.consul").await == (stale.clone(), Some("3".to_owned()));
    eventually("its answers are old", is_old).await;
    let fresh = "NOERROR aa rd\nanswer b.service.consul. 0 IN A 10.0.0.1".to_owned();
    assert_eq!(told(&server, "b.service.consul").await, (fresh, None));
    consul.unscript(&health("a"));
    let is_new = async || told(&server, "a.service.consul").await.1.is_none();
    eventually("it is heard again", is_new).await;
}

/// No test lasts as long.
const MAX_STALE: Duration = Duration::from_secs(3_600);
