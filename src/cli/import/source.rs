//! The files of an agent's configuration: found, read, and merged as Consul merges them.
//!
//! Of a folder those count that end in `.json` or `.hcl`, in the order of their names; folders in it
//! do not. Of what several files say the last counts, but lists are put together, and tables are
//! merged key by key. Keys are in small letters from here on, as Consul takes them in any.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::import::hcl;
use crate::stamp;

/// What the files say.
#[derive(Debug, Default)]
pub struct Source {
    /// The files, in the order in which they count.
    pub files: Vec<PathBuf>,
    /// Everything that they say.
    pub root: Map<String, Value>,
}

impl Source {
    /// Reads files, and the files of folders.
    ///
    /// # Errors
    ///
    /// Returns a line for each that cannot be read. None of them quotes what stands in a file.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Vec<String>> {
        let (mut source, mut mistakes) = (Self::default(), Vec::new());
        for path in paths {
            match files(path) {
                Ok(files) => source.files.extend(files),
                Err(fact) => mistakes.push(format!("{}: {fact}", path.display())),
            }
        }
        for path in &source.files {
            match read(path) {
                Ok(root) => merge(&mut source.root, root),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() { Ok(source) } else { Err(mistakes) }
    }
}

/// The files that `path` stands for.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return match is_configuration(path) || !path.exists() {
            true => Ok(vec![path.to_owned()]),
            false => Err("must end in .json or .hcl, as Consul wants it".to_owned()),
        };
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let paths = entries.map_err(|error| error.to_string())?.into_iter().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| is_configuration(path) && !path.is_dir()).collect();
    files.sort();
    if files.is_empty() { Err("no file in it ends in .json or .hcl".to_owned()) } else { Ok(files) }
}

fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json" || extension == "hcl")
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let name = path.display();
    let text = stamp::read_text(path).map_err(|error| format!("{name}: {error}"))?;
    // Consul's reader of HCL takes JSON as well.
    let is_json = path.extension().is_some_and(|extension| extension == "json")
        || text.trim_start().starts_with('{');
    let mut root = if is_json { json(&text) } else { hcl(&text) }
        .map_err(|(line, fact)| format!("{name}:{line}: {fact}"))?;
    root = settle("", root);
    Ok(root)
}

fn json(text: &str) -> Result<Map<String, Value>, (usize, String)> {
    match serde_json::from_str(text) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err((1, "not a table of keys and values".to_owned())),
        Err(error) => {
            // The place is told by our own words.
            let fact = error.to_string();
            let fact = fact.rsplit_once(" at line ").map_or(&*fact, |(fact, _)| fact);
            Err((error.line(), format!("not valid JSON: {fact}")))
        }
    }
}

fn hcl(text: &str) -> Result<Map<String, Value>, (usize, String)> {
    hcl::parse(text).map_err(|error| (error.line, format!("not valid HCL: {}", error.fact)))
}

/// The keys of a table in small letters, without those that are nothing, and each table that Consul
/// wants as one table.
fn settle(parent: &str, table: Map<String, Value>) -> Map<String, Value> {
    let mut settled = Map::new();
    for (key, value) in table {
        let (key, name) = (key.to_lowercase(), format!("{parent}{}", key.to_lowercase()));
        let is_table = TABLES.contains(&&*name);
        let value = match value {
            Value::Null => continue,
            // A block of HCL is a list of one, and Consul takes that of JSON too.
            Value::Array(mut items) if is_table && items.len() == 1 => items.swap_remove(0),
            value => value,
        };
        let value = match value {
            // Its keys are names of services.
            Value::Object(table) if is_table && name != "dns_config.service_ttl" => {
                Value::Object(settle(&format!("{name}."), table))
            }
            value => value,
        };
        settled.insert(key, value);
    }
    settled
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
            (Some(Value::Object(all)), Value::Object(more)) => merge(all, more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The tables that are looked into.
const TABLES: [&str; 13] = [
    "acl",
    "acl.tokens",
    "addresses",
    "dns_config",
    "dns_config.service_ttl",
    "dns_config.soa",
    "limits",
    "ports",
    "tls",
    "tls.defaults",
    "tls.grpc",
    "tls.https",
    "tls.internal_rpc",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What these files come to; the folder's name is taken out.
    #[track_caller]
    fn check(files: &[(&str, &str)], named: &[&str], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::create_dir(folder.path().join("folder.hcl")).unwrap();
        let paths: Vec<PathBuf> = named.iter().map(|name| folder.path().join(name)).collect();
        let said = match Source::read(&paths) {
            Ok(source) => Value::Object(source.root).to_string(),
            Err(mistakes) => mistakes.join("\n"),
        };
        let base = folder.path().display().to_string();
        assert_eq!(said.replace(&format!("{base}/"), "").replace(&base, "."), expected);
    }

    #[test]
    fn a_folder_is_its_files_in_order_and_merged() {
        let files = [
            (
                "b.json",
                r#"{"recursors": ["10.0.0.3"], "dns_config": [{"service_ttl": {"Web": "2s"}}]}"#,
            ),
            (
                "a.hcl",
                "Domain = \"a\" recursors = [\"10.0.0.2\"]\ndns_config { service_ttl { web = \"1s\" } node_ttl = \"1s\" }",
            ),
            ("c.hcl", "{\"domain\": \"c\", \"Ports\": {\"DNS\": null}}"),
            ("d.txt", "none of it"),
        ];
        let merged = "{\"dns_config\":{\"node_ttl\":\"1s\",\"service_ttl\":{\"Web\":\"2s\",\"web\":\"1s\"}},\
             \"domain\":\"c\",\"ports\":{},\"recursors\":[\"10.0.0.2\",\"10.0.0.3\"]}";
        check(&files, &[""], merged);
        check(&files, &["a.hcl", "b.json", "c.hcl"], merged);
        check(
            &files,
            &["c.hcl", "a.hcl"],
            "{\"dns_config\":{\"node_ttl\":\"1s\",\"service_ttl\":{\"web\":\"1s\"}},\
             \"domain\":\"a\",\"ports\":{},\"recursors\":[\"10.0.0.2\"]}",
        );
    }

    #[test]
    fn each_file_that_cannot_be_read_is_a_line() {
        let files = [
            ("a.hcl", "a = 1\nb = s3cret"),
            ("b.json", "{\n\"a\": \"s3cret\" x}"),
            ("c.json", "\"s3cret\""),
            ("d.txt", ""),
        ];
        check(
            &files,
            &["a.hcl", "b.json", "c.json", "d.txt", "e.hcl", "folder.hcl"],
            "d.txt: must end in .json or .hcl, as Consul wants it\n\
             folder.hcl: no file in it ends in .json or .hcl\n\
             a.hcl:2: not valid HCL: text must be in quotes\n\
             b.json:2: not valid JSON: expected `,` or `}`\n\
             c.json:1: not a table of keys and values\n\
             e.hcl: No such file or directory (os error 2)",
        );
    }
}
