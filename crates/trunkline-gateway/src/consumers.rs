//! Who may use the gateway, found by what they show.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use trunkline_core::{ByteString, Env};
use trunkline_security::{Secret, Verifier};

use crate::config::{Consumer, JwtSecret};

/// The consumers of a configuration. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consumers(Arc<Index>);

#[derive(Debug, Default)]
struct Index {
    by_name: HashMap<String, Arc<Member>>,
    /// By digest, so that how long a look-up takes tells nothing of a key.
    by_key: HashMap<[u8; 32], Arc<Member>>,
    by_issuer: HashMap<String, (Verifier, Arc<Member>)>,
}

/// A consumer, as plugins see them.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The consumer's name.
    pub username: ByteString,
    /// What others know them by.
    pub custom_id: Option<ByteString>,
    /// The groups that they are in.
    pub groups: Vec<ByteString>,
}

impl Consumers {
    /// Finds them by their names, keys and issuers. Tells each mistake with its place.
    pub(crate) fn of(list: &[Consumer], env: &Env, mut wrong: impl FnMut(String, String)) -> Self {
        let mut index = Index::default();
        let mut custom_ids = HashSet::new();
        for (at, consumer) in list.iter().enumerate() {
            let at = match &*consumer.at {
                "" => format!("consumers[{at}]"),
                at => at.to_owned(),
            };
            let member = Arc::new(Member {
                username: ByteString::from(&*consumer.username),
                custom_id: consumer.custom_id.as_deref().map(ByteString::from),
                groups: consumer
                    .groups
                    .iter()
                    .map(|group| ByteString::from(&**group))
                    .collect(),
            });
            let name = consumer.username.clone();
            if index.by_name.insert(name.clone(), member.clone()).is_some() {
                wrong(
                    at.clone(),
                    format!("expected a name of its own, found a second `{name}`"),
                );
            }
            if let Some(id) = &consumer.custom_id
                && !custom_ids.insert(id)
            {
                wrong(
                    format!("{at}.custom_id"),
                    format!("expected an id of its own, found a second `{id}`"),
                );
            }
            for key in &consumer.keyauth_credentials {
                if index
                    .by_key
                    .insert(digest(&key.key), member.clone())
                    .is_some()
                {
                    wrong(
                        key.at.to_string(),
                        "expected a key of its own, found one of somebody else".to_owned(),
                    );
                }
            }
            for secret in &consumer.jwt_secrets {
                match verifier(secret, env) {
                    Err((inside, why)) => wrong(format!("{}.{inside}", secret.at), why),
                    Ok(verifier) => {
                        let pair = (verifier, member.clone());
                        if index.by_issuer.insert(secret.key.clone(), pair).is_some() {
                            let key = &secret.key;
                            wrong(
                                format!("{}.key", secret.at),
                                format!("expected a key of its own, found a second `{key}`"),
                            );
                        }
                    }
                }
            }
        }
        Self(Arc::new(index))
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Member>> {
        self.0.by_name.get(name)
    }

    /// Whose key it is, and a name for the key that does not give it away.
    pub(crate) fn with_key(&self, key: &str) -> Option<(&Arc<Member>, ByteString)> {
        let digest = digest(key);
        let member = self.0.by_key.get(&digest)?;
        let name: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some((member, name.into()))
    }

    /// Whose tokens name this issuer, and what verifies them.
    pub(crate) fn with_issuer(&self, issuer: &str) -> Option<(&Verifier, &Arc<Member>)> {
        let (verifier, member) = self.0.by_issuer.get(issuer)?;
        Some((verifier, member))
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.by_name.is_empty()
    }

    pub(crate) fn have_tokens(&self) -> bool {
        !self.0.by_issuer.is_empty()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// What verifies the tokens of a credential, or where it is wrong and what was expected.
fn verifier(secret: &JwtSecret, env: &Env) -> Result<Verifier, (&'static str, String)> {
    let pem = || {
        let missing = ("rsa_public_key", "expected a public key in PEM".to_owned());
        secret.rsa_public_key.as_deref().ok_or(missing)
    };
    let made = match &*secret.algorithm {
        "HS256" => {
            let missing = ("secret", "expected a secret".to_owned());
            let secret = secret.secret.as_deref().ok_or(missing)?;
            let secret = Secret::new(secret).map_err(|error| {
                let why = format!("{} (RFC 7518, 3.2)", error.message());
                ("secret", why)
            })?;
            return Ok(Verifier::hs256(&secret, env.clone()));
        }
        "RS256" => Verifier::rs256_pem(pem()?, env.clone()),
        "ES256" => Verifier::es256_pem(pem()?, env.clone()),
        "EdDSA" => Verifier::eddsa_pem(pem()?, env.clone()),
        other => {
            let why = format!("expected HS256, RS256, ES256 or EdDSA, found `{other}`");
            return Err(("algorithm", why));
        }
    };
    made.map_err(|error| ("rsa_public_key", error.message().to_owned()))
}
