//! Commands, as the store keeps them.

use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use trunkline_core::{ByteString, Error, ErrorKind, Event, Result, Timestamp};
use trunkline_device::{CommandSettled, DeviceCommand, Outcome, Reply, is_name};
use trunkline_store::sql;

use super::Hub;
use crate::Cx;

/// How a command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandState {
    /// Which device.
    pub device: String,
    /// Its name.
    pub command: String,
    /// Its particulars, as JSON.
    pub data: Value,
    /// How it ended; none while it waits or is under way.
    pub outcome: Option<Outcome>,
    /// Why the device refused, if it said so.
    pub reason: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
}

const COUNT: &str =
    "SELECT COUNT(*) FROM trunkline_device_command WHERE device = $1 AND open_now = 1";
const INSERT: &str = "INSERT INTO trunkline_device_command \
    (id, device, name, data, made_at, expires_at, next_at, attempts, open_now) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 1)";
const STATE: &str = "SELECT device, name, data, outcome, reason, attempts \
    FROM trunkline_device_command WHERE id = $1";
const SETTLE: &str = "UPDATE trunkline_device_command \
    SET open_now = 0, outcome = $1, reason = $2, settled_at = $3 \
    WHERE id = $4 AND device = $5 AND open_now = 1";
// What follows becomes the first; one that was sent before keeps its time.
const PROMOTE: &str = "UPDATE trunkline_device_command SET next_at = 0 \
    WHERE attempts = 0 AND id = (SELECT MIN(id) FROM trunkline_device_command \
      WHERE device = $1 AND open_now = 1)";

impl Cx {
    /// Sends a command to a device when this work commits, and gives its id.
    ///
    /// # Guarantees
    /// Kept in the store until it has ended: a restart, a broker or a device that is away lose nothing. It is sent again
    /// with the same id until the device answers. Commands of one device are sent in order, each after the one before has
    /// ended.
    ///
    /// # Errors
    /// `PermissionDenied` when the service declares no commands; `Overloaded` when as many wait for this device as may;
    /// `InvalidInput` for what can't be a device's name.
    pub async fn command(&self, device: &str, command: DeviceCommand) -> Result<ByteString> {
        let hub = hub(self)?;
        if !is_name(device) {
            let text = "expected a device's name of 1 to 64 letters, digits, `.`, `_`, `:` and `-`";
            return Err(Error::invalid("device_name_invalid", text));
        }
        let mut tx = self.tx().await?;
        let (waiting,) = sql(COUNT).bind(device).one::<(i64,)>(tx.conn()).await?;
        if waiting >= i64::from(hub.commands_max) {
            let text = "as many commands as may wait for this device";
            return Err(
                Error::new(ErrorKind::Overloaded, "device_queue_full", text).with("device", device)
            );
        }
        // Ids ascend: the least of a device is its first.
        let id = ByteString::from(self.env().id().to_string());
        let now = self.now();
        let expires_at = micros(self.env().after(command.expires_in));
        let next_at = if waiting == 0 { 0 } else { expires_at };
        let insert = sql(INSERT).bind(&id).bind(device).bind(command.name);
        let insert = insert.bind(command.data.to_string()).bind(micros(now));
        insert.bind(expires_at).bind(next_at).run(tx.conn()).await?;
        self.touches();
        Ok(id)
    }

    /// How a command is; none when there is no such, or it ended more than a week ago.
    ///
    /// # Errors
    /// What the store says.
    pub async fn command_state(&self, id: &str) -> Result<Option<CommandState>> {
        type Row = (String, String, String, Option<String>, Option<String>, i64);
        let mut reader = self.read().await?;
        let row = sql(STATE).bind(id).first::<Row>(reader.conn()).await?;
        Ok(row.map(
            |(device, command, data, outcome, reason, attempts)| CommandState {
                device,
                command,
                data: serde_json::from_str(&data).unwrap_or_default(),
                outcome: outcome.as_deref().and_then(outcome_of),
                reason,
                attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            },
        ))
    }

    /// Waits until a command that was committed has ended, `within` at most, and says how it is then.
    ///
    /// # Errors
    /// As [`Cx::command_state`].
    pub async fn command_outcome(
        &self,
        id: &str,
        within: Duration,
    ) -> Result<Option<CommandState>> {
        let hub = hub(self)?;
        let ended = async {
            loop {
                let mut settled = pin!(hub.settled.notified());
                settled.as_mut().enable();
                let state = self.command_state(id).await?;
                if state.as_ref().is_none_or(|state| state.outcome.is_some()) {
                    return Ok(state);
                }
                settled.await;
            }
        };
        match timeout(within, ended).await {
            Ok(state) => state,
            Err(_) => self.command_state(id).await,
        }
    }
}

fn hub(cx: &Cx) -> Result<&Hub> {
    let hub = cx.runtime().devices.as_ref();
    hub.filter(|hub| hub.outcome.is_some()).ok_or_else(|| {
        let text = "the service does not declare commands to devices: add .commands(…)";
        Error::new(ErrorKind::PermissionDenied, "command_undeclared", text)
            .with("service", cx.service_name())
    })
}

/// A device has answered.
pub(super) async fn replied(cx: Cx, reply: Event<Reply>) -> Result<()> {
    let Reply {
        device, command_id, ..
    } = &reply.data;
    let outcome = reply.data.outcome();
    settle(
        &cx,
        (device, command_id),
        outcome,
        reply.data.reason.as_deref(),
    )
    .await
}

/// Ends a command, and acts on it; one that has ended, or is another device's, is left as it is.
pub(super) async fn settle(
    cx: &Cx,
    (device, id): (&str, &str),
    outcome: Outcome,
    reason: Option<&str>,
) -> Result<()> {
    let mut tx = cx.tx().await?;
    let settle = sql(SETTLE)
        .bind(outcome.as_str())
        .bind(reason)
        .bind(micros(cx.now()));
    if settle.bind(id).bind(device).run(tx.conn()).await? == 0 {
        return Ok(());
    }
    sql(PROMOTE).bind(device).run(tx.conn()).await?;
    let name = sql("SELECT name FROM trunkline_device_command WHERE id = $1").bind(id);
    let (command,) = name.one::<(String,)>(tx.conn()).await?;
    drop(tx);
    cx.touches();
    let settled = CommandSettled {
        device: device.to_owned(),
        command_id: id.to_owned(),
        command,
        outcome,
        reason: reason.map(str::to_owned),
    };
    match &hub(cx)?.outcome {
        Some(handler) => handler(cx.clone(), settled).await,
        None => Ok(()),
    }
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

fn outcome_of(word: &str) -> Option<Outcome> {
    let all = [Outcome::Acknowledged, Outcome::Refused, Outcome::Expired];
    all.into_iter().find(|outcome| outcome.as_str() == word)
}
