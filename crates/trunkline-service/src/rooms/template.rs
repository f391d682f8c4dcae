//! A room's name made of an event's data: `game:{game_id}`.

use serde_json::Value;
use trunkline_core::{Error, Result};

/// A name with fields in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(&'static str),
    /// A field of a field, and so on.
    Field(Vec<&'static str>),
}

impl Template {
    /// Reads `game:{game_id}` or `table:{table.id}`.
    ///
    /// # Errors
    /// `InvalidInput` (`room_template_invalid`) for a brace without its other.
    pub(crate) fn of(text: &'static str) -> Result<Self> {
        let bad = || {
            let expected =
                "expected a room's name with fields of the event such as `game:{game_id}`";
            Error::invalid("room_template_invalid", expected).with("found", text)
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (field, after) = after.split_once('}').ok_or_else(bad)?;
            let path: Vec<_> = field.split('.').collect();
            if before.contains('}') || path.iter().any(|name| name.is_empty()) {
                return Err(bad());
            }
            parts.extend([Part::Text(before), Part::Field(path)]);
            rest = after;
        }
        if rest.contains('}') || text.is_empty() {
            return Err(bad());
        }
        parts.push(Part::Text(rest));
        Ok(Self(parts))
    }

    /// Checks that an event with this schema has the fields.
    ///
    /// # Errors
    /// `InvalidInput` (`room_template_invalid`) that names the field, and those that there are.
    pub(crate) fn fits(&self, schema: &Value) -> Result<()> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            let text = "expected an event with fields, of which a room's name is made";
            return Err(Error::invalid("room_template_invalid", text));
        };
        for part in &self.0 {
            let Part::Field(path) = part else { continue };
            let first = path.first().copied().unwrap_or_default();
            if !properties.contains_key(first) {
                let known: Vec<_> = properties.keys().map(String::as_str).collect();
                let text = "a room's name is made of a field that the event does not have";
                return Err(Error::invalid("room_template_invalid", text)
                    .with("found", first)
                    .with("expected one of", known.join(", ")));
            }
        }
        Ok(())
    }

    /// The room of an event; none where one of the fields is missing or `null`.
    ///
    /// # Errors
    /// `InvalidInput` (`room_field_invalid`) for a field that is no text, number or truth value.
    pub(crate) fn room(&self, data: &Value) -> Result<Option<String>> {
        let mut room = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => room.push_str(text),
                Part::Field(path) => {
                    let found = path.iter().try_fold(data, |value, name| value.get(name));
                    match found {
                        None | Some(Value::Null) => return Ok(None),
                        Some(Value::String(text)) => room.push_str(text),
                        Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                            room.push_str(&value.to_string());
                        }
                        Some(_) => {
                            let text = "expected a text or a number to make a room's name of";
                            let error = Error::invalid("room_field_invalid", text);
                            return Err(error.with("field", path.join(".")));
                        }
                    }
                }
            }
        }
        Ok(Some(room))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_room_is_named_by_fields_of_the_event() {
        let template = Template::of("game:{game_id}:{table.seat}").unwrap();
        let data = json!({ "game_id": "7", "table": { "seat": 3 } });
        assert_eq!(template.room(&data).unwrap().unwrap(), "game:7:3");
        assert_eq!(template.room(&json!({ "game_id": "7" })).unwrap(), None);
        let null = json!({ "game_id": null, "table": { "seat": 3 } });
        assert_eq!(template.room(&null).unwrap(), None);
        assert!(template.room(&json!({ "game_id": [] })).is_err());
        let plain = Template::of("lobby").unwrap();
        assert_eq!(plain.room(&data).unwrap().unwrap(), "lobby");
    }

    #[test]
    fn a_field_that_the_event_has_not_is_named_with_those_that_it_has() {
        let schema = json!({ "properties": { "game_id": {}, "by": {} } });
        Template::of("game:{game_id}")
            .unwrap()
            .fits(&schema)
            .unwrap();
        let error = Template::of("game:{gameId}").unwrap().fits(&schema);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("gameId") && error.contains("by, game_id"),
            "{error}"
        );
        assert!(Template::of("{a}").unwrap().fits(&json!({})).is_err());
        for wrong in ["", "game:{", "game:}", "{}", "{a..b}", "a}b{c}"] {
            assert!(Template::of(wrong).is_err(), "{wrong}");
        }
    }
}
