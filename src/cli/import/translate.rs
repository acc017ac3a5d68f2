//! From the keys of a Consul agent to ours: what is about names and answers.
//!
//! What is about the agent itself, which is to be asked, is in `agent`; what means nothing here, in
//! `known`.

use serde_json::{Map, Value, json};

use crate::cli::import::agent::Agent;
use crate::cli::import::known;
use crate::cli::import::page::Fate;
use crate::cli::import::page::Page;
use crate::config::key::Effect;
use crate::config::keys;
use crate::config::{Config, Flags, Sources};
use crate::nearest::nearest;

/// Says what becomes of everything in `root`.
pub fn translate(root: &Map<String, Value>) -> Page {
    let mut page = Page::default();
    let agent = Agent::new(root);
    for (key, value) in root {
        match &**key {
            "domain" => page.take("domain", key, value),
            "alt_domain" => page.take("alt_domain", key, value),
            "translate_wan_addrs" => page.take("translate_wan_addrs", key, value),
            "datacenter" => page.take("consul.datacenter", key, value),
            "partition" => page.take("consul.partition", key, value),
            "node_name" => {
                page.translate("dns.identity", value, key, "it is what `id.server` says here");
            }
            "recursors" => recursors(&mut page, value),
            "dns_config" => answers(&mut page, "dns_config.", value),
            "log_level" => log_level(&mut page, value),
            "log_json" => log_json(&mut page, value),
            _ => others(&mut page, "", key, value),
        }
    }
    agent.translate(&mut page);
    page
}

/// `[dns_config]` is spelled alike, and all its keys are ours.
fn answers(page: &mut Page, section: &str, value: &Value) {
    let Value::Object(table) = value else {
        return page.note(section.trim_end_matches('.'), Fate::ByHand, NO_TABLE);
    };
    for (key, value) in table {
        let name = format!("{section}{key}");
        match keys::find(&name) {
            Some(key) if key.effect == Effect::Inert => {
                page.note(&name, Fate::Nothing, key.meaning);
            }
            Some(key) => page.take(key.name, &name, value),
            None if name == "dns_config.soa" => answers(page, "dns_config.soa.", value),
            None => unknown(page, &name),
        }
    }
}

/// Those that are addresses; what else Consul takes is only known where it runs.
fn recursors(page: &mut Page, value: &Value) {
    let Value::Array(items) = value else {
        return page.note(RECURSORS, Fate::ByHand, "it must be a list");
    };
    let (taken, left): (Vec<&Value>, Vec<&Value>) =
        items.iter().partition(|item| is_recursor(item));
    if !taken.is_empty() || left.is_empty() {
        page.take(RECURSORS, RECURSORS, &json!(taken));
    }
    if left.iter().any(|item| is_template(item)) {
        page.note(RECURSORS, Fate::ByHand, TEMPLATE);
    }
    if left.iter().any(|item| !is_template(item)) {
        let text = "what is no IP address, with or without a port, is left out";
        page.note(RECURSORS, Fate::ByHand, text);
    }
}

fn is_recursor(item: &Value) -> bool {
    // JSON's text in quotes is TOML's.
    let file = Some(("import".into(), format!("recursors = {item}")));
    let is_sound = Config::load(Sources { file, env: Vec::new(), flags: Flags::default() }).is_ok();
    item.is_string() && is_sound
}

fn log_level(page: &mut Page, value: &Value) {
    let level = value.as_str().map(str::to_lowercase);
    let level = level.map(|level| if level == "err" { "error".to_owned() } else { level });
    match level.as_deref() {
        Some(level @ ("trace" | "debug" | "info" | "warn" | "error")) => {
            page.translate("log.level", &json!(level), "log_level", "");
        }
        _ => page.note("log_level", Fate::ByHand, "it is none of Consul's levels"),
    }
}

fn log_json(page: &mut Page, value: &Value) {
    match value {
        Value::Bool(is_json) => {
            let format = if *is_json { "json" } else { "text" };
            page.translate("log.format", &json!(format), "log_json", "");
        }
        _ => page.note("log_json", Fate::ByHand, "it must be true or false"),
    }
}

/// What is in no table of ours: known to mean nothing, the agent's, or nobody's.
fn others(page: &mut Page, parent: &str, key: &str, value: &Value) {
    let name = format!("{parent}{key}");
    if Agent::has(&name) {
        return;
    }
    if let Some(reason) = known::reason(&name) {
        return page.note(&name, Fate::Nothing, reason);
    }
    let section = format!("{name}.");
    match value {
        _ if !Agent::has_in(&section) => unknown(page, &name),
        Value::Object(table) => {
            table.iter().for_each(|(key, value)| others(page, &section, key, value));
        }
        _ => page.note(&name, Fate::ByHand, NO_TABLE),
    }
}

fn unknown(page: &mut Page, name: &str) {
    let ours = keys::all().map(|key| key.name).filter(|key| key.starts_with("dns_config."));
    let names = known::names().chain(Agent::names()).chain(OWN).chain(ours);
    match nearest(name, names) {
        Some(near) => {
            let text = format!("no key of a Consul agent; did you mean {near}?");
            page.note(name, Fate::Unknown, &text);
        }
        None => page.note(name, Fate::Unknown, "no key of a Consul agent"),
    }
}

/// Whether it is a template of go-sockaddr, which only the agent's machine can evaluate.
pub fn is_template(item: &Value) -> bool {
    item.as_str().is_some_and(|text| text.contains("{{"))
}

/// What is to be done about one.
pub const TEMPLATE: &str = "a template such as {{ GetPrivateIP }} is evaluated by Consul alone: write \
                            the address that it stands for";

const NO_TABLE: &str = "it must be one table";

const RECURSORS: &str = "recursors";

/// The keys that are dealt with here.
const OWN: [&str; 10] = [
    "alt_domain",
    "datacenter",
    "dns_config",
    "domain",
    "log_json",
    "log_level",
    "node_name",
    "partition",
    RECURSORS,
    "translate_wan_addrs",
];
