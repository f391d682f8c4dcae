//! Telling who came and who went.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use trunkline_core::{Env, Error, report};

use super::{Change, Presence, PresenceBook, PresenceChanged};
use crate::DeviceConfig;

/// So many changes are told side by side, each of another device.
const SIDE_BY_SIDE_MAX: usize = 16;
/// A change that can't be told for another reason than a store that is away is given up after so many times.
const ATTEMPTS_MAX: u32 = 5;
/// The pause after the first failure; it doubles up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The presence of all devices, shared by whoever hears of them.
pub(crate) struct Watch {
    presence: Mutex<Presence>,
    /// What is to be told, in order; one of each device at a time.
    waiting: Mutex<Vec<Change>>,
    wake: Notify,
    book: Arc<dyn PresenceBook>,
    blameless: fn(&Error) -> bool,
    env: Env,
    devices_max: usize,
}

impl Watch {
    pub(crate) fn new(
        config: &DeviceConfig,
        book: Arc<dyn PresenceBook>,
        blameless: fn(&Error) -> bool,
        env: Env,
    ) -> Self {
        Self {
            presence: Mutex::new(Presence::new(config)),
            waiting: Mutex::default(),
            wake: Notify::new(),
            book,
            blameless,
            env,
            devices_max: config.devices_max,
        }
    }

    pub(crate) async fn load(&self) -> trunkline_core::Result<()> {
        let known = self.book.load(self.devices_max).await?;
        self.presence.lock().load(known, Instant::now());
        Ok(())
    }

    pub(crate) fn linked(&self, is_linked: bool) {
        self.presence.lock().linked(is_linked, Instant::now());
    }

    pub(crate) fn heard(&self, device: &ByteString) {
        let change = self.presence.lock().heard(device, Instant::now());
        self.take(change);
    }

    /// Takes what a device said; says whether it is there now and was not before.
    pub(crate) fn said(&self, device: &ByteString, online: bool, retained: bool) {
        let now = Instant::now();
        let change = self.presence.lock().said(device, online, retained, now);
        self.take(change);
        // What is to be looked at next may have moved.
        self.wake.notify_one();
    }

    pub(crate) fn is_reachable(&self, device: &str) -> bool {
        self.presence.lock().is_reachable(device)
    }

    fn take(&self, change: Option<Change>) {
        if let Some(change) = change {
            // Bounded by the devices: one is told of only when what was told last differs.
            self.waiting.lock().push(change);
            self.wake.notify_one();
        }
    }

    /// Tells changes until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut busy: Vec<ByteString> = Vec::new();
        let mut telling = FuturesUnordered::new();
        loop {
            let (due, next) = {
                let mut presence = self.presence.lock();
                (presence.due(Instant::now()), presence.next())
            };
            self.waiting.lock().extend(due);
            while busy.len() < SIDE_BY_SIDE_MAX
                && let Some(change) = self.next(&busy)
            {
                busy.push(change.device.clone());
                telling.push(self.tell(change));
            }
            let next_look = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(device) = telling.next() => busy.retain(|other| *other != device),
                () = self.wake.notified() => {}
                () = next_look => {}
            }
        }
    }

    /// The first change of a device that is not being told of.
    fn next(&self, busy: &[ByteString]) -> Option<Change> {
        let mut waiting = self.waiting.lock();
        let at = waiting
            .iter()
            .position(|change| !busy.contains(&change.device))?;
        Some(waiting.remove(at))
    }

    async fn tell(&self, change: Change) -> ByteString {
        let told = PresenceChanged {
            device: change.device.to_string(),
            online: change.online,
            cause: change.cause,
            at: self.env.now(),
        };
        let (mut pause, longest) = PAUSE;
        let mut attempts = 0;
        while let Err(error) = self.book.announce(&told).await {
            if !(self.blameless)(&error) {
                attempts += 1;
            }
            let gives_up = attempts >= ATTEMPTS_MAX;
            tracing::warn!(
                device = &*change.device, online = change.online, gives_up, error = %report(&error),
                "a device's presence could not be told"
            );
            if gives_up {
                counter!("trunkline_device_presence_lost_total").increment(1);
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        change.device
    }
}
