//! What a scripted Consul shows when a part of it fails: the rest is answered as ever.

use std::net::SocketAddr;
use std::time::Duration;

use fingerpost::config::Config;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::support::dns::{addresses, ask, pipeline, question, with_edns, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{scrape, value};
use crate::support::stage::{self, SERVICES, fill, health, instances, list};
use crate::support::wait::eventually;

/// One letter each: `a` to `d` fit among the watches of [`small`], the rest do not.
const LETTERS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// Room for eight watches, two lists among them, and for four fetches.
fn small(consul: &FakeConsul) -> Config {
    let mut config = stage::config(consul);
    (config.consul.connections_max, config.consul.connections_spare) = (12, 4);
    config.cache.patience = Duration::from_millis(400);
    config
}

/// A scripted Consul with the same services in dc1, the local one, and in dc2.
async fn two_datacenters() -> FakeConsul {
    let consul = stage::consul(&LETTERS).await;
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1", "dc2"]));
    consul
}

#[tokio::test]
async fn a_far_datacenter_that_hangs_takes_no_place_of_the_local_one() {
    let consul = two_datacenters().await;
    let server = stage::serve(small(&consul)).await;
    assert_eq!(addresses(server.dns(), "a.dc2.consul").await, ["10.0.0.1"]);
    consul.silence("dc2");
    let far: Vec<_> = LETTERS.iter().skip(1).map(|name| format!("{name}.dc2.consul")).collect();
    let far = queries(far.iter().map(String::as_str));
    let hanging = pipeline(server.dns(), &far);
    let local = async {
        let taken = "fingerpost_consul_requests_in_flight";
        let begun = async || value(&scrape(&server).await, taken) >= 8.0 + 2.0;
        eventually("dc2 has its places", begun).await;
        for name in ["g", "h", "i", "j"] {
            let name = format!("{name}.service.consul");
            assert_eq!(addresses(server.dns(), &name).await, ["10.0.0.1"], "{name}");
        }
    };
    let (replies, ()) = tokio::join!(hanging, local);
    for reply in replies {
        assert_eq!(zone_text(&reply), "SERVFAIL aa rd", "never a denial");
    }
}

#[tokio::test]
async fn a_dead_datacenter_does_not_take_the_places_of_those_who_wait() {
    let consul = two_datacenters().await;
    consul.silence("dc2");
    let mut config = small(&consul);
    config.cache.patience = Duration::from_secs(1);
    let server = stage::serve(config).await;
    // The first finds out, and waits for it.
    let first = text(server.dns(), "a.dc2.consul").await;
    assert_eq!(first, "SERVFAIL aa rd");
    let far = (0..50).map(|_| "a.dc2.consul");
    for reply in pipeline(server.dns(), &queries(far)).await {
        assert_eq!(zone_text(&reply), "SERVFAIL aa rd");
    }
    let soon = "fingerpost_dns_request_duration_seconds_bucket{le=\"0.5\"}";
    let total = "fingerpost_dns_request_duration_seconds_count";
    let metrics = scrape(&server).await;
    assert_eq!(value(&metrics, total) - value(&metrics, soon), 1.0, "only the first has waited");
    assert_eq!(addresses(server.dns(), "j.service.consul").await, ["10.0.0.1"]);

    consul.unsilence("dc2");
    let back = async || addresses(server.dns(), "a.dc2.consul").await == ["10.0.0.1"];
    eventually("dc2 is answered", back).await;
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_fetched() {
    let names: Vec<String> = (0..100).map(|number| format!("s{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let consul = stage::consul(&names).await;
    let mut config = small(&consul);
    config.consul.timeout = Duration::from_secs(2);
    let server = stage::serve(config).await;
    // One client asks for everything, and Consul hangs meanwhile.
    consul.silence("dc1");
    let sweep: Vec<_> =
        names.iter().skip(20).map(|name| format!("{name}.service.consul")).collect();
    for reply in pipeline(server.dns(), &queries(sweep.iter().map(String::as_str))).await {
        assert_eq!(zone_text(&reply), "SERVFAIL aa rd");
    }
    consul.unsilence("dc1");
    let probe = async || addresses(server.dns(), "s010.service.consul").await == ["10.0.0.1"];
    eventually("another service is fetched", probe).await;
    let asked = consul.requests();
    let swept = |path: &str| sweep.iter().any(|name| path == health(&name[..4]));
    let fetched = asked.iter().filter(|request| swept(&request.path)).count();
    assert_eq!(fetched, 4, "as many as there are places");
}

#[tokio::test]
async fn a_service_whose_watch_fails_for_good_is_told_and_holds_up_nothing() {
    let consul = stage::consul(&["db", "web"]).await;
    fails(&consul, &health("web"));
    let server = stage::serve(small(&consul)).await;
    let failing = async || value(&scrape(&server).await, "fingerpost_consul_watches_failing");
    assert_eq!(failing().await, 1.0);
    assert_eq!(addresses(server.dns(), "db.service.consul").await, ["10.0.0.1"]);
    let query = with_edns(question("web.service.consul", RecordType::A), 1232, false);
    let reply = pipeline(server.dns(), &[query]).await.remove(0);
    assert_eq!(zone_text(&reply), "SERVFAIL aa rd", "not a denial");

    consul.unscript(&health("web"));
    eventually("the watch hears again", async || failing().await == 0.0).await;
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);

    // What was heard once goes on, is called stale, and needs no question to Consul.
    fails(&consul, &health("web"));
    eventually("it fails again", async || failing().await == 1.0).await;
    let stale = "fingerpost_cache_total{result=\"stale\",service=\"web\"}";
    assert_eq!(value(&scrape(&server).await, stale), 0.0);
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
    assert_eq!(value(&scrape(&server).await, stale), 1.0);

    fill(&consul, 11, "web", "10.0.0.9");
    consul.unscript(&health("web"));
    let back = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.9"];
    eventually("what changed meanwhile is heard", back).await;
    let so_far = value(&scrape(&server).await, stale);
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.9"]);
    assert_eq!(value(&scrape(&server).await, stale), so_far, "it is stale no more");
}

#[tokio::test]
async fn a_fetch_never_overtakes_a_watch_that_has_spoken() {
    let consul = stage::consul(&["web"]).await;
    let path = health("web");
    // The watch's first round fails; while it pauses, a question makes a fetch, whose reply is
    // decided and then held up on its way.
    consul.script(&path, Reply::status(403, "no"));
    consul.script(&path, Reply::ok(10, &instances("web", "10.0.0.1")).held());
    let mut config = small(&consul);
    config.consul.backoff_min = Duration::from_millis(500);
    config.consul.backoff_max = Duration::from_millis(500);
    config.cache.patience = Duration::from_secs(5);
    let server = stage::start(config);
    let listed = async || text(server.dns(), "web.service.consul").await;
    let asking = async {
        let failed = async || consul.requests_for(&path).len() == 1;
        eventually("the watch has failed", failed).await;
        addresses(server.dns(), "web.service.consul").await
    };
    let changing = async {
        let asked = async || consul.requests_for(&path).len() == 2;
        eventually("it is fetched", asked).await;
        fill(&consul, 11, "web", "10.0.0.9");
    };
    let (answer, ()) = tokio::join!(asking, changing);
    assert_eq!(answer, ["10.0.0.9"], "the watch answers those who wait");

    consul.let_go(&path);
    let fetched = "fingerpost_discovery_latency_seconds_count{operation=\"fetch\",service=\"web\"}";
    let arrived = async || scrape(&server).await.contains(fetched);
    eventually("the fetch has come", arrived).await;
    assert!(listed().await.contains("10.0.0.9"), "what is older is not believed");
}

#[tokio::test]
async fn a_watch_never_takes_back_what_was_fetched_while_it_asked() {
    let consul = stage::consul(&["web"]).await;
    let path = health("web");
    // The watch's first round is long on its way back; a question makes a fetch meanwhile; and
    // the watch's next round hangs.
    consul.script(&path, Reply::ok(10, &instances("web", "10.0.0.1")).held());
    consul.script(&path, Reply::ok(11, &instances("web", "10.0.0.9")));
    consul.script(&path, Reply::hang());
    let server = stage::start(small(&consul));
    let asked = async || consul.requests_for(&path).len() == 1;
    eventually("it is watched", asked).await;
    let fetched = async || addresses(server.dns(), "web.service.consul").await == ["10.0.0.9"];
    eventually("it is fetched", fetched).await;

    consul.let_go(&path);
    let went_on = async || {
        let requests = consul.requests_for(&path);
        requests.last().and_then(|request| request.query.get("index")).is_some_and(|at| at == "10")
    };
    eventually("the watch has spoken and goes on", went_on).await;
    for _ in 0..100 {
        assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.9"]);
    }
}

#[tokio::test]
async fn a_reply_without_instances_that_a_list_has_overtaken_denies_nothing() {
    let consul = stage::consul(&LETTERS).await;
    let mut config = small(&consul);
    config.cache.patience = Duration::from_secs(5);
    let server = stage::serve(config).await;
    let path = health("j");
    consul.script(&path, Reply::ok(10, &json!([])).held());
    let listing = async {
        let asked = async || consul.requests_for(&path).len() == 1;
        eventually("j is fetched", asked).await;
        list(&consul, 11, &[&LETTERS[..], &["k"]].concat());
        fill(&consul, 11, "k", "10.0.0.1");
        let known = async || addresses(server.dns(), "k.service.consul").await == ["10.0.0.1"];
        eventually("the new list is known", known).await;
        consul.let_go(&path);
    };
    let (answer, ()) = tokio::join!(addresses(server.dns(), "j.service.consul"), listing);
    assert_eq!(answer, ["10.0.0.1"]);
    assert_eq!(consul.requests_for(&path).len(), 2, "asked once more, and then believed");
}

#[tokio::test]
async fn a_tag_that_is_listed_is_not_denied_from_older_instances() {
    let consul = stage::consul(&["web"]).await;
    let path = health("web");
    let tagged = |tags: &[&str]| {
        let mut tagged = instances("web", "10.0.0.1");
        tagged[0]["Service"]["Tags"] = json!(tags);
        tagged
    };
    consul.set(SERVICES, 11, &json!({ "web": ["v1"] }));
    consul.set(&path, 11, &tagged(&["v1"]));
    let server = stage::serve(small(&consul)).await;
    assert_eq!(addresses(server.dns(), "v1.web.service.consul").await, ["10.0.0.1"]);
    assert!(text(server.dns(), "v2.web.service.consul").await.starts_with("NXDOMAIN"));

    // The watch hears nothing of it, and does not know.
    consul.script(&path, Reply::hang());
    consul.set(&path, 12, &tagged(&["v1", "v2", "a.b"]));
    consul.set(SERVICES, 12, &json!({ "web": ["v1", "v2", "a.b"] }));
    let known = async || addresses(server.dns(), "v2.web.service.consul").await == ["10.0.0.1"];
    eventually("the tag is known", known).await;
    assert!(text(server.dns(), "b.web.service.consul").await.starts_with("NOERROR"));

    // An instance that the token does not see: one fetch says so, and no more are made.
    consul.set(SERVICES, 13, &json!({ "web": ["v1", "v2", "v3"], "k": [] }));
    fill(&consul, 13, "k", "10.0.0.1");
    let listed = async || addresses(server.dns(), "k.service.consul").await == ["10.0.0.1"];
    eventually("the list is known", listed).await;
    let before = consul.requests_for(&path).len();
    for _ in 0..20 {
        assert!(text(server.dns(), "v3.web.service.consul").await.starts_with("NXDOMAIN"));
    }
    assert_eq!(consul.requests_for(&path).len(), before + 1);

    // Where Consul cannot be asked, nothing is denied.
    fails(&consul, &path);
    consul.set(SERVICES, 14, &json!({ "web": ["v1", "v2", "v4"], "l": [] }));
    fill(&consul, 14, "l", "10.0.0.1");
    let listed = async || addresses(server.dns(), "l.service.consul").await == ["10.0.0.1"];
    eventually("the next list is known", listed).await;
    let answer = text(server.dns(), "v4.web.service.consul").await;
    assert_eq!(answer, "SERVFAIL aa rd");
    assert_eq!(addresses(server.dns(), "v1.web.service.consul").await, ["10.0.0.1"]);
    assert!(text(server.dns(), "v5.web.service.consul").await.starts_with("NXDOMAIN"));
}

#[tokio::test]
async fn a_new_datacenter_is_known_soon_after_a_start() {
    let consul = stage::consul(&["a"]).await;
    let server = stage::serve(small(&consul)).await;
    assert!(text(server.dns(), "a.dc2.consul").await.starts_with("NXDOMAIN"));
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1", "dc2"]));
    let known = async || addresses(server.dns(), "a.dc2.consul").await == ["10.0.0.1"];
    eventually("dc2 is known", known).await;
}

/// Everything that asks for `path` fails until the script is forgotten.
fn fails(consul: &FakeConsul, path: &str) {
    (0..10_000).for_each(|_| consul.script(path, Reply::status(500, "rpc error")));
}

/// A question of type A for each of `names`, with an id of its own.
fn queries<'n>(names: impl Iterator<Item = &'n str>) -> Vec<Message> {
    let queries = names.zip(1..).map(|(name, id)| {
        let mut query = question(name, RecordType::A);
        query.metadata.id = id;
        query
    });
    queries.collect()
}

async fn text(server: SocketAddr, name: &str) -> String {
    zone_text(&ask(server, name, RecordType::A).await)
}
