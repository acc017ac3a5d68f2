//! Frame Streams, as farsightsec's fstrm speaks it: frames with their length before them, and the
//! words in which two sides agree.
//!
//! ```text
//!   we  READY(type)           START(type)  frame frame ...  STOP
//!   it             ACCEPT(type)                                  FINISH
//! ```
//! A word is a frame of length zero, which is no frame, followed by its own length and content.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A word of the agreement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// It takes one of the types of content.
    Accept,
    /// Frames follow.
    Start,
    /// No more will.
    Stop,
    /// We have frames of these types.
    Ready,
    /// All have come.
    Finish,
}

impl Word {
    fn number(self) -> u32 {
        match self {
            Self::Accept => 1,
            Self::Start => 2,
            Self::Stop => 3,
            Self::Ready => 4,
            Self::Finish => 5,
        }
    }

    /// The word as it is sent, with the type of content where it needs one.
    pub fn bytes(self) -> Vec<u8> {
        let mut content = self.number().to_be_bytes().to_vec();
        if matches!(self, Self::Accept | Self::Ready | Self::Start) {
            content.extend_from_slice(&FIELD_CONTENT_TYPE.to_be_bytes());
            content.extend_from_slice(&(CONTENT_TYPE.len() as u32).to_be_bytes());
            content.extend_from_slice(CONTENT_TYPE);
        }
        let len = content.len() as u32;
        [&0_u32.to_be_bytes()[..], &len.to_be_bytes(), &content].concat()
    }
}

/// Reads words until this one has come.
///
/// # Errors
///
/// Fails where something else comes, or a word that has not our type of content.
pub async fn expect(word: Word, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    if stream.read_u32().await? != 0 {
        return Err(invalid("the collector sends frames itself"));
    }
    let len = stream.read_u32().await?;
    if !(4..=CONTROL_MAX).contains(&len) {
        return Err(invalid("the collector sends a control frame of no length that there is"));
    }
    let mut content = vec![0; len as usize];
    stream.read_exact(&mut content).await?;
    let Some((number, fields)) = content.split_first_chunk() else {
        return Err(invalid("the collector sends an empty control frame"));
    };
    if u32::from_be_bytes(*number) != word.number() {
        return Err(invalid("the collector says another word than was due"));
    }
    if word == Word::Accept && !accepts(fields) {
        return Err(invalid("the collector takes no dnstap"));
    }
    Ok(())
}

/// Whether one of these fields is our type of content.
fn accepts(mut fields: &[u8]) -> bool {
    while let Some((kind, rest)) = fields.split_first_chunk() {
        let Some((len, rest)) = rest.split_first_chunk() else { return false };
        let len = u32::from_be_bytes(*len) as usize;
        let Some((content, rest)) = rest.split_at_checked(len) else { return false };
        if u32::from_be_bytes(*kind) == FIELD_CONTENT_TYPE && content == CONTENT_TYPE {
            return true;
        }
        fields = rest;
    }
    false
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What our frames hold.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";

const FIELD_CONTENT_TYPE: u32 = 1;

/// The longest control frame that fstrm itself takes.
const CONTROL_MAX: u32 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of waiting for `word` where these bytes come.
    async fn expected(word: Word, bytes: &[u8]) -> String {
        let mut stream = bytes;
        match expect(word, &mut stream).await {
            Ok(()) => format!("ok, {} left", stream.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn words_are_sent_as_fstrm_reads_them() {
        let ready = b"\0\0\0\0\0\0\0\x22\0\0\0\x04\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
        assert_eq!(Word::Ready.bytes(), ready);
        assert_eq!(Word::Stop.bytes(), b"\0\0\0\0\0\0\0\x04\0\0\0\x03");
    }

    #[tokio::test]
    async fn only_the_word_that_is_due_is_taken() {
        let accept = b"\0\0\0\0\0\0\0\x22\0\0\0\x01\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
        let other = b"\0\0\0\0\0\0\0\x0f\0\0\0\x01\0\0\0\x01\0\0\0\x03abc";
        // Two types, ours the second.
        let both = [
            b"\0\0\0\0\0\0\0\x2d\0\0\0\x01\0\0\0\x01\0\0\0\x03abc".as_slice(),
            b"\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap",
        ]
        .concat();
        let finish = b"\0\0\0\0\0\0\0\x04\0\0\0\x05more";
        for (word, bytes, result) in [
            (Word::Accept, &accept[..], "ok, 0 left"),
            (Word::Accept, &both, "ok, 0 left"),
            (Word::Accept, &other[..], "the collector takes no dnstap"),
            (Word::Accept, b"\0\0\0\0\0\0\0\x04\0\0\0\x01", "the collector takes no dnstap"),
            (Word::Accept, finish, "the collector says another word than was due"),
            (Word::Finish, finish, "ok, 4 left"),
            (Word::Finish, &finish[..11], "early eof"),
            (Word::Finish, b"\0\0\0\x01x", "the collector sends frames itself"),
            (
                Word::Finish,
                b"\0\0\0\0\xff\xff\xff\xff",
                "the collector sends a control frame of no length that there is",
            ),
            (
                Word::Finish,
                b"\0\0\0\0\0\0\0\x03\0\0\0",
                "the collector sends a control frame of no length that there is",
            ),
        ] {
            assert_eq!(expected(word, bytes).await, result, "{word:?} {}", bytes.escape_ascii());
        }
    }
}
