//! The status page, as a browser shows it: a real Chromium loads it from a running server.

use std::path::Path;

use fingerpost::app::Origin;
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};
use fingerpost::catalog::{Change, Form, Held};
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::file;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::consul::Consul;
use crate::support::server::Server;
use crate::support::stage::{self, fill};

fn url(server: &Server) -> String {
    format!("http://{}/", server.admin())
}

async fn demo() -> Server {
    let catalog = file::parse(file::DEMO).unwrap();
    let server = Server::start(Config::default(), Origin::Fixed(catalog.changes()));
    server.ready().await;
    server
}

#[tokio::test]
async fn it_shows_filters_and_explains() {
    let Some(mut browser) = Browser::start() else { return };
    let server = demo().await;
    browser.open(&url(&server), 1100, "light").await;
    browser.until_text("#count", "9 of 9 services").await;
    browser.until_text("#live", "live").await;
    browser.until_text("#state", "Ready, and nothing is stale.").await;
    let rows =
        browser.value("[...document.querySelectorAll('#datacenters tr')].map(it => it.innerText)");
    assert_eq!(rows.await, json!(["dc1 (local)\t7\t10\tup to date", "dc2\t2\t2\tup to date"]));

    browser.fill("#filter", "WEB dc1").await;
    browser.until_text("#count", "2 of 9 services").await;
    browser.click("#sick").await;
    browser.until_text("#count", "1 of 9 services").await;
    let row = browser.value("document.querySelector('#services tr').innerText").await;
    assert_eq!(row, "web\nv1, v2\n\tdc1\t3 passing, 1 warning, 1 critical");

    browser.click("#services button").await;
    let summary = "NOERROR: 4 of 5 instances in the answer, 1 out: \
                   1 critical (the service's check \"web answers\").";
    browser.until_text("#why", summary).await;
    browser.fill("#name", "wbe.service.consul").await;
    browser.press(&["Enter"]).await;
    browser.until_text("#why", "Is \"web\" meant?").await;

    // The counts are read every two seconds.
    let asked = "Number(document.getElementById('rate').textContent) > 0";
    let dns = server.dns();
    let asking = async {
        for _ in 0..50 {
            crate::support::dns::addresses(dns, "web.service.consul").await;
        }
    };
    tokio::join!(asking, browser.until(asked));
    browser.until_text("#rcodes", "NOERROR").await;
    browser.until_text("#duration", "p50 ≤ ").await;
    assert_eq!(browser.complaints().await, json!([]));

    drop(server);
    browser.until_text("#state", "No connection to the server since").await;
    browser.until_text("#live", "no connection").await;
}

/// The keyboard leads through it, headings and labels say what is what, nothing is wider than a
/// phone, and it is dark where the room is.
#[tokio::test]
async fn it_is_for_phones_keyboards_and_screen_readers() {
    let Some(mut browser) = Browser::start() else { return };
    let server = demo().await;
    browser.open(&url(&server), 390, "dark").await;
    browser.until_text("#count", "9 of 9 services").await;
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, 390);
    let shade = "Number(/\\d+/.exec(getComputedStyle(document.body).backgroundColor)[0])";
    assert!(browser.value(shade).await.as_u64().unwrap() < 60);

    let focused = "document.activeElement.id || document.activeElement.className \
                   || document.activeElement.textContent";
    let mut order = Vec::new();
    for _ in 0..7 {
        browser.press(&["Tab"]).await;
        order.push(browser.value(focused).await);
    }
    assert_eq!(json!(order), json!(["skip", "name", "type", "Explain", "filter", "sick", "api"]));
    let unnamed = "[...document.querySelectorAll('input, select, button')].filter(it => \
                   !(it.labels && it.labels.length) && it.textContent === '').length";
    assert_eq!(browser.value(unnamed).await, 0);
    let levels = "[...document.querySelectorAll('h1, h2, h3')].map(it => it.tagName).join(' ')";
    assert_eq!(browser.value(levels).await, "H1 H2 H2 H2 H2 H2");
    let shot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page.png");
    browser.shot(&shot).await;
    assert!(std::fs::read(shot).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(browser.complaints().await, json!([]));
}

/// Names are text, whatever is in them. The list of services is read once a minute, so what shows
/// at once came as an event.
#[tokio::test]
async fn it_follows_a_consul_and_says_when_that_is_gone() {
    let Some(mut consul) = Consul::start().await else { return };
    let Some(mut browser) = Browser::start() else { return };
    let check = json!({ "Name": "up", "CheckID": "up", "TTL": "10m", "Status": "passing" });
    consul.register_service(json!({ "Name": "web", "Port": 80, "Check": check })).await;
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url("/").parse().unwrap())];
    let server = stage::serve(config).await;
    browser.open(&url(&server), 1100, "light").await;
    let row = |name: &str| format!("#services tr:has(button[data-key*='{name}'])");
    browser.until_text(&row("web"), "1 passing").await;
    browser.until_text("#live", "live").await;
    browser.until_text("#watches", "instances of web in dc1").await;

    browser
        .value(&format!("document.querySelector({}).focus()", json!(row("web") + " button")))
        .await;
    consul.set_ttl_check("up", "critical").await;
    browser.until_text(&row("web"), "1 critical").await;
    let focused = browser.value("document.activeElement.textContent").await;
    assert_eq!(focused, "web", "who is there with the keyboard stays there");
    let name = "<img src=x onerror=alert(1)>";
    consul.register_service(json!({ "Name": name, "ID": "x", "Tags": ["<b>"], "Port": 1 })).await;
    browser.until_text(&row("onerror"), name).await;
    browser.until_text(&row("onerror"), "1 passing").await;
    browser.until_text("#propagation", "p50 ≤ ").await;
    assert_eq!(browser.value("document.querySelectorAll('img, b').length").await, 0);
    browser.until_text("#state", "Ready, and nothing is stale.").await;
    assert_eq!(browser.complaints().await, json!([]));

    consul.kill();
    let stale = "Stale: Consul has not been heard of dc1 since";
    browser.until_text("#state", stale).await;
    browser.until_text("#datacenters", "stale since").await;
    browser.until_text("#state", "watches fail").await;
    browser.until_text(&row("web"), "1 critical").await;
    assert_eq!(browser.complaints().await, json!([]), "the server is there still");
    consul.restart().await;
    let is_over =
        format!("!document.getElementById('state').textContent.includes({})", json!(stale));
    browser.until(&is_over).await;
}

#[tokio::test]
async fn without_a_place_for_it_it_asks_again_and_again() {
    let Some(mut browser) = Browser::start() else { return };
    let consul = stage::consul(&["web"]).await;
    let mut config = stage::config(&consul);
    config.admin.events_max = 0;
    let server = stage::serve(config).await;
    browser.open(&url(&server), 390, "light").await;
    browser.until_text("#services", "1 passing").await;
    browser.until_text("#live", "every 6 s").await;
    // Where there is one datacenter, a phone's services have no column for it.
    let row = browser.value("document.querySelector('#datacenters tr').innerText").await;
    assert_eq!(row, "dc1 (local)\t1\t1\tup to date");
    let row = browser.value("document.querySelector('#services tr').innerText").await;
    assert_eq!(row, "web\t1 passing");
    consul.set(&stage::health("web"), 11, &json!([]));
    fill(&consul, 11, "new", "10.0.0.2");
    stage::list(&consul, 11, &["web", "new"]);
    browser.until_text("#count", "2 of 2 services").await;
}

/// What is not in memory is unknown, and of many only a part is in the page.
#[tokio::test]
async fn many_services_are_shown_in_part_and_unknown_ones_as_unknown() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Server::start(Config::default(), Origin::Fixed(many()));
    server.ready().await;
    browser.open(&url(&server), 1100, "light").await;
    let count = "10,000 of 10,000 services; the first 500 are shown";
    browser.until_text("#count", count).await;
    assert_eq!(browser.value("document.querySelectorAll('#services tr').length").await, 500);
    browser.fill("#filter", "s-0042").await;
    browser.until_text("#count", "1 of 10,000 services").await;
    browser.until_text("#services", "unknown: not in memory").await;
    browser.fill("#filter", "s-9999").await;
    browser.until_text("#services", "no instances").await;
    browser.fill("#filter", "s-5000").await;
    browser.until_text("#services", "1 of unknown status").await;
    browser.fill("#filter", "").await;
    browser.until_text("#count", count).await;
    assert_eq!(browser.complaints().await, json!([]));
}

/// 10,000 services, of which two have instances in memory, and one of these has none.
fn many() -> Vec<Change> {
    let datacenter = "dc1".to_owned();
    let node = Node::new("n1".to_owned(), Address::Ip([10, 0, 0, 1].into()));
    let instance = Instance {
        id: "s".to_owned(),
        node: node.clone(),
        address: None,
        port: 80,
        ports: Vec::new(),
        tagged: None,
        tags: Vec::new(),
        weights: Weights::default(),
        health: Health::Unknown,
        worst: None,
    };
    let service = |name: &str, instances| Change::Service {
        datacenter: datacenter.clone(),
        form: Form::Service,
        service: name.to_owned(),
        instances,
        held: Held::Watched,
        executed: None,
    };
    let listing = (0..10_000).map(|at| (format!("s-{at:04}"), Vec::new())).collect();
    vec![
        Change::Datacenters { local: datacenter.clone(), names: vec![datacenter.clone()] },
        Change::Nodes { datacenter: datacenter.clone(), nodes: vec![node] },
        Change::Services { datacenter: datacenter.clone(), listing },
        service("s-5000", vec![instance]),
        service("s-9999", Vec::new()),
    ]
}
