//! fingerpost: an authoritative DNS server for `*.consul` that answers from memory.

pub mod admin;
pub mod answer;
pub mod app;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consul;
pub mod demand;
pub mod dns;
pub mod file;
pub mod metrics;
pub mod name;
pub mod publisher;
pub mod store;
pub mod telemetry;
pub mod wire;
