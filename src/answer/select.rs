//! Which of a service's instances a name means: all, those with a tag or several, or a port.
//!
//! This knows the records of one service, and of no other.
//!
//! **Hot.** Nothing allocates, but for several tags at once.

use std::ops::Deref;

use crate::answer::finding::Finding;
use crate::catalog::{RRsets, Selection};

/// Some of a service's records.
#[derive(Debug)]
pub enum Selected<'s> {
    /// Put together for this question.
    Joined(Box<Selection>),
    /// All of them, or those with a tag.
    Kept(&'s Selection),
}

impl Deref for Selected<'_> {
    type Target = Selection;

    fn deref(&self) -> &Selection {
        match self {
            Self::Joined(selection) => selection,
            Self::Kept(selection) => selection,
        }
    }
}

/// Which of a service's instances are meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part<'q> {
    /// Those with this tag; `None` is all.
    pub tag: Option<&'q [u8]>,
    /// Those with a port of this name; `None` is all.
    pub port: Option<&'q [u8]>,
    /// Whether the name is written as in RFC 2782, so that nothing is below it.
    pub is_marked: bool,
}

/// The instances of that part, or all.
///
/// As Consul: no instance that may be shown, and the name does not exist. Unless there is one
/// further down: `b.web` exists where an instance of `web` has the tag `a.b`.
pub fn select<'s>(rrsets: &'s RRsets, part: Part<'_>) -> Finding<'s> {
    let Part { tag, port, is_marked } = part;
    let service = |selection| Finding::Service { rrsets, selection };
    let kept = |selection: Option<&'s Selection>| {
        let selection = selection.filter(|selection| !selection.is_empty());
        selection.map(|selection| service(Selected::Kept(selection)))
    };
    let joined = |selection: Option<Box<Selection>>| {
        selection.map(|selection| service(Selected::Joined(selection)))
    };
    let found = match (tag, port) {
        (None, None) => kept(Some(rrsets.all())),
        (None, Some(port)) => kept(rrsets.with_port(port)),
        (Some(tag), Some(port)) => joined(rrsets.tagged_with_port(tag, port)),
        (Some(tag), None) if is_marked => kept(rrsets.tagged(tag)),
        // The rest is where Consul knows no such name: a port before the service, as its newest
        // versions have it, and several tags.
        (Some(tag), None) => kept(rrsets.tagged(tag))
            .or_else(|| kept(rrsets.with_port(tag.strip_suffix(b".port")?)))
            .or_else(|| joined(rrsets.tagged_all(tag))),
    };
    let is_parent = || {
        let tag = tag.unwrap_or_default();
        let port = tag.strip_suffix(b"port").filter(|left| left.is_empty() || left.ends_with(b"."));
        let has_port_below = |left: &[u8]| match left.strip_suffix(b".") {
            Some(port) => rrsets.has_port_below(port),
            None => rrsets.has_ports(),
        };
        !tag.is_empty() && rrsets.has_tag_below(tag) || port.is_some_and(has_port_below)
    };
    match found {
        Some(finding) => finding,
        None if !is_marked && is_parent() => Finding::Empty,
        None => Finding::Missing,
    }
}
