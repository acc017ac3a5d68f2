//! JSON as it was written: keys in their order, and keys given twice still there.
//!
//! `serde_json::Value` keeps the last of two equal keys and forgets the first, so half of what a
//! person wrote would be lost without a word.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// `null`, which counts as not given.
    Null,
    /// A number, whole or not.
    Number(serde_json::Number),
    /// An object: its keys as written, each with its value.
    Object(Vec<(String, Self)>),
    /// A string.
    Text(String),
}

impl Json {
    /// This value as a whole number, if it is one and is not negative.
    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }
}

/// A value as a mistake shows it: scalars as written, but short; the rest by their kind.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(_) => f.write_str("a list"),
            Self::Null => f.write_str("null"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Object(_) => f.write_str("an object"),
            Self::Text(text) if text.chars().count() > SHOWN_MAX => {
                write!(f, "{:?}…", text.chars().take(SHOWN_MAX).collect::<String>())
            }
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        // JSON has no way to write what is no number, so the error is never seen.
        serde_json::Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = items.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

/// Characters of a string that a mistake shows.
const SHOWN_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(json.to_string(), expected, "json: {text}");
    }

    #[test]
    fn values_are_shown_as_written() {
        for (text, expected) in [
            ("true", "true"),
            ("null", "null"),
            ("70000", "70000"),
            ("-1", "-1"),
            ("80.5", "80.5"),
            (r#""a\"b""#, r#""a\"b""#),
            ("[1]", "a list"),
            ("{}", "an object"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn a_long_string_is_shown_in_part() {
        check(&format!("{:?}", "x".repeat(100)), &format!("\"{}\"…", "x".repeat(60)));
    }

    #[test]
    fn keys_keep_their_order_and_their_doubles() {
        let json: Json = serde_json::from_str(r#"{"b": 1, "a": 2, "b": 3}"#).unwrap();
        let Json::Object(entries) = json else { panic!("no object: {json}") };
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "b"]);
    }
}
