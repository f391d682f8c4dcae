//! The store in one process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use trunkline::{Config, Env, Error, Platform, Result, Running, Signer, Verifier, token_secret};

use crate::sandbox::{self, Sandbox};
use crate::{Options, auth, demo, gateway, notification, payment};

/// Where the checked-in schemas of the events are, as far as the store runs where it was built.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");

/// The store, running.
#[derive(Debug)]
pub struct Store {
    pub(crate) running: Running,
    pub(crate) sandbox: Option<Sandbox>,
    signer: Signer,
    env: Env,
    data: PathBuf,
    provider_url: String,
}

impl Store {
    /// Starts the store with something more in its platform; it takes requests when this returns.
    ///
    /// # Errors
    /// What could not be started and what was expected: the configuration, the data folder, an address.
    pub async fn start_platform(
        options: Options,
        mut config: Config,
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Result<Self> {
        let env = Env::system();
        let secret = token_secret(&config.data, &env)?;
        let signer = Signer::hs256(&secret);
        let verifier = Verifier::hs256(&secret, env.clone()).issuer(auth::ISSUER);
        let (provider_url, listener) = provider(&options, &mut config).await?;
        let data = config.data.clone();
        let mail = data.join("mail").display().to_string();
        config.default_for(notification::NAME, "folder", mail);
        let mut platform =
            crate::platform(&signer, &env)?.gateway(gateway::config(), Some(verifier));
        if Path::new(SCHEMAS).is_dir() {
            platform = platform.schemas(SCHEMAS);
        }
        let running = extend(platform).start(config).await?;
        let sandbox = match listener {
            None => None,
            Some(listener) => {
                let sandbox = sandbox::Options {
                    ledger: Some(data.join("sandbox.jsonl")),
                    late: options.sandbox_late.unwrap_or(sandbox::LATE),
                };
                match Sandbox::start(listener, sandbox, env.clone()) {
                    Ok(sandbox) => Some(sandbox),
                    Err(error) => {
                        running.shutdown().await;
                        return Err(error);
                    }
                }
            }
        };
        Ok(Self {
            running,
            sandbox,
            signer,
            env,
            data,
            provider_url,
        })
    }

    /// The payment provider's URL.
    pub fn provider_url(&self) -> &str {
        &self.provider_url
    }

    /// The folder for everything that is kept.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A token of this user in these roles, good for so long.
    ///
    /// # Errors
    /// Those of [`Signer::sign`].
    pub fn token(&self, username: &str, roles: &[String], lifetime: Duration) -> Result<String> {
        self.signer
            .sign(&demo::claims(username, roles, lifetime, &self.env))
    }
}

/// A token of the store whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`token_secret`].
pub fn token(data: &Path, username: &str, roles: &[String], lifetime: Duration) -> Result<String> {
    let env = Env::system();
    let secret = token_secret(data, &env)?;
    Signer::hs256(&secret).sign(&demo::claims(username, roles, lifetime, &env))
}

/// Where the payment provider is; and if it is the store's own sandbox, the listener for it.
async fn provider(options: &Options, config: &mut Config) -> Result<(String, Option<TcpListener>)> {
    if let Some(url) = &options.provider {
        config.place_external(payment::PROVIDER, url);
        return Ok((url.clone(), None));
    }
    if let Some(external) = config.external.get(payment::PROVIDER) {
        return Ok((external.url.clone(), None));
    }
    if !config.runs(payment::NAME) {
        return Ok((String::new(), None));
    }
    let wanted = options.sandbox.unwrap_or(sandbox::ADDRESS);
    let listener = sandbox::listen(wanted).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::internal("a listener has an address").with_source(error))?;
    let url = format!("http://{address}");
    config.place_external(payment::PROVIDER, &url);
    Ok((url, Some(listener)))
}
