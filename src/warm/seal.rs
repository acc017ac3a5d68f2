//! What stands around the contents of a snapshot file: what it is, when it was written, and a digest.
//!
//! ```text
//!   {"format":"fingerpost snapshot","version":1,"saved_unix_ms":…,"bytes":…,"sha256":"…"} newline
//!   the payload: so many bytes
//! ```
//! Of another version only the first two are looked at. The digest is of the other numbers too, so
//! that no part of a file can change unnoticed. Knows nothing of the payload.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::warm::Refusal;

/// A file that is what was written.
#[derive(Debug)]
pub struct Opened<'b> {
    /// When it was written.
    pub saved_unix_ms: i64,
    /// What is in it.
    pub payload: &'b [u8],
}

/// What every version begins with.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u64,
}

#[derive(Deserialize, Serialize)]
struct Head {
    format: String,
    version: u64,
    saved_unix_ms: i64,
    bytes: usize,
    sha256: String,
}

/// The first line of a file that goes on with `payload`, its end included.
pub fn head(payload: &[u8], saved_unix_ms: i64) -> Vec<u8> {
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        saved_unix_ms,
        bytes: payload.len(),
        sha256: digest(&[salt(saved_unix_ms).as_bytes(), payload]),
    };
    // Numbers and text: nothing that JSON could not hold.
    let mut line = serde_json::to_vec(&head).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads what `head` has written, with its payload.
///
/// # Errors
///
/// Fails on everything else.
pub fn open(bytes: &[u8]) -> Result<Opened<'_>, Refusal> {
    let damaged = |what: &str| Refusal::Damaged(what.to_owned());
    let line = bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n');
    let (line, rest) = match line.and_then(|end| bytes.split_at_checked(end)) {
        Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
        None if bytes.is_empty() => return Err(damaged("it is empty")),
        None => return Err(Refusal::Foreign),
    };
    let kind: Kind = serde_json::from_slice(line).map_err(|_| Refusal::Foreign)?;
    match kind.version {
        _ if kind.format != FORMAT => return Err(Refusal::Foreign),
        VERSION => (),
        version if version > VERSION => return Err(Refusal::Future { version }),
        _ => return Err(damaged("there is no such version")),
    }
    let head: Head =
        serde_json::from_slice(line).map_err(|_| damaged("its first line lacks something"))?;
    if rest.len() != head.bytes {
        return Err(damaged("its length is another than it says"));
    }
    if digest(&[salt(head.saved_unix_ms).as_bytes(), rest]) != head.sha256 {
        return Err(damaged("its digest is another than it says"));
    }
    Ok(Opened { saved_unix_ms: head.saved_unix_ms, payload: rest })
}

/// The SHA-256 of `parts`, one after the other, in hexadecimal digits.
pub fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn salt(saved_unix_ms: i64) -> String {
    format!("{FORMAT} {VERSION} {saved_unix_ms}\n")
}

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;

const FORMAT: &str = "fingerpost snapshot";

/// Longer than any first line of ours.
const HEAD_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(payload: &[u8]) -> Vec<u8> {
        [&head(payload, 1_700_000_000_000)[..], payload].concat()
    }

    fn said(bytes: &[u8]) -> String {
        match open(bytes) {
            Ok(opened) => format!("{} {}", opened.saved_unix_ms, opened.payload.escape_ascii()),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn what_was_sealed_is_opened() {
        assert_eq!(said(&sealed(b"{\n}")), r"1700000000000 {\n}");
    }

    /// FIPS 180-4, the example of one block.
    #[test]
    fn the_digest_is_that_of_the_standard() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&[b"a", b"bc"]), expected);
    }

    #[test]
    fn a_changed_byte_or_a_missing_one_is_seen() {
        let file = sealed(b"{}");
        for at in 0..file.len() {
            assert!(open(&file[..at]).is_err(), "the first {at} bytes");
            for bit in [1, 0x20] {
                let mut changed = file.clone();
                changed[at] ^= bit;
                let opened = open(&changed);
                // JSON has several spellings for one value: white space, and the case of `\u`.
                assert!(opened.is_err(), "byte {at}: {opened:?}");
            }
        }
        assert_eq!(said(&[&file[..], b" "].concat()), LENGTH);
    }

    #[test]
    fn what_is_refused_and_why() {
        let future = r#"{"format":"fingerpost snapshot","version":2,"anything":[]}"#.to_owned();
        for (text, expected) in [
            (String::new(), "it is damaged: it is empty"),
            ("{}\n".to_owned(), FOREIGN),
            ("\n".to_owned(), FOREIGN),
            ("no end of a line".to_owned(), FOREIGN),
            (format!("{}\n", "x".repeat(5_000)), FOREIGN),
            (r#"{"format":"other","version":1}"#.to_owned() + "\n", FOREIGN),
            (future + "\n?", "its version is 2, and this program reads 1"),
            (
                r#"{"format":"fingerpost snapshot","version":1}"#.to_owned() + "\n",
                "it is damaged: its first line lacks something",
            ),
            (
                r#"{"format":"fingerpost snapshot","version":0}"#.to_owned() + "\n",
                "it is damaged: there is no such version",
            ),
        ] {
            assert_eq!(said(text.as_bytes()), expected, "{text}");
        }
    }

    const FOREIGN: &str = "it is no snapshot of fingerpost's";
    const LENGTH: &str = "it is damaged: its length is another than it says";
}
