//! What the kernel tells of a process: the time and the memory that it has had.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::fs;
use std::time::Duration;

/// CPU time that all its threads have had.
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let nanos = threads.into_iter().flatten().flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Its proportional set: what it has alone, and its share of what it has with others. In MiB.
pub fn pss(pid: u32) -> f64 {
    kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:") / 1024.0
}

/// The most that it had resident at any time, in MiB.
pub fn peak(pid: u32) -> f64 {
    kib(&format!("/proc/{pid}/status"), "VmHWM:") / 1024.0
}

fn kib(file: &str, field: &str) -> f64 {
    let text = fs::read_to_string(file).expect("a process that runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).expect("a number of KiB")
}
