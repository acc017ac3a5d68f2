//! What is fetched on demand is fetched again behind the answers, while it is asked for.

use std::time::Duration;

use fingerpost::config::Config;
use hickory_proto::rr::RecordType;

use crate::support::dns::{addresses, ask, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::server::Server;
use crate::support::stage::{self, fill, health, instances};
use crate::support::wait::eventually;

/// A Consul with the services `names`, and a server with watches for the first four by name. What it
/// fetches is kept for longer than any test lasts.
async fn stage(names: &[&str], adjust: impl FnOnce(&mut Config)) -> (FakeConsul, Server) {
    let consul = stage::consul(names).await;
    let mut config = stage::config(&consul);
    (config.consul.connections_max, config.consul.connections_spare) = (8, 2);
    config.cache.kept = Duration::from_secs(3_600);
    adjust(&mut config);
    let server = stage::serve(config).await;
    (consul, server)
}

async fn metric(server: &Server, series: &str) -> f64 {
    value(&scrape(server).await, series)
}

async fn refreshes(server: &Server) -> f64 {
    metric(server, "fingerpost_consul_refreshes_total").await
}

/// How often a question about `service` had to wait.
async fn misses(server: &Server, service: &str) -> f64 {
    let series = format!("fingerpost_cache_total{{result=\"miss\",service=\"{service}\"}}");
    metric(server, &series).await
}

#[tokio::test]
async fn a_change_is_seen_while_it_is_asked_for_and_nobody_waits() {
    let (consul, server) = stage(&["a", "b", "c", "d", "e", "f"], |_| ()).await;
    let asked = async || addresses(server.dns(), "e.service.consul").await;
    assert_eq!(addresses(server.dns(), "f.service.consul").await, ["10.0.0.1"]);
    assert_eq!(asked().await, ["10.0.0.1"]);
    fill(&consul, 11, "e", "10.0.0.9");
    eventually("the change is answered", async || asked().await == ["10.0.0.9"]).await;
    fill(&consul, 12, "e", "10.0.0.7");
    eventually("so is the next", async || asked().await == ["10.0.0.7"]).await;
    let seen = async || {
        asked().await;
        refreshes(&server).await >= 3.0
    };
    eventually("it is fetched again and again", seen).await;
    assert_eq!(misses(&server, "e").await, 1.0, "nobody but the first one waited");
    // Where the clock struck between its fetch and its answer, once more.
    let fetched = consul.requests_for(&health("f")).len();
    assert!(fetched <= 2, "f was asked for once, and fetched {fetched} times");
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_left_alone() {
    let (consul, server) = stage(&["a", "b", "c", "d", "e", "f"], |_| ()).await;
    let asked = async |name: &str| {
        addresses(server.dns(), &format!("{name}.service.consul")).await;
        consul.requests_for(&health(name)).len()
    };
    eventually("e is fetched again", async || asked("e").await > 1).await;
    // The last question about e may have another follow.
    eventually("f is fetched, and once more", async || asked("f").await > 1).await;
    let before = consul.requests_for(&health("e")).len();
    eventually("f is fetched again and again", async || asked("f").await > 3).await;
    let more = consul.requests_for(&health("e")).len() - before;
    assert!(more <= 1, "{more} fetches that nobody asked for");
}

#[tokio::test]
async fn a_refresh_of_zero_is_none() {
    let (consul, server) =
        stage(&["a", "b", "c", "d", "e"], |config| config.cache.refresh = Duration::ZERO).await;
    addresses(server.dns(), "e.service.consul").await;
    fill(&consul, 11, "e", "10.0.0.9");
    let begun = tokio::time::Instant::now();
    let is_over = async || {
        assert_eq!(addresses(server.dns(), "e.service.consul").await, ["10.0.0.1"]);
        begun.elapsed() > Duration::from_secs(3)
    };
    eventually("three seconds pass", is_over).await;
    assert_eq!(consul.requests_for(&health("e")).len(), 1);
    assert_eq!(refreshes(&server).await, 0.0);
}

#[tokio::test]
async fn refreshes_that_hang_hold_up_no_question() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let (consul, server) = stage(&names, |config| {
        // A request that hangs is not given up while the test lasts.
        config.consul.timeout = Duration::from_secs(60);
    })
    .await;
    let (old, new) = (["e", "f", "g"], ["h", "i", "j", "k", "l"]);
    let asked = async |name: &str| {
        let name = format!("{name}.service.consul");
        zone_text(&ask(server.dns(), &name, RecordType::A).await)
    };
    let answer =
        |name: &str| format!("NOERROR aa rd\nanswer {name}.service.consul. 0 IN A 10.0.0.1");
    for name in old {
        assert_eq!(asked(name).await, answer(name));
        (0..100).for_each(|_| consul.script(&health(name), Reply::hang()));
    }
    let hangs = async || {
        for name in old {
            assert_eq!(asked(name).await, answer(name), "it is in memory");
        }
        refreshes(&server).await >= 1.0
    };
    eventually("a refresh hangs", hangs).await;
    for name in new {
        assert_eq!(asked(name).await, answer(name), "it is fetched for the question");
        for name in old {
            assert_eq!(asked(name).await, answer(name), "it is in memory");
        }
    }
    for name in old {
        assert_eq!(misses(&server, name).await, 1.0, "{name}: nobody waits");
    }
    // All are due; one hangs in the place of two that such may have.
    assert_eq!(refreshes(&server).await, 1.0);
    let is_counted =
        async || metric(&server, "fingerpost_consul_refreshes_deferred_total").await >= 2.0;
    eventually("those without a place are counted", is_counted).await;
}

#[tokio::test]
async fn a_question_waits_for_the_refresh_that_is_under_way() {
    let (consul, server) = stage(&["a", "b", "c", "d", "e"], |config| {
        // Long enough to be looked at twice before it is too old.
        config.cache.kept = Duration::from_secs(3);
        config.cache.patience = Duration::from_secs(60);
    })
    .await;
    let asked = async || addresses(server.dns(), "e.service.consul").await;
    assert_eq!(asked().await, ["10.0.0.1"]);
    let slow = Reply::ok(11, &instances("e", "10.0.0.9")).held();
    consul.script(&health("e"), slow);
    fill(&consul, 11, "e", "10.0.0.9");
    let is_under_way = async || {
        assert_eq!(asked().await, ["10.0.0.1"]);
        refreshes(&server).await >= 1.0
    };
    eventually("it is fetched again", is_under_way).await;
    let mut waits = Box::pin(async {
        loop {
            let answer = asked().await;
            if answer != ["10.0.0.1"] {
                return answer;
            }
        }
    });
    let is_waiting = async || metric(&server, "fingerpost_dns_waiting").await >= 1.0;
    tokio::select! {
        answer = &mut waits => panic!("{answer:?} before anything came"),
        () = eventually("a question waits", is_waiting) => (),
    }
    assert_eq!(consul.requests_for(&health("e")).len(), 2, "one fetch, and the refresh");
    consul.let_go(&health("e"));
    assert_eq!(waits.await, ["10.0.0.9"]);
}
