//! A Consul agent, server or client, at one host of a [`Net`].
//!
//! What it keeps is on disk, so it may be killed and started again with it, or without. Its timers
//! of elections, and of gossip between datacenters, are those of a fast network; they decide how
//! soon a fault is noticed, not what is done then.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chaos::net::{Host, Net};
use crate::support::consul::lay_over;
use crate::support::process::Process;

/// An agent; it ends when this is dropped.
#[derive(Debug)]
pub struct Agent {
    /// Where it is.
    pub host: Host,
    binary: PathBuf,
    folder: TempDir,
    url: String,
    /// `None` while it is killed.
    process: Option<Process>,
}

impl Agent {
    /// Starts an agent of `net` that joins `others`, with `extra` laid over its configuration.
    pub fn start(binary: PathBuf, net: &Net, host: Host, others: &[Host], extra: &Value) -> Self {
        let folder = TempDir::new().unwrap();
        let config = config(net, host, others, extra);
        fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        let url = format!("http://{}:{}", net.bound(host), net.ports().http);
        let mut agent = Self { host, binary, folder, url, process: None };
        agent.start_again();
        agent
    }

    /// Where it serves HTTP, without a path. No link leads there.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it with what it kept, once it was killed.
    pub fn start_again(&mut self) {
        let log = self.folder.path().join(LOG);
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&self.binary);
        command.args(["agent", "-config-file", CONFIG]);
        command.env_clear().current_dir(self.folder.path());
        let command = command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::spawn(command));
    }

    /// Takes away all that it kept, once it was killed.
    pub fn forget(&self) {
        fs::remove_dir_all(self.folder.path().join(KEPT)).unwrap();
    }

    /// Stops it with SIGSTOP: connections stay open and silent.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on once it was stopped.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            eprintln!("the last words of the agent {:?}:\n{last}", self.host);
        }
    }
}

fn config(net: &Net, host: Host, others: &[Host], extra: &Value) -> Value {
    let ports = net.ports();
    let gossip = json!({
        "gossip_interval": "50ms",
        "probe_interval": "250ms",
        "probe_timeout": "150ms",
        "suspicion_mult": 2,
    });
    let join: Vec<String> =
        others.iter().map(|other| format!("{}:{}", net.known(*other), ports.lan)).collect();
    let mut config = json!({
        "advertise_addr": net.known(host).to_string(),
        "bind_addr": net.bound(host).to_string(),
        "client_addr": net.bound(host).to_string(),
        "data_dir": KEPT,
        "disable_update_check": true,
        "gossip_wan": gossip,
        "node_id": format!("00000000-0000-4000-8000-{:012}", host.0),
        "node_name": format!("host-{}", host.0),
        "performance": { "raft_multiplier": 1 },
        "ports": {
            "dns": -1,
            "grpc": -1,
            "http": ports.http,
            "https": -1,
            "serf_lan": ports.lan,
            "serf_wan": ports.wan,
            "server": ports.server,
        },
        "retry_interval": "1s",
        "retry_join": join,
    });
    lay_over(&mut config, extra);
    config
}

const CONFIG: &str = "agent.json";
const KEPT: &str = "data";
const LOG: &str = "agent.log";
