use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::testing::{any_envelope, envelope};

fn arrival() -> Arrival {
    Arrival::new("order-events", Timestamp::UNIX_EPOCH)
}

#[test]
fn an_event_is_the_same_in_binary_mode() {
    let event = envelope();
    let again = read(
        attributes(&event),
        Some(&event.content_type),
        event.data.clone(),
        &arrival(),
    );
    assert_eq!(again.unwrap(), event);
}

#[test]
fn attributes_are_as_the_specification_names_them() {
    let names: Vec<String> = attributes(&envelope())
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    let expected = "specversion id source type time dataversion partitionkey correlationid \
                    causationid traceparent userid region";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn mistakes_name_the_attribute() {
    let good = [
        ("specversion", "1.0"),
        ("id", "1"),
        ("source", "s"),
        ("type", "t"),
    ];
    let with = |extra: (&'static str, &'static str)| {
        let all = good
            .into_iter()
            .filter(|(name, _)| *name != extra.0)
            .chain([extra]);
        read(all, None, Bytes::new(), &arrival())
    };
    for (attribute, expected) in [
        (("time", "noon"), "field: time"),
        (("specversion", "0.3"), "expected: 1.0"),
        (("id", ""), "field: id"),
        (("bad_name", "x"), "field: bad_name"),
        (("data_base64", "x"), "field: data_base64"),
    ] {
        let error = with(attribute).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = read(good.into_iter().take(3), None, Bytes::new(), &arrival()).unwrap_err();
    assert!(error.to_string().contains("field: type"), "{error}");
    for twice in [[("id", "1"), ("id", "1")], [("x", "1"), ("x", "2")]] {
        let twice = good.into_iter().skip(2).chain(twice);
        let error = read(twice, None, Bytes::new(), &arrival()).unwrap_err();
        assert!(error.to_string().contains("found: two"), "{error}");
    }
    // Somebody else's priority is kept, and is none of ours.
    let event = with(("priority", "urgent")).unwrap();
    assert_eq!(event.priority, crate::Priority::Medium);
    assert!(attributes(&event).contains(&("priority".into(), "urgent".into())));
}

#[test]
fn headers_are_written_as_the_http_binding_says() {
    // The example of the binding, 3.1.3.2.
    assert_eq!(to_header("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
    assert_eq!(
        from_header("Euro%20%E2%82%AC%20%F0%9F%98%80").unwrap(),
        "Euro € 😀"
    );
    assert_eq!(from_header(r#""a \"b\" %41""#).unwrap(), "a \"b\" A");
    assert_eq!(from_header("100% %zz %4").unwrap(), "100% %zz %4");
    assert_eq!(
        from_header("%FF").unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

proptest! {
    #[test]
    fn any_text_survives_a_header(text in any::<String>()) {
        let header = to_header(&text).into_owned();
        prop_assert!(header.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
        prop_assert_eq!(from_header(&header).unwrap(), text);
    }

    #[test]
    fn any_event_survives_binary_mode(event in any_envelope()) {
        let event = Envelope {
            id: format!("i{}", event.id).into(),
            event_type: format!("t{}", event.event_type).into(),
            source: format!("s{}", event.source).into(),
            topic: "order-events".into(),
            ..event
        };
        let again = read(
            attributes(&event), Some(&event.content_type), event.data.clone(), &arrival()
        ).unwrap();
        prop_assert_eq!(&again, &event);
        let mut told = Vec::new();
        each_attribute(&event, |name, value| told.push((name.into(), value.into())));
        prop_assert_eq!(told, attributes(&event));
    }
}
