//! A real Consul agent for one test: `consul agent -dev` on free loopback ports.
//!
//! A `-dev` agent keeps nothing: after [`Consul::restart`] the same addresses have a fresh
//! catalogue, and indexes that start over. One that was started with [`Consul::start_lasting`] has
//! a log on disk, and reads it again. Everything but its addresses and the update check
//! stays at Consul's defaults, so that the tests meet the limits that operators meet.
//!
//! **Invariant:** an agent that is handed out is this test's own, has a leader and its own node in
//! the catalogue.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::{choose_crypto, consul_binary, wait};

/// A running agent; it ends when this is dropped.
#[derive(Debug)]
pub struct Consul {
    binary: PathBuf,
    client: reqwest::Client,
    config: Value,
    folder: TempDir,
    ports: Ports,
    process: Process,
}

/// The ports of one agent, each free for TCP and UDP when it was chosen.
#[derive(Clone, Copy, Debug)]
struct Ports {
    dns: u16,
    http: u16,
    https: u16,
    serf_lan: u16,
    serf_wan: u16,
    server: u16,
}

impl Consul {
    /// Starts an agent with the default configuration.
    ///
    /// `None` when this machine has no Consul: the test is to return.
    pub async fn start() -> Option<Self> {
        Self::start_with(json!({})).await
    }

    /// Starts an agent whose catalogue outlives it.
    pub async fn start_lasting() -> Option<Self> {
        // The last one makes it elect itself after a second rather than five.
        Self::start_with(json!({
            "server": true,
            "bootstrap_expect": 1,
            "data_dir": "data",
            "performance": { "raft_multiplier": 1 },
        }))
        .await
    }

    /// Starts an agent with `extra` laid over the default configuration, object by object.
    ///
    /// A `cert_file` in it makes the agent listen for HTTPS too. With `acl.tokens.master` in it
    /// this support's own requests carry that token.
    pub async fn start_with(extra: Value) -> Option<Self> {
        let binary = consul_binary()?;
        choose_crypto();
        for _ in 0..ATTEMPTS_MAX {
            let mut consul = Self::launch(&binary, &extra, Ports::choose());
            match consul.ready().await {
                Ok(()) => return Some(consul),
                // Somebody took a port between our look and the agent's.
                Err(log) if log.contains(PORT_TAKEN) => (),
                Err(log) => panic!("consul did not start:\n{log}"),
            }
        }
        panic!("consul found a port taken {ATTEMPTS_MAX} times in a row");
    }

    /// Ends the agent with SIGKILL: connections break, nothing is said goodbye to.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the agent with SIGSTOP: connections stay open and silent.
    pub fn stop(&self) {
        self.process.signal("STOP");
    }

    /// Lets a stopped agent go on.
    pub fn cont(&self) {
        self.process.signal("CONT");
    }

    /// Kills the agent if it runs, and starts it on the same addresses, with a fresh catalogue
    /// unless that lasts.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..ATTEMPTS_MAX {
            self.process = spawn(&self.binary, self.folder.path(), &self.config);
            match self.ready().await {
                Ok(()) => return,
                Err(log) if log.contains(PORT_TAKEN) => (),
                Err(log) => panic!("consul did not start again:\n{log}"),
            }
        }
        panic!("consul found its own port taken {ATTEMPTS_MAX} times in a row");
    }

    /// Lays `extra` over its configuration and has it read anew, as SIGHUP does.
    ///
    /// What cannot be reloaded stays. The agent says nothing: wait for what is to change.
    pub async fn reconfigure(&self, extra: &Value) {
        let mut config = self.config.clone();
        lay_over(&mut config, extra);
        fs::write(self.folder.path().join(CONFIG), config.to_string()).unwrap();
        self.put("/v1/agent/reload", &Value::Null).await;
    }

    /// Registers with `/v1/catalog/register`, as tools do for nodes without an agent.
    ///
    /// A node that comes this way must not have a check `serfHealth`: the leader would reap it.
    pub async fn register(&self, registration: Value) {
        self.put("/v1/catalog/register", &registration).await;
    }

    /// Deregisters with `/v1/catalog/deregister`: a node, or one service or check of it.
    pub async fn deregister(&self, deregistration: Value) {
        self.put("/v1/catalog/deregister", &deregistration).await;
    }

    /// Registers with `/v1/agent/service/register`, on the agent's own node.
    pub async fn register_service(&self, service: Value) {
        self.put("/v1/agent/service/register", &service).await;
    }

    /// Deregisters a service of the agent's own node by its id.
    pub async fn deregister_service(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null).await;
    }

    /// Sets a check in the catalogue: of `service_id`, or of the whole node when that is `None`.
    ///
    /// The node must be registered. `status` is `passing`, `warning` or `critical`.
    pub async fn set_check(
        &self,
        node: &str,
        service_id: Option<&str>,
        check_id: &str,
        status: &str,
    ) {
        self.register(json!({
            "Node": node,
            "SkipNodeUpdate": true,
            "Check": {
                "Node": node,
                "CheckID": check_id,
                "Name": check_id,
                "ServiceID": service_id.unwrap_or_default(),
                "Status": status,
            },
        }))
        .await;
    }

    /// Sets a TTL check of the agent's own node, registered with a service as `service:ID`.
    pub async fn set_ttl_check(&self, check_id: &str, status: &str) {
        let update = json!({ "Status": status, "Output": status });
        self.put(&format!("/v1/agent/check/update/{check_id}"), &update).await;
    }

    /// Asks for `path`, query included; gives `X-Consul-Index` (0 without one) and the body.
    ///
    /// # Panics
    ///
    /// When the status is not a success, or the body is not JSON.
    pub async fn get(&self, path: &str) -> (u64, Value) {
        let reply = self.client.get(self.url(path)).send().await.unwrap();
        let index = reply.headers().get("X-Consul-Index");
        let index = index.map_or(0, |index| index.to_str().unwrap().parse().unwrap());
        let status = reply.status();
        let body = reply.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status}: {body}");
        (index, serde_json::from_str(&body).unwrap())
    }

    /// Puts `body` to `path` and gives the text of the reply.
    ///
    /// # Panics
    ///
    /// When the status is not a success.
    pub async fn put(&self, path: &str, body: &Value) -> String {
        let reply = self.client.put(self.url(path)).json(body).send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        assert!(status.is_success(), "PUT {path}: {status}: {text}");
        text
    }

    /// Posts `body` to `path`, as the few endpoints want that create and do not replace.
    ///
    /// # Panics
    ///
    /// When the status is not a success.
    pub async fn post(&self, path: &str, body: &Value) {
        let reply = self.client.post(self.url(path)).json(body).send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        assert!(status.is_success(), "POST {path}: {status}: {text}");
    }

    /// The state of the whole cluster, as `consul snapshot save` writes it.
    pub async fn save(&self) -> Vec<u8> {
        let reply = self.client.get(self.url("/v1/snapshot")).send().await.unwrap();
        reply.error_for_status().unwrap().bytes().await.unwrap().to_vec()
    }

    /// Sets the cluster back to what was saved, as `consul snapshot restore` does.
    pub async fn restore(&self, saved: Vec<u8>) {
        let request = self.client.put(self.url("/v1/snapshot")).body(saved);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Where it serves HTTP.
    pub fn http_address(&self) -> SocketAddr {
        loopback(self.ports.http)
    }

    /// Where it serves HTTPS, when it was given a certificate.
    pub fn https_address(&self) -> SocketAddr {
        loopback(self.ports.https)
    }

    /// Where it serves DNS, over UDP and TCP.
    pub fn dns_address(&self) -> SocketAddr {
        loopback(self.ports.dns)
    }

    /// Where other datacenters join it, with `/v1/agent/join/ADDRESS?wan=1`.
    pub fn wan_address(&self) -> SocketAddr {
        loopback(self.ports.serf_wan)
    }

    /// The URL of `path` on its HTTP address.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http_address())
    }

    /// The name of its own node.
    pub fn node(&self) -> &str {
        self.config["node_name"].as_str().unwrap()
    }

    /// The file that configures it.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn launch(binary: &Path, extra: &Value, ports: Ports) -> Self {
        let mut config = ports.config();
        // 1.14 brought this port, and older ones refuse to hear of it.
        if version(binary) >= (1, 14) {
            config["ports"]["grpc_tls"] = json!(-1);
        }
        if extra.get("cert_file").is_some() {
            config["ports"]["https"] = json!(ports.https);
        }
        lay_over(&mut config, extra);
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        let process = spawn(binary, folder.path(), &config);
        let client = client(&config);
        Self { binary: binary.to_owned(), client, config, folder, ports, process }
    }

    /// Waits for the leader's own entry in the catalogue; the log when the agent ends instead.
    async fn ready(&mut self) -> Result<(), String> {
        let ready = wait::poll(START_PATIENCE, async || {
            if self.process.exited().is_some() {
                return Some(Err(self.log()));
            }
            // The name tells our agent from a stranger's on the same port.
            (self.leading_node().await.as_deref() == Some(self.node())).then_some(Ok(()))
        });
        ready.await.unwrap_or_else(|| Err(format!("no leader in time\n{}", self.log())))
    }

    async fn leading_node(&self) -> Option<String> {
        let url = self.url("/v1/health/service/consul?passing");
        // Whoever else holds the port may accept and say nothing.
        let request = self.client.get(url).timeout(Duration::from_secs(1));
        let servers: Value = request.send().await.ok()?.json().await.ok()?;
        Some(servers[0]["Node"]["Node"].as_str()?.to_owned())
    }

    /// The last lines that the agent wrote.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last words of {}:\n{}", self.node(), self.log());
        }
    }
}

impl Ports {
    fn choose() -> Self {
        // Held until all are chosen, so that no two are the same.
        let held: Vec<_> = std::iter::repeat_with(held_port).take(6).collect();
        let port = |at: usize| held[at].0.local_addr().unwrap().port();
        Self {
            dns: port(0),
            http: port(1),
            https: port(2),
            serf_lan: port(3),
            serf_wan: port(4),
            server: port(5),
        }
    }

    fn config(self) -> Value {
        json!({
            "node_name": format!("agent-{}", self.http),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "disable_update_check": true,
            "log_level": "info",
            "ports": {
                "dns": self.dns,
                "grpc": -1,
                "http": self.http,
                "https": -1,
                "serf_lan": self.serf_lan,
                "serf_wan": self.serf_wan,
                "server": self.server,
            },
        })
    }
}

fn spawn(binary: &Path, folder: &Path, config: &Value) -> Process {
    let log = File::create(folder.join(LOG)).unwrap();
    let mut command = Command::new(binary);
    command.args(["agent", "-config-file"]).arg(folder.join(CONFIG));
    if config.get("data_dir").is_none() {
        command.arg("-dev");
    }
    // Consul's own variables are for its clients; an agent of ours listens to its file alone.
    command.env_clear().current_dir(folder);
    Process::spawn(command.stdout(log.try_clone().unwrap()).stderr(log))
}

fn client(config: &Value) -> reqwest::Client {
    let mut headers = reqwest::header::HeaderMap::new();
    if let Some(token) = config["acl"]["tokens"]["master"].as_str() {
        headers.insert("X-Consul-Token", token.parse().unwrap());
    }
    let client = reqwest::Client::builder().default_headers(headers).no_proxy();
    client.timeout(START_PATIENCE).build().unwrap()
}

/// The version of this Consul, as far as rules depend on it: major and minor.
pub fn version(binary: &Path) -> (u32, u32) {
    let output = Command::new(binary).arg("version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.strip_prefix("Consul v"));
    let mut numbers = version.unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Lays `extra` over `config`, object by object.
pub fn lay_over(config: &mut Value, extra: &Value) {
    match (config, extra) {
        (Value::Object(config), Value::Object(extra)) => {
            for (key, value) in extra {
                lay_over(config.entry(key).or_insert(Value::Null), value);
            }
        }
        (config, extra) => *config = extra.clone(),
    }
}

/// A port of 127.0.0.1 that is free for TCP and UDP, for one that has to keep its own.
pub fn free_port() -> u16 {
    held_port().0.local_addr().unwrap().port()
}

/// A port that is free for TCP and UDP, held by its two sockets.
///
/// It is drawn from below the range that the kernel gives to outgoing connections, which would
/// else take it while the agent is down.
fn held_port() -> (TcpListener, UdpSocket) {
    loop {
        let address = loopback(fastrand::u16(15_000..32_000));
        if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
            return (tcp, udp);
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// How often a start is tried again because a port was taken.
const ATTEMPTS_MAX: u32 = 5;

/// An agent leads after 1 to 3 s; a machine that compiles beside it takes far longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

const PORT_TAKEN: &str = "address already in use";
const CONFIG: &str = "agent.json";
const LOG: &str = "agent.log";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_that_finds_a_port_taken_says_so() {
        let Some(binary) = consul_binary() else { return };
        choose_crypto();
        let ports = Ports::choose();
        let _taken = TcpListener::bind(loopback(ports.http)).unwrap();
        let mut consul = Consul::launch(&binary, &json!({}), ports);
        let log = consul.ready().await.unwrap_err();
        assert!(log.contains(PORT_TAKEN), "{log}");
    }
}
