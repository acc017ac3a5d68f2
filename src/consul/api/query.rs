//! Prepared queries: their list, and what one finds when it is executed.

use serde::Deserialize;

use crate::catalog::change::Executed;
use crate::catalog::model::Instance;
use crate::catalog::queries::{self, Queries, QueryEntry};
use crate::config::duration;
use crate::consul::api::{HealthEntry, ask, or_null};
use crate::consul::client::Ask;

/// What a prepared query found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Execution {
    /// In Consul's order: the nearest first where the query asks for that.
    pub instances: Vec<Instance>,
    /// What it said besides; `None` where there is no such query.
    pub executed: Option<Executed>,
}

/// What the prepared query `name` finds now, for a client if it is for one. Does not block.
pub fn execution(datacenter: Option<&str>, name: &str) -> Ask<Execution> {
    let (name, client) = queries::split(name);
    let asked = ask("query/execute", &["v1", "query", name, "execute"], datacenter, executed);
    Ask { client, ..asked }
}

/// The prepared queries of a datacenter that the token may see.
pub fn queries(datacenter: Option<&str>) -> Ask<Queries> {
    ask("query", &["v1", "query"], datacenter, query_list)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ExecutionJson {
    service: String,
    nodes: Option<Vec<HealthEntry>>,
    #[serde(rename = "DNS")]
    dns: Option<DnsJson>,
    datacenter: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DnsJson {
    #[serde(rename = "TTL")]
    ttl: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct QueryJson {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    service: Option<ServiceJson>,
    modify_index: u64,
    template: Option<TemplateJson>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ServiceJson {
    near: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct TemplateJson {
    #[serde(rename = "Type")]
    kind: String,
}

/// In the order of the reply, which may mean something.
fn executed(body: &[u8]) -> Result<Execution, serde_json::Error> {
    let json: ExecutionJson = or_null(body)?;
    let ttl = json.dns.and_then(|dns| dns.ttl).unwrap_or_default();
    let executed = Executed {
        datacenter: json.datacenter.to_ascii_lowercase(),
        service: json.service,
        ttl_secs: duration::parse(&ttl).and_then(|ttl| u32::try_from(ttl.as_secs()).ok()),
        // Only the list of queries tells.
        is_sorted: false,
    };
    let nodes = json.nodes.unwrap_or_default().into_iter();
    let instances = nodes.filter_map(HealthEntry::into_instance).collect();
    Ok(Execution { instances, executed: Some(executed) })
}

fn query_list(body: &[u8]) -> Result<Queries, serde_json::Error> {
    let entries: Vec<QueryJson> = or_null(body)?;
    let entries = entries.into_iter().map(|json| QueryEntry {
        name: json.name.to_ascii_lowercase(),
        id: json.id.to_ascii_lowercase(),
        is_template: json.template.is_some_and(|template| !template.kind.is_empty()),
        near: json.service.map(|service| service.near).unwrap_or_default(),
        modified: json.modify_index,
    });
    Ok(Queries::new(entries.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_and_what_it_says() {
        let body = br#"{"Service": "web", "DNS": {"TTL": "10s"}, "Datacenter": "DC2", "Failovers": 1,
            "Nodes": [
                {"Node": {"Node": "n2", "Address": "10.0.0.2"}, "Service": {"ID": "b"}, "Checks": null},
                {"Node": {"Node": "n1", "Address": "10.0.0.1"}, "Service": {"ID": "a"}}
            ]}"#;
        let Execution { instances, executed } = executed(body).unwrap();
        let ids: Vec<_> = instances.iter().map(|instance| &*instance.id).collect();
        assert_eq!(ids, ["b", "a"]);
        let expected = Executed {
            datacenter: "dc2".to_owned(),
            service: "web".to_owned(),
            ttl_secs: Some(10),
            is_sorted: false,
        };
        assert_eq!(executed, Some(expected));
        for (ttl, expected) in [("", None), ("1500ms", Some(1)), ("junk", None)] {
            let body = format!(r#"{{"DNS": {{"TTL": "{ttl}"}}}}"#);
            let found = super::executed(body.as_bytes()).unwrap().executed.unwrap();
            assert_eq!(found.ttl_secs, expected, "{ttl}");
        }
    }

    #[test]
    fn a_list_of_queries() {
        let body = br#"[
            {"ID": "ABC", "Name": "Geo", "Service": {"Near": "_agent"}, "Template": {"Type": ""}},
            {"ID": "d", "Name": "t-", "Template": {"Type": "name_prefix_match"}, "Service": null}
        ]"#;
        let queries = query_list(body).unwrap();
        assert_eq!(queries.find(b"geo").map(|query| &*query.near), Some("_agent"));
        assert_eq!(queries.find(b"abc").map(|query| &*query.name), Some("geo"));
        assert!(queries.find(b"t-x").is_some_and(|query| query.is_template));
        assert_eq!(query_list(b"null").unwrap(), Queries::default());
    }
}
