//! What a configuration is used with, besides what it says.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use trunkline_core::ByteString;
use trunkline_security::Verifier;

use crate::Plugin;

/// Gives the OpenAPI document of a service by its name.
type Documents = dyn Fn(&str) -> Option<Value> + Send + Sync;

/// Whether a service is one of the platform's own, by its name.
type Local = dyn Fn(&str) -> bool + Send + Sync;

/// Makes a plugin from its settings, or says what was expected of them.
type Make = dyn Fn(Value) -> Result<Arc<dyn Plugin>, String> + Send + Sync;

/// What a configuration is used with: what verifies the tokens of users, which services there are and what they declare, and
/// kinds of plugins besides those that the gateway has. A [`Verifier`] alone is one.
#[derive(Clone, Default)]
pub struct Means {
    pub(crate) verifier: Option<Verifier>,
    pub(crate) documents: Option<Arc<Documents>>,
    local: Option<Arc<Local>>,
    pub(crate) own: Vec<Own>,
}

/// A kind of plugin that somebody else wrote.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) name: ByteString,
    pub(crate) priority: u32,
    pub(crate) make: Arc<Make>,
}

impl Means {
    /// Nothing: tokens of users can't be verified, and no service declares anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The OpenAPI document of a service by its name, for `request-validator`; none for a service that has none.
    #[must_use]
    pub fn documents(self, of: impl Fn(&str) -> Option<Value> + Send + Sync + 'static) -> Self {
        Self {
            documents: Some(Arc::new(of)),
            ..self
        }
    }

    /// Which services are the platform's own, by their names. They are asked for by their names, for a channel, whatever a
    /// file says of where they are.
    #[must_use]
    pub fn local(self, is_local: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            local: Some(Arc::new(is_local)),
            ..self
        }
    }

    /// Adds a kind of plugin by the name that a configuration has for it; one of the gateway's own names stays the gateway's.
    /// The higher its priority, the earlier it runs: Kong's are 1450 for `jwt`, 910 for `rate-limiting` and 100 for
    /// `proxy-cache`. `make` says what it expected of settings that it can't use.
    #[must_use]
    pub fn plugin(
        mut self,
        name: impl Into<ByteString>,
        priority: u32,
        make: impl Fn(Value) -> Result<Arc<dyn Plugin>, String> + Send + Sync + 'static,
    ) -> Self {
        self.own.push(Own {
            name: name.into(),
            priority,
            make: Arc::new(make),
        });
        self
    }

    pub(crate) fn has(&self, service: &str) -> bool {
        self.local
            .as_ref()
            .is_some_and(|is_local| is_local(service))
    }

    pub(crate) fn document(&self, service: &str) -> Option<Value> {
        self.documents.as_ref()?(service)
    }
}

impl From<Verifier> for Means {
    fn from(verifier: Verifier) -> Self {
        Self::from(Some(verifier))
    }
}

impl From<Option<Verifier>> for Means {
    fn from(verifier: Option<Verifier>) -> Self {
        Self {
            verifier,
            ..Self::default()
        }
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means")
            .field("verifier", &self.verifier)
            .field("documents", &self.documents.is_some())
            .field(
                "own",
                &self.own.iter().map(|own| &*own.name).collect::<Vec<_>>(),
            )
            .finish()
    }
}
