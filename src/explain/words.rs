//! Names and texts from outside, for people: nothing in them can look like something of ours.

use std::fmt::Write as _;

use hickory_proto::rr::{Name, RData};

/// `text` without what would move a terminal's cursor, end a line or turn it round.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        let is_turning = matches!(letter, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match letter.is_control() || is_turning {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// A name off the wire, as zone files have it (RFC 1035 §5.1), with a dot at its end.
pub fn name(wire: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((len, after)) = rest.split_first() {
        let len = usize::from(*len);
        if len == 0 || len > after.len() {
            break;
        }
        let (label, after) = after.split_at(len);
        labels.push(label);
        rest = after;
    }
    joined(labels.into_iter())
}

/// The same of a name that was read.
pub fn of_name(name: &Name) -> String {
    joined(name.iter())
}

fn joined<'l>(labels: impl Iterator<Item = &'l [u8]>) -> String {
    let mut text = String::new();
    for label in labels {
        label.iter().for_each(|byte| push(&mut text, *byte, b".;\\()@$\" "));
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

fn push(text: &mut String, byte: u8, special: &[u8]) {
    match byte {
        b' ' | b'!'..=b'~' if !special.contains(&byte) => text.push(char::from(byte)),
        b'!'..=b'~' => {
            text.push('\\');
            text.push(char::from(byte));
        }
        other => drop(write!(text, "\\{other:03}")),
    }
}

/// What a record says, as in a zone file.
pub fn rdata(data: &RData) -> String {
    match data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(aaaa) => aaaa.0.to_string(),
        RData::CNAME(target) => of_name(&target.0),
        RData::NS(target) => of_name(&target.0),
        RData::PTR(target) => of_name(&target.0),
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, of_name(&srv.target))
        }
        RData::SOA(soa) => format!(
            "{} {} {} {} {} {} {}",
            of_name(&soa.mname),
            of_name(&soa.rname),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        RData::TXT(txt) => {
            let string = |bytes: &[u8]| {
                let mut text = String::new();
                bytes.iter().for_each(|byte| push(&mut text, *byte, b"\"\\"));
                format!("\"{text}\"")
            };
            txt.txt_data.iter().map(|bytes| string(bytes)).collect::<Vec<_>>().join(" ")
        }
        other => shown(&other.to_string()),
    }
}

/// Reads a name as zone files and dig have it: `\046` and `\.` stand for a byte of a label.
///
/// # Errors
///
/// Fails where it is none, with the reason.
pub fn parse_name(text: &str) -> Result<Vec<u8>, String> {
    let (mut wire, mut label) = (Vec::new(), Vec::new());
    let mut bytes = text.bytes();
    let end = |label: &mut Vec<u8>, wire: &mut Vec<u8>| match label.len() {
        0 => Err("a label is empty".to_owned()),
        1..=63 => {
            wire.push(label.len() as u8);
            wire.append(label);
            Ok(())
        }
        len => Err(format!("a label has {len} bytes, and 63 are the most")),
    };
    if text == "." {
        return Ok(vec![0]);
    }
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => end(&mut label, &mut wire)?,
            b'\\' => label.push(escaped(&mut bytes)?),
            byte => label.push(byte),
        }
    }
    if !label.is_empty() {
        end(&mut label, &mut wire)?;
    }
    wire.push(0);
    match wire.len() {
        1 => Err("it is empty".to_owned()),
        2..=255 => Ok(wire),
        len => Err(format!("it has {len} bytes, and 255 are the most")),
    }
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, String> {
    let wrong = || "a backslash stands before three digits, up to 255, or one letter".to_owned();
    let first = bytes.next().ok_or_else(wrong)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let digits = [Some(first), bytes.next(), bytes.next()];
    let digit =
        |byte: Option<u8>| byte.filter(u8::is_ascii_digit).map(|byte| u32::from(byte - b'0'));
    let value = digits.into_iter().try_fold(0, |value, byte| Some(value * 10 + digit(byte)?));
    value.and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_texts() {
        for (text, expected) in [
            ("web.consul", "web.consul."),
            ("web.consul.", "web.consul."),
            ("w\\101b.consul", "web.consul."),
            ("my\\032app.consul", "my\\032app.consul."),
            ("a\\.b.consul", "a\\.b.consul."),
            ("ü.consul", "\\195\\188.consul."),
            (".", "."),
            ("", "it is empty"),
            ("a..b", "a label is empty"),
            ("a\\9", "a backslash stands before three digits, up to 255, or one letter"),
            ("a\\999", "a backslash stands before three digits, up to 255, or one letter"),
        ] {
            let got = parse_name(text).map_or_else(|error| error, |wire| name(&wire));
            assert_eq!(got, expected, "{text:?}");
        }
        let long = "x".repeat(64);
        assert_eq!(parse_name(&long), Err("a label has 64 bytes, and 63 are the most".to_owned()));
    }

    #[test]
    fn texts_that_would_draw_on_a_terminal() {
        assert_eq!(shown("a\u{1b}[2J\n\u{202e}b ü"), "a\\u{1b}[2J\\n\\u{202e}b ü");
    }
}
