mod examples;
mod properties;

use super::*;
use crate::testing::envelope;
use crate::{ErrorKind, Kind, Priority, TraceContext, Version};

fn arrival() -> Arrival {
    Arrival::new("order-events", Timestamp::UNIX_EPOCH)
}

fn read(dialect: Dialect, text: &str) -> Envelope {
    dialect
        .read(Bytes::from(text.to_owned()), &arrival())
        .unwrap()
}

fn write(dialect: Dialect, envelope: &Envelope) -> String {
    String::from_utf8(dialect.write(envelope).unwrap().to_vec()).unwrap()
}

/// Without space outside of texts.
fn compact(text: &str) -> String {
    let mut out = Vec::new();
    json::minify(text, &mut out);
    String::from_utf8(out).unwrap()
}

const TABLIUM: &str = include_str!("tests/tablium.json");

const STOREFRONT: &str = include_str!("tests/storefront-order.json");

const RETAIL: &str = include_str!("tests/retail.json");

#[test]
fn an_extension_that_is_no_json_is_written_as_a_text() {
    let event = Envelope {
        extensions: vec![("region".into(), "eu".into())],
        ..envelope()
    };
    for dialect in Dialect::ALL {
        let again = read(dialect, &write(dialect, &event));
        assert_eq!(
            again.extension("region").map(|region| &**region),
            Some("\"eu\"")
        );
    }
}

#[test]
fn what_a_dialect_lacks_stands_in_its_metadata() {
    let event = Envelope {
        kind: Kind::Command,
        priority: Priority::High,
        ..envelope()
    };
    assert_eq!(
        write(Dialect::Retail, &event),
        concat!(
            r#"{"eventId":"019b76da-a800-7000-8000-000000000001","eventType":"order.created","#,
            r#""eventVersion":"1.0","source":"order-service","timestamp":1767225600.25,"#,
            r#""correlationId":"flow-1","data":{"order_id":"order-1","total":59.98},"metadata":{"#,
            r#""traceParent":"00-00000000000000000000000000000abc-0000000000000def-01","#,
            r#""causationId":"event-0","userId":"ada","partitionKey":"order-1","#,
            r#""eventKind":"command","eventPriority":"high","region":"eu"}}"#
        )
    );
}

#[test]
fn the_canonical_form_is_as_cloudevents_prints_it() {
    assert_eq!(
        write(Dialect::CloudEvents, &envelope()),
        concat!(
            r#"{"specversion":"1.0","id":"019b76da-a800-7000-8000-000000000001","#,
            r#""source":"order-service","type":"order.created","time":"2026-01-01T00:00:00.25Z","#,
            r#""datacontenttype":"application/json","dataversion":"1.0","partitionkey":"order-1","#,
            r#""correlationid":"flow-1","causationid":"event-0","#,
            r#""traceparent":"00-00000000000000000000000000000abc-0000000000000def-01","#,
            r#""userid":"ada","region":"eu","data":{"order_id":"order-1","total":59.98}}"#
        )
    );
}

#[test]
fn unknown_fields_stay_where_they_were_through_every_other_form() {
    let text = concat!(
        r#"{"zebra":1.00,"event_version":"1","event_id":"e-1","event_type":"t","#,
        r#""timestamp":"2024-01-15T11:30:00.000+01:00","source_service":"s","#,
        r#""apple":{"deep":[1e2,123456789012345678901234567890]},"correlation_id":"c","#,
        r#""metadata":{"span_id":"00f067aa0ba902b7","trace_id":"not-one","Region":null,"#,
        r#""tier":"gold","count":5,"on":true,"traceParent":1},"data":{"a": 1.0},"aardvark":"\u0041"}"#
    );
    let event = read(Dialect::Storefront, text);
    assert_eq!(event.time.to_string(), "2024-01-15T10:30:00Z");
    assert_eq!(
        event.extension("tier").map(|tier| &**tier),
        Some("\"gold\"")
    );
    assert_eq!(write(Dialect::Storefront, &event), text);
    for other in Dialect::ALL {
        let there = read(other, &write(other, &event));
        assert_eq!(write(Dialect::Storefront, &there), text, "through {other}");
    }
    let attributes = crate::cloudevents::attributes(&event);
    let there = crate::cloudevents::read(
        attributes,
        Some(&event.content_type),
        event.data.clone(),
        &arrival(),
    );
    assert_eq!(
        write(Dialect::Storefront, &there.unwrap()),
        text,
        "through binary mode"
    );
}

#[test]
fn a_changed_field_is_written_and_the_rest_stays() {
    let mut event = read(Dialect::Tablium, TABLIUM);
    event.source = "user-service".into();
    event.trace = Some(TraceContext {
        trace_id: 10,
        span_id: 11,
        sampled: true,
    });
    event.key = Some("usr-123456".into());
    event.data = Bytes::from_static(b"[]");
    assert_eq!(
        write(Dialect::Tablium, &event),
        concat!(
            r#"{"id":"evt-123456","type":"user.registered","version":"1.0","#,
            r#""timestamp":"2023-03-18T12:34:56.789Z","producer":"user-service","data":[],"#,
            r#""metadata":{"correlationId":"corr-123456","#,
            r#""traceId":"0000000000000000000000000000000a","#,
            r#""traceParent":"00-0000000000000000000000000000000a-000000000000000b-01","#,
            r#""partitionKey":"usr-123456"}}"#
        )
    );
    // A field that is gone is gone.
    let mut event = read(Dialect::Storefront, STOREFRONT);
    (event.user_id, event.trace) = (None, None);
    assert!(write(Dialect::Storefront, &event).ends_with(r#","metadata":{}}"#));
}

#[test]
fn mistakes_name_the_field_and_what_was_expected() {
    let text = compact(STOREFRONT);
    let cases = [
        (
            r#""event_id":"550e8400-e29b-41d4-a716-446655440000","#,
            "",
            "event_id",
            "a text",
        ),
        (
            r#""1.0""#,
            r#""one""#,
            "event_version",
            "a version major.minor, such as 1.0",
        ),
        (
            r#""1.0""#,
            "1.0",
            "event_version",
            "a version major.minor in quotes, such as \"1.0\"",
        ),
        (
            "2024-01-15T10:30:00Z",
            "yesterday",
            "timestamp",
            "a time in RFC 3339, such as 2024-01-15T10:30:00Z",
        ),
        (r#""order-service""#, "null", "source_service", "a text"),
        (
            r#""order-service""#,
            "\"\"",
            "source_service",
            "a text that is not empty",
        ),
        (
            r#","trace_id":"#,
            r#","trace_id":7,"x":"#,
            "metadata.trace_id",
            "a text",
        ),
        (
            r#""metadata":{"#,
            r#""event_id":{"#,
            "event_id",
            "one field of this name",
        ),
        (
            r#","trace_id":"#,
            r#","user_id":"#,
            "metadata.user_id",
            "one field of this name",
        ),
    ];
    for (from, to, field, expected) in cases {
        let error = Dialect::Storefront.read(text.replacen(from, to, 1).into(), &arrival());
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::InvalidInput, "event_form_invalid")
        );
        if !field.is_empty() {
            let facts: Vec<_> = error.context().collect();
            assert_eq!(
                facts[..2],
                [("field", field), ("expected", expected)],
                "{error}"
            );
        }
    }
}

#[test]
fn what_is_no_event_is_refused() {
    let error = Dialect::Retail.read(
        RETAIL.replace("1234567890", "1700000000000").into(),
        &arrival(),
    );
    assert!(error.unwrap_err().to_string().contains("not milliseconds"));
    for text in ["", "[]", "{", "{} {}", "\u{feff}{}", "7"] {
        for dialect in Dialect::ALL {
            let error = dialect.read(text.into(), &arrival()).unwrap_err();
            assert_eq!(error.code(), "event_form_invalid", "{text} {error}");
        }
    }
    let bytes = Bytes::from_static(b"{\"id\":\"\xff\"}");
    assert!(Dialect::Tablium.read(bytes, &arrival()).is_err());
}

#[test]
fn data_that_is_not_json_is_kept() {
    let image = Envelope {
        content_type: "image/png".into(),
        data: Bytes::from_static(&[0x89, b'P', 0, 0xff]),
        ..envelope()
    };
    for dialect in Dialect::ALL {
        let text = write(dialect, &image);
        assert!(text.contains("\"iVAA/w==\""), "{text}");
        assert_eq!(read(dialect, &text), image);
    }
    // CloudEvents may write text as it is; that form stays.
    let text = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":"a\nb"}"#;
    let event = read(Dialect::CloudEvents, text);
    assert_eq!(event.data, "a\nb");
    assert_eq!(write(Dialect::CloudEvents, &event), text);
    // JSON in base 64 too.
    let text = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"e30="}"#;
    let event = read(Dialect::CloudEvents, text);
    assert_eq!((&*event.data, event.is_json()), (&b"{}"[..], true));
    assert_eq!(write(Dialect::CloudEvents, &event), text);
}

#[test]
fn an_event_that_says_only_what_it_must_stays_so() {
    let text = r#"{"id":"1","source":"/a?b=c","type":"t","specversion":"1.0","subject":"x","n":7}"#;
    let event = read(Dialect::CloudEvents, text);
    assert_eq!(event.time, Timestamp::UNIX_EPOCH);
    assert_eq!(event.correlation_id, "1");
    assert_eq!(write(Dialect::CloudEvents, &event), text);
}

#[test]
fn an_own_field_of_somebody_elses_is_left_alone() {
    let with = |metadata: &str| {
        format!(
            "{},\"metadata\":{metadata}}}",
            compact(RETAIL).trim_end_matches('}').to_owned() + "}"
        )
    };
    for metadata in ["7", "null", r#"{"userId":7,"eventKind":"odd","x":[]}"#] {
        let text = with(metadata);
        let mut event = read(Dialect::Retail, &text);
        assert_eq!((&event.user_id, event.kind), (&None, Kind::Domain));
        assert_eq!(compact(&write(Dialect::Retail, &event)), text);
        event.key = Some("k".into());
        match Dialect::Retail.write(&event) {
            Ok(bytes) => assert_eq!(
                read(Dialect::Retail, std::str::from_utf8(&bytes).unwrap()).key,
                event.key
            ),
            Err(error) => assert_eq!((metadata, error.kind()), ("7", ErrorKind::Unsupported)),
        }
    }
}

#[test]
fn a_forged_kept_form_does_no_harm() {
    for forged in ["7", "\"{\"", "\"[]\"", r#""{\"event_id\":\"forged\"}""#] {
        let event = Envelope {
            extensions: vec![("storefrontform".into(), forged.into())],
            ..envelope()
        };
        let text = write(Dialect::Storefront, &event);
        assert_eq!(read(Dialect::Storefront, &text).id, event.id, "{text}");
    }
}

#[test]
fn names_are_read_as_written() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.to_string().parse::<Dialect>().unwrap(), dialect);
    }
    assert!("Kafka".parse::<Dialect>().is_err());
}
