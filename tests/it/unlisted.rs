//! Names in no list: prepared queries, the mesh and gateways, as far as a scripted Consul shows them.

use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use serde_json::{Value, json};

use crate::support::dns::{
    addresses, ask, exchange, extended_error, question, with_edns, zone_text,
};
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::https::{Site, base64url};
use crate::support::metrics::{scrape, value};
use crate::support::stage;
use crate::support::wait::eventually;

const QUERIES: &str = "/v1/query";
const SOA: &str = "authority consul. 0 IN SOA ns.consul. hostmaster.consul. ";

fn execute(query: &str) -> String {
    format!("/v1/query/{query}/execute")
}

/// What a query finds: `web` at `address`.
fn found(address: &str, ttl: &str) -> Value {
    json!({
        "Service": "web",
        "Nodes": stage::instances("web", address),
        "DNS": { "TTL": ttl },
        "Datacenter": "dc1",
    })
}

/// A Consul without ACLs, with the queries `names`, each of which sorts by `near`.
async fn consul(names: &[&str], near: &str) -> FakeConsul {
    let consul = stage::consul(&["web"]).await;
    let agent = json!({
        "Config": { "Datacenter": "dc1" },
        "Member": { "Tags": { "acls": "0" } },
    });
    consul.set("/v1/agent/self", 1, &agent);
    let queries = names.iter().map(
        |name| json!({ "ID": format!("id-{name}"), "Name": name, "Service": { "Near": near } }),
    );
    consul.set(QUERIES, 5, &queries.collect());
    consul
}

async fn text(server: std::net::SocketAddr, name: &str) -> String {
    zone_text(&ask(server, name, RecordType::A).await)
}

#[tokio::test]
async fn a_query_that_is_in_no_list_is_denied_without_a_word_to_consul() {
    let consul = consul(&["geo"], "").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "10s"));
    let server = stage::serve(stage::config(&consul)).await;
    let denied = async || text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN");
    eventually("the list is in", denied).await;
    let asked = consul.requests_for(&execute("nope")).len();
    for _ in 0..5 {
        assert!(text(server.dns(), "nope.query.consul").await.contains(SOA));
    }
    assert_eq!(consul.requests_for(&execute("nope")).len(), asked);
    let expected = "NOERROR aa rd\nanswer geo.query.consul. 10 IN A 10.0.0.7";
    for _ in 0..5 {
        assert_eq!(text(server.dns(), "geo.query.consul").await, expected);
    }
    assert_eq!(consul.requests_for(&execute("geo")).len(), 1, "kept for its TTL");

    // A list that is lost denies nothing any more.
    (0..1_000).for_each(|_| consul.script(QUERIES, Reply::status(500, "gone")));
    consul.set(QUERIES, 6, &json!([]));
    consul.set(&execute("nope"), 1, &found("10.0.0.8", ""));
    let found = async || addresses(server.dns(), "nope.query.consul").await == ["10.0.0.8"];
    eventually("it is asked for", found).await;
}

#[tokio::test]
async fn a_list_of_queries_that_is_heard_again_denies_again_what_it_lacks() {
    let consul = consul(&["geo"], "").await;
    let server = stage::serve(stage::config(&consul)).await;
    let denied = async |name: &str| text(server.dns(), name).await.starts_with("NXDOMAIN");
    eventually("the list is in", async || denied("nope.query.consul").await).await;
    // It fails, and comes back as it was.
    (0..1_000).for_each(|_| consul.script(QUERIES, Reply::status(500, "gone")));
    let failing = "fingerpost_consul_watches_failing";
    let fails = async || value(&scrape(&server).await, failing) == 1.0;
    eventually("it is not heard", fails).await;
    consul.unscript(QUERIES);
    eventually("it is heard again", async || !fails().await).await;
    // The first may still be executed, if it is asked for before the list is taken in.
    let mut names = (0..100).map(|number| format!("n{number}"));
    let not_asked = async || {
        let name = names.next().expect("a name");
        assert!(denied(&format!("{name}.query.consul")).await);
        consul.requests_for(&execute(&name)).is_empty()
    };
    eventually("what it lacks is denied without a word to Consul", not_asked).await;
}

#[tokio::test]
async fn a_query_has_its_own_ttl_and_is_not_kept_longer_than_anything() {
    let consul = consul(&["geo"], "").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "60s"));
    let mut config = stage::config(&consul);
    config.cache.kept = Duration::from_secs(2);
    let server = stage::serve(config).await;
    let expected = "NOERROR aa rd\nanswer geo.query.consul. 60 IN A 10.0.0.7";
    assert_eq!(text(server.dns(), "geo.query.consul").await, expected);
    // However old it is, the TTL is the query's; and what changes behind it is seen before that.
    consul.set(&execute("geo"), 1, &found("10.0.0.8", "60s"));
    let changed = async || {
        let got = text(server.dns(), "geo.query.consul").await;
        assert!(got == expected || got == expected.replace("10.0.0.7", "10.0.0.8"), "{got}");
        got != expected
    };
    eventually("it is executed again", changed).await;
}

#[tokio::test]
async fn a_query_that_is_another_now_is_executed_anew() {
    let consul = consul(&["geo"], "").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "1h"));
    let server = stage::serve(stage::config(&consul)).await;
    let expected = "NOERROR aa rd\nanswer geo.query.consul. 3600 IN A 10.0.0.7";
    let answered = async || text(server.dns(), "geo.query.consul").await == expected;
    eventually("it is executed", answered).await;
    let denied = async || text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN");
    eventually("the list is in", denied).await;
    // Its TTL is an hour, but it was changed.
    consul.set(&execute("geo"), 1, &found("10.0.0.8", "1s"));
    let changed = json!([{ "ID": "id-geo", "Name": "geo", "ModifyIndex": 7 }]);
    consul.set(QUERIES, 7, &changed);
    let expected = "NOERROR aa rd\nanswer geo.query.consul. 1 IN A 10.0.0.8";
    let answered = async || text(server.dns(), "geo.query.consul").await == expected;
    eventually("it is executed again", answered).await;
    consul.set(QUERIES, 8, &json!([]));
    let gone = async || text(server.dns(), "geo.query.consul").await.starts_with("NXDOMAIN");
    eventually("it is gone", gone).await;
}

#[tokio::test]
async fn without_the_list_consul_is_asked_so_many_times_a_second() {
    let consul = stage::consul(&["web"]).await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", ""));
    let mut config = stage::config(&consul);
    config.cache.unlisted_per_second = 5;
    config.cache.query_kept = Duration::from_secs(600);
    let server = stage::serve(config).await;
    assert_eq!(addresses(server.dns(), "geo.query.consul").await, ["10.0.0.7"]);
    // Consul answers 404 for a query that it does not have.
    assert!(text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN"));
    let before = consul.requests().len();
    let mut refused = 0;
    for number in 0..200 {
        let name = format!("n{number}.connect.consul");
        refused += usize::from(text(server.dns(), &name).await == "SERVFAIL aa rd");
    }
    let connects = consul.requests().len() - before;
    assert!(refused > 100 && connects < 60, "{refused} refused, {connects} asked");
    let counted = value(&scrape(&server).await, "fingerpost_consul_unlisted_refused_total");
    assert_eq!(counted as usize, refused);
    // What is known is answered all the same.
    assert_eq!(addresses(server.dns(), "geo.query.consul").await, ["10.0.0.7"]);
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
}

/// They spend from what is for fetches, and not from what is for names that may be invented.
#[tokio::test]
async fn clients_of_a_listed_query_are_not_counted_as_names() {
    let consul = consul(&["geo"], "_ip").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "600s"));
    let mut config = stage::config(&consul);
    config.cache.unlisted_per_second = 1;
    let server = stage::serve(config).await;
    let denied = async || text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN");
    eventually("the list is in", denied).await;
    for number in 0..40 {
        let reply = exchange(server.dns(), &from(&format!("192.0.{number}.0"), 24)).await;
        assert_eq!(reply.answers.len(), 1, "network {number}: {reply}");
    }
    let refused =
        async || value(&scrape(&server).await, "fingerpost_consul_unlisted_refused_total") as usize;
    assert_eq!(refused().await, 0);
    assert_eq!(consul.requests_for(&execute("geo")).len(), 40);
    // Of a name that is refused nothing was heard, as nothing was asked; and that is what is said.
    let mut errors = Vec::new();
    for number in 0..40 {
        let name = format!("n{number}.connect.consul");
        let query = with_edns(question(&name, RecordType::A), 1232, false);
        errors.extend(extended_error(&exchange(server.dns(), &query).await));
    }
    assert!(refused().await > 0 && errors.len() == refused().await, "{errors:?}");
    assert!(errors.iter().all(|error| error == "22 not heard from Consul in time"), "{errors:?}");
}

/// The first client of a name of a template asks for what may be invented, the next ones do not.
#[tokio::test]
async fn what_a_template_told_one_client_another_may_ask_for() {
    let consul = consul(&[], "").await;
    let template = json!([{
        "ID": "id-geo", "Name": "geo", "Service": { "Near": "_ip" },
        "Template": { "Type": "name_prefix_match" },
    }]);
    consul.set(QUERIES, 6, &template);
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "600s"));
    let mut config = stage::config(&consul);
    config.cache.unlisted_per_second = 1;
    let server = stage::serve(config).await;
    let denied = async || text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN");
    eventually("the list is in", denied).await;
    let found = async |number: u8| {
        let query = from(&format!("192.0.{number}.0"), 24);
        exchange(server.dns(), &query).await.answers.len() == 1
    };
    eventually("the first client is told", async || found(0).await).await;
    for number in 1..40 {
        assert!(found(number).await, "network {number}");
    }
    // The networks are no names: none of them is the parent of one.
    assert!(text(server.dns(), "0.query.consul").await.starts_with("NXDOMAIN"));
}

fn from(network: &str, bits: u8) -> Message {
    let mut query = with_edns(question("geo.query.consul", RecordType::A), 1232, false);
    let subnet = ClientSubnet::new(network.parse().unwrap(), bits, 0);
    let edns = query.edns.as_mut().unwrap();
    edns.options_mut().insert(EdnsOption::Subnet(subnet));
    query
}

#[tokio::test]
async fn a_query_that_sorts_by_the_client_is_kept_by_its_network() {
    let consul = consul(&["geo"], "_ip").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "600s"));
    let server = stage::serve(stage::config(&consul)).await;
    let listed = async || !consul.requests_for(QUERIES).is_empty();
    eventually("the list is asked for", listed).await;
    let denied = async || text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN");
    eventually("the list is in", denied).await;
    for (network, bits, scope) in [
        ("192.0.2.0", 24, 24),
        ("192.0.2.9", 32, 24),
        ("2001:db8::", 48, 48),
        // of the first network, and looked at as such
        ("::ffff:192.0.2.9", 128, 120),
    ] {
        let reply = exchange(server.dns(), &from(network, bits)).await;
        let edns = reply.edns.as_ref().expect("an OPT");
        let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) else {
            panic!("no subnet: {edns:?}")
        };
        assert_eq!((subnet.source_prefix(), subnet.scope_prefix()), (bits, scope), "{network}");
    }
    assert_eq!(addresses(server.dns(), "geo.query.consul").await, ["10.0.0.7"]);
    let clients: Vec<String> = consul
        .requests_for(&execute("geo"))
        .iter()
        .map(|request| request.headers["x-forwarded-for"].clone())
        .collect();
    assert_eq!(clients, ["192.0.2.0", "2001:db8::", "127.0.0.0"]);
    // For all else the answer is the same everywhere.
    let mut query = from("192.0.2.0", 24);
    query.queries.clear();
    query.add_queries(question("web.service.consul", RecordType::A).queries);
    let reply = exchange(server.dns(), &query).await;
    let edns = reply.edns.as_ref().expect("an OPT");
    let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) else {
        panic!("no subnet: {edns:?}")
    };
    assert_eq!(subnet.scope_prefix(), 0);
}

/// A cache that several share keeps it where the query says for whom it is, and not where only the
/// client's address does.
#[tokio::test]
async fn what_is_for_one_client_is_kept_by_that_client_alone() {
    let consul = consul(&["geo"], "_ip").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "600s"));
    for (subnet_is_believed, expected) in [
        (true, ["private, max-age=600", "max-age=600", "max-age=0"]),
        (false, ["private, max-age=600", "private, max-age=600", "max-age=0"]),
    ] {
        let mut config = stage::config(&consul);
        config.dns.client_subnet = subnet_is_believed;
        let site = Site::start(config, stage::start).await;
        let dns = site.server.dns();
        let denied = async || text(dns, "nope.query.consul").await.starts_with("NXDOMAIN");
        eventually("the list is in", denied).await;
        let client = site.client(2);
        let plain = question("geo.query.consul", RecordType::A);
        let web = question("web.service.consul", RecordType::A);
        for (query, expected) in [plain, from("192.0.2.0", 24), web].iter().zip(expected) {
            let query = base64url(&query.to_vec().unwrap());
            let response = client.get(format!("{}?dns={query}", site.url())).send().await.unwrap();
            assert_eq!(response.headers()["cache-control"], expected, "{subnet_is_believed}");
        }
    }
}

/// RFC 7871 §7.2.1: a server that does not use the option leaves it out.
#[tokio::test]
async fn who_does_not_believe_forwarders_does_not_answer_for_their_networks() {
    let consul = consul(&["geo"], "_ip").await;
    consul.set(&execute("geo"), 1, &found("10.0.0.7", "600s"));
    let mut config = stage::config(&consul);
    config.dns.client_subnet = false;
    let server = stage::serve(config).await;
    let denied = async || text(server.dns(), "nope.query.consul").await.starts_with("NXDOMAIN");
    eventually("the list is in", denied).await;
    let reply = exchange(server.dns(), &from("192.0.2.0", 24)).await;
    assert_eq!(reply.answers.len(), 1, "{reply}");
    let edns = reply.edns.as_ref().expect("an OPT");
    assert!(edns.option(EdnsCode::Subnet).is_none(), "{edns:?}");
    let requests = consul.requests_for(&execute("geo"));
    assert_eq!(requests[0].headers["x-forwarded-for"], "127.0.0.0");
}

#[tokio::test]
async fn what_the_mesh_lacked_is_there_soon_and_then_followed() {
    let consul = stage::consul(&["web"]).await;
    let path = "/v1/health/connect/web";
    consul.set(path, 3, &json!([]));
    let server = stage::serve(stage::config(&consul)).await;
    assert!(text(server.dns(), "web.connect.consul").await.starts_with("NXDOMAIN"));
    consul.set(path, 4, &stage::instances("web-proxy", "10.0.0.5"));
    let there = async || addresses(server.dns(), "web.connect.consul").await == ["10.0.0.5"];
    eventually("the proxy is there", there).await;
    consul.set(path, 5, &stage::instances("web-proxy", "10.0.0.6"));
    let moved = async || addresses(server.dns(), "web.connect.consul").await == ["10.0.0.6"];
    eventually("the proxy has moved", moved).await;
    consul.set(path, 6, &json!([]));
    let gone = async || text(server.dns(), "web.connect.consul").await.starts_with("NXDOMAIN");
    eventually("the proxy is gone", gone).await;
}
