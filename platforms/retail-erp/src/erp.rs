//! The ERP, or a part of it, in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::{Claims, Config, Env, Error, Platform, Result, Running, Secret, Signer, Verifier};

use crate::swishpay::{self, Swishpay};
use crate::{gateway, notification, payment};

/// Where the checked-in schemas of the events are, as far as the ERP runs where it was built.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
/// Who issues the tokens.
const ISSUER: &str = "retail-erp";
/// Where the payment gateway's sandbox listens if nobody says otherwise.
const SANDBOX: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9911);

/// How the ERP runs. What is given here counts more than the configuration file.
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
    /// Where the payment gateway is; a sandbox of the ERP's own if neither this nor the configuration says.
    pub swishpay: Option<String>,
    /// Where that sandbox listens: `127.0.0.1:9911`.
    pub sandbox: Option<SocketAddr>,
    /// What runs in this process; what the configuration says, if empty.
    pub run: Vec<String>,
}

/// The ERP, running.
#[derive(Debug)]
pub struct Erp {
    running: Running,
    sandbox: Option<Swishpay>,
    data: PathBuf,
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
        config.data = self.data.clone().unwrap_or(config.data);
        config.gateway.address = self.gateway.unwrap_or(config.gateway.address);
        config.admin.address = self.admin.unwrap_or(config.admin.address);
        if !self.run.is_empty() {
            config.run.clone_from(&self.run);
        }
        let mail = config.data.join("mail").display().to_string();
        let section = config
            .service
            .entry(notification::NAME.to_owned())
            .or_default();
        section.entry("folder").or_insert(mail.into());
        if let Some(url) = &self.swishpay {
            charged_at(&mut config, url)?;
        }
        Ok(config)
    }
}

impl Erp {
    /// Starts it; it takes requests when this returns.
    ///
    /// # Errors
    /// What could not be started and what was expected: the configuration, the data folder, an address.
    pub async fn start(settings: &Settings) -> Result<Self> {
        Self::start_platform(settings, settings.load()?, |platform| platform).await
    }

    /// Starts it with something more in its platform.
    ///
    /// # Errors
    /// As [`Erp::start`].
    pub async fn start_platform(
        settings: &Settings,
        mut config: Config,
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Result<Self> {
        let secret = secret(&config.data, &Env::system())?;
        let verifier = Verifier::hs256(&secret, Env::system()).issuer(ISSUER);
        let data = config.data.clone();
        let mut sandbox = None;
        if config.runs(payment::NAME) && !config.external.contains_key(swishpay::NAME) {
            let listen = settings.sandbox.unwrap_or(SANDBOX);
            let started = Swishpay::start(&data.join("swishpay"), listen).await?;
            charged_at(&mut config, &started.url())?;
            sandbox = Some(started);
        }
        let mut platform = crate::platform(&config).gateway(gateway::config(), Some(verifier));
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

    /// What runs.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The gateway's URL; empty where it does not run.
    pub fn gateway_url(&self) -> String {
        let address = self.running.gateway_address();
        address.map_or_else(String::new, |at| format!("http://{at}"))
    }

    /// The admin API's URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.running.admin_address())
    }

    /// The URL of the payment gateway's sandbox, where it is the ERP's own.
    pub fn sandbox_url(&self) -> Option<String> {
        self.sandbox.as_ref().map(Swishpay::url)
    }

    /// The folder for everything that is kept.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Ends it in order.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
        if let Some(sandbox) = self.sandbox {
            sandbox.shutdown().await;
        }
    }
}

/// A token of a user in some roles, for the ERP whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`Secret::load_or_create`].
pub fn token(data: &Path, user: &str, roles: &[&str], lifetime: Duration) -> Result<String> {
    let env = Env::system();
    let signer = Signer::hs256(&secret(data, &env)?);
    let claims = Claims::new(user, lifetime, &env).issued_by(ISSUER);
    signer.sign(
        &roles
            .iter()
            .fold(claims, |claims, role| claims.with_role(*role)),
    )
}

/// The key of the ERP's tokens, made with the data folder at the first start.
fn secret(data: &Path, env: &Env) -> Result<Secret> {
    Secret::load_or_create(&data.join("token.secret"), env).map_err(|error| {
        let text = "the data folder can't be used; choose another with --data";
        Error::unavailable("data_unusable", text)
            .with("folder", data.display())
            .with_source(error)
    })
}

fn charged_at(config: &mut Config, url: &str) -> Result<()> {
    let address = toml::Table::from_iter([("url".to_owned(), url.into())]);
    let address = address.try_into().map_err(|error: toml::de::Error| {
        Error::internal("an address is a URL").with_source(error)
    })?;
    config.external.insert(swishpay::NAME.to_owned(), address);
    Ok(())
}
