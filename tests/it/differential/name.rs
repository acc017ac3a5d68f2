//! A domain name as labels of any bytes, written as in a zone file.
//!
//! Hickory's own text hides which bytes were escaped, and its names are equal in any letter case;
//! the judge needs both kept apart.

use std::fmt;

use hickory_proto::rr::Name;

/// A name, leftmost label first, the root left off.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Labels(Vec<Vec<u8>>);

impl Labels {
    /// The name `text`, cut at its dots.
    pub fn new(text: &str) -> Self {
        Self(text.split('.').filter(|label| !label.is_empty()).map(|l| l.into()).collect())
    }

    /// The name of these labels.
    pub fn from_labels(labels: &[Vec<u8>]) -> Self {
        Self(labels.to_vec())
    }

    /// The name that hickory has read or will write.
    pub fn of(name: &Name) -> Self {
        Self(name.iter().map(<[u8]>::to_vec).collect())
    }

    /// This name for hickory; `None` where it is too long for the wire.
    pub fn to_wire(&self) -> Option<Name> {
        let fits = self.0.iter().all(|label| (1..=63).contains(&label.len()));
        let len: usize = self.0.iter().map(|label| label.len() + 1).sum();
        if !fits || len > 254 {
            return None;
        }
        let mut name = Name::from_labels(self.0.iter().map(Vec::as_slice)).ok()?;
        name.set_fqdn(true);
        Some(name)
    }

    /// This name below `parent`.
    pub fn below(&self, parent: &Self) -> Self {
        Self(self.0.iter().chain(&parent.0).cloned().collect())
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The last `count` labels.
    pub fn last(&self, count: usize) -> Self {
        Self(self.0[self.0.len().saturating_sub(count)..].to_vec())
    }

    /// In lower case.
    pub fn lower(&self) -> Self {
        self.with_each(|byte| byte.to_ascii_lowercase())
    }

    /// With every byte changed by `change`.
    pub fn with_each(&self, mut change: impl FnMut(u8) -> u8) -> Self {
        let label = |label: &Vec<u8>| label.iter().map(|byte| change(*byte)).collect();
        Self(self.0.iter().map(label).collect())
    }

    /// Lower case, rightmost label first, so that what is below a name follows it when sorted.
    pub fn reversed(&self) -> Vec<Vec<u8>> {
        self.0.iter().rev().map(|label| label.to_ascii_lowercase()).collect()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in &self.0 {
            for byte in label {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'+' | b':' => {
                        write!(f, "{}", char::from(*byte))?;
                    }
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        if self.0.is_empty() { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
