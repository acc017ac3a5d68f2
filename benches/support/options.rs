//! What a bench is told on its command line: how many rounds, in which form it speaks, and what it
//! has of its own.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

/// As told, or as by default.
pub struct Options {
    pub rounds: usize,
    /// For programs, not for people.
    pub json: bool,
    own: Vec<(String, String)>,
}

impl Options {
    /// Reads the arguments of this program. `own` are options that the bench has beside `--rounds`
    /// and `--json`; each takes a value, which its text may describe: `--only TEXT`.
    ///
    /// # Panics
    ///
    /// When there is another one, or a value is missing.
    pub fn read(rounds: usize, own: &[&str]) -> Self {
        let mut options = Self { rounds, json: false, own: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let is_own =
                own.iter().any(|option| option.split(' ').next() == Some(argument.as_str()));
            match argument.as_str() {
                // From cargo.
                "--bench" => (),
                "--json" => options.json = true,
                "--rounds" => {
                    let count = arguments.next().and_then(|count| count.parse().ok());
                    options.rounds = count.expect("--rounds takes a number");
                }
                _ if is_own => {
                    let value = arguments.next();
                    let value = value.unwrap_or_else(|| panic!("{argument} of what?"));
                    options.own.push((argument, value));
                }
                other => {
                    let all = [&["--rounds N", "--json"], own].concat();
                    panic!("{other} is none of {}", all.join(", "));
                }
            }
        }
        options
    }

    /// The value of an option of the bench's own, as told last.
    pub fn own(&self, option: &str) -> Option<&str> {
        let told = self.own.iter().rev().find(|(told, _)| told == option);
        told.map(|(_, value)| value.as_str())
    }
}
