use crate::testing::envelope;
use crate::{Envelope, Version};

#[test]
fn versions_are_read_as_they_are_written() {
    assert_eq!("1.0".parse::<Version>().unwrap(), Version::new(1, 0));
    assert_eq!(
        Version::new(12, 345)
            .to_string()
            .parse::<Version>()
            .unwrap(),
        Version::new(12, 345)
    );
    assert!(Version::new(1, 9) < Version::new(1, 10));
    for bad in [
        "", "1", "1.", ".1", "1.0.0", "v1.0", "1.-1", "1.65536", "1.+1", " 1.0",
    ] {
        assert!(bad.parse::<Version>().is_err(), "{bad}");
    }
}

#[test]
fn json_is_told_by_the_content_type() {
    let with = |content_type: &'static str| Envelope {
        content_type: content_type.into(),
        ..envelope()
    };
    for json in [
        "application/json",
        "text/json; charset=utf-8",
        "application/problem+JSON",
    ] {
        assert!(with(json).is_json(), "{json}");
    }
    for other in [
        "",
        "json",
        "application/jsonp",
        "text/plain",
        "application/json-seq",
    ] {
        assert!(!with(other).is_json(), "{other}");
    }
}

#[test]
fn an_event_without_a_key_is_ordered_by_its_id() {
    let event = envelope();
    assert_eq!(event.order_key(), "order-1");
    let event = Envelope { key: None, ..event };
    assert_eq!(*event.order_key(), event.id);
}
