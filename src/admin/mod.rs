//! The operator's port: is it alive, is it ready, what does it count.
//!
//! ```text
//!   GET /health    200 while the process runs
//!   GET /ready     200 once nothing is pending, until a stop; else 503 and what is, by line.
//!                  A second line says that nothing was heard yet, and a file has it all; with
//!                  ?verbose more say what there is, and what Consul does not show
//!   GET /metrics   Prometheus' text format
//!   GET /v1/...    what is in memory, how the watches stand, why an answer is what it is, and what
//!                  changes, as it changes
//!   GET /          all of this as a page for people
//! ```
//! It reads the store, the board, the news and the metrics, and knows neither Consul nor the
//! listeners.

mod api;
mod events;
mod explaining;
mod hosts;
mod page;
mod reloading;
mod serving;
mod verbose;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::admin::page::Page;
use crate::admin::serving::Serving;
use crate::board::Board;
use crate::catalog::Found;
use crate::clock::Clock;
use crate::config::AdminConfig;
use crate::metrics::Metrics;
use crate::name::Zone;
use crate::news::News;
use crate::store::{Cell, Store};
use crate::telemetry;

pub use explaining::{Explain, Explaining};
pub use reloading::{Refused, Reload, Reloaded};

/// What is shown.
#[derive(Clone)]
pub struct Parts {
    /// What is answered from.
    pub store: Arc<Store>,
    /// What is counted.
    pub metrics: Metrics,
    /// How the watches stand.
    pub board: Arc<Board>,
    /// What changes.
    pub news: News,
    /// By which ages are told.
    pub clock: Clock,
    /// Says why an answer is what it is.
    pub explain: Explain,
    /// Has the configuration read again.
    pub reload: Reload,
    /// Names that the port may be asked under.
    pub hosts: Arc<Cell<Vec<String>>>,
    /// From when it is cancelled on, the program is not ready any more.
    pub stopping: CancellationToken,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// What the routes read.
#[derive(Clone, Debug)]
pub struct Admin {
    parts: Parts,
    /// A permit for each stream of events that may be opened.
    listeners: Arc<Semaphore>,
    /// Ends the streams of events.
    cancel: CancellationToken,
    page: Arc<Page>,
}

impl Admin {
    /// Shows `parts`, within the limits of `config`, until `cancel`.
    pub fn new(parts: Parts, config: &AdminConfig, cancel: CancellationToken) -> Self {
        let listeners = Arc::new(Semaphore::new(config.events_max));
        let policy = parts.store.policy.load();
        let page = Arc::new(Page::new(policy.zones.first().map_or("", Zone::as_str)));
        Self { parts, listeners, cancel, page }
    }

    /// What keeps the program from being ready; nothing, where it is.
    fn pending(&self) -> Vec<String> {
        match self.parts.stopping.is_cancelled() {
            true => vec!["stopping".to_owned()],
            false => self.parts.store.pending.load().0.clone(),
        }
    }

    /// Serves until cancelled, then lets the requests end that are being answered.
    ///
    /// The listener is bound already; of `config` the limits are kept to.
    pub async fn serve(self, listener: TcpListener, config: AdminConfig) {
        let (counts, cancel) = (self.parts.metrics.admin.clone(), self.cancel.clone());
        let for_machines = Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics));
        let for_people = Router::new()
            .route("/", get(page::page))
            .route("/v1/datacenters", get(api::datacenters))
            .route("/v1/events", get(events::events))
            .route("/v1/explain", get(explaining::explain))
            .route("/v1/nodes", get(api::nodes))
            .route("/v1/openapi.json", get(openapi))
            .route("/v1/services", get(api::services))
            .route("/v1/services/{name}", get(api::service))
            .route("/v1/watches", get(api::watches))
            .route("/v1/reload", post(reloading::reload))
            .layer(middleware::from_fn_with_state(self.clone(), hosts::check));
        let routes = for_machines.merge(for_people).with_state(self);
        let AdminConfig { connections_max, idle, .. } = config;
        Serving { routes, connections_max, idle, metrics: counts }.run(listener, cancel).await;
    }
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let mut lines = admin.pending();
    let snapshot = admin.parts.store.snapshot.load();
    let status = match lines.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    if lines.is_empty() {
        lines.push("ready".to_owned());
        if matches!(snapshot.datacenter(None), Found::Here(local) if local.is_loaded()) {
            lines.push("stale, from snapshot".to_owned());
        }
    }
    if query.is_some_and(|query| query.split('&').any(|word| word == "verbose")) {
        lines.extend(verbose::lines(
            &snapshot,
            &admin.parts.metrics,
            admin.parts.clock.signed_ms(),
        ));
    }
    lines.push(String::new());
    (status, lines.join("\n")).into_response()
}

/// With `?name[]=` those of these names only, as Prometheus' own libraries have it.
async fn metrics(
    State(admin): State<Admin>,
    Query(wanted): Query<Vec<(String, String)>>,
) -> Response {
    let names = wanted.into_iter().filter(|(key, _)| key == "name[]").map(|(_, name)| name);
    let counts = &admin.parts.metrics.admin;
    counts.ready.set(i64::from(admin.pending().is_empty()));
    counts.set_log_lost(telemetry::lost_lines());
    match admin.parts.metrics.encode(&names.collect()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            error!(%error, "cannot encode the metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics\n").into_response()
        }
    }
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// What all of this is, for programs.
const OPENAPI: &str = include_str!("../../config/openapi.json");

/// Prometheus' text exposition format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
