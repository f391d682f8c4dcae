//! Tokens by which services prove who they are.

mod keys;
mod remote;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use trunkline_core::{ByteString, Env, Result, Timestamp};

use crate::permissions::{Denied, EVERY_OPERATION, allows};
use crate::{Permissions, claims};

pub use keys::{TokenKeys, TokenKeysPolicy};
pub use remote::{KeyPublisher, Opened, Published, RemoteKeys, RemoteKeysPolicy};

/// The header that carries a service's token, so that `authorization` stays the user's.
pub const SERVICE_TOKEN: &str = "x-trunkline-service-token";
/// The `typ` of a service's token (RFC 8725, 3.11): no user's token is taken for one, nor the other way round.
pub(crate) const TOKEN_TYPE: &str = "trunkline-service+jwt";
/// A verifier takes no token that is valid for longer.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// A token is replaced when so much of its life is left: a fifth.
const RENEW_AT: u32 = 5;
/// A token names so many operations at most; a service that is allowed more of one target is allowed all of it.
const OPERATIONS_MAX: usize = 64;

/// What a service's token says.
///
/// # Shape
/// RFC 7519: times are whole seconds since 1970; `permissions` are operations as in [`Permissions`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceClaims {
    /// Who made it: the process or the platform whose keys sign.
    pub iss: ByteString,
    /// The service that calls.
    pub sub: ByteString,
    /// The service that is called.
    pub aud: ByteString,
    /// When it ceases to be valid.
    pub exp: i64,
    /// When it begins to be valid.
    pub nbf: i64,
    /// When it was made.
    pub iat: i64,
    /// Its own id.
    pub jti: ByteString,
    /// What the caller may use of the target.
    pub permissions: Vec<ByteString>,
}

impl ServiceClaims {
    /// Whether the token allows an operation.
    pub fn allows(&self, operation: &str) -> bool {
        allows(&self.permissions, operation)
    }

    pub(crate) fn check_names(&self) -> Result<()> {
        for name in [&self.iss, &self.sub, &self.aud, &self.jti] {
            claims::check_name(name)?;
        }
        Ok(())
    }
}

/// Makes the tokens with which one service calls others. Cheap to clone.
///
/// # Guarantees
/// A token is for one target and says what the topology lets this service use there; for a target that is not
/// declared there is none. It is made once and used until a fifth of its life is left; there are as many as declared
/// targets.
#[derive(Clone)]
pub struct ServiceTokens(Arc<Inner>);

struct Inner {
    issuer: ByteString,
    service: ByteString,
    keys: TokenKeys,
    permissions: Permissions,
    lifetime: Duration,
    env: Env,
    made: Mutex<BTreeMap<ByteString, Made>>,
}

struct Made {
    token: ByteString,
    renew_at: Timestamp,
    /// The key that signed it: when another signs, it is made anew.
    begins: i64,
}

impl ServiceTokens {
    /// The default lifetime: 5 minutes.
    pub const LIFETIME: Duration = Duration::from_secs(300);

    /// Makes tokens of `service`, signed with the newest of `keys`; `issuer` says whose keys they are.
    pub fn new(
        issuer: impl Into<ByteString>,
        service: impl Into<ByteString>,
        keys: TokenKeys,
        permissions: Permissions,
    ) -> Self {
        let env = keys.env().clone();
        Self(Arc::new(Inner {
            issuer: issuer.into(),
            service: service.into(),
            keys,
            permissions,
            lifetime: Self::LIFETIME,
            env,
            made: Mutex::default(),
        }))
    }

    /// The token for a call of `target`: kept until it has to be renewed.
    ///
    /// # Errors
    /// `PermissionDenied` where the target is not declared; what [`TokenKeys`] says.
    pub fn token(&self, target: &str) -> Result<ByteString> {
        let now = self.0.env.now();
        let begins = self.0.keys.signs_since(now)?;
        if let Some(made) = self.0.made.lock().get(target)
            && made.renew_at > now
            && made.begins == begins
        {
            return Ok(made.token.clone());
        }
        let token = self.once(target)?;
        let life = self.0.lifetime;
        let made = Made {
            token: token.clone(),
            renew_at: self.0.env.after(life - life / RENEW_AT),
            begins,
        };
        self.0.made.lock().insert(target.into(), made);
        Ok(token)
    }

    /// A token for one call: for operations that take each token once.
    ///
    /// # Errors
    /// As [`ServiceTokens::token`].
    pub fn once(&self, target: &str) -> Result<ByteString> {
        let inner = &*self.0;
        let operations = inner.permissions.operations(&inner.service, target);
        let operations = operations.ok_or_else(|| Denied {
            caller: inner.service.clone(),
            target: target.into(),
            operation: ByteString::from_static(EVERY_OPERATION),
            others_declared: false,
        })?;
        let permissions = if operations.len() > OPERATIONS_MAX {
            vec![ByteString::from_static(EVERY_OPERATION)]
        } else {
            operations.iter().cloned().collect()
        };
        let now = inner.env.now();
        let claims = ServiceClaims {
            iss: inner.issuer.clone(),
            sub: inner.service.clone(),
            aud: target.into(),
            exp: inner.env.after(inner.lifetime).as_second(),
            nbf: now.as_second(),
            iat: now.as_second(),
            jti: inner.env.id().to_string().into(),
            permissions,
        };
        claims.check_names()?;
        let signer = inner.keys.signer(now)?;
        Ok(signer.sign_typed(TOKEN_TYPE, &claims)?.into())
    }
}

impl fmt::Debug for ServiceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTokens")
            .field("service", &self.0.service)
            .finish_non_exhaustive()
    }
}
