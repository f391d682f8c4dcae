//! Who may call what: derived from the declared topology.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trunkline_core::{ByteString, Error, ErrorKind};

/// Stands for every operation of a target that is the target's own.
pub const EVERY_OPERATION: &str = "*";

/// Which service may use which operations of which other: what the topology declares, and nothing more. Cheap to
/// clone.
///
/// # Shape
/// An operation is `METHOD /path/{of}/the/route` for REST and `package.Service/Method` for gRPC. What begins with
/// `trunkline/` is the platform's own, and is allowed by its name alone, never with all operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions(Arc<BTreeMap<ByteString, BTreeMap<ByteString, BTreeSet<ByteString>>>>);

/// A call that nobody declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{caller} may not use {operation} of {target}: {}", self.remedy())]
#[non_exhaustive]
pub struct Denied {
    /// Who calls.
    pub caller: ByteString,
    /// Who is called.
    pub target: ByteString,
    /// What of it.
    pub operation: ByteString,
    /// Whether other operations of this target are declared.
    pub others_declared: bool,
}

impl Permissions {
    /// Nobody may call anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `caller` use every operation of `target`.
    #[must_use]
    pub fn allow(self, caller: impl Into<ByteString>, target: impl Into<ByteString>) -> Self {
        self.allow_operation(caller, target, EVERY_OPERATION)
    }

    /// Lets `caller` use one operation of `target`.
    #[must_use]
    pub fn allow_operation(
        mut self,
        caller: impl Into<ByteString>,
        target: impl Into<ByteString>,
        operation: impl Into<ByteString>,
    ) -> Self {
        Arc::make_mut(&mut self.0)
            .entry(caller.into())
            .or_default()
            .entry(target.into())
            .or_default()
            .insert(operation.into());
        self
    }

    /// Knows a caller, who may so far call nothing.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<ByteString>) -> Self {
        Arc::make_mut(&mut self.0).entry(caller.into()).or_default();
        self
    }

    /// Whether a caller is one of those that the topology speaks of.
    pub fn knows(&self, caller: &str) -> bool {
        self.0.contains_key(caller)
    }

    /// What `caller` may use of `target`; nothing where it may not call it at all.
    pub fn operations(&self, caller: &str, target: &str) -> Option<&BTreeSet<ByteString>> {
        self.0.get(caller)?.get(target)
    }

    /// The services that `caller` may call.
    pub fn targets(&self, caller: &str) -> impl Iterator<Item = &ByteString> {
        self.0.get(caller).into_iter().flat_map(BTreeMap::keys)
    }

    /// Whether `caller` may use `operation` of `target`.
    ///
    /// # Errors
    /// Which call was refused, and what would have to be declared.
    pub fn authorize(&self, caller: &str, target: &str, operation: &str) -> Result<(), Denied> {
        let operations = self.operations(caller, target);
        if operations.is_some_and(|all| allows(all, operation)) {
            return Ok(());
        }
        Err(Denied {
            caller: caller.into(),
            target: target.into(),
            operation: operation.into(),
            others_declared: operations.is_some(),
        })
    }
}

/// What the names of the platform's own operations begin with.
const PLATFORM: &str = "trunkline/";

/// Whether `operation` is one of `operations`.
pub(crate) fn allows<'a>(
    operations: impl IntoIterator<Item = &'a ByteString>,
    operation: &str,
) -> bool {
    operations.into_iter().any(|allowed| {
        *allowed == *operation || (*allowed == *EVERY_OPERATION && !operation.starts_with(PLATFORM))
    })
}

impl Denied {
    /// What would have to be declared.
    pub fn remedy(&self) -> String {
        let Self {
            caller,
            target,
            operation,
            ..
        } = self;
        if self.others_declared {
            format!("add .calls_operation(\"{target}\", \"{operation}\") to {caller}")
        } else {
            format!("add .calls(\"{target}\") to {caller}")
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::new(
            ErrorKind::PermissionDenied,
            "call_not_permitted",
            "the caller's declaration does not allow this operation",
        )
        .with("caller", &denied.caller)
        .with("target", &denied.target)
        .with("operation", &denied.operation)
        .with("declare", denied.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_allowed_and_nothing_else() {
        let permissions = Permissions::new()
            .allow("order-service", "inventory-service")
            .allow_operation("cart-service", "inventory-service", "GET /stock/{sku}");
        let may = |caller, target, operation| permissions.authorize(caller, target, operation);
        may("order-service", "inventory-service", "POST /reservations").unwrap();
        may("cart-service", "inventory-service", "GET /stock/{sku}").unwrap();
        let other = may("cart-service", "inventory-service", "POST /reservations").unwrap_err();
        assert_eq!(
            other.remedy(),
            "add .calls_operation(\"inventory-service\", \"POST /reservations\") to cart-service"
        );
        for (caller, target) in [
            ("inventory-service", "order-service"),
            ("order-service", "order-service"),
            ("order-service", "payment-service"),
            ("", "inventory-service"),
        ] {
            let denied = may(caller, target, "*").unwrap_err();
            assert!(denied.to_string().contains(".calls("), "{denied}");
        }
        assert!(may("order-service", "inventory-service", "trunkline/admin").is_err());
        let error = Error::from(other);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("declare: add .calls_operation"));
        let targets: Vec<_> = permissions.targets("order-service").collect();
        assert_eq!(targets, ["inventory-service"]);
        let permissions = permissions.caller("mail-service").allow_operation(
            "console",
            "mail-service",
            "trunkline/admin",
        );
        assert!(permissions.knows("mail-service") && permissions.knows("cart-service"));
        assert!(!permissions.knows("payment-service"));
        permissions
            .authorize("console", "mail-service", "trunkline/admin")
            .unwrap();
    }
}
