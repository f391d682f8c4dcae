//! The vending machine that is none, by HTTP or by MQTT.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use trunkline::{Error, Result, print};

use crate::iot::DeviceCredentials;
use crate::machine::{Broker, Done, Filled, Machine, Plan, Seller, Setup, Sold};
use crate::vm::Sale;
use crate::{DEVICE, demo};

/// What the simulated machine does.
#[derive(Debug, Args)]
pub struct Vm {
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

fn slot(text: &str) -> std::result::Result<Filled, String> {
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

/// Runs a simulated vending machine, and tells of each sale.
pub(super) async fn run(wanted: Vm) -> Result<()> {
    let plan = Plan {
        sales: wanted.sales,
        pause: Duration::from_millis(wanted.pause_ms),
        jam_every: wanted.jam_every,
        card_token: wanted.card.clone(),
    };
    let done = match wanted.broker.clone() {
        Some(url) => vm_by_mqtt(wanted, url, &plan).await?,
        None => vm_by_http(&wanted, &plan).await?,
    };
    let Done {
        vended,
        refunded,
        refused,
    } = done;
    print(&format!(
        "{vended} vended, {refunded} paid back, {refused} refused\n"
    ))
}

async fn vm_by_http(wanted: &Vm, plan: &Plan) -> Result<Done> {
    const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
    let token = crate::token(&wanted.data, &wanted.machine, &[DEVICE], LIFETIME)?;
    let machine = Machine::new(&wanted.gateway, &wanted.shop, &wanted.machine, token).await?;
    let told = |sale: &Sale| {
        let line = format!(
            "{}  {:?}  order {}\n",
            sale.sale_id, sale.status, sale.order_id
        );
        // It goes on where nobody reads of it.
        drop(print(&line));
    };
    machine.run(plan, told).await
}

async fn vm_by_mqtt(wanted: Vm, url: String, plan: &Plan) -> Result<Done> {
    let bad = |text: &'static str| Error::invalid("credentials_invalid", text);
    let password = match &wanted.credentials {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| bad("the file can't be read").with_source(error))?;
            let read: DeviceCredentials = serde_json::from_str(&text).map_err(|error| {
                bad("expected {\"user\": …, \"password\": …}").with_source(error)
            })?;
            if read.user != wanted.machine {
                return Err(bad("the credentials are another machine's").with("user", read.user));
            }
            Some(read.password)
        }
    };
    let state = wanted.state;
    let machine = Seller::open(Setup {
        broker: Broker { url, password },
        slots: if wanted.slot.is_empty() {
            demo::filled()
        } else {
            wanted.slot
        },
        folder: state.unwrap_or_else(|| Path::new("vm").join(&wanted.machine)),
        machine_id: wanted.machine,
        vend_takes: Duration::from_millis(wanted.vend_ms),
        clock_off_seconds: 0,
    })?;
    let told = |sold: &Sold| {
        let end = match &sold.refused {
            Some(why) => format!("refused: {why}"),
            None if sold.vended => "vended".to_owned(),
            None => "jammed, to be paid back".to_owned(),
        };
        // It goes on where nobody reads of it.
        drop(print(&format!("{}  {end}\n", sold.sale_id)));
    };
    machine.run(plan, told).await
}
