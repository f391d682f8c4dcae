//! The door of a service: who calls, and may they?

mod replay;
mod verified;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use trunkline_core::{ByteString, Env, Error, ErrorKind, Result, report};

use crate::error::{expired, forged, malformed};
use crate::keys::{self, KeySet};
use crate::tokens::{LIFETIME_MAX, TOKEN_TYPE};
use crate::verifier::LEEWAY_SECONDS;
use crate::{Audit, AuditEntry, AuditOutcome, Permissions, RemoteKeys, ServiceClaims, TokenKeys};

use replay::Seen;
use verified::Verified;

/// The most issuers that one service trusts.
const ISSUERS_MAX: usize = 256;

/// Checks the tokens of those who call one service, and what they may. Cheap to clone.
///
/// # Guarantees
/// A call passes only with a token that a trusted issuer made for this service, now, that allows the operation, and,
/// where the topology is known here, if it does too. With mTLS the certificate's name and the token's subject are
/// one. Each refusal is in the audit log with its whole reason; the caller learns a code.
///
/// A token that passed is believed again for up to a minute while it is valid, without its signature being checked anew.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    service: ByteString,
    issuers: Vec<Issuer>,
    permissions: Option<Permissions>,
    needs_certificate: bool,
    audit: Audit,
    env: Env,
    seen: Seen,
    verified: Verified,
}

struct Issuer {
    name: ByteString,
    keys: Keys,
    /// For whom it may speak; nothing means anybody.
    subjects: Option<BTreeSet<ByteString>>,
}

enum Keys {
    Ours(TokenKeys),
    Published(RemoteKeys),
}

/// What a caller shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// The value of [`crate::SERVICE_TOKEN`].
    pub token: Option<&'a [u8]>,
    /// The service that the caller's certificate names, where there is one.
    pub certificate: Option<&'a str>,
    /// What it asks for, as [`Permissions`] names it.
    pub operation: &'a str,
    /// Whether a token is good for one call of this operation only.
    pub once: bool,
    /// The flow that the call belongs to.
    pub correlation_id: Option<&'a str>,
}

impl Guard {
    /// A guard of `service` that trusts nobody yet. It is set up before it is cloned; later is a defect, and panics.
    pub fn new(service: impl Into<ByteString>, audit: Audit) -> Self {
        let env = audit.env().clone();
        Self(Arc::new(Inner {
            service: service.into(),
            issuers: Vec::new(),
            permissions: None,
            needs_certificate: false,
            seen: Seen::default(),
            verified: Verified::default(),
            audit,
            env,
        }))
    }

    /// Trusts tokens that `issuer` signed with these keys of ours.
    ///
    /// # Errors
    /// `InvalidInput` for an issuer that is trusted already, or more than 256 of them.
    pub fn trust(self, issuer: impl Into<ByteString>, keys: TokenKeys) -> Result<Self> {
        self.add(issuer.into(), Keys::Ours(keys), None)
    }

    /// Trusts tokens that `issuer` signed with keys that it publishes, for calls of `subjects` and of nobody else.
    ///
    /// # Errors
    /// As [`Guard::trust`].
    pub fn trust_published(
        self,
        issuer: impl Into<ByteString>,
        keys: RemoteKeys,
        subjects: impl IntoIterator<Item = ByteString>,
    ) -> Result<Self> {
        let subjects = subjects.into_iter().collect();
        self.add(issuer.into(), Keys::Published(keys), Some(subjects))
    }

    /// Holds callers to the topology as it is known here too, and not only to what their tokens say.
    #[must_use]
    pub fn permissions(self, permissions: Permissions) -> Self {
        self.changed(|inner| inner.permissions = Some(permissions))
    }

    /// Lets nobody pass without a certificate.
    #[must_use]
    pub fn needs_certificate(self) -> Self {
        self.changed(|inner| inner.needs_certificate = true)
    }

    fn add(
        self,
        name: ByteString,
        keys: Keys,
        subjects: Option<BTreeSet<ByteString>>,
    ) -> Result<Self> {
        let issuers = &self.0.issuers;
        if issuers.len() >= ISSUERS_MAX || issuers.iter().any(|issuer| issuer.name == name) {
            let text = "expected at most 256 issuers, each with a name of its own";
            return Err(Error::invalid("issuer_invalid", text).with("issuer", name));
        }
        let issuer = Issuer {
            name,
            keys,
            subjects,
        };
        Ok(self.changed(|inner| inner.issuers.push(issuer)))
    }

    fn changed(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        // A clone would go on without the change.
        let inner = Arc::get_mut(&mut self.0).expect("a guard is set up before it is cloned");
        change(inner);
        self
    }

    /// Who calls, if they may.
    ///
    /// # Errors
    /// `Unauthenticated` (`token_missing`, `token_malformed`, `token_expired`, `token_forged`, `token_replayed`,
    /// `certificate_missing`, `certificate_mismatch`), `PermissionDenied` (`call_not_permitted`, with what would have
    /// to be declared), `Unavailable` where the keys can't be had, `Overloaded` where too many single-use tokens are
    /// in use to remember another.
    pub async fn check(&self, shown: Shown<'_>) -> Result<Arc<ServiceClaims>> {
        let mut actor = None;
        let checked = self.checked(shown, &mut actor).await;
        if let Err(error) = &checked {
            self.note(shown, actor.as_deref(), error);
        }
        checked
    }

    /// Whether a service may use an operation that is known by its name alone: because it calls within the process, or
    /// because nothing proves names here. Names that the topology does not speak of are those of the program itself, and
    /// are let in.
    ///
    /// # Errors
    /// `PermissionDenied` (`call_not_permitted`, with what would have to be declared), which is noted as any refusal.
    pub fn check_named(
        &self,
        caller: &str,
        operation: &str,
        correlation_id: Option<&str>,
    ) -> Result<()> {
        let inner = &*self.0;
        let Some(permissions) = &inner.permissions else {
            return Ok(());
        };
        let Err(denied) = permissions.authorize(caller, &inner.service, operation) else {
            return Ok(());
        };
        if !permissions.knows(caller) {
            return Ok(());
        }
        let error = Error::from(denied);
        let shown = Shown {
            operation,
            correlation_id,
            ..Shown::default()
        };
        self.note(shown, Some(caller), &error);
        Err(error)
    }

    async fn checked(
        &self,
        shown: Shown<'_>,
        actor: &mut Option<ByteString>,
    ) -> Result<Arc<ServiceClaims>> {
        let inner = &*self.0;
        if inner.needs_certificate && shown.certificate.is_none() {
            return Err(no_certificate());
        }
        let token = shown.token.ok_or_else(missing)?;
        let token = std::str::from_utf8(token).map_err(|_| malformed())?;
        let claims = self.verify(token).await?;
        *actor = Some(claims.sub.clone());
        if let Some(name) = shown.certificate
            && claims.sub != *name
        {
            return Err(mismatch(name));
        }
        let denied = |others_declared| crate::Denied {
            caller: claims.sub.clone(),
            target: inner.service.clone(),
            operation: shown.operation.into(),
            others_declared,
        };
        if !claims.allows(shown.operation) {
            return Err(denied(true).into());
        }
        if let Some(permissions) = &inner.permissions {
            permissions.authorize(&claims.sub, &inner.service, shown.operation)?;
        }
        if shown.once {
            let now = inner.env.now().as_second();
            let until = claims.exp.saturating_add(LEEWAY_SECONDS);
            // An id is unique with its issuer.
            inner.seen.first(&claims.iss, &claims.jti, until, now)?;
        }
        Ok(claims)
    }

    async fn verify(&self, token: &str) -> Result<Arc<ServiceClaims>> {
        let now = self.0.env.now();
        if let Some(claims) = self.0.verified.find(token, now) {
            // By the clock of now: it may have ended meanwhile.
            self.check_times(&claims)?;
            return Ok(claims);
        }
        let claims = Arc::new(self.verify_anew(token).await?);
        self.0.verified.note(token, claims.clone(), now);
        Ok(claims)
    }

    async fn verify_anew(&self, token: &str) -> Result<ServiceClaims> {
        let inner = &*self.0;
        let header = keys::header(token)?;
        if header.typ.as_deref() != Some(TOKEN_TYPE) {
            return Err(forged("it is no service's token"));
        }
        // Who says that they made it decides only which keys it is held against.
        let issuer = claimed_issuer(token)?;
        let issuer = inner
            .issuers
            .iter()
            .find(|known| *known.name == *issuer)
            .ok_or_else(|| forged("it was made by somebody who is not trusted"))?;
        let keys: KeySet = match &issuer.keys {
            Keys::Ours(keys) => keys.public(),
            Keys::Published(keys) => keys.for_token(&header).await?,
        };
        let claims: ServiceClaims = keys.open(token, &header)?;
        claims.check_names()?;
        if claims.iss != issuer.name {
            return Err(forged("it was made by somebody else"));
        }
        if claims.aud != inner.service {
            return Err(forged("it was made for another service"));
        }
        if let Some(subjects) = &issuer.subjects
            && !subjects.contains(&claims.sub)
        {
            return Err(forged("its issuer does not speak for its subject"));
        }
        self.check_times(&claims)?;
        Ok(claims)
    }

    fn check_times(&self, claims: &ServiceClaims) -> Result<()> {
        let now = self.0.env.now().as_second();
        let soon = now.saturating_add(LEEWAY_SECONDS);
        if claims.nbf > soon || claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(expired());
        }
        let life_max = i64::try_from(LIFETIME_MAX.as_secs()).unwrap_or(i64::MAX);
        let life = claims.exp.saturating_sub(claims.iat);
        if claims.iat > soon || !(1..=life_max).contains(&life) {
            return Err(forged("it is valid for too long, or made in the future"));
        }
        Ok(())
    }

    fn note(&self, shown: Shown<'_>, actor: Option<&str>, error: &Error) {
        let inner = &*self.0;
        let outcome = match error.kind() {
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => AuditOutcome::Refused,
            _ => AuditOutcome::Failed,
        };
        let actor = actor.or(shown.certificate).unwrap_or("unknown");
        let object = format!("{} {}", inner.service, shown.operation);
        let why = format!("{}: {}", error.code(), report(error));
        let mut entry = AuditEntry::new(actor, "call", object, outcome, &inner.env).because(why);
        if let Some(flow) = shown.correlation_id {
            entry = entry.in_flow(flow);
        }
        inner.audit.record(entry);
    }
}

/// The issuer that a token names, before anything of it is believed.
fn claimed_issuer(token: &str) -> Result<String> {
    use base64::Engine;
    #[derive(serde::Deserialize)]
    struct Claimed {
        iss: String,
    }
    let payload = token.split('.').nth(1).ok_or_else(malformed)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| malformed())?;
    let claimed: Claimed = serde_json::from_slice(&json).map_err(|_| malformed())?;
    Ok(claimed.iss)
}

fn missing() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "token_missing",
        "expected a service's token in x-trunkline-service-token",
    )
}

fn no_certificate() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "certificate_missing",
        "expected a certificate of the platform's",
    )
}

fn mismatch(name: &str) -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "certificate_mismatch",
        "the certificate and the token name two services",
    )
    .with("certificate", name)
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<&str> = self.0.issuers.iter().map(|issuer| &*issuer.name).collect();
        f.debug_struct("Guard")
            .field("service", &self.0.service)
            .field("issuers", &issuers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
