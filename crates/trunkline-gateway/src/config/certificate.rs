//! Certificates: those that the gateway shows, and those of the authorities that it trusts.

use std::fmt;

use serde::Serialize;

use super::At;

/// A certificate that the gateway shows: to clients that ask for one of its names, and to services that name it.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Certificate {
    /// What a service calls it by.
    pub id: Option<String>,
    /// The certificate as PEM, and after it those of the authorities between it and a root.
    pub cert: String,
    /// Its private key as PEM.
    #[serde(skip)]
    pub key: String,
    /// The names that clients ask for to get it: exact, `*.example.com` or `example.*`.
    pub snis: Vec<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// An authority that services' certificates are trusted by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CaCertificate {
    /// What a service calls it by.
    pub id: Option<String>,
    /// The certificate as PEM.
    pub cert: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

impl Certificate {
    /// A certificate with its key, both as PEM.
    pub fn new(cert: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            ..Self::default()
        }
    }

    /// Adds a name that clients ask for.
    #[must_use]
    pub fn sni(mut self, name: impl Into<String>) -> Self {
        self.snis.push(name.into());
        self
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("id", &self.id)
            .field("snis", &self.snis)
            .finish_non_exhaustive()
    }
}
