//! What the tests share.

pub mod expectation;
pub mod scenario;
