//! Reads forward through a message, or a part of one, and never past its end.
//!
//! **Invariant:** `at <= packet.len()`, and no input makes it panic. **Hot.** Nothing allocates.

use crate::wire::QUESTION_AT;

/// What is left to read of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'q> {
    packet: &'q [u8],
    at: usize,
}

/// A question where it lies in its message.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// All of it.
    pub bytes: &'q [u8],
    /// Uncompressed, with the root label.
    pub name: &'q [u8],
    /// Any value.
    pub qtype: u16,
    /// Any value.
    pub qclass: u16,
}

impl<'q> Reader<'q> {
    /// Starts at the first of `packet`.
    pub fn new(packet: &'q [u8]) -> Self {
        Self { packet, at: 0 }
    }

    /// How much was read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether all was read.
    pub fn is_done(&self) -> bool {
        self.at == self.packet.len()
    }

    /// What was read since `start`.
    pub fn since(&self, start: usize) -> &'q [u8] {
        self.packet.get(start..self.at).unwrap_or_default()
    }

    /// The next `len` bytes. As all that follow, `None` where there are not so many.
    pub fn take(&mut self, len: usize) -> Option<&'q [u8]> {
        let taken = self.packet.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    /// A number of eight bits.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number of sixteen bits.
    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A number of thirty-two bits.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// The first question of a message, behind its header.
    ///
    /// Its name is never compressed: there is nothing before it to point at.
    pub fn question(&mut self) -> Option<Question<'q>> {
        debug_assert_eq!(self.at, QUESTION_AT);
        loop {
            match self.u8()? {
                0 => break,
                len @ 1..=63 => self.take(usize::from(len)).map(drop)?,
                _ => return None,
            }
        }
        let name = self.packet.get(QUESTION_AT..self.at)?;
        if name.len() > 255 {
            return None;
        }
        let (qtype, qclass) = (self.u16()?, self.u16()?);
        Some(Question { bytes: self.packet.get(QUESTION_AT..self.at)?, name, qtype, qclass })
    }

    /// Skips `count` questions.
    pub fn skip_questions(&mut self, count: u16) -> Option<()> {
        for _ in 0..count {
            self.name()?;
            self.take(4)?;
        }
        Some(())
    }

    /// Skips `count` records.
    pub fn skip_records(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.name()?;
            self.take(8)?;
            let len = self.u16()?;
            self.take(usize::from(len))?;
        }
        Some(())
    }

    /// Skips a name, following no pointer. True if it is the root.
    pub fn name(&mut self) -> Option<bool> {
        let start = self.at;
        loop {
            match self.u8()? {
                0 => return Some(self.at == start + 1),
                len @ 1..=63 => self.take(usize::from(len)).map(drop)?,
                0xc0.. => return self.u8().map(|_| false),
                _ => return None,
            }
        }
    }
}
