//! A connection: a client, and by what means it is reached at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use trunkline_core::Result;

use super::packet::{Packet, bad};
use crate::client::Client;
use crate::packet::Frame;
use crate::queue::Out;
use crate::realtime::Inner;

/// By what means it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    Polling,
    /// Polling, while a WebSocket has shown that it works.
    Probed,
    WebSocket,
}

pub(crate) struct Link {
    pub(crate) client: Arc<Client>,
    pub(crate) means: Mutex<Means>,
    /// A request waits for packets, or is being given some.
    pub(crate) is_polled: AtomicBool,
    beats: Mutex<Beats>,
}

/// When the client has to be heard.
#[derive(Debug, Clone, Copy)]
struct Beats {
    /// When it is asked next, or has to have answered.
    at: Instant,
    is_asked: bool,
    has_connected: bool,
    began: Instant,
}

/// What has come at the time of a beat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Ask,
    Silent,
    Other,
}

impl Link {
    pub(crate) fn new(inner: Arc<Inner>, headers: HeaderMap) -> Arc<Self> {
        let now = Instant::now();
        let beats = Beats {
            at: now + inner.limits.ping_every,
            is_asked: false,
            has_connected: false,
            began: now,
        };
        Arc::new(Self {
            client: Client::new(inner, headers),
            means: Mutex::new(Means::Polling),
            is_polled: AtomicBool::new(false),
            beats: Mutex::new(beats),
        })
    }

    /// The first packet: how the connection is kept.
    pub(crate) fn opening(&self, upgrades: &[&str]) -> String {
        let limits = &self.client.realtime.limits;
        let opening = json!({
            "sid": self.client.id,
            "upgrades": upgrades,
            "pingInterval": limits.ping_every.as_millis(),
            "pingTimeout": limits.ping_within.as_millis(),
            "maxPayload": limits.payload_max,
        });
        format!("0{opening}")
    }

    /// A packet of the client.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one that may come: the connection is to end.
    pub(crate) fn take(&self, packet: Packet) -> Result<()> {
        match packet {
            Packet::Pong => {
                let mut beats = self.beats.lock();
                beats.is_asked = false;
                beats.at = Instant::now() + self.client.realtime.limits.ping_every;
                Ok(())
            }
            Packet::Message(text) => {
                self.beats.lock().has_connected = true;
                self.client.message(&text)
            }
            Packet::Binary(bytes) => self.client.bytes(bytes),
            Packet::Close => {
                self.client.ends("transport close");
                Ok(())
            }
            Packet::Noop => Ok(()),
            Packet::Ping(_) | Packet::Upgrade => Err(bad("expected no such packet here")),
        }
    }

    /// Waits until something is to be looked at: the client's silence, a token's end.
    pub(crate) async fn beat(&self) -> Beat {
        let now = Instant::now();
        let beats = *self.beats.lock();
        let env = &self.client.realtime.env;
        let mut until = beats.at;
        if let Some(good_until) = self.client.good_until() {
            let left = good_until.duration_since(env.now());
            let left = left.max(SignedDuration::ZERO).unsigned_abs();
            until = until.min(now.checked_add(left).unwrap_or(until));
        }
        let connects_by = beats.began + self.client.realtime.limits.connect_within;
        if !beats.has_connected {
            until = until.min(connects_by);
        }
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.client.expires.notified() => return Beat::Other,
        }
        self.client.expire(env.now());
        let now = Instant::now();
        let mut beats = self.beats.lock();
        if !beats.has_connected && now >= connects_by {
            return Beat::Silent;
        }
        if now < beats.at {
            return Beat::Other;
        }
        if beats.is_asked {
            return Beat::Silent;
        }
        beats.is_asked = true;
        beats.at = now + self.client.realtime.limits.ping_within;
        Beat::Ask
    }

    /// Looks after a client that is reached by polling, until it has something better.
    pub(crate) async fn attend(self: Arc<Self>) {
        let client = &self.client;
        loop {
            tokio::select! {
                biased;
                () = client.closed.cancelled() => return client.ends("transport error"),
                () = client.realtime.stop.cancelled() => return client.ends("server shutting down"),
                beat = self.beat() => {
                    if *self.means.lock() == Means::WebSocket {
                        // Its own task has been looking after it, and is told what this one was woken for.
                        return client.expires.notify_one();
                    }
                    match beat {
                        Beat::Ask => client.send(Out::of(Frame::text("2"))),
                        Beat::Silent => return client.ends("ping timeout"),
                        Beat::Other => {}
                    }
                }
            }
        }
    }

    /// Takes the only place of whoever reads packets. None if somebody has it.
    pub(crate) fn poll(self: &Arc<Self>) -> Option<Polled> {
        let was = self.is_polled.swap(true, Ordering::AcqRel);
        (!was).then(|| Polled(self.clone()))
    }
}

/// The place of a request that reads packets.
pub(crate) struct Polled(pub(crate) Arc<Link>);

impl Drop for Polled {
    fn drop(&mut self) {
        self.0.is_polled.store(false, Ordering::Release);
    }
}
