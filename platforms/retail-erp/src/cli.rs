//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use retail_erp::machine::Filled;
use retail_erp::{Settings, demo};

/// A retail ERP of eleven services in one process, on nothing but this binary.
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
    /// Run the ERP (this is what happens without a command)
    Up(Up),
    /// Run some of the services alone; the configuration says where the rest is
    Run(Run),
    /// Print a token for a user or a device
    Token(Token),
    /// Run a simulated vending machine, by HTTP against an ERP on this machine or by MQTT
    Vm(Vm),
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
    /// The user, such as user_789, or the device, such as device_123
    #[arg(long)]
    pub(crate) user: String,
    /// A role: staff runs the shops, device reports and sells. Can be given several times
    #[arg(long)]
    pub(crate) role: Vec<String>,
    /// The folder of the ERP that is to take the token
    #[arg(long, default_value = "data")]
    pub(crate) data: PathBuf,
    /// How many hours it is good for
    #[arg(long, default_value_t = 24)]
    pub(crate) hours: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Vm {
    /// The gateway of the ERP
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub(crate) gateway: String,
    /// The folder of the ERP, whose key signs the machine's token
    #[arg(long, default_value = "data")]
    pub(crate) data: PathBuf,
    /// The shop that the machine is
    #[arg(long, default_value = demo::VENDING_SHOP)]
    pub(crate) shop: String,
    /// The machine
    #[arg(long, default_value = demo::MACHINE)]
    pub(crate) machine: String,
    /// How often somebody buys
    #[arg(long, default_value_t = 5)]
    pub(crate) sales: u32,
    /// Milliseconds between customers
    #[arg(long, default_value_t = 500)]
    pub(crate) pause_ms: u64,
    /// Every so many sales the piece does not fall; 0 is never
    #[arg(long, default_value_t = 0)]
    pub(crate) jam_every: u32,
    /// The card that customers have
    #[arg(long, default_value = "tok_visa")]
    pub(crate) card: String,
    /// Speak MQTT to this broker, such as mqtt://127.0.0.1:1883; the ERP's iot-gateway listens there too
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// The file with what the ERP gave out for the machine: {"user": …, "password": …}
    #[arg(long, value_name = "FILE", requires = "broker")]
    pub(crate) credentials: Option<PathBuf>,
    /// The folder of the machine's books and metal [default: vm/MACHINE]
    #[arg(long, value_name = "FOLDER", requires = "broker")]
    pub(crate) state: Option<PathBuf>,
    /// What lies in it when it is new, such as A1=prod_456:12. Can be given several times [default: the demo's]
    #[arg(long, value_name = "SLOT=PRODUCT:PIECES", value_parser = slot, requires = "broker")]
    pub(crate) slot: Vec<Filled>,
    /// Milliseconds that its motor turns
    #[arg(long, default_value_t = 200, requires = "broker")]
    pub(crate) vend_ms: u64,
}

fn slot(text: &str) -> Result<Filled, String> {
    let parts = || {
        let (slot, rest) = text.split_once('=')?;
        let (product_id, pieces) = rest.split_once(':')?;
        Some(Filled {
            slot: slot.to_owned(),
            product_id: product_id.to_owned(),
            pieces: pieces.parse().ok()?,
        })
    };
    parts().ok_or_else(|| "expected SLOT=PRODUCT:PIECES, such as A1=prod_456:12".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The folder for everything that is kept [default: data]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Where customers, staff and devices reach the ERP [default: 127.0.0.1:8000]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) gateway: Option<SocketAddr>,
    /// Where its operators look into it [default: 127.0.0.1:9900]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// The configuration file; without one, nothing needs to be configured
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A payment gateway; without one the ERP runs a sandbox of its own
    #[arg(long, value_name = "URL", conflicts_with = "sandbox")]
    pub(crate) swishpay: Option<String>,
    /// Where that sandbox listens [default: 127.0.0.1:9911]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) sandbox: Option<SocketAddr>,
    /// Don't print how to use it
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Run each service in a process of its own; needs a bus that processes share
    #[arg(long)]
    pub(crate) processes: bool,
}

#[derive(Debug, Args)]
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

/// What can be configured, and how to make a payment go wrong.
const MORE: &str = "\
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

impl Up {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            data: self.data.clone(),
            gateway: self.gateway,
            admin: self.admin,
            config: self.config.clone(),
            swishpay: self.swishpay.clone(),
            sandbox: self.sandbox,
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
