//! File descriptors: how many the system lets us have, which bounds the connections too.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Makes room for `wanted` descriptors, as far as the system lets a program do so for itself.
/// Returns how many there may be then.
///
/// # Errors
///
/// Fails when the system does not tell, or does not do what it says it would.
pub fn raise(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted || soft >= hard {
        return Ok(soft);
    }
    let raised = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?;
    Ok(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_is_not_lowered() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise(1).unwrap(), soft);
        assert_eq!(raise(soft + 1).unwrap(), hard.min(soft + 1));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard.min(soft + 1), hard));
    }
}
