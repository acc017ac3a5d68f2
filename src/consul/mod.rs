//! The only module that knows Consul's HTTP API.

pub mod backoff;
pub mod fetch;
pub mod index;
pub mod token;
