//! `POST /v1/reload`: has the configuration read again.
//!
//! A page from elsewhere can make a browser post to any address. It cannot add a header of its own
//! without asking first (CORS), and is never told that it may; so one is wanted.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::admin::Admin;
use crate::admin::api::Problem;

/// Reads the configuration again, and says what came of it.
pub type Reload = Arc<dyn Fn() -> Result<Reloaded, Refused> + Send + Sync>;

/// Why a configuration was not taken; all is as it was.
#[derive(Clone, Debug, Error)]
pub enum Refused {
    /// A line for each.
    #[error("{0}")]
    Mistakes(String),
    /// The program was started without one.
    #[error("there is no configuration file to read again: `serve --config FILE` has one")]
    NoFile,
}

/// What came of a configuration that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// Keys whose new values are in use.
    pub changed: Vec<String>,
    /// Keys whose new values wait for a restart.
    pub waiting: Vec<String>,
    /// What deserves a word.
    pub remarks: Vec<String>,
}

pub(in crate::admin) async fn reload(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if !headers.contains_key(HEADER) {
        let error = format!("this request wants a header {HEADER}, of any value");
        return Problem::reply(StatusCode::FORBIDDEN, error);
    }
    let reload = Arc::clone(&admin.parts.reload);
    match spawn_blocking(move || reload()).await {
        Ok(Ok(reloaded)) => Json(reloaded).into_response(),
        Ok(Err(refused)) => {
            let status = match refused {
                Refused::Mistakes(_) => StatusCode::UNPROCESSABLE_ENTITY,
                Refused::NoFile => StatusCode::CONFLICT,
            };
            Problem::reply(status, refused.to_string())
        }
        Err(_) => {
            let error = "the configuration could not be read again".to_owned();
            Problem::reply(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    }
}

/// No browser sends it for a page.
const HEADER: &str = "x-fingerpost-request";
