//! A name off the wire as lower-case text, cut into labels.
//!
//! ```text
//!   wire   03 W e b 07 s e r v i c e 06 c o n s u l 00
//!   text      w e b  . s e r v i c e  . c o n s u l
//!   starts    0        4                12
//! ```
//! Any run of labels is one slice of the text, joined by dots, so dotted tags and dotted node
//! names are looked up without being copied. The question itself keeps its letter case: it is
//! echoed from the packet, never from here.
//!
//! **Invariant:** a dot in the text separates labels. A dot *inside* a label becomes 0xFF, which
//! no registered name contains, so `a\.b` is never mistaken for `a.b`.
//!
//! **Hot.** Nothing here allocates, but for [`Zone`], which is made once at start.

use std::ops::Range;

use thiserror::Error;

/// The labels of a name, leftmost first, lower case, the root left off.
#[derive(Clone, Debug)]
pub struct Labels {
    text: [u8; NAME_MAX],
    starts: [u8; LABELS_MAX + 1],
    /// `count <= LABELS_MAX`; `starts[count]` is one past the dot that would end the last label.
    count: usize,
}

impl Labels {
    /// Reads `wire`, an uncompressed name that ends with the root label.
    ///
    /// Returns `None` if it does not, or if it is longer than 255 bytes.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        if wire.len() > NAME_MAX || wire.last() != Some(&0) {
            return None;
        }
        let mut labels = Self { text: [0; NAME_MAX], starts: [0; LABELS_MAX + 1], count: 0 };
        let text = labels.text.get_mut(..wire.len())?;
        text.copy_from_slice(wire);
        // Length bytes stay what they are: below 64, and so never in `A..Z`.
        text.make_ascii_lowercase();

        let mut at = 0;
        loop {
            let len = usize::from(*wire.get(at)?);
            if len == 0 {
                break;
            }
            let label = labels.text.get_mut(at + 1..at + 1 + len)?;
            if label.contains(&b'.') {
                label.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = FOREIGN);
            }
            *labels.text.get_mut(at)? = b'.';
            *labels.starts.get_mut(labels.count)? = u8::try_from(at + 1).ok()?;
            labels.count += 1;
            at += 1 + len;
        }
        *labels.starts.get_mut(labels.count)? = u8::try_from(at + 1).ok()?;
        (at + 1 == wire.len()).then_some(labels)
    }

    /// How many labels there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The label at `at`, or nothing past the end.
    pub fn label(&self, at: usize) -> &[u8] {
        self.join(at..at + 1)
    }

    /// The labels of `range`, joined by dots; nothing where the range is empty or past the end.
    pub fn join(&self, range: Range<usize>) -> &[u8] {
        if range.is_empty() || range.end > self.count {
            return &[];
        }
        match (self.starts.get(range.start), self.starts.get(range.end)) {
            // Each start lies one past a dot, so the text between two starts ends with one.
            (Some(&start), Some(&end)) => {
                self.text.get(usize::from(start)..usize::from(end) - 1).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Where the label at `at` starts in the wire form, its length byte included.
    pub fn wire_offset(&self, at: usize) -> usize {
        self.starts.get(at).map_or(0, |start| usize::from(*start) - 1)
    }

    /// Takes the suffix `zone` off. `None` if the name is not at or below it.
    pub fn below(&self, zone: &Zone) -> Option<usize> {
        let left = self.count.checked_sub(zone.labels)?;
        (self.join(left..self.count) == zone.text.as_bytes()).then_some(left)
    }
}

/// A zone that we are authoritative for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    text: String,
    wire: Vec<u8>,
    labels: usize,
}

impl Zone {
    /// Takes `domain`, as in `consul` or `consul.example.`.
    ///
    /// # Errors
    ///
    /// Fails on what is no name: the operator's to mend.
    pub fn new(domain: &str) -> Result<Self, ZoneError> {
        let text = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            match u8::try_from(label.len()) {
                Ok(len @ 1..=63) => wire.push(len),
                _ => return Err(ZoneError::BadLabel(domain.to_owned())),
            }
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        if wire.len() > NAME_MAX {
            return Err(ZoneError::TooLong(domain.to_owned()));
        }
        Ok(Self { labels: text.split('.').count(), text, wire })
    }

    /// Lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Uncompressed, with the root label.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }
}

/// Why a text is no zone.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ZoneError {
    /// A label that is empty or too long.
    #[error("`{0}` has a label that is empty or longer than 63 bytes")]
    BadLabel(String),
    /// A name that is too long.
    #[error("`{0}` is longer than 255 bytes")]
    TooLong(String),
}

/// RFC 1035 §2.3.4: a name is at most 255 bytes, so it has at most 127 labels and the root.
const NAME_MAX: usize = 255;
const LABELS_MAX: usize = 127;

/// Stands for a dot inside a label.
const FOREIGN: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(labels: &[&str]) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in labels {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire
    }

    #[test]
    fn labels_are_lower_case_and_join_to_one_slice() {
        let labels = Labels::from_wire(&wire(&["A", "b", "WEB", "Consul"])).unwrap();
        assert_eq!(labels.count(), 4);
        assert_eq!(labels.label(2), b"web");
        assert_eq!(labels.join(0..2), b"a.b");
        assert_eq!(labels.join(0..4), b"a.b.web.consul");
        assert_eq!(labels.join(2..2), b"");
        assert_eq!(labels.join(3..5), b"");
        assert_eq!(labels.wire_offset(3), 8);
        assert_eq!(labels.wire_offset(4), 15);
    }

    #[test]
    fn a_dot_inside_a_label_is_no_separator() {
        let labels = Labels::from_wire(&wire(&["a.b", "web"])).unwrap();
        assert_eq!(labels.label(0), b"a\xffb");
    }

    #[test]
    fn the_root_has_no_labels() {
        let labels = Labels::from_wire(&[0]).unwrap();
        assert_eq!(labels.count(), 0);
        assert_eq!(labels.join(0..0), b"");
    }

    #[test]
    fn the_longest_names_are_read() {
        let deepest = wire(&["a"; 127]);
        assert_eq!(deepest.len(), 255);
        assert_eq!(Labels::from_wire(&deepest).unwrap().count(), 127);
        let longest = "x".repeat(63);
        let longest = wire(&[&longest, &longest, &longest, &"y".repeat(61)]);
        assert_eq!(longest.len(), 255);
        assert_eq!(Labels::from_wire(&longest).unwrap().label(3).len(), 61);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let too_long = wire(&["a"; 128]);
        for bytes in [&b""[..], b"\x01a", b"\x03ab\0", b"\0\0", &too_long] {
            assert!(Labels::from_wire(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_zone_is_taken_off_whole_labels_only() {
        let zone = Zone::new("Test.Consul.").unwrap();
        assert_eq!(zone.as_str(), "test.consul");
        assert_eq!(zone.wire(), b"\x04test\x06consul\0");
        let below = |labels: &[&str]| Labels::from_wire(&wire(labels)).unwrap().below(&zone);
        assert_eq!(below(&["web", "TEST", "consul"]), Some(1));
        assert_eq!(below(&["test", "consul"]), Some(0));
        assert_eq!(below(&["consul"]), None);
        assert_eq!(below(&["mytest", "consul"]), None);
        assert_eq!(below(&["web", "test.consul"]), None);
        assert_eq!(below(&[]), None);
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for domain in ["", ".", "a..b", &"x".repeat(64), &"ab.".repeat(90)] {
            assert!(Zone::new(domain).is_err(), "{domain}");
        }
    }
}
