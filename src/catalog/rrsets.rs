//! The records of one service, encoded once, for all of its instances and for each tag.
//!
//! ```text
//!   bytes   [A][AAAA][SRV][its address' tail][SRV][tail]...    one arena for the service
//!   a, srv  (start, len) into it                               one list for each selection
//! ```
//! A tag's list points at the same bytes as the whole service's, so an instance costs its records
//! once, however many tags it has. Picking k of n records is picking k of n spans.
//!
//! **Invariant:** only instances that [`Rules::shows`](crate::catalog::Rules::shows) are in here;
//! critical ones never are.

use std::net::IpAddr;

use crate::catalog::press::Gathered;

/// All records of a service, by tag.
#[derive(Debug, Default)]
pub struct RRsets {
    pub(in crate::catalog) bytes: Box<[u8]>,
    pub(in crate::catalog) all: Selection,
    /// Sorted by tag; tags are lower case.
    pub(in crate::catalog) tags: Box<[(Box<[u8]>, Selection)]>,
    /// The instances by the names of their ports. Sorted by name; names are lower case.
    pub(in crate::catalog) ports: Box<[PortRecords]>,
    /// The records of each instance, where some are of several tags; else empty.
    pub(in crate::catalog) printed: Box<[Printed]>,
    /// Whether the order of the records means something: the nearest instance first.
    pub is_sorted: bool,
    /// The address that stands for the service in the mesh.
    pub mesh: Option<IpAddr>,
}

/// The records of the instances that have a tag, or of all.
#[derive(Debug, Default)]
pub struct Selection {
    /// Distinct addresses.
    pub a: Box<[Span]>,
    /// Distinct addresses.
    pub aaaa: Box<[Span]>,
    /// What ANY is answered with, where that is not all of `a` and `aaaa`.
    pub any: Option<Box<[Span]>>,
    /// Only where there is no address at all: a CNAME stands alone (RFC 1034 §3.6.2).
    pub cname: Box<[Span]>,
    /// Distinct by target and port.
    pub srv: Box<[SrvSpan]>,
    /// The shortest of `srv`, in bytes; 0 if there is none.
    pub srv_len_min: u16,
    /// Whether two of `srv` have the same target.
    pub shares_targets: bool,
    /// Places in `printed`, ascending; of all instances where `printed` is empty.
    pub(in crate::catalog) members: Box<[u32]>,
}

/// The records of the instances that have a port of one name.
#[derive(Debug)]
pub struct PortRecords {
    pub(in crate::catalog) name: Box<[u8]>,
    /// With SRV records of that port.
    pub(in crate::catalog) selection: Selection,
    /// What each of its members is answered with.
    pub(in crate::catalog) printed: Box<[Printed]>,
}

/// A record in the arena.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    pub(in crate::catalog) start: u32,
    pub(in crate::catalog) len: u16,
}

/// An SRV record in the arena, and its target's additional records behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SrvSpan {
    pub(in crate::catalog) record: Span,
    /// The bytes of the target's address, owner left off; 0 where the target is elsewhere.
    pub(in crate::catalog) tail_len: u16,
    /// How the target ends.
    pub target_in: TargetIn,
    /// Equal for records with the same target, and less than the number of targets.
    pub target: u32,
}

/// Whose name an SRV's target is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TargetIn {
    /// That of an external host.
    Host,
    /// One that we made, in our zone.
    Zone,
}

/// Where the records of one instance are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Printed {
    pub(in crate::catalog) a: Option<Span>,
    pub(in crate::catalog) aaaa: Option<Span>,
    pub(in crate::catalog) any: Option<Span>,
    pub(in crate::catalog) cname: Option<Span>,
    pub(in crate::catalog) srv: Option<SrvSpan>,
    /// Equal for instances whose SRV records say the same but for the weight.
    pub(in crate::catalog) identity: u32,
}

impl RRsets {
    /// The records of all instances.
    pub fn all(&self) -> &Selection {
        &self.all
    }

    /// The records of the instances with this tag, given in lower case.
    pub fn tagged(&self, tag: &[u8]) -> Option<&Selection> {
        by_key(&self.tags, tag)
    }

    /// The records of the instances with a port of this name, given in lower case.
    pub fn with_port(&self, port: &[u8]) -> Option<&Selection> {
        self.port(port).map(|records| &records.selection)
    }

    /// The same of those that have this tag too. `None` if there is no such instance.
    pub fn tagged_with_port(&self, tag: &[u8], port: &[u8]) -> Option<Box<Selection>> {
        let (tagged, records) = (&self.tagged(tag)?.members, self.port(port)?);
        let both = records.selection.members.iter().zip(&records.printed);
        gather(both.filter(|(at, _)| tagged.binary_search(at).is_ok()))
    }

    /// Whether some instance has a port with a name.
    pub fn has_ports(&self) -> bool {
        !self.ports.is_empty()
    }

    /// Whether `port` is the end of a longer, dotted name of a port.
    pub fn has_port_below(&self, port: &[u8]) -> bool {
        self.ports.iter().any(|records| is_below(&records.name, port))
    }

    fn port(&self, name: &[u8]) -> Option<&PortRecords> {
        self.ports.iter().find(|records| *records.name == *name)
    }

    /// The records of the instances with each of the tags that `tags`, in lower case, is when cut
    /// at its dots. `None` if there is no such instance, or too many to look through.
    pub fn tagged_all(&self, tags: &[u8]) -> Option<Box<Selection>> {
        let members = self.members_of_all(tags)?;
        gather(members.iter().filter_map(|at| Some((at, self.printed.get(*at as usize)?))))
    }

    fn members_of_all(&self, tags: &[u8]) -> Option<Vec<u32>> {
        if !tags.contains(&b'.') || self.printed.len() > JOINED_MAX {
            return None;
        }
        let mut members: Option<Vec<u32>> = None;
        for tag in tags.split(|byte| *byte == b'.') {
            let tagged = &self.tagged(tag)?.members;
            members = Some(match members {
                None => tagged.to_vec(),
                Some(mut members) => {
                    members.retain(|at| tagged.binary_search(at).is_ok());
                    members
                }
            });
        }
        members.filter(|members| !members.is_empty())
    }

    /// Whether `tag` is the end of a longer, dotted tag: `b` where an instance has `a.b`.
    ///
    /// Such a name has names with records below it, so it exists (RFC 8020).
    pub fn has_tag_below(&self, tag: &[u8]) -> bool {
        self.tags.iter().any(|(key, _)| is_below(key, tag))
    }

    /// The tags in use, lower case.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        self.tags.iter().map(|(tag, _)| tag.as_ref())
    }

    /// The record at `span`.
    pub fn record(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes.get(start..start + usize::from(span.len)).unwrap_or_default()
    }

    /// The SRV record at `span`, and its target's address with the owner left off.
    pub fn srv(&self, span: SrvSpan) -> (&[u8], &[u8]) {
        let end = span.record.start as usize + usize::from(span.record.len);
        let tail = self.bytes.get(end..end + usize::from(span.tail_len)).unwrap_or_default();
        (self.record(span.record), tail)
    }
}

impl Selection {
    /// Whose records these are: places among the instances that are shown, ascending.
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    /// Whether no instance is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

fn is_below(name: &[u8], parent: &[u8]) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with(b"."))
}

fn by_key<'s>(selections: &'s [(Box<[u8]>, Selection)], key: &[u8]) -> Option<&'s Selection> {
    let at = selections.binary_search_by(|(known, _)| known.as_ref().cmp(key)).ok()?;
    selections.get(at).map(|(_, selection)| selection)
}

fn gather<'s>(printed: impl Iterator<Item = (&'s u32, &'s Printed)>) -> Option<Box<Selection>> {
    let mut gathered = Gathered::default();
    printed.for_each(|(at, printed)| gathered.add(*at, printed));
    let selection = gathered.into_selection();
    (!selection.is_empty()).then(|| Box::new(selection))
}

/// Several tags at once are looked for at query time, which costs an instance by instance.
const JOINED_MAX: usize = 1024;
