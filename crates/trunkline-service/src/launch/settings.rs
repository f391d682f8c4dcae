//! What a command line, or a test, says over the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use trunkline_core::Result;

use crate::Config;

/// How a platform runs. What is given here counts more than the configuration file and the environment.
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
    /// What runs in this process; what the configuration says, if empty.
    pub run: Vec<String>,
    /// Whether it takes over from the processes that run the same now.
    pub take_over: bool,
}

impl Settings {
    /// A port of this machine that the system chooses.
    pub const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Everything in this folder and listening [anywhere](Self::ANYWHERE): for tests and examples.
    pub fn on_free_ports(data: impl Into<PathBuf>) -> Self {
        Self {
            data: Some(data.into()),
            gateway: Some(Self::ANYWHERE),
            admin: Some(Self::ANYWHERE),
            ..Self::default()
        }
    }

    /// The configuration: the file, the environment, and these settings over both.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn load(self) -> Result<Config> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut config = Config::load(self.config.as_deref(), environment)?;
        config.data = self.data.unwrap_or(config.data);
        config.gateway.address = self.gateway.unwrap_or(config.gateway.address);
        config.admin.address = self.admin.unwrap_or(config.admin.address);
        if !self.run.is_empty() {
            config.run = self.run;
        }
        config.take_over |= self.take_over;
        Ok(config)
    }
}
