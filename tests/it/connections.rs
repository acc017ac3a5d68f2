//! What connections to a real Consul there are: few over HTTP/2, and no more than it lets in.

use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::consul::client::Place;
use fingerpost::consul::{Client, api};
use fingerpost::metrics::CostMetrics;
use hickory_proto::rr::RecordType;
use prometheus::Registry;
use serde_json::json;
use tokio::time;

use crate::support::authority::Authority;
use crate::support::choose_crypto;
use crate::support::consul::Consul;
use crate::support::dns::{addresses, ask, zone_text};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::metrics::{find, scrape, value};
use crate::support::program::{ANY_PORT, Program};
use crate::support::server::Server;
use crate::support::stage::{self, SERVICES, health};
use crate::support::wait::eventually;

/// Registers `count` services, each on a node of its own.
async fn register(consul: &Consul, count: usize) {
    for number in 0..count {
        let address = format!("10.1.{}.{}", number / 250, number % 250);
        let service = json!({ "Service": format!("s{number:03}"), "Port": 80 });
        let node = format!("n{number:03}");
        consul.register(json!({ "Node": node, "Address": address, "Service": service })).await;
    }
}

fn start(config: Config) -> Server {
    choose_crypto();
    let client = Client::new(&config.consul).unwrap();
    Server::start(config, Origin::Consul(client))
}

async fn count(server: &Server, name: &str) -> f64 {
    value(&scrape(server).await, name)
}

#[tokio::test]
async fn hundreds_of_watches_over_https_are_a_few_connections() {
    let authority = Authority::new();
    let Some(consul) = Consul::start_with(authority.consul()).await else { return };
    register(&consul, 300).await;
    let server = start(authority.client(consul.https_address()));
    server.ready().await;
    let all = async || count(&server, WATCHES).await >= 300.0;
    eventually("all services are watched", all).await;
    assert_eq!(addresses(server.dns(), "s299.service.consul").await, ["10.1.1.49"]);
    let told = async || find(&scrape(&server).await, LATENCY_OF_LAST).is_some();
    eventually("the last one was heard by its watch", told).await;
    // Two hundred requests share a connection. At most four begin before that is known.
    let opened = count(&server, OPENED).await;
    assert!(opened <= 3.0 * 4.0, "{opened} connections for three times 200 streams at most");
    assert_eq!(count(&server, REFUSED).await, 0.0);
    let failures = scrape(&server).await;
    let failed = "fingerpost_consul_requests_total{endpoint=\"health/service\",outcome=\"failed\"}";
    assert_eq!(value(&failures, failed), 0.0);

    // A change reaches the last of them.
    let service = json!({ "Service": "s299", "Port": 80 });
    consul.register(json!({ "Node": "n299", "Address": "10.9.9.9", "Service": service })).await;
    let follows = async || addresses(server.dns(), "s299.service.consul").await == ["10.9.9.9"];
    eventually("the last one is followed", follows).await;
}

/// reqwest takes a connection for idle on which no request has begun for some time, though streams
/// of it wait for a reply.
#[tokio::test]
async fn a_connection_whose_streams_wait_is_not_opened_again() {
    let authority = Authority::new();
    let Some(consul) = Consul::start_with(authority.consul()).await else { return };
    choose_crypto();
    let mut config = authority.client(consul.https_address());
    config.consul.timeout = Duration::from_secs(600);
    let client = Client::new(&config.consul).unwrap();
    let costs = CostMetrics::register(&Registry::new()).unwrap();
    client.count_in(costs.clone());
    let asked = api::services(None);
    let first = client.read(&asked, None, Place::Spare).await.unwrap();
    let holding = async {
        let mut after = first.position();
        while let Ok(reply) = client.read(&asked, after, Place::Watch).await {
            after = reply.position();
        }
    };
    let others = async {
        for _ in 0..3 {
            // Longer than an idle connection is kept where it has no streams.
            time::pause();
            time::advance(Duration::from_secs(16)).await;
            time::resume();
            client.read(&asked, None, Place::Spare).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        () = holding => panic!("consul breaks off"),
        () = others => (),
    }
    assert!(client.has_streams());
    assert_eq!(costs.connections.get(), 1);
}

#[tokio::test]
async fn past_consuls_limit_fewer_services_are_watched_and_others_get_in() {
    let limits = json!({ "limits": { "http_max_conns_per_client": 30 } });
    let Some(consul) = Consul::start_with(limits).await else { return };
    register(&consul, 60).await;
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    // So that it grows soon after its start, and not again while this test lasts.
    config.consul.wait = Duration::from_secs(4);
    let server = start(config);
    server.ready().await;
    let refused = async || count(&server, REFUSED).await >= 2.0;
    eventually("consul refuses", refused).await;
    let fewer = async || count(&server, WATCHES).await <= 22.0;
    eventually("fewer services are watched", fewer).await;
    let free = async || reqwest::get(consul.url("/v1/status/leader")).await.is_ok();
    eventually("others get in", free).await;
    for number in 0..60 {
        let name = format!("s{number:03}.service.consul");
        let expected = [format!("10.1.0.{number}")];
        let answered = async || addresses(server.dns(), &name).await == expected;
        eventually(format!("{name} is answered"), answered).await;
    }
}

#[tokio::test]
async fn waits_are_short_after_a_start() {
    let consul = stage::consul(&["web"]).await;
    let _server = stage::serve(stage::config(&consul)).await;
    let held = async || blocking(&consul, &health("web")).len() == 1;
    eventually("the service is watched", held).await;
    assert_eq!(blocking(&consul, &health("web")), ["10000ms"]);
}

#[tokio::test]
async fn at_its_end_it_lets_no_more_queries_be_held() {
    let consul = stage::consul(&["web"]).await;
    let url = consul.url();
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
    let mut program = Program::start(&args, &[("FINGERPOST_CACHE_PATIENCE", "2s")]);
    program.ready().await;
    let held = async || blocking(&consul, SERVICES).len() == 1;
    eventually("the list is watched", held).await;
    // A query for what nobody brings keeps the program from its end for so long.
    consul.script(EXECUTION, Reply::hang());
    let server = program.dns_address().await;
    let asking = ask(server, "nope.query.consul", RecordType::A);
    let ending = async {
        let asked = async || !consul.requests_for(EXECUTION).is_empty();
        eventually("it is asked for", asked).await;
        program.signal("TERM");
        let stopping = async || program.stderr().contains("stopping");
        eventually("it is about to end", stopping).await;
        consul.set(SERVICES, 11, &json!({ "web": [], "db": [] }));
        program.status().await
    };
    let (reply, status) = tokio::join!(asking, ending);
    assert_eq!((&*zone_text(&reply), status), ("SERVFAIL aa rd", Some(0)));
    assert_eq!(blocking(&consul, SERVICES).len(), 1, "what returned was not asked for again");
}

/// The waits that blocking queries for `path` have asked for so far.
fn blocking(consul: &FakeConsul, path: &str) -> Vec<String> {
    let asked = consul.requests_for(path).into_iter();
    asked.filter_map(|request| request.query.get("wait").cloned()).collect()
}

const EXECUTION: &str = "/v1/query/nope/execute";
const WATCHES: &str = "fingerpost_consul_watches";
const OPENED: &str = "fingerpost_consul_connections_opened_total";
const REFUSED: &str = "fingerpost_consul_connections_refused_total";
const LATENCY_OF_LAST: &str =
    "fingerpost_discovery_latency_seconds_count{operation=\"watch\",service=\"s299\"}";
