//! What the site's program has beside what every platform's has.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use trunkline::{Config, Env, Platform, Program, Result, Running, Secret, Signer, Verifier, print};

use crate::{Site, welcome};

/// The site has no options of its own.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {}

/// The site's own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a token for a user
    Token(Token),
}

/// Whose token is printed.
#[derive(Debug, Args)]
pub struct Token {
    /// The user's id, such as `usr_…`
    #[arg(long)]
    pub(crate) user: String,
    /// A role: staff runs the site. Can be given several times
    #[arg(long)]
    pub(crate) role: Vec<String>,
    /// The folder of the site that is to take the token
    #[arg(long, default_value = "data")]
    pub(crate) data: PathBuf,
    /// How many hours it is good for
    #[arg(long, default_value_t = 24)]
    pub(crate) hours: u32,
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
            Command::Token(wanted) => token(&wanted),
        }
    }
}

fn token(wanted: &Token) -> Result<()> {
    let lifetime = Duration::from_secs(u64::from(wanted.hours) * 3_600);
    let roles: Vec<&str> = wanted.role.iter().map(String::as_str).collect();
    let token = crate::token(&wanted.data, &wanted.user, &roles, lifetime)?;
    print(&format!("{token}\n"))
}
