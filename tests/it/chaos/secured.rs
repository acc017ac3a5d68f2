//! One server with ACLs and TLS on, and a fingerpost that has a token and checks certificates.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::net::{Host, Net};
use crate::chaos::served::Served;
use crate::chaos::times::Times;
use crate::chaos::trial::Scene;
use crate::chaos::voice::Voice;
use crate::chaos::world::{fill, questions, room_for};
use crate::support::authority::Authority;
use crate::support::consul::Consul;
use crate::support::wait::{eventually, pause};

/// What may happen to it, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    CertificateExpired,
    RightsTaken,
    TokenDeleted,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CertificateExpired, Self::RightsTaken, Self::TokenDeleted];
}

/// The server, and what observes it.
#[derive(Debug)]
pub struct Secured {
    times: Times,
    authority: Authority,
    net: Net,
    consul: Consul,
    voice: Voice,
    served: Vec<Served>,
    /// The `ID` of the policy, and the `AccessorID` of the token.
    ids: [String; 2],
}

impl Secured {
    /// Starts it; `None` where this machine has no Consul.
    pub async fn start(times: Times) -> Option<Self> {
        let authority = Authority::new();
        authority.issue_until("consul", NAME, NEXT_CENTURY);
        let consul = Consul::start_with(json!({
            "acl": { "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER } },
            "cert_file": authority.path("consul.pem"),
            "key_file": authority.path("consul.key"),
        }))
        .await?;
        let voice = Voice::of(&[&consul.url("")], Some(MASTER), &["dc1"]);
        eventually("the server is filled", async || fill(&voice).await).await;
        let policy = put(&consul, "/v1/acl/policy", &policy(RIGHTS)).await;
        let token = put(&consul, "/v1/acl/token", &token()).await;
        let id = |body: &Value, key: &str| body[key].as_str().unwrap().to_owned();
        let ids = [id(&policy, "ID"), id(&token, "AccessorID")];

        let mut net = Net::of(&[]).await;
        let way = net.open(US, CONSUL, consul.https_address()).await;
        let mut variables = [times.variables(), room_for(6)].concat();
        for (name, value) in [
            ("CONSUL_CACERT", authority.path("ca.pem").display().to_string()),
            ("CONSUL_TLS_SERVER_NAME", NAME.to_owned()),
            ("CONSUL_HTTP_TOKEN", TOKEN.to_owned()),
            // Longer than the token is without its rights.
            ("FINGERPOST_GUARD_HOLD", format!("{}s", guard_hold(times).as_secs())),
        ] {
            variables.push((name.to_owned(), value));
        }
        let urls = [format!("https://{way}")];
        let label = "asks with a token, over TLS";
        let served = vec![Served::start(label, &urls, voice.clone(), variables, questions()).await];
        Some(Self { times, authority, net, consul, voice, served, ids })
    }

    /// Has Consul show its certificate, and forget the connections that saw another.
    async fn show_certificate(&self) {
        self.consul.reconfigure(&json!({})).await;
        self.net.break_off(US, CONSUL);
    }
}

impl Scene for Secured {
    type Fault = Fault;

    fn words(fault: Fault) -> &'static str {
        match fault {
            Fault::CertificateExpired => "Consul's certificate expires, and is renewed",
            Fault::RightsTaken => "the token loses its rights for less than `guard.hold`",
            Fault::TokenDeleted => "the token is deleted, and created again",
        }
    }

    fn served(&mut self) -> &mut [Served] {
        &mut self.served
    }

    fn voices(&self) -> Vec<Voice> {
        vec![self.voice.clone()]
    }

    async fn strike(&mut self, fault: Fault) {
        let [policy_id, token_id] = &self.ids;
        match fault {
            Fault::CertificateExpired => {
                self.authority.issue_until("consul", NAME, LAST_DECADE);
                self.show_certificate().await;
            }
            Fault::RightsTaken => {
                put(&self.consul, &format!("/v1/acl/policy/{policy_id}"), &policy("")).await;
            }
            Fault::TokenDeleted => {
                let url = self.consul.url(&format!("/v1/acl/token/{token_id}"));
                let request = reqwest::Client::new().delete(url).header("X-Consul-Token", MASTER);
                request.send().await.unwrap().error_for_status().unwrap();
            }
        }
    }

    async fn hold(&mut self, _: Fault) {
        pause(self.times.hang).await;
    }

    async fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::CertificateExpired => {
                self.authority.issue_until("consul", NAME, NEXT_CENTURY);
                self.show_certificate().await;
            }
            Fault::RightsTaken => {
                let path = format!("/v1/acl/policy/{}", self.ids[0]);
                put(&self.consul, &path, &policy(RIGHTS)).await;
            }
            Fault::TokenDeleted => {
                let token = put(&self.consul, "/v1/acl/token", &token()).await;
                self.ids[1] = token["AccessorID"].as_str().unwrap().to_owned();
            }
        }
    }

    fn touches(_: Fault, _: usize) -> bool {
        true
    }

    fn grace(&self, fault: Fault) -> Duration {
        match fault {
            Fault::CertificateExpired | Fault::TokenDeleted => Duration::ZERO,
            // What else vanishes is held back with the rest.
            Fault::RightsTaken => guard_hold(self.times),
        }
    }

    fn may_die(fault: Fault) -> bool {
        match fault {
            Fault::CertificateExpired | Fault::TokenDeleted => true,
            // To one that is new nothing is sudden.
            Fault::RightsTaken => false,
        }
    }

    fn is_felt(fault: Fault) -> bool {
        match fault {
            Fault::CertificateExpired | Fault::TokenDeleted => true,
            // Consul says nothing of it: its replies are good, and empty.
            Fault::RightsTaken => false,
        }
    }
}

/// Longer than the token is without its rights.
fn guard_hold(times: Times) -> Duration {
    times.hang + Duration::from_secs(15)
}

fn policy(rules: &str) -> Value {
    json!({ "Name": "fingerpost", "Rules": rules })
}

fn token() -> Value {
    json!({ "Policies": [{ "Name": "fingerpost" }], "SecretID": TOKEN })
}

async fn put(consul: &Consul, path: &str, body: &Value) -> Value {
    serde_json::from_str(&consul.put(path, body).await).unwrap()
}

/// The rights that the README gives the token.
const RIGHTS: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;

const MASTER: &str = "5d1f7b0c-0000-4000-8000-000000000001";
const TOKEN: &str = "5d1f7b0c-0000-4000-8000-000000000002";

/// The name in Consul's certificate.
const NAME: &str = "server.dc1.consul";

const LAST_DECADE: i32 = 2019;
const NEXT_CENTURY: i32 = 2100;

const CONSUL: Host = Host(1);

/// Where the fingerpost is.
const US: Host = Host(9);
