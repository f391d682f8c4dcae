//! The derive macro, by what it makes.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_core::{Event, EventData, EventDecl, IntoKey, Kind, Priority, Version};
use uuid::Uuid;

/// A crate that hands `trunkline_core` on, as the facade does.
mod facade {
    pub(crate) use trunkline_core as core;
}

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "plain", version = "1.0", topic = "t")]
struct Plain;

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "user:seen", version = "10.20", topic = "a.b_c-d", key = id, kind = system)]
#[event(crate = "facade::core", priority = low)]
struct ByUuid {
    #[schemars(with = "String")]
    id: Uuid,
}

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "by.field", version = "1.0", topic = "t", key = order.id, kind = command)]
struct ByNestedField {
    order: Order,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    id: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "by.function", version = "1.0", topic = "t", key = Self::shard)]
enum ByFunction {
    Odd { number: u64 },
    Even,
}

impl ByFunction {
    fn shard(&self) -> Option<String> {
        match self {
            Self::Odd { number } => Some(format!("odd-{number}")),
            Self::Even => None,
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "by.expression", version = "1.0", topic = "t", key = format!("{}/{}", self.0, self.1))]
struct ByExpression(u8, u8);

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "by.tuple", version = "1.0", topic = "t", key = self.0)]
struct ByTupleField(Own);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Own(String);

impl<'a> IntoKey<'a> for &'a Own {
    fn into_key(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(&self.0))
    }
}

fn key(data: &impl EventData) -> Option<String> {
    data.key().map(Cow::into_owned)
}

#[test]
fn keys_come_from_fields_functions_and_expressions() {
    assert_eq!(key(&Plain), None);
    let id = Uuid::from_u128(7);
    assert_eq!(key(&ByUuid { id }), Some(id.to_string()));
    let nested = |id: Option<&str>| ByNestedField {
        order: Order {
            id: id.map(str::to_owned),
        },
    };
    assert_eq!(key(&nested(Some("o-1"))), Some("o-1".into()));
    assert_eq!(key(&nested(None)), None);
    assert_eq!(key(&ByFunction::Odd { number: 3 }), Some("odd-3".into()));
    assert_eq!(key(&ByFunction::Even), None);
    assert_eq!(key(&ByExpression(1, 2)), Some("1/2".into()));
    assert_eq!(key(&ByTupleField(Own("own".into()))), Some("own".into()));
}

#[test]
fn options_have_defaults() {
    let plain = EventDecl::of::<Plain>();
    assert_eq!(
        (plain.kind, plain.priority),
        (Kind::Domain, Priority::Medium)
    );
    assert!(!plain.encrypted && plain.upcasts.is_empty());
    let seen = EventDecl::of::<ByUuid>();
    assert_eq!((seen.event_type, seen.topic), ("user:seen", "a.b_c-d"));
    assert_eq!((seen.kind, seen.priority), (Kind::System, Priority::Low));
    assert_eq!(seen.version, Version::new(10, 20));
    assert_eq!(EventDecl::of::<ByNestedField>().kind, Kind::Command);
}
