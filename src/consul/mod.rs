//! The only module that knows Consul's HTTP API.

pub mod address;
pub mod api;
pub mod backoff;
pub mod client;
pub mod fetch;
pub mod index;
#[cfg(test)]
mod samples;
pub mod tls;
pub mod token;
pub mod watch;
