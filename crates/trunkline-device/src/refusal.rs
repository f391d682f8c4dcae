//! What is not taken from a device, and who is told.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

/// Why a message was not taken. It is acknowledged to the broker, so that it does not come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Its topic is none that is declared, or names no device: wildcards, `$SYS`, bytes that are no text.
    Topic,
    /// The device is not known here.
    Unknown,
    /// The device sends more than its rate, or there are more devices than the bound.
    TooFast,
    /// It was sent without acknowledgement (QoS 0), and there is no room for it.
    NoRoom,
    /// It is not what its topic is declared to carry: no JSON, or against its schema.
    Payload,
    /// It names another device than its topic does.
    OtherDevice,
    /// It has no id where one is declared, or one of more than 128 bytes.
    Id,
}

impl Refusal {
    /// A word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Unknown => "unknown",
            Self::TooFast => "too_fast",
            Self::NoRoom => "no_room",
            Self::Payload => "payload",
            Self::OtherDevice => "other_device",
            Self::Id => "id",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that was not taken, as the audit hook is told of it: for each device once a minute at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which device, if the topic names one.
    pub device: Option<ByteString>,
    /// The topic, with what is no text in it replaced, and cut at 512 bytes.
    pub topic: String,
    /// Why.
    pub reason: Refusal,
    /// What was wrong in particular; never the payload.
    pub detail: String,
}

/// Is told of refusals. It is called from the gateway's own task, so it must not block.
pub type RefusalHook = Arc<dyn Fn(&Refused) + Send + Sync>;
