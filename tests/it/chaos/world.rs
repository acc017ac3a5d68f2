//! What is registered in every Consul, and what is asked about it.

use hickory_proto::rr::RecordType;

use crate::chaos::stream::Kind::{Absent, Kept, OnDemand};
use crate::chaos::stream::Question;
use crate::chaos::voice::Voice;

/// The service one of whose instances wavers between passing and critical.
pub const WAVERING: &str = "flap";

/// The node of that instance.
pub const WAVERING_NODE: u8 = 9;

/// Each service, and the nodes that have it. The last two are beyond the watches.
const SERVICES: [(&str, &[u8]); 6] = [
    ("app", &[1, 2]),
    // Enough for a loss of everything to be one that is doubted.
    ("bulk", &[11, 12, 13, 14, 15, 16, 17, 18]),
    ("db", &[1, 3]),
    (WAVERING, &[1, WAVERING_NODE]),
    ("zeta", &[2]),
    ("zulu", &[3]),
];

/// Registers everything; whether Consul took it.
pub async fn fill(voice: &Voice) -> bool {
    for (service, nodes) in SERVICES {
        for node in nodes {
            if !voice.register(service, *node).await {
                return false;
            }
        }
    }
    true
}

/// What is asked about it in the datacenter of Consul's own.
pub fn questions() -> Vec<Question> {
    [
        (Kept, "app.service.consul", RecordType::A),
        (Kept, "_app._tcp.service.consul", RecordType::SRV),
        (Kept, "v1.db.service.consul", RecordType::A),
        (Kept, "db.dc1.consul", RecordType::A),
        (Kept, "flap.service.consul", RecordType::A),
        (Kept, "n2.node.consul", RecordType::A),
        (Kept, "n3.node.dc1.consul", RecordType::A),
        (OnDemand, "zeta.service.consul", RecordType::A),
        (OnDemand, "zulu.service.consul", RecordType::SRV),
        (Absent, "nope.service.consul", RecordType::A),
        (Absent, "nope.node.consul", RecordType::A),
    ]
    .map(|(kind, name, qtype)| Question::new(kind, name, qtype))
    .to_vec()
}

/// What is asked about it in the other datacenter.
pub fn far_questions() -> Vec<Question> {
    [
        (Kept, "app.service.dc2.consul", RecordType::A),
        (Kept, "_app._tcp.dc2.consul", RecordType::SRV),
        (Kept, "v1.db.dc2.consul", RecordType::A),
        (Kept, "n2.node.dc2.consul", RecordType::A),
        (Absent, "nope.service.dc2.consul", RecordType::A),
    ]
    .map(|(kind, name, qtype)| Question::new(kind, name, qtype))
    .to_vec()
}

/// The variables that leave room for the watches of `services` services, and for few fetches.
pub fn room_for(services: usize) -> Vec<(String, String)> {
    // The lists of services, of nodes and of prepared queries are watched too.
    let (spare, lists) = (4, 3);
    let most = services + lists + spare;
    [("MAX", most), ("SPARE", spare)]
        .map(|(name, count)| (format!("FINGERPOST_CONSUL_CONNECTIONS_{name}"), count.to_string()))
        .to_vec()
}
