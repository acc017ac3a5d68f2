//! What of a new configuration can be used without a restart.
//!
//! ```text
//!   old sources --\              keys in LIVE    from the new ones
//!                  >-- merged -- all others      from the old ones, and named where they differ
//!   new sources --/
//! ```
//! The new configuration is checked whole first: one with a mistake changes nothing.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::config::draft::{Draft, Entry, Remark};
use crate::config::load::{ConfigErrors, Sources, draft_of, settle};
use crate::config::reading;

/// What comes of a new configuration.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// What to go on with.
    pub config: Config,
    /// The keys whose values are others now.
    pub changed: Vec<&'static str>,
    /// Those whose values wait for a restart.
    pub waiting: Vec<&'static str>,
    /// What deserves a word in the new one.
    pub remarks: Vec<Remark>,
}

/// Takes of `new` what can be used at once in a program that runs on `old`.
///
/// # Errors
///
/// Fails where the new configuration has a mistake, or where what can be used of it does not stand
/// together with what waits for a restart.
pub fn renew(old: &Sources, new: &Sources) -> Result<Renewed, ConfigErrors> {
    let remarks = settle(draft_of(new))?.remarks;
    let (before, after) = (draft_of(old), draft_of(new));
    let is_https = before.is_https;
    let (old_values, new_values) = (effective(&before), effective(&after));
    let mut names: Vec<&'static str> =
        old_values.keys().chain(new_values.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let differs = |name: &&str| {
        let value = |entries: &BTreeMap<&str, &Entry>| {
            let mut config = Config::default();
            let scheme = if is_https { "https" } else { "http" };
            if let Some(entry) = entries.get(*name) {
                reading::put(entry.key, &entry.written, scheme, &mut config).ok();
            }
            config
        };
        value(&old_values) != value(&new_values)
    };
    let (changed, waiting): (Vec<&'static str>, Vec<&'static str>) =
        names.into_iter().filter(differs).partition(|name| is_live(name));

    let (Draft { entries: old, .. }, Draft { entries: new, .. }) = (before, after);
    let kept = old.into_iter().filter(|entry| !is_live(entry.key.name));
    let taken = new.into_iter().filter(|entry| is_live(entry.key.name));
    let mut entries: Vec<Entry> = kept.chain(taken).collect();
    entries.sort_by_key(|entry| entry.layer);
    let merged = Draft { entries, is_https, ..Draft::default() };
    Ok(Renewed { config: settle(merged)?.config, changed, waiting, remarks })
}

/// The value of each key that counts: the last.
fn effective(draft: &Draft) -> BTreeMap<&'static str, &Entry> {
    draft.entries.iter().map(|entry| (entry.key.name, entry)).collect()
}

/// Whether a new value of this key is used at once.
pub fn is_live(name: &str) -> bool {
    let is_of =
        |section: &str| name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    LIVE.contains(&name) || is_of("dns_config") && !WAITING.contains(&name)
}

/// Beside those of `dns_config`.
pub const LIVE: [&str; 19] = [
    "admin.hosts",
    "dns.advertise",
    "dns.any",
    "dns.chaos",
    "dns.client_subnet",
    "dns.cookie_secrets",
    "dns.cookie_secrets_file",
    "dns.cookies",
    "dns.identity",
    "dns.name_servers",
    "dns.nsid",
    "dns.reverse_zones",
    "dns.why",
    "log.level",
    "log.queries",
    "log.queries_per_second",
    "log.queries_sample",
    "recursion.allow",
    "translate_wan_addrs",
];

/// Of `dns_config`: the recursors are asked by one that was told them at its start.
const WAITING: [&str; 2] = ["dns_config.recursor_strategy", "dns_config.recursor_timeout"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    fn sources(text: &str) -> Sources {
        Sources { file: Some(("f.toml".into(), text.to_owned())), ..Sources::default() }
    }

    /// What changes and what waits.
    fn renewed(old: &str, new: &str) -> String {
        match renew(&sources(old), &sources(new)) {
            Ok(Renewed { changed, waiting, .. }) => {
                format!("{} / {}", changed.join(" "), waiting.join(" "))
            }
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn each_live_key_is_one() {
        for name in LIVE.iter().chain(&WAITING) {
            assert!(keys::all().any(|key| key.name == *name), "{name}");
        }
    }

    #[test]
    fn what_changes_and_what_waits() {
        for (old, new, expected) in [
            ("", "", " / "),
            ("", "[dns_config]\nnode_ttl = '0s'", " / "),
            ("[dns_config]\nnode_ttl = '1m'", "[dns_config]\nnode_ttl = '60s'", " / "),
            ("", "[dns_config]\nnode_ttl = '5s'", "dns_config.node_ttl / "),
            ("[dns]\nany = 'minimal'", "", "dns.any / "),
            ("", "[dns]\nworkers = 2\nchaos = false", "dns.chaos / dns.workers"),
            (
                "[dns_config.service_ttl]\nweb = '5s'",
                "[dns_config.service_ttl]\nweb = '6s'",
                "dns_config.service_ttl / ",
            ),
            ("", "recursors = ['10.0.0.2']", " / recursors"),
            ("[consul]\ntoken = 'a'", "[consul]\ntoken = 'b'", " / consul.token"),
            ("", "[dns]\nany = 'no'", "f.toml:2: dns.any = 'no': must be one of all, minimal"),
        ] {
            assert_eq!(renewed(old, new), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn what_waits_is_as_it_was() {
        let old = sources("[dns]\nworkers = 1");
        let new = sources("[dns]\nworkers = 2\nchaos = false");
        let config = renew(&old, &new).unwrap().config;
        assert_eq!((config.dns.workers, config.dns.chaos), (1, false));
    }

    /// A flag wins over the file, before and after.
    #[test]
    fn what_is_stronger_stays_stronger() {
        let mut old = sources("[dns]\nany = 'all'");
        old.env.push(("FINGERPOST_DNS_ANY".to_owned(), "minimal".to_owned()));
        let new = Sources { file: Some(("f.toml".into(), String::new())), ..old.clone() };
        assert!(renew(&old, &new).unwrap().changed.is_empty());
    }
}
