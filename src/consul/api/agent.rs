//! What the agent says of itself: where it is, and whether a token decides what is seen.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::consul::api::{ask, or_null};
use crate::consul::client::{Ask, Client, Place, Reply, Scope};
use crate::consul::fetch::FetchError;

/// What the agent says of itself; nothing where its token may not ask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Agent {
    /// The datacenter that it is in.
    pub datacenter: Option<String>,
    /// Whether it has no ACLs, so that every list is whole. False where it does not say.
    pub is_open: bool,
}

/// Asks the agent about itself.
///
/// # Errors
///
/// As [`Client::read`], but for status 403: the list of nodes tells the datacenter as well.
pub async fn fetch_self(client: &Client) -> Result<Agent, FetchError> {
    let ask =
        Ask { scope: Scope::Agent, ..ask("agent/self", &["v1", "agent", "self"], None, agent) };
    match client.read(&ask, None, Place::Spare).await {
        Ok(Reply { value, .. }) => Ok(value),
        Err(FetchError::Status { status: 403, .. }) => Ok(Agent::default()),
        Err(error) => Err(error),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct SelfJson {
    config: Option<ConfigJson>,
    member: Option<MemberJson>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigJson {
    datacenter: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct MemberJson {
    tags: Option<BTreeMap<String, String>>,
}

fn agent(body: &[u8]) -> Result<Agent, serde_json::Error> {
    let SelfJson { config, member } = or_null(body)?;
    let datacenter = config.and_then(|config| config.datacenter).filter(|name| !name.is_empty());
    let tags = member.and_then(|member| member.tags).unwrap_or_default();
    // Consul gossips "0" for off, "1" for on, "2" for those of old.
    let is_open = tags.get("acls").is_some_and(|acls| acls == "0");
    Ok(Agent { datacenter, is_open })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_and_what_they_say() {
        for (body, datacenter, is_open) in [
            (
                r#"{"Config": {"Datacenter": "dc1"}, "Member": {"Tags": {"acls": "0"}}}"#,
                "dc1",
                true,
            ),
            (
                r#"{"Config": {"Datacenter": "dc1"}, "Member": {"Tags": {"acls": "1"}}}"#,
                "dc1",
                false,
            ),
            (r#"{"Config": {"Datacenter": ""}, "Member": {"Tags": null}}"#, "none", false),
            (r#"{"Config": null, "Member": {}}"#, "none", false),
            ("null", "none", false),
        ] {
            let got = agent(body.as_bytes()).unwrap();
            let datacenter_got = got.datacenter.as_deref().unwrap_or("none");
            assert_eq!((datacenter_got, got.is_open), (datacenter, is_open), "{body}");
        }
    }
}
