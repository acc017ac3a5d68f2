//! The only module that knows Consul's HTTP API.

pub mod address;
pub mod backoff;
pub mod fetch;
pub mod index;
pub mod tls;
pub mod token;
