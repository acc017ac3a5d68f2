//! What a name means, with strings alone: no catalogue, no records, no sockets.
//!
//! [`Labels`] makes a name off the wire readable, [`Zone`] takes a zone's suffix off it, and
//! [`Lookup::parse`] says what the rest asks for.

pub mod address;
pub mod grammar;
pub mod labels;
pub mod scope;

pub use grammar::{Lookup, ParseError, Subject};
pub use labels::{Labels, Zone, ZoneError};
pub use scope::{Place, Scope};
