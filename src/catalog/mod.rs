//! What was last heard of Consul's catalogue.

pub mod change;
pub mod model;
