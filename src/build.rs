//! Which program this is: its version, and the commit that it was built from.
//!
//! `build.rs` asks git while the program is built; nothing is asked when it runs.

/// The version alone, as in `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The first twelve digits of the commit; empty where it was built from no checkout.
pub const REVISION: &str = env!("FINGERPOST_REVISION");

/// The version, with the commit behind it where there is one.
pub const DESCRIPTION: &str = env!("FINGERPOST_DESCRIPTION");
