//! Metrics, alerts and dashboard as a real Prometheus sees them.
//!
//! It scrapes with the configuration of the README, and judges what is in `config/prometheus` and
//! `config/grafana`: names, expressions, and when an alert fires.

mod dashboard;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::file;
use serde_json::{Value, json};

use crate::support::consul::Consul;
use crate::support::dns::addresses;
use crate::support::metrics::scrape;
use crate::support::prometheus::{PATIENCE, Prometheus, promtool};
use crate::support::server::Server;
use crate::support::stage;
use crate::support::wait::poll;

const README: &str = include_str!("../../README.md");

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_what_a_catalogue_file_gives() {
    let catalog = file::parse(file::DEMO).unwrap();
    let server = Server::start(Config::default(), Origin::Fixed(catalog.changes()));
    server.ready().await;
    hold_names_against_promtool(&server).await;
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_what_a_consul_gives() {
    let Some((_consul, server)) = serve_consul().await else { return };
    hold_names_against_promtool(&server).await;
}

async fn hold_names_against_promtool(server: &Server) {
    let metrics = scrape(server).await;
    assert!(metrics.contains("\nfingerpost_service_health{"), "{metrics}");
    let Some(said) = promtool(&folder(), &["check", "metrics"], &metrics) else { return };
    assert_eq!(said, (true, String::new()));
    // It is strict: a counter that does not say so is found.
    let (is_content, _) =
        promtool(&folder(), &["check", "metrics"], "# TYPE fingerpost_x counter\nfingerpost_x 1\n")
            .unwrap();
    assert!(!is_content);
}

#[test]
fn promtool_accepts_the_alerts_and_each_fires_when_it_should() {
    for what in [["check", "rules", RULES], ["test", "rules", TESTS]] {
        let Some((is_content, said)) = promtool(&folder(), &what, "") else { return };
        assert!(is_content, "{said}");
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[tokio::test]
async fn a_prometheus_scrapes_as_the_readme_says_and_no_alert_stirs() {
    let Some((_consul, server)) = serve_consul().await else { return };
    let Some(prometheus) = scrape_as_the_readme_says(&server).await else { return };
    let up = prometheus.query("up{job=\"fingerpost\"}").await.unwrap();
    assert_eq!(up[0]["value"][1], "1");
    assert_eq!(up[0]["metric"]["instance"], server.admin().to_string());
    let health = prometheus.query("fingerpost_service_health{exported_instance=\"n1/web\"}").await;
    assert_eq!(health.unwrap()[0]["value"][1], "1", "the label that would be the server's");

    // Before the first scrape one stirs, since there is nothing to scrape.
    let quiet = poll(PATIENCE, async || {
        let alerts = prometheus.alerts().await;
        let is_quiet = |alert: &Value| alert["health"] == "ok" && alert["state"] == "inactive";
        alerts.iter().all(is_quiet).then_some(alerts)
    });
    let Some(alerts) = quiet.await else { panic!("{:?}", prometheus.alerts().await) };
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert["name"].as_str().unwrap().to_owned();
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("critical" | "warning")));
        for text in ["summary", "description"] {
            let text = alert["annotations"][text].as_str().unwrap_or_default();
            assert!(text.ends_with('.') && text.len() > 20, "{name}: {text:?} is no sentence");
        }
        names.insert(name);
    }
    let text = std::fs::read_to_string(folder().join(TESTS)).unwrap();
    assert_eq!(names, tested_alerts(&text), "each alert is tested under its own name");
}

#[tokio::test]
async fn a_server_that_was_never_told_a_catalogue_is_noticed() {
    let mut config = Config::default();
    // Nobody listens there.
    config.consul.addresses = vec![ConsulAddress::Http("http://127.0.0.1:9".to_owned())];
    let server = stage::start(config);
    let Some(prometheus) = scrape_as_the_readme_says(&server).await else { return };
    let noticed = poll(PATIENCE, async || {
        let alerts = prometheus.alerts().await.into_iter();
        let stirring = alerts.filter(|alert| alert["state"] != "inactive");
        let names = stirring.map(|alert| alert["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>() == ["FingerpostNoCatalogue"]).then_some(())
    });
    assert!(noticed.await.is_some(), "{:?}", prometheus.alerts().await);
}

/// The alerts of which the tests show both that they fire and that they do not.
fn tested_alerts(text: &str) -> BTreeSet<String> {
    let groups = text.split("\n  - name: ").skip(1);
    let tested = groups.filter_map(|group| {
        let (name, steps) = group.split_once('\n')?;
        let fires = format!("- labels: '{{alertname=\"{name}\"}}'\n            value: 1");
        assert!(steps.contains(&fires), "{name}: no step shows it alone");
        assert!(steps.contains("exp_samples: []"), "{name}: no step is quiet");
        Some(name.to_owned())
    });
    tested.collect()
}

#[tokio::test]
async fn what_alerts_and_panels_name_is_there() {
    let Some((_consul, server)) = serve_consul().await else { return };
    let Some(prometheus) = scrape_as_the_readme_says(&server).await else { return };
    let alerts = prometheus.alerts().await.into_iter().map(|alert| {
        let text = alert["annotations"].to_string();
        (alert["query"].as_str().unwrap().to_owned(), text)
    });
    let (alerts, panels) = (alerts.collect::<Vec<_>>(), dashboard::expressions());
    assert!(alerts.len() > 20 && panels.len() > 30, "{} {}", alerts.len(), panels.len());
    for (expression, text) in alerts.iter().chain(&panels) {
        let answer = prometheus.query(expression).await;
        answer.unwrap_or_else(|error| panic!("{expression}: {error}"));
        let selectors = selectors(expression);
        assert!(!selectors.is_empty() || expression.contains("up{"), "{expression}: names nothing");
        for selector in selectors {
            let series = poll(PATIENCE, async || {
                prometheus.series(&selector).await.unwrap().into_iter().next()
            });
            let Some(series) = series.await else { panic!("nothing is selected by {selector}") };
            for label in labels(text) {
                assert!(series[label].is_string(), "{selector} has no {label}, says {text}");
                assert!(keeps(expression, label), "{expression} drops {label}, says {text}");
            }
        }
    }
}

/// The labels that a legend or an annotation shows.
fn labels(text: &str) -> Vec<&str> {
    let shown = text.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()));
    let labels = shown.filter(|shown| !shown.starts_with("$value"));
    labels.map(|label| label.trim_start_matches("$labels.")).collect()
}

/// Whether the result of an expression can have `label`: each sum in it is by it.
fn keeps(expression: &str, label: &str) -> bool {
    let sums_all = ["sum(", "count(", "max(", "min("].iter().any(|sum| expression.contains(sum));
    let mut kept = expression.split(" by (").skip(1).map(|rest| rest.split_once(')').unwrap().0);
    !sums_all && kept.all(|kept| kept.split(", ").any(|kept| kept == label))
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let expression = "sum(rate(fingerpost_a_total{x=~\"b|c\"}[5m])) / fingerpost_d > 0";
    assert_eq!(selectors(expression), ["fingerpost_a_total{x=~\"b|c\"}", "fingerpost_d"]);
    assert!(!keeps(expression, "x"));
    assert!(keeps("sum by (x, y) (fingerpost_a)", "x"));
    assert!(!keeps("max by (x) (sum by (y) (fingerpost_a))", "x"));
    assert_eq!(labels("{{dc}}, {{ $labels.x }}: {{ $value | humanize }}"), ["dc", "x"]);
}

/// The selectors of our series in an expression, each with its matchers.
fn selectors(expression: &str) -> Vec<String> {
    let found = expression.match_indices("fingerpost_").map(|(at, _)| {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        let has_matchers = rest[end..].starts_with('{');
        let end = if has_matchers { rest.find('}').unwrap() + 1 } else { end };
        rest[..end].to_owned()
    });
    found.collect()
}

/// A server beside a real Consul with a service, which was asked for; it has a recursor.
///
/// `None` when this machine has no Consul.
async fn serve_consul() -> Option<(Consul, Server)> {
    let consul = Consul::start().await?;
    let service = json!({ "Service": "web", "Port": 80 });
    consul.register(json!({ "Node": "n1", "Address": "10.0.0.1", "Service": service })).await;
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    config.recursion.recursors = vec!["127.0.0.1:9".parse().unwrap()];
    let server = stage::serve(config).await;
    assert_eq!(addresses(server.dns(), "web.service.consul").await, ["10.0.0.1"]);
    Some((consul, server))
}

/// A Prometheus with the configuration of the README, which has scraped `server` once.
async fn scrape_as_the_readme_says(server: &Server) -> Option<Prometheus> {
    let (_, rest) = README.split_once("```yaml\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    assert_eq!(config.matches("127.0.0.1:8654").count(), 1, "{config}");
    let config = config.replace("127.0.0.1:8654", &server.admin().to_string());
    let prometheus = Prometheus::start(&config, &[&folder().join(RULES)]).await?;
    let scraped = poll(PATIENCE, async || {
        let up = prometheus.query("fingerpost_build_info and on (instance) up == 1").await.unwrap();
        (!up.is_empty()).then_some(())
    });
    assert!(scraped.await.is_some(), "it is not scraped:\n{}", prometheus.log());
    Some(prometheus)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus")
}

const RULES: &str = "fingerpost.rules.yml";
const TESTS: &str = "fingerpost.test.yml";
