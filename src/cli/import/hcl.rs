//! HCL as Consul reads it, which is HCL 1: text to a tree of JSON's values.
//!
//! ```text
//!   key = value      "key" = value      key { … }      key "label" { … }
//! ```
//! A key may be any text in quotes, items may be parted by commas, and a file that opens with `{` is
//! JSON. HCL 2, which crates read, has none of that, and so refuses a table of TTLs by service as
//! Consul's documentation writes it. What is written twice is as in Consul: of two plain values the
//! last counts, lists are put together, and tables become a list of them.
//!
//! Nothing is evaluated: `${…}` stays as it is. A mistake never quotes what stands there, which may
//! be a secret.

use serde_json::{Map, Number, Value};

/// Why a text is no HCL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, or what should be there.
    pub fact: &'static str,
}

/// Reads a whole file.
///
/// # Errors
///
/// Fails on the first thing that cannot be read; the file's writer must mend it.
pub fn parse(text: &str) -> Result<Map<String, Value>, SyntaxError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.items(None)
}

struct Reader<'t> {
    text: &'t str,
    /// The byte to read next; `0 <= at <= text.len()`, and a character begins there.
    at: usize,
    /// Tables and lists that are open.
    depth: usize,
}

impl<'t> Reader<'t> {
    /// All items up to `end`, which is read too; up to the end of the text where it is `None`.
    fn items(&mut self, end: Option<char>) -> Result<Map<String, Value>, SyntaxError> {
        let mut items = Map::new();
        loop {
            self.skip_space()?;
            if self.peek() == end {
                self.next();
                return Ok(items);
            }
            let (key, value) = self.item()?;
            add(&mut items, key, value);
            self.skip_space()?;
            self.take(",");
        }
    }

    fn item(&mut self) -> Result<(String, Value), SyntaxError> {
        let mut keys = vec![self.key()?];
        loop {
            self.skip_space()?;
            match self.peek() {
                Some('=') if keys.len() == 1 => {
                    self.next();
                    self.skip_space()?;
                    let value = self.value()?;
                    return Ok((keys.swap_remove(0), value));
                }
                Some('{') => break,
                Some('=') => return Err(self.error("a table must follow a label")),
                Some(_) if keys.len() == DEPTH_MAX => return Err(self.error(TOO_DEEP)),
                Some(c) if c == '"' || is_letter(c) => keys.push(self.key()?),
                _ => return Err(self.error("'=' or '{' must follow a key")),
            }
        }
        let mut value = self.value()?;
        for label in keys.drain(1..).rev() {
            value = Value::Object(Map::from_iter([(label, value)]));
        }
        Ok((keys.swap_remove(0), value))
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        match self.peek() {
            Some('"') => self.quoted(),
            Some(c) if is_letter(c) => Ok(self.word().to_owned()),
            Some(_) => Err(self.error("a key is expected")),
            None => Err(self.error("a '{' is never closed")),
        }
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        match self.peek() {
            Some('"') => self.quoted().map(Value::String),
            Some('{') => self.nested(|reader| reader.items(Some('}')).map(Value::Object)),
            Some('[') => self.nested(|reader| reader.list().map(Value::Array)),
            Some('<') => self.heredoc().map(Value::String),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '.') => self.number(),
            Some(c) if is_letter(c) => match self.word() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(self.error("text must be in quotes")),
            },
            _ => Err(self.error("a value is expected")),
        }
    }

    /// What is between brackets, the first of which is next.
    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value, SyntaxError>,
    ) -> Result<Value, SyntaxError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(TOO_DEEP));
        }
        self.next();
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn list(&mut self) -> Result<Vec<Value>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            self.skip_space()?;
            if self.take("]") {
                return Ok(items);
            }
            // As in Consul, a comma too many is nothing.
            if self.take(",") {
                continue;
            }
            items.push(self.value()?);
            self.skip_space()?;
            if !self.take(",") && self.peek() != Some(']') {
                return Err(self.error("',' or ']' must follow an item of a list"));
            }
        }
    }

    /// Text in quotes; what is within `${…}` is taken as it stands.
    fn quoted(&mut self) -> Result<String, SyntaxError> {
        let (start, open) = (self.at, "a text in quotes is never closed");
        self.next();
        let (mut bytes, mut braces) = (Vec::new(), 0_usize);
        let push = |bytes: &mut Vec<u8>, c: char| {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        };
        while let Some(c) = self.next() {
            match c {
                '"' if braces == 0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                '\n' if braces == 0 => break,
                '\\' if braces == 0 => self.escape(&mut bytes)?,
                '$' if braces == 0 && self.peek() == Some('{') => {
                    self.next();
                    braces = 1;
                    bytes.extend_from_slice(b"${");
                }
                _ => {
                    match c {
                        '{' if braces > 0 => braces += 1,
                        '}' if braces > 0 => braces -= 1,
                        _ => (),
                    }
                    push(&mut bytes, c);
                }
            }
        }
        Err(self.error_at(start, open))
    }

    /// Go's escapes; the backslash has been read.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let (start, unknown) = (self.at, "an escape that HCL does not know");
        let unknown = |reader: &Self| reader.error_at(start, unknown);
        if let Some(byte) = self.digits(3, 8) {
            bytes.push(u8::try_from(byte).map_err(|_| unknown(self))?);
            return Ok(());
        }
        let plain = match self.next() {
            Some('a') => 7,
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 11,
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('x') => self
                .digits(2, 16)
                .and_then(|byte| byte.try_into().ok())
                .ok_or_else(|| unknown(self))?,
            Some(kind @ ('u' | 'U')) => {
                let code = self.digits(if kind == 'u' { 4 } else { 8 }, 16);
                let c = code.and_then(char::from_u32).ok_or_else(|| unknown(self))?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(unknown(self)),
        };
        bytes.push(plain);
        Ok(())
    }

    /// So many digits, if they are next.
    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + count)?;
        let number = u32::from_str_radix(digits, radix).ok()?;
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        are_digits.then(|| self.at += count)?;
        Some(number)
    }

    /// Lines up to one that has the word behind `<<` alone. With `<<-` the indentation of that line
    /// is taken off all others, where they have it.
    fn heredoc(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        if !self.take("<<") {
            return Err(self.error("a value is expected"));
        }
        let is_indented = self.take("-");
        let word = self.line().trim_end();
        let mut lines = Vec::new();
        while self.at < self.text.len() {
            let line = self.line();
            if line.trim() != word {
                lines.push(line);
                continue;
            }
            let indent = &line[..line.len() - line.trim_start().len()];
            if is_indented && lines.iter().all(|line| line.starts_with(indent)) {
                lines.iter_mut().for_each(|line| *line = &line[indent.len()..]);
            }
            return Ok(lines.iter().map(|line| format!("{line}\n")).collect());
        }
        Err(self.error_at(start, "a text of several lines is never closed"))
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let len = rest.find('\n').unwrap_or(rest.len());
        self.at = (self.at + len + 1).min(self.text.len());
        &rest[..len]
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        let rest = &self.text[self.at..];
        let is_of_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let word = &rest[..rest.find(|c| !is_of_number(c)).unwrap_or(rest.len())];
        self.at += word.len();
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, word),
        };
        let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let whole = match (hexadecimal, digits.strip_prefix('0')) {
            // A second sign is one too many, which these would take.
            _ if digits.contains(['-', '+', '.']) => None,
            (Some(digits), _) => i64::from_str_radix(digits, 16).ok(),
            (None, Some(digits)) if !digits.is_empty() => i64::from_str_radix(digits, 8).ok(),
            _ => digits.parse().ok(),
        };
        let number = match whole {
            Some(whole) => Some(Number::from(sign * whole)),
            None if word.contains(['.', 'e', 'E']) => word.parse().ok().and_then(Number::from_f64),
            None => None,
        };
        number.map(Value::Number).ok_or_else(|| self.error_at(start, "not a number"))
    }

    fn word(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let is_of_word = |c: char| is_letter(c) || c.is_numeric() || matches!(c, '-' | '.');
        let word = &rest[..rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// Skips blanks, ends of lines and comments.
    fn skip_space(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = &self.text[self.at..];
            self.at += rest.len() - rest.trim_start().len();
            if self.take("/*") {
                let len = self.text[self.at..].find("*/");
                let len = len.ok_or_else(|| self.error("a comment is never closed"))?;
                self.at += len + 2;
            } else if self.take("#") || self.take("//") {
                self.line();
            } else {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Skips `word` if it is next.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.text[self.at..].starts_with(word);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// What is wrong here.
    fn error(&self, fact: &'static str) -> SyntaxError {
        self.error_at(self.at, fact)
    }

    /// What is wrong where the byte `at` is.
    fn error_at(&self, at: usize, fact: &'static str) -> SyntaxError {
        let line = 1 + self.text[..at].matches('\n').count();
        SyntaxError { line, fact }
    }
}

/// Adds an item to those before it.
fn add(items: &mut Map<String, Value>, key: String, value: Value) {
    let value = match (items.remove(&key), value) {
        (Some(Value::Array(mut all)), Value::Array(more)) => {
            all.extend(more);
            Value::Array(all)
        }
        (Some(Value::Array(mut all)), one @ Value::Object(_)) => {
            all.push(one);
            Value::Array(all)
        }
        (Some(first @ Value::Object(_)), Value::Array(more)) => {
            Value::Array(std::iter::once(first).chain(more).collect())
        }
        (Some(first @ Value::Object(_)), second @ Value::Object(_)) => {
            Value::Array(vec![first, second])
        }
        (_, value) => value,
    };
    items.insert(key, value);
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// As deep as JSON may be too.
const DEPTH_MAX: usize = 128;

const TOO_DEEP: &str = "too many tables in one another";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let said = match parse(text) {
            Ok(items) => Value::Object(items).to_string(),
            Err(SyntaxError { line, fact }) => format!("{line}: {fact}"),
        };
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn items_are_values_or_tables() {
        for (text, expected) in [
            ("", "{}"),
            (r#"a = "x""#, r#"{"a":"x"}"#),
            ("a\n=\n1", r#"{"a":1}"#),
            ("a = 1 b = true, c = false,", r#"{"a":1,"b":true,"c":false}"#),
            ("a { b = 1 }", r#"{"a":{"b":1}}"#),
            (r#"a = { "*" = "5s" "db*" = "1s", }"#, r#"{"a":{"*":"5s","db*":"1s"}}"#),
            (r#"a "b" c { d = 1 }"#, r#"{"a":{"b":{"c":{"d":1}}}}"#),
            (r#"a = [1, "x", { b = 2 }, [3],]"#, r#"{"a":[1,"x",{"b":2},[3]]}"#),
            ("a = [1,, 2]", r#"{"a":[1,2]}"#),
            ("ports.dns = 1\na-b = 2", r#"{"a-b":2,"ports.dns":1}"#),
            ("# one\n// two\n/* three\n = */ a = 1 # four", r#"{"a":1}"#),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_is_written_twice_is_as_in_consul() {
        for (text, expected) in [
            ("a = 1\na = 2", r#"{"a":2}"#),
            ("a = [1]\na = [2]", r#"{"a":[1,2]}"#),
            ("a { b = 1 }\na { c = 2 }", r#"{"a":[{"b":1},{"c":2}]}"#),
            ("a { b = 1 }\na { b = 2 }\na { b = 3 }", r#"{"a":[{"b":1},{"b":2},{"b":3}]}"#),
            ("a { b = 1 }\na = [{ b = 2 }]", r#"{"a":[{"b":1},{"b":2}]}"#),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn numbers_and_texts_are_gos() {
        for (text, expected) in [
            (
                "a = [0, -1, 8600, 010, 0x2198, 1.5, -.5, 1e3]",
                "{\"a\":[0,-1,8600,8,8600,1.5,-0.5,1000.0]}",
            ),
            (r#"a = "\t\\\"\x41\u00e9\101é""#, r#"{"a":"\t\\\"AéAé"}"#),
            (r#"a = "{{ GetInterfaceIP \"eth0\" }}""#, r#"{"a":"{{ GetInterfaceIP \"eth0\" }}"}"#),
            (r#"a = "${file("x")} y""#, r#"{"a":"${file(\"x\")} y"}"#),
            ("a = <<EOF\n x\n  y\nEOF\nb = 1", r#"{"a":" x\n  y\n","b":1}"#),
            ("a = <<-EOF\n  x\n   y\n  EOF\n", r#"{"a":"x\n y\n"}"#),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_line_and_never_shown() {
        for (text, expected) in [
            ("a = 1\nb = s3cret", "2: text must be in quotes"),
            ("a = \"s3cret\nb = 1", "1: a text in quotes is never closed"),
            ("a = \"s3cret", "1: a text in quotes is never closed"),
            ("a = \"${\"", "1: a text in quotes is never closed"),
            ("a = \"\\q\"", "1: an escape that HCL does not know"),
            ("a = \"\\+12\"", "1: an escape that HCL does not know"),
            ("a = <<E\ns3cret", "1: a text of several lines is never closed"),
            ("a = <E", "1: a value is expected"),
            ("a =\n", "2: a value is expected"),
            ("a = 's3cret'", "1: a value is expected"),
            ("a = 09", "1: not a number"),
            ("a = --1", "1: not a number"),
            ("a = 0x+1", "1: not a number"),
            ("a = 8_500", "1: '=' or '{' must follow a key"),
            ("a = +1", "1: a value is expected"),
            ("a = [1 2]", "1: ',' or ']' must follow an item of a list"),
            ("a = [", "1: a value is expected"),
            ("a {\n b = 1\n", "3: a '{' is never closed"),
            ("a", "1: '=' or '{' must follow a key"),
            ("a [ ]", "1: '=' or '{' must follow a key"),
            ("a \"b\" = 1", "1: a table must follow a label"),
            ("{ }", "1: a key is expected"),
            ("a { } }", "1: a key is expected"),
            ("/* a", "1: a comment is never closed"),
        ] {
            check(text, expected);
        }
        let deep = format!("a = {}", "[".repeat(100_000));
        check(&deep, "1: too many tables in one another");
        let labels = format!("a {} {{ }}", "\"b\" ".repeat(100_000));
        check(&labels, "1: too many tables in one another");
    }
}
