//! What the process takes of the machine, under the names that all of Prometheus' libraries have.
//!
//! The library's own collector counts whole seconds of CPU, and cannot tell the start where a unit of
//! systemd hides the machine's files (`ProcSubset=pid`).

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use crate::clock::Clock;
use crate::machine;
use crate::metrics::family::family;

/// Asks the system when a scrape comes. What it does not tell is left out.
#[derive(Debug)]
pub struct ProcessCollector {
    start_secs: f64,
    descriptions: Vec<Desc>,
}

impl ProcessCollector {
    /// For a process that `clock` started with.
    ///
    /// # Errors
    ///
    /// Fails on a name that the format does not allow, which is a bug here.
    pub fn new(clock: Clock) -> Result<Self, prometheus::Error> {
        let describe = |(name, help, _): (&str, &str, MetricType)| {
            Desc::new(name.to_owned(), help.to_owned(), Vec::new(), Default::default())
        };
        let descriptions = FAMILIES.into_iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { start_secs: clock.start_unix_ms() as f64 / 1e3, descriptions })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let values = [
            machine::cpu_time().ok().map(|time| time.as_secs_f64()),
            descriptors(),
            machine::descriptors_max().ok().map(|max| max as f64),
            kibibytes(&status, "VmRSS"),
            kibibytes(&status, "VmSize"),
            Some(self.start_secs),
        ];
        let told = FAMILIES.into_iter().zip(values);
        told.filter_map(|((name, help, kind), value)| {
            Some(family(name, help, kind, [(Vec::new(), value?)]))
        })
        .collect()
    }
}

/// How many are open; the one by which they are listed is not among them.
fn descriptors() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

/// The number after `name` in `/proc/self/status`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(number * 1024.0)
}

const FAMILIES: [(&str, &str, MetricType); 6] = [
    (
        "process_cpu_seconds_total",
        "User and system CPU time spent, in seconds.",
        MetricType::COUNTER,
    ),
    ("process_open_fds", "Open file descriptors.", MetricType::GAUGE),
    ("process_max_fds", "How many file descriptors may be open.", MetricType::GAUGE),
    ("process_resident_memory_bytes", "Memory that is resident.", MetricType::GAUGE),
    ("process_virtual_memory_bytes", "Size of virtual memory.", MetricType::GAUGE),
    ("process_start_time_seconds", "When the process started, in Unix time.", MetricType::GAUGE),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn value(collector: &ProcessCollector, name: &str) -> f64 {
        let families = collector.collect();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        match family.get_field_type() {
            MetricType::COUNTER => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        }
    }

    #[test]
    fn each_is_what_the_system_says() {
        let collector = ProcessCollector::new(Clock::start()).unwrap();
        assert_eq!(collector.collect().len(), FAMILIES.len());

        let before = value(&collector, "process_cpu_seconds_total");
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(value(&collector, "process_cpu_seconds_total") > before);

        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let soft: f64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
        assert_eq!(value(&collector, "process_max_fds"), soft);
        // Other tests open and close some in between.
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(value(&collector, "process_open_fds") > files.len() as f64);

        let resident = value(&collector, "process_resident_memory_bytes");
        assert!(resident > 1e6 && resident < value(&collector, "process_virtual_memory_bytes"));
        // As `date` tells it.
        let date = std::process::Command::new("date").arg("+%s.%N").output().unwrap().stdout;
        let now: f64 = String::from_utf8(date).unwrap().trim().parse().unwrap();
        assert!((now - 60.0..=now).contains(&value(&collector, "process_start_time_seconds")));
    }

    #[test]
    fn a_line_of_the_status_in_bytes() {
        let status = "Name:\tx\nVmSize:\t  123 kB\nVmRSS:\t    2 kB\nVmBad:\t2 pages\n";
        let cases = [("VmRSS", Some(2048.0)), ("VmSize", Some(125_952.0)), ("Vm", None)];
        for (name, expected) in [cases.as_slice(), &[("VmBad", None), ("VmNone", None)]].concat() {
            assert_eq!(kibibytes(status, name), expected, "{name}");
        }
    }
}
