//! Commands to devices, and what becomes of them.

pub(crate) mod sender;

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use trunkline_core::{Error, Event, Result, Timestamp};

use crate::gate::Arrival;

/// How long a command is worth something, unless it says so.
const EXPIRES_IN: Duration = Duration::from_secs(3_600);
/// The longest that a command may wait.
const EXPIRES_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The largest data of a command, in bytes.
const DATA_BYTES_MAX: usize = 64 << 10;
/// The longest reason that is kept of a device's, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// Something that a device shall do.
///
/// # Shape
/// The device gets, by QoS 1 on its topic of commands, `{"commandId": …, "command": name, "expiresAt": RFC 3339, "data": …}`;
/// with MQTT 5 also a response topic, the id as correlation data, and a message expiry. It answers on its topic of replies
/// with `{"commandId": …, "status": "acknowledged"}` or `{"commandId": …, "status": "refused", "reason": …}`; with
/// MQTT 5 the correlation data may stand for the id. The same command may come again: its id tells.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceCommand {
    /// What to do, such as `set_price`.
    pub name: String,
    /// The particulars, as JSON.
    pub data: Value,
    /// When it is not worth doing any more.
    pub expires_in: Duration,
}

impl DeviceCommand {
    /// A command that is worth something for an hour.
    ///
    /// # Errors
    /// `InvalidInput` for data that can't be written as JSON; `TooLarge` above 64 KiB.
    pub fn new(name: impl Into<String>, data: impl Serialize) -> Result<Self> {
        let name = name.into();
        let bad = |why| Error::invalid("device_command_invalid", why);
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(bad("expected a command's name of 1 to 64 bytes"));
        }
        let data = serde_json::to_value(data)
            .map_err(|error| bad("the data can't be written as JSON").with_source(error))?;
        if data.to_string().len() > DATA_BYTES_MAX {
            let kind = trunkline_core::ErrorKind::TooLarge;
            let text = "expected a command's data of at most 64 KiB";
            return Err(Error::new(kind, "device_command_too_large", text));
        }
        Ok(Self {
            name,
            data,
            expires_in: EXPIRES_IN,
        })
    }

    /// How long it is worth something; 30 days at most.
    #[must_use]
    pub fn expires_in(mut self, limit: Duration) -> Self {
        self.expires_in = limit.min(EXPIRES_MAX);
        self
    }
}

/// What became of a command. It may be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "device.command_settled", version = "1.0", topic = "device-events", key = device)]
#[serde(rename_all = "camelCase")]
pub struct CommandSettled {
    /// Which device.
    pub device: String,
    /// Which command.
    pub command_id: String,
    /// Its name.
    pub command: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why the device refused, if it said so.
    pub reason: Option<String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device did it, or will.
    Acknowledged,
    /// The device won't.
    Refused,
    /// No answer came in time. The device may have done it all the same.
    Expired,
}

impl Outcome {
    /// Its word, as it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// A device's answer to a command, on its way through the consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "trunkline.device.reply", version = "1.0", topic = "trunkline.devices", key = device, kind = system)]
pub struct Reply {
    /// Who answers.
    pub device: String,
    /// To what.
    pub command_id: String,
    /// Whether it does it.
    pub accepted: bool,
    /// Why not, cut at 256 bytes.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "commandId")]
    command_id: Option<String>,
    status: Option<String>,
    reason: Option<String>,
}

impl Reply {
    /// Reads an answer; without a payload, the correlation data alone says `acknowledged`.
    pub(crate) fn read(device: ByteString, arrival: &Arrival) -> Result<Self, String> {
        let said: Said = if arrival.payload.is_empty() && arrival.correlation.is_some() {
            Said {
                command_id: None,
                status: None,
                reason: None,
            }
        } else {
            serde_json::from_slice(&arrival.payload)
                .map_err(|_| "expected an answer of the declared form".to_owned())?
        };
        let correlated = || {
            let data = arrival.correlation.as_deref()?;
            Some(std::str::from_utf8(data).ok()?.to_owned())
        };
        let id = said.command_id.or_else(correlated);
        let id = id.filter(|id| !id.is_empty() && id.len() <= NAME_BYTES_MAX);
        let Some(command_id) = id else {
            return Err("expected `commandId`, or correlation data".to_owned());
        };
        let accepted = match said.status.as_deref() {
            None | Some("acknowledged") => true,
            Some("refused") => false,
            Some(_) => return Err("expected `status` to be acknowledged or refused".to_owned()),
        };
        let reason = said.reason.map(|mut reason| {
            let end = (0..=REASON_BYTES_MAX.min(reason.len()))
                .rev()
                .find(|end| reason.is_char_boundary(*end));
            reason.truncate(end.unwrap_or(0));
            reason
        });
        Ok(Self {
            device: device.to_string(),
            command_id,
            accepted,
            reason,
        })
    }

    /// What it makes of the command.
    pub fn outcome(&self) -> Outcome {
        if self.accepted {
            Outcome::Acknowledged
        } else {
            Outcome::Refused
        }
    }
}

/// A command that waits to be sent, or to be answered.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its id.
    pub id: ByteString,
    /// Whose it is.
    pub device: ByteString,
    /// Its name.
    pub name: String,
    /// Its data, as JSON text.
    pub data: String,
    /// When it is not worth doing any more.
    pub expires_at: Timestamp,
    /// How often it was sent.
    pub attempts: u32,
}

impl Pending {
    /// What the device gets.
    pub(crate) fn payload(&self) -> Result<Bytes> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Sent<'a> {
            command_id: &'a str,
            command: &'a str,
            expires_at: Timestamp,
            data: &'a RawValue,
        }
        let corrupt = |error: serde_json::Error| {
            Error::internal("a command that is kept can't be written").with_source(error)
        };
        let data: &RawValue = serde_json::from_str(&self.data).map_err(corrupt)?;
        let sent = Sent {
            command_id: &self.id,
            command: &self.name,
            expires_at: self.expires_at,
            data,
        };
        Ok(serde_json::to_vec(&sent).map_err(corrupt)?.into())
    }
}

/// Where commands are kept until they have ended. The queue of each device is in order: only its first is sent.
pub trait CommandBook: Send + Sync {
    /// What is due by `now`: the first of each device that is to be sent, and all that have expired; `max` at most.
    fn due<'a>(&'a self, now: Timestamp, max: u32) -> BoxFuture<'a, Result<Vec<Pending>>>;

    /// When the next is due, if any waits.
    fn next_due(&self) -> BoxFuture<'_, Result<Option<Timestamp>>>;

    /// It is due again at `at`; `sent` says whether that counts as an attempt.
    fn put_off<'a>(
        &'a self,
        command: &'a Pending,
        at: Timestamp,
        sent: bool,
    ) -> BoxFuture<'a, Result<()>>;

    /// A device came: its first command is due now.
    fn rouse<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<()>>;

    /// A command's time is up: keeps that and acts on it, both or neither, unless it has ended already.
    fn expire<'a>(&'a self, command: &'a Pending) -> BoxFuture<'a, Result<()>>;
}

#[cfg(test)]
mod tests;
