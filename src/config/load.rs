//! All sources into one [`Config`], or every mistake in them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::Config;
use crate::config::ConsulAddress;
use crate::config::consul_env;
use crate::config::draft::Draft;
use crate::config::draft::Layer;
use crate::config::draft::Mistake;
use crate::config::draft::Remark;
use crate::config::env;
use crate::config::file;
use crate::config::flags;
use crate::config::flags::Flags;
use crate::config::key::Effect;
use crate::config::names;
use crate::config::reading;
use crate::config::together;
use crate::config::together::Standing;

/// Everything a configuration is made of. It may hold secrets, so it cannot be shown.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file's path, for messages, and its text. `None` is no file.
    pub file: Option<(PathBuf, String)>,
    /// The environment; what is not ours or Consul's is passed over.
    pub env: Vec<(String, String)>,
    /// The command line.
    pub flags: Flags,
}

/// A configuration, and what its writer should know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What to run on.
    pub config: Config,
    /// Keys that do nothing here, and variables that look like keys and are none.
    pub remarks: Vec<Remark>,
}

/// Why a configuration was refused: every mistake in it, one a line.
///
/// All are for the operator to mend; the process exits with status 78 (`EX_CONFIG`).
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{}", Lines(.mistakes))]
pub struct ConfigErrors {
    /// Never empty. The file's by line, then the environment's, then the command line's.
    pub mistakes: Vec<Mistake>,
}

impl Config {
    /// Reads all `sources`, fills in the defaults and checks every value.
    ///
    /// A value is checked even where a stronger source overrides it.
    ///
    /// # Errors
    ///
    /// Fails on text that is no TOML, an unknown key, a value of the wrong type or out of range,
    /// and on values that cannot stand together. The operator must mend them all.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigErrors> {
        settle(draft_of(&sources))
    }
}

/// What all `sources` say, key by key.
pub fn draft_of(sources: &Sources) -> Draft {
    let mut draft = Draft::default();
    if let Some((path, text)) = &sources.file {
        file::read(path, text, &mut draft);
    }
    consul_env::read(&sources.env, &mut draft);
    env::read(&sources.env, &mut draft);
    flags::read(&sources.flags, &mut draft);
    draft
}

/// Reads and checks every value of `draft`, and fills in the defaults.
///
/// # Errors
///
/// As [`Config::load`].
pub fn settle(mut draft: Draft) -> Result<Loaded, ConfigErrors> {
    let scheme = if draft.is_https { "https" } else { "http" };
    let mut config = Config::default();
    let mut broken = BTreeSet::new();
    for entry in &draft.entries {
        if entry.key.effect == Effect::Inert {
            draft.remarks.push(Remark {
                place: entry.written.place.clone(),
                key: entry.written.key.clone(),
                text: format!("means nothing here: {}", entry.key.meaning),
            });
        }
        if let Err(mistakes) = reading::put(entry.key, &entry.written, scheme, &mut config) {
            broken.insert(entry.key.name);
            draft.mistakes.extend(mistakes);
        }
    }

    let standing = Standing { entries: &draft.entries, broken };
    if !draft.is_file_broken {
        draft.mistakes.extend(together::check(&config, &standing));
        draft.mistakes.extend(names::check(&config, &standing));
        draft.remarks.extend(names::remarks(&config, &standing));
    }
    // Within one place the file wins, as its doc says; between places the stronger one.
    if standing.layer("consul.token") > standing.layer("consul.token_file") {
        config.consul.token_file = None;
    }
    if standing.layer("dns.cookie_secrets") > standing.layer("dns.cookie_secrets_file") {
        config.dns.cookie_secrets_file = None;
    }
    if draft.is_https && standing.layer("consul.addresses") == Layer::Default {
        config.consul.addresses = vec![ConsulAddress::Http("https://127.0.0.1:8500".to_owned())];
    }

    if draft.mistakes.is_empty() {
        draft.remarks.sort_by(|a, b| a.place.cmp(&b.place));
        return Ok(Loaded { config, remarks: draft.remarks });
    }
    draft.mistakes.sort_by(|a, b| a.place.cmp(&b.place));
    Err(ConfigErrors { mistakes: draft.mistakes })
}

struct Lines<'m>(&'m [Mistake]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Mistake::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use crate::config::trial::{load, said, sound};

    const EXAMPLE: &str = include_str!("../../config/example.toml");
    const MINIMAL: &str = include_str!("../../config/minimal.toml");

    /// The example with every key in force.
    fn example() -> String {
        let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
        let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if is_key(rest) => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn nothing_given_is_the_default() {
        let loaded = Config::load(Sources::default()).unwrap();
        assert_eq!(loaded, Loaded { config: Config::default(), remarks: Vec::new() });
        assert_eq!(loaded.config.dns.listen, ["127.0.0.1:8653".parse().unwrap()]);
        assert_eq!(loaded.config.admin.listen, "127.0.0.1:8654".parse().unwrap());
    }

    #[test]
    fn the_examples_are_the_default_and_cause_no_remark() {
        for text in [EXAMPLE, MINIMAL] {
            assert_eq!(said(text, ""), "ok");
            assert_eq!(sound(text, ""), Config::default());
        }
    }

    #[test]
    fn the_example_has_every_key_once_at_its_default_and_no_other() {
        let text = example();
        let loaded = load(&text, "").unwrap();
        assert_eq!(loaded.config, Config::default());

        let mut draft = Draft::default();
        file::read("example.toml".as_ref(), &text, &mut draft);
        assert_eq!(draft.mistakes, []);
        let mut found: Vec<_> = draft
            .entries
            .iter()
            .map(|entry| (entry.key.name, entry.written.text.as_str()))
            .collect();
        let mut expected: Vec<_> = keys::all().map(|key| (key.name, key.default)).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn who_names_a_consul_on_the_command_line_wants_no_catalogue_file() {
        let config = Config::load(Sources {
            file: Some(("f.toml".into(), "[catalog]\nfile = \"f.json\"\n".to_owned())),
            env: vec![("FINGERPOST_CATALOG_FILE".to_owned(), "e.json".to_owned())],
            flags: Flags { consul: vec!["flag:1".to_owned()], ..Flags::default() },
        })
        .unwrap()
        .config;
        assert_eq!(config.catalog_file, None);
    }

    #[test]
    fn a_flag_wins_over_a_variable_over_consuls_over_the_file() {
        let file = "[dns]\nlisten = \"127.0.0.1:1\"\nworkers = 1\n\
                    [admin]\nlisten = \"127.0.0.1:2\"\n\
                    [consul]\naddresses = \"file:1\"\npartition = \"file\"\nnamespace = \"file\"\n\
                    ca_file = \"file\"\n[catalog]\nfile = \"file\"\n";
        let env = [
            ("FINGERPOST_DNS_LISTEN", "127.0.0.1:3"),
            ("FINGERPOST_DNS_WORKERS", "2"),
            ("FINGERPOST_CONSUL_PARTITION", "ours"),
            ("CONSUL_PARTITION", "consuls"),
            ("CONSUL_NAMESPACE", "consuls"),
            ("CONSUL_HTTP_ADDR", "env:1"),
        ];
        let flags = Flags {
            dns: vec!["127.0.0.1:4".to_owned(), "[::1]:4".to_owned()],
            admin: Some("127.0.0.1:5".to_owned()),
            consul: vec!["flag:1".to_owned(), "unix:///c".to_owned()],
            catalog: Some("flag".into()),
            snapshot: Some("flag".into()),
        };
        let config = Config::load(Sources {
            file: Some(("f.toml".into(), file.to_owned())),
            env: env.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec(),
            flags,
        })
        .unwrap()
        .config;
        assert_eq!(config.dns.listen, ["127.0.0.1:4", "[::1]:4"].map(|a| a.parse().unwrap()));
        assert_eq!(config.dns.workers, 2);
        assert_eq!(config.admin.listen, "127.0.0.1:5".parse().unwrap());
        assert_eq!(
            format!("{:?}", config.consul.addresses),
            r#"[Http("http://flag:1"), Unix("/c")]"#,
        );
        assert_eq!(config.consul.partition, Some("ours".to_owned()));
        assert_eq!(config.consul.namespace, Some("consuls".to_owned()));
        assert_eq!(config.consul.ca_file, Some("file".into()));
        assert_eq!(config.catalog_file, Some("flag".into()));
        assert_eq!(config.snapshot.path, Some("flag".into()));
    }

    #[test]
    fn a_token_wins_over_a_token_file_of_a_weaker_place() {
        let file = "consul.token_file = \"/t\"";
        for (file, env, expected) in [
            (file, "", "file"),
            ("consul.token_file = \"/t\"\nconsul.token = \"x\"", "", "file"),
            (file, "CONSUL_HTTP_TOKEN=x", "token"),
            ("", "CONSUL_HTTP_TOKEN=x\nCONSUL_HTTP_TOKEN_FILE=/t", "file"),
            ("", "FINGERPOST_CONSUL_TOKEN=x\nCONSUL_HTTP_TOKEN_FILE=/t", "token"),
        ] {
            let consul = sound(file, env).consul;
            let got = if consul.token_file.is_some() { "file" } else { "token" };
            assert_eq!(got, expected, "{file} {env}");
        }
    }

    #[test]
    fn mistakes_of_all_places_are_told_in_one_run() {
        let errors = Config::load(Sources {
            file: Some(("f.toml".into(), "[dns]\nworkers = 999\n".to_owned())),
            env: vec![("FINGERPOST_DNS_WORKERS".to_owned(), "x".to_owned())],
            flags: Flags {
                dns: vec!["127.0.0.1:53".to_owned(), "here".to_owned()],
                admin: Some(String::new()),
                consul: vec!["http://u:s3cret@c".to_owned()],
                catalog: Some(PathBuf::new()),
                ..Flags::default()
            },
        })
        .unwrap_err();
        assert_eq!(
            errors.to_string(),
            "f.toml:2: dns.workers = 999: must be a whole number from 0 to 256\n\
             environment: FINGERPOST_DNS_WORKERS = x: must be a whole number from 0 to 256\n\
             command line: --dns = here: must be an IP address and a port such as 127.0.0.1:53 \
             or [::1]:53, one or several\n\
             command line: --admin = : must be an IP address and a port such as 127.0.0.1:53 \
             or [::1]:53\n\
             command line: --consul = (hidden): must be host:port, http://host:port, \
             https://host:port or unix:///path, one or several\n\
             command line: --catalog = : must be a path",
        );
        // A file that is no TOML hides nothing of the rest.
        assert_eq!(
            said("[dns", "FINGERPOST_DNS_WORKERS=x\nCONSUL_CLIENT_KEY=k"),
            "f.toml:1: not valid TOML: unclosed table, expected `]`\n\
             environment: FINGERPOST_DNS_WORKERS = x: must be a whole number from 0 to 256",
        );
    }
}
