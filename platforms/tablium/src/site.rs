//! The site, or a part of it, in this process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::{
    Config, Env, Platform, Result, Running, Signer, Verifier, token_secret, user_token,
};

use crate::{auth, gateway};

/// Where the checked-in schemas of the events are, as far as the site runs where it was built.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");

/// The site, running.
#[derive(Debug)]
pub struct Site {
    pub(crate) running: Running,
    data: PathBuf,
}

impl Site {
    /// Starts it with something more in its platform; it takes requests when this returns.
    ///
    /// # Errors
    /// What could not be started and what was expected: the configuration, the data folder, an address.
    pub async fn start_platform(
        config: Config,
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Result<Self> {
        let env = Env::system();
        let secret = token_secret(&config.data, &env)?;
        let verifier = Verifier::hs256(&secret, env).issuer(auth::ISSUER);
        let data = config.data.clone();
        let mut platform = crate::platform(Signer::hs256(&secret), verifier.clone())
            .gateway(gateway::config(), Some(verifier));
        if Path::new(SCHEMAS).is_dir() {
            platform = platform.schemas(SCHEMAS);
        }
        let running = Box::pin(extend(platform).start(config)).await?;
        Ok(Self { running, data })
    }

    /// The folder for everything that is kept.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// A token of a user in some roles, for the site whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`token_secret`].
pub fn token(data: &Path, user: &str, roles: &[&str], lifetime: Duration) -> Result<String> {
    user_token(data, auth::ISSUER, (user, roles), lifetime)
}
