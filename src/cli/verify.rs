//! `fingerpost verify`: is what a running server answers what Consul has?
//!
//! ```text
//!   Consul --> lists, instances --> the core --> what is to be said  ┐
//!                                    the server --> what it says  ---┴-> a line for each difference
//! ```
//! Consul is read first, then the server is asked, over TCP. Whatever differs is read and asked
//! again until it is the same, for as long as a service that is fetched on demand may be old: a
//! change in between is no difference. Nothing here is of use to a server; it asks as any client.

pub mod expected;
pub mod held;
pub mod question;
pub mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{self, Instant};

use crate::catalog::{Change, Form, Found, Held};
use crate::cli::reachable;
use crate::cli::verify::expected::Expected;
use crate::cli::verify::question::Question;
use crate::cli::verify::server::Server;
use crate::config::{Config, Flags, Sources};
use crate::consul::Client;
use crate::consul::api;
use crate::consul::client::{Ask, Place};
use crate::consul::view::is_askable;
use crate::wire::rtype;

/// What is verified against what.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The configuration of the server.
    pub config: Option<PathBuf>,
    /// Consul's addresses, instead of the configured ones.
    pub consul: Vec<String>,
    /// Where the server answers DNS; `None` is the first of `dns.listen`.
    pub server: Option<SocketAddr>,
    /// Where its admin port is; `None` is `admin.listen`, unless `server` is given.
    pub admin: Option<SocketAddr>,
    /// The datacenters; none is the server's own.
    pub datacenters: Vec<String>,
}

/// Says what differs on `out`, and what went wrong on `err`; returns the exit status.
///
/// 0 where nothing differs, 1 where something does, 2 where that could not be found out, and 78
/// with a line for each mistake of the configuration.
pub fn run(
    terms: &Terms,
    env: Vec<(String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let config = match load(terms, env) {
        Ok(config) => config,
        Err(mistakes) => {
            writeln!(err, "{mistakes}").ok();
            return EX_CONFIG;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let verified = runtime
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(verify(&config, terms, out, err)));
    match verified {
        Ok(0) => 0,
        Ok(_) => DIFFERS,
        Err(error) => {
            writeln!(err, "{error:#}").ok();
            UNKNOWN
        }
    }
}

fn load(terms: &Terms, env: Vec<(String, String)>) -> Result<Config, String> {
    let flags = Flags { consul: terms.consul.clone(), ..Flags::default() };
    let mut sources = Sources { file: None, env, flags };
    if let Some(path) = &terms.config {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        sources.file = Some((path.clone(), text));
    }
    Config::load(sources).map(|loaded| loaded.config).map_err(|errors| errors.to_string())
}

/// How many differences there are in all.
async fn verify(
    config: &Config,
    terms: &Terms,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<usize> {
    if config.catalog_file.is_some() {
        anyhow::bail!("the configuration names a catalogue file; only a Consul can be compared");
    }
    let address = match terms.server {
        Some(address) => address,
        None => listener(config)?,
    };
    let client = Client::new(&config.consul).context("cannot ask Consul as configured")?;
    let names = read(&client, &api::datacenters()).await?;
    let local = local(config, &client).await?;
    let datacenters = match &*terms.datacenters {
        [] => vec![local.clone()],
        named => named.iter().map(|name| name.to_ascii_lowercase()).collect(),
    };
    let unknown = datacenters.iter().find(|name| **name != local && !names.contains(name));
    if let Some(unknown) = unknown {
        anyhow::bail!("Consul knows no datacenter {unknown}");
    }
    let expected = Expected::new(config, &local, names)?;
    let own = || terms.server.is_none().then(|| reachable(config.admin.listen));
    let admin = terms.admin.or_else(own);
    let mut visit = Visit { config, client, expected, server: Server::new(address), admin };
    visit.greet().await?;
    if visit.admin.is_none() {
        writeln!(err, "what Consul has no more is not looked for: say with --admin where to ask")?;
    }
    let mut differences = 0;
    for datacenter in &datacenters {
        differences += visit.datacenter(datacenter, out, err).await?;
    }
    Ok(differences)
}

/// The listener that is asked.
fn listener(config: &Config) -> anyhow::Result<SocketAddr> {
    let listen = *config.dns.listen.first().context("dns.listen is empty")?;
    if listen.port() == 0 {
        anyhow::bail!("dns.listen has port 0: say with --server where the server answers");
    }
    Ok(reachable(listen))
}

/// The datacenter that the server takes for its own.
async fn local(config: &Config, client: &Client) -> anyhow::Result<String> {
    if let Some(configured) = &config.consul.datacenter {
        return Ok(configured.clone());
    }
    let agent = api::fetch_self(client).await.with_context(|| whom(client))?;
    let told = match agent.datacenter {
        Some(datacenter) => Some(datacenter),
        None => read(client, &api::nodes(None)).await?.datacenter,
    };
    let told = told.map(|name| name.to_ascii_lowercase());
    told.context("Consul does not say which datacenter it is in; set consul.datacenter")
}

fn whom(client: &Client) -> String {
    format!("cannot ask Consul at {}", client.labels())
}

async fn read<T: Send + 'static>(client: &Client, ask: &Ask<T>) -> anyhow::Result<T> {
    let reply = client.read(ask, None, Place::Spare).await;
    reply.map(|reply| reply.value).with_context(|| whom(client))
}

/// What is compared, by what is read from Consul for it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Subject {
    Node(String),
    Service(String),
}

/// What differs, by the question whose answers do.
type Differences = BTreeMap<Question, (Subject, String)>;

/// The server and Consul, while they are compared.
struct Visit<'c> {
    config: &'c Config,
    client: Client,
    expected: Expected,
    server: Server,
    admin: Option<SocketAddr>,
}

impl Visit<'_> {
    /// Fails where the server is none of ours.
    async fn greet(&mut self) -> anyhow::Result<()> {
        let domain = &self.config.domain;
        let zone = Question::new(domain.split('.'), rtype::SOA).context("a domain too long")?;
        let said = self.server.ask(&zone).await?;
        if !said.failure.is_empty() || said.records.is_empty() {
            anyhow::bail!("the server does not answer for {domain}");
        }
        Ok(())
    }

    /// Compares all of a datacenter; how many differences there are.
    async fn datacenter(
        &mut self,
        datacenter: &str,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<usize> {
        let listed = self.read_lists(datacenter).await?;
        for subject in &listed {
            self.read_instances(datacenter, subject).await?;
        }
        let held = match self.admin {
            Some(admin) => held::subjects(admin, datacenter).await,
            None => Ok(BTreeSet::new()),
        };
        let held = held.unwrap_or_else(|error| {
            writeln!(err, "{error:#}; names that Consul lacks are not looked for").ok();
            BTreeSet::new()
        });
        let mut differences = Differences::new();
        for subject in listed.union(&held) {
            differences.extend(self.compare(datacenter, subject, &BTreeSet::new()).await?);
        }

        let patience = self.config.cache.kept + PAUSE;
        if !differences.is_empty() {
            let (count, secs) = (differences.len(), patience.as_secs());
            writeln!(err, "{count} answers differ; looking again for up to {secs} s").ok();
        }
        let until = Instant::now() + patience;
        while !differences.is_empty() && Instant::now() < until {
            time::sleep(PAUSE).await;
            differences = self.look_again(datacenter, &differences).await?;
        }

        for (question, (_, text)) in &differences {
            writeln!(out, "{question}: {text}").ok();
        }
        let count =
            |is_counted: fn(&Subject) -> bool| listed.iter().filter(|it| is_counted(it)).count();
        let services = count(|subject| matches!(subject, Subject::Service(_)));
        let nodes = count(|subject| matches!(subject, Subject::Node(_)));
        let verdict = match differences.len() {
            0 => "no differences".to_owned(),
            1 => "1 difference".to_owned(),
            count => format!("{count} differences"),
        };
        let (services, nodes) = (several(services, "service"), several(nodes, "node"));
        writeln!(out, "verified {services} and {nodes} of {datacenter}: {verdict}").ok();
        Ok(differences.len())
    }

    /// What is left of `differences`, and of what else is asked about their subjects.
    async fn look_again(
        &mut self,
        datacenter: &str,
        differences: &Differences,
    ) -> anyhow::Result<Differences> {
        let mut subjects = BTreeMap::<&Subject, BTreeSet<Question>>::new();
        for (question, (subject, _)) in differences {
            subjects.entry(subject).or_default().insert(question.clone());
        }
        self.read_lists(datacenter).await?;
        for subject in subjects.keys() {
            self.read_instances(datacenter, subject).await?;
        }
        let mut left = Differences::new();
        for (subject, questions) in subjects {
            left.extend(self.compare(datacenter, subject, &questions).await?);
        }
        Ok(left)
    }

    async fn read_lists(&mut self, datacenter: &str) -> anyhow::Result<BTreeSet<Subject>> {
        let listing = read(&self.client, &api::services(Some(datacenter))).await?;
        let nodes = read(&self.client, &api::nodes(Some(datacenter))).await?.nodes;
        // Any other name is in no question.
        let askable = listing.iter().filter(|(name, _)| is_askable(Form::Service, name));
        let services = askable.map(|(name, _)| Subject::Service(name.clone()));
        let named = nodes.iter().map(|node| Subject::Node(node.name.clone()));
        let subjects = services.chain(named).collect();
        let datacenter = datacenter.to_owned();
        self.expected.apply(Change::Services { datacenter: datacenter.clone(), listing });
        self.expected.apply(Change::Nodes { datacenter, nodes });
        Ok(subjects)
    }

    async fn read_instances(&mut self, datacenter: &str, subject: &Subject) -> anyhow::Result<()> {
        let Subject::Service(name) = subject else { return Ok(()) };
        let ask = api::health(Some(datacenter), Form::Service, name);
        let instances = read(&self.client, &ask).await?;
        let (datacenter, service) = (datacenter.to_owned(), name.clone());
        let (form, held, executed) = (Form::Service, Held::Watched, None);
        // A tag that is listed and that no instance has is one of instances that cannot be seen.
        let settled = Change::Settle { datacenter: datacenter.clone(), service: service.clone() };
        let told = Change::Service { datacenter, form, service, instances, held, executed };
        self.expected.apply(told);
        self.expected.apply(settled);
        Ok(())
    }

    /// Asks all about `subject`, and what differed of it before.
    async fn compare(
        &mut self,
        datacenter: &str,
        subject: &Subject,
        before: &BTreeSet<Question>,
    ) -> anyhow::Result<Differences> {
        let mut questions = self.questions(datacenter, subject);
        questions.extend(before.iter().cloned());
        let mut differences = Differences::new();
        for question in questions {
            let Some((said, share)) = self.expected.said(&question) else { continue };
            let answered = self.server.ask(&question).await?;
            if let Some(text) = said.difference(&answered, share) {
                differences.insert(question, (subject.clone(), text));
            }
        }
        Ok(differences)
    }

    /// Each name of `subject`, by each type. None where it is no name of DNS.
    fn questions(&self, datacenter: &str, subject: &Subject) -> BTreeSet<Question> {
        let (kind, name) = match subject {
            Subject::Node(name) => ("node", name),
            Subject::Service(name) => ("service", name),
        };
        let tails = [name, kind, datacenter, &self.config.domain];
        let tails: Vec<_> = tails.iter().flat_map(|part| part.split('.')).collect();
        let mut heads = self.tags(datacenter, subject);
        // The name itself, whatever its tag.
        heads.insert(String::new());
        let names = heads.iter().map(|tag| {
            let tag = tag.split('.').filter(|_| !tag.is_empty());
            tag.chain(tails.iter().copied()).collect::<Vec<_>>()
        });
        let all = names.flat_map(|labels| {
            QTYPES.iter().filter_map(move |qtype| Question::new(labels.iter().copied(), *qtype))
        });
        all.collect()
    }

    fn tags(&self, datacenter: &str, subject: &Subject) -> BTreeSet<String> {
        let Subject::Service(name) = subject else { return BTreeSet::new() };
        let snapshot = self.expected.snapshot();
        let Found::Here(found) = snapshot.datacenter(Some(datacenter.as_bytes())) else {
            return BTreeSet::new();
        };
        let Found::Here(service) = found.service(name.to_ascii_lowercase().as_bytes()) else {
            return BTreeSet::new();
        };
        let used = service.instances.iter().flat_map(|instance| &instance.tags);
        let used = used.map(|tag| tag.to_ascii_lowercase());
        let tags = used.chain(service.listed_tags().map(str::to_owned));
        tags.filter(|tag| !tag.is_empty()).collect()
    }
}

fn several(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What services and nodes are asked for.
const QTYPES: [u16; 3] = [rtype::A, rtype::AAAA, rtype::SRV];

/// Between two looks. A change takes milliseconds, but the machine may be busy.
const PAUSE: Duration = Duration::from_secs(2);

const DIFFERS: u8 = 1;

const UNKNOWN: u8 = 2;

/// `EX_CONFIG` of `sysexits.h`: the configuration is wrong.
const EX_CONFIG: u8 = 78;
