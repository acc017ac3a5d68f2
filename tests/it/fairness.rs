//! Each instance is answered as often as any other, whatever made the answer a choice.
//!
//! Pearson's test on how often each address was among those answered, and each order of three was
//! the order, over 10,000 seeds. The bounds are the 99.9 % points of chi-square with one degree of
//! freedom less than there are addresses, or orders. To draw without putting back makes the sum
//! smaller than that, never larger. The seeds are fixed, so this holds for ever or never.

use std::collections::BTreeMap;

use fingerpost::answer::{Policy, Random, Transport};
use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};

use crate::support::generate::query;
use crate::support::scenario::Scenario;
use crate::support::straight::{self, Core};

#[test]
fn three_of_ten_addresses_are_drawn_fairly() {
    for qtype in [A, ANY] {
        fairly(&Draw { qtype, ..Draw::of_ten() }, 3);
    }
}

#[test]
fn three_of_ten_srv_records_are_drawn_fairly() {
    fairly(&Draw { qtype: SRV, ..Draw::of_ten() }, 3);
}

#[test]
fn what_has_two_tags_or_a_port_is_drawn_fairly() {
    for name in ["x.y.web.service", "y.web.service", "web.service.http.port", "http.port.web.dc1"] {
        fairly(&Draw { name, ..Draw::of_ten() }, 3);
        fairly(&Draw { name, qtype: SRV, ..Draw::of_ten() }, 3);
    }
}

#[test]
fn a_limit_of_addresses_is_drawn_fairly_on_every_transport() {
    let policy = || Policy { a_record_limit: 4, ..straight::policy() };
    for (transport, edns) in [(Transport::Tcp, None), (Transport::Udp, Some(1232))] {
        fairly(&Draw { policy: policy(), transport, edns, ..Draw::of_ten() }, 4);
    }
    // The limits do not add up: the smaller one holds.
    fairly(&Draw { policy: policy(), ..Draw::of_ten() }, 3);
}

/// 12 bytes of header, 24 of question and 11 of OPT leave room for 74 addresses in 1232.
#[test]
fn what_fits_of_a_hundred_addresses_is_drawn_fairly() {
    fairly(&Draw { edns: Some(1232), ..Draw::of_hundred("10.0.0") }, 74);
}

/// The same for 42 records of 28 bytes.
#[test]
fn what_fits_of_a_hundred_ipv6_addresses_is_drawn_fairly() {
    fairly(&Draw { qtype: AAAA, edns: Some(1232), ..Draw::of_hundred("fd00::") }, 42);
}

/// The fixed part of a record is 12 bytes, SRV's numbers are 6, the target's name is 23: of 41
/// bytes each, 28 fit.
#[test]
fn what_fits_of_a_hundred_srv_records_is_drawn_fairly() {
    fairly(&Draw { qtype: SRV, edns: Some(1232), ..Draw::of_hundred("10.0.0") }, 28);
}

/// A name has one CNAME, so of several hosts one is answered.
#[test]
fn one_of_ten_hosts_is_drawn_fairly() {
    let hosts = "node n-100 10.0.0.100
         service ext on n-100 id e-{100..109} port 1 address host-{100..109}.test passing";
    fairly(&Draw { catalog: hosts.to_owned(), name: "ext.service", ..Draw::of_ten() }, 1);
}

#[test]
fn all_orders_of_three_are_equally_likely() {
    let catalog =
        instances("10.0.0", 3) + "\nservice far on n-100 address web.service.consul passing";
    let cases =
        [(A, "web.service"), (SRV, "web.service"), (ANY, "x.y.web.dc1"), (A, "far.service")];
    for (qtype, name) in cases {
        let draw = Draw { qtype, name, catalog: catalog.clone(), ..Draw::of_ten() };
        let mut times = BTreeMap::new();
        for answers in draw.replies(Transport::Tcp) {
            *times.entry(answers.join(" ")).or_default() += 1;
        }
        assert_eq!(unfair(&times, 6), None, "{name} {qtype}");
    }
}

/// The nearest comes first, whatever cuts the answer.
#[test]
fn a_sorted_query_keeps_its_order() {
    let catalog = "prepared geo on n-{100..199} port 80 passing\nexecuted geo of web sorted";
    let catalog = format!("node n-{{100..199}} 10.0.0.{{100..199}}\n{catalog}");
    for (qtype, edns, count) in
        [(A, None, 3), (A, Some(1232), 74), (SRV, None, 3), (SRV, Some(1232), 28)]
    {
        let draw =
            Draw { qtype, edns, name: "geo.query", catalog: catalog.clone(), ..Draw::of_ten() };
        let replies: Vec<_> = draw.replies(Transport::Udp).take(100).collect();
        let first = &replies[0];
        // The question is two bytes shorter than that of the other tests, which changes no count.
        assert_eq!(first.len(), count, "{qtype} {edns:?}");
        assert!(
            first.is_sorted() && replies.iter().all(|reply| reply == first),
            "{qtype} {edns:?}"
        );
    }
}

/// A picker that takes the last one twice as often, and one that turns the list round to a random
/// start: each instance is as likely as any other then, and half of the orders never come.
#[test]
fn unfair_pickers_are_caught() {
    let mut one_of_ten = BTreeMap::new();
    let mut orders = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut random = Random::new(u64::from(seed));
        *one_of_ten.entry(random.below(11).min(9).to_string()).or_default() += 1;
        let start = random.below(3);
        let turned = [start, (start + 1) % 3, (start + 2) % 3];
        *orders.entry(format!("{turned:?}")).or_default() += 1;
    }
    assert!(unfair(&one_of_ten, 10).is_some());
    assert!(unfair(&orders, 6).is_some());
    assert_eq!(unfair(&orders, 3), None);
}

/// What is asked, of which catalogue.
struct Draw {
    catalog: String,
    policy: Policy,
    name: &'static str,
    qtype: u16,
    transport: Transport,
    edns: Option<u16>,
}

impl Draw {
    /// Ten instances, asked for over UDP without EDNS; and others that no answer may have.
    fn of_ten() -> Self {
        Self {
            catalog: instances("10.0.0", 10),
            policy: straight::policy(),
            name: "web.service",
            qtype: A,
            transport: Transport::Udp,
            edns: None,
        }
    }

    /// A hundred, whose addresses start like this.
    fn of_hundred(prefix: &str) -> Self {
        Self { catalog: instances(prefix, 100), ..Self::of_ten() }
    }

    /// The answers to each seed, in their order, but for those that lead to others.
    fn replies(&self, transport: Transport) -> impl Iterator<Item = Vec<String>> {
        let text = format!("{}\nquery consul A\nreply NOERROR", self.catalog);
        let scenario = Scenario::parse("fairness", &text).unwrap();
        let mut core = Core::new(straight::rules(), self.policy.clone(), scenario.changes);
        let query = query(self.name, self.qtype, self.edns);
        (0..SEEDS).map(move |seed| {
            let reply = Message::from_vec(core.ask(&query, transport, u64::from(seed))).unwrap();
            let answers = reply.answers.iter();
            let is_last =
                |it: &&Record| reply.answers.len() == 1 || it.record_type() != RecordType::CNAME;
            answers.filter(is_last).map(|it| it.data.to_string()).collect()
        })
    }
}

/// Draws `count` records in each reply.
#[track_caller]
fn fairly(draw: &Draw, count: usize) {
    let (mut among, mut first) = (BTreeMap::new(), BTreeMap::new());
    for answers in draw.replies(draw.transport) {
        assert_eq!(answers.len(), count, "{} {}", draw.name, draw.qtype);
        *first.entry(answers[0].clone()).or_default() += 1;
        for answer in answers {
            *among.entry(answer).or_default() += 1;
        }
    }
    let all = if draw.catalog.contains("..199}") { 100 } else { 10 };
    for times in [among, first] {
        assert_eq!(unfair(&times, all), None, "{} {}", draw.name, draw.qtype);
    }
}

/// Instances whose records are all of one length, among some that are critical.
fn instances(prefix: &str, count: usize) -> String {
    let (last, dot) = (99 + count, if prefix.contains(':') { "" } else { "." });
    format!(
        "node n-{{100..{last}}} {prefix}{dot}{{100..{last}}}
         service web on n-{{100..{last}}} port 80 tag x tag y tag z named http 8080 passing
         service web on n-{{100..{last}}} id sick port 81 tag x tag y named http 81 address 10.6.6.6 critical"
    )
}

/// What is wrong with how often each of `count` things came.
fn unfair(times: &BTreeMap<String, u32>, count: usize) -> Option<String> {
    let bound = match count {
        3 => 13.82,
        6 => 20.52,
        10 => 27.88,
        100 => 148.23,
        _ => panic!("look the bound for {count} up"),
    };
    if times.len() != count {
        return Some(format!("{} came, not {count}: {times:?}", times.len()));
    }
    let expected = f64::from(times.values().sum::<u32>()) / count as f64;
    let chi: f64 = times.values().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    (chi >= bound).then(|| format!("chi-square {chi} is over {bound}: {times:?}"))
}

const SEEDS: u32 = 10_000;

const A: u16 = 1;

const AAAA: u16 = 28;

const SRV: u16 = 33;

const ANY: u16 = 255;
