//! The keys of the file's objects, and the values read from them one by one.
//!
//! A key is found by any spelling that Consul takes: `enable_tag_override`, `EnableTagOverride`
//! and `enabletagoverride` are one key, for case and underscores do not count.
//!
//! **Invariant:** whatever is wrong is noted and read past, so that one run finds all mistakes.

use crate::catalog::model::Address;
use crate::file::json::Json;
use crate::file::mistake::{Fault, Mistake};

/// What the keys of one kind of object are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What such an object is called in a mistake.
    pub noun: &'static str,
    /// Keys that are read, each with all its spellings; the first is the one that is shown.
    pub read: &'static [&'static [&'static str]],
    /// Keys of Consul's that have no bearing on DNS answers.
    pub ignored: &'static [&'static str],
}

/// A value, with the place where it was found.
#[derive(Clone, Debug)]
pub struct Found<'j> {
    /// Its path of keys from the top of the file.
    pub place: String,
    /// The value itself; never [`Json::Null`].
    pub json: &'j Json,
}

/// The known keys of one object, with their values.
#[derive(Clone, Debug)]
pub struct Fields<'j> {
    place: String,
    known: Vec<(&'static str, Found<'j>)>,
}

/// Reads values and collects the mistakes met on the way.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was wrong so far, in the order of reading.
    pub mistakes: Vec<Mistake>,
}

impl<'j> Fields<'j> {
    /// The value of `key`, given by the spelling that its shape lists first.
    pub fn get(&self, key: &str) -> Option<&Found<'j>> {
        self.known.iter().find(|(known, _)| *known == key).map(|(_, found)| found)
    }

    /// Where the value of `key` is, or would be.
    pub fn place_of(&self, key: &str) -> String {
        self.get(key).map_or_else(|| below(&self.place, key), |found| found.place.clone())
    }

    /// Whether any of `keys` is given.
    pub fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.get(key).is_some())
    }

    /// Where the object itself is; empty for the top of the file.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl Reader {
    /// The keys of an object of the given shape. `None` if it is no object.
    pub fn fields<'j>(&mut self, found: &Found<'j>, shape: &Shape) -> Option<Fields<'j>> {
        let mut fields = Fields { place: found.place.clone(), known: Vec::new() };
        let Json::Object(entries) = found.json else {
            self.wrong(found, "an object");
            return None;
        };
        let mut spellings: Vec<(String, String)> = Vec::new();
        for (spelling, json) in entries {
            let place = below(&fields.place, spelling);
            let Some(key) = shape.key(spelling) else {
                self.note(&place, Fault::UnknownKey(shape.noun, shape.shown()));
                continue;
            };
            if let Some((_, first)) = spellings.iter().find(|(other, _)| *other == key) {
                self.note(&place, Fault::DuplicateKey(first.clone()));
                continue;
            }
            spellings.push((key.clone(), spelling.clone()));
            if let Some(shown) = shape.shown_key(&key)
                && *json != Json::Null
            {
                fields.known.push((shown, Found { place, json }));
            }
        }
        Some(fields)
    }

    /// The items of a list, each with its place; none where the key is not given.
    pub fn list<'j>(&mut self, fields: &Fields<'j>, key: &str) -> Vec<Found<'j>> {
        let Some(found) = fields.get(key) else {
            return Vec::new();
        };
        let Json::List(items) = found.json else {
            self.wrong(found, "a list");
            return Vec::new();
        };
        let place = |at| format!("{}[{at}]", found.place);
        items.iter().enumerate().map(|(at, json)| Found { place: place(at), json }).collect()
    }

    /// The entries of an object with keys of the writer's own, each with its place.
    pub fn entries<'j>(&mut self, fields: &Fields<'j>, key: &str) -> Vec<(String, Found<'j>)> {
        let Some(found) = fields.get(key) else {
            return Vec::new();
        };
        let Json::Object(entries) = found.json else {
            self.wrong(found, "an object");
            return Vec::new();
        };
        let mut known: Vec<(String, Found<'j>)> = Vec::new();
        for (key, json) in entries.iter().filter(|(_, json)| *json != Json::Null) {
            let place = below(&found.place, key);
            if known.iter().any(|(other, _)| other == key) {
                self.note(&place, Fault::DuplicateKey(key.clone()));
                continue;
            }
            known.push((key.clone(), Found { place, json }));
        }
        known
    }

    /// Whether a switch is on; off where the key is not given.
    pub fn flag(&mut self, fields: &Fields<'_>, key: &str) -> bool {
        match fields.get(key) {
            None => false,
            Some(Found { json: Json::Bool(value), .. }) => *value,
            Some(found) => {
                self.wrong(found, "true or false");
                false
            }
        }
    }

    /// A string. `None` where the key is not given or the value is empty, as in Consul.
    pub fn text<'j>(&mut self, fields: &Fields<'j>, key: &str) -> Option<&'j str> {
        let found = fields.get(key)?;
        match found.json {
            Json::Text(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => {
                self.wrong(found, "a string");
                None
            }
        }
    }

    /// A string that has to be there.
    pub fn required_text<'j>(
        &mut self,
        fields: &Fields<'j>,
        key: &str,
        allowed: &'static str,
    ) -> Option<&'j str> {
        match fields.get(key) {
            None => self.note(&fields.place_of(key), Fault::Missing(allowed)),
            Some(found) => match found.json {
                Json::Text(text) if !text.is_empty() => return Some(text),
                _ => self.wrong(found, allowed),
            },
        }
        None
    }

    /// An address that an answer can carry. `None` where the key is not given or empty.
    pub fn address(&mut self, fields: &Fields<'_>, key: &str) -> Option<Address> {
        self.address_of(fields.get(key)?)
    }

    /// The address that a value is. `None` where it is empty.
    pub fn address_of(&mut self, found: &Found<'_>) -> Option<Address> {
        let Json::Text(text) = found.json else {
            self.wrong(found, ADDRESS);
            return None;
        };
        let address = Address::from_text(text)?;
        match &address {
            Address::Ip(ip) if ip.is_unspecified() => self.wrong(found, ADDRESS),
            Address::Host(host) if !is_hostname(host) => self.wrong(found, ADDRESS),
            Address::Host(_) | Address::Ip(_) => (),
        }
        Some(address)
    }

    /// An address that has to be there.
    pub fn required_address(&mut self, fields: &Fields<'_>, key: &str) -> Option<Address> {
        match fields.get(key) {
            None => self.note(&fields.place_of(key), Fault::Missing(ADDRESS)),
            Some(found) if *found.json == Json::Text(String::new()) => self.wrong(found, ADDRESS),
            Some(_) => return self.address(fields, key),
        }
        None
    }

    /// A whole number from `min` to 65535; `default` where the key is not given.
    pub fn number(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        (min, default): (u16, u16),
        allowed: &'static str,
    ) -> u16 {
        let Some(found) = fields.get(key) else {
            return default;
        };
        match found.json.whole().and_then(|number| u16::try_from(number).ok()) {
            Some(number) if number >= min => number,
            _ => {
                self.wrong(found, allowed);
                default
            }
        }
    }

    /// Notes that a value is none that its key can have.
    pub fn wrong(&mut self, found: &Found<'_>, allowed: &'static str) {
        self.note(&found.place, Fault::WrongValue(found.json.to_string(), allowed));
    }

    /// Notes a mistake.
    pub fn note(&mut self, place: &str, fault: Fault) {
        self.mistakes.push(Mistake::new(place, fault));
    }
}

impl Shape {
    /// The one form that stands for all spellings of a key; `None` for an unknown key.
    fn key(&self, spelling: &str) -> Option<String> {
        let folded = fold(spelling);
        match self.shown_key(&folded) {
            Some(shown) => Some(fold(shown)),
            None => self.ignored.iter().any(|key| fold(key) == folded).then_some(folded),
        }
    }

    fn shown_key(&self, folded: &str) -> Option<&'static str> {
        let spellings = self.read.iter().find(|keys| keys.iter().any(|key| fold(key) == folded))?;
        spellings.first().copied()
    }

    fn shown(&self) -> String {
        self.read.iter().filter_map(|keys| keys.first().copied()).collect::<Vec<_>>().join(", ")
    }
}

/// The place of `key` in the object at `place`.
fn below(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

fn fold(key: &str) -> String {
    key.chars().filter(|&c| c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a DNS record can point to `host`: 253 characters at most, in labels of 63.
///
/// A last label of digits only is refused, as in `10.0.0.300`: it is an IP address gone wrong
/// (RFC 1123 §2.1).
fn is_hostname(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = host.rsplit('.').next().unwrap_or(host);
    host.len() <= 253
        && host.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

const ADDRESS: &str = "an IP address other than 0.0.0.0 and ::, or a hostname, without a port";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_and_what_is_none() {
        for (host, expected) in [
            ("www.example.com", true),
            ("www.example.com.", true),
            ("db_1.example.com", true),
            ("localhost", true),
            ("10.0.0.300", false),
            ("10.0.0.1:80", false),
            ("www..example.com", false),
            (".", false),
            ("two words", false),
        ] {
            assert_eq!(is_hostname(host), expected, "host: {host}");
        }
        assert!(!is_hostname(&"x".repeat(64)));
        assert!(!is_hostname(&vec!["x".repeat(60); 5].join(".")));
    }
}
