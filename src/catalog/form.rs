//! Which of Consul's questions a name is answered from.

/// A kind of list of instances that Consul keeps.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Form {
    /// The instances that a service is reached by in the mesh: `web.connect`.
    Connect,
    /// The gateways that a service is bound to: `web.ingress`.
    Ingress,
    /// The instances that a cluster peer exports, by service and peer: `web.service.west.peer`.
    Peer,
    /// What a prepared query finds: `geo.query`.
    Query,
    /// The instances of a service: `web.service`. The only form whose names are all known.
    Service,
}

impl Form {
    /// Those whose names only Consul can deny, in the order in which they are kept.
    pub const UNLISTED: [Self; 4] = [Self::Connect, Self::Ingress, Self::Peer, Self::Query];

    /// Its place among the unlisted ones.
    pub fn place(self) -> Option<usize> {
        Self::UNLISTED.iter().position(|form| *form == self)
    }

    /// The word for it in names, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ingress => "ingress",
            Self::Peer => "peer",
            Self::Query => "query",
            Self::Service => "service",
        }
    }
}
