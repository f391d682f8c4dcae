//! The parts of schemas in words and numbers.

use serde_json::Value;

use super::normal::branches;

pub(super) fn is_least(keyword: &str) -> bool {
    matches!(
        keyword,
        "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties"
    )
}

pub(super) fn is_most(keyword: &str) -> bool {
    matches!(
        keyword,
        "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties"
    )
}

/// Powers of two between which an integer format lies: bits below zero, negated, and above.
pub(super) fn integer_bits(format: &str) -> Option<(i16, i16)> {
    let (signed, bits) = match format.strip_prefix("uint") {
        Some(bits) => (false, bits),
        None => (true, format.strip_prefix("int")?),
    };
    // `usize` is written by machines of 64 bits.
    let bits: i16 = if bits.is_empty() {
        64
    } else {
        bits.parse().ok()?
    };
    Some(if signed {
        (1 - bits, bits - 1)
    } else {
        (0, bits)
    })
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Whether two branches could be meant as the same: of one type, and not told apart by a tag.
pub(super) fn is_alike(left: &Value, right: &Value) -> bool {
    left.get("type") == right.get("type") && tag(left) == tag(right)
}

/// The members of a branch that have one value only, such as the tag of an enum; a branch with a
/// single required member is known by that member's name.
pub(super) fn tag(branch: &Value) -> Option<String> {
    let members = branch.get("properties").and_then(Value::as_object)?;
    let fixed =
        members.iter().find_map(
            |(_, member)| match member.get("enum")?.as_array()?.as_slice() {
                [one] => Some(one.as_str().map_or_else(|| one.to_string(), str::to_owned)),
                _ => None,
            },
        );
    fixed.or_else(|| match members.keys().collect::<Vec<_>>().as_slice() {
        [only] => Some((*only).clone()),
        _ => None,
    })
}

pub(super) fn describe(branch: &Value) -> String {
    let kind = branch
        .get("type")
        .map_or_else(|| "any value".into(), |kind| phrase(&kind.to_string()));
    match (tag(branch), branch.get("enum").and_then(Value::as_array)) {
        (Some(tag), _) => format!("the variant `{tag}`"),
        (None, Some(values)) => values
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join(" or "),
        (None, None) => kind,
    }
}

pub(super) fn describe_all(node: &Value) -> String {
    branches(node)
        .into_iter()
        .map(describe)
        .collect::<Vec<_>>()
        .join(" or ")
}

/// `"object"` as it is read: an object.
pub(super) fn phrase(quoted: &str) -> String {
    let name = quoted.trim_matches('"');
    match name {
        "null" => "null".into(),
        "array" | "integer" | "object" => format!("an {name}"),
        _ => format!("a {name}"),
    }
}
