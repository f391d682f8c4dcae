//! What the platform's program has beside what every platform's has.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use trunkline::{Config, Platform, Program, Result, Running, Token, print, stop_requested};

use crate::chains::Chains;
use crate::finance::ISSUER;
use crate::{Finance, welcome};

/// The platform's own options.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// The providers of the chains; without them the platform runs a sandbox of its own
    #[arg(long, value_name = "URL", conflicts_with = "sandbox")]
    pub chains: Option<String>,
    /// Where that sandbox listens [default: 127.0.0.1:9912]
    #[arg(long, value_name = "IP:PORT")]
    pub sandbox: Option<SocketAddr>,
}

/// The platform's own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a token for a user
    Token(Token),
    /// Run the sandbox of the chains alone
    Sandbox {
        /// Where it listens
        #[arg(long, default_value = "127.0.0.1:9912")]
        listen: SocketAddr,
        /// The folder of its ledger
        #[arg(long, default_value = "data/chains")]
        data: PathBuf,
    },
}

impl Program for Finance {
    const NAME: &'static str = "diboas";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str =
        "A finance platform of four services in one process, on nothing but this binary";
    const HELP: &'static str = "\
A configuration file is TOML; docs/guides/configuration.md lists every value. For example:
  store = \"postgres://diboas@localhost/diboas?schema={service}\"   instead of SQLite, a schema for each service
  [service.compliance-service]
  units_max = 500                                              more than that does not go at once

The providers of the sandbox are meridian, polaris and quasar. They fail when they are told to:
  curl -X PUT --json '{\"mode\": \"down\"}' http://127.0.0.1:9912/v1/faults/meridian";
    const KEYS: &'static [&'static str] = &["token.secret", "events.key"];
    type Options = Options;
    type Command = Command;

    fn platform(_config: &Config) -> Result<Platform> {
        Ok(crate::platform())
    }

    async fn start(options: Options, config: Config) -> Result<Self> {
        Self::start_platform(options, config, |platform| platform).await
    }

    fn running(&self) -> &Running {
        &self.running
    }

    async fn shutdown(self) {
        self.running.shutdown().await;
        if let Some(sandbox) = self.sandbox {
            sandbox.shutdown().await;
        }
    }

    fn welcome(&self) -> Result<String> {
        welcome::text(self)
    }

    async fn command(command: Command) -> Result<()> {
        match command {
            Command::Token(wanted) => wanted.print(ISSUER),
            Command::Sandbox { listen, data } => {
                let sandbox = Chains::start(&data, listen).await?;
                print(&format!("the chains are up on {}\n", sandbox.url()))?;
                stop_requested().await?;
                sandbox.shutdown().await;
                Ok(())
            }
        }
    }
}
