//! fingerpost: an authoritative DNS server for `*.consul` that answers from memory.

pub mod catalog;
pub mod config;
pub mod file;
