//! What tells a file that was replaced from the one that was read: its time and its length.

use std::io;
use std::path::Path;
use std::time::SystemTime;

/// A file as it was at one look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

impl Stamp {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    ///
    /// Fails when there is none, or the system does not tell of it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { modified: metadata.modified()?, bytes: metadata.len() })
    }
}
