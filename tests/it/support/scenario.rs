//! Reads `tests/scenarios/*.txt`: a catalogue, options, and queries with their replies.
//!
//! ```text
//! ; comment
//! local NAME                          the local datacenter, dc1 if not given
//! datacenter NAME                     one more datacenter
//! node NAME ADDRESS [in DC] [TAGGED]… [meta KEY VALUE]…
//! service NAME on NODE [in DC] [id ID] [port N] [address A] [tag T]… [weights P W]
//!         [TAGGED]… [wan_port N] [named NAME PORT]… STATUS
//! connect | ingress | peer | prepared NAME on NODE …     as a service, of that form
//! nothing FORM NAME                   Consul was asked, and has none
//! executed NAME [in DC] of SERVICE [ttl N] [sorted]      what a prepared query says besides
//! queries [NAME | PREFIX*]…           all prepared queries there are; not known if not given
//! check on NODE [in DC] STATUS        of the node itself
//! option NAME [VALUE]…                one of [`OPTIONS`]
//! unsynced                            the source has not said anything yet
//! whole                               the source has said everything, of all forms
//! away [in DC] SECS                   for so long nothing was heard of a datacenter and its services
//! silent [in DC] SECS                 for so long its lists alone were not heard
//! loaded [in DC] SECS                 what there is was read from a snapshot file of that age
//! query NAME TYPE [edns OPT] [tcp] [class C] [opcode N]
//! reply RCODE [FLAG]…                 of the query above; queries have `rd` set
//! opt OPT                             of the reply; not looked at if not given
//! answer | authority | additional NAME TTL CLASS TYPE RDATA…
//! count SECTION N | MIN..MAX          the lines of the section are a choice, see `expectation`
//! ```
//!
//! OPT is `SIZE [version N] [do] [option CODE]… [ede CODE]`, the last an option too (RFC 8914). TAGGED is one of `lan_ipv4`, `lan_ipv6`, `wan`, `wan_ipv4`, `wan_ipv6`, `mesh`, and an address.
//! A line with `{1..60}` stands for 60 lines; all such ranges of a line run in step. This module
//! knows nothing of how a reply comes about.

pub mod question;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use fingerpost::catalog::Form;
use fingerpost::catalog::change::{Change, Executed, Held};
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};
use fingerpost::catalog::queries::{Queries, QueryEntry};

use crate::support::expectation::{Count, Expected, Section};
use crate::support::scenario::question::Edns;
use crate::support::scenario::words::{OPTIONS, Words, expand, health};

pub use crate::support::scenario::question::Question;

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
    /// Of the local datacenter where nothing else is said; with their forms and names.
    services: Vec<(String, (Form, String), Instance)>,
    /// Names of which Consul has nothing.
    nothing: Vec<(Form, String)>,
    executed: BTreeMap<String, Executed>,
    queries: Option<Queries>,
    options: Vec<(String, Vec<String>)>,
    is_unsynced: bool,
    is_whole: bool,
    /// How old what is there of a datacenter is.
    ages: Vec<Change>,
    cases: Vec<Case>,
}

struct NodeDraft {
    datacenter: String,
    node: Node,
    health: Health,
}

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
            "connect" => self.take_service(Form::Connect, &mut words)?,
            "ingress" => self.take_service(Form::Ingress, &mut words)?,
            "peer" => self.take_service(Form::Peer, &mut words)?,
            "prepared" => self.take_service(Form::Query, &mut words)?,
            "service" => self.take_service(Form::Service, &mut words)?,
            "nothing" => self.take_nothing(&mut words)?,
            "executed" => self.take_executed(&mut words)?,
            "queries" => self.take_queries(&mut words),
            "check" => self.take_check(&mut words)?,
            "option" => self.take_option(&mut words)?,
            "unsynced" => self.is_unsynced = true,
            "whole" => self.is_whole = true,
            "away" | "silent" => {
                let (datacenter, since_ms) = self.take_age(&mut words)?;
                let services = self.services_of(&datacenter);
                for (form, service) in services.into_keys().filter(|_| word == "away") {
                    let (datacenter, held) = (datacenter.clone(), Held::Failing { since_ms });
                    self.ages.push(Change::Hold { datacenter, form, service, held });
                }
                let cut_off_ms = Some(since_ms);
                self.ages.push(Change::Reach { datacenter, cut_off_ms });
            }
            "loaded" => {
                let (datacenter, since_ms) = self.take_age(&mut words)?;
                self.ages.push(Change::Loaded { datacenter, since_ms });
            }
            "query" => self.take_query(number, &mut words)?,
            "reply" => self.take_reply(&mut words)?,
            "opt" => self.expected()?.opt = Some(Edns::read(&mut words)?),
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
        let mut node = Node { tagged: words.tagged()?, ..Node::new(name, address) };
        while words.0.next_if_eq(&"meta").is_some() {
            node.meta.push((words.next("KEY")?.to_owned(), words.next("VALUE")?.to_owned()));
        }
        self.nodes.push(NodeDraft { datacenter, node, health: Health::Passing });
        Ok(())
    }

    fn take_service(&mut self, form: Form, words: &mut Words<'_>) -> Result<(), String> {
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
            worst: None,
        };
        loop {
            if let Some(tagged) = words.tagged()? {
                instance.tagged = Some(tagged);
            }
            instance.ports.extend(words.ports()?);
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
        let is_same = |(dc, (other_form, _), other): &(String, (Form, String), Instance)| {
            let is_same_id = other.node == instance.node && other.id == instance.id;
            *dc == datacenter && *other_form == form && is_same_id
        };
        if self.services.iter().any(is_same) {
            return Err(format!("ID `{}` is on the node already", instance.id));
        }
        self.services.push((datacenter, (form, name), instance));
        Ok(())
    }

    fn take_nothing(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let word = words.next("FORM")?;
        let form = Form::UNLISTED.into_iter().find(|form| form.as_str() == word);
        let form = form.ok_or_else(|| format!("no form `{word}`"))?;
        self.nothing.push((form, words.next("NAME")?.to_owned()));
        Ok(())
    }

    fn take_executed(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let name = words.next("NAME")?.to_owned();
        let datacenter = self.datacenter(words)?;
        words.expect("of")?;
        let service = words.next("SERVICE")?.to_owned();
        let ttl_secs = match words.0.next_if_eq(&"ttl") {
            Some(_) => Some(u32::from(words.number("TTL")?)),
            None => None,
        };
        let is_sorted = words.0.next_if_eq(&"sorted").is_some();
        self.executed.insert(name, Executed { datacenter, service, ttl_secs, is_sorted });
        Ok(())
    }

    fn take_queries(&mut self, words: &mut Words<'_>) {
        let entries = words.rest().into_iter().map(|name| QueryEntry {
            is_template: name.ends_with('*'),
            id: format!("id-of-{}", name.trim_end_matches('*')),
            name: name.trim_end_matches('*').to_owned(),
            near: String::new(),
            modified: 1,
        });
        self.queries = Some(Queries::new(entries.collect()));
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

    /// Reads `[in DC] SECS`, so long before the program's start.
    fn take_age(&self, words: &mut Words<'_>) -> Result<(String, i64), String> {
        let datacenter = self.datacenter(words)?;
        Ok((datacenter, -1000 * i64::from(words.number("SECS")?)))
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
        let query = Question::read(words)?;
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
            let all = self.services_of(&datacenter);
            let services = all.iter().filter(|((form, _), _)| *form == Form::Service);
            let listing = services.map(|((_, name), instances)| {
                let tags: BTreeSet<&String> =
                    instances.iter().flat_map(|instance| &instance.tags).collect();
                (name.clone(), tags.into_iter().cloned().collect())
            });
            let listing = listing.collect();
            changes.push(Change::Services { datacenter: datacenter.clone(), listing });
            changes.push(Change::Nodes { datacenter: datacenter.clone(), nodes });
            let nothing = self.nothing.iter().filter(|_| datacenter == self.local());
            let nothing = nothing.map(|key| (key.clone(), Vec::new()));
            changes.extend(all.into_iter().chain(nothing).map(|((form, service), instances)| {
                let executed = self.executed.get(&service).cloned();
                let executed = executed.filter(|_| form == Form::Query);
                let datacenter = datacenter.clone();
                let held = Held::Watched;
                Change::Service { datacenter, form, service, instances, held, executed }
            }));
            let queries = self.queries.clone().filter(|_| datacenter == self.local());
            changes.extend(queries.map(|queries| Change::Queries {
                datacenter: datacenter.clone(),
                queries: Some(queries),
            }));
            changes.extend(self.is_whole.then_some(Change::Whole { datacenter }));
        }
        changes.extend(self.ages.iter().cloned());
        changes
    }

    /// The services of a datacenter, the checks of their nodes counted in.
    fn services_of(&self, datacenter: &str) -> BTreeMap<(Form, String), Vec<Instance>> {
        let mut services: BTreeMap<(Form, String), Vec<Instance>> = BTreeMap::new();
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

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        write!(f, "{file}:{line}: {what}")
    }
}

const FLAGS: [&str; 6] = ["aa", "tc", "rd", "ra", "ad", "cd"];
