//! What is asked, and what every reply to it must be.

use std::ops::RangeInclusive;

use crate::generator::Queries;
use crate::peers::Server;
use crate::zone::{MIX, REVERSED, mixed};

/// Queries of one kind.
pub struct Case {
    pub label: &'static str,
    pub names: Names,
    pub qtype: u16,
    pub edns: Edns,
    pub rcode: u8,
    /// How many answers every reply has. How many fit is each server's own affair.
    pub answers: RangeInclusive<u16>,
    /// Who is asked, beside us.
    pub others: &'static [Server],
}

/// Which names are asked for.
#[derive(Clone, Copy)]
pub enum Names {
    /// This one.
    One(&'static str),
    /// Those of the small services, in no order.
    Mix,
    /// Of services that there are not, each but once in a long while.
    Random,
}

/// What a query says of EDNS.
#[derive(Clone, Copy)]
pub enum Edns {
    No,
    /// That this many bytes are welcome.
    Size(u16),
    /// The same and a client's cookie, as dig and BIND send it.
    Cookie(u16),
}

impl Case {
    /// All of its queries, with ids of zero.
    pub fn queries(&self) -> Queries {
        let names: Vec<String> = match self.names {
            Names::One(name) => vec![name.to_owned()],
            Names::Mix => {
                let mut names: Vec<String> = (0..MIX).map(below).collect();
                fastrand::Rng::with_seed(7).shuffle(&mut names);
                names
            }
            Names::Random => {
                let mut random = fastrand::Rng::with_seed(7);
                let mut label = || random.lowercase();
                let mut name = || (0..12).map(|_| label()).collect::<String>();
                (0..RANDOM).map(|_| format!("{}.service.consul", name())).collect()
            }
        };
        let queries: Vec<Vec<u8>> = names.iter().map(|name| self.query(name)).collect();
        Queries::new(&queries)
    }

    fn query(&self, name: &str) -> Vec<u8> {
        let additional = u8::from(!matches!(self.edns, Edns::No));
        let mut query = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, additional];
        for label in name.split('.').chain([""]) {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&self.qtype.to_be_bytes());
        query.extend_from_slice(&1_u16.to_be_bytes());
        if let Edns::Size(payload) | Edns::Cookie(payload) = self.edns {
            query.extend_from_slice(&[0, 0, 41]);
            query.extend_from_slice(&payload.to_be_bytes());
            query.extend_from_slice(&[0; 4]);
        }
        match self.edns {
            Edns::No => (),
            Edns::Size(_) => query.extend_from_slice(&[0; 2]),
            Edns::Cookie(_) => query.extend_from_slice(b"\0\x0c\0\x0a\0\x08cookie.."),
        }
        query
    }

    /// Looks whether `reply` is that of a server, or the query itself, sent back.
    ///
    /// # Panics
    ///
    /// When it is neither.
    pub fn check(&self, reply: &[u8]) {
        let &[_, _, high, low, _, _, answers_high, answers_low, ..] = reply else {
            panic!("{}: a reply of {} bytes", self.label, reply.len());
        };
        let is_echo = high & 0x80 == 0;
        let answers = u16::from_be_bytes([answers_high, answers_low]);
        let is_right = low & 0xf == self.rcode && self.answers.contains(&answers);
        assert!(is_echo || is_right, "{}: rcode {}, {answers} answers", self.label, low & 0xf);
    }
}

fn below(number: usize) -> String {
    format!("{}.service.consul", mixed(number))
}

const fn one(
    label: &'static str,
    name: &'static str,
    qtype: u16,
    edns: Edns,
    answers: RangeInclusive<u16>,
    others: &'static [Server],
) -> Case {
    Case { label, names: Names::One(name), qtype, edns, rcode: 0, answers, others }
}

const fn none(label: &'static str, names: Names, rcode: u8) -> Case {
    Case { label, names, qtype: A, edns: Edns::No, rcode, answers: 0..=0, others: Server::ALL }
}

/// Over UDP. Where replies cannot be whole, servers differ in what they cut; then only Consul, which
/// cuts as we do, is asked.
pub const UDP: &[Case] = &[
    one("A x3", "web3.service.consul", A, Edns::No, 3..=3, Server::ALL),
    one("A x3, EDNS", "web3.service.consul", A, Edns::Size(1232), 3..=3, Server::ALL),
    one("A x3, cookie", "web3.service.consul", A, Edns::Cookie(1232), 3..=3, Server::ALL),
    one("A x50, EDNS", "web50.service.consul", A, Edns::Size(1232), 50..=50, Server::ALL),
    one("A x1500, EDNS", "web1500.service.consul", A, Edns::Size(1232), 3..=75, CONSUL),
    one("SRV x3, EDNS", "web3.service.consul", SRV, Edns::Size(1232), 3..=3, Server::ALL),
    one("SRV x10, EDNS", "web10.service.consul", SRV, Edns::Size(1232), 10..=10, Server::ALL),
    one("SRV x50, EDNS", "web50.service.consul", SRV, Edns::Size(1232), 5..=50, CONSUL),
    Case {
        label: "10,000 names",
        names: Names::Mix,
        qtype: A,
        edns: Edns::No,
        rcode: 0,
        answers: 1..=1,
        others: Server::ALL,
    },
    one("A x3, mixed case", "wEb3.SeRvIcE.cOnSuL", A, Edns::No, 3..=3, NAME_SERVERS),
    one("A x3 of a tag", "v1.web3.service.consul", A, Edns::No, 3..=3, NAME_SERVERS),
    one("A x3, short form", "web3.dc1.consul", A, Edns::No, 3..=3, &[Server::Echo]),
    one("AAAA NODATA", "web3.service.consul", AAAA, Edns::No, 0..=0, NAME_SERVERS),
    one("PTR", REVERSED, PTR, Edns::No, 1..=1, NAME_SERVERS),
    none("NXDOMAIN flood", Names::Random, 3),
    none("REFUSED", Names::One("www.example.com"), 5),
];

/// Rows of what is on by default, of what resolvers do unasked, and of names that are not there: none
/// of it may be a trap.
pub const FEATURES: &[&str] = &[
    "A x3, EDNS",
    "A x3, cookie",
    "A x3, mixed case",
    "A x3 of a tag",
    "A x3, short form",
    "AAAA NODATA",
    "PTR",
    "SRV x3, EDNS",
    "NXDOMAIN flood",
    "REFUSED",
];

/// Over connections.
pub const STREAMS: &[Case] = &[
    one("A x3", "web3.service.consul", A, Edns::No, 3..=3, Server::ALL),
    one("SRV x10, EDNS", "web10.service.consul", SRV, Edns::Size(1232), 10..=10, Server::ALL),
];

const CONSUL: &[Server] = &[Server::Consul, Server::Echo];

/// Those that have the whole zone, reverse names too, and are the nearest to us.
const NAME_SERVERS: &[Server] = &[Server::Consul, Server::Nsd, Server::Knot, Server::Echo];

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// Names of a flood. Each of them is asked for again after as many queries.
const RANDOM: usize = 50_000;
