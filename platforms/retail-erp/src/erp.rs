//! The ERP, or a part of it, in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::{Config, Env, Platform, Result, Running, Verifier, token_secret, user_token};

use crate::swishpay::{self, Swishpay};
use crate::{Options, gateway, notification, payment};

/// Where the checked-in schemas of the events are, as far as the ERP runs where it was built.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
/// Who issues the tokens.
pub(crate) const ISSUER: &str = "retail-erp";
/// Where the payment gateway's sandbox listens if nobody says otherwise.
const SANDBOX: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9911);

/// The ERP, running.
#[derive(Debug)]
pub struct Erp {
    pub(crate) running: Running,
    pub(crate) sandbox: Option<Swishpay>,
    data: PathBuf,
}

impl Erp {
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
        let mail = data.join("mail").display().to_string();
        config.default_for(notification::NAME, "folder", mail);
        if let Some(url) = &options.swishpay {
            config.place_external(swishpay::NAME, url);
        }
        let mut sandbox = None;
        if config.runs(payment::NAME) && !config.external.contains_key(swishpay::NAME) {
            let listen = options.sandbox.unwrap_or(SANDBOX);
            let started = Swishpay::start(&data.join("swishpay"), listen).await?;
            config.place_external(swishpay::NAME, &started.url());
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

    /// The URL of the payment gateway's sandbox, where it is the ERP's own.
    pub fn sandbox_url(&self) -> Option<String> {
        self.sandbox.as_ref().map(Swishpay::url)
    }

    /// The folder for everything that is kept.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// A token of a user in some roles, for the ERP whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`token_secret`].
pub fn token(data: &Path, user: &str, roles: &[&str], lifetime: Duration) -> Result<String> {
    user_token(data, ISSUER, (user, roles), lifetime)
}
