//! The file: TOML to entries of the draft, each with its line.
//!
//! Walks the whole document against the table of keys, so that one unknown key hides no other.
//! Text that is no TOML is one mistake, and nothing else is known of the file then.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::draft::Draft;
use crate::config::draft::Entry;
use crate::config::draft::Layer;
use crate::config::draft::Mistake;
use crate::config::draft::Place;
use crate::config::draft::Value;
use crate::config::draft::Written;
use crate::config::keys;
use crate::nearest::nearest;

/// Adds what `text`, the contents of the file at `path`, says to `draft`.
pub fn read(path: &Path, text: &str, draft: &mut Draft) {
    let source = Source { path: path.into(), text };
    match DeTable::parse(text) {
        Ok(table) => source.walk("", "", table.get_ref(), draft),
        Err(error) => {
            draft.is_file_broken = true;
            draft.mistakes.push(Mistake {
                place: source.place(&error.span().unwrap_or_default()),
                key: String::new(),
                value: None,
                // The message only: the error's own text quotes the line, which may hold a token.
                rule: format!("not valid TOML: {}", error.message().replace('\n', ", ")),
            });
        }
    }
}

struct Source<'t> {
    path: Arc<Path>,
    text: &'t str,
}

impl Source<'_> {
    /// `parent` is the section's name, `shown` the same as spelled in the file; both end in a
    /// dot unless they are empty.
    fn walk(&self, parent: &str, shown: &str, table: &DeTable<'_>, draft: &mut Draft) {
        for (key, value) in table {
            let name = format!("{parent}{}", key.get_ref());
            let spelled = format!("{shown}{}", self.slice(&key.span()));
            let section = format!("{name}.");

            if let Some(key) = keys::find(&name) {
                let written = self.written(&spelled, value);
                draft.entries.push(Entry { key, layer: Layer::File, written });
            } else if !keys::all().any(|key| key.name.starts_with(&section)) {
                draft.mistakes.push(self.unknown(&name, spelled, &key.span()));
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.walk(&section, &format!("{spelled}."), inner, draft);
            } else {
                draft.mistakes.push(Mistake {
                    place: self.place(&key.span()),
                    key: spelled,
                    value: None,
                    rule: format!("must be a section, written once as [{name}]"),
                });
            }
        }
    }

    /// The value is left out: it may be a secret under a misspelled name.
    fn unknown(&self, name: &str, spelled: String, span: &Range<usize>) -> Mistake {
        let known = keys::sections().chain(keys::all().map(|key| key.name));
        let rule = match nearest(name, known) {
            Some(near) => format!("unknown key; did you mean {near}?"),
            None => "unknown key".to_owned(),
        };
        Mistake { place: self.place(span), key: spelled, value: None, rule }
    }

    fn written(&self, spelled: &str, value: &Spanned<DeValue<'_>>) -> Written {
        Written {
            key: spelled.to_owned(),
            place: self.place(&value.span()),
            text: self.slice(&value.span()).to_owned(),
            value: self.value(spelled, value.get_ref()),
        }
    }

    fn value(&self, spelled: &str, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.written(spelled, item)).collect())
            }
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Whole(number),
                    Err(_) => Value::Strange,
                }
            }
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Table(table) => Value::Table(
                table
                    .iter()
                    .map(|(key, value)| {
                        let spelled = format!("{spelled}.{}", self.slice(&key.span()));
                        (key.get_ref().clone().into_owned(), self.written(&spelled, value))
                    })
                    .collect(),
            ),
            DeValue::Datetime(_) | DeValue::Float(_) => Value::Strange,
        }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Place::File { path: Arc::clone(&self.path), line }
    }

    fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::trial::said;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(said(text, ""), expected, "file:\n{text}");
    }

    #[test]
    fn a_key_that_nobody_knows_is_named_with_the_one_that_was_meant() {
        for (text, expected) in [
            ("[dns]\nworkesr = 1", "f.toml:2: dns.workesr: unknown key; did you mean dns.workers?"),
            ("workers = 1", "f.toml:1: workers: unknown key; did you mean dns.workers?"),
            ("[dms]\nworkers = 1", "f.toml:1: dms: unknown key; did you mean dns?"),
            ("\n[ports]\ndns = 8600", "f.toml:2: ports: unknown key"),
            ("[dns]\n'a b c d e' = 1", "f.toml:2: dns.'a b c d e': unknown key"),
            ("dns.zzzzzzz.y = 1", "f.toml:1: dns.zzzzzzz: unknown key"),
            // its value is not shown: it may be a secret
            (
                "[consul]\ntokne = \"s3cret\"",
                "f.toml:2: consul.tokne: unknown key; did you mean consul.token?",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn a_section_that_is_none_is_named() {
        for (text, expected) in [
            ("dns = 5", "f.toml:1: dns: must be a section, written once as [dns]"),
            (
                "[[consul]]\ntoken = \"s3cret\"",
                "f.toml:1: consul: must be a section, written once as [consul]",
            ),
            (
                "[dns_config]\nsoa = 3600",
                "f.toml:2: dns_config.soa: must be a section, written once as [dns_config.soa]",
            ),
            (
                "[dns_config]\nservice_ttl = \"5s\"",
                "f.toml:2: dns_config.service_ttl = \"5s\": \
                 must be a table of names of services and durations",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn text_that_is_no_toml_is_one_mistake_and_is_not_quoted() {
        for (text, expected) in [
            (
                "[consul]\ntoken = s3cret\n[dms]",
                "f.toml:2: not valid TOML: string values must be quoted, expected literal string",
            ),
            ("[dns]\nworkers = 1\nworkers = 2", "f.toml:3: not valid TOML: duplicate key"),
            ("[dns", "f.toml:1: not valid TOML: unclosed table, expected `]`"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn every_spelling_of_toml_reaches_its_key() {
        for text in [
            "[dns]\nworkers = 2",
            "dns.workers = 2",
            "dns = { workers = 2 }",
            "\"dns\".'workers' = 0x2",
            "\u{feff}[dns]\r\nworkers = 2\r\n",
        ] {
            check(text, "ok");
        }
    }

    #[test]
    fn every_mistake_is_told_in_the_order_of_the_lines() {
        check(
            "domian = \"x\"\n[log]\nlevel = \"loud\"\n[dns]\nworkers = -1\nlisten = [\n  \
             \"127.0.0.1:53\",\n  \"localhost:53\",\n  53,\n]\n[admin]\nlisten = 1\n",
            "f.toml:1: domian: unknown key; did you mean domain?\n\
             f.toml:3: log.level = \"loud\": must be one of error, warn, info, debug, trace\n\
             f.toml:5: dns.workers = -1: must be a whole number from 0 to 256\n\
             f.toml:8: dns.listen = \"localhost:53\": must be an IP address and a port such as \
             127.0.0.1:53 or [::1]:53, one or several\n\
             f.toml:9: dns.listen = 53: must be an IP address and a port such as \
             127.0.0.1:53 or [::1]:53, one or several\n\
             f.toml:12: admin.listen = 1: must be an IP address and a port such as \
             127.0.0.1:53 or [::1]:53",
        );
    }

    #[test]
    fn keys_that_mean_nothing_here_are_checked_and_remarked_on() {
        for (text, expected) in [
            (
                "[dns_config]\nallow_stale = true",
                "f.toml:2: dns_config.allow_stale: means nothing here: \
                 every answer comes from memory",
            ),
            (
                "[dns_config]\ncache_max_age = \"1h\"\nenable_truncate = false",
                "f.toml:2: dns_config.cache_max_age: means nothing here: \
                 what is watched does not age, and the rest has `cache.kept`\n\
                 f.toml:3: dns_config.enable_truncate: means nothing here: \
                 TC is set whenever a reply does not fit, and only then",
            ),
            (
                "[dns_config]\nuse_cache = 1",
                "f.toml:2: dns_config.use_cache = 1: must be true or false",
            ),
            (
                "[dns_config]\nrecursor_strategy = \"x\"",
                "f.toml:2: dns_config.recursor_strategy = \"x\": \
                 must be one of sequential, random",
            ),
        ] {
            check(text, expected);
        }
    }
}
