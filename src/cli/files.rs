//! The files that a configuration names, opened as the server opens them at its start.
//!
//! `serve` opens them to go on with them, `check` to say what is wrong, so both judge alike. Each
//! file that cannot be used is a line. What the server does without, it remarks on and no more.

use std::error::Error;
use std::path::Path;

use crate::app::Origin;
use crate::app::cookies;
use crate::app::listening;
use crate::config::{Config, ConsulConfig};
use crate::consul::Client;
use crate::consul::client::SetupError;
use crate::consul::token::Token;
use crate::file;
use crate::file::ReadError;
use crate::pem::{self, PemError};
use crate::warm::disk;

/// Opens all that `serve` needs, and says where the catalogue comes from.
///
/// # Errors
///
/// Returns a line for each file that cannot be used.
pub fn open(config: &Config) -> Result<Origin, Vec<String>> {
    let mut mistakes = Vec::new();
    if let Some(path) = config.snapshot.path.as_deref().filter(|path| !disk::has_folder(path)) {
        let path = path.display();
        mistakes.push(format!("snapshot.path = \"{path}\": its folder is not there, create it"));
    }
    mistakes.extend(of_dns(config));
    match origin(config) {
        Ok(origin) if mistakes.is_empty() => Ok(origin),
        Ok(_) => Err(mistakes),
        Err(others) => Err(mistakes.into_iter().chain(others).collect()),
    }
}

/// What is wrong with the files that the listeners need: a line for each.
pub fn of_dns(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    if let Err(error) = cookies::secrets(&config.dns) {
        mistakes.push(format!("dns.cookie_secrets_file: {error:#}"));
    }
    if let Err(error) = listening::certificate(&config.dns) {
        let identity = (config.dns.cert_file.as_deref(), config.dns.key_file.as_deref());
        let found = unread("dns", None, identity);
        mistakes.extend(or_else(found, format!("dns.cert_file: {error:#}")));
    }
    mistakes
}

/// What the server goes without, which its user may not know.
pub fn remarks(config: &Config) -> Vec<String> {
    let path = config.snapshot.path.as_deref().filter(|path| disk::has_folder(path));
    let Some(Err(error)) = path.map(disk::try_folder) else { return Vec::new() };
    vec![format!("snapshot.path: no file can be made in its folder, so none is kept: {error}")]
}

/// Where the catalogue comes from; else what is wrong, a line each.
fn origin(config: &Config) -> Result<Origin, Vec<String>> {
    let Some(path) = &config.catalog_file else {
        let client = Client::new(&config.consul);
        return client.map(Origin::Consul).map_err(|error| of_consul(&config.consul, &error));
    };
    match file::read(path) {
        Ok(catalog) => Ok(Origin::File { catalog, path: path.clone() }),
        Err(ReadError::NoCatalog { path, source }) => {
            let line = |mistake| format!("{}: {mistake}", path.display());
            Err(source.mistakes().iter().map(line).collect())
        }
        Err(error) => Err(vec![format!("catalog.file: {}", chain(&error))]),
    }
}

/// A client's setup ends at the first file that cannot be used; this looks at the others too.
fn of_consul(config: &ConsulConfig, error: &SetupError) -> Vec<String> {
    let mut mistakes = match error {
        SetupError::Tls(error) => {
            let identity = (config.cert_file.as_deref(), config.key_file.as_deref());
            // Where nobody is checked, no authorities are read.
            let ca_file = config.ca_file.as_deref().filter(|_| config.tls_verify);
            let found = unread("consul", ca_file, identity);
            or_else(found, format!("[consul]: {}", chain(error)))
        }
        SetupError::Address(error) => vec![format!("consul.addresses: {}", chain(error))],
        SetupError::Token(_) => Vec::new(),
    };
    if let Err(error) = Token::new(config.token.as_ref(), config.token_file.as_deref()) {
        let key = if config.token_file.is_some() { "token_file" } else { "token" };
        mistakes.push(format!("consul.{key}: {}", chain(&error)));
    }
    mistakes
}

/// A line for each of these PEM files of a section that cannot be read.
fn unread(
    section: &str,
    ca: Option<&Path>,
    (cert, key): (Option<&Path>, Option<&Path>),
) -> Vec<String> {
    let read_all = |path: &Path| pem::certificates(path).map(drop);
    let read_key = |path: &Path| pem::key(path).map(drop);
    let wrong = [
        ca.map(read_all).map(|read| ("ca_file", read)),
        cert.map(read_all).map(|read| ("cert_file", read)),
        key.map(read_key).map(|read| ("key_file", read)),
    ];
    let line = |(key, read): (&str, Result<(), PemError>)| {
        let error = read.err()?;
        Some(format!("{section}.{key}: {}", chain(&error)))
    };
    wrong.into_iter().flatten().filter_map(line).collect()
}

/// `general`, where nothing in particular was found.
fn or_else(found: Vec<String>, general: String) -> Vec<String> {
    if found.is_empty() { vec![general] } else { found }
}

/// The message of an error and of all that it comes from.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
