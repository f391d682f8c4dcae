//! The words of alerts: which and why, and never what is in an event or a saga.

use jiff::Timestamp;
use serde_json::{Value, json};
use trunkline_bus::DeadLetter;
use trunkline_saga::Instance;

use super::Alert;

impl Alert {
    /// A key is parked: its first letter is kept.
    pub(crate) fn dead_letter(letter: &DeadLetter) -> Self {
        Self::of_letter("dead_letter", letter, json!({}))
    }

    /// A service has decided about a dead letter.
    pub(crate) fn decided(letter: &DeadLetter, retry_at: Option<Timestamp>) -> Self {
        let decision = if retry_at.is_some() { "retry" } else { "keep" };
        let said = json!({ "decision": decision, "retry_at": retry_at });
        Self::of_letter("dead_letter_decided", letter, said)
    }

    /// A dead letter that was to be replayed by itself is handled.
    pub(crate) fn recovered(letter: &DeadLetter) -> Self {
        Self::of_letter("dead_letter_recovered", letter, json!({}))
    }

    /// An instance of a service's saga is parked.
    pub(crate) fn saga_parked(service: &str, instance: &Instance) -> Self {
        let error = instance.error.as_ref();
        let told = json!({
            "alert": "saga_parked",
            "service": service,
            "saga": &*instance.saga,
            "saga_id": instance.id,
            "key": &*instance.key,
            "correlation_id": &*instance.correlation_id,
            "code": error.map(|error| &*error.code),
            "error": error.map(|error| &*error.message),
            "parked_at": instance.changed_at,
        });
        Self {
            seq: 0,
            alert: "saga_parked".into(),
            about: instance.saga.clone(),
            subject: instance.id.to_string().into(),
            correlation_id: instance.correlation_id.clone(),
            told,
        }
    }

    fn of_letter(alert: &'static str, letter: &DeadLetter, said: Value) -> Self {
        let event = &letter.envelope;
        let mut told = json!({
            "alert": alert,
            "letter_id": &*letter.id,
            "group": &*letter.group,
            "key": &*letter.key,
            "event_id": &*event.id,
            "event_type": &*event.event_type,
            "correlation_id": &*event.correlation_id,
            "code": letter.code,
            "error": letter.error,
            "attempts": letter.attempts,
            "recoveries": letter.recoveries,
            "parked_at": letter.parked_at,
        });
        if let (Value::Object(told), Value::Object(said)) = (&mut told, said) {
            told.extend(said);
        }
        Self {
            seq: 0,
            alert: alert.into(),
            about: letter.group.clone(),
            subject: letter.id.clone(),
            correlation_id: event.correlation_id.clone(),
            told,
        }
    }
}
