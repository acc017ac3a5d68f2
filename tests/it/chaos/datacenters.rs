//! Two datacenters of one server each. A fingerpost asks the first, for the names of both.

use std::path::Path;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use serde_json::json;
use tokio::time::Instant;

use crate::chaos::agent::Agent;
use crate::chaos::net::{Condition, Host, Net};
use crate::chaos::served::Served;
use crate::chaos::times::{CONVERGED_WITHIN, Times};
use crate::chaos::trial::{Scene, ask};
use crate::chaos::voice::{Voice, name};
use crate::chaos::world::{far_questions, fill, questions, room_for};
use crate::support::consul_binary;
use crate::support::wait::{eventually, pause, poll};

/// What may happen to them, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    WanCut,
    FarKilled,
    Emptied,
    EmptiedForLong,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WanCut, Self::FarKilled, Self::Emptied, Self::EmptiedForLong];
}

/// The datacenters, and what observes them.
#[derive(Debug)]
pub struct Datacenters {
    times: Times,
    net: Net,
    near: Agent,
    far: Agent,
    served: Vec<Served>,
}

impl Datacenters {
    /// Starts them; `None` where this machine has no Consul.
    pub async fn start(times: Times) -> Option<Self> {
        let binary = consul_binary()?;
        let mut net = Net::of(&[NEAR, FAR]).await;
        let near = server(&binary, &net, NEAR, "dc1", FAR);
        let far = server(&binary, &net, FAR, "dc2", NEAR);
        let near_voice = Voice::of(&[near.url()], None, &["dc1", "dc2"]);
        for voice in [&near_voice, &Voice::of(&[far.url()], None, &["dc2"])] {
            eventually("a datacenter is filled", async || fill(voice).await).await;
        }
        let sees_all =
            async || near_voice.truth().await.is_some_and(|truth| truth.len() == 2 * (7 + 13));
        eventually("the datacenters know each other", sees_all).await;

        let address = near.url().trim_start_matches("http://").parse().unwrap();
        let urls = [format!("http://{}", net.open(US, NEAR, address).await)];
        let variables = [times.variables(), room_for(60)].concat();
        let questions = [questions(), far_questions()].concat();
        let served = vec![Served::start("asks dc1", &urls, near_voice, variables, questions).await];
        Some(Self { times, net, near, far, served })
    }

    /// Waits until Consul, started at `since`, is heard to have nothing, and until that is believed.
    async fn lose_all(&mut self, since: Instant) {
        let served = &mut self.served[0];
        let is_empty = async || {
            let listed = served.voice.get("/v1/catalog/services?consistent").await;
            listed.is_some_and(|listed| listed == json!({ "consul": [] }))
        };
        eventually("Consul is empty", is_empty).await;
        // Before it was started nobody could know of it.
        served.account.lacking.push((since + self.times.guard_hold, None));
        let server = served.dns();
        let patience = self.times.guard_hold + CONVERGED_WITHIN;
        let is_denied = poll(patience, async || {
            let (code, _) = ask(server, &name("app", "dc1")).await?;
            (code == ResponseCode::NXDomain).then_some(())
        });
        assert!(is_denied.await.is_some(), "an empty catalogue is not believed in {patience:?}");
    }
}

impl Scene for Datacenters {
    type Fault = Fault;

    fn words(fault: Fault) -> &'static str {
        match fault {
            Fault::WanCut => "the way to another datacenter is cut",
            Fault::FarKilled => "all servers of another datacenter are killed",
            Fault::Emptied => "Consul comes back empty, and is filled within `guard.hold`",
            Fault::EmptiedForLong => "Consul comes back empty, and stays so",
        }
    }

    fn served(&mut self) -> &mut [Served] {
        &mut self.served
    }

    fn voices(&self) -> Vec<Voice> {
        vec![
            Voice::of(&[self.near.url()], None, &["dc1"]),
            Voice::of(&[self.far.url()], None, &["dc2"]),
        ]
    }

    async fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::WanCut => self.net.set(NEAR, FAR, Condition::Cut),
            Fault::FarKilled => self.far.kill(),
            Fault::Emptied | Fault::EmptiedForLong => {
                self.near.kill();
                self.near.forget();
            }
        }
    }

    async fn hold(&mut self, fault: Fault) {
        match fault {
            Fault::WanCut => pause(self.times.hang).await,
            Fault::FarKilled | Fault::Emptied => pause(self.times.hold).await,
            Fault::EmptiedForLong => {
                let since = Instant::now();
                self.near.start_again();
                self.lose_all(since).await;
            }
        }
    }

    async fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::WanCut => self.net.set(NEAR, FAR, Condition::Clear),
            Fault::FarKilled => self.far.start_again(),
            Fault::Emptied => {
                self.near.start_again();
                let voice = self.voices().remove(0);
                eventually("dc1 is filled again", async || fill(&voice).await).await;
            }
            Fault::EmptiedForLong => {
                let voice = self.voices().remove(0);
                eventually("dc1 is filled again", async || fill(&voice).await).await;
                for (_, end) in &mut self.served[0].account.lacking {
                    *end = Some(Instant::now() + CONVERGED_WITHIN);
                }
            }
        }
    }

    fn touches(fault: Fault, _: usize) -> bool {
        match fault {
            Fault::FarKilled | Fault::WanCut => false,
            Fault::Emptied | Fault::EmptiedForLong => true,
        }
    }

    fn grace(&self, fault: Fault) -> Duration {
        match fault {
            Fault::FarKilled | Fault::WanCut => Duration::ZERO,
            // What else vanishes is held back with the rest.
            Fault::Emptied | Fault::EmptiedForLong => self.times.guard_hold,
        }
    }

    fn may_die(fault: Fault) -> bool {
        match fault {
            // What a snapshot file had just now is doubted no more than what was heard.
            Fault::Emptied | Fault::FarKilled | Fault::WanCut => true,
            Fault::EmptiedForLong => false,
        }
    }

    fn is_felt(_: Fault) -> bool {
        true
    }
}

fn server(binary: &Path, net: &Net, host: Host, datacenter: &str, other: Host) -> Agent {
    let wan = format!("{}:{}", net.known(other), net.ports().wan);
    let extra = json!({
        "bootstrap_expect": 1,
        "datacenter": datacenter,
        "retry_interval_wan": "1s",
        "retry_join_wan": [wan],
        "server": true,
    });
    Agent::start(binary.to_owned(), net, host, &[], &extra)
}

const NEAR: Host = Host(1);
const FAR: Host = Host(2);

/// Where the fingerpost is.
const US: Host = Host(9);
