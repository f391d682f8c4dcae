//! The machines' gateway: it keeps how each machine is, and what it sold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::device::{CommandSettled, DeviceTopic, PresenceChanged};
use trunkline::{Cx, Devices, Event, Migration, Platform, Result, Service, sql};

/// How a machine is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "vending.status", version = "1.0", topic = "vending-events", key = machine_id)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    machine_id: String,
    status: String,
}

/// What a machine sold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "vending.sale", version = "1.0", topic = "vending-events", key = machine_id)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sale {
    sale_id: String,
    machine_id: String,
    cents: u64,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reports: AtomicU64,
    pub(crate) online: AtomicU64,
    /// Whether each report becomes an event.
    pub(crate) with_events: bool,
}

const TABLES: &[Migration] = &[Migration {
    name: "0001_machines",
    sql: "CREATE TABLE machine (machine_id TEXT PRIMARY KEY, status TEXT NOT NULL);
          CREATE TABLE sale (sale_id TEXT PRIMARY KEY, machine_id TEXT NOT NULL, cents BIGINT NOT NULL)",
}];

async fn on_status(cx: Cx, event: Event<Status>) -> Result<()> {
    let counts = cx.state::<Arc<Counts>>()?;
    counts.reports.fetch_add(1, Ordering::Relaxed);
    let mut tx = cx.tx().await?;
    sql("INSERT INTO machine (machine_id, status) VALUES ($1, $2) \
         ON CONFLICT (machine_id) DO UPDATE SET status = excluded.status")
    .bind(&event.data.machine_id)
    .bind(&event.data.status)
    .run(tx.conn())
    .await?;
    if counts.with_events {
        tx.publish(event.data).await?;
    }
    Ok(())
}

async fn on_sale(cx: Cx, event: Event<Sale>) -> Result<()> {
    let mut tx = cx.tx().await?;
    sql("INSERT INTO sale (sale_id, machine_id, cents) VALUES ($1, $2, $3)")
        .bind(&event.data.sale_id)
        .bind(&event.data.machine_id)
        .bind(event.data.cents)
        .run(tx.conn())
        .await?;
    tx.publish(event.data).await
}

async fn on_presence(cx: Cx, change: PresenceChanged) -> Result<()> {
    if change.online {
        let counts = cx.state::<Arc<Counts>>()?;
        counts.online.fetch_add(1, Ordering::Relaxed);
    }
    cx.publish(change).await
}

/// The platform of the one gateway.
pub(crate) fn platform(counts: &Arc<Counts>) -> Platform {
    let sales = DeviceTopic::new("vending/{machine_id}/sales").id("/saleId");
    let devices = Devices::new()
        .report_batch("vending/{machine_id}/status", 256, on_status)
        .report_batch(sales, 256, on_sale)
        .presence("vending/{machine_id}/presence", on_presence)
        .commands(
            "vending/{machine_id}/commands",
            "vending/{machine_id}/replies",
            |cx: Cx, settled: CommandSettled| async move { cx.publish(settled).await },
        );
    let service = Service::new("iot-gateway")
        .migrations(TABLES)
        .state(counts.clone())
        .publishes::<Status>()
        .publishes::<Sale>()
        .publishes::<PresenceChanged>()
        .publishes::<CommandSettled>()
        .devices(devices);
    Platform::new("vending").service(service)
}
