//! What the kernel tells of a process: the time and the memory that it has had.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// CPU time that all threads of it and of its children have had.
pub fn cpu(pid: u32) -> Duration {
    let nanos = family(pid).into_iter().flat_map(threads).filter_map(|thread| {
        let text = fs::read_to_string(thread.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Its proportional set and its children's: what they have alone, and their share of what they have
/// with others. In MiB.
pub fn pss(pid: u32) -> f64 {
    let all = family(pid).into_iter().map(|pid| kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:"));
    all.sum::<f64>() / 1024.0
}

/// A process and its children.
fn family(pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([pid]);
    for thread in threads(pid) {
        let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        found.extend(children.flat_map(family));
    }
    found
}

fn threads(pid: u32) -> impl Iterator<Item = PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads.into_iter().flatten().flatten().map(|thread| thread.path())
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
