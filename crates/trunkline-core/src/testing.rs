//! Envelopes for this crate's tests.

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use proptest::prelude::*;

use crate::{Envelope, Kind, Priority, TraceContext, Version};

pub(crate) fn envelope() -> Envelope {
    Envelope {
        id: "019b76da-a800-7000-8000-000000000001".into(),
        event_type: "order.created".into(),
        version: Version::new(1, 0),
        source: "order-service".into(),
        time: "2026-01-01T00:00:00.25Z".parse().unwrap(),
        topic: "order-events".into(),
        key: Some("order-1".into()),
        correlation_id: "flow-1".into(),
        causation_id: Some("event-0".into()),
        trace: Some(TraceContext {
            trace_id: 0xabc,
            span_id: 0xdef,
            sampled: true,
        }),
        user_id: Some("ada".into()),
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: "application/json".into(),
        extensions: vec![("region".into(), "\"eu\"".into())],
        data: Bytes::from_static(br#"{"order_id":"order-1","total":59.98}"#),
    }
}

fn text() -> impl Strategy<Value = ByteString> {
    prop_oneof![
        4 => "[ -~]{0,40}".prop_map(ByteString::from),
        1 => any::<String>().prop_map(ByteString::from),
    ]
}

fn name() -> impl Strategy<Value = ByteString> {
    // Not one of the words that have a meaning.
    "x[a-z0-9]{1,12}".prop_map(ByteString::from)
}

fn time() -> impl Strategy<Value = Timestamp> {
    let bounds = Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond();
    prop_oneof![
        (0_i64..4_102_444_800).prop_map(|second| Timestamp::from_second(second).unwrap()),
        bounds.prop_map(|nanos| Timestamp::from_nanosecond(nanos).unwrap()),
    ]
}

fn trace() -> impl Strategy<Value = TraceContext> {
    (1..=u128::MAX, 1..=u64::MAX, any::<bool>()).prop_map(|(trace_id, span_id, sampled)| {
        TraceContext {
            trace_id,
            span_id,
            sampled,
        }
    })
}

/// JSON values in forms that a parser into numbers would not keep.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1.0".to_owned()),
        Just("1.00".to_owned()),
        Just("1e2".to_owned()),
        Just("-0".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("0.1000000000000000000000000001".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\u0041\/b""#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| {
                        format!("{} :{value}", serde_json::to_string(name).unwrap())
                    })
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Any envelope; one without JSON data holds any bytes.
pub(crate) fn any_envelope() -> impl Strategy<Value = Envelope> {
    let ids = (text(), text(), text(), text(), text());
    let versions = (any::<u16>(), any::<u16>(), time());
    let optional = (
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(trace()),
    );
    let kind = prop_oneof![
        Just(Kind::Domain),
        Just(Kind::Integration),
        Just(Kind::Command),
        Just(Kind::System)
    ];
    let priority = prop_oneof![
        Just(Priority::Low),
        Just(Priority::Medium),
        Just(Priority::High)
    ];
    let data = prop_oneof![
        json().prop_map(|json| (
            ByteString::from_static("application/json"),
            Bytes::from(json)
        )),
        prop::collection::vec(any::<u8>(), 0..64)
            .prop_map(|bytes| (ByteString::from_static("image/png"), Bytes::from(bytes))),
    ];
    let extensions = prop::collection::btree_map(name(), text(), 0..4);
    (ids, versions, optional, kind, priority, data, extensions).prop_map(
        |(ids, versions, optional, kind, priority, data, extensions)| Envelope {
            id: ids.0,
            event_type: ids.1,
            source: ids.2,
            topic: ids.3,
            correlation_id: ids.4,
            version: Version::new(versions.0, versions.1),
            time: versions.2,
            key: optional.0,
            causation_id: optional.1,
            user_id: optional.2,
            trace: optional.3,
            kind,
            priority,
            content_type: data.0,
            extensions: extensions
                .into_iter()
                .map(|(name, text)| (name, serde_json::to_string(&*text).unwrap().into()))
                .collect(),
            data: data.1,
        },
    )
}
