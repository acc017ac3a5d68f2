//! What a scenario expects of a reply, and how a reply is held against it.
//!
//! A record is a line of words, `NAME TTL CLASS TYPE RDATA…`; `*` stands for any one word. Order
//! within a section is free, for the servers shuffle. A section that has a `count` is a choice:
//! its size must be in the range, and each of its records must match one of the lines, if there
//! are any. A section without one must be the lines exactly.

use std::fmt;

use crate::support::scenario::question::Edns;

/// A section of a DNS message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// The SOA of a negative answer.
    Authority,
    /// What comes along.
    Additional,
}

/// How many records a section may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count {
    /// Which section.
    pub section: Section,
    /// At least so many.
    pub min: usize,
    /// At most so many; not less than `min`.
    pub max: usize,
}

/// The records of a message, written out. The OPT record is in none of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sections {
    /// A record a line.
    pub answer: Vec<String>,
    /// A record a line.
    pub authority: Vec<String>,
    /// A record a line.
    pub additional: Vec<String>,
}

/// What the reply to a query must be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// `NOERROR`, `NXDOMAIN`, …
    pub rcode: String,
    /// All flags that are set, `qr` apart: `aa`, `tc`, `rd`, `ra`, `ad`, `cd`.
    pub flags: Vec<String>,
    /// The records, or those to choose from where there is a count.
    pub sections: Sections,
    /// At most one for each section.
    pub counts: Vec<Count>,
    /// The OPT record; `None` is any, or none.
    pub opt: Option<Edns>,
}

/// A reply as it came, written out by whoever decoded it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// As in [`Expected`].
    pub rcode: String,
    /// As in [`Expected`].
    pub flags: Vec<String>,
    /// The records that came.
    pub sections: Sections,
    /// The OPT record that came.
    pub opt: Option<Edns>,
}

impl Section {
    /// All sections, in the order of a message.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Authority, Self::Additional];

    /// The section of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.to_string() == word)
    }
}

impl Sections {
    /// The records of one section.
    pub fn of(&self, section: Section) -> &[String] {
        match section {
            Section::Answer => &self.answer,
            Section::Authority => &self.authority,
            Section::Additional => &self.additional,
        }
    }

    /// The records of one section, to add to.
    pub fn of_mut(&mut self, section: Section) -> &mut Vec<String> {
        match section {
            Section::Answer => &mut self.answer,
            Section::Authority => &mut self.authority,
            Section::Additional => &mut self.additional,
        }
    }
}

impl Expected {
    /// What is wrong with `reply`, a line each; nothing if it is as expected.
    pub fn differences(&self, reply: &Reply) -> Vec<String> {
        let mut differences = Vec::new();
        if self.rcode != reply.rcode {
            differences.push(format!("rcode: {}, not {}", reply.rcode, self.rcode));
        }
        let (expected, got) = (sorted(&self.flags), sorted(&reply.flags));
        if expected != got {
            differences.push(format!("flags: {got:?}, not {expected:?}"));
        }
        if self.opt.is_some() && self.opt != reply.opt {
            differences.push(format!("opt: {:?}, not {:?}", reply.opt, self.opt));
        }
        for section in Section::ALL {
            let (expected, got) = (self.sections.of(section), reply.sections.of(section));
            let lines = match self.counts.iter().find(|count| count.section == section) {
                None => unmatched(expected, got),
                Some(count) => count.violations(expected, got),
            };
            differences.extend(lines.into_iter().map(|line| format!("{section}: {line}")));
        }
        differences
    }
}

impl Count {
    fn violations(self, choice: &[String], got: &[String]) -> Vec<String> {
        let mut violations = Vec::new();
        if !(self.min..=self.max).contains(&got.len()) {
            violations.push(format!("{} records, not {self}", got.len()));
        }
        for record in got {
            if !choice.is_empty() && !choice.iter().any(|line| matches(line, record)) {
                violations.push(format!("unexpected {record}"));
            }
        }
        for (at, record) in got.iter().enumerate() {
            if got.iter().take(at).any(|earlier| earlier == record) {
                violations.push(format!("twice {record}"));
            }
        }
        violations
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "answer",
            Self::Authority => "authority",
            Self::Additional => "additional",
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..{}", self.min, self.max)
        }
    }
}

/// What is missing of `expected`, and what of `got` was not expected.
///
/// Lines without a `*` choose first: what they match, they alone can match.
fn unmatched(expected: &[String], got: &[String]) -> Vec<String> {
    let mut left: Vec<&String> = got.iter().collect();
    let mut missing = Vec::new();
    let (wild, exact): (Vec<_>, Vec<_>) =
        expected.iter().partition(|line| line.split_whitespace().any(|word| word == "*"));
    for line in exact.into_iter().chain(wild) {
        match left.iter().position(|record| matches(line, record)) {
            Some(at) => drop(left.remove(at)),
            None => missing.push(format!("missing {line}")),
        }
    }
    missing.into_iter().chain(left.iter().map(|record| format!("unexpected {record}"))).collect()
}

fn matches(line: &str, record: &str) -> bool {
    let (mut words, mut fields) = (line.split_whitespace(), record.split_whitespace());
    loop {
        match (words.next(), fields.next()) {
            (None, None) => return true,
            (Some(word), Some(field)) if word == "*" || word == field => (),
            _ => return false,
        }
    }
}

fn sorted(flags: &[String]) -> Vec<&str> {
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.sort_unstable();
    flags
}
