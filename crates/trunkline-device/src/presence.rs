//! Which devices are there: what they say, what their last wills say, and what their silence says.

pub(crate) mod watch;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytestring::ByteString;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use trunkline_core::{Event, Result, Timestamp};

use crate::DeviceConfig;

/// A device came or went. It may be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "device.presence_changed", version = "1.0", topic = "device-events", key = device)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChanged {
    /// Which device.
    pub device: String,
    /// Whether it is there now.
    pub online: bool,
    /// How that is known.
    pub cause: Cause,
    /// When it was known.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// How it is known that a device came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The device, or its last will, said so.
    Said,
    /// It sent a message after it had been silent.
    Heard,
    /// It was silent for too long.
    Silent,
}

/// What is known of a device from before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which device.
    pub device: ByteString,
    /// Whether it was told to be online.
    pub online: bool,
    /// Whether it was told to be offline because it was silent.
    pub silent: bool,
}

/// Where the presence of devices is kept, and who acts on changes.
pub trait PresenceBook: Send + Sync {
    /// What was told before, of `max` devices at most.
    fn load(&self, max: usize) -> BoxFuture<'_, Result<Vec<Known>>>;

    /// Keeps a change and acts on it, both or neither. A change that is kept already has no effect.
    fn announce<'a>(&'a self, change: &'a PresenceChanged) -> BoxFuture<'a, Result<()>>;
}

/// The most times that the pause before `offline` doubles.
const DOUBLINGS_MAX: u32 = 5;

/// What is known of all devices, and what is to be told when.
#[derive(Debug)]
pub(crate) struct Presence {
    devices: HashMap<ByteString, Device>,
    /// When each device is looked at next: once for each that is there, or about to be told gone.
    looks: BTreeSet<(Instant, ByteString)>,
    offline_after: Duration,
    silence_max: Duration,
    devices_max: usize,
    /// Since when the broker is reached; none while it is not: then nobody's silence counts.
    linked_at: Option<Instant>,
}

#[derive(Debug)]
struct Device {
    /// What was told last; none for one that is new.
    told: Option<bool>,
    /// It was told offline because it was silent.
    silent: bool,
    /// When it said that it is offline, while that is not told.
    left_at: Option<Instant>,
    seen_at: Instant,
    online_at: Instant,
    /// How often it went of late.
    flaps: u32,
    look_at: Option<Instant>,
}

/// A change to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) device: ByteString,
    pub(crate) online: bool,
    pub(crate) cause: Cause,
}

impl Presence {
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        Self {
            devices: HashMap::new(),
            looks: BTreeSet::new(),
            offline_after: config.offline_after,
            silence_max: config.silence_max,
            devices_max: config.devices_max,
            linked_at: None,
        }
    }

    /// Takes over what was told before this process began.
    pub(crate) fn load(&mut self, known: Vec<Known>, now: Instant) {
        for Known {
            device,
            online,
            silent,
        } in known
        {
            let Some(found) = self.device(&device, now) else {
                return;
            };
            found.told = Some(online);
            found.silent = silent;
            let at = now + self.silence_max;
            if online {
                self.look(&device, at);
            }
        }
    }

    /// Whether commands can be sent to it: all that is not known to be gone.
    pub(crate) fn is_reachable(&self, device: &str) -> bool {
        let found = self.devices.get(device);
        found.is_none_or(|found| found.told != Some(false) && found.left_at.is_none())
    }

    /// The broker is reached, or not any more.
    pub(crate) fn linked(&mut self, is_linked: bool, now: Instant) {
        self.linked_at = is_linked.then_some(now);
    }

    /// A device sent something.
    pub(crate) fn heard(&mut self, device: &ByteString, now: Instant) -> Option<Change> {
        let silence_max = self.silence_max;
        let found = self.device(device, now)?;
        found.seen_at = now;
        // A last will is believed until the device says otherwise: what was under way may come after it.
        if !found.silent {
            return None;
        }
        self.look(device, now + silence_max);
        self.tell(device, true, Cause::Heard, now)
    }

    /// A device, its will or the broker's memory says that it is online or offline.
    pub(crate) fn said(
        &mut self,
        device: &ByteString,
        online: bool,
        retained: bool,
        now: Instant,
    ) -> Option<Change> {
        let (silence_max, offline_after) = (self.silence_max, self.offline_after);
        let found = self.device(device, now)?;
        if !online {
            if found.told == Some(false) || found.left_at.is_some() {
                return None;
            }
            found.left_at = Some(now);
            // One that stayed for long has stopped to come and go.
            if now - found.online_at > offline_after * 2_u32.pow(DOUBLINGS_MAX) {
                found.flaps = 0;
            }
            let wait = offline_after * 2_u32.pow(found.flaps.min(DOUBLINGS_MAX));
            self.look(device, now + wait);
            return None;
        }
        // What the broker remembers of one that fell silent is as old as its silence.
        if retained && found.silent {
            return None;
        }
        if found.left_at.take().is_some() {
            found.online_at = now;
        }
        found.seen_at = now;
        let is_new = found.told != Some(true);
        self.look(device, now + silence_max);
        if is_new {
            return self.tell(device, true, Cause::Said, now);
        }
        None
    }

    /// When [`Presence::due`] has something to look at.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// What is to be told by now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((at, device)) = self.looks.first().cloned()
            && at <= now
        {
            self.looks.pop_first();
            changes.extend(self.look_at(&device, now));
        }
        changes
    }

    fn look_at(&mut self, device: &ByteString, now: Instant) -> Option<Change> {
        let (silence_max, linked_at) = (self.silence_max, self.linked_at);
        let found = self.devices.get_mut(device)?;
        found.look_at = None;
        if found.left_at.take().is_some() {
            return self.tell(device, false, Cause::Said, now);
        }
        if found.told != Some(true) {
            return None;
        }
        let Some(linked_at) = linked_at else {
            self.look(device, now + silence_max);
            return None;
        };
        let silent_at = found.seen_at.max(linked_at) + silence_max;
        if silent_at <= now {
            return self.tell(device, false, Cause::Silent, now);
        }
        self.look(device, silent_at);
        None
    }

    fn tell(
        &mut self,
        device: &ByteString,
        online: bool,
        cause: Cause,
        now: Instant,
    ) -> Option<Change> {
        let found = self.devices.get_mut(device)?;
        if found.told == Some(online) {
            return None;
        }
        if online {
            found.online_at = now;
        } else {
            found.flaps = found.flaps.saturating_add(1);
        }
        found.told = Some(online);
        found.silent = cause == Cause::Silent;
        Some(Change {
            device: device.clone(),
            online,
            cause,
        })
    }

    /// The entry of a device; none when there are too many.
    fn device(&mut self, device: &ByteString, now: Instant) -> Option<&mut Device> {
        if self.devices.len() >= self.devices_max && !self.devices.contains_key(device) {
            return None;
        }
        Some(self.devices.entry(device.clone()).or_insert(Device {
            told: None,
            silent: false,
            left_at: None,
            seen_at: now,
            online_at: now,
            flaps: 0,
            look_at: None,
        }))
    }

    fn look(&mut self, device: &ByteString, at: Instant) {
        if let Some(found) = self.devices.get_mut(device) {
            if let Some(before) = found.look_at.replace(at) {
                self.looks.remove(&(before, device.clone()));
            }
            self.looks.insert((at, device.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
