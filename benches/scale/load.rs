//! What is asked over UDP, and what is right: the services of a catalog, three addresses each.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::{Catalog, name};
use crate::generator::{self, Asked, Pace, Queries, Run, Saturation, trickle};
use crate::processes::cpu;
use crate::question::{addresses, ask, asking, question};

/// Asks `server` so that it always has more to do.
pub fn saturate(server: SocketAddr, pid: u32, catalog: Catalog) -> Run {
    let services = (0..SERVICES).map(|service| question(&name(service % catalog.services)));
    let queries = Queries::new(&services.collect::<Vec<Vec<u8>>>());
    generator::saturate(Asked { server, pid, queries: &queries, check: &check_count }, SATURATION)
}

/// Asks `server` once a millisecond. Gives how much of its core it had for that, too: next to
/// nothing, but for what else it does.
pub fn pace(server: SocketAddr, pid: u32, catalog: Catalog) -> (Pace, f64) {
    let service = |id: u16| usize::from(id) % catalog.services;
    let (since, before) = (Instant::now(), cpu(pid));
    let pace = trickle(
        server,
        SATURATION.round,
        |id| question(&name(service(id))),
        |id, reply| {
            check_addresses(reply, service(id), catalog);
            true
        },
    );
    let cpu = (cpu(pid) - before).as_secs_f64();
    (pace, cpu / since.elapsed().as_secs_f64())
}

/// Asks for a hundred services, from the first to the last.
pub fn check(server: SocketAddr, catalog: Catalog) {
    let socket = asking(server);
    for id in 0..100 {
        let service = usize::from(id) * (catalog.services - 1) / 99;
        let (mut query, mut reply) = (question(&name(service)), [0; 512]);
        let reply = ask(&socket, &mut query, id, &mut reply).expect("an answer");
        check_addresses(reply, service, catalog);
    }
}

/// A reply must have three addresses of the service.
fn check_addresses(reply: &[u8], service: usize, catalog: Catalog) {
    let (heard, all) = (addresses(reply), catalog.addresses_of(service));
    let is_right = heard.len() == SHOWN && heard.iter().all(|one| all.contains(one));
    assert!(is_right, "{heard:?} of {all:?}");
}

/// The same, as far as the header tells.
fn check_count(reply: &[u8]) {
    let is_right = reply[3] & 0xf == 0 && usize::from(reply[7]) == SHOWN;
    assert!(is_right, "rcode {}, {} answers", reply[3] & 0xf, reply[7]);
}

/// Addresses of an answer without EDNS.
const SHOWN: usize = 3;

/// Services that a saturating round asks for.
const SERVICES: usize = 128;

const SATURATION: Saturation = Saturation {
    ports: 8,
    window: 64,
    warm_up: Duration::from_millis(100),
    round: Duration::from_millis(1_000),
    lost: Duration::from_millis(100),
};
