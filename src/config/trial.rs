//! What the tests of this folder share: sources from strings, results as text.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::ConfigErrors;
use crate::config::Flags;
use crate::config::Loaded;
use crate::config::Sources;

/// Loads a file called `f.toml` that holds `text`, with `env` as `NAME=value` words a line each.
pub fn load(text: &str, env: &str) -> Result<Loaded, ConfigErrors> {
    let env = env
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let file = Some((PathBuf::from("f.toml"), text.to_owned()));
    Config::load(Sources { file, env, flags: Flags::default() })
}

/// The configuration of a file and an environment that must be sound.
#[track_caller]
pub fn sound(text: &str, env: &str) -> Config {
    load(text, env).unwrap().config
}

/// `ok`, or what the one mistake says of a file of the line `text`.
#[track_caller]
pub fn check_line(text: &str, expected: &str) {
    let said = said(text, "");
    let got = said.strip_prefix("f.toml:1: ").unwrap_or(&said);
    assert_eq!(got, expected, "line: {text}");
}

/// Everything that is said of a file and an environment, a line each; `ok` for nothing.
pub fn said(text: &str, env: &str) -> String {
    match load(text, env) {
        Ok(loaded) if loaded.remarks.is_empty() => "ok".to_owned(),
        Ok(loaded) => {
            let lines: Vec<String> = loaded.remarks.iter().map(ToString::to_string).collect();
            lines.join("\n")
        }
        Err(errors) => errors.to_string(),
    }
}
