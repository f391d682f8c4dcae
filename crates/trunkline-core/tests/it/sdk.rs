//! What we write, read by the CloudEvents project's own library, and the other way round.

use bytes::Bytes;
use cloudevents::event::{ExtensionValue, SpecVersion};
use cloudevents::message::{
    BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result as SdkResult,
};
use cloudevents::{AttributesReader, Data, Event as SdkEvent};
use trunkline_core::cloudevents as ours;
use trunkline_core::{
    Arrival, Dialect, Envelope, Kind, Priority, Timestamp, TraceContext, Version,
};

fn arrival() -> Arrival {
    Arrival::new("order-events", Timestamp::UNIX_EPOCH)
}

fn envelope() -> Envelope {
    Envelope {
        id: "e-1".into(),
        event_type: "order.created".into(),
        version: Version::new(1, 2),
        source: "order-service".into(),
        time: "2024-01-15T10:30:00.25Z".parse().unwrap(),
        topic: "order-events".into(),
        key: Some("order-1".into()),
        correlation_id: "flow-1".into(),
        causation_id: Some("e-0".into()),
        trace: Some(TraceContext {
            trace_id: 0xabc,
            span_id: 0xdef,
            sampled: true,
        }),
        user_id: Some("ada".into()),
        kind: Kind::Command,
        priority: Priority::High,
        content_type: "application/json".into(),
        extensions: vec![
            ("region".into(), "\"eu\"".into()),
            ("count".into(), "5".into()),
        ],
        data: Bytes::from_static(br#"{"total":59.98,"lines":[1,2]}"#),
    }
}

fn check(event: &SdkEvent) {
    assert_eq!(event.specversion(), SpecVersion::V10);
    assert_eq!((event.id(), event.ty()), ("e-1", "order.created"));
    assert_eq!(event.source().as_str(), "order-service");
    assert_eq!(event.time().unwrap().timestamp_millis(), 1_705_314_600_250);
    assert_eq!(event.datacontenttype(), Some("application/json"));
    for (name, value) in [
        ("dataversion", "1.2"),
        ("partitionkey", "order-1"),
        ("correlationid", "flow-1"),
        ("causationid", "e-0"),
        (
            "traceparent",
            "00-00000000000000000000000000000abc-0000000000000def-01",
        ),
        ("userid", "ada"),
        ("eventkind", "command"),
        ("priority", "high"),
        ("region", "eu"),
    ] {
        let expected = ExtensionValue::String(value.to_owned());
        assert_eq!(event.extension(name), Some(&expected), "{name}");
    }
    let data: serde_json::Value = event.data().cloned().unwrap().try_into().unwrap();
    assert_eq!(data, serde_json::json!({"total": 59.98, "lines": [1, 2]}));
}

#[test]
fn structured_mode_is_read_by_the_sdk_and_back() {
    let text = Dialect::CloudEvents.write(&envelope()).unwrap();
    let event: SdkEvent = serde_json::from_slice(&text).unwrap();
    check(&event);
    assert_eq!(event.extension("count"), Some(&ExtensionValue::Integer(5)));
    let text = serde_json::to_vec(&event).unwrap();
    let mut again = Dialect::CloudEvents.read(text.into(), &arrival()).unwrap();
    // The SDK orders its fields and members in its own way, which is kept too.
    again
        .extensions
        .retain(|(name, _)| name != "cloudeventsform");
    again.extensions.sort();
    let mut expected = envelope();
    expected.extensions.sort();
    let value =
        |event: &Envelope| serde_json::from_slice::<serde_json::Value>(&event.data).unwrap();
    assert_eq!(value(&again), value(&expected));
    again.data = expected.data.clone();
    assert_eq!(again, expected);
}

#[test]
fn a_dialect_with_unknown_fields_is_still_a_cloudevent() {
    let text =
        br#"{"event_id":"e-1","event_type":"t","event_version":"1.0","Odd Field":{"a": 1.00},
        "timestamp":"2024-01-15T10:30:00Z","source_service":"s","correlation_id":"c","data":null,
        "metadata":{"trace_id":"none","tier":"gold","n":12345678901}}"#;
    let event = Dialect::Storefront
        .read(Bytes::from_static(text), &arrival())
        .unwrap();
    let text = Dialect::CloudEvents.write(&event).unwrap();
    let read: SdkEvent = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        read.extension("tier"),
        Some(&ExtensionValue::String("gold".into()))
    );
    for (name, _) in read.iter_extensions() {
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{name}"
        );
    }
}

#[test]
fn data_that_is_not_json_is_read_by_the_sdk() {
    let image = Envelope {
        content_type: "image/png".into(),
        data: Bytes::from_static(&[1, 0xff, 0]),
        ..envelope()
    };
    let text = Dialect::CloudEvents.write(&image).unwrap();
    let event: SdkEvent = serde_json::from_slice(&text).unwrap();
    assert_eq!(event.data(), Some(&Data::Binary(vec![1, 0xff, 0])));
    let text = serde_json::to_vec(&event).unwrap();
    let again = Dialect::CloudEvents.read(text.into(), &arrival()).unwrap();
    assert_eq!(again.data, image.data);
}

/// An event of ours in binary mode, as the SDK takes a message.
struct Message(Vec<(String, String)>, Vec<u8>);

const CORE: [&str; 6] = ["id", "source", "type", "time", "subject", "dataschema"];

impl BinaryDeserializer for Message {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, mut to: V) -> SdkResult<R> {
        to = to.set_spec_version(SpecVersion::V10)?;
        to = to.set_attribute(
            "datacontenttype",
            MessageAttributeValue::String("application/json".into()),
        )?;
        for (name, value) in self.0 {
            let value = MessageAttributeValue::String(value);
            to = match name.as_str() {
                "specversion" => to,
                core if CORE.contains(&core) => to.set_attribute(core, value)?,
                extension => to.set_extension(extension, value)?,
            };
        }
        to.end_with_data(self.1)
    }
}

/// A message of the SDK's, as headers and a body.
#[derive(Default)]
struct Headers(Vec<(String, String)>);

impl BinarySerializer<(Vec<(String, String)>, Vec<u8>)> for Headers {
    fn set_spec_version(mut self, version: SpecVersion) -> SdkResult<Self> {
        self.0.push(("specversion".into(), version.to_string()));
        Ok(self)
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> SdkResult<Self> {
        self.0.push((name.into(), value.to_string()));
        Ok(self)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> SdkResult<Self> {
        self.set_attribute(name, value)
    }

    fn end_with_data(self, bytes: Vec<u8>) -> SdkResult<(Vec<(String, String)>, Vec<u8>)> {
        Ok((self.0, bytes))
    }

    fn end(self) -> SdkResult<(Vec<(String, String)>, Vec<u8>)> {
        Ok((self.0, Vec::new()))
    }
}

#[test]
fn binary_mode_is_read_by_the_sdk_and_back() {
    let event = envelope();
    let attributes = ours::attributes(&event)
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let read = BinaryDeserializer::into_event(Message(attributes, event.data.to_vec())).unwrap();
    check(&read);
    let (headers, body) = read.deserialize_binary(Headers::default()).unwrap();
    let (content_type, attributes): (Vec<_>, Vec<_>) = headers
        .into_iter()
        .partition(|(name, _)| name == "datacontenttype");
    let again = ours::read(
        attributes,
        Some(&content_type[0].1),
        body.into(),
        &arrival(),
    )
    .unwrap();
    assert_eq!(
        (&again.id, again.time, again.trace),
        (&event.id, event.time, event.trace)
    );
    assert_eq!(
        (again.kind, again.priority, &again.key),
        (event.kind, event.priority, &event.key)
    );
    assert_eq!(
        again.extension("count").map(|count| &**count),
        Some("\"5\"")
    );
}
