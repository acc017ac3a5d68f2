//! Every scenario holds, straight through the core and over the sockets.
//!
//! A scenario is run twice: by [`respond`](fingerpost::answer::respond) with many seeds, so that
//! a choice which is wrong one time in fifty is seen, and by the whole program over UDP and TCP,
//! so that nothing between the core and the network changes an answer.

use std::path::Path;
use std::time::Duration;

use fingerpost::answer::chaos::Chaos;
use fingerpost::answer::{AnyAnswer, Policy, Transport};
use fingerpost::app::Origin;
use fingerpost::catalog::Rules;
use fingerpost::config::Config;
use fingerpost::name::Zone;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};

use crate::support::dns::{Tcp, Udp, extended_error, with_edns, zone_text};
use crate::support::expectation::{Reply, Section};
use crate::support::scenario::question::Edns;
use crate::support::scenario::{Case, Question, Scenario};
use crate::support::server::Server;
use crate::support::straight::{self, Core};

#[test]
fn every_scenario_holds_in_the_core() {
    let mut failures = Vec::new();
    for scenario in scenarios() {
        let (rules, policy) = setting(&scenario);
        let mut core = Core::new(rules, policy, scenario.changes.iter().cloned());
        for case in &scenario.cases {
            let query = message(&case.query).to_vec().unwrap();
            let transport = if case.query.tcp { Transport::Tcp } else { Transport::Udp };
            let differences = (0..SEEDS)
                .map(|seed| differences(case, core.ask(&query, transport, seed)))
                .find(|differences| !differences.is_empty());
            failures.extend(differences.map(|lines| report(&scenario, case, "", &lines)));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[tokio::test]
async fn every_scenario_holds_over_the_sockets() {
    let mut failures = Vec::new();
    for scenario in scenarios() {
        let server = Server::start(config(&scenario), Origin::Fixed(scenario.changes.clone()));
        server.ready().await;
        let udp = Udp::connect(server.dns()).await;
        let mut tcp = Tcp::connect(server.dns()).await;
        for case in &scenario.cases {
            let query = message(&case.query).to_vec().unwrap();
            if !case.query.tcp {
                udp.send(&query).await;
                let lines = differences(case, &udp.receive().await);
                failures.extend(complaint(&scenario, case, "over UDP: ", &lines));
            }
            if case.query.tcp || is_whole(case) {
                tcp.send(&query).await;
                let reply = tcp.receive().await.expect("the server closed the connection");
                let lines = differences(case, &reply);
                failures.extend(complaint(&scenario, case, "over TCP: ", &lines));
            }
        }
        server.stop().await;
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Whether a reply over UDP leaves nothing out, so that TCP has to give the same.
fn is_whole(case: &Case) -> bool {
    case.expected.counts.is_empty()
}

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    Scenario::read_all(&folder).unwrap_or_else(|error| panic!("{error}"))
}

/// The options of `scenario`, as the core has them.
fn setting(scenario: &Scenario) -> (Rules, Policy) {
    let (mut rules, mut policy) = (straight::rules(), straight::policy());
    for (option, values) in &scenario.options {
        match (option.as_str(), &values[..]) {
            ("a_record_limit", [n]) => policy.a_record_limit = n.parse().unwrap(),
            ("alt_domain", [name]) => policy.zones.push(Zone::new(name).unwrap()),
            ("any_minimal", []) => policy.any = AnyAnswer::Minimal,
            ("nsid", [identity]) => policy.nsid = Some(identity.as_bytes().into()),
            ("chaos", [identity]) => {
                let version = concat!("fingerpost ", env!("CARGO_PKG_VERSION")).to_owned();
                policy.chaos = Some(Chaos { version, identity: identity.clone() });
            }
            ("max_stale", [secs]) => {
                policy.max_stale_ms = secs.parse::<u64>().unwrap() * 1000;
            }
            ("name_server", [name]) => policy.name_servers.push(Zone::new(name).unwrap()),
            ("reverse_zone", [name]) => policy.reverse_zones.push(Zone::new(name).unwrap()),
            ("translate_wan_addrs", []) => rules.translate_wan_addrs = true,
            ("node_ttl", [secs]) => {
                policy.node_ttl_secs = secs.parse().unwrap();
                rules.node_ttl_secs = policy.node_ttl_secs;
            }
            ("only_passing", []) => rules.only_passing = true,
            ("service_ttl", [service, secs]) => {
                rules.service_ttl_secs.push((service.clone(), secs.parse().unwrap()));
            }
            ("soa_min_ttl", [secs]) => policy.soa.min_ttl_secs = secs.parse().unwrap(),
            ("udp_answer_limit", [n]) => {
                policy.udp_answer_limit = n.parse::<usize>().unwrap().min(8);
            }
            other => panic!("{}: {other:?} has no meaning here", scenario.name),
        }
    }
    (rules, policy)
}

/// The options of `scenario`, as an operator has them.
fn config(scenario: &Scenario) -> Config {
    let mut config = Config::default();
    config.dns.advertise = vec!["127.0.0.1".parse().unwrap()];
    config.dns.chaos = false;
    let answers = &mut config.answers;
    for (option, values) in &scenario.options {
        match (option.as_str(), &values[..]) {
            ("alt_domain", [name]) => config.alt_domain = Some(name.clone()),
            ("any_minimal", []) => config.dns.any = AnyAnswer::Minimal,
            ("nsid", [identity]) => {
                config.dns.nsid = true;
                config.dns.identity = Some(identity.clone());
            }
            ("chaos", [identity]) => {
                config.dns.chaos = true;
                config.dns.identity = Some(identity.clone());
            }
            ("max_stale", [secs]) => {
                answers.max_stale = Duration::from_secs(secs.parse().unwrap());
            }
            ("name_server", [name]) => config.dns.name_servers.push(name.clone()),
            ("reverse_zone", [name]) => config.dns.reverse_zones.push(name.clone()),
            ("translate_wan_addrs", []) => config.translate_wan_addrs = true,
            ("a_record_limit", [n]) => answers.a_record_limit = n.parse().unwrap(),
            ("node_ttl", [secs]) => answers.node_ttl_secs = secs.parse().unwrap(),
            ("only_passing", []) => answers.only_passing = true,
            ("service_ttl", [service, secs]) => {
                answers.service_ttl_secs.push((service.clone(), secs.parse().unwrap()));
            }
            ("soa_min_ttl", [secs]) => answers.soa.min_ttl_secs = secs.parse().unwrap(),
            ("udp_answer_limit", [n]) => answers.udp_answer_limit = n.parse().unwrap(),
            other => panic!("{}: {other:?} has no meaning here", scenario.name),
        }
    }
    config
}

fn message(question: &Question) -> Message {
    let labels = question.name.split('.').map(str::as_bytes);
    let mut query = Query::query(
        Name::from_labels(labels).unwrap(),
        // What hickory cannot read is written as in RFC 3597 §5.
        match question.qtype.strip_prefix("TYPE") {
            Some(number) => RecordType::from(number.parse::<u16>().expect("a number")),
            None => question.qtype.parse().expect("hickory knows the type"),
        },
    );
    query.set_query_class(question.class.parse().expect("hickory knows the class"));
    let mut message = Message::new(ID, MessageType::Query, OpCode::from_u8(question.opcode));
    message.metadata.recursion_desired = true;
    message.add_query(query);
    let Some(Edns { payload, version, dnssec_ok, options, .. }) = &question.edns else {
        return message;
    };
    let mut message = with_edns(message, *payload, *dnssec_ok);
    if let Some(edns) = &mut message.edns {
        edns.set_version(*version);
        for code in options {
            edns.options_mut().insert(EdnsOption::Unknown(*code, b"anything".to_vec()));
        }
    }
    message
}

/// What is wrong with `bytes` as the reply of `case`.
fn differences(case: &Case, bytes: &[u8]) -> Vec<String> {
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(error) => return vec![format!("the reply cannot be read: {error}")],
    };
    let mut differences = case.expected.differences(&written_out(&message));
    if message.metadata.id != ID {
        differences.push(format!("id: {}, not {ID}", message.metadata.id));
    }
    if message.metadata.op_code != OpCode::from_u8(case.query.opcode) {
        differences.push(format!("opcode: {:?}", message.metadata.op_code));
    }
    // Nothing is read of the rest of a message that is no query.
    let is_query = case.query.opcode == 0;
    if is_query && message.edns.is_some() != case.query.edns.is_some() {
        differences.push("there is an OPT if and only if the query has one".to_owned());
    }
    differences
}

fn written_out(message: &Message) -> Reply {
    let text = zone_text(message);
    let mut lines = text.lines();
    let mut head = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let opt = message.edns.as_ref().map(|edns| Edns {
        payload: edns.max_payload(),
        version: edns.version(),
        dnssec_ok: edns.flags().dnssec_ok,
        options: edns.options().options.iter().map(|(code, _)| u16::from(*code)).collect(),
        ede: extended_error(message).and_then(|said| said.split(' ').next()?.parse().ok()),
    });
    let mut reply = Reply { rcode: head.next().unwrap_or_default(), opt, ..Reply::default() };
    reply.flags = head.collect();
    for line in lines {
        let (section, record) = line.split_once(' ').unwrap();
        let section = Section::from_word(section).unwrap();
        reply.sections.of_mut(section).push(record.to_owned());
    }
    reply
}

fn complaint(scenario: &Scenario, case: &Case, way: &str, lines: &[String]) -> Option<String> {
    (!lines.is_empty()).then(|| report(scenario, case, way, lines))
}

fn report(scenario: &Scenario, case: &Case, way: &str, lines: &[String]) -> String {
    let Case { line, query, .. } = case;
    let (name, qtype) = (&query.name, &query.qtype);
    format!("{}.txt:{line}: {way}{name} {qtype}\n    {}", scenario.name, lines.join("\n    "))
}

/// The id of every query: one is under way at a time.
const ID: u16 = 0x1d1d;

/// Seeds per query. A choice of few out of many differs in nearly all of them.
const SEEDS: u64 = 50;
