//! The dashboard: what Grafana needs of it, and what a reader does.
//!
//! Grafana itself is not asked: it mends most of what it reads in silence, so a mistake is seen by
//! whoever opens the dashboard. Its expressions are judged beside those of the alerts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../config/grafana/fingerpost.json");

/// The expressions of all panels and variables, each with the text that names its labels.
///
/// Something stands in the place of the variables.
pub fn expressions() -> Vec<(String, String)> {
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut expressions: Vec<(&str, String)> = targets
        .map(|target| (text(&target["expr"]), text(&target["legendFormat"]).to_owned()))
        .collect();
    let dashboard = dashboard();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"]["query"].as_str().unwrap_or_default();
        let arguments = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        expressions.extend(arguments.map(|arguments| {
            let (selector, label) = arguments.rsplit_once(", ").unwrap();
            (selector, format!("{{{{{label}}}}}"))
        }));
    }
    let replaced = expressions.into_iter().map(|(expression, labels)| {
        let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        (expression.replace("$dc", ".*"), labels)
    });
    replaced.inspect(|(expression, _)| assert!(!expression.contains('$'), "{expression}")).collect()
}

#[test]
fn each_panel_says_what_it_shows_and_in_which_unit() {
    for panel in panels() {
        let title = text(&panel["title"]);
        assert!(text(&panel["description"]).ends_with('.'), "{title}: a sentence says what it is");
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        assert!(UNITS.contains(&unit), "{title}: {unit}");
        let targets = panel["targets"].as_array().unwrap();
        let refs: BTreeSet<&str> = targets.iter().map(|target| text(&target["refId"])).collect();
        assert_eq!(refs.len(), targets.len(), "{title}: each query has a letter of its own");
        for of in targets.iter().chain([&panel]) {
            assert_eq!(of["datasource"]["type"], "prometheus", "{title}");
            assert_eq!(of["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn each_panel_has_a_place_and_an_id_of_its_own() {
    let dashboard = dashboard();
    let all = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = all.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), all.len());
    let mut taken = BTreeMap::new();
    for panel in all {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= COLUMNS, "{}", panel["title"]);
        for y in at("y")..at("y") + at("h") {
            for x in at("x")..at("x") + at("w") {
                let other = taken.insert((x, y), &panel["title"]);
                assert_eq!(other, None, "{} lies on it", panel["title"]);
            }
        }
    }
}

#[test]
fn the_reader_chooses_the_source_the_instances_and_the_datacenters() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= OF_GRAFANA_10);
    assert_eq!(dashboard["id"], Value::Null, "an id is given by the Grafana that imports it");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|variable| (text(&variable["name"]), text(&variable["type"])))
        .collect();
    assert_eq!(variables, [("datasource", "datasource"), ("instance", "query"), ("dc", "query")]);
    for panel in panels() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = text(&target["expr"]);
            let named = expression.matches("fingerpost_").count();
            let chosen = expression.matches("{instance=~\"$instance\"").count();
            assert_eq!(chosen, named, "{expression}: only what was chosen");
        }
    }
}

/// The panels that show something: rows are headings.
fn panels() -> Vec<Value> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").cloned().collect()
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Grafana's names of the units in use.
const UNITS: [&str; 7] = ["Bps", "bytes", "none", "ops", "percentunit", "reqps", "s"];

/// The width of the grid.
const COLUMNS: u64 = 24;

/// The version of dashboards that Grafana 10.0 writes.
const OF_GRAFANA_10: u64 = 38;
