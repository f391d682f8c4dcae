//! Forms, as Kong's own examples send them with `curl -d`: `name=x`, `config.minute=5`, `paths[]=/a`.

use serde_json::{Map, Value};
use trunkline_core::Result;

use super::document::invalid;

/// Fields that are lists, whatever is said.
const LISTS: [&str; 8] = [
    "paths",
    "methods",
    "hosts",
    "protocols",
    "snis",
    "tags",
    "ca_certificates",
    "origins",
];
/// Fields deeper than this are refused.
const DEPTH_MAX: usize = 16;

/// The fields of a form as JSON.
///
/// # Errors
/// `InvalidInput` for a field that is given as two things.
pub(super) fn parse(body: &[u8]) -> Result<Value> {
    let mut root = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        let steps: Vec<&str> = name.split('.').collect();
        if steps.len() > DEPTH_MAX {
            return Err(invalid(format!(
                "{name}: expected at most {DEPTH_MAX} fields deep"
            )));
        }
        let (last, outer) = steps.split_last().unwrap_or((&"", &[]));
        let mut fields = &mut root;
        for step in outer {
            let inside = fields
                .entry((*step).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            fields = inside
                .as_object_mut()
                .ok_or_else(|| invalid(format!("{name}: expected `{step}` to have fields")))?;
        }
        let (last, is_list) = match last.split_once('[') {
            Some((last, rest)) if rest.ends_with(']') => (last, true),
            _ => (*last, LISTS.contains(last)),
        };
        put(fields, last, scalar(&value), is_list)
            .ok_or_else(|| invalid(format!("{name}: expected it once")))?;
    }
    Ok(Value::Object(root))
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Value, is_list: bool) -> Option<()> {
    if !is_list {
        return fields
            .insert(name.to_owned(), value)
            .is_none()
            .then_some(());
    }
    let list = fields
        .entry(name.to_owned())
        .or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut()?.push(value);
    Some(())
}

/// A number or a flag if it is written as one, and a text otherwise.
fn scalar(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "" => Value::Null,
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => Value::from(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_is_what_kongs_examples_mean() {
        let parsed = parse(b"name=rate-limiting&config.minute=5&config.policy=local&paths=/a&paths=/b&hosts[]=x&key=007&enabled=false");
        let expected = json!({
            "name": "rate-limiting",
            "config": {"minute": 5, "policy": "local"},
            "paths": ["/a", "/b"],
            "hosts": ["x"],
            "key": "007",
            "enabled": false,
        });
        assert_eq!(parsed.unwrap(), expected);
    }

    #[test]
    fn a_field_that_is_two_things_is_refused() {
        for body in ["name=a&name=b", "config=1&config.minute=5", "a[]=1&a=2"] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        let deep = "a.".repeat(100) + "b=1";
        assert!(parse(deep.as_bytes()).is_err());
    }
}
