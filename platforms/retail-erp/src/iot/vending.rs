//! Vending machines that sell by MQTT: a customer's wish goes to vm-service, a command to vend comes back, and how that ended
//! is everybody's to know.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline::device::{CommandSettled, DeviceCommand, Outcome};
use trunkline::{Cx, ErrorKind, Event, Result, Retry};

use super::mqtt::device_of;
use crate::events::{VendEnd, VendEnded, VendRequested};
use crate::vm::{self, NewSale, SaleStatus};

/// The command to vend: `{"saleId", "slot"}`. Its acknowledgement says that the piece fell, its refusal that it did not.
pub const VEND: &str = "vend";
/// The command to tell the customer that nothing is sold: `{"saleId", "reason"}`.
pub const REFUSE: &str = "refuse";

/// How long a customer is told that nothing is sold.
const REFUSE_WITHIN: Duration = Duration::from_secs(30);

/// Somebody wants to buy something at a machine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "PurchaseReport", version = "1.0", topic = "device-reports", kind = system)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurchaseReport {
    /// The machine's own id of the sale.
    pub sale_id: String,
    /// From which slot.
    pub slot: String,
    /// The payment gateway's token of the customer's card.
    pub card_token: String,
}

/// How a sale ended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "SaleReport", version = "1.0", topic = "device-reports", kind = system)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SaleReport {
    /// The machine's own id of the sale.
    pub sale_id: String,
    /// Whether the piece fell.
    pub vended: bool,
}

/// Asks vm-service. The machine hears of it by a command, whatever the answer is: what is not sold holds up no later report.
pub(super) async fn purchase(cx: Cx, event: Event<PurchaseReport>) -> Result<()> {
    let machine_id = device_of(&event.envelope)?;
    let PurchaseReport {
        sale_id,
        slot,
        card_token,
    } = event.data;
    let new = NewSale {
        sale_id: sale_id.clone(),
        slot,
        card_token,
    };
    let reason = match vm::purchase(&cx, new).await {
        Ok((SaleStatus::Vending, _)) => return Ok(()),
        Ok((SaleStatus::Refused, reason)) => reason,
        Ok((SaleStatus::Vended | SaleStatus::Refunded, _)) => "sale_ended".to_owned(),
        Err(error) if error.retry() == Retry::Permanent => error.code().to_owned(),
        Err(error) => {
            tracing::warn!(machine_id, sale_id, %error, "a purchase failed; the customer is asked to try again");
            "try_again".to_owned()
        }
    };
    let data = json!({ "saleId": sale_id, "reason": reason });
    let refuse = DeviceCommand::new(REFUSE, data)?.expires_in(REFUSE_WITHIN);
    match cx.command(&machine_id, refuse).await {
        Err(error) if error.kind() == ErrorKind::Overloaded => {
            tracing::warn!(machine_id, %error, "a customer is not told that nothing is sold");
            Ok(())
        }
        told => told.map(drop),
    }
}

/// How a sale ended, from the machine's books: also after its command has expired.
pub(super) async fn sale(cx: Cx, event: Event<SaleReport>) -> Result<()> {
    let machine_id = device_of(&event.envelope)?;
    let end = if event.data.vended {
        VendEnd::Vended
    } else {
        VendEnd::NotVended
    };
    let sale_id = event.data.sale_id;
    cx.publish(VendEnded {
        machine_id,
        sale_id,
        end,
    })
    .await
}

/// A piece is paid: the machine is told to vend it, unless it is too late for that.
pub(super) async fn vend_requested(cx: Cx, event: Event<VendRequested>) -> Result<()> {
    let VendRequested {
        machine_id,
        sale_id,
        slot,
        expires_at,
    } = event.data;
    let left = Duration::try_from(expires_at.duration_since(cx.now())).unwrap_or_default();
    if !left.is_zero() {
        let vend = DeviceCommand::new(VEND, json!({ "saleId": sale_id, "slot": slot }))?;
        match cx.command(&machine_id, vend.expires_in(left)).await {
            // As many wait for it as may, or MQTT was turned off meanwhile: it does not listen.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Overloaded | ErrorKind::PermissionDenied
                ) =>
            {
                tracing::warn!(machine_id, sale_id, %error, "a machine is not told to vend");
            }
            told => return told.map(drop),
        }
    }
    let end = VendEnd::Unanswered;
    cx.publish(VendEnded {
        machine_id,
        sale_id,
        end,
    })
    .await
}

/// A command has ended.
pub(super) async fn command_settled(cx: Cx, settled: CommandSettled) -> Result<()> {
    if settled.command != VEND {
        return Ok(());
    }
    let state = cx.command_state(&settled.command_id).await?;
    let sale_id = state.and_then(|state| Some(state.data.get("saleId")?.as_str()?.to_owned()));
    let Some(sale_id) = sale_id else {
        return Ok(());
    };
    let end = match settled.outcome {
        Outcome::Acknowledged => VendEnd::Vended,
        Outcome::Refused => VendEnd::NotVended,
        Outcome::Expired => VendEnd::Unanswered,
    };
    cx.publish(VendEnded {
        machine_id: settled.device,
        sale_id,
        end,
    })
    .await
}
