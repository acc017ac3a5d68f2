//! Whether what a client has sent by HTTP/2 ends within something.
//!
//! ```text
//!   preface   24 bytes                                             RFC 9113 §3.4
//!   frame     len24 type8 flags8 stream32, then len bytes          §4.1
//!   head      HEADERS, then CONTINUATION until END_HEADERS         §4.3, §6.10
//! ```
//! Nothing else can be said on the connection until such a thing is whole, so a client that lets
//! one wait holds up itself; and the library below tells nobody of it. Nothing is checked here.

/// What was received of the current frame, and of the head that it is part of.
#[derive(Debug)]
pub(in crate::dns::https) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; FRAME_HEAD],
    /// Bytes of `head` that have come. Always less than all of it.
    head_len: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    /// Whether the frame is followed by more of the same head.
    is_followed: bool,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::dns::https) struct Passed {
    /// Whether something ended in them.
    pub ended: bool,
    /// Whether they end within something.
    pub is_partial: bool,
}

impl Frames {
    /// Before the first byte.
    pub(in crate::dns::https) fn new() -> Self {
        Self {
            preface: PREFACE_LEN,
            head: [0; FRAME_HEAD],
            head_len: 0,
            payload: 0,
            is_followed: false,
        }
    }

    /// Looks at the bytes that came next.
    pub(in crate::dns::https) fn pass(&mut self, mut bytes: &[u8]) -> Passed {
        let mut ended = false;
        while !bytes.is_empty() {
            let skipped = match (self.preface, self.payload) {
                (0, 0) => self.take_head(bytes),
                (0, _) => skip(&mut self.payload, bytes),
                _ => skip(&mut self.preface, bytes),
            };
            bytes = bytes.get(skipped..).unwrap_or_default();
            ended |= self.is_between();
        }
        Passed { ended, is_partial: !self.is_between() }
    }

    /// Takes one byte of a frame's head, and tells so.
    fn take_head(&mut self, bytes: &[u8]) -> usize {
        if let (Some(space), Some(byte)) = (self.head.get_mut(self.head_len), bytes.first()) {
            *space = *byte;
        }
        self.head_len = (self.head_len + 1) % FRAME_HEAD;
        if self.head_len > 0 {
            return 1;
        }
        let [high, middle, low, kind, flags, ..] = self.head;
        self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_followed = flags & END_HEADERS == 0;
        }
        1
    }

    fn is_between(&self) -> bool {
        (self.preface, self.head_len, self.payload, self.is_followed) == (0, 0, 0, false)
    }
}

/// Skips as many of the `bytes` as are still to come, and tells how many.
fn skip(coming: &mut usize, bytes: &[u8]) -> usize {
    let skipped = bytes.len().min(*coming);
    *coming -= skipped;
    skipped
}

const PREFACE_LEN: usize = 24;
const FRAME_HEAD: usize = 9;

/// RFC 9113 §6.2, §6.10.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const HEADERS: &[u8] = &[0, 0, 2, 1, 1, 0, 0, 0, 1, 0x82, 0x86];
    const CONTINUED: &[u8] = &[0, 0, 0, 9, 0, 0, 0, 0, 1];
    const CONTINUED_TO_THE_END: &[u8] = &[0, 0, 1, 9, 4, 0, 0, 0, 1, 0x84];
    const WHOLE_HEADERS: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82];
    const DATA: &[u8] = &[0, 0, 3, 0, 1, 0, 0, 0, 1, 9, 9, 9];

    /// Where, in these parts one after the other, something ends with nothing begun behind it.
    fn ends(parts: &[&[u8]]) -> Vec<usize> {
        let mut frames = Frames::new();
        let bytes = parts.concat();
        let ends = bytes.chunks(1).zip(1..).filter_map(|(byte, at)| {
            let passed = frames.pass(byte);
            assert_eq!(passed.ended, !passed.is_partial, "at {at}: one byte");
            passed.ended.then_some(at)
        });
        ends.collect()
    }

    #[test]
    fn a_frame_is_whole_at_its_end_and_a_head_with_its_last_frame() {
        assert_eq!(ends(&[PREFACE, SETTINGS, PING]), [24, 33, 50]);
        assert_eq!(ends(&[PREFACE, WHOLE_HEADERS, DATA]), [24, 34, 46]);
        assert_eq!(ends(&[PREFACE, HEADERS, CONTINUED, CONTINUED_TO_THE_END]), [24, 54]);
    }

    #[test]
    fn what_comes_at_once_is_told_by_its_end() {
        let passed = |ended, is_partial| Passed { ended, is_partial };
        let mut frames = Frames::new();
        assert_eq!(frames.pass(&PREFACE[..9]), passed(false, true));
        let rest = [&PREFACE[9..], SETTINGS, &PING[..9]].concat();
        assert_eq!(frames.pass(&rest), passed(true, true));
        assert_eq!(frames.pass(&PING[9..]), passed(true, false));
        assert_eq!(frames.pass(&[HEADERS, CONTINUED].concat()), passed(false, true));
        assert_eq!(frames.pass(CONTINUED_TO_THE_END), passed(true, false));
        assert_eq!(frames.pass(&[]), passed(false, false));
    }
}
