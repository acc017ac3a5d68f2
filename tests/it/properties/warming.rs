//! What a snapshot file had is answered as before, and leaves no trace once Consul was heard.

use std::collections::BTreeSet;

use fingerpost::answer::Transport;
use fingerpost::catalog::{Change, Snapshot};
use fingerpost::warm::contents::{Contents, Loading};
use fingerpost::warm::seal;
use hickory_proto::op::Message;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::properties::asking::{Known, ZONE, policy, rules, within};
use crate::support::dns::zone_text;
use crate::support::generate::{World, config, message, world};
use crate::support::straight;

proptest! {
    #![proptest_config(config(100))]

    /// Names, types and records are those of before; TTLs are those of what may be old.
    #[test]
    fn what_a_file_had_is_answered_as_before(world in world(), seed in any::<u64>()) {
        let told = changes(&world);
        let file = written(&snapshot(told.clone()));
        let mut before = Known::new(rules(), policy(), told);
        let mut after = Known::new(rules(), policy(), read(&file));
        for name in names(&world) {
            for qtype in [A, SRV, ANY, PTR, TXT] {
                let bytes = message(&name, qtype, None);
                let before = without_ttls(before.ask(&bytes, Transport::Tcp, seed));
                let after = without_ttls(after.ask(&bytes, Transport::Tcp, seed));
                prop_assert_eq!(after, before, "{} {}", name, qtype);
            }
        }
    }

    /// The other catalogue is what was heard: nothing that is told of it is denied or old.
    #[test]
    fn what_is_heard_replaces_what_a_file_had(had in world(), heard in world(), seed in any::<u64>()) {
        // What is in no list stays until Consul denies it, or somebody asks.
        let is_listed = |change: &Change| !is_unlisted(change);
        let heard_changes: Vec<Change> = changes(&heard).into_iter().filter(is_listed).collect();
        let file = written(&snapshot(changes(&had).into_iter().filter(is_listed).collect()));
        let loaded_first = read(&file).into_iter().chain(heard_changes.clone());
        let mut cold = Known::new(rules(), policy(), heard_changes);
        let mut warm = Known::new(rules(), policy(), loaded_first);
        for name in names(&heard).union(&names(&had)) {

            for qtype in [SRV, ANY, TXT] {
                // With EDNS, so that what is said to be old shows.
                let bytes = message(name, qtype, Some((1232, &[])));
                let cold = cold.ask(&bytes, Transport::Tcp, seed).to_vec();
                let warm = warm.ask(&bytes, Transport::Tcp, seed);
                prop_assert_eq!(warm, &cold[..], "{} {}", name, qtype);
            }
        }
    }

    /// A file that is written again from what was read of it is the same.
    #[test]
    fn nothing_is_lost_from_start_to_start(world in world()) {
        let file = written(&snapshot(changes(&world)));
        let first = written(&snapshot(read(&file)));
        let second = written(&snapshot(read(&first)));
        // The first reading makes all of it as old as the file.
        prop_assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
    }

    /// Whatever became of a file: it is the same, or refused.
    #[test]
    fn no_file_is_harmful(
        world in world(),
        changes_of_bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(),
        is_cut in any::<bool>(),
    ) {
        let payload = written(&snapshot(changes(&world)));
        let whole = [&seal::head(&payload, 7)[..], &payload].concat();
        let mutate = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, value) in &changes_of_bytes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        };
        let bytes = mutate(&whole);
        match seal::open(&bytes) {
            Ok(opened) => prop_assert_eq!(opened.payload, &payload[..]),
            Err(_) => prop_assert_ne!(bytes, whole),
        }
        // Had its writer sealed it so, it would be a catalogue, or refused.
        let mutated = mutate(&payload);
        if let Ok(changes) = Contents::read(&mutated).and_then(|it| it.changes(&LOADING)) {
            let again = written(&snapshot(changes));
            prop_assert!(Contents::read(&again).is_ok());
        }
    }
}

/// What a source would tell of `world`, but for which prepared queries there are.
fn changes(world: &World) -> Vec<Change> {
    let is_kept = |change: &Change| !matches!(change, Change::Queries { .. });
    world.changes().into_iter().filter(is_kept).collect()
}

fn is_unlisted(change: &Change) -> bool {
    matches!(change, Change::Service { form, .. } if form.place().is_some())
}

fn snapshot(changes: Vec<Change>) -> Snapshot {
    let mut builder = straight::builder(rules());
    for change in changes {
        builder.apply(change);
    }
    builder.snapshot()
}

fn written(snapshot: &Snapshot) -> Vec<u8> {
    Contents::of(snapshot, 0).to_payload()
}

fn read(payload: &[u8]) -> Vec<Change> {
    Contents::read(payload).and_then(|contents| contents.changes(&LOADING)).unwrap()
}

fn names(world: &World) -> BTreeSet<String> {
    let names = world.names().into_iter().map(|name| within(&name, ZONE));
    let others = ["nope.service", "nope.node", "service", "node", "nope.dc1", "web.service.dc9"];
    let others = others.map(|name| within(name, ZONE));
    names.chain(world.reverse_names()).chain(others).collect()
}

/// A reply as text, its TTLs and what is derived from them left out.
fn without_ttls(reply: &[u8]) -> String {
    let mut message = Message::from_vec(reply).unwrap();
    let sections =
        message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals);
    sections.for_each(|record| record.ttl = 0);
    let text = zone_text(&message);
    let lines = text.lines().map(|line| match line.split_once(" IN SOA ") {
        Some((owner, _)) => owner,
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

const LOADING: Loading<'static> = Loading { start_unix_ms: 0, right_ms: 0, local: None };

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;
const ANY: u16 = 255;
