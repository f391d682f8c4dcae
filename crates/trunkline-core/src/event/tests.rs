use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;
use crate::testing::envelope;
use crate::{EventDecl, report};

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, trunkline_macros::Event)]
#[event(type = "order.created", version = "2.1", topic = "order-events", key = order_id)]
#[event(kind = integration, priority = high, encrypted)]
#[event(upcast(from = "1.1", to = "2.0", with = split_total))]
#[event(upcast(from = "2.0", to = "2.1", with = add_currency))]
struct OrderCreated {
    order_id: String,
    cents: u64,
    currency: String,
}

fn split_total(old: Value) -> Result<Value> {
    let total = old.get("total").and_then(Value::as_f64);
    let total = total.ok_or_else(|| Error::invalid("no_total", "expected a total"))?;
    let cents: u64 = format!("{:.0}", total * 100.0).parse().unwrap();
    Ok(json!({"order_id": old["order_id"], "cents": cents}))
}

fn add_currency(mut old: Value) -> Result<Value> {
    old["currency"] = json!("EUR");
    Ok(old)
}

fn event(version: Version, data: &Value) -> Envelope {
    Envelope {
        version,
        data: data.to_string().into(),
        ..envelope()
    }
}

fn decode(version: (u16, u16), data: &Value) -> Result<OrderCreated> {
    Event::decode(event(Version::new(version.0, version.1), data)).map(|event| event.data)
}

#[test]
fn the_derive_says_what_the_attribute_says() {
    assert_eq!(OrderCreated::TYPE, "order.created");
    assert_eq!(OrderCreated::VERSION, Version::new(2, 1));
    assert_eq!(OrderCreated::TOPIC, "order-events");
    assert_eq!(OrderCreated::KIND, Kind::Integration);
    assert_eq!(OrderCreated::PRIORITY, Priority::High);
    const { assert!(OrderCreated::ENCRYPTED) };
    let order = OrderCreated {
        order_id: "o-1".into(),
        cents: 1,
        currency: "EUR".into(),
    };
    assert!(matches!(order.key(), Some(Cow::Borrowed("o-1"))));
    let decl = EventDecl::of::<OrderCreated>();
    assert_eq!(
        (decl.event_type, decl.version),
        ("order.created", Version::new(2, 1))
    );
    assert_eq!(decl.upcasts.len(), 2);
    assert_eq!(
        decl.schema()["required"],
        json!(["order_id", "cents", "currency"])
    );
}

#[test]
fn every_older_version_is_brought_up() {
    let expected = OrderCreated {
        order_id: "o-1".into(),
        cents: 250,
        currency: "EUR".into(),
    };
    let oldest = json!({"order_id": "o-1", "total": 2.5});
    assert_eq!(decode((1, 1), &oldest).unwrap(), expected);
    // 1.1 reads what 1.0 wrote: that is what a minor version is.
    assert_eq!(decode((1, 0), &oldest).unwrap(), expected);
    assert_eq!(
        decode((2, 0), &json!({"order_id": "o-1", "cents": 250})).unwrap(),
        expected
    );
}

#[test]
fn a_newer_minor_version_is_read_and_a_newer_major_refused() {
    let data = json!({"order_id": "o-1", "cents": 250, "currency": "EUR", "new": [1]});
    assert_eq!(decode((2, 7), &data).unwrap().cents, 250);
    let error = decode((3, 0), &data).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (crate::ErrorKind::InvalidInput, "event_version_newer")
    );
    assert!(error.to_string().contains("found: 3.0"), "{error}");
}

#[test]
fn a_version_that_no_step_leads_from_is_refused() {
    // 1.2 is newer than the 1.1 that the first step reads, and might lack what the step needs.
    let error = decode((1, 2), &json!({"order_id": "o-1", "total": 2.5})).unwrap_err();
    assert_eq!(error.code(), "event_version_unsupported");
    assert_eq!(
        decode((0, 9), &json!({})).unwrap_err().code(),
        "event_version_unsupported"
    );
}

#[test]
fn a_failing_step_says_which() {
    let error = decode((1, 1), &json!({"order_id": "o-1"})).unwrap_err();
    assert_eq!(error.code(), "event_upcast_failed");
    assert!(
        report(&error)
            .to_string()
            .contains("from: 1.1, to: 2.0): expected a total")
    );
}

#[test]
fn data_that_does_not_decode_says_at_which_field() {
    let data = json!({"order_id": "o-1", "cents": "250", "currency": "EUR"});
    let error = decode((2, 1), &data).unwrap_err();
    assert_eq!(error.code(), "event_data_invalid");
    assert!(error.to_string().contains("field: cents"), "{error}");
    let mut trailing = event(Version::new(2, 1), &json!(null));
    trailing.data = Bytes::from_static(br#"{"order_id":"o","cents":1,"currency":"EUR"} x"#);
    let error = Event::<OrderCreated>::decode(trailing).unwrap_err();
    assert!(error.to_string().contains("something follows"), "{error}");
}

#[test]
fn another_type_and_other_content_are_refused() {
    let other = Envelope {
        event_type: "order.failed".into(),
        ..envelope()
    };
    assert_eq!(
        Event::<OrderCreated>::decode(other).unwrap_err().code(),
        "event_type_mismatch"
    );
    let image = Envelope {
        content_type: "image/png".into(),
        ..envelope()
    };
    assert_eq!(
        Event::<OrderCreated>::decode(image).unwrap_err().code(),
        "event_content_type"
    );
}

#[test]
fn a_published_event_is_read_again() {
    let env = Env::seeded(1);
    let context = Context::root(&env).with_user("ada");
    let order = OrderCreated {
        order_id: "o-1".into(),
        cents: 1,
        currency: "EUR".into(),
    };
    let envelope = Envelope::of(&order, "order-service", &context, &env).unwrap();
    assert_eq!(envelope.key.as_deref(), Some("o-1"));
    assert_eq!(envelope.correlation_id, context.correlation_id);
    assert_eq!(envelope.user_id.as_deref(), Some("ada"));
    let event = Event::<OrderCreated>::decode(envelope.clone()).unwrap();
    assert_eq!(event.data, order);
    assert_eq!(event.envelope, envelope);
}
