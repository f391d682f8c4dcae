//! What there is in a Kong file, and how its parts belong to each other.

/// A kind of entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Service,
    Route,
    Upstream,
    Target,
    Consumer,
    Key,
    Jwt,
    Group,
    Certificate,
    Sni,
    Authority,
    Plugin,
}

/// How a kind is written.
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// The list that it stands in, in the file.
    pub(crate) list: &'static str,
    /// The same in the admin API.
    pub(crate) path: &'static str,
    /// The field by which others name it.
    pub(crate) field: &'static str,
    /// The fields that it may be called by, besides its id.
    pub(crate) names: &'static [&'static str],
    /// What it can belong to; it is written inside of the first of these that it has and that has a list for it.
    pub(crate) owners: &'static [Kind],
}

/// Every kind, owners before what they own.
pub(crate) const SHAPES: [Shape; 12] = [
    shape(
        Kind::Service,
        ["services", "services", "service"],
        &["name"],
        &[],
    ),
    shape(
        Kind::Route,
        ["routes", "routes", "route"],
        &["name"],
        &[Kind::Service],
    ),
    shape(
        Kind::Upstream,
        ["upstreams", "upstreams", "upstream"],
        &["name"],
        &[],
    ),
    shape(
        Kind::Target,
        ["targets", "targets", "target"],
        &["target"],
        &[Kind::Upstream],
    ),
    shape(
        Kind::Consumer,
        ["consumers", "consumers", "consumer"],
        &["username", "custom_id"],
        &[],
    ),
    shape(
        Kind::Key,
        ["keyauth_credentials", "key-auth", "key"],
        &["key"],
        &[Kind::Consumer],
    ),
    shape(
        Kind::Jwt,
        ["jwt_secrets", "jwt", "jwt"],
        &["key"],
        &[Kind::Consumer],
    ),
    shape(
        Kind::Group,
        ["acls", "acls", "acl"],
        &["group"],
        &[Kind::Consumer],
    ),
    shape(
        Kind::Certificate,
        ["certificates", "certificates", "certificate"],
        &[],
        &[],
    ),
    shape(
        Kind::Sni,
        ["snis", "snis", "sni"],
        &["name"],
        &[Kind::Certificate],
    ),
    shape(
        Kind::Authority,
        ["ca_certificates", "ca_certificates", "ca_certificate"],
        &[],
        &[],
    ),
    shape(
        Kind::Plugin,
        ["plugins", "plugins", "plugin"],
        &[],
        &[Kind::Route, Kind::Service, Kind::Consumer],
    ),
];

const fn shape(
    kind: Kind,
    [list, path, field]: [&'static str; 3],
    names: &'static [&'static str],
    owners: &'static [Kind],
) -> Shape {
    Shape {
        kind,
        list,
        path,
        field,
        names,
        owners,
    }
}

impl Kind {
    pub(crate) fn shape(self) -> &'static Shape {
        let [first, ..] = &SHAPES;
        let known = SHAPES.iter().find(|shape| shape.kind == self);
        // Every kind has its shape.
        known.unwrap_or(first)
    }

    /// The kind of a list of the admin API.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let known = SHAPES.iter().find(|shape| shape.path == path);
        known.map(|shape| shape.kind)
    }

    /// Whether something of this kind has a list for what belongs to it of another. A consumer has none for plugins.
    pub(crate) fn holds(self, other: &Shape) -> bool {
        other.owners.contains(&self) && !(self == Self::Consumer && other.kind == Kind::Plugin)
    }

    /// Whether others name it by nothing but its id.
    pub(crate) fn is_known_by_id(self) -> bool {
        matches!(self, Self::Certificate | Self::Authority)
    }
}
