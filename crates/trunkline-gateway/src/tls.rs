//! The certificates that clients are shown.

mod names;

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use self::names::Names;
use crate::config::Certificate;

/// HTTP/2, as it is agreed on.
pub(crate) const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";
/// The most certificates of a chain.
const CHAIN_MAX: usize = 16;

/// How connections with TLS are taken.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    shelf: Arc<Shelf>,
    /// What it was made from.
    made_of: Vec<Certificate>,
}

/// A certificate with its key.
pub(crate) struct Shown {
    certified: Arc<CertifiedKey>,
    /// The names in it, in small letters: exact, or `*.` and what follows.
    names: Vec<String>,
}

/// What is wrong: the field, and what was expected.
pub(crate) type Mistake = (&'static str, String);

/// All certificates by the names that clients ask for.
struct Shelf {
    names: Names<Arc<Shown>>,
    /// For who asks for another name, or for none.
    otherwise: Arc<Shown>,
}

impl Tls {
    /// What clients are shown of these certificates; none without any. `wrong` is told each mistake with the place of
    /// its certificate in the list. The same certificates as `before` are what they were, and sessions go on.
    pub(crate) fn of(
        certificates: &[Certificate],
        before: Option<&Arc<Self>>,
        mut wrong: impl FnMut(usize, Mistake),
    ) -> Option<Arc<Self>> {
        if let Some(before) = before.filter(|before| before.made_of == certificates) {
            return Some(before.clone());
        }
        let provider = Arc::new(ring::default_provider());
        let (mut names, mut first, mut any) = (Names::default(), None, None);
        for (index, certificate) in certificates.iter().enumerate() {
            let shown = match Shown::of(certificate, &provider) {
                Ok(shown) => Arc::new(shown),
                Err(mistake) => {
                    wrong(index, mistake);
                    continue;
                }
            };
            for name in &certificate.snis {
                if name == "*" {
                    any.get_or_insert_with(|| shown.clone());
                } else if let Err(expected) = names.insert(name, shown.clone()) {
                    wrong(index, ("snis", format!("{expected}, found `{name}`")));
                }
            }
            first.get_or_insert(shown);
        }
        let shelf = Arc::new(Shelf {
            names,
            otherwise: any.or(first)?,
        });
        match config(shelf.clone(), provider) {
            Ok(config) => Some(Arc::new(Self {
                config: Arc::new(config),
                shelf,
                made_of: certificates.to_vec(),
            })),
            Err(error) => {
                wrong(0, ("cert", format!("TLS is not to be had: {error}")));
                None
            }
        }
    }

    /// The certificate for a name, or for who asks for none.
    pub(crate) fn shown(&self, name: Option<&str>) -> &Arc<Shown> {
        self.shelf.find(name)
    }
}

fn config(shelf: Arc<Shelf>, provider: Arc<CryptoProvider>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shelf);
    config.alpn_protocols = vec![H2.to_vec(), HTTP_11.to_vec()];
    // Who comes again brings its session along, and nothing is kept of it here.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

impl Shown {
    fn of(certificate: &Certificate, provider: &CryptoProvider) -> Result<Self, Mistake> {
        let chain = CertificateDer::pem_slice_iter(certificate.cert.as_bytes())
            .take(CHAIN_MAX + 1)
            .collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| ("cert", "expected certificates in PEM".to_owned()))?;
        if chain.is_empty() || chain.len() > CHAIN_MAX {
            let expected = format!("expected 1 to {CHAIN_MAX} certificates in PEM");
            return Err(("cert", expected));
        }
        let names = chain.first().and_then(|own| names_of(own));
        let names = names.ok_or_else(|| ("cert", "expected a certificate of X.509".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())
            .map_err(|_| ("key", "expected a private key in PEM".to_owned()))?;
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| ("key", format!("expected the certificate's key: {error}")))?;
        Ok(Self {
            certified: Arc::new(certified),
            names,
        })
    }

    /// Whether the certificate is of this host. Of the stars in names only one in the place of a whole first word counts.
    pub(crate) fn names(&self, host: &str) -> bool {
        let below = host.split_once('.').map(|(_, domain)| domain);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => below.is_some_and(|below| below.eq_ignore_ascii_case(domain)),
            None => host.eq_ignore_ascii_case(name),
        })
    }
}

/// The names of hosts in a certificate, if it is one.
fn names_of(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let names = certificate.valid_dns_names();
    Some(names.map(str::to_ascii_lowercase).collect())
}

impl Shelf {
    fn find(&self, name: Option<&str>) -> &Arc<Shown> {
        let found = name.and_then(|name| self.names.find(name));
        found.unwrap_or(&self.otherwise)
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()).certified.clone())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}
