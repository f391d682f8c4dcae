//! Who is at the other end of a connection.

use trunkline_core::ByteString;

/// The name in the certificate that whoever sent a request proved to have, such as `spiffe://shop/order-service`.
///
/// # Source
/// SPIFFE ID, section 2: a URI among the certificate's subject alternative names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer(ByteString);

/// What every such name begins with.
const SCHEME: &str = "spiffe://";

impl Peer {
    /// The peer of this name, if it is one: `spiffe://` with a trust domain and a path.
    pub fn new(name: impl Into<ByteString>) -> Option<Self> {
        let name = name.into();
        let (domain, path) = name.strip_prefix(SCHEME)?.split_once('/')?;
        let is_one = !domain.is_empty() && !path.is_empty() && !path.ends_with('/');
        is_one.then_some(Self(name))
    }

    /// The whole name.
    pub fn name(&self) -> &ByteString {
        &self.0
    }

    /// The trust domain: `shop`.
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// What it is within its trust domain: `order-service`.
    pub fn service(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let rest = self.0.strip_prefix(SCHEME).unwrap_or_default();
        rest.split_once('/').unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_domain_and_a_path() {
        let peer = Peer::new("spiffe://shop/order-service").unwrap();
        assert_eq!(
            (peer.trust_domain(), peer.service()),
            ("shop", "order-service")
        );
        for other in [
            "https://shop/x",
            "spiffe://shop",
            "spiffe:///x",
            "spiffe://shop/",
            "spiffe://shop/x/",
        ] {
            assert_eq!(Peer::new(other), None, "{other}");
        }
    }
}
