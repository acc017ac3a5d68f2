//! What one answer costs, from the bytes of a query to the bytes of its reply.
//!
//! **Budget:** 200 ns for A of 3, 400 ns for SRV of 10, on one core, so that the system calls
//! around them (3 us a query) stay what limits the server. NXDOMAIN, REFUSED and FORMERR cost no
//! more than 1.2 hits. A service of 10,000 instances costs what is written, not what it has.
//!
//! One row per shape of input: `respond` from bytes to bytes, and `name`, the reading of the name
//! alone. The catalogue has 1,000 services beside the ones asked for; each query is asked with a
//! new seed, of warm caches. What each row must say is checked before it is measured.
//!
//! Set on 2 cores of an AMD EPYC (Zen 5) under KVM. Run: `cargo bench --bench answer`.

#![allow(clippy::expect_used, unreachable_pub)]

mod support;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use fingerpost::answer::{Asked, Cookies, Draft, Outcome, Policy, Transport, Turn, respond};
use fingerpost::catalog::{Builder, Snapshot, Usage};
use fingerpost::name::{Labels, Lookup};
use fingerpost::wire::{Query, rtype};

/// A query, and what its reply has: rcode, answers, additional records with OPT, TC.
struct Case {
    label: &'static str,
    name: &'static str,
    qtype: u16,
    edns: Option<u16>,
    transport: Transport,
    expected: &'static str,
}

impl Case {
    const fn udp(
        label: &'static str,
        name: &'static str,
        qtype: u16,
        edns: Option<u16>,
        expected: &'static str,
    ) -> Self {
        Self { label, name, qtype, edns, transport: Transport::Udp, expected }
    }

    fn query(&self) -> Vec<u8> {
        let additional = u8::from(self.edns.is_some());
        let mut query = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, additional];
        for label in self.name.split('.') {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        query.extend_from_slice(&self.qtype.to_be_bytes());
        query.extend_from_slice(&1_u16.to_be_bytes());
        if let Some(payload) = self.edns {
            // With a cookie, as dig and BIND send it.
            query.extend_from_slice(&[0, 0, 41]);
            query.extend_from_slice(&payload.to_be_bytes());
            query.extend_from_slice(b"\0\0\0\0\0\x0c\0\x0a\0\x08cookie..");
        }
        query
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (snapshot, policy) = (snapshot(), support::policy());
    let mut group = criterion.benchmark_group("respond");
    group.sample_size(40).measurement_time(Duration::from_secs(2));
    for case in CASES {
        let query = case.query();
        measure(&mut group, case.label, &query, case, &snapshot, &policy);
    }
    // The same query as before, and the cookie in it is answered: a hash.
    let cookies = Some(Cookies::new(&[[7; 16]], 1_700_000_000_000));
    let with_cookies = Policy { cookies, ..policy.clone() };
    measure(&mut group, "a_10_cookie", &COOKIE.query(), &COOKIE, &snapshot, &with_cookies);
    // A name cut off in the middle.
    let cut = CUT.query();
    measure(&mut group, CUT.label, cut.get(..20).unwrap_or_default(), &CUT, &snapshot, &policy);
    group.finish();
    names(&mut criterion, &policy);
    criterion.final_summary();
}

type Group<'c> = criterion::BenchmarkGroup<'c, criterion::measurement::WallTime>;

fn measure(
    group: &mut Group<'_>,
    label: &str,
    query: &[u8],
    case: &Case,
    snapshot: &Snapshot,
    policy: &Policy,
) {
    let mut asked = Asked {
        bytes: query,
        transport: case.transport,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        local: None,
        seed: 0,
        now_ms: 0,
        turn: Turn::First,
        near: None,
        hosts: &[],
    };
    let mut draft = Draft::default();
    let outcome = respond(snapshot, policy, &asked, &mut draft);
    assert!(matches!(outcome, Outcome::Replied(_)), "{label}: {outcome:?}");
    assert_eq!(render(&draft.reply), case.expected, "{label}");
    group.throughput(Throughput::Elements(1));
    group.bench_function(label, |bencher| {
        bencher.iter(|| {
            asked.seed = asked.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            black_box(respond(snapshot, policy, black_box(&asked), &mut draft));
            draft.reply.len()
        });
    });
}

/// Query, labels, lookup: all that is done before the catalogue is looked at.
fn names(criterion: &mut Criterion, policy: &Policy) {
    let mut group = criterion.benchmark_group("name");
    for name in [
        "web3.service.consul",
        "v1.web3.service.dc1.consul",
        "_web3._v1.service.dc1.consul",
        "v1.web3.dc1.consul",
        "node-00007.rack7.node.consul",
        "0a000001.addr.dc1.consul",
        "a.b.c.d.e.f.g.h.i.j.web3.service.consul",
        "www.example.com",
    ] {
        let query = Case::udp("", name, rtype::A, None, "").query();
        group.bench_with_input(BenchmarkId::from_parameter(name), &query, |bencher, query| {
            bencher.iter(|| {
                let query = Query::parse(black_box(query)).ok()?;
                let labels = Labels::from_wire(query.name)?;
                let count = labels.below(policy.zones.first()?)?;
                black_box(Lookup::parse(&labels, count).ok())?;
                Some(count)
            });
        });
    }
    group.finish();
}

fn snapshot() -> Snapshot {
    let mut builder = Builder::new(support::rules(), 1, 1_000, Arc::new(Usage::new(1, false)));
    let sizes = [1, 3, 10, 50, 10_000].map(|size| (format!("web{size}"), size));
    let others = (0..1_000).map(|number| (support::service_name(number), 10));
    let services: Vec<(String, usize)> = sizes.into_iter().chain(others).collect();
    builder.apply(support::datacenters());
    builder.apply(support::nodes(support::NODES));
    builder.apply(support::listing(services.iter().map(|(name, _)| name.clone())));
    for (at, (name, size)) in services.into_iter().enumerate() {
        builder.apply(support::service(&name, support::instances(&name, at * 10, size)));
    }
    builder.snapshot()
}

/// Rcode, answers, additional records, TC.
fn render(reply: &[u8]) -> String {
    let u16_at = |at: usize| match reply.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    let flags = u16_at(2);
    let truncated = if flags & 0x0200 == 0 { "" } else { " tc" };
    format!("{} {}+{}{truncated}", flags & 0xf, u16_at(6), u16_at(10))
}

const CASES: &[Case] = &[
    Case::udp("a_1", "web1.service.consul", rtype::A, None, "0 1+0"),
    Case::udp("a_3", "web3.service.consul", rtype::A, None, "0 3+0"),
    Case::udp("a_3_tag_dc", "http.web3.service.dc1.consul", rtype::A, None, "0 3+0"),
    Case::udp("a_3_short_form", "web3.dc1.consul", rtype::A, None, "0 3+0"),
    Case::udp("a_10_edns", "web10.service.consul", rtype::A, Some(1232), "0 10+1"),
    Case::udp("a_50_edns", "web50.service.consul", rtype::A, Some(1232), "0 50+1"),
    Case::udp("a_10000_no_edns", "web10000.service.consul", rtype::A, None, "0 3+0"),
    Case::udp("a_10000_edns", "web10000.service.consul", rtype::A, Some(1232), "0 73+1 tc"),
    Case::udp("srv_3", "web3.service.consul", rtype::SRV, None, "0 3+3"),
    Case::udp("srv_10_edns", "web10.service.consul", rtype::SRV, Some(1232), "0 10+11"),
    Case {
        label: "srv_50_tcp",
        name: "web50.service.consul",
        qtype: rtype::SRV,
        edns: Some(1232),
        transport: Transport::Tcp,
        expected: "0 50+51",
    },
    Case::udp("srv_10000_edns", "web10000.service.consul", rtype::SRV, Some(1232), "0 22+2 tc"),
    Case::udp("any_10_edns", "web10.service.consul", rtype::ANY, Some(1232), "0 10+1"),
    Case::udp("nodata", "web3.service.consul", rtype::AAAA, None, "0 0+0"),
    Case::udp("nxdomain", "nothing-here.service.consul", rtype::A, None, "3 0+0"),
    Case::udp("nxdomain_edns", "nothing-here.service.consul", rtype::A, Some(1232), "3 0+1"),
    Case::udp("refused", "www.example.com", rtype::A, None, "5 0+0"),
    Case::udp("refused_edns", "www.example.com", rtype::A, Some(1232), "5 0+1"),
    Case::udp("node_a", "node-00007.rack7.node.consul", rtype::A, None, "0 1+0"),
    Case::udp("addr_a", "0a000001.addr.dc1.consul", rtype::A, None, "0 1+0"),
    Case::udp("soa", "consul", rtype::SOA, None, "0 1+0"),
];

const COOKIE: Case = Case::udp("", "web10.service.consul", rtype::A, Some(1232), "0 10+1");

const CUT: Case = Case::udp("formerr", "web3.service.consul", rtype::A, None, "1 0+0");
