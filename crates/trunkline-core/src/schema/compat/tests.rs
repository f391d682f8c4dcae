use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::json;

use super::*;
use crate::schema::changes;

fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The fields that break reading, and those that break writing for old readers.
fn breaks<Old: JsonSchema, New: JsonSchema>() -> (Vec<String>, Vec<String>) {
    let (old, new) = (schema::<Old>(), schema::<New>());
    let paths = |mode| {
        compatible(&old, &new, mode)
            .into_iter()
            .map(|difference| difference.path)
            .collect()
    };
    let (backward, forward): (Vec<_>, Vec<_>) = (paths(Mode::Backward), paths(Mode::Forward));
    let full: Vec<String> = paths(Mode::Full);
    assert_eq!(full, [backward.clone(), forward.clone()].concat());
    (backward, forward)
}

fn none() -> Vec<String> {
    Vec::new()
}

macro_rules! version {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        struct $name { $($(#[$meta])* $field: $type),* }
    };
}

version!(Base {
    id: String,
    count: u32
});
version!(Line {
    sku: String,
    price: f64
});
version!(NestedOne { lines: Vec<Line>, by_shop: BTreeMap<String, Line> });

#[test]
fn the_same_fields_in_another_order_and_under_another_name_are_the_same() {
    version!(Other {
        /// Now described.
        count: u32,
        id: String
    });
    assert_eq!(breaks::<Base, Other>(), (none(), none()));
    assert_eq!(changes(&schema::<Base>(), &schema::<Other>()), []);
}

#[test]
fn an_optional_field_may_come_and_go() {
    version!(With { id: String, count: u32, note: Option<String> });
    assert_eq!(breaks::<Base, With>(), (none(), none()));
    assert_eq!(breaks::<With, Base>(), (none(), none()));
    let found = changes(&schema::<Base>(), &schema::<With>());
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["note: added"]
    );
}

#[test]
fn a_required_field_breaks_the_readers_that_require_it() {
    version!(With {
        id: String,
        count: u32,
        currency: String
    });
    assert_eq!(breaks::<Base, With>(), (vec!["currency".into()], none()));
    assert_eq!(breaks::<With, Base>(), (none(), vec!["currency".into()]));
    let found = compatible(&schema::<Base>(), &schema::<With>(), Mode::Backward);
    assert_eq!(
        found[0].to_string(),
        "currency: absent in the old version, required in the new version: \
         the new version refuses an event without it"
    );
}

#[test]
fn an_optional_field_made_required_breaks_backward() {
    version!(Optional { id: String, count: Option<u32> });
    let (backward, forward) = breaks::<Optional, Base>();
    assert!(backward.contains(&"count".to_owned()), "{backward:?}");
    assert_eq!(forward, none());
    let (backward, forward) = breaks::<Base, Optional>();
    assert_eq!(backward, none());
    assert!(forward.contains(&"count".to_owned()), "{forward:?}");
}

#[test]
fn a_changed_type_breaks_both_and_a_wider_one_only_old_readers() {
    version!(Text {
        id: String,
        count: String
    });
    assert_eq!(
        breaks::<Base, Text>(),
        (vec!["count".into()], vec!["count".into()])
    );
    version!(Wider {
        id: String,
        count: u64
    });
    assert_eq!(breaks::<Base, Wider>(), (none(), vec!["count".into()]));
    version!(Signed {
        id: String,
        count: i64
    });
    assert_eq!(breaks::<Base, Signed>().0, none());
    assert!(!breaks::<Base, Signed>().1.is_empty());
    version!(Float {
        id: String,
        count: f64
    });
    assert_eq!(breaks::<Base, Float>().0, none());
}

#[test]
fn differences_deep_inside_name_their_place() {
    version!(Line2 {
        sku: String,
        price: String
    });
    version!(NestedTwo { lines: Vec<Line2>, by_shop: BTreeMap<String, Line2> });
    let expected = vec!["by_shop{}.price".to_owned(), "lines[].price".into()];
    assert_eq!(
        breaks::<NestedOne, NestedTwo>(),
        (expected.clone(), expected)
    );
    let found = changes(&schema::<NestedOne>(), &schema::<NestedTwo>());
    assert!(
        found.iter().any(|change| change.path == "lines[].price"),
        "{found:?}"
    );
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema matters")]
enum Status {
    Open,
    Closed,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema matters")]
enum DescribedStatus {
    /// Not yet closed.
    Open,
    /// No longer open.
    Closed,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema matters")]
enum WiderStatus {
    Open,
    Closed,
    Lost,
}

#[test]
fn a_new_value_of_an_enum_breaks_old_readers_only() {
    version!(One { status: Status, maybe: Option<Status> });
    version!(Two { status: WiderStatus, maybe: Option<WiderStatus> });
    let both = vec!["maybe".to_owned(), "status".into()];
    assert_eq!(breaks::<One, Two>(), (none(), both.clone()));
    assert_eq!(breaks::<Two, One>(), (both, none()));
    let found = changes(&schema::<One>(), &schema::<Two>());
    assert!(
        found.iter().any(|it| it.what == "\"Lost\" is a new value"),
        "{found:?}"
    );
}

#[test]
fn describing_variants_changes_nothing() {
    version!(One { status: Status, maybe: Option<Status> });
    version!(Two { status: DescribedStatus, maybe: Option<DescribedStatus> });
    assert_eq!(breaks::<One, Two>(), (none(), none()));
    assert_eq!(changes(&schema::<One>(), &schema::<Two>()), []);
}

#[derive(JsonSchema)]
#[serde(tag = "method")]
#[expect(dead_code, reason = "only its schema matters")]
enum Payment {
    Card { number: String },
    Invoice { days: u8 },
}

#[derive(JsonSchema)]
#[serde(tag = "method")]
#[expect(dead_code, reason = "only its schema matters")]
enum Payment2 {
    Card { number: String, holder: String },
    Invoice { days: u8 },
    Voucher,
}

#[test]
fn variants_are_compared_by_their_tag() {
    version!(One { payment: Payment });
    version!(Two { payment: Payment2 });
    let (backward, forward) = breaks::<One, Two>();
    assert_eq!(backward, ["payment.holder"]);
    assert_eq!(forward, ["payment"]);
    let found = compatible(&schema::<One>(), &schema::<Two>(), Mode::Forward);
    assert!(
        found[0].what.contains("the variant `Voucher`"),
        "{}",
        found[0]
    );
    let found: Vec<_> = changes(&schema::<One>(), &schema::<Two>())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        found.contains(&"payment.holder: added".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"payment: now admits Voucher".to_owned()),
        "{found:?}"
    );
}

version!(Tree { name: String, children: Vec<Tree> });

#[test]
fn recursive_types_are_compared() {
    version!(Tree2 { name: String, children: Vec<Tree2> });
    version!(Tree3 { name: u8, children: Vec<Tree3> });
    assert_eq!(breaks::<Tree, Tree2>(), (none(), none()));
    assert_eq!(changes(&schema::<Tree>(), &schema::<Tree2>()), []);
    assert!(breaks::<Tree, Tree3>().0.contains(&"name".to_owned()));
    // As part of another type, recursion goes through a definition.
    version!(Forest { tree: Tree });
    version!(Forest2 { tree: Tree2 });
    assert_eq!(changes(&schema::<Forest>(), &schema::<Forest2>()), []);
}

#[test]
fn a_reader_that_refuses_unknown_fields_is_not_forward_compatible() {
    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Closed {
        id: String,
    }
    version!(More { id: String, note: Option<String> });
    assert_eq!(breaks::<Closed, More>(), (none(), vec!["note".into()]));
}

#[test]
fn bounds_may_widen_and_not_narrow() {
    let bounded =
        |least: u32, most: u32| json!({"type": "string", "minLength": least, "maxLength": most});
    assert_eq!(
        compatible(&bounded(2, 4), &bounded(1, 8), Mode::Backward),
        []
    );
    assert_eq!(
        compatible(&bounded(1, 8), &bounded(2, 4), Mode::Backward).len(),
        2
    );
    let found = compatible(&json!({"type": "string"}), &bounded(0, 4), Mode::Backward);
    assert_eq!(found.len(), 1, "{found:?}");
    let pattern = json!({"type": "string", "pattern": "^a"});
    assert_eq!(
        compatible(&json!({"type": "string"}), &pattern, Mode::Backward).len(),
        1
    );
    assert_eq!(
        compatible(&pattern, &json!({"type": "string"}), Mode::Backward),
        []
    );
}

#[test]
fn equal_meanings_are_equal_however_they_are_written() {
    let same = [
        (json!({"const": "a"}), json!({"enum": ["a"]})),
        (
            json!({"type": ["string", "null"]}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ),
        (json!(true), json!({})),
        (
            json!({"allOf": [{"type": "string"}, {"minLength": 1}]}),
            json!({"type": "string", "minLength": 1}),
        ),
        (
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "null"}}}),
            json!({"type": "null"}),
        ),
    ];
    for (left, right) in same {
        assert_eq!(changes(&left, &right), [], "{left} {right}");
        assert_eq!(compatible(&left, &right, Mode::Full), [], "{left} {right}");
    }
    assert_eq!(
        compatible(&json!({"type": "string"}), &json!(false), Mode::Backward).len(),
        1
    );
}
