//! What the system says of this process and of its own clock.

use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// How long the machine has been awake since it started: what `CLOCK_MONOTONIC` shows.
///
/// # Errors
///
/// Fails where the system does not tell.
pub fn uptime() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// The time that this process has spent on a CPU, as itself and in the kernel.
///
/// # Errors
///
/// Fails where the system does not tell.
pub fn cpu_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
}

/// How many descriptors this process may have open.
///
/// # Errors
///
/// Fails where the system does not tell.
pub fn descriptors_max() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}
