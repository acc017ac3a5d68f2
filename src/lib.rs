
pub mod answer;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demand;
pub mod dns;
pub mod metrics;
pub mod name;
pub mod store;
pub mod wire;
pub mod consul;
