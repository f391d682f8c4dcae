//! Passwords, hashed with Argon2id.
//!
//! # Source
//! Cost after the OWASP password storage cheat sheet: 19 MiB, two passes, one lane.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use trunkline_core::{Env, Error, Result};

/// How many characters a password has that is worth hashing.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=200;

/// Passwords that are hashed at once: each takes 19 MiB and a core.
static HASHING: Semaphore = Semaphore::const_new(2);

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// Hashes a password with a new salt, as text in the PHC string format, which names algorithm and cost.
///
/// # Errors
/// `Internal` when the machine can't do it.
pub async fn hash(password: String, env: &Env) -> Result<String> {
    let salt = SaltString::encode_b64(&env.random_u128().to_be_bytes()).map_err(unhashable)?;
    off_the_runtime(move || {
        argon2()
            .hash_password(password.as_bytes(), &salt)
            .map(|hash| hash.to_string())
            .map_err(unhashable)
    })
    .await
}

/// Whether the password is the one of this hash. Takes as long for no account (`None`) as for a wrong password.
///
/// # Errors
/// `Internal` for a text that is no hash.
pub async fn verify(password: String, hash: Option<String>) -> Result<bool> {
    off_the_runtime(move || {
        let Some(hash) = hash else {
            let nobody = SaltString::encode_b64(&[0; 16]).map_err(unhashable)?;
            argon2()
                .hash_password(password.as_bytes(), &nobody)
                .map_err(unhashable)?;
            return Ok(false);
        };
        let hash = PasswordHash::new(&hash).map_err(unhashable)?;
        Ok(argon2().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let _permit = HASHING
        .acquire()
        .await
        .expect("the semaphore is never closed");
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("hashing a password failed").with_source(error))?
}

fn unhashable(error: argon2::password_hash::Error) -> Error {
    Error::internal("a password can't be hashed").with("why", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_password_fits_its_hash() {
        let env = Env::system();
        let one = hash("correct horse".into(), &env).await.unwrap();
        let two = hash("correct horse".into(), &env).await.unwrap();
        assert_ne!(one, two, "each hash has its own salt");
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(
            verify("correct horse".into(), Some(one.clone()))
                .await
                .unwrap()
        );
        assert!(!verify("wrong horse".into(), Some(one)).await.unwrap());
        assert!(!verify("correct horse".into(), None).await.unwrap());
    }
}
