//! `fingerpost explain NAME [TYPE]`: why does a running server answer as it does?
//!
//! It asks the server's admin port, which knows; nothing is found out here. What is printed is what
//! `/v1/explain` says, as text or as JSON.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::catalog::reverse;
use crate::cli::reachable;
use crate::config::{Config, Flags, Sources};

/// What is to be explained, and by whom.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The configuration of the server.
    pub config: Option<PathBuf>,
    /// Where its admin port is; `None` is `admin.listen`.
    pub admin: Option<SocketAddr>,
    /// The name, with or without a dot at its end.
    pub name: String,
    /// As `A`, `SRV` or `TYPE65`.
    pub rtype: String,
    /// Who asks, where answers depend on it; `None` is this machine.
    pub client: Option<String>,
    /// How many bytes the client takes over UDP; 0 is without EDNS. `None` is what resolvers say.
    pub bytes: Option<u16>,
    /// Whether JSON is printed.
    pub json: bool,
}

/// Prints the explanation on `out`, or what went wrong on `err`; returns the exit status.
///
/// 0 where the answer has records, 1 where it has none, 2 where that could not be found out or is
/// SERVFAIL, and 78 with a line for each mistake of the configuration.
pub fn run(
    terms: &Terms,
    env: Vec<(String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let admin = match admin(terms, env) {
        Ok(admin) => admin,
        Err(mistakes) => {
            writeln!(err, "{mistakes}").ok();
            return EX_CONFIG;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let explained = runtime
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(explain(terms, admin)))
        .and_then(|(text, status)| {
            out.write_all(text.as_bytes())?;
            out.flush()?;
            Ok(status)
        });
    match explained {
        Ok(status) => status,
        Err(error) => {
            writeln!(err, "{error:#}").ok();
            UNKNOWN
        }
    }
}

fn admin(terms: &Terms, env: Vec<(String, String)>) -> Result<SocketAddr, String> {
    if let Some(admin) = terms.admin {
        return Ok(admin);
    }
    let mut sources = Sources { file: None, env, flags: Flags::default() };
    if let Some(path) = &terms.config {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        sources.file = Some((path.clone(), text));
    }
    let config = Config::load(sources).map_err(|errors| errors.to_string())?.config;
    Ok(reachable(config.admin.listen))
}

/// What is to be printed, and the exit status.
async fn explain(terms: &Terms, admin: SocketAddr) -> anyhow::Result<(String, u8)> {
    // reqwest wants one, be it for plain HTTP.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    // Whose an address is, is asked by another name.
    let (name, rtype) = match terms.name.parse::<IpAddr>() {
        Ok(ip) => (reverse::name(ip), "PTR".to_owned()),
        Err(_) => (terms.name.clone(), terms.rtype.clone()),
    };
    let mut parameters = vec![("name", name), ("type", rtype)];
    parameters.extend(terms.client.clone().map(|client| ("client", client)));
    parameters.extend(terms.bytes.map(|bytes| ("bytes", bytes.to_string())));
    let url = format!("http://{admin}/v1/explain");
    let asked = client.get(url).query(&parameters).send().await;
    let asked = asked.map_err(reqwest::Error::without_url);
    let reply = asked.with_context(|| {
        format!(
            "the admin port at {admin} cannot be asked: does a server run, and is that where its \
             admin.listen is? --admin or --config says where"
        )
    })?;
    let status = reply.status();
    let json = reply.text().await.map_err(reqwest::Error::without_url)?;
    if !status.is_success() {
        let told = serde_json::from_str::<Problem>(&json).map(|problem| problem.error);
        anyhow::bail!("{}", told.unwrap_or_else(|_| format!("the admin port says {status}")));
    }
    let explained: Explained = serde_json::from_str(&json)
        .with_context(|| format!("what listens at {admin} is no admin port of fingerpost's"))?;
    let status = match explained.reply {
        Some(reply) if !reply.answers.is_empty() => 0,
        Some(reply) if reply.rcode != "SERVFAIL" => RESOLVES_NOT,
        Some(_) | None => UNKNOWN,
    };
    Ok((if terms.json { json + "\n" } else { explained.text }, status))
}

#[derive(Deserialize)]
struct Explained {
    text: String,
    reply: Option<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    rcode: String,
    answers: Vec<String>,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

/// A question may wait for Consul, and for the recursors after that.
const PATIENCE: Duration = Duration::from_secs(30);

const RESOLVES_NOT: u8 = 1;

const UNKNOWN: u8 = 2;

/// As in BSD's sysexits.h.
const EX_CONFIG: u8 = 78;
