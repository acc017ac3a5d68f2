//! What is printed: our own configuration, with a comment for each key of Consul's.
//!
//! ```text
//!   what a person must look at
//!   our keys, each below the keys that it comes from
//!   what means nothing here
//! ```
//! **Invariant:** no value is printed but as a value of ours, and what is printed is a configuration
//! without a mistake or a remark: what the rest of the program would refuse is left out, and said.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{Config, Flags, Sources, keys};

/// The page as far as it is written.
#[derive(Debug, Default)]
pub struct Page {
    settings: Vec<Setting>,
    notes: Vec<Note>,
}

/// One of our keys, with its value.
#[derive(Debug)]
struct Setting {
    /// One of the table of keys.
    name: &'static str,
    /// In TOML.
    value: String,
    note: Note,
}

/// What becomes of keys of Consul's.
#[derive(Debug)]
struct Note {
    /// One or several, with commas.
    of: String,
    fate: Fate,
    /// Why, or what to do; empty where there is nothing to say.
    text: String,
}

/// What becomes of a key of Consul's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// A person must do it.
    ByHand,
    /// It has no use here.
    Nothing,
    /// It is ours as it is.
    Taken,
    /// It is something of ours.
    Translated,
    /// It is no key of Consul's that is known here.
    Unknown,
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by hand",
            Self::Nothing => "means nothing here",
            Self::Taken => "taken",
            Self::Translated => "translated",
            Self::Unknown => "not understood",
        }
    }
}

impl Page {
    /// Puts `value` of the key `of` of Consul's as our key `name`, as it is.
    pub fn take(&mut self, name: &'static str, of: &str, value: &Value) {
        self.put(name, toml(value), of, Fate::Taken, "");
    }

    /// Puts a value that was made of the keys `of`; `text` says how.
    pub fn translate(&mut self, name: &'static str, value: &Value, of: &str, text: &str) {
        self.put(name, toml(value), of, Fate::Translated, text);
    }

    /// Says what becomes of the key `of`, of which nothing is printed.
    pub fn note(&mut self, of: &str, fate: Fate, text: &str) {
        self.notes.push(Note { of: of.to_owned(), fate, text: text.to_owned() });
    }

    fn put(&mut self, name: &'static str, value: String, of: &str, fate: Fate, text: &str) {
        let note = Note { of: of.to_owned(), fate, text: text.to_owned() };
        self.settings.push(Setting { name, value, note });
    }

    /// The text, made of `files`.
    pub fn render(mut self, files: &[PathBuf]) -> String {
        self.leave_out_mistakes();
        self.notes.sort_by(|a, b| a.of.cmp(&b.of));
        let mut text = "# Of a Consul agent's configuration, by `fingerpost import`:\n".to_owned();
        for file in files {
            text.push_str(&format!("#   {}\n", one_line(file)));
        }
        let (looked_at, rest): (Vec<&Note>, Vec<&Note>) =
            self.notes.iter().partition(|note| note.fate != Fate::Nothing);
        paragraph(&mut text, "To look at:", &looked_at);
        text.push_str(&self.settings());
        paragraph(&mut text, "Of no use here:", &rest);
        text
    }

    /// Our keys with their comments.
    fn settings(&self) -> String {
        let (mut text, mut last) = (String::new(), "");
        for key in keys::all() {
            let Some(setting) = self.settings.iter().find(|setting| setting.name == key.name)
            else {
                continue;
            };
            let (section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if text.is_empty() || section != last {
                text.push('\n');
            }
            if section != last {
                text.push_str(&format!("[{section}]\n"));
                last = section;
            }
            text.push_str(&format!("{}{name} = {}\n", line(&setting.note), setting.value));
        }
        text
    }

    /// Moves each setting that would be refused to the notes, with the reason.
    fn leave_out_mistakes(&mut self) {
        loop {
            let file = Some((PathBuf::from("import"), self.settings()));
            let sources = Sources { file, env: Vec::new(), flags: Flags::default() };
            let Err(errors) = Config::load(sources) else { return };
            let before = self.settings.len();
            for mistake in errors.mistakes {
                let is_of = |setting: &Setting| {
                    let rest = mistake.key.strip_prefix(setting.name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                let Some(at) = self.settings.iter().position(is_of) else { continue };
                let Setting { name, note, .. } = self.settings.remove(at);
                let what = if note.of == name { "" } else { &format!("{name} is ") };
                let text = format!("{what}left out: it {}", mistake.rule);
                self.note(&note.of, Fate::ByHand, &text);
            }
            // Invariant: a mistake is of a key that is written here, so there is one less each time.
            if self.settings.len() == before {
                return;
            }
        }
    }
}

fn paragraph(text: &mut String, title: &str, notes: &[&Note]) {
    if notes.is_empty() {
        return;
    }
    text.push_str(&format!("\n# {title}\n"));
    notes.iter().for_each(|note| text.push_str(&line(note)));
}

fn line(Note { of, fate, text }: &Note) -> String {
    let colon = if text.is_empty() { "" } else { ": " };
    let line: String = format!("# {of}: {}{colon}{text}", fate.as_str());
    let plain = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    plain.chain(['\n']).collect()
}

/// A path as it may stand in a comment.
fn one_line(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A value as TOML writes it; a number without a fraction is a whole one, as Consul reads it.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(table) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{} = {}", quoted(key), toml(value));
            format!("{{ {} }}", table.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        Value::String(text) => quoted(text),
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

/// A basic string (TOML 1.0), which has JSON's escapes for what must be escaped, and one more.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}

/// Up to here each whole number is a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_toml_reads_them() {
        for (value, expected) in [
            (json!("a\"\\\n\u{7f}\u{1}é"), r#""a\"\\\n\u007f\u0001é""#),
            (json!([1, 5.0, 1.5, true]), "[1, 5, 1.5, true]"),
            (json!({"*": "5s", "db*": "1s"}), r#"{ "*" = "5s", "db*" = "1s" }"#),
        ] {
            let text = toml(&value);
            assert_eq!(text, expected);
            text.parse::<toml::Value>().map(drop).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn what_would_be_refused_is_left_out_and_said() {
        let mut page = Page::default();
        page.take("domain", "domain", &json!("consul"));
        page.take("alt_domain", "alternative", &json!("dc.consul"));
        page.take("dns_config.recursor_timeout", "dns_config.recursor_timeout", &json!("1h"));
        page.take("dns_config.service_ttl", "dns_config.service_ttl", &json!({"a*b": "1s"}));
        page.translate("log.level", &json!("info"), "log_level", "");
        page.note("data\ndir", Fate::Nothing, "none");
        assert_eq!(
            page.render(&["a.hcl".into()]),
            "# Of a Consul agent's configuration, by `fingerpost import`:\n\
             #   a.hcl\n\
             \n\
             # To look at:\n\
             # alternative: by hand: alt_domain is left out: it must not be below domain, \
             which is consul: one of them would hide names of the other\n\
             # dns_config.recursor_timeout: by hand: left out: \
             it must be a duration such as \"1m30s\", from 10ms to 1m\n\
             # dns_config.service_ttl: by hand: left out: \
             it must be for a service, a prefix ending in *, or *\n\
             \n\
             # domain: taken\n\
             domain = \"consul\"\n\
             \n\
             [log]\n\
             # log_level: translated\n\
             level = \"info\"\n\
             \n\
             # Of no use here:\n\
             # data\u{fffd}dir: means nothing here: none\n",
        );
    }
}
