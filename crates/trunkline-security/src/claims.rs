//! What a token says.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use trunkline_core::{ByteString, Env, Error, Result};

use crate::error::{expired, forged, malformed};

/// The longest `sub`, so that it fits wherever a user's id goes.
const SUBJECT_BYTES_MAX: usize = 256;

/// What a token says of its bearer: the registered claims of RFC 7519, a name and roles. Claims of other
/// names are read over.
///
/// # Shape
/// Times are seconds since 1970. `sub` is 1 to 256 visible ASCII characters, because it travels in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claims {
    /// Who the bearer is.
    pub sub: ByteString,
    /// Who made the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<ByteString>,
    /// For whom it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// When it ceases to be valid.
    #[serde(deserialize_with = "seconds")]
    pub exp: i64,
    /// When it begins to be valid.
    #[serde(
        default,
        deserialize_with = "maybe_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<i64>,
    /// When it was made.
    #[serde(default, deserialize_with = "maybe_seconds")]
    pub iat: Option<i64>,
    /// The bearer's name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the bearer may act as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<ByteString>,
}

/// One audience or several, as RFC 7519 allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(ByteString),
    /// Several.
    Many(Vec<ByteString>),
}

impl Audience {
    /// Whether it names this one.
    pub fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => *one == *wanted,
            Self::Many(many) => many.iter().any(|one| *one == *wanted),
        }
    }
}

impl Claims {
    /// The claims of `sub`, valid from now on for `lifetime`.
    pub fn new(sub: impl Into<ByteString>, lifetime: Duration, env: &Env) -> Self {
        Self {
            sub: sub.into(),
            iss: None,
            aud: None,
            exp: env.after(lifetime).as_second(),
            nbf: None,
            iat: Some(env.now().as_second()),
            name: None,
            roles: Vec::new(),
        }
    }

    /// Says who made the token.
    #[must_use]
    pub fn issued_by(self, issuer: impl Into<ByteString>) -> Self {
        Self {
            iss: Some(issuer.into()),
            ..self
        }
    }

    /// Says for whom it was made.
    #[must_use]
    pub fn for_audience(self, audience: impl Into<ByteString>) -> Self {
        Self {
            aud: Some(Audience::One(audience.into())),
            ..self
        }
    }

    /// Gives the bearer a name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<ByteString>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Checks that `sub` can travel in a header.
    ///
    /// # Errors
    /// `token_malformed`.
    pub fn check_subject(&self) -> Result<(), Error> {
        check_name(&self.sub)
    }
}

/// When a token is valid, as far as it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Times {
    /// When it ceases to be valid.
    #[serde(deserialize_with = "maybe_seconds")]
    pub exp: Option<i64>,
    /// When it begins to be valid.
    #[serde(deserialize_with = "maybe_seconds")]
    pub nbf: Option<i64>,
}

impl Times {
    /// Those of claims of any shape.
    ///
    /// # Errors
    /// `token_forged` for times that are no numbers.
    pub fn of(claims: &serde_json::Map<String, serde_json::Value>) -> Result<Self> {
        let time = |name: &str| {
            let time = claims.get(name).cloned().map(serde_json::from_value);
            let time = time
                .transpose()
                .map_err(|_| forged("its times are no numbers"))?;
            Ok::<_, Error>(time.map(NumericDate::seconds))
        };
        Ok(Self {
            exp: time("exp")?,
            nbf: time("nbf")?,
        })
    }

    /// Checks that it is valid now, in seconds since 1970, where clocks may be apart by `leeway`.
    ///
    /// # Errors
    /// `token_expired`.
    pub fn check(&self, now: i64, leeway: Duration) -> Result<()> {
        let leeway = i64::try_from(leeway.as_secs()).unwrap_or(i64::MAX);
        let is_over = |exp: i64| exp.saturating_add(leeway) <= now;
        let is_early = |nbf: i64| nbf > now.saturating_add(leeway);
        if self.exp.is_some_and(is_over) || self.nbf.is_some_and(is_early) {
            return Err(expired());
        }
        Ok(())
    }
}

impl From<&Claims> for Times {
    fn from(claims: &Claims) -> Self {
        Self {
            exp: Some(claims.exp),
            nbf: claims.nbf,
        }
    }
}

/// Checks that a name can travel in a header.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&name.len());
    if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(malformed())
    }
}

/// RFC 7519 allows fractions of seconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

impl NumericDate {
    fn seconds(self) -> i64 {
        match self {
            Self::Whole(seconds) => seconds,
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the cast saturates, and a fraction of a second does not matter"
            )]
            Self::Fraction(seconds) => seconds as i64,
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    NumericDate::deserialize(from).map(NumericDate::seconds)
}

fn maybe_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<NumericDate>::deserialize(from)?.map(NumericDate::seconds))
}
