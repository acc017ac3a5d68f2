//! The subcommands, a file each. They print; what they say is decided below.

pub mod check;
pub mod demo;
pub mod serve;
pub mod verify;
