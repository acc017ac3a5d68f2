//! Three servers and a client agent. One fingerpost asks the agent, another the servers.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::chaos::agent::Agent;
use crate::chaos::net::{Condition, Host, Net, all_but};
use crate::chaos::served::{Served, kill_ourselves, ready_ourselves, start_ourselves};
use crate::chaos::times::Times;
use crate::chaos::trial::Scene;
use crate::chaos::voice::Voice;
use crate::chaos::world::{fill, questions, room_for};
use crate::support::consul_binary;
use crate::support::wait::{eventually, pause, poll};

/// What may happen to it, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    LeaderKilled,
    ServersKilled,
    AgentKilled,
    AgentEmptied,
    AgentCutOff,
    ServerCutOff,
    WayCut,
    ConsulStopped,
    WaySlow,
    WayLossy,
    SnapshotRestored,
    ConnectionsTaken,
    OurselvesKilled,
    OurselvesKilledAlone,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::LeaderKilled,
        Self::ServersKilled,
        Self::AgentKilled,
        Self::AgentEmptied,
        Self::AgentCutOff,
        Self::ServerCutOff,
        Self::WayCut,
        Self::ConsulStopped,
        Self::WaySlow,
        Self::WayLossy,
        Self::SnapshotRestored,
        Self::ConnectionsTaken,
        Self::OurselvesKilled,
        Self::OurselvesKilledAlone,
    ];
}

/// The cluster, and what observes it.
#[derive(Debug)]
pub struct Cluster {
    times: Times,
    net: Net,
    servers: Vec<Agent>,
    agent: Agent,
    /// One that asks the agent, and one that asks the servers.
    served: Vec<Served>,
    /// The server that a fault is about.
    struck: usize,
    saved: Vec<u8>,
    /// Another program's connections to Consul.
    others: JoinSet<()>,
}

impl Cluster {
    /// Starts it; `None` where this machine has no Consul.
    pub async fn start(times: Times) -> Option<Self> {
        let binary = consul_binary()?;
        let mut net = Net::of(&ALL).await;
        let server = json!({
            "bootstrap_expect": SERVERS.len(),
            "ports": { "serf_wan": -1 },
            "server": true,
        });
        let client = json!({ "ports": { "serf_wan": -1 } });
        let begin =
            |host, extra| Agent::start(binary.clone(), &net, host, &all_but(&SERVERS, host), extra);
        let servers: Vec<_> = SERVERS.iter().map(|host| begin(*host, &server)).collect();
        let agent = begin(AGENT, &client);

        let voices = [voice(&[&agent]), voice(&servers.iter().collect::<Vec<_>>())];
        eventually("the cluster is filled", async || fill(&voices[1]).await).await;
        let local = json!({ "Name": "local", "Port": 80, "Tags": ["v1"] });
        let path = "/v1/agent/service/register";
        eventually("the agent is there", async || voices[0].put(path, &local).await).await;
        let has_all = async || voices[0].truth().await.is_some_and(|truth| truth.len() == 8 + 16);
        eventually("all is registered", has_all).await;

        let way = |url: &str| url.trim_start_matches("http://").parse::<SocketAddr>().unwrap();
        let to_agent = format!("http://{}", net.open(US, AGENT, way(agent.url())).await);
        let mut to_servers = Vec::new();
        for server in &servers {
            let opened = net.open(US, server.host, way(server.url())).await;
            to_servers.push(format!("http://{opened}"));
        }
        let variables = [times.variables(), room_for(6)].concat();
        let [of_agent, of_servers] = voices;
        let start = async |label, urls: &[String], voice| {
            Served::start(label, urls, voice, variables.clone(), questions()).await
        };
        let served = vec![
            start("asks the agent", &[to_agent], of_agent).await,
            start("asks the servers", &to_servers, of_servers).await,
        ];
        let (struck, saved, others) = (0, Vec::new(), JoinSet::new());
        Some(Self { times, net, servers, agent, served, struck, saved, others })
    }

    /// The place of the leader among the servers.
    async fn leader(&self) -> usize {
        let voice = self.voice_of_servers();
        let leader = poll(Duration::from_secs(30), async || {
            let address: SocketAddr =
                voice.get("/v1/status/leader").await?.as_str()?.parse().ok()?;
            let is_there = |server: &Agent| self.net.known(server.host) == address.ip();
            self.servers.iter().position(is_there)
        });
        leader.await.expect("the cluster has a leader")
    }

    fn voice_of_servers(&self) -> Voice {
        voice(&self.servers.iter().collect::<Vec<_>>())
    }

    fn stopped(&self) -> impl Iterator<Item = &Agent> {
        self.servers.iter().chain([&self.agent])
    }
}

impl Scene for Cluster {
    type Fault = Fault;

    fn words(fault: Fault) -> &'static str {
        match fault {
            Fault::LeaderKilled => "the leader is killed",
            Fault::ServersKilled => "all servers are killed and started again",
            Fault::AgentKilled => "the agent is killed and started again",
            Fault::AgentEmptied => "the agent is killed, loses its data, and is started again",
            Fault::AgentCutOff => "the agent is cut off from the servers",
            Fault::ServerCutOff => "the leader is cut off from the others",
            Fault::WayCut => "fingerpost is cut off from Consul",
            Fault::ConsulStopped => "Consul hangs for longer than `consul.wait`",
            Fault::WaySlow => "the way to Consul takes 2 seconds",
            Fault::WayLossy => "the way to Consul loses packets",
            Fault::SnapshotRestored => "`consul snapshot restore` sets Consul back",
            Fault::ConnectionsTaken => "another program takes all connections that Consul allows",
            Fault::OurselvesKilled => "fingerpost is killed and started again",
            Fault::OurselvesKilledAlone => "the same, while Consul is away",
        }
    }

    fn served(&mut self) -> &mut [Served] {
        &mut self.served
    }

    fn voices(&self) -> Vec<Voice> {
        vec![self.voice_of_servers()]
    }

    async fn strike(&mut self, fault: Fault) {
        let cut = |host| self.net.set_all(host, &ALL, Condition::Cut);
        let way = |condition| self.net.set_all(US, &ALL, condition);
        match fault {
            Fault::LeaderKilled => {
                self.struck = self.leader().await;
                self.servers[self.struck].kill();
            }
            Fault::ServersKilled => self.servers.iter_mut().for_each(Agent::kill),
            Fault::AgentKilled => self.agent.kill(),
            Fault::AgentEmptied => {
                self.agent.kill();
                self.agent.forget();
            }
            Fault::AgentCutOff => cut(AGENT),
            Fault::ServerCutOff => {
                self.struck = self.leader().await;
                cut(self.servers[self.struck].host);
            }
            Fault::WayCut => way(Condition::Cut),
            Fault::ConsulStopped => self.stopped().for_each(Agent::stop),
            Fault::WaySlow => way(Condition::Slow(Duration::from_secs(2))),
            Fault::WayLossy => way(Condition::Lossy),
            Fault::SnapshotRestored => self.saved = self.voice_of_servers().save().await,
            Fault::ConnectionsTaken => self.take_connections().await,
            Fault::OurselvesKilled => kill_ourselves(&mut self.served).await,
            Fault::OurselvesKilledAlone => {
                way(Condition::Cut);
                kill_ourselves(&mut self.served).await;
                start_ourselves(&mut self.served).await;
            }
        }
    }

    async fn hold(&mut self, fault: Fault) {
        match fault {
            Fault::ConsulStopped | Fault::WayCut => pause(self.times.hang).await,
            Fault::OurselvesKilled => {
                for _ in 0..3 {
                    start_ourselves(&mut self.served).await;
                    // Anywhere in its start, or later.
                    let lives = Duration::from_millis(fastrand::u64(..1_000));
                    churn(&self.voice_of_servers(), lives).await;
                    kill_ourselves(&mut self.served).await;
                }
            }
            _ => pause(self.times.hold).await,
        }
    }

    async fn heal(&mut self, fault: Fault) {
        let whole = |host| self.net.set_all(host, &ALL, Condition::Clear);
        match fault {
            Fault::LeaderKilled => self.servers[self.struck].start_again(),
            Fault::ServersKilled => self.servers.iter_mut().for_each(Agent::start_again),
            Fault::AgentKilled | Fault::AgentEmptied => self.agent.start_again(),
            Fault::AgentCutOff => whole(AGENT),
            Fault::ServerCutOff => whole(self.servers[self.struck].host),
            Fault::WayCut | Fault::WaySlow | Fault::WayLossy => whole(US),
            Fault::ConsulStopped => self.stopped().for_each(Agent::cont),
            Fault::SnapshotRestored => {
                let saved = std::mem::take(&mut self.saved);
                self.voice_of_servers().restore(saved).await;
            }
            Fault::ConnectionsTaken => self.others.shutdown().await,
            Fault::OurselvesKilled => {
                start_ourselves(&mut self.served).await;
                ready_ourselves(&mut self.served).await;
            }
            Fault::OurselvesKilledAlone => {
                whole(US);
                ready_ourselves(&mut self.served).await;
            }
        }
    }

    fn touches(fault: Fault, served: usize) -> bool {
        match fault {
            Fault::AgentCutOff | Fault::AgentEmptied | Fault::AgentKilled => served == 0,
            _ => true,
        }
    }

    fn grace(&self, _: Fault) -> Duration {
        Duration::ZERO
    }

    fn may_die(fault: Fault) -> bool {
        !matches!(fault, Fault::OurselvesKilled | Fault::OurselvesKilledAlone)
    }

    fn is_felt(fault: Fault) -> bool {
        match fault {
            // What is left of the cluster answers, or the way is only bad.
            Fault::LeaderKilled
            | Fault::ServerCutOff
            | Fault::SnapshotRestored
            | Fault::WayLossy
            | Fault::WaySlow => false,
            // It has forgotten what it counted.
            Fault::OurselvesKilled | Fault::OurselvesKilledAlone => false,
            Fault::AgentCutOff
            | Fault::AgentEmptied
            | Fault::AgentKilled
            | Fault::ConnectionsTaken
            | Fault::ConsulStopped
            | Fault::ServersKilled
            | Fault::WayCut => true,
        }
    }
}

impl Cluster {
    /// Opens as many connections as Consul lets one address have, keeps them, and breaks ours.
    async fn take_connections(&mut self) {
        for agent in self.servers.iter().chain([&self.agent]) {
            let address: SocketAddr = agent.url().trim_start_matches("http://").parse().unwrap();
            for _ in 0..CONNECTIONS_MAX {
                self.others.spawn(occupy(address));
            }
        }
        // They are in before ours ask for a place again.
        pause(Duration::from_millis(500)).await;
        for agent in self.servers.iter().chain([&self.agent]) {
            self.net.break_off(US, agent.host);
        }
    }
}

/// Changes something all the time for so long, that shows in no answer.
async fn churn(voice: &Voice, time: Duration) {
    let until = Instant::now() + time;
    for status in ["warning", "passing"].into_iter().cycle() {
        voice.set_check("db", 3, status).await;
        if Instant::now() >= until && status == "passing" {
            return;
        }
    }
}

/// Has a connection to `address` open, and opens another whenever that is closed.
async fn occupy(address: SocketAddr) {
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            // Nothing is said on it, so it is readable when it is closed.
            let _ = stream.readable().await;
        }
        pause(Duration::from_millis(100)).await;
    }
}

fn voice(agents: &[&Agent]) -> Voice {
    let urls: Vec<_> = agents.iter().map(|agent| agent.url()).collect();
    Voice::of(&urls, None, &["dc1"])
}

const SERVERS: [Host; 3] = [Host(1), Host(2), Host(3)];
const AGENT: Host = Host(4);

/// Where the fingerposts are.
const US: Host = Host(9);

const ALL: [Host; 5] = [SERVERS[0], SERVERS[1], SERVERS[2], AGENT, US];

/// As Consul has it by default: `limits.http_max_conns_per_client`.
const CONNECTIONS_MAX: usize = 200;
