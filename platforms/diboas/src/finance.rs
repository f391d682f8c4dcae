//! The platform, or a part of it, in this process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::{
    Config, Env, KeyringConfig, Platform, Result, Running, Secret, Verifier, token_secret,
    user_token,
};

use crate::chains::{Chains, PROVIDERS};
use crate::{Options, gateway, provider};

/// Where the checked-in schemas of the events are, as far as the platform runs where it was built.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
/// Who issues the tokens.
pub(crate) const ISSUER: &str = "diboas";
/// Where the chains' sandbox listens if nobody says otherwise.
const SANDBOX: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9912);

/// The name of the key that a platform makes for itself.
const LOCAL_KEY: &str = "local";

/// The platform, running.
#[derive(Debug)]
pub struct Finance {
    pub(crate) running: Running,
    pub(crate) sandbox: Option<Chains>,
    data: PathBuf,
}

impl Finance {
    /// Starts it with something more in its platform; it takes requests when this returns.
    ///
    /// # Errors
    /// What could not be started and what was expected: the configuration, the data folder, an address.
    pub async fn start_platform(
        options: Options,
        mut config: Config,
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Result<Self> {
        let secret = token_secret(&config.data, &Env::system())?;
        let verifier = Verifier::hs256(&secret, Env::system()).issuer(ISSUER);
        let data = config.data.clone();
        with_keys(&mut config)?;
        if let Some(url) = &options.chains {
            place(&mut config, url);
        }
        let mut sandbox = None;
        if config.runs(provider::NAME) && config.external.is_empty() {
            let listen = options.sandbox.unwrap_or(SANDBOX);
            let started = Chains::start(&data.join("chains"), listen).await?;
            place(&mut config, &started.url());
            sandbox = Some(started);
        }
        let mut platform = crate::platform().gateway(gateway::config(), Some(verifier));
        if Path::new(SCHEMAS).is_dir() {
            platform = platform.schemas(SCHEMAS);
        }
        match Box::pin(extend(platform).start(config)).await {
            Ok(running) => Ok(Self {
                running,
                sandbox,
                data,
            }),
            Err(error) => {
                if let Some(sandbox) = sandbox {
                    sandbox.shutdown().await;
                }
                Err(error)
            }
        }
    }

    /// The URL of the chains' sandbox, where it is the platform's own.
    pub fn sandbox_url(&self) -> Option<String> {
        self.sandbox.as_ref().map(Chains::url)
    }

    /// The folder for everything that is kept.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// All providers are at this address.
fn place(config: &mut Config, url: &str) {
    for provider in PROVIDERS {
        config.place_external(provider, url);
    }
}

/// Without `[keys]` events of which nobody else may read are encrypted with a key of the data folder.
fn with_keys(config: &mut Config) -> Result<()> {
    if config.keys.is_none() {
        let path = config.data.join("events.key");
        Secret::load_or_create(&path, &Env::system())?;
        let keys = BTreeMap::from([(LOCAL_KEY.to_owned(), format!("file:{}", path.display()))]);
        config.keys = Some(KeyringConfig::new(LOCAL_KEY, keys));
    }
    Ok(())
}

/// A token of a user in some roles, for the platform whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`token_secret`].
pub fn token(data: &Path, user: &str, roles: &[&str], lifetime: Duration) -> Result<String> {
    user_token(data, ISSUER, (user, roles), lifetime)
}
