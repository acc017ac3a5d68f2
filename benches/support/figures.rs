//! Figures: order statistics, and the machine that they were taken on.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

/// Figures of one kind, in one unit, sorted.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// The smallest that `share` of all do not exceed; NaN if there is none.
    pub fn quantile(&self, share: f64) -> f64 {
        let at = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Both quartiles, and the middle between them.
    pub fn quartiles(&self) -> [f64; 3] {
        [0.25, 0.5, 0.75].map(|share| self.quantile(share))
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The middle one with the quartiles, as in `1.02 [0.98..1.05]`.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, middle, high] = self.quartiles();
        f.pad(&format!("{middle:.2} [{low:.2}..{high:.2}]"))
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(taken: I) -> Self {
        let mut sorted: Vec<f64> = taken.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self(sorted)
    }
}

/// Where and when figures were taken.
#[derive(Clone, Debug)]
pub struct Place {
    pub date: String,
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
}

impl Place {
    /// Here and now.
    pub fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Self {
            date: said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: model.unwrap_or("unknown CPU").to_owned(),
            kernel: said_by("uname", &["-sr"]),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cores, cpu, kernel } = self;
        write!(f, "{date}, {cores} cores of {cpu}, {kernel}, fingerpost ")?;
        f.write_str(env!("CARGO_PKG_VERSION"))
    }
}

/// The first line that a program says.
pub fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

/// Moves all threads of this program, and what it starts from now on, to `cores`, as in `0,2`.
pub fn pin(cores: &str) -> bool {
    let pid = std::process::id().to_string();
    let mut command = Command::new("taskset");
    command.args(["-acp", cores, &pid]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
