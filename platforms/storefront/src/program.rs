//! What the store's program has beside what every platform's has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use trunkline::{
    Config, Env, Envelope, Platform, Program, Result, Running, Secret, Signer, print,
    stop_requested,
};

use crate::sandbox::{self, Sandbox};
use crate::{Store, Watch, welcome};

macro_rules! cards {
    () => {
        "\
Cards (PUT /api/payments/card) decide how a payment ends at the sandbox:
  tok_visa            charged at once; so is every card that is not named here
  tok_declined        declined
  tok_insufficient    declined: no funds
  tok_timeout         no answer, never charged
  tok_late            charged, but answered late (8 s; the store waits 5 s)
  tok_late_declined   declined, but answered late
  tok_flaky           fails once, then charged
An amount of 10,000.00 or more is declined whatever the card."
    };
}

/// How to make a payment go wrong.
pub(crate) const CARDS: &str = cards!();

/// The store's own options.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// A payment provider; without one the store runs a sandbox of its own
    #[arg(long, value_name = "URL", conflicts_with = "sandbox")]
    pub provider: Option<String>,
    /// Where that sandbox listens [default: 127.0.0.1:9910]
    #[arg(long, value_name = "IP:PORT")]
    pub sandbox: Option<SocketAddr>,
    /// How late its late answers are: 8 s.
    #[arg(skip)]
    pub sandbox_late: Option<Duration>,
}

/// The store's own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a token for a user
    Token {
        /// The user's name; it needs no account
        #[arg(long)]
        user: String,
        /// A role of the user; `admin` opens /api/analytics. Can be given several times
        #[arg(long)]
        role: Vec<String>,
        /// The folder of the store that is to take the token
        #[arg(long, default_value = "data")]
        data: PathBuf,
        /// How many hours it is good for
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Run the payment provider's sandbox alone
    #[command(after_help = CARDS)]
    Sandbox {
        /// Where it listens
        #[arg(long, default_value = "127.0.0.1:9910")]
        listen: SocketAddr,
        /// The file of its ledger; without one it forgets
        #[arg(long)]
        ledger: Option<PathBuf>,
        /// How late its late answers are
        #[arg(long, default_value_t = 8_000)]
        late_ms: u64,
    },
}

impl Program for Store {
    const NAME: &'static str = "storefront";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str =
        "A web store of eleven services in one process, on nothing but this binary";
    const HELP: &'static str = concat!(
        "\
A configuration file is TOML; docs/guides/configuration.md lists every value. For example:
  store = \"postgres://shop@localhost/shop?schema={service}\"   instead of SQLite, a schema for each service
  [service.notification-service]
  smtp = \"smtp://localhost:25\"                               real mail, instead of files in data/mail
  [telemetry]
  otlp = \"http://localhost:4318\"                             traces go to a collector

",
        cards!()
    );
    type Options = Options;
    type Command = Command;

    fn platform(_: &Config) -> Result<Platform> {
        // What is declared is the same with any key.
        let env = Env::system();
        crate::platform(&Signer::hs256(&Secret::generate(&env)), &env)
    }

    async fn start(options: Options, config: Config) -> Result<Self> {
        Self::start_platform(options, config, |platform| platform).await
    }

    fn running(&self) -> &Running {
        &self.running
    }

    async fn shutdown(self) {
        self.running.shutdown().await;
        drop(self.sandbox);
    }

    fn welcome(&self) -> Result<String> {
        welcome::text(self)
    }

    fn watch(&self) -> impl FnMut(&Envelope) -> Option<String> + Send {
        let mut watch = Watch::default();
        move |event| watch.line(event)
    }

    async fn command(command: Command) -> Result<()> {
        match command {
            Command::Token {
                user,
                role,
                data,
                hours,
            } => {
                let lifetime = Duration::from_secs(u64::from(hours) * 3_600);
                let token = crate::token(&data, &user, &role, lifetime)?;
                print(&format!("{token}\n"))
            }
            Command::Sandbox {
                listen,
                ledger,
                late_ms,
            } => {
                let late = Duration::from_millis(late_ms);
                let listener = sandbox::listen(listen).await?;
                let options = sandbox::Options { ledger, late };
                let sandbox = Sandbox::start(listener, options, Env::system())?;
                print(&welcome::sandbox(&sandbox.url()))?;
                stop_requested().await
            }
        }
    }
}
