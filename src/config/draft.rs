//! What people wrote, key by key, each with the place it came from; nothing is read yet.
//!
//! Each source adds its entries to one [`Draft`], the weakest first. A source knows where a value
//! stands and how it is spelled; what it must be is the key's to say.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::key::Key;

/// What all sources gave.
#[derive(Default)]
pub struct Draft {
    /// In order of rising precedence, so that the last of a key wins.
    pub entries: Vec<Entry>,
    /// What was wrong before any value was read: syntax, unknown keys.
    pub mistakes: Vec<Mistake>,
    /// What deserves a word and is no mistake.
    pub remarks: Vec<Remark>,
    /// The file is no TOML, so that nothing is known of its keys.
    pub is_file_broken: bool,
    /// `CONSUL_HTTP_SSL`: a Consul address without a scheme is `https`.
    pub is_https: bool,
}

/// One value, the key it is for, and how strong it is.
pub struct Entry {
    /// A key of the table.
    pub key: &'static Key,
    /// Who gave it.
    pub layer: Layer,
    /// The value as it stands there.
    pub written: Written,
}

/// Who gave a value; the greater wins.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Layer {
    /// Nobody.
    Default,
    /// The configuration file.
    File,
    /// A variable of Consul's own.
    ConsulVariable,
    /// A `FINGERPOST_` variable.
    Variable,
    /// The command line.
    Flag,
}

/// A value as it was written.
#[derive(Clone)]
pub struct Written {
    /// The key as spelled there: `dns.workers`, `FINGERPOST_DNS_WORKERS` or `--dns`.
    pub key: String,
    /// Where it stands.
    pub place: Place,
    /// The value as spelled there.
    pub text: String,
    /// The value by its type.
    pub value: Value,
}

/// A value by its type.
#[derive(Clone)]
pub enum Value {
    /// Each with its own line.
    Array(Vec<Written>),
    /// `true` or `false`.
    Boolean(bool),
    /// Text from a variable or a flag: the key knows what type it should be.
    Loose,
    /// A path that need not be UTF-8.
    Path(PathBuf),
    /// A type that no key takes: a float, a date, a number beyond all bounds.
    Strange,
    /// The entries by name, in order of the names.
    Table(Vec<(String, Written)>),
    /// A string.
    Text(String),
    /// A whole number.
    Whole(i128),
}

impl Written {
    /// The text of a variable or a flag.
    pub fn loose(place: Place, key: &str, text: &str) -> Self {
        Self { key: key.to_owned(), place, text: text.to_owned(), value: Value::Loose }
    }

    /// The mistake that this value is for `key`, breaking `rule`.
    pub fn mistake(&self, key: &Key, rule: String) -> Mistake {
        let text = if key.is_hidden(&self.text) { "(hidden)" } else { &self.text };
        Mistake {
            place: self.place.clone(),
            key: self.key.clone(),
            value: Some(one_line(text)),
            rule,
        }
    }
}

/// Where something was written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// A line of the configuration file, counted from 1.
    File {
        /// The file as it was named to us.
        path: Arc<Path>,
        /// Counted from 1.
        line: usize,
    },
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One thing wrong with a configuration. Its text never holds a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// The key as written there; empty where the file is no TOML.
    pub key: String,
    /// The value as written, on one line; `None` where the key alone is wrong.
    pub value: Option<String>,
    /// What is allowed, as in `must be true or false`.
    pub rule: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match &self.value {
            Some(value) => write!(f, "{} = {value}: {}", self.key, self.rule),
            None if self.key.is_empty() => f.write_str(&self.rule),
            None => write!(f, "{}: {}", self.key, self.rule),
        }
    }
}

/// Something accepted that does not do what its writer may think.
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// Where it stands.
    pub place: Place,
    /// The key as written there.
    pub key: String,
    /// What becomes of it, and why.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.key, self.text)
    }
}

/// `text` without line breaks and control characters, cut at [`SHOWN_MAX`].
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(SHOWN_MAX).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Characters of a value that a message shows: a line of a terminal.
const SHOWN_MAX: usize = 80;
