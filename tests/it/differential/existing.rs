//! Which names of a world exist without data of their own: rule R2.
//!
//! A name that has data makes all names above it exist (RFC 8020). Beside these there are the
//! kind words, the datacenters, and the tags that are listed, whatever the health of what has
//! them.

use std::collections::BTreeSet;

use crate::differential::name::Labels;
use crate::differential::names;
use crate::differential::world::{KINDS, Place, PreparedQuery, World};

/// The names of one world, each reversed, so that what is below a name follows it.
#[derive(Debug, Default)]
pub struct Existing {
    with_data: BTreeSet<Vec<Vec<u8>>>,
    words: BTreeSet<Vec<Vec<u8>>>,
}

/// What is right of the kind word.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scope<'d> {
    /// Nothing: the datacenter that is asked.
    Local,
    /// `dc1`.
    Named(&'d str),
    /// `dc1.dc`.
    Worded(&'d str),
}

impl Existing {
    /// All names of `world` below `zone`, by every form of the grammar.
    pub fn of(world: &World, zone: &Labels) -> Self {
        let mut existing = Self::default();
        for (at, place) in world.places.iter().enumerate() {
            if at == 0 {
                existing.add(world, place, Scope::Local, zone);
            }
            existing.add(world, place, Scope::Named(place.dc), zone);
            existing.add(world, place, Scope::Worded(place.dc), zone);
        }
        for word in ["ap", "dc", "peer", "port"] {
            existing.words.insert(Labels::new(word).below(zone).reversed());
        }
        let near = &world.places[0];
        let nodes = near.nodes.iter().map(|node| &node.address);
        let addresses = nodes.chain(near.instances.iter().map(|instance| &instance.address));
        for ip in addresses.filter_map(|address| address.parse().ok()) {
            existing.with_data.insert(Labels::new(&names::reverse_name(ip)).reversed());
        }
        // A query is the datacenter's own that it is asked of.
        for scope in ["", ".dc1", ".dc1.dc"] {
            let name = |head: &str| Labels::new(&format!("{head}{scope}")).below(zone).reversed();
            existing.words.insert(name("_tcp.query"));
            for PreparedQuery { name: query, .. } in &world.queries {
                existing.with_data.insert(name(&format!("{query}.query")));
                existing.with_data.insert(name(&format!("_{query}._tcp.query")));
            }
        }
        existing
    }

    /// Whether `name` exists without data of its own.
    pub fn is_parent(&self, name: &Labels) -> bool {
        let name = name.reversed();
        let mut after = self.with_data.range(name.clone()..).filter(|next| **next != name);
        self.words.contains(&name) || after.next().is_some_and(|next| next.starts_with(&name))
    }

    fn add(&mut self, world: &World, place: &Place, scope: Scope<'_>, zone: &Labels) {
        let scope_text = match scope {
            Scope::Local => String::new(),
            Scope::Named(dc) => dc.to_owned(),
            Scope::Worded(dc) => format!("{dc}.dc"),
        };
        let below = Labels::new(&scope_text).below(zone);
        let name = |head: &str| Labels::new(head).below(&below).reversed();
        self.words.insert(name(""));
        self.words.extend(KINDS.map(name));
        let tags = place.instances.iter().flat_map(|instance| &instance.tags);
        for tag in tags.map(String::as_str).chain(["tcp"]).filter(|tag| !tag.contains('.')) {
            self.words.insert(name(&format!("_{tag}.service")));
            if !matches!(scope, Scope::Worded(_)) {
                self.words.insert(name(&format!("_{tag}")));
            }
        }
        self.with_data.extend(heads(world, place, scope).iter().map(|head| name(head)));
    }
}

/// The names of `place` with data, what is right of the kind word left off.
fn heads(world: &World, place: &Place, scope: Scope<'_>) -> Vec<String> {
    let mut heads: Vec<String> =
        place.nodes.iter().map(|node| format!("{}.node", node.name)).collect();
    for instance in place.instances.iter().filter(|instance| world.shows(place, instance)) {
        let service = &instance.service;
        if service.contains('.') || service.len() > 63 {
            continue;
        }
        let mut plain = vec![service.clone()];
        plain.extend(instance.tags.iter().map(|tag| format!("{tag}.{service}")));
        // RFC 2782 reads `_u._odd` as another service's, so that only what is below it is this one's:
        // the instances with the tag twice.
        let twice = instance.tags.iter().filter(|tag| tag.starts_with('_') && !tag.contains('.'));
        plain.extend(twice.map(|tag| format!("{tag}.{tag}.{service}")));
        let mut marked = vec![format!("_{service}._tcp")];
        // A dotted tag has no RFC 2782 name.
        let tags = instance.tags.iter().filter(|tag| !tag.contains('.'));
        marked.extend(tags.map(|tag| format!("_{service}._{tag}")));
        heads.extend(plain.iter().chain(&marked).map(|name| format!("{name}.service")));
        let has_no_kind = |name: &String| !name.split('.').any(|label| KINDS.contains(&label));
        match scope {
            Scope::Local => heads.extend(marked.into_iter().filter(has_no_kind)),
            Scope::Named(_) => heads.extend(plain.into_iter().chain(marked).filter(has_no_kind)),
            Scope::Worded(_) => (),
        }
    }
    heads
}
