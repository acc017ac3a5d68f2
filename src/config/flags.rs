//! The flags that are keys too. They win over everything.

use std::path::{Path, PathBuf};

use crate::config::draft::Draft;
use crate::config::draft::Entry;
use crate::config::draft::Layer;
use crate::config::draft::Place;
use crate::config::draft::Value;
use crate::config::draft::Written;
use crate::config::keys;

/// The flags as given; empty and `None` are "not given".
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--dns`, each time it was given: instead of `dns.listen`.
    pub dns: Vec<String>,
    /// `--admin`: instead of `admin.listen`.
    pub admin: Option<String>,
    /// `--consul`, each time it was given: instead of `consul.addresses`, and of `catalog.file`.
    pub consul: Vec<String>,
    /// `--catalog`: instead of `catalog.file`.
    pub catalog: Option<PathBuf>,
    /// `--snapshot`: instead of `snapshot.path`.
    pub snapshot: Option<PathBuf>,
}

/// Adds the flags to `draft`.
pub fn read(flags: &Flags, draft: &mut Draft) {
    list("--dns", "dns.listen", &flags.dns, draft);
    if let Some(admin) = &flags.admin {
        add("admin.listen", written("--admin", admin), draft);
    }
    list("--consul", "consul.addresses", &flags.consul, draft);
    if let Some(path) = &flags.snapshot {
        add("snapshot.path", written_path("--snapshot", path), draft);
    }
    if let Some(path) = &flags.catalog {
        add("catalog.file", written_path("--catalog", path), draft);
    } else if !flags.consul.is_empty() {
        // Who names a Consul means it, whatever file another source names.
        add("catalog.file", written("--consul", ""), draft);
    }
}

fn list(flag: &str, key: &str, given: &[String], draft: &mut Draft) {
    if given.is_empty() {
        return;
    }
    let value = Value::Array(given.iter().map(|text| written(flag, text)).collect());
    add(key, Written { value, ..written(flag, &given.join(", ")) }, draft);
}

fn written(flag: &str, text: &str) -> Written {
    Written::loose(Place::CommandLine, flag, text)
}

fn written_path(flag: &str, path: &Path) -> Written {
    let value = Value::Path(path.to_owned());
    Written { value, ..written(flag, &path.display().to_string()) }
}

fn add(key: &str, written: Written, draft: &mut Draft) {
    if let Some(key) = keys::find(key) {
        draft.entries.push(Entry { key, layer: Layer::Flag, written });
    }
}
