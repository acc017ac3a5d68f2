//! What was last heard of the catalogue, and the records that were made of it.
//!
//! ```text
//!   Change --> Builder (rules: policy) --> Snapshot: datacenters > services > RRsets
//! ```
//! A source reports [`change::Change`]s in the words of [`model`]; the [`Builder`] makes the next
//! [`Snapshot`]. Nothing here knows where changes come from, or what time it is.

pub mod addressing;
pub mod builder;
pub mod change;
pub mod form;
pub mod missed;
pub mod model;
pub mod nodes;
pub mod press;
pub mod queries;
pub mod reverse;
pub mod rrsets;
pub mod selection;
pub mod shards;
pub mod snapshot;
pub mod usage;

pub use builder::Builder;
pub use change::{Change, Executed, Held};
pub use form::Form;
pub use missed::Missed;
pub use rrsets::{RRsets, Selection};
pub use selection::Rules;
pub use snapshot::{Datacenter, Found, List, Service, Snapshot};
pub use usage::{CacheResult, Usage};
