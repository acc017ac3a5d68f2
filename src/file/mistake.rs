//! What can be wrong with a catalogue file, said so that its writer can mend it.
//!
//! A place is a path of keys from the top of the file, as in `nodes[0].services[2].port`.

use std::fmt;

use thiserror::Error;

/// All mistakes of a catalogue file, in the order of the file. Never empty.
#[derive(Debug, Error)]
pub struct CatalogFileErrors(Vec<Mistake>);

impl CatalogFileErrors {
    /// The mistakes, if there are any.
    pub fn from_mistakes(mistakes: Vec<Mistake>) -> Option<Self> {
        if mistakes.is_empty() { None } else { Some(Self(mistakes)) }
    }

    /// Each mistake, in the order of the file.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl From<Mistake> for CatalogFileErrors {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

/// All mistakes in one line, for a log; at a terminal, print them a line each.
impl fmt::Display for CatalogFileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong, for the writer of the file to mend.
#[derive(Debug, Error)]
#[error("{place} {fault}")]
pub struct Mistake {
    /// Where it is: a path of keys, or `the file` for the whole.
    pub place: String,
    /// What it is.
    pub fault: Fault,
}

impl Mistake {
    /// A fault and its place; the empty place is the top of the file.
    pub fn new(place: &str, fault: Fault) -> Self {
        let place = if place.is_empty() { "the file" } else { place };
        Self { place: place.to_owned(), fault }
    }
}

/// What can be wrong at one place, said in words that follow the place.
#[derive(Debug, Error)]
pub enum Fault {
    /// The place where another port of the same service is the default.
    #[error("is true, as {0} is; one port can be the default")]
    DuplicateDefault(String),
    /// An ID, and the place of the other service of the same node that has it.
    #[error("is {0:?}, the ID of {1} on the same node too")]
    DuplicateId(String, String),
    /// Two spellings of one key, or one spelling twice, in one object; the first of them.
    #[error("is given twice, here and as {0}")]
    DuplicateKey(String),
    /// A name, and the place where another node of the datacenter, or port of the service, has it.
    #[error("is {0:?}, the name of {1} too")]
    DuplicateName(String, String),
    /// Nothing is there, but something has to be; what it must be.
    #[error("is missing; it must be {0}")]
    Missing(&'static str),
    /// Not JSON at all; nothing else of the file was looked at.
    #[error("is not valid JSON: {0}")]
    Syntax(serde_json::Error),
    /// A key that means nothing here; what it is a key of, and the keys that this has.
    #[error("is no key of {0}, which has {1}")]
    UnknownKey(&'static str, String),
    /// The ID of a service that the check's node does not have.
    #[error("is {0:?}, but the node has no service of that ID")]
    UnknownService(String),
    /// A value that its key cannot have, and what it can be.
    #[error("is {0}; it must be {1}")]
    WrongValue(String, &'static str),
}
