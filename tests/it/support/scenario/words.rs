//! The words of one line of a scenario, read from left to right.

use fingerpost::catalog::model::{Address, Health, NamedPort, Tagged};

/// The words of a line that are still to be read.
pub struct Words<'t>(pub std::iter::Peekable<std::str::SplitWhitespace<'t>>);

impl<'t> Words<'t> {
    /// The next word, which is `what`.
    pub fn next(&mut self, what: &str) -> Result<&'t str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// The next word, a number.
    pub fn number(&mut self, what: &str) -> Result<u16, String> {
        let word = self.next(what)?;
        word.parse().map_err(|_| format!("{what} is no number: `{word}`"))
    }

    /// The next word, a number of eight bits.
    pub fn small(&mut self, what: &str) -> Result<u8, String> {
        let number = self.number(what)?;
        u8::try_from(number).map_err(|_| format!("{what} is too large: `{number}`"))
    }

    /// Takes the addresses with tags that come next.
    pub fn tagged(&mut self) -> Result<Option<Box<Tagged>>, String> {
        let mut tagged = Tagged::default();
        while let Some(word) = self.0.next_if(|word| TAGS.contains(word)) {
            let address = Address::from_text(self.next("ADDRESS")?);
            match word {
                "lan_ipv4" => tagged.lan_ipv4 = address,
                "lan_ipv6" => tagged.lan_ipv6 = address,
                "wan" => tagged.wan = address,
                "wan_ipv4" => tagged.wan_ipv4 = address,
                "wan_ipv6" => tagged.wan_ipv6 = address,
                _ => tagged.mesh = address,
            }
        }
        if self.0.next_if_eq(&"wan_port").is_some() {
            tagged.wan_port = self.number("PORT")?;
        }
        Ok((tagged != Tagged::default()).then(|| Box::new(tagged)))
    }

    /// Takes the named ports that come next.
    pub fn ports(&mut self) -> Result<Vec<NamedPort>, String> {
        let mut ports = Vec::new();
        while self.0.next_if_eq(&"named").is_some() {
            let name = self.next("NAME")?.to_owned();
            ports.push(NamedPort { name, port: self.number("PORT")? });
        }
        Ok(ports)
    }

    /// Takes `word`.
    pub fn expect(&mut self, word: &str) -> Result<(), String> {
        self.0.next_if_eq(&word).map(drop).ok_or_else(|| format!("`{word}` is missing"))
    }

    /// All words that are left.
    pub fn rest(&mut self) -> Vec<String> {
        self.0.by_ref().map(str::to_owned).collect()
    }

    /// Nothing may be left.
    pub fn end(&mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
    }
}

/// Reads the health that a line gives.
pub fn health(status: &str) -> Result<Health, String> {
    match Health::from_status(status) {
        Health::Unknown if status != "unknown" => Err(format!("no status: `{status}`")),
        health => Ok(health),
    }
}

/// The lines that a line with ranges stands for; the line alone if it has none.
pub fn expand(line: &str) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let Some((_, rest)) = line.split_once('{') else {
        return Ok(vec![line.to_owned()]);
    };
    let range = rest.split('}').next().unwrap_or_default();
    let (first, last) = range.split_once("..").ok_or("a range is {FIRST..LAST}")?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("no number: `{text}`"));
    let steps = number(last)?.checked_sub(number(first)?).ok_or("a range runs upwards")?;
    for step in 0..=steps {
        let mut expanded = String::new();
        let mut parts = line.split('{');
        expanded.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let (range, text) = part.split_once('}').ok_or("`}` is missing")?;
            let first = range.split("..").next().unwrap_or_default();
            expanded.push_str(&(number(first)? + step).to_string());
            expanded.push_str(text);
        }
        lines.push(expanded);
    }
    Ok(lines)
}

/// Addresses that have a tag; the mesh's own is `consul-virtual` in Consul.
const TAGS: [&str; 6] = ["lan_ipv4", "lan_ipv6", "wan", "wan_ipv4", "wan_ipv6", "mesh"];

/// Options, each with the number of its values.
pub const OPTIONS: [(&str, usize); 14] = [
    ("a_record_limit", 1),
    ("alt_domain", 1),
    ("any_minimal", 0),
    ("chaos", 1),
    ("max_stale", 1),
    ("name_server", 1),
    ("node_ttl", 1),
    ("nsid", 1),
    ("only_passing", 0),
    ("reverse_zone", 1),
    ("service_ttl", 2),
    ("soa_min_ttl", 1),
    ("translate_wan_addrs", 0),
    ("udp_answer_limit", 1),
];
