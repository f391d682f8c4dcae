//! What a consumer counts. Labels are service, group, event type and outcome: never an id.

use std::collections::HashMap;
use std::time::Duration;

use bytestring::ByteString;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use trunkline_core::Envelope;

use super::ConsumerConfig;
use super::call::Ended;
use crate::Outcome;

/// Beyond so many event types the label is `other`: what comes from outside must not make series.
const TYPES_MAX: usize = 256;

pub(super) struct Meters {
    service: ByteString,
    group: ByteString,
    types: HashMap<ByteString, TypeMeters>,
    lag: Gauge,
    in_flight: Gauge,
    parked_keys: Gauge,
    lot_failures: Counter,
    reconnects: Counter,
}

struct TypeMeters {
    done: Counter,
    failed: Counter,
    blocked: Counter,
    parked: Counter,
    seconds: Histogram,
}

impl Meters {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        let (service, group) = (config.service.clone(), config.group.clone());
        let labels = [
            ("service", service.to_string()),
            ("group", group.to_string()),
        ];
        Self {
            lag: gauge!("trunkline_consumer_lag", &labels),
            in_flight: gauge!("trunkline_consumer_in_flight", &labels),
            parked_keys: gauge!("trunkline_consumer_parked_keys", &labels),
            lot_failures: counter!("trunkline_parking_failures_total", &labels),
            reconnects: counter!("trunkline_consumer_reconnects_total", &labels),
            types: HashMap::new(),
            service,
            group,
        }
    }

    fn of(&mut self, event_type: &ByteString) -> &TypeMeters {
        let other = ByteString::from_static("other");
        let known = self.types.contains_key(event_type);
        let name = if known || self.types.len() < TYPES_MAX {
            event_type
        } else {
            &other
        };
        if !self.types.contains_key(name) {
            let meters = TypeMeters::new(&self.service, &self.group, name);
            self.types.insert(name.clone(), meters);
        }
        self.types.get(name).expect("it was just made")
    }

    /// A call ended. Its time is counted once for each type in it, shared among its events.
    pub(super) fn called(&mut self, batch: &[Envelope], ended: &Ended, took: Duration) {
        let share = took.as_secs_f64() / f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        for (at, envelope) in batch.iter().enumerate() {
            let meters = self.of(&envelope.event_type);
            meters.seconds.record(share);
            let outcome = match ended {
                Ended::Outcomes(outcomes) => outcomes.get(at),
                Ended::Broken(_) => None,
            };
            match outcome {
                Some(Outcome::Done) => meters.done.increment(1),
                Some(Outcome::Blocked) => meters.blocked.increment(1),
                Some(Outcome::Failed(_)) | None => meters.failed.increment(1),
            }
        }
    }

    /// An event used up its attempts.
    pub(super) fn failed(&mut self, envelope: &Envelope, gives_up: bool) {
        if gives_up {
            self.of(&envelope.event_type).parked.increment(1);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    pub(super) fn gauges(&self, lag: Option<u64>, in_flight: usize, parked_keys: usize) {
        if let Some(lag) = lag {
            self.lag.set(lag as f64);
        }
        self.in_flight.set(in_flight as f64);
        self.parked_keys(parked_keys);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    pub(super) fn parked_keys(&self, count: usize) {
        self.parked_keys.set(count as f64);
    }

    pub(super) fn lot_failed(&self) {
        self.lot_failures.increment(1);
    }

    pub(super) fn reconnect(&self) {
        self.reconnects.increment(1);
    }
}

impl TypeMeters {
    fn new(service: &ByteString, group: &ByteString, event_type: &ByteString) -> Self {
        let labels = [
            ("service", service.to_string()),
            ("group", group.to_string()),
            ("event_type", event_type.to_string()),
        ];
        let events = |outcome: &'static str| {
            let mut labels = labels.to_vec();
            labels.push(("outcome", outcome.to_owned()));
            counter!("trunkline_events_handled_total", &labels)
        };
        Self {
            done: events("done"),
            failed: events("failed"),
            blocked: events("blocked"),
            parked: events("parked"),
            seconds: histogram!("trunkline_event_handle_seconds", &labels),
        }
    }
}
