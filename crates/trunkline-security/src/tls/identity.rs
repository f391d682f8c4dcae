//! The name of a service in its certificate.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use trunkline_core::{ByteString, Error, Result};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const NAME_BYTES_MAX: usize = 255;

/// A service's name as its certificate has it: `spiffe://<trust domain>/<service>`.
///
/// # Source
/// SPIFFE ID, 2; X509-SVID, 2: a certificate has one such name, in its URI SAN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    trust_domain: ByteString,
    service: ByteString,
}

impl Identity {
    /// The name of `service` in `trust_domain`.
    ///
    /// # Errors
    /// `InvalidInput` unless both are of lower-case letters, digits, `-`, `_` and `.`.
    pub fn new(trust_domain: &str, service: &str) -> Result<Self> {
        let fits = |name: &str| {
            let plain =
                |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"-_.".contains(&byte);
            // A service's name is also that of a folder.
            let bytes = (1..=NAME_BYTES_MAX).contains(&name.len());
            bytes && name.bytes().all(plain) && !name.starts_with('.')
        };
        if !fits(trust_domain) || !fits(service) {
            return Err(
                bad("expected names of lower-case letters, digits, `-`, `_` and `.`")
                    .with("trust_domain", trust_domain)
                    .with("service", service),
            );
        }
        Ok(Self {
            trust_domain: trust_domain.into(),
            service: service.into(),
        })
    }

    /// The name in a certificate. Nothing is verified here: TLS has done that.
    ///
    /// # Errors
    /// `InvalidInput` for what is no certificate, and for one without one such name or with more URIs than that.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self> {
        let parsed = parse(certificate)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| bad("the certificate's names can't be read").with_source(error))?;
        let names = names.map_or(&[][..], |names| names.value.general_names.as_slice());
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse(),
            _ => Err(bad("expected a certificate with one URI among its names")),
        }
    }

    /// The name of a peer that has shown these certificates, its own first.
    ///
    /// # Errors
    /// As [`Identity::of`]; `InvalidInput` without any.
    pub fn of_peer(certificates: Option<&[CertificateDer<'_>]>) -> Result<Self> {
        let own = certificates.and_then(<[_]>::first);
        own.ok_or_else(|| bad("the peer has shown no certificate"))
            .and_then(Self::of)
    }

    /// The platform that the service belongs to.
    pub fn trust_domain(&self) -> &ByteString {
        &self.trust_domain
    }

    /// The service.
    pub fn service(&self) -> &ByteString {
        &self.service
    }
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(bad("something follows the certificate")),
        Err(error) => Err(bad("this is no certificate").with_source(error.to_string())),
    }
}

fn bad(message: &'static str) -> Error {
    Error::invalid("certificate_invalid", message)
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let path = text.strip_prefix("spiffe://");
        let (trust_domain, service) = path
            .and_then(|path| path.split_once('/'))
            .ok_or_else(|| bad("expected spiffe://<trust domain>/<service>"))?;
        Self::new(trust_domain, service)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let name = Identity::new("shop.example", "order-service").unwrap();
        assert_eq!(name.to_string(), "spiffe://shop.example/order-service");
        assert_eq!(name.to_string().parse::<Identity>().unwrap(), name);
        for wrong in [
            "",
            "https://a/b",
            "spiffe://a",
            "spiffe:///b",
            "spiffe://a/",
            "spiffe://a/b/c",
            "spiffe://a/../b",
            "spiffe://a/..",
            "spiffe://A/b",
            "spiffe://a/b?c",
            "spiffe://a:1/b",
            "spiffe://a/b\n",
        ] {
            assert!(wrong.parse::<Identity>().is_err(), "{wrong:?}");
        }
        assert!(Identity::new("a", &"b".repeat(256)).is_err());
        assert!(Identity::of(&CertificateDer::from(vec![0x30, 0])).is_err());
        assert!(Identity::of_peer(None).is_err());
    }
}
