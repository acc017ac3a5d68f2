//! `/v1/events`: what changes in the catalogue, as it changes, as server-sent events.
//!
//! ```text
//!   event: service
//!   data: {"datacenter":"dc1","name":"web","health":{"critical":0,"passing":3,...}}
//! ```
//! Who listens first and reads the catalogue then misses nothing. Who is too slow is told how many
//! events are lost, as `lagged`, and goes on: it reads the catalogue again. A client that reads
//! nothing at all is the connection's to end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures_util::stream;
use prometheus::IntGauge;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::admin::api::{Problem, health_counts};
use crate::metrics::AdminMetrics;
use crate::news::{Item, Names};

pub(in crate::admin) async fn events(State(admin): State<Admin>) -> Response {
    let counts = &admin.parts.metrics.admin;
    let Ok(permit) = Arc::clone(&admin.listeners).try_acquire_owned() else {
        counts.listeners_refused.inc();
        let error = "admin.events_max streams are open".to_owned();
        return Problem::reply(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let listener = Listener {
        items: admin.parts.news.listen(),
        cancel: admin.cancel.clone(),
        counts: counts.clone(),
        _place: Place::take(permit, counts.listeners.clone()),
    };
    stream_to(listener)
}

/// A reply that goes on until the listener has gone, or the program ends.
fn stream_to(listener: Listener) -> Response {
    // A first line at once, so that nothing in between waits for one.
    let first = Event::default().comment("listening").retry(RETRY);
    let events = stream::unfold((Some(first), listener), async |(first, mut listener)| {
        let event = match first {
            Some(first) => first,
            None => listener.next().await?,
        };
        Some((Ok::<_, Infallible>(event), (None, listener)))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    // nginx would hold it back.
    let headers = [(header::CACHE_CONTROL, "no-store"), (UNBUFFERED, "no")];
    (headers, Sse::new(events).keep_alive(alive)).into_response()
}

/// One that is told.
struct Listener {
    items: Receiver<Arc<Item>>,
    cancel: CancellationToken,
    counts: AdminMetrics,
    _place: Place,
}

impl Listener {
    /// The next event, when there is one. `None` ends the stream, as the program ends.
    async fn next(&mut self) -> Option<Event> {
        let (name, data) = match self.cancel.run_until_cancelled(self.items.recv()).await? {
            Ok(item) => named(&item),
            Err(RecvError::Lagged(missed)) => {
                self.counts.events_missed.inc_by(missed);
                ("lagged", json!({ "missed": missed }))
            }
            Err(RecvError::Closed) => return None,
        };
        Some(Event::default().event(name).data(data.to_string()))
    }
}

/// A place among the listeners, which is given back when this is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    taken: IntGauge,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit, taken: IntGauge) -> Self {
        taken.inc();
        Self { _permit: permit, taken }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec();
    }
}

/// The name and the data of the event that tells `item`.
fn named(item: &Item) -> (&'static str, Value) {
    match item {
        Item::Datacenters { added, removed, local } => {
            ("datacenters", json!({ "added": added, "removed": removed, "local": local }))
        }
        Item::Nodes { datacenter, names: Names { added, changed, removed } } => {
            let data = json!({
                "datacenter": **datacenter, "added": added, "changed": changed, "removed": removed,
            });
            ("nodes", data)
        }
        Item::Reach { datacenter, is_heard, is_old } => {
            let data =
                json!({ "datacenter": **datacenter, "is_heard": is_heard, "is_old": is_old });
            ("reach", data)
        }
        Item::Service { datacenter, name, health } => {
            let health = health.map(health_counts);
            ("service", json!({ "datacenter": **datacenter, "name": name, "health": health }))
        }
        Item::Services { datacenter, names: Names { added, removed, .. } } => {
            let data = json!({ "datacenter": **datacenter, "added": added, "removed": removed });
            ("services", data)
        }
    }
}

/// After how long a client connects again.
const RETRY: Duration = Duration::from_secs(2);

/// Between two lines: proxies end what is silent for longer, and who has gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const UNBUFFERED: header::HeaderName = header::HeaderName::from_static("x-accel-buffering");

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use prometheus::Registry;
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;
    use crate::news::News;

    /// Frames of a reply, each with the seconds until it came.
    async fn frames(body: &mut Body, count: usize) -> Vec<(u64, String)> {
        let mut frames = Vec::new();
        let began = Instant::now();
        for _ in 0..count {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let text = String::from_utf8(data.to_vec()).unwrap();
            frames.push((began.elapsed().as_secs(), text));
        }
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_nothing_hears_that_the_stream_is_alive() {
        let counts = AdminMetrics::register(&Registry::new()).unwrap();
        let places = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&places).try_acquire_owned().unwrap();
        let (news, cancel) = (News::new(), CancellationToken::new());
        let listener = Listener {
            items: news.listen(),
            cancel: cancel.clone(),
            counts: counts.clone(),
            _place: Place::take(permit, counts.listeners.clone()),
        };
        let mut body = stream_to(listener).into_body();
        let expected = [
            (0, ": listening\nretry: 2000\n\n"),
            (15, ": keep-alive\n\n"),
            (30, ": keep-alive\n\n"),
        ];
        let expected = expected.map(|(at, text)| (at, text.to_owned()));
        assert_eq!(frames(&mut body, 3).await, expected);
        assert_eq!((counts.listeners.get(), places.available_permits()), (1, 0));
        cancel.cancel();
        assert!(body.frame().await.is_none());
        drop(body);
        assert_eq!((counts.listeners.get(), places.available_permits()), (0, 1));
    }
}
