//! The store in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use trunkline::{Config, Env, Error, Platform, Result, Running, Secret, Signer, Verifier};

use crate::sandbox::{self, Sandbox};
use crate::{auth, demo, gateway, notification, payment};

/// Where the checked-in schemas of the events are, as far as the store runs where it was built.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");

/// How the store runs. What is given here counts more than the configuration file.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The folder for everything that is kept.
    pub data: Option<PathBuf>,
    /// Where the gateway listens.
    pub gateway: Option<SocketAddr>,
    /// Where the admin API listens.
    pub admin: Option<SocketAddr>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Where the payment provider is; a sandbox of the store's own if not given.
    pub provider: Option<String>,
    /// Where that sandbox listens: `127.0.0.1:9910`.
    pub sandbox: Option<SocketAddr>,
    /// How late its late answers are: 8 s.
    pub sandbox_late: Option<Duration>,
    /// What runs in this process; what the configuration says, if empty.
    pub run: Vec<String>,
}

/// The store, running.
#[derive(Debug)]
pub struct Store {
    running: Running,
    sandbox: Option<Sandbox>,
    signer: Signer,
    env: Env,
    data: PathBuf,
    provider_url: String,
}

impl Settings {
    /// The configuration: the file, the environment, and these settings over both.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn load(&self) -> Result<Config> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut config = Config::load(self.config.as_deref(), environment)?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        config.gateway.address = self.gateway.unwrap_or(config.gateway.address);
        config.admin.address = self.admin.unwrap_or(config.admin.address);
        if !self.run.is_empty() {
            config.run.clone_from(&self.run);
        }
        let mail = config
            .service
            .entry(notification::NAME.to_owned())
            .or_default();
        mail.entry("folder")
            .or_insert(config.data.join("mail").display().to_string().into());
        Ok(config)
    }
}

impl Store {
    /// Starts the store; it takes requests when this returns.
    ///
    /// # Errors
    /// What could not be started and what was expected: the configuration, the data folder, an address.
    pub async fn start(settings: Settings) -> Result<Self> {
        let config = settings.load()?;
        Self::start_platform(settings, config, |platform| platform).await
    }

    /// Starts the store with something more in its platform.
    ///
    /// # Errors
    /// As [`Store::start`].
    pub async fn start_platform(
        settings: Settings,
        mut config: Config,
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Result<Self> {
        let env = Env::system();
        let secret = secret(&config.data, &env)?;
        let signer = Signer::hs256(&secret);
        let verifier = Verifier::hs256(&secret, env.clone()).issuer(auth::ISSUER);
        let (provider_url, listener) = provider(&settings, &mut config).await?;
        let data = config.data.clone();
        let mut platform =
            crate::platform(&signer, &env)?.gateway(gateway::config(), Some(verifier));
        if Path::new(SCHEMAS).is_dir() {
            platform = platform.schemas(SCHEMAS);
        }
        let running = extend(platform).start(config).await?;
        let sandbox = match listener {
            None => None,
            Some(listener) => {
                let options = sandbox::Options {
                    ledger: Some(data.join("sandbox.jsonl")),
                    late: settings.sandbox_late.unwrap_or(sandbox::LATE),
                };
                match Sandbox::start(listener, options, env.clone()) {
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

    /// What runs.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The gateway's URL.
    pub fn gateway_url(&self) -> String {
        self.running
            .gateway_address()
            .map_or_else(String::new, |at| format!("http://{at}"))
    }

    /// The admin API's URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.running.admin_address())
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

    /// Ends it in order.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
        drop(self.sandbox);
    }
}

/// A token of the store whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`Secret::load_or_create`].
pub fn token(data: &Path, username: &str, roles: &[String], lifetime: Duration) -> Result<String> {
    let env = Env::system();
    let secret = secret(data, &env)?;
    Signer::hs256(&secret).sign(&demo::claims(username, roles, lifetime, &env))
}

/// The key of the store's tokens, made with the data folder at the first start.
fn secret(data: &Path, env: &Env) -> Result<Secret> {
    Secret::load_or_create(&data.join("token.secret"), env).map_err(|error| {
        let text = "the data folder can't be used; choose another with --data";
        Error::unavailable("data_unusable", text)
            .with("folder", data.display())
            .with_source(error)
    })
}

/// Where the payment provider is; and if it is the store's own sandbox, the listener for it.
async fn provider(
    settings: &Settings,
    config: &mut Config,
) -> Result<(String, Option<TcpListener>)> {
    if let Some(url) = &settings.provider {
        provider_at(config, url)?;
        return Ok((url.clone(), None));
    }
    if let Some(external) = config.external.get(payment::PROVIDER) {
        return Ok((external.url.clone(), None));
    }
    if !config.runs(payment::NAME) {
        return Ok((String::new(), None));
    }
    let wanted = settings.sandbox.unwrap_or(sandbox::ADDRESS);
    let listener = sandbox::listen(wanted).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::internal("a listener has an address").with_source(error))?;
    let url = format!("http://{address}");
    provider_at(config, &url)?;
    Ok((url, Some(listener)))
}

fn provider_at(config: &mut Config, url: &str) -> Result<()> {
    let mut address = toml::Table::new();
    address.insert("url".to_owned(), url.into());
    let address = address.try_into().map_err(|error: toml::de::Error| {
        Error::internal("an address is a URL").with_source(error)
    })?;
    config
        .external
        .insert(payment::PROVIDER.to_owned(), address);
    Ok(())
}
