//! Where a name is looked up: the labels right of its kind.
//!
//! ```text
//!   web.service.dc1.consul                 one label: a datacenter, after `virtual` a peer
//!   web.service.dc1.dc.consul              pairs: a value, and the word that says what it is
//!   web.service.default.ns.dc1.dc.consul   any number of pairs, each word once
//! ```
//! The words are those of Consul 1.11 and later. A Consul without Enterprise has one namespace and
//! one partition, both called `default`; any other value names nothing, and neither does a
//! datacenter together with a peer, or a sameness group.

use crate::name::ParseError;
use crate::name::labels::Labels;

/// Where a name is looked up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Scope<'q> {
    /// Whose catalogue.
    pub place: Place<'q>,
    /// The named port of services that have several.
    pub port: Option<&'q [u8]>,
}

/// Whose catalogue a name is looked up in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Place<'q> {
    /// The one of a datacenter.
    Datacenter(&'q [u8]),
    /// The one of the agent's own datacenter.
    #[default]
    Local,
    /// What a cluster peer exports.
    Peer(&'q [u8]),
}

impl<'q> Scope<'q> {
    /// Reads the labels from `start` to before `end`.
    ///
    /// # Errors
    ///
    /// Fails when they are no scope; the name then does not exist.
    pub fn parse(labels: &'q Labels, start: usize, end: usize) -> Result<Self, ParseError> {
        match end.saturating_sub(start) {
            0 => Ok(Self::default()),
            1 => Ok(Self { place: Place::Datacenter(labels.label(start)), port: None }),
            count if count % 2 == 0 => Self::pairs(labels, start, end),
            _ => Err(ParseError::BadScope),
        }
    }

    fn pairs(labels: &'q Labels, start: usize, end: usize) -> Result<Self, ParseError> {
        let mut scope = Self::default();
        let mut said = [false; WORDS.len()];
        for at in (start..end).step_by(2) {
            let (value, word) = (labels.label(at), labels.label(at + 1));
            let known = WORDS.iter().position(|known| *known == word);
            let said = known.and_then(|known| said.get_mut(known)).ok_or(ParseError::BadScope)?;
            if std::mem::replace(said, true) {
                return Err(ParseError::BadScope);
            }
            match (word, scope.place) {
                (b"ap" | b"ns", _) if value == DEFAULT => (),
                (b"dc", Place::Local) => scope.place = Place::Datacenter(value),
                (b"peer", Place::Local) => scope.place = Place::Peer(value),
                (b"port", _) => scope.port = Some(value),
                _ => return Err(ParseError::BadScope),
            }
        }
        Ok(scope)
    }

    /// Whether `label` is one of the words, and so the parent of names.
    pub fn is_word(label: &[u8]) -> bool {
        WORDS.contains(&label)
    }
}

/// Namespace and partition of a Consul without Enterprise.
const DEFAULT: &[u8] = b"default";

const WORDS: [&[u8]; 5] = [b"ap", b"dc", b"ns", b"peer", b"port"];
