//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use storefront::Settings;

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

/// A web store of eleven services in one process, on nothing but this binary.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = MORE)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) up: Up,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the store (this is what happens without a command)
    Up(Up),
    /// Run some of the services alone; the configuration says where the rest is
    Run(Run),
    /// Print a token for a user
    Token(Token),
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
    /// Compare the events with their checked-in schemas
    Schemas {
        /// Write the schemas of new events and new versions
        #[arg(long)]
        write: bool,
        /// Where the schemas are
        #[arg(long, default_value = "schemas")]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The user's name; it needs no account
    #[arg(long)]
    pub(crate) user: String,
    /// A role of the user; `admin` opens /api/analytics. Can be given several times
    #[arg(long)]
    pub(crate) role: Vec<String>,
    /// The folder of the store that is to take the token
    #[arg(long, default_value = "data")]
    pub(crate) data: PathBuf,
    /// How many hours it is good for
    #[arg(long, default_value_t = 24)]
    pub(crate) hours: u32,
}

#[derive(Debug, Args)]
#[command(after_help = MORE)]
pub(crate) struct Up {
    /// The folder for everything that is kept [default: data]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Where customers reach the store [default: 127.0.0.1:8000]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) gateway: Option<SocketAddr>,
    /// Where its operators look into it [default: 127.0.0.1:9900]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// The configuration file; without one, nothing needs to be configured
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A payment provider; without one the store runs a sandbox of its own
    #[arg(long, value_name = "URL", conflicts_with = "sandbox")]
    pub(crate) provider: Option<String>,
    /// Where that sandbox listens [default: 127.0.0.1:9910]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) sandbox: Option<SocketAddr>,
    /// Don't show what happens to orders
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Run each service in a process of its own; needs a bus that processes share
    #[arg(long)]
    pub(crate) processes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = PLACES)]
pub(crate) struct Run {
    /// The services, such as order-service; `gateway` is the gateway with the trail and the admin API of the whole
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    #[command(flatten)]
    pub(crate) up: Up,
    /// End when the standard input ends: whoever started it is gone
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

/// How the parts of the store find each other.
const PLACES: &str = "\
All parts read one configuration file. It names a bus that they share, and where each service is found:
  bus = \"nats://localhost:4222\"
  store = \"postgres://shop@localhost/shop?schema={service}\"
  [service.inventory-service]
  url = \"http://10.0.0.7:7001\"";

/// What can be configured, and how to make a payment go wrong.
const MORE: &str = concat!(
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

/// How to make a payment go wrong.
pub(crate) const CARDS: &str = cards!();

impl Up {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            data: self.data.clone(),
            gateway: self.gateway,
            admin: self.admin,
            config: self.config.clone(),
            provider: self.provider.clone(),
            sandbox: self.sandbox,
            sandbox_late: None::<Duration>,
            run: Vec::new(),
        }
    }
}

impl Run {
    pub(crate) fn settings(self) -> Settings {
        Settings {
            run: self.services,
            ..self.up.settings()
        }
    }
}
