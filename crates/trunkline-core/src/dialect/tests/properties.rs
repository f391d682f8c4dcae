//! Any event and any text, through every dialect.

use proptest::prelude::*;

use super::*;
use crate::testing::{any_envelope, json};

/// Members whose names nobody knows, some at the top, some in the metadata.
fn strange() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        "[a-z]{1,3}x[a-z0-9]{0,6}",
        "x[a-zA-Z_ $]{0,8}",
        any::<String>().prop_map(|name| format!("é{name}"))
    ];
    prop::collection::btree_map(name, json(), 0..5).prop_map(|map| map.into_iter().rev().collect())
}

fn members(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!(",{}:{value}", json::quote(name)))
        .collect()
}

proptest! {
    #[test]
    fn any_event_is_kept_in_every_dialect(event in any_envelope()) {
        let event = Envelope {
            id: format!("i{}", event.id).into(),
            event_type: format!("t{}", event.event_type).into(),
            source: format!("s{}", event.source).into(),
            topic: "order-events".into(),
            ..event
        };
        for dialect in Dialect::ALL {
            let text = dialect.write(&event).unwrap();
            let again = dialect.read(text, &arrival()).unwrap();
            prop_assert_eq!(&again, &event, "{}", dialect);
        }
    }

    #[test]
    fn any_text_is_kept_through_every_dialect(
        top in strange(), below in strange(), data in json(), id in "[ -~]{1,20}",
        seconds in prop_oneof![Just("1234567890"), Just("1.5e9"), Just("1234567890.250"), Just("0")],
    ) {
        let id = json::quote(&id);
        let (top, below) = (members(&top), members(&below));
        let texts = [
            (Dialect::Tablium, format!(
                r#"{{"version":"1.0"{top},"id":{id},"type":"t","producer":"p","data":{data},"timestamp":"2023-03-18T12:34:56.789Z","metadata":{{"traceId":"x"{below}}}}}"#)),
            (Dialect::Storefront, format!(
                r#"{{"event_id":{id},"event_type":"t","event_version":"1.0","timestamp":"2024-01-15T10:30:00Z","source_service":"s","correlation_id":"c","data":{data}{top},"metadata":{{"user_id":"u"{below}}}}}"#)),
            (Dialect::Retail, format!(
                r#"{{"eventId":{id},"eventType":"T","eventVersion":"1.0","source":"s","timestamp":{seconds},"correlationId":"c"{top},"data":{data}}}"#)),
            (Dialect::CloudEvents, format!(
                r#"{{"specversion":"1.0","id":{id},"type":"t","source":"s"{top},"data":{data}}}"#)),
        ];
        for (dialect, text) in texts {
            let event = dialect.read(text.clone().into(), &arrival()).unwrap();
            prop_assert_eq!(&event.data, &data.trim().as_bytes());
            prop_assert_eq!(compact(&write(dialect, &event)), compact(&text));
            for other in Dialect::ALL {
                let there = read(other, &write(other, &event));
                prop_assert_eq!(compact(&write(dialect, &there)), compact(&text));
            }
        }
    }

    #[test]
    fn hostile_texts_never_panic(text in r#"[{}\[\]":,a-z0-9.\\ -]{0,80}"#) {
        for dialect in Dialect::ALL {
            if let Ok(event) = dialect.read(text.clone().into(), &arrival()) {
                prop_assert!(dialect.write(&event).is_ok());
            }
        }
    }

    #[test]
    fn damaged_events_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        for (dialect, text) in
            [(Dialect::Tablium, TABLIUM), (Dialect::Storefront, STOREFRONT), (Dialect::Retail, RETAIL)]
        {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(event) = dialect.read(bytes.into(), &arrival()) {
                prop_assert!(dialect.write(&event).is_ok());
            }
        }
    }
}
