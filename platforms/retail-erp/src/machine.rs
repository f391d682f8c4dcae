//! A vending machine that is none: it reports, sells and vends as one would, for demonstrations and tests. A [`Machine`] asks
//! by HTTP; a [`Seller`] speaks MQTT to a broker, as real ones do.

mod books;
mod hardware;
mod line;
mod seller;

use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use serde_json::json;
use trunkline::telemetry::Telemetry;
use trunkline::{Client, Context, Env, Network, Responses, Result};

use crate::events::{Count, DeviceStatus};
use crate::inventory::StockLevel;
use crate::iot::StatusReport;
use crate::shop::Shop;
use crate::vm::{NewSale, Sale, SaleStatus};

pub use hardware::Filled;
pub use line::Broker;
pub use seller::{Seller, Setup, Sold};

/// What it is told to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often somebody buys.
    pub sales: u32,
    /// How long it waits between customers.
    pub pause: Duration,
    /// Every so many sales the piece does not fall; 0 is never.
    pub jam_every: u32,
    /// The token of the cards that its customers have.
    pub card_token: String,
}

/// What it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Pieces that fell.
    pub vended: u32,
    /// Pieces that did not fall, and were paid back.
    pub refunded: u32,
    /// Customers who got nothing: their card was refused, or the slot was empty.
    pub refused: u32,
}

/// A simulated vending machine.
#[derive(Debug)]
pub struct Machine {
    client: Client,
    token: String,
    machine_id: String,
    shop: Shop,
    env: Env,
}

const ERP: &str = "erp";

impl Machine {
    /// A machine of a shop of the ERP whose gateway is at `url`; the token is the machine's own.
    ///
    /// # Errors
    /// `NotFound` for a shop that is not there; those of the network.
    pub async fn new(url: &str, shop_id: &str, machine_id: &str, token: String) -> Result<Self> {
        let env = Env::system();
        let network = Network::new(Telemetry::disabled(env.clone()), env.clone());
        network.remote(ERP, url, Responses::Plain)?;
        let client = Client::new(
            network.channel(machine_id.to_owned(), ERP),
            Context::root(&env),
        );
        let bearer = format!("Bearer {token}");
        let shop = client
            .get(format!("/api/shops/{shop_id}"))
            .header(AUTHORIZATION, &bearer);
        Ok(Self {
            shop: shop.send().await?,
            client,
            token: bearer,
            machine_id: machine_id.to_owned(),
            env,
        })
    }

    /// Comes online, sells from one slot after the other, counts what is left, and goes offline.
    ///
    /// # Errors
    /// Those of the network, and of an ERP that does not know the machine.
    pub async fn run(&self, plan: &Plan, mut told: impl FnMut(&Sale)) -> Result<Done> {
        self.report(DeviceStatus::Online, Vec::new()).await?;
        let slots = self
            .shop
            .machine
            .iter()
            .flat_map(|machine| &machine.slots)
            .cycle();
        let mut done = Done::default();
        for (number, slot) in (1..=plan.sales).zip(slots) {
            tokio::time::sleep(plan.pause).await;
            let Some(sale) = self.sell(&slot.slot, &plan.card_token).await? else {
                done.refused += 1;
                continue;
            };
            let jams = plan.jam_every > 0 && number % plan.jam_every == 0;
            let ended = match sale.status {
                SaleStatus::Vending => self.finish(&sale, !jams).await?,
                _ => sale,
            };
            match ended.status {
                SaleStatus::Vended => done.vended += 1,
                SaleStatus::Refunded => done.refunded += 1,
                SaleStatus::Vending | SaleStatus::Refused => done.refused += 1,
            }
            told(&ended);
        }
        self.report(DeviceStatus::Offline, Vec::new()).await?;
        Ok(done)
    }

    /// Tells what lies in it.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn report(&self, status: DeviceStatus, stock: Vec<Count>) -> Result<()> {
        let path = format!("/api/devices/{}/status", self.machine_id);
        let told = self.client.post(path).json(&StatusReport { status, stock });
        told.header(AUTHORIZATION, &self.token)
            .send_empty()
            .await
            .map(drop)
    }

    /// What the ERP believes to lie in it.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn level(&self, product_id: &str) -> Result<StockLevel> {
        let path = format!("/api/inventory/{}/{product_id}", self.shop.shop_id);
        self.client
            .get(path)
            .header(AUTHORIZATION, &self.token)
            .send()
            .await
    }

    /// Sells a piece; none if the slot is empty. A sale whose end is not known is asked for again.
    async fn sell(&self, slot: &str, card_token: &str) -> Result<Option<Sale>> {
        const TRIES: u32 = 20;
        const PAUSE: Duration = Duration::from_millis(250);
        let new = NewSale {
            sale_id: self.env.id().to_string(),
            slot: slot.to_owned(),
            card_token: card_token.to_owned(),
        };
        let mut tries = 0;
        loop {
            let asked = self.client.post("/api/vm/sales").json(&new);
            match asked.header(AUTHORIZATION, &self.token).send().await {
                Ok(sale) => return Ok(Some(sale)),
                Err(error) if error.code() == "stock_insufficient" => return Ok(None),
                // vm-service hears by an event that the machine is online.
                Err(error) if tries < TRIES && is_early(&error) => tries += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn finish(&self, sale: &Sale, vended: bool) -> Result<Sale> {
        let path = format!("/api/vm/sales/{}/finish", sale.sale_id);
        let told = self.client.post(path).json(&json!({ "vended": vended }));
        told.header(AUTHORIZATION, &self.token).send().await
    }
}

fn is_early(error: &trunkline::Error) -> bool {
    error.code() == "machine_offline" || error.retry() != trunkline::Retry::Permanent
}
