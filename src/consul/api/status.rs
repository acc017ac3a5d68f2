//! What Consul says of its servers: whether one leads, how many there are, and how many are alive.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::consul::api::{ask, or_null};
use crate::consul::client::{Ask, Scope};

/// Whether the local datacenter has a leader.
pub fn has_leader() -> Ask<bool> {
    Ask { scope: Scope::Agent, ..ask("status/leader", &["v1", "status", "leader"], None, is_named) }
}

/// How many servers vote in the local datacenter, be they alive or not.
pub fn peers() -> Ask<usize> {
    Ask { scope: Scope::Agent, ..ask("status/peers", &["v1", "status", "peers"], None, count) }
}

/// The servers among the agents that the local one knows, as far as the token may see them.
pub fn servers() -> Ask<Servers> {
    Ask {
        scope: Scope::Agent,
        ..ask("agent/members", &["v1", "agent", "members"], None, servers_of)
    }
}

/// The servers as their leader sees them. It takes `operator:read`.
///
/// A server that lags is unhealthy to autopilot, but no less alive.
pub fn autopilot() -> Ask<Servers> {
    let path = ["v1", "operator", "autopilot", "health"];
    let asked = ask("operator/autopilot/health", &path, None, autopilot_servers);
    Ask { scope: Scope::Agent, may_report: true, ..asked }
}

/// Servers as the agents see each other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Servers {
    /// Alive or not.
    pub known: usize,
    /// Of these.
    pub alive: usize,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct MemberJson {
    tags: Option<BTreeMap<String, String>>,
    status: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AutopilotJson {
    servers: Option<Vec<AutopilotServer>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AutopilotServer {
    serf_status: Option<String>,
}

fn is_named(body: &[u8]) -> Result<bool, serde_json::Error> {
    or_null::<String>(body).map(|address| !address.is_empty())
}

fn count(body: &[u8]) -> Result<usize, serde_json::Error> {
    or_null::<Vec<String>>(body).map(|peers| peers.len())
}

fn servers_of(body: &[u8]) -> Result<Servers, serde_json::Error> {
    let members: Vec<MemberJson> = or_null(body)?;
    let is_server = |member: &&MemberJson| {
        member.tags.as_ref().and_then(|tags| tags.get("role")).is_some_and(|role| role == "consul")
    };
    let is_there = |member: &&MemberJson| member.status != LEFT;
    let servers: Vec<_> = members.iter().filter(is_server).filter(is_there).collect();
    let alive = servers.iter().filter(|member| member.status == ALIVE).count();
    Ok(Servers { known: servers.len(), alive })
}

fn autopilot_servers(body: &[u8]) -> Result<Servers, serde_json::Error> {
    let servers = or_null::<AutopilotJson>(body)?.servers.unwrap_or_default();
    let is_in = |server: &&AutopilotServer, status| server.serf_status.as_deref() == Some(status);
    let there: Vec<_> = servers.iter().filter(|server| !is_in(server, "left")).collect();
    let alive = there.iter().filter(|server| is_in(server, "alive")).count();
    Ok(Servers { known: there.len(), alive })
}

/// Serf's numbers for the state of a member.
const ALIVE: i64 = 1;
const LEFT: i64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_leaders() {
        for (body, expected) in [(r#""10.0.0.1:8300""#, true), (r#""""#, false), ("null", false)] {
            assert_eq!(is_named(body.as_bytes()).unwrap(), expected, "{body}");
        }
        assert_eq!(count(br#"["10.0.0.1:8300", "10.0.0.2:8300"]"#).unwrap(), 2);
        let members = br#"[{"Name": "s1", "Tags": {"role": "consul"}, "Status": 1},
            {"Name": "s2", "Tags": {"role": "consul"}, "Status": 4},
            {"Name": "s3", "Tags": {"role": "consul"}, "Status": 3},
            {"Name": "c1", "Tags": {"role": "node"}, "Status": 1}, {"Name": "x", "Tags": null}]"#;
        assert_eq!(servers_of(members).unwrap(), Servers { known: 2, alive: 1 });
        let autopilot = br#"{"Healthy": false, "FailureTolerance": 0, "Servers": [
            {"Name": "s1", "SerfStatus": "alive", "Healthy": true},
            {"Name": "s2", "SerfStatus": "alive", "Healthy": false},
            {"Name": "s3", "SerfStatus": "failed"}, {"Name": "s4", "SerfStatus": "left"}]}"#;
        assert_eq!(autopilot_servers(autopilot).unwrap(), Servers { known: 3, alive: 2 });
        assert_eq!(autopilot_servers(b"null").unwrap(), Servers::default());
    }
}
