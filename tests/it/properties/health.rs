//! What is not to be shown leaves no trace: all replies are those of a catalogue without it.
//!
//! Two things are left out of it. An address has its name whatever the health of what has it, and
//! the mesh's address for a service is none of its instances'.

use fingerpost::answer::Transport;
use fingerpost::catalog::model::{Health, Instance};
use fingerpost::catalog::{Change, Form, Rules};
use proptest::prelude::*;

use crate::properties::asking::{Known, ZONE, policy, rules, within};
use crate::support::generate::{World, config, message, world};

proptest! {
    #![proptest_config(config(80))]

    /// In no form of a name but a prepared query, which says itself whose checks it looks at;
    /// whatever their tags, ports and addresses.
    #[test]
    fn critical_instances_are_in_no_answer(world in world(), seed in any::<u64>()) {
        check(world, rules(), seed, |form, health| {
            form == Form::Query || health != Health::Critical
        })?;
    }

    /// What a prepared query leaves out is not for the configuration to say.
    #[test]
    fn only_passing_instances_are_answered(world in world(), seed in any::<u64>()) {
        let rules = Rules { only_passing: true, ..rules() };
        check(world, rules, seed, |form, health| match form {
            Form::Query => true,
            _ => health == Health::Passing,
        })?;
    }
}

fn check(
    world: World,
    rules: Rules,
    seed: u64,
    is_shown: impl Fn(Form, Health) -> bool,
) -> Result<(), TestCaseError> {
    let world = world.retain(without_mesh);
    let mut shown = world.clone();
    for place in &mut shown.places {
        for (_, instances) in &mut place.services {
            instances.retain(|instance| is_shown(Form::Service, instance.health));
        }
        for unlisted in &mut place.unlisted {
            let form = unlisted.form;
            unlisted.instances.retain(|instance| is_shown(form, instance.health));
        }
    }
    let mut all = Known::new(rules.clone(), policy(), world.changes());
    let mut shown = Known::new(rules, policy(), listed_as(&world, &shown));
    for name in world.names() {
        for qtype in [A, AAAA, SRV, ANY] {
            let bytes = message(&within(&name, ZONE), qtype, None);
            let expected = shown.ask(&bytes, Transport::Tcp, seed).to_vec();
            let got = all.ask(&bytes, Transport::Tcp, seed);
            prop_assert!(got == expected, "{} {}: {:?}, not {:?}", name, qtype, got, expected);
        }
    }
    Ok(())
}

fn without_mesh(instance: &mut Instance) -> bool {
    instance.tagged.iter_mut().for_each(|tagged| tagged.mesh = None);
    true
}

/// What a source reports of `world` that lists the tags of `listed`.
///
/// The tags that nobody has any more are known to be of instances that cannot be seen.
fn listed_as(listed: &World, world: &World) -> Vec<Change> {
    let mut changes = world.changes();
    for (change, listing) in changes.iter_mut().zip(listed.changes()) {
        if matches!(listing, Change::Services { .. }) {
            *change = listing;
        }
    }
    for place in &world.places {
        changes.extend(place.services.iter().map(|(service, _)| Change::Settle {
            datacenter: place.name.clone(),
            service: service.clone(),
        }));
    }
    changes
}

const A: u16 = 1;

const AAAA: u16 = 28;

const SRV: u16 = 33;

const ANY: u16 = 255;
