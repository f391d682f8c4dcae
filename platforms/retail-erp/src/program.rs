//! What the ERP's program has beside what every platform's has.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use trunkline::{Config, Platform, Program, Result, Running, Token};

use crate::erp::ISSUER;
use crate::{Erp, welcome};

mod vm;

pub use vm::Vm;

/// The ERP's own options.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// A payment gateway; without one the ERP runs a sandbox of its own
    #[arg(long, value_name = "URL", conflicts_with = "sandbox")]
    pub swishpay: Option<String>,
    /// Where that sandbox listens [default: 127.0.0.1:9911]
    #[arg(long, value_name = "IP:PORT")]
    pub sandbox: Option<SocketAddr>,
}

/// The ERP's own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a token for a user or a device
    Token(Token),
    /// Run a simulated vending machine, by HTTP against an ERP on this machine or by MQTT
    Vm(Vm),
}

impl Program for Erp {
    const NAME: &'static str = "retail-erp";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str =
        "A retail ERP of eleven services in one process, on nothing but this binary";
    const HELP: &'static str = "\
A configuration file is TOML; docs/guides/configuration.md lists every value. For example:
  bus = \"redis://localhost:6379?form=retail\"                  events in the ERP's own envelope, for others to read
  store = \"postgres://erp@localhost/erp?schema={service}\"     instead of SQLite, a schema for each service
  [service.notification-service]
  smtp = \"smtp://localhost:25\"                               real mail, instead of files in data/mail
  [service.iot-gateway]
  mqtt = true                                                devices report by MQTT too
  [devices]
  broker = \"mqtt://localhost:1883\"

The token of the card (cardToken) decides how a payment ends at the sandbox:
  tok_visa            charged at once; so is every card that is not named here
  tok_insufficient    declined: no funds
  tok_declined        declined
  tok_slow            not decided at first; send the same order again";
    type Options = Options;
    type Command = Command;

    fn platform(config: &Config) -> Result<Platform> {
        Ok(crate::platform(config))
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
            Command::Vm(wanted) => vm::run(wanted).await,
        }
    }
}
