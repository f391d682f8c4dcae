//! What the descriptors say of a service's methods.

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;
use serde_json::{Value, json};
use trunkline_core::{Error, Result};

/// A method of a service of gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) name: String,
    /// `/package.Service/Method`.
    pub(crate) path: String,
    pub(crate) asks_in_a_stream: bool,
    pub(crate) answers_in_a_stream: bool,
    /// What its option `idempotency_level` says.
    pub(crate) idempotency: IdempotencyLevel,
}

impl Method {
    /// Whether it has one question and one answer.
    pub(crate) fn is_unary(&self) -> bool {
        !self.asks_in_a_stream && !self.answers_in_a_stream
    }

    pub(crate) fn describe(&self) -> Value {
        json!({
            "name": self.name,
            "client_streaming": self.asks_in_a_stream,
            "server_streaming": self.answers_in_a_stream,
            "idempotent": self.idempotency != IdempotencyLevel::IdempotencyUnknown,
        })
    }
}

/// The methods of a service, by the descriptors that its code was generated from.
///
/// # Errors
/// `InvalidInput` when these are no descriptors, or the service is not among them.
pub(super) fn of(descriptors: &[u8], service: &str) -> Result<Vec<Method>> {
    let bad = |text: &'static str| Error::invalid("topology_invalid", text).with("grpc", service);
    let set = FileDescriptorSet::decode(descriptors)
        .map_err(|error| bad("expected an encoded FileDescriptorSet").with_source(error))?;
    let services = set.file.iter().flat_map(|file| {
        let named = file.service.iter();
        named.map(|service| (file.package(), service))
    });
    let mut services = services.map(|(package, found)| {
        let dot = if package.is_empty() { "" } else { "." };
        (format!("{package}{dot}{}", found.name()), found)
    });
    let (_, found) = services
        .find(|(name, _)| name == service)
        .ok_or_else(|| bad("the descriptors do not have this service"))?;
    let methods = found.method.iter().map(|method| Method {
        name: method.name().to_owned(),
        path: format!("/{service}/{}", method.name()),
        asks_in_a_stream: method.client_streaming(),
        answers_in_a_stream: method.server_streaming(),
        idempotency: method
            .options
            .as_ref()
            .map_or(IdempotencyLevel::IdempotencyUnknown, |options| {
                options.idempotency_level()
            }),
    });
    Ok(methods.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_testproto::stock::DESCRIPTORS;

    #[test]
    fn a_method_is_what_the_proto_says() {
        let methods = of(DESCRIPTORS, "stock.v1.Stock").unwrap();
        let kinds: Vec<_> = methods
            .iter()
            .map(|method| {
                (
                    &*method.name,
                    method.asks_in_a_stream,
                    method.answers_in_a_stream,
                )
            })
            .collect();
        let expected = [
            ("Reserve", false, false),
            ("Watch", false, true),
            ("Receive", true, false),
            ("Count", true, true),
            ("Look", false, false),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(methods[0].path, "/stock.v1.Stock/Reserve");
        assert_eq!(methods[4].idempotency, IdempotencyLevel::NoSideEffects);
        assert!(methods[4].is_unary() && !methods[1].is_unary());
    }

    #[test]
    fn descriptors_of_another_service_are_refused() {
        let error = of(DESCRIPTORS, "stock.v2.Stock").unwrap_err().to_string();
        assert!(error.contains("stock.v2.Stock"), "{error}");
        assert!(of(b"nonsense", "stock.v1.Stock").is_err());
    }
}
