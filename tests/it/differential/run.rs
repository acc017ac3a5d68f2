//! One seed: its world is registered, all questions are asked of both servers, and judged.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress, SoaConfig};
use fingerpost::consul::Client;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::differential::ask::{Carrier, Question, ask_all};
use crate::differential::existing::Existing;
use crate::differential::generate;
use crate::differential::name::Labels;
use crate::differential::names::{ALT_DOMAIN, Form, HOSTS, REVERSE_ZONE, Subject, subjects, zone};
use crate::differential::register::{MARKER, Pair};
use crate::differential::reply::{Line, Reply};
use crate::differential::wire::IDENTITY;
use crate::differential::world::{Instance, Kind, Node, Place, World};
use crate::support::consul::version;
use crate::support::dns::ask;
use crate::support::server::Server;
use crate::support::wait::eventually;
use crate::support::{choose_crypto, consul_binary, skip};

/// All that was asked for one seed.
#[derive(Debug)]
pub struct Run {
    /// What was registered.
    pub world: World,
    /// Which names exist without data.
    pub existing: Existing,
    /// Consul's replies over TCP before it was given limits: the whole of each answer.
    pub book: HashMap<(Labels, RecordType), Reply>,
    /// The serial of our SOA.
    pub serial: u32,
    /// The Unix seconds between which the catalogue was registered and all was asked.
    pub span: (u32, u32),
    /// Every question with both replies.
    pub cases: Vec<Case>,
}

/// A question and both replies.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name.
    pub subject: Subject,
    /// The type.
    pub qtype: RecordType,
    /// The way.
    pub carrier: Carrier,
    /// Consul's reply.
    pub theirs: Reply,
    /// Ours.
    pub ours: Reply,
}

impl Run {
    /// Asks everything about the world of `seed`; `None` where this machine has no Consul 1.8.
    pub async fn of(seed: u64, size: usize, share: f64) -> Option<Self> {
        if version(&consul_binary()?) != JUDGE {
            skip("Consul 1.8, which the rules speak of");
            return None;
        }
        let world = generate::world(seed, size);
        let started = now();
        let consuls = Pair::start(&world).await?;
        let mut rng = Rng::with_seed(seed ^ 0x5eed);
        let asked = choose(&world, &mut rng, share);
        let book = read_book(&consuls, &asked).await;
        consuls.limit(&world.settings).await;
        let server = serve(&consuls, &world).await;

        let questions: Vec<Question> = asked
            .iter()
            .map(|(subject, qtype, carrier)| Question {
                name: subject.name.clone(),
                qtype: *qtype,
                carrier: *carrier,
            })
            .collect();
        let ours = ask_all(server.dns(), &questions).await;
        let theirs = ask_all(consuls.near.dns_address(), &questions).await;
        let apex = Question { name: zone(), qtype: RecordType::SOA, carrier: Carrier::Tcp };
        let serial = serial_of(&ask_all(server.dns(), &[apex]).await[0].answer[0]);
        server.stop().await;

        let replies = theirs.into_iter().zip(ours);
        let cases = asked.into_iter().zip(replies).map(|((subject, qtype, carrier), replies)| {
            let (theirs, ours) = replies;
            Case { subject, qtype, carrier, theirs, ours }
        });
        let existing = Existing::of(&world, &zone());
        let cases = cases.collect();
        Some(Self { world, existing, book, serial, span: (started, now()), cases })
    }

    /// Consul's whole answer for `name`, asked for `qtype`.
    pub fn whole(&self, name: &Labels, qtype: RecordType) -> &Reply {
        let key = (name.clone(), qtype);
        self.book.get(&key).unwrap_or_else(|| panic!("{name} {qtype} was not asked over TCP"))
    }
}

impl Case {
    /// The instances that the name is about, and where each runs.
    pub fn instances<'r>(&'r self, run: &'r Run) -> Vec<(&'r Place, &'r Instance)> {
        let Some((at, name)) = &self.subject.about else { return Vec::new() };
        let form = self.subject.form;
        let is_of = |instance: &Instance| match (form, &instance.kind) {
            (Form::Connect, Kind::Proxy(service)) => service.eq_ignore_ascii_case(name),
            (Form::Connect, Kind::Native) => instance.service.eq_ignore_ascii_case(name),
            (Form::Connect, _) => false,
            (Form::Ingress, kind) => *kind == Kind::IngressGateway,
            _ => instance.service.to_lowercase() == name.to_lowercase(),
        };
        // A query may fail over to the other place.
        let places = run.world.places.iter().enumerate();
        let is_query = matches!(form, Form::Query | Form::QueryMarked);
        let places = places.filter(|(place, _)| place == at || is_query);
        let all = places.flat_map(|(_, place)| place.instances.iter().map(move |one| (place, one)));
        all.filter(|(_, one)| form.is_of_instances() && is_of(one)).collect()
    }
}

impl Case {
    /// The node that the name is, and where it is.
    pub fn node<'r>(&self, run: &'r Run) -> Option<(&'r Place, &'r Node)> {
        let (at, name) = self.subject.about.as_ref().filter(|_| self.subject.form.is_of_node())?;
        let place = run.world.places.get(*at)?;
        Some((place, place.node(name)?))
    }
}

/// The serial in an SOA record.
pub fn serial_of(soa: &Line) -> u32 {
    soa.words()[2].parse().expect("an SOA has a serial")
}

/// A share of all names, each with some types and each type in one way.
fn choose(world: &World, rng: &mut Rng, share: f64) -> Vec<(Subject, RecordType, Carrier)> {
    let mut chosen = Vec::new();
    for subject in subjects(world, rng) {
        // Forms with few names are asked in full.
        let is_rare = !matches!(subject.form, Form::Tagged | Form::Rfc2782 | Form::Short);
        if !is_rare && rng.f64() > share {
            continue;
        }
        let is_zone = matches!(subject.form, Form::Apex | Form::NameServer);
        let mut types = if is_zone { OTHER_TYPES.to_vec() } else { Vec::new() };
        types.extend((0..2).map(|_| USUAL_TYPES[rng.usize(..USUAL_TYPES.len())]));
        types.push(OTHER_TYPES[rng.usize(..OTHER_TYPES.len())]);
        types.sort();
        types.dedup();
        chosen.extend(types.into_iter().map(|qtype| (subject.clone(), qtype, Carrier::any(rng))));
        if subject.form == Form::Chaos {
            let types = [RecordType::TXT, RecordType::A];
            chosen.extend(types.map(|qtype| (subject.clone(), qtype, Carrier::UdpChaos)));
        }
    }
    chosen
}

/// Asks Consul over TCP for all that the rules want to see whole.
async fn read_book(
    consuls: &Pair,
    asked: &[(Subject, RecordType, Carrier)],
) -> HashMap<(Labels, RecordType), Reply> {
    let mut keys = Vec::new();
    for (subject, qtype, _) in asked {
        for name in [Some(&subject.name), subject.same.as_ref()].into_iter().flatten() {
            // Whether a name exists is read from its A reply.
            for qtype in [*qtype, RecordType::A] {
                keys.push((name.clone(), qtype));
            }
        }
    }
    for host in HOSTS {
        keys.extend(OTHER_TYPES.map(|qtype| (Labels::new(host), qtype)));
        keys.extend(USUAL_TYPES.map(|qtype| (Labels::new(host), qtype)));
    }
    keys.sort();
    keys.dedup();
    let questions: Vec<Question> = keys
        .iter()
        .map(|(name, qtype)| Question { name: name.clone(), qtype: *qtype, carrier: Carrier::Tcp })
        .collect();
    let replies = ask_all(consuls.near.dns_address(), &questions).await;
    keys.into_iter().zip(replies).collect()
}

/// Starts a server beside `consuls`, and waits until it has heard of the last registration.
async fn serve(consuls: &Pair, world: &World) -> Server {
    choose_crypto();
    let settings = &world.settings;
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consuls.near.url(""))];
    if settings.watches_all {
        config.consul.connections_max = 1_000;
    }
    config.cache.kept = Duration::from_secs(600);
    // All is asked within seconds, names that only Consul can deny too.
    config.cache.unlisted_per_second = 1_000_000;
    config.cache.patience = Duration::from_secs(5);
    config.alt_domain = Some(ALT_DOMAIN.to_owned());
    config.translate_wan_addrs = settings.translate_wan_addrs;
    config.dns.reverse_zones = vec![REVERSE_ZONE.to_owned()];
    config.cache.sweep_within = Duration::from_secs(1);
    config.dns.identity = Some(IDENTITY.to_owned());
    let answers = &mut config.answers;
    answers.only_passing = settings.only_passing;
    answers.node_ttl_secs = settings.node_ttl;
    let ttl = settings.service_ttl.iter();
    answers.service_ttl_secs = ttl.map(|(name, secs)| ((*name).to_owned(), *secs)).collect();
    answers.a_record_limit = settings.a_record_limit;
    answers.udp_answer_limit = settings.udp_answer_limit;
    answers.soa = SoaConfig {
        refresh_secs: 1800,
        retry_secs: 300,
        expire_secs: 43_200,
        min_ttl_secs: settings.min_ttl,
    };
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;
    for name in [format!("{MARKER}.service.consul"), format!("{MARKER}.service.dc2.consul")] {
        eventually(format!("we answer {name}"), async || {
            let reply = ask(server.dns(), &name, RecordType::A).await;
            reply.metadata.response_code == ResponseCode::NoError
        })
        .await;
    }
    eventually("all services are heard, so that an address can be denied", async || {
        let reply = ask(server.dns(), "1.77.0.10.in-addr.arpa", RecordType::PTR).await;
        reply.metadata.response_code == ResponseCode::NXDomain
    })
    .await;
    server
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

/// The Consul that the rules speak of; others differ in other ways.
const JUDGE: (u32, u32) = (1, 8);

const USUAL_TYPES: [RecordType; 5] =
    [RecordType::A, RecordType::AAAA, RecordType::ANY, RecordType::SRV, RecordType::SRV];

const OTHER_TYPES: [RecordType; 13] = [
    RecordType::A,
    RecordType::ANY,
    RecordType::AXFR,
    RecordType::CAA,
    RecordType::CNAME,
    RecordType::DS,
    RecordType::HTTPS,
    RecordType::IXFR,
    RecordType::MX,
    RecordType::NS,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::TXT,
];
