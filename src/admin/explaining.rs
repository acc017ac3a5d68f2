//! `/v1/explain`: why a question is answered as it is.
//!
//! It says what the data plane says, which explains what it would answer; here a question is read
//! from a URL, and what the watches say of themselves is added.

use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::api::{Params, Problem, WatchJson, form, local_name};
use crate::board::{Watch, What};
use crate::explain::Explanation;
use crate::explain::words::{parse_name, shown};
use crate::wire::CLASS_IN;

/// Explains what a query, as on the wire, is answered with for a client over UDP.
pub type Explain = Arc<dyn Fn(Vec<u8>, IpAddr) -> Explaining + Send + Sync>;

/// What comes of it; `None` where the query cannot be read.
pub type Explaining = Pin<Box<dyn Future<Output = Option<Explanation>> + Send>>;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Asking {
    name: String,
    /// As `A`, `SRV` or `TYPE65`.
    #[serde(rename = "type")]
    rtype: Option<String>,
    client: Option<String>,
    /// How many bytes the client takes over UDP; 0 is without EDNS.
    bytes: Option<u16>,
    /// `json`, or `text`.
    format: Option<String>,
}

/// An explanation, with what the watches say of themselves.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// Those that the answer comes from: the service's own, and its datacenter's lists.
    watches: Vec<WatchJson>,
    /// What has to happen before the program is ready.
    pending: Vec<String>,
    /// All of this for people.
    text: String,
}

pub(in crate::admin) async fn explain(
    State(admin): State<Admin>,
    Params(asking): Params<Asking>,
) -> Response {
    let (query, client) = match read(&asking) {
        Ok(read) => read,
        Err(error) => return Problem::reply(StatusCode::BAD_REQUEST, error),
    };
    let is_text = match asking.format.as_deref() {
        Some("text") => true,
        Some("json") | None => false,
        Some(other) => {
            let error = format!("format: {other:?} is neither \"json\" nor \"text\"");
            return Problem::reply(StatusCode::BAD_REQUEST, error);
        }
    };
    let Some(explanation) = (admin.parts.explain)(query, client).await else {
        let error = format!("name: {:?} cannot be asked", asking.name);
        return Problem::reply(StatusCode::BAD_REQUEST, error);
    };
    let explained = add_watches(&admin, explanation);
    match is_text {
        true => explained.text.into_response(),
        false => Json(explained).into_response(),
    }
}

/// The query that is meant, and who asks it.
fn read(asking: &Asking) -> Result<(Vec<u8>, IpAddr), String> {
    let Asking { name, rtype, client, bytes, .. } = asking;
    let wire = parse_name(name).map_err(|error| format!("name: {name:?}: {error}"))?;
    let rtype = rtype.as_deref().unwrap_or("A");
    let upper = rtype.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok());
    let named = || upper.parse::<RecordType>().ok().map(u16::from);
    let Some(rtype) = number.or_else(named) else {
        return Err(format!("type: {rtype:?} is no type, as A, SRV or TYPE65"));
    };
    let client = match client {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => text.parse().map_err(|_| format!("client: {text:?} is no IP address"))?,
    };
    let payload = bytes.unwrap_or(BYTES);
    let mut message = vec![0, 1, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(payload > 0)];
    message.extend_from_slice(&wire);
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    if payload > 0 {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&payload.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    Ok((message, client))
}

fn add_watches(admin: &Admin, mut explanation: Explanation) -> Explained {
    let mut wanted = Vec::new();
    let snapshot = admin.parts.store.snapshot.load();
    let datacenter = match &explanation.subject {
        Some(subject) => Some(subject.datacenter.clone()),
        None => explanation.is_ours.then(|| local_name(&snapshot)).flatten(),
    };
    if let Some(datacenter) = datacenter {
        if let Some(subject) = explanation.subject.as_ref().filter(|it| !it.form.is_empty()) {
            let (form, service) = (form(subject.form), subject.name.to_ascii_lowercase());
            wanted.push((datacenter.clone(), What::Instances { form, service }));
        }
        let list = match explanation.subject.as_ref().map(|it| it.kind) {
            Some("node") => What::Nodes,
            _ => What::Services,
        };
        wanted.push((datacenter, list));
    }
    let mut watches = Vec::new();
    let mut is_filtered = false;
    for (datacenter, what) in wanted {
        let watch = Watch { datacenter, what };
        if let Some(standing) = admin.parts.board.find(&watch) {
            is_filtered |= standing.is_filtered;
            watches.push(WatchJson::new(watch, standing));
        }
    }
    let subject = explanation.subject.as_ref();
    let is_of_names = subject.is_some_and(|it| NAMED.contains(&it.kind));
    let is_there = subject.is_some_and(|it| it.is_there);
    let is_denied = explanation.reply.as_ref().is_some_and(|reply| reply.rcode == "NXDOMAIN");
    if is_of_names && is_filtered {
        explanation.hints.push(HIDES.to_owned());
    } else if is_of_names && is_denied && !is_there && !watches.is_empty() {
        explanation.hints.push(MAY_HIDE.to_owned());
    }
    let pending = admin.parts.store.pending.load().0.clone();
    let mut text = explanation.to_string();
    for watch in &watches {
        writeln!(text, "watch       {}", shown(&watch.text())).ok();
    }
    for pending in &pending {
        writeln!(text, "not ready   {}", shown(pending)).ok();
    }
    Explained { explanation, watches, pending, text }
}

/// What tokens have rights to.
const NAMED: [&str; 2] = ["node", "service"];

/// Consul has said so.
const HIDES: &str = "Consul says that the token may not read all of this, so some of it may exist and \
                     be hidden: it takes service:read and node:read.";

/// It need not.
const MAY_HIDE: &str = "What a token may not read Consul does not show, before 1.11 without a word: it \
                        takes service:read and node:read.";

/// What resolvers say: the size that crosses any network unfragmented (DNS Flag Day 2020).
const BYTES: u16 = 1232;
