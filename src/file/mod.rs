//! The embedded source: a catalogue file instead of a Consul, read again when it changes.
//!
//! The file is what `consul services register` takes, extended by nodes: keys in any spelling
//! that Consul knows, keys without a bearing on DNS ignored, any other key refused.
//!
//! ```text
//! { "datacenter": "dc1",                          the local one; "dc1" if not given
//!   "nodes": [ { "name": "web-1", "address": "10.0.0.1",
//!                "datacenter": "dc2",             the local one if not given
//!                "checks": [ check, … ],          of the node, so of all that it runs
//!                "meta": …, "tagged_addresses": …,
//!                "services": [ { "name": "web", "port": 80, "check": check, … }, … ] } ],
//!   "services": [ service, … ],  "service": …,    on a node "local" at 127.0.0.1, or as
//!   "node_name": …, "advertise_addr": … }         these two say
//! check: { "status": "passing" }                  or "warning", or "critical"
//! ```
//!
//! Nobody runs the checks. **A check without a status is passing**, where an agent of Consul's
//! would have it critical until its first run. **What the file lacks does not exist**, names of the
//! mesh and of prepared queries included, which no list of Consul's has.
//!
//! This module knows nothing of DNS, and nothing of Consul's HTTP API.

pub mod catalog;
pub mod definition;
pub mod fields;
pub mod follow;
pub mod json;
pub mod mistake;
pub mod shapes;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::stamp;

pub use crate::file::catalog::Catalog;
pub use crate::file::definition::parse;
pub use crate::file::follow::follow;
pub use crate::file::mistake::{CatalogFileErrors, Fault, Mistake};

/// Why a catalogue file brought nothing.
///
/// At start the program ends with it; later, [`follow()`] keeps what it has.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file was read, but is no catalogue; its writer must mend it.
    #[error("{} is no catalogue", path.display())]
    NoCatalog {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        source: CatalogFileErrors,
    },
    /// There is no such file, it may not be read, or it is no text.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Reads the catalogue file at `path`.
///
/// # Errors
///
/// Fails when the file cannot be read, or with all mistakes that it has.
pub fn read(path: &Path) -> Result<Catalog, ReadError> {
    let text = stamp::read_text(path)
        .map_err(|source| ReadError::Unreadable { path: path.to_owned(), source })?;
    parse(&text).map_err(|source| ReadError::NoCatalog { path: path.to_owned(), source })
}

/// The catalogue of the demo: the text of `config/demo.json`, which cannot hold comments.
///
/// Two datacenters, dc1 (local) and dc2. In dc1:
/// - `web` on n1 to n5: n1 to n3 are healthy, with tags v1 and v2, n3 with an address of its
///   own; n4 warns, and its weight drops; n5 is critical, so it never appears;
/// - `db`: a primary and a replica, by tag; `cache`: an IPv6 node;
/// - `web-proxy`: speaks for `web` in the mesh;
/// - `api` on n7.rack2, a node with two addresses: a tag with a dot, and ports with names;
/// - `payments`: an external service, a hostname in place of an address; so is a node, mainframe;
/// - `many`: 60 instances, more than one UDP reply holds.
///
/// dc2 has a `web` and a `db` of its own, and the former's node an address for other datacenters.
pub const DEMO: &str = include_str!("../../config/demo.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::change::Change;
    use crate::catalog::model::Health;

    #[test]
    fn the_demo_is_what_its_comment_says() {
        let mut services = BTreeMap::new();
        for change in parse(DEMO).unwrap().changes() {
            if let Change::Service { datacenter, form, service, instances, .. } = change {
                services.insert(format!("{service}.{}.{datacenter}", form.as_str()), instances);
            }
        }
        let health = |service: &str| -> Vec<Health> {
            services[service].iter().map(|instance| instance.health).collect()
        };
        let (passing, warning, critical) = (Health::Passing, Health::Warning, Health::Critical);
        assert_eq!(health("web.service.dc1"), [passing, passing, passing, warning, critical]);
        assert_eq!(services["many.service.dc1"].len(), 60);
        let names: Vec<&str> = services.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "api.service.dc1",
                "cache.service.dc1",
                "db.service.dc1",
                "db.service.dc2",
                "many.service.dc1",
                "payments.service.dc1",
                "web-proxy.service.dc1",
                "web.connect.dc1",
                "web.service.dc1",
                "web.service.dc2",
            ]
        );
    }

    #[test]
    fn a_link_to_a_file_is_read_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), DEMO).unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        assert_eq!(read(&path("link")).unwrap(), parse(DEMO).unwrap());

        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        for name in ["pipe", "."] {
            let ReadError::Unreadable { source, .. } = read(&path(name)).unwrap_err() else {
                panic!("{name} was read");
            };
            assert_eq!(source.to_string(), "it is no regular file", "{name}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/catalog.json")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/catalog.json");
    }
}
