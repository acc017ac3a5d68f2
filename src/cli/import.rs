//! `fingerpost import`: a Consul agent's configuration as one of ours.
//!
//! ```text
//!   files, folders --source, hcl--> one tree --translate, agent, known--> page --> TOML
//! ```
//! Each key of Consul's has a line that says what becomes of it. No value is printed but as one of
//! ours, and no token ever. What is printed is a configuration that `check` has nothing to say
//! about; what it cannot hold is said in its comments.

pub mod agent;
pub mod hcl;
pub mod known;
pub mod page;
pub mod source;
pub mod translate;

#[cfg(test)]
mod tests;

use std::io;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::import::source::Source;
use crate::cli::import::translate::translate;

/// Prints our configuration on `out`; returns the exit status.
///
/// 0, or 78 and a line on `err` for each file that cannot be read. 1 when that could not be written.
pub fn run(paths: &[PathBuf], out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    report(paths, out, err).unwrap_or(EX_FAILURE)
}

fn report(paths: &[PathBuf], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match Source::read(paths) {
        Ok(Source { files, root }) => {
            write!(out, "{}", translate(&root).render(&files))?;
            Ok(0)
        }
        Err(mistakes) => {
            writeln!(err, "{}", mistakes.join("\n"))?;
            Ok(EX_CONFIG)
        }
    }
}

/// `EX_CONFIG` of `sysexits.h`: the configuration is wrong.
const EX_CONFIG: u8 = 78;

const EX_FAILURE: u8 = 1;
