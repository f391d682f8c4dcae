//! From a dialect to an envelope.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;

use super::draft::{Draft, is_attribute_name};
use super::form::{CLOUD_EVENTS, Field, Form, Rule, Slot};
use super::json::{self, Member};
use super::{Arrival, write};
use crate::{Envelope, Error, Result};

pub(super) fn read(form: &'static Form, bytes: &Bytes, arrival: &Arrival) -> Result<Envelope> {
    let members = parse(form, bytes, "the event")?;
    let mut reader = Reader::new(form, bytes, arrival);
    reader.object(form.fields, &members, "")?;
    let (mut envelope, canonical_data) = reader.finish(true)?;
    // Only what the canonical form does not say is kept besides it.
    let text = write::without_data(form, &members);
    if text != write::canonical_without_data(form, &envelope, canonical_data)? {
        let text = String::from_utf8_lossy(&text);
        let name = ByteString::from_static(form.own_attribute);
        envelope.extensions.push((name, json::quote(&text).into()));
    }
    Ok(envelope)
}

/// Reads an event that was kept without its data.
pub(super) fn read_kept(form: &'static Form, bytes: &Bytes, of: &Envelope) -> Result<Envelope> {
    let members = parse(form, bytes, "the event")?;
    let arrival = Arrival {
        topic: of.topic.clone(),
        at: of.time,
    };
    let mut reader = Reader::new(form, bytes, &arrival);
    reader.object(form.fields, &members, "")?;
    reader.finish(false).map(|(envelope, _)| envelope)
}

pub(super) fn parse<'a>(form: &Form, text: &'a [u8], field: &str) -> Result<Vec<Member<'a>>> {
    json::members(text).map_err(|error| invalid(form, field, "a JSON object").with("reason", error))
}

fn invalid(form: &Form, field: &str, expected: &'static str) -> Error {
    Error::invalid(
        "event_form_invalid",
        format!("not an event in the {} form", form.dialect),
    )
    .with("field", field)
    .with("expected", expected)
}

/// Whether a member is an extension attribute: one that CloudEvents can name and type.
pub(super) fn is_extension(form: &Form, member: &Member<'_>) -> bool {
    let value = member.value;
    let typed = value.starts_with('"')
        || value == "true"
        || value == "false"
        || value
            .parse::<i32>()
            .is_ok_and(|number| number.to_string() == value);
    typed
        && is_attribute_name(&member.name)
        && *member.name != *form.own_attribute
        && !CLOUD_EVENTS
            .fields
            .iter()
            .any(|field| *field.name == *member.name)
}

struct Reader<'a> {
    form: &'static Form,
    whole: &'a Bytes,
    draft: Draft,
    data: Option<(Slot, &'static str, &'a str)>,
}

impl<'a> Reader<'a> {
    fn new(form: &'static Form, whole: &'a Bytes, arrival: &Arrival) -> Self {
        Self {
            form,
            whole,
            draft: Draft::new(arrival),
            data: None,
        }
    }

    fn object(
        &mut self,
        fields: &'static [Field],
        members: &[Member<'a>],
        prefix: &str,
    ) -> Result<()> {
        let mut names = BTreeSet::new();
        for member in members {
            let path = || format!("{prefix}{}", member.name);
            if !names.insert(&*member.name) {
                return Err(
                    invalid(self.form, &path(), "one field of this name").with("found", "two")
                );
            }
            match fields.iter().find(|field| *field.name == *member.name) {
                Some(field) => self.field(field, member, &path)?,
                None => self.unknown(member, !prefix.is_empty()),
            }
        }
        let missing = fields.iter().find(|field| {
            let data = field.slot == Slot::Data && self.data.is_some();
            field.rule == Rule::Required && !names.contains(field.name) && !data
        });
        match missing {
            Some(field) => {
                let path = format!("{prefix}{}", field.name);
                Err(invalid(self.form, &path, expected(field.slot)).with("found", "nothing"))
            }
            None => Ok(()),
        }
    }

    fn field(
        &mut self,
        field: &'static Field,
        member: &Member<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<()> {
        let value = member.value;
        let wrong = |expected: &'static str| {
            let found = match json::sort_of(value) {
                // What was found helps where it is short and no secret: a number or a text.
                sort @ ("a number" | "a text") if value.len() <= 40 => format!("{sort}, {value}"),
                sort => sort.to_owned(),
            };
            invalid(self.form, &path(), expected).with("found", found)
        };
        let absent = value == "null" && field.rule != Rule::Required;
        match field.slot {
            Slot::Data | Slot::DataBase64 => {
                if self.data.is_some() {
                    return Err(wrong("data once, as JSON or in base 64"));
                }
                self.data = Some((field.slot, field.name, value));
                return Ok(());
            }
            Slot::Metadata if value.starts_with('{') => {
                let members = parse(self.form, value.as_bytes(), field.name)?;
                return self.object(self.form.metadata, &members, &format!("{}.", field.name));
            }
            Slot::Metadata if absent || field.rule == Rule::Ours => return Ok(()),
            Slot::Metadata => return Err(wrong("an object")),
            _ if absent => return Ok(()),
            _ => {}
        }
        let text = match field.slot {
            Slot::Seconds => (json::sort_of(value) == "a number").then(|| ByteString::from(value)),
            _ => json::text(value, self.whole),
        };
        let taken = match text {
            Some(text) => {
                let taken = self.draft.take(field.slot, text);
                taken.map_err(|(expected, _)| expected)
            }
            None => Err(expected(field.slot)),
        };
        match taken {
            Err(expected) if field.rule != Rule::Ours => Err(wrong(expected)),
            _ => Ok(()),
        }
    }

    fn unknown(&mut self, member: &Member<'a>, in_metadata: bool) {
        if in_metadata == self.form.has_metadata() && is_extension(self.form, member) {
            let value = Bytes::copy_from_slice(member.value.as_bytes());
            if let Ok(value) = ByteString::try_from(value) {
                let name = ByteString::from(&*member.name);
                self.draft.envelope.extensions.push((name, value));
            }
        }
    }

    /// The envelope, and where its data stands in the canonical form.
    fn finish(self, with_data: bool) -> Result<(Envelope, Option<Slot>)> {
        let mut envelope = self.draft.finish();
        let Some((slot, name, value)) = self.data.filter(|_| with_data) else {
            return Ok((envelope, None));
        };
        let wrong = |expected: &'static str| {
            invalid(self.form, name, expected).with("found", json::sort_of(value))
        };
        let text = json::text(value, self.whole);
        match (slot, text, envelope.is_json()) {
            (Slot::DataBase64, text, _) => {
                let text = text.ok_or_else(|| wrong("a text in base 64"))?;
                let data = BASE64.decode(text.as_bytes());
                envelope.data = data.map_err(|_| wrong("a text in base 64"))?.into();
                let slot = write::canonical_data_slot(self.form, &envelope);
                Ok((envelope, slot))
            }
            (_, _, true) => {
                envelope.data = self.whole.slice_ref(value.as_bytes());
                Ok((envelope, Some(Slot::Data)))
            }
            (_, Some(text), false) => {
                envelope.data = text.into_bytes();
                Ok((envelope, Some(Slot::DataBase64)))
            }
            (_, None, false) => Err(wrong("a text, because the content type is not JSON")),
        }
    }
}

fn expected(slot: Slot) -> &'static str {
    match slot {
        Slot::Seconds => "a number of Unix seconds, such as 1234567890",
        Slot::Time => "a time in RFC 3339, such as 2024-01-15T10:30:00Z",
        Slot::Version => "a version major.minor in quotes, such as \"1.0\"",
        Slot::Data => "the data, any JSON value",
        Slot::Metadata => "an object",
        _ => "a text",
    }
}
