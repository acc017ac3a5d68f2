//! The query of a case: what is asked, and how.

use crate::support::scenario::words::Words;

/// A query, with `rd` set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Question {
    /// As to be sent, case included, without the last dot.
    pub name: String,
    /// As written, such as `SRV`.
    pub qtype: String,
    /// `None` sends no OPT.
    pub edns: Option<Edns>,
    /// Over TCP rather than UDP.
    pub tcp: bool,
    /// `IN` if not given.
    pub class: String,
    /// 0, a query, if not given.
    pub opcode: u8,
}

/// What an OPT record says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edns {
    /// The UDP size to offer.
    pub payload: u16,
    /// 0 if not given.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// The codes of its options, each of which holds a few bytes.
    pub options: Vec<u16>,
    /// The extended error in it.
    pub ede: Option<u16>,
}

impl Question {
    /// Reads what follows the word `query`.
    ///
    /// # Errors
    ///
    /// Fails on the first mistake.
    pub fn read(words: &mut Words<'_>) -> Result<Self, String> {
        let mut question = Self {
            name: words.next("NAME")?.to_owned(),
            qtype: words.next("TYPE")?.to_owned(),
            class: "IN".to_owned(),
            ..Self::default()
        };
        while let Some(word) = words.0.next() {
            match word {
                "edns" => question.edns = Some(Edns::read(words)?),
                "tcp" => question.tcp = true,
                "class" => words.next("CLASS")?.clone_into(&mut question.class),
                "opcode" => question.opcode = words.small("OPCODE")?,
                _ => return Err(format!("unknown word `{word}`")),
            }
        }
        Ok(question)
    }
}

impl Edns {
    /// Reads what follows the word `edns`, or `opt` of a reply.
    ///
    /// # Errors
    ///
    /// Fails on the first mistake.
    pub fn read(words: &mut Words<'_>) -> Result<Self, String> {
        let mut edns = Self { payload: words.number("SIZE")?, ..Self::default() };
        while let Some(word) =
            words.0.next_if(|word| ["version", "do", "option", "ede"].contains(word))
        {
            match word {
                "version" => edns.version = words.small("VERSION")?,
                "do" => edns.dnssec_ok = true,
                "ede" => {
                    edns.options.push(EDE);
                    edns.ede = Some(words.number("CODE")?);
                }
                _ => edns.options.push(words.number("CODE")?),
            }
        }
        Ok(edns)
    }
}

/// Extended errors, as in the IANA registry of EDNS options.
const EDE: u16 = 15;
