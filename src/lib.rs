//! fingerpost: an authoritative DNS server for `*.consul` that answers from memory.

pub mod answer;
pub mod catalog;
pub mod clock;
pub mod cli;
pub mod config;
pub mod demand;
pub mod dns;
pub mod metrics;
pub mod name;
pub mod store;
pub mod wire;
