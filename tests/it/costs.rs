//! What Consul is asked, and what that costs it.

use serde_json::json;

use crate::support::fake_consul::Reply;
use crate::support::metrics::{scrape, value};
use crate::support::stage::{self, NODES, fill, health};
use crate::support::wait::eventually;

#[tokio::test]
async fn requests_bytes_and_connections_are_counted_by_endpoint() {
    let consul = stage::consul(&["web"]).await;
    let nodes = json!([{ "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" }]);
    consul.set(NODES, 10, &nodes);
    let server = stage::serve(stage::config(&consul)).await;
    let count = async |series: &str| value(&scrape(&server).await, series);
    let requests = |endpoint: &str, outcome: &str| {
        format!("fingerpost_consul_requests_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}}")
    };
    assert_eq!(count(&requests("catalog/nodes", "ok")).await, 1.0, "the next one blocks");
    let bytes = "fingerpost_consul_response_bytes_total{endpoint=\"catalog/nodes\"}";
    assert_eq!(count(bytes).await, nodes.to_string().len() as f64);
    assert_eq!(count(&requests("agent/self", "ok")).await, 1.0);
    assert_eq!(count(&requests("health/service", "failed")).await, 0.0);

    fill(&consul, 11, "web", "10.0.0.9");
    let told = async || count(&requests("health/service", "ok")).await == 2.0;
    eventually("a second round has ended", told).await;
    consul.script(&health("web"), Reply::status(500, "no"));
    let failed = async || count(&requests("health/service", "failed")).await == 1.0;
    eventually("a third one has failed", failed).await;
    // The lists and the service block at once, and each has its own.
    assert!(count("fingerpost_consul_connections_opened_total").await >= 3.0);
}
