//! Reads `tests/scenarios/*.txt`: a catalogue, options, and queries with their replies.
//!
//! ```text
//! ; comment
//! local NAME                          the local datacenter, dc1 if not given
//! datacenter NAME                     one more datacenter
//! node NAME ADDRESS [in DC]
//! service NAME on NODE [in DC] [id ID] [port N] [address A] [tag T]… [weights P W] STATUS
//! check on NODE [in DC] STATUS        of the node itself
//! option NAME [VALUE]…                one of [`OPTIONS`]
//! unsynced                            the source has not said anything yet
//! query NAME TYPE [edns SIZE] [tcp] [class C]
//! reply RCODE [FLAG]…                 of the query above; queries have `rd` set
//! answer | authority | additional NAME TTL CLASS TYPE RDATA…
//! count SECTION N | MIN..MAX          the lines of the section are a choice, see `expectation`
//! ```
//!
//! A line with `{1..60}` stands for 60 lines; all such ranges of a line run in step. This module
//! knows nothing of how a reply comes about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use fingerpost::catalog::Form;
use fingerpost::catalog::change::{Change, Held};
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};

use crate::support::expectation::{Count, Expected, Section};

/// One file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name, which is what it claims.
    pub name: String,
    /// The catalogue, as a source would report it; nothing where it is `unsynced`.
    pub changes: Vec<Change>,
    /// Options with their values, as many as [`OPTIONS`] says.
    pub options: Vec<(String, Vec<String>)>,
    /// In the order of the file; at least one.
    pub cases: Vec<Case>,
}

/// A query and its reply.
#[derive(Clone, Debug)]
pub struct Case {
    /// Of the query, counted from 1.
    pub line: usize,
    /// What is asked.
    pub query: Question,
    /// What must come back.
    pub expected: Expected,
}

/// A query, with `rd` set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// As to be sent, case included, without the last dot.
    pub name: String,
    /// As written, such as `SRV`.
    pub qtype: String,
    /// The UDP size to offer; `None` sends no OPT.
    pub edns: Option<u16>,
    /// Over TCP rather than UDP.
    pub tcp: bool,
    /// `IN` if not given.
    pub class: String,
}

/// Why a scenario cannot be run. `Display` is `FILE:LINE: WHAT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScenarioError {
    /// The file, or the folder if that cannot be read.
    pub file: String,
    /// Counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and the word that is.
    pub what: String,
}

/// What is known of a scenario at some line of it.
#[derive(Default)]
struct Draft {
    local: Option<String>,
    datacenters: BTreeSet<String>,
    nodes: Vec<NodeDraft>,
    services: Vec<(String, String, Instance)>,
    options: Vec<(String, Vec<String>)>,
    is_unsynced: bool,
    cases: Vec<Case>,
}

struct NodeDraft {
    datacenter: String,
    node: Node,
    health: Health,
}

/// The words of a line that are still to be read.
struct Words<'t>(std::iter::Peekable<std::str::SplitWhitespace<'t>>);

impl Scenario {
    /// Reads all scenarios of a folder, by name.
    ///
    /// # Errors
    ///
    /// Fails on the first mistake in any of them, or when the folder cannot be read.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, ScenarioError> {
        let fail = |error: std::io::Error| ScenarioError {
            file: folder.display().to_string(),
            line: 0,
            what: error.to_string(),
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                paths.push(path);
            }
        }
        paths.sort();
        paths
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Self::parse(&name, &std::fs::read_to_string(path).map_err(fail)?)
            })
            .collect()
    }

    /// Reads the text of the file called `file`.
    ///
    /// # Errors
    ///
    /// Fails on the first mistake.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut draft = Draft::default();
        let fail = |line, what| ScenarioError { file: file.to_owned(), line, what };
        let mut last = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split(';').next().unwrap_or_default();
            for line in expand(line).map_err(|what| fail(number, what))? {
                draft.take(number, &line).map_err(|what| fail(number, what))?;
            }
            last = number;
        }
        draft.check_last_case().map_err(|what| fail(last, what))?;
        if draft.cases.is_empty() {
            return Err(fail(last, "no query".to_owned()));
        }
        Ok(Self {
            name: file.trim_end_matches(".txt").to_owned(),
            changes: draft.changes(),
            options: draft.options,
            cases: draft.cases,
        })
    }
}

impl Draft {
    fn take(&mut self, number: usize, line: &str) -> Result<(), String> {
        let mut words = Words(line.split_whitespace().peekable());
        let Some(word) = words.0.next() else {
            return Ok(());
        };
        match word {
            "local" => self.local = Some(words.next("NAME")?.to_owned()),
            "datacenter" => drop(self.datacenters.insert(words.next("NAME")?.to_owned())),
            "node" => self.take_node(&mut words)?,
            "service" => self.take_service(&mut words)?,
            "check" => self.take_check(&mut words)?,
            "option" => self.take_option(&mut words)?,
            "unsynced" => self.is_unsynced = true,
            "query" => self.take_query(number, &mut words)?,
            "reply" => self.take_reply(&mut words)?,
            "count" => self.take_count(&mut words)?,
            _ => match Section::from_word(word) {
                Some(section) => self.take_record(section, &mut words)?,
                None => return Err(format!("unknown word `{word}`")),
            },
        }
        words.end()
    }

    fn take_node(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let name = words.next("NAME")?.to_owned();
        let address = words.next("ADDRESS")?;
        let address = Address::from_text(address).ok_or("no address")?;
        let datacenter = self.datacenter(words)?;
        if self.node(&datacenter, &name).is_ok() {
            return Err(format!("node `{name}` is there already"));
        }
        let node = Node::new(name, address);
        self.nodes.push(NodeDraft { datacenter, node, health: Health::Passing });
        Ok(())
    }

    fn take_service(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let name = words.next("NAME")?.to_owned();
        words.expect("on")?;
        let node = words.next("NODE")?.to_owned();
        let datacenter = self.datacenter(words)?;
        let mut instance = Instance {
            id: name.clone(),
            node: self.node(&datacenter, &node)?.node.clone(),
            address: None,
            port: 0,
            ports: Vec::new(),
            tagged: None,
            tags: Vec::new(),
            weights: Weights::default(),
            health: Health::Passing,
        };
        loop {
            match words.next("STATUS")? {
                "id" => instance.id = words.next("ID")?.to_owned(),
                "port" => instance.port = words.number("PORT")?,
                "address" => instance.address = Address::from_text(words.next("ADDRESS")?),
                "tag" => instance.tags.push(words.next("TAG")?.to_owned()),
                "weights" => {
                    let (passing, warning) = (words.number("PASSING")?, words.number("WARNING")?);
                    instance.weights = Weights { passing, warning };
                }
                status => {
                    instance.health = health(status)?;
                    break;
                }
            }
        }
        let is_same = |(dc, _, other): &(String, String, Instance)| {
            *dc == datacenter && other.node == instance.node && other.id == instance.id
        };
        if self.services.iter().any(is_same) {
            return Err(format!("ID `{}` is on the node already", instance.id));
        }
        self.services.push((datacenter, name, instance));
        Ok(())
    }

    fn take_check(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        words.expect("on")?;
        let name = words.next("NODE")?.to_owned();
        let datacenter = self.datacenter(words)?;
        let status = health(words.next("STATUS")?)?;
        self.node(&datacenter, &name)?;
        for draft in &mut self.nodes {
            if draft.datacenter == datacenter && draft.node.name == name {
                draft.health = draft.health.max(status);
            }
        }
        Ok(())
    }

    fn take_option(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let name = words.next("NAME")?;
        let Some((_, values)) = OPTIONS.iter().find(|(option, _)| *option == name) else {
            return Err(format!("unknown option `{name}`"));
        };
        let given: Vec<String> = words.rest();
        if given.len() != *values {
            return Err(format!("`{name}` takes {values} values, not {}", given.len()));
        }
        self.options.push((name.to_owned(), given));
        Ok(())
    }

    fn take_query(&mut self, line: usize, words: &mut Words<'_>) -> Result<(), String> {
        self.check_last_case()?;
        let mut query = Question {
            name: words.next("NAME")?.to_owned(),
            qtype: words.next("TYPE")?.to_owned(),
            edns: None,
            tcp: false,
            class: "IN".to_owned(),
        };
        while let Some(word) = words.0.next() {
            match word {
                "edns" => query.edns = Some(words.number("SIZE")?),
                "tcp" => query.tcp = true,
                "class" => words.next("CLASS")?.clone_into(&mut query.class),
                _ => return Err(format!("unknown word `{word}`")),
            }
        }
        self.cases.push(Case { line, query, expected: Expected::default() });
        Ok(())
    }

    fn take_reply(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let case = self.cases.last_mut().ok_or("no query yet")?;
        if !case.expected.rcode.is_empty() {
            return Err("a second reply to one query".to_owned());
        }
        words.next("RCODE")?.clone_into(&mut case.expected.rcode);
        case.expected.flags = words.rest();
        match case.expected.flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
            None => Ok(()),
            Some(flag) => Err(format!("unknown flag `{flag}`")),
        }
    }

    fn take_record(&mut self, section: Section, words: &mut Words<'_>) -> Result<(), String> {
        let expected = self.expected()?;
        let record = words.rest();
        if record.len() < 5 {
            return Err("a record is NAME TTL CLASS TYPE RDATA".to_owned());
        }
        expected.sections.of_mut(section).push(record.join(" "));
        Ok(())
    }

    fn take_count(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let word = words.next("SECTION")?;
        let section = Section::from_word(word).ok_or_else(|| format!("no section `{word}`"))?;
        let range = words.next("N")?;
        let (min, max) = range.split_once("..").unwrap_or((range, range));
        let number = |text: &str| text.parse().map_err(|_| format!("no count: `{range}`"));
        let count = Count { section, min: number(min)?, max: number(max)? };
        if count.max < count.min {
            return Err(format!("no count: `{range}`"));
        }
        let counts = &mut self.expected()?.counts;
        if counts.iter().any(|other| other.section == section) {
            return Err(format!("a second count of `{section}`"));
        }
        counts.push(count);
        Ok(())
    }

    /// What is expected of the reply that the last line `reply` began.
    fn expected(&mut self) -> Result<&mut Expected, String> {
        match self.cases.last_mut() {
            Some(case) if !case.expected.rcode.is_empty() => Ok(&mut case.expected),
            _ => Err("no reply yet".to_owned()),
        }
    }

    fn check_last_case(&self) -> Result<(), String> {
        match self.cases.last() {
            Some(case) if case.expected.rcode.is_empty() => {
                Err(format!("the query of line {} has no reply", case.line))
            }
            _ => Ok(()),
        }
    }

    /// Reads `[in DC]`.
    fn datacenter(&self, words: &mut Words<'_>) -> Result<String, String> {
        if words.0.next_if_eq(&"in").is_none() {
            return Ok(self.local().to_owned());
        }
        let name = words.next("DC")?;
        if name != self.local() && !self.datacenters.contains(name) {
            return Err(format!("no datacenter `{name}`"));
        }
        Ok(name.to_owned())
    }

    fn node(&self, datacenter: &str, name: &str) -> Result<&NodeDraft, String> {
        self.nodes
            .iter()
            .find(|draft| draft.datacenter == datacenter && draft.node.name == name)
            .ok_or_else(|| format!("no node `{name}` in {datacenter}"))
    }

    fn local(&self) -> &str {
        self.local.as_deref().unwrap_or("dc1")
    }

    fn changes(&self) -> Vec<Change> {
        if self.is_unsynced {
            return Vec::new();
        }
        let mut names = self.datacenters.clone();
        names.insert(self.local().to_owned());
        let mut changes = vec![Change::Datacenters {
            local: self.local().to_owned(),
            names: names.iter().cloned().collect(),
        }];
        for datacenter in names {
            let nodes = self.nodes.iter().filter(|draft| draft.datacenter == datacenter);
            let nodes = nodes.map(|draft| draft.node.clone()).collect();
            let services = self.services_of(&datacenter);
            let listing = services.iter().map(|(name, instances)| {
                let tags: BTreeSet<&String> =
                    instances.iter().flat_map(|instance| &instance.tags).collect();
                (name.clone(), tags.into_iter().cloned().collect())
            });
            let listing = listing.collect();
            changes.push(Change::Services { datacenter: datacenter.clone(), listing });
            changes.push(Change::Nodes { datacenter: datacenter.clone(), nodes });
            changes.extend(services.into_iter().map(|(service, instances)| Change::Service {
                datacenter: datacenter.clone(),
                service,
                instances,
                held: Held::Watched,
                form: Form::Service,
                executed: None,
            }));
        }
        changes
    }

    /// The services of a datacenter, the checks of their nodes counted in.
    fn services_of(&self, datacenter: &str) -> BTreeMap<String, Vec<Instance>> {
        let mut services: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
        for (_, name, instance) in self.services.iter().filter(|(dc, _, _)| dc == datacenter) {
            let mut instance = instance.clone();
            if let Ok(draft) = self.node(datacenter, &instance.node.name) {
                instance.health = instance.health.max(draft.health);
            }
            services.entry(name.clone()).or_default().push(instance);
        }
        services
    }
}

impl<'t> Words<'t> {
    fn next(&mut self, what: &str) -> Result<&'t str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number(&mut self, what: &str) -> Result<u16, String> {
        let word = self.next(what)?;
        word.parse().map_err(|_| format!("{what} is no number: `{word}`"))
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        self.0.next_if_eq(&word).map(drop).ok_or_else(|| format!("`{word}` is missing"))
    }

    fn rest(&mut self) -> Vec<String> {
        self.0.by_ref().map(str::to_owned).collect()
    }

    fn end(&mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        write!(f, "{file}:{line}: {what}")
    }
}

fn health(status: &str) -> Result<Health, String> {
    match Health::from_status(status) {
        Health::Unknown if status != "unknown" => Err(format!("no status: `{status}`")),
        health => Ok(health),
    }
}

/// The lines that a line with ranges stands for; the line alone if it has none.
fn expand(line: &str) -> Result<Vec<String>, String> {
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

/// Options, each with the number of its values.
pub const OPTIONS: [(&str, usize); 6] = [
    ("a_record_limit", 1),
    ("node_ttl", 1),
    ("only_passing", 0),
    ("service_ttl", 2),
    ("soa_min_ttl", 1),
    ("udp_answer_limit", 1),
];

const FLAGS: [&str; 6] = ["aa", "tc", "rd", "ra", "ad", "cd"];
