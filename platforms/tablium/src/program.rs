//! What the site's program has beside what every platform's has.

use clap::{Args, Subcommand};
use trunkline::{Config, Env, Platform, Program, Result, Running, Secret, Signer, Token, Verifier};

use crate::{Site, auth, welcome};

/// The site has no options of its own.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {}

/// The site's own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a token for a user
    Token(Token),
}

impl Program for Site {
    const NAME: &'static str = "tablium";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str =
        "A board-game site of seven services in one process, on nothing but this binary";
    const HELP: &'static str = "\
A configuration file is TOML; docs/guides/configuration.md lists every value. For example:
  store = \"postgres://tablium@localhost/tablium?schema={service}\"   instead of SQLite, a schema for each service
  [service.auth-service]
  token_seconds = 3600                                            how long a sign-in is good for

platforms/tablium/deploy has the files of the site on several machines.";
    type Options = Options;
    type Command = Command;

    fn platform(_config: &Config) -> Result<Platform> {
        // What is declared is the same with any key.
        let env = Env::system();
        let secret = Secret::generate(&env);
        let verifier = Verifier::hs256(&secret, env);
        Ok(crate::platform(Signer::hs256(&secret), verifier))
    }

    async fn start(_: Options, config: Config) -> Result<Self> {
        Self::start_platform(config, |platform| platform).await
    }

    fn running(&self) -> &Running {
        &self.running
    }

    async fn shutdown(self) {
        self.running.shutdown().await;
    }

    fn welcome(&self) -> Result<String> {
        Ok(welcome::text(self))
    }

    async fn command(command: Command) -> Result<()> {
        match command {
            Command::Token(wanted) => wanted.print(auth::ISSUER),
        }
    }
}
