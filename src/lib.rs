//! fingerpost: an authoritative DNS server for `*.consul` that answers from memory.

pub mod catalog;
pub mod cli;
pub mod config;
