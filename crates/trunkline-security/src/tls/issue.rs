//! Making certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use trunkline_core::{Env, Error, Result};

use super::identity::Identity;

/// Where the private key begins.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// Certificates begin so much earlier, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(300);

/// A certificate and its private key, in PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

/// A root that vouches for leaves, and for nothing that vouches for others.
pub(super) fn root(trust_domain: &str, lifetime: Duration, env: &Env) -> Result<Pair> {
    let mut params = params(lifetime, env)?;
    // Two roots of one name would be told apart by their keys alone.
    let name = format!("{trust_domain} root {}", env.id());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

/// A leaf that `root` (a certificate and its key in one text) vouches for.
pub(super) fn leaf(
    root: &str,
    identity: &Identity,
    dns_names: &[String],
    lifetime: Duration,
    env: &Env,
) -> Result<Pair> {
    let (cert, key) = split(root)?;
    let issuer = KeyPair::from_pem(key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(cert, issuer).map_err(failed)?;
    let mut params = params(lifetime, env)?;
    let service = identity.service().to_string();
    params.distinguished_name.push(DnType::CommonName, service);
    let uri = identity.to_string().try_into().map_err(failed)?;
    params.subject_alt_names.push(SanType::URI(uri));
    for name in dns_names {
        let name = match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
        };
        params.subject_alt_names.push(name);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed)?;
    let cert = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

/// The certificate and the key of a root.
fn split(root: &str) -> Result<(&str, &str)> {
    root.find(KEY)
        .and_then(|at| root.split_at_checked(at))
        .ok_or_else(|| Error::invalid("root_without_key", "expected a private key with the root"))
}

fn params(lifetime: Duration, env: &Env) -> Result<CertificateParams> {
    let out_of_range = |_| Error::invalid("lifetime_invalid", "expected a shorter lifetime");
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(out_of_range);
    let now = env.now().as_second();
    let backdated = i64::try_from(BACKDATED.as_secs()).unwrap_or(0);
    let mut params = CertificateParams::default();
    params.not_before = at(now.saturating_sub(backdated))?;
    params.not_after = at(env.after(lifetime).as_second())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn failed(error: rcgen::Error) -> Error {
    Error::invalid("certificate_unmakeable", "the certificate can't be made").with_source(error)
}
