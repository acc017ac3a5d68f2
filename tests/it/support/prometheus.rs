//! A real Prometheus on a free loopback port, and its `promtool`.
//!
//! It is the judge of names, expressions and alerts: it reads the configuration that users are
//! shown, and is asked over its own API. `tests/run` says where it comes from.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::wait::poll;
use crate::support::{choose_crypto, program};

/// A Prometheus that runs until this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    folder: TempDir,
    _process: Process,
}

impl Prometheus {
    /// Starts it with `config`; the files of `beside` lie in the same folder.
    ///
    /// `None` when this machine has no Prometheus, which has then been said.
    pub async fn start(config: &str, beside: &[&Path]) -> Option<Self> {
        let binary = binary("prometheus")?;
        choose_crypto();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path(CONFIG), config).unwrap();
        for file in beside {
            fs::copy(file, path(file.file_name().unwrap().to_str().unwrap())).unwrap();
        }
        let mut command = Command::new(binary);
        command.args([&format!("--config.file={CONFIG}"), "--storage.tsdb.path=data"]);
        command.arg("--web.listen-address=127.0.0.1:0").current_dir(folder.path()).env_clear();
        let mut process = Process::spawn(command.stderr(File::create(path(LOG)).unwrap()));
        let log = || fs::read_to_string(path(LOG)).unwrap();
        let is_ready = poll(PATIENCE, async || {
            assert!(process.exited().is_none(), "prometheus did not start:\n{}", log());
            let log = log();
            let (_, rest) = log.split_once("msg=\"Listening on\" address=")?;
            log.contains("Server is ready").then(|| rest.split_whitespace().next().unwrap().parse())
        });
        let address = is_ready.await.unwrap_or_else(|| panic!("it is not ready:\n{}", log()));
        Some(Self { address: address.unwrap(), folder, _process: process })
    }

    /// The samples of `expression` as it is now.
    ///
    /// # Errors
    ///
    /// What Prometheus has against the expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.get("query", &[("query", expression)]).await?;
        // A scalar is a time and a value.
        Ok(data["result"].as_array().unwrap().clone())
    }

    /// The series that `selector` selects, by their labels.
    ///
    /// # Errors
    ///
    /// What Prometheus has against the selector.
    pub async fn series(&self, selector: &str) -> Result<Vec<Value>, String> {
        Ok(self.get("series", &[("match[]", selector)]).await?.as_array().unwrap().clone())
    }

    /// Its alert rules, each with what came of it.
    pub async fn alerts(&self) -> Vec<Value> {
        let data = self.get("rules", &[("type", "alert")]).await.unwrap();
        let groups = data["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOG)).unwrap()
    }

    async fn get(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{what}", self.address);
        let url = reqwest::Url::parse_with_params(&url, parameters).unwrap();
        let mut reply: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        match reply["status"].as_str() {
            Some("success") => Ok(reply["data"].take()),
            _ => Err(reply["error"].to_string()),
        }
    }
}

/// Runs `promtool` in `folder` with `input`, and gives whether it is content, and all that it says.
///
/// `None` when this machine has none, which has then been said.
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new(binary("promtool")?);
    command.args(arguments).current_dir(folder).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading what it was not asked to read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

/// One of the two programs: in the folder `FINGERPOST_TEST_PROMETHEUS`, else on `PATH`.
fn binary(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("FINGERPOST_TEST_PROMETHEUS").filter(|folder| !folder.is_empty());
    match folder {
        Some(folder) => Some(Path::new(&folder).join(name)),
        None => program(name),
    }
}

/// How long it may take until a Prometheus has started, scraped and judged its rules.
pub const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = "prometheus.yml";
const LOG: &str = "log";
