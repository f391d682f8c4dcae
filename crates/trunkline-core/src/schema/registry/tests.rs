use serde_json::json;

use super::*;
use crate::ErrorKind;

const ONE: Version = Version::new(1, 0);

fn order(required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "items": {"type": "array", "items": {
                "type": "object", "properties": {"quantity": {"type": "integer", "minimum": 1}}}},
        },
        "required": required,
    })
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry
        .register("order.created", ONE, order(&["id"]))
        .unwrap();
    registry
        .register("order.created", Version::new(1, 2), order(&["id", "items"]))
        .unwrap();
    registry
}

#[test]
fn every_mistake_is_named_with_its_place_and_without_its_value() {
    let data = br#"{"id": 7, "items": [{"quantity": 1}, {"quantity": -5}], "extra": "kept"}"#;
    let error = registry().validate("order.created", ONE, data).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::InvalidInput, "event_data_invalid")
    );
    let text = error.to_string();
    assert!(text.contains("at: /id: "), "{text}");
    assert!(text.contains("at: /items/1/quantity: "), "{text}");
    assert!(!text.contains("-5"), "{text}");
}

#[test]
fn the_number_of_mistakes_named_is_bounded() {
    let items: Vec<_> = (0..100).map(|_| json!({"quantity": 0})).collect();
    let data = json!({"id": "o", "items": items}).to_string();
    let error = registry()
        .validate("order.created", ONE, data.as_bytes())
        .unwrap_err();
    assert_eq!(
        error.context().filter(|(key, _)| *key == "at").count(),
        MISTAKES_MAX
    );
}

#[test]
fn what_is_not_json_is_refused() {
    let deep = "[".repeat(100_000);
    for data in ["", "{", "nul", deep.as_str()] {
        let error = registry()
            .validate("order.created", ONE, data.as_bytes())
            .unwrap_err();
        assert_eq!(error.code(), "event_data_invalid");
    }
}

#[test]
fn an_unknown_version_is_checked_against_its_nearest() {
    let registry = registry();
    let only_id = br#"{"id": "o"}"#;
    assert!(registry.validate("order.created", ONE, only_id).is_ok());
    for newer in [Version::new(1, 1), Version::new(1, 2), Version::new(1, 9)] {
        assert!(
            registry.validate("order.created", newer, only_id).is_err(),
            "{newer}"
        );
    }
    for unknown in [("order.created", Version::new(2, 0)), ("order.failed", ONE)] {
        let error = registry
            .validate(unknown.0, unknown.1, only_id)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_version_has_one_schema() {
    let mut registry = registry();
    registry
        .register("order.created", ONE, order(&["id"]))
        .unwrap();
    let error = registry
        .register("order.created", ONE, order(&["id", "items"]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("items: now required"), "{error}");
}

#[test]
fn what_is_no_schema_is_refused() {
    let error = Registry::default()
        .register("a", ONE, json!({"type": 5}))
        .unwrap_err();
    assert_eq!(error.code(), "schema_invalid");
    let remote = json!({"$ref": "https://example.com/schema.json"});
    assert_eq!(
        Registry::default()
            .register("a", ONE, remote)
            .unwrap_err()
            .code(),
        "schema_invalid"
    );
}
