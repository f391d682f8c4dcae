//! From an envelope to a dialect.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::IgnoredAny;

use super::form::{Field, Form, Rule, Slot};
use super::json::{self, Member};
use super::read;
use super::value::value;
use crate::{Envelope, Error, ErrorKind, Result};

const NULL: &[u8] = b"null";

pub(super) fn write(form: &'static Form, envelope: &Envelope) -> Result<Vec<u8>> {
    let kept = envelope.extension(form.own_attribute);
    let kept: Option<Bytes> = kept
        .and_then(|kept| serde_json::from_str::<String>(kept).ok())
        .map(Bytes::from);
    // What was kept and can't be read was not kept by us.
    let base = kept.as_ref().and_then(|kept| {
        let members = json::members(kept).ok()?;
        Some((members, read::read_kept(form, kept, envelope).ok()?))
    });
    let (members, base) = base.map_or((Vec::new(), None), |(members, base)| (members, Some(base)));
    let has = |slot: Slot| {
        let named = form.fields.iter().find(|field| field.slot == slot);
        named.is_some_and(|field| members.iter().any(|member| *member.name == *field.name))
    };
    let slot = match (has(Slot::Data), has(Slot::DataBase64)) {
        (false, true) => Some(Slot::DataBase64),
        (true, false) if std::str::from_utf8(&envelope.data).is_ok() && !envelope.is_json() => {
            Some(Slot::Data)
        }
        _ => canonical_data_slot(form, envelope),
    };
    let mut writer = Writer::new(form, envelope, base.as_ref(), slot);
    writer.data = match slot {
        None => Vec::new(),
        Some(Slot::Data) if envelope.is_json() => envelope.data.to_vec(),
        Some(Slot::Data) => json::quote(&String::from_utf8_lossy(&envelope.data)).into_bytes(),
        Some(_) => format!("\"{}\"", BASE64.encode(&envelope.data)).into_bytes(),
    };
    writer.object(form.fields, &members, !form.has_metadata())?;
    Ok(writer.out)
}

/// Where the canonical form has the data: as JSON if it is, nowhere if there is none, else in base 64.
pub(super) fn canonical_data_slot(form: &Form, envelope: &Envelope) -> Option<Slot> {
    let is_json = envelope.is_json();
    if envelope.data.is_empty() && !form.has_metadata() {
        None
    } else if is_json && serde_json::from_slice::<IgnoredAny>(&envelope.data).is_ok() {
        Some(Slot::Data)
    } else {
        Some(Slot::DataBase64)
    }
}

/// The canonical form, with `null` for data.
pub(super) fn canonical_without_data(
    form: &'static Form,
    envelope: &Envelope,
    data: Option<Slot>,
) -> Result<Vec<u8>> {
    let mut writer = Writer::new(form, envelope, None, data);
    writer.data = NULL.to_vec();
    writer.object(form.fields, &[], !form.has_metadata())?;
    Ok(writer.out)
}

/// An event as it was written, with `null` for data and without space.
pub(super) fn without_data(form: &Form, members: &[Member<'_>]) -> Vec<u8> {
    let mut object = Object::begin(Vec::with_capacity(512));
    for member in members {
        let field = form.fields.iter().find(|field| *field.name == *member.name);
        if field.is_some_and(|field| matches!(field.slot, Slot::Data | Slot::DataBase64)) {
            object.member(&member.name, NULL);
        } else {
            object.name(&member.name);
            json::minify(member.value, &mut object.out);
        }
    }
    object.end()
}

/// A JSON object that is being written.
struct Object {
    out: Vec<u8>,
    empty: bool,
}

impl Object {
    fn begin(mut out: Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.extend_from_slice(json::quote(name).as_bytes());
        self.out.push(b':');
    }

    fn member(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(value);
    }

    fn end(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

struct Writer<'a> {
    form: &'static Form,
    envelope: &'a Envelope,
    /// What the event was when it was read in this form.
    base: Option<&'a Envelope>,
    slot: Option<Slot>,
    data: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(
        form: &'static Form,
        envelope: &'a Envelope,
        base: Option<&'a Envelope>,
        slot: Option<Slot>,
    ) -> Self {
        Self {
            form,
            envelope,
            base,
            slot,
            data: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Writes an object: the members that it had, then the fields and the extensions that it had not.
    fn object<'w>(
        &mut self,
        fields: &'static [Field],
        members: &'w [Member<'_>],
        with_extensions: bool,
    ) -> Result<()>
    where
        'a: 'w,
    {
        let mut object = Object::begin(std::mem::take(&mut self.out));
        let mut written: BTreeSet<&'w str> = BTreeSet::new();
        for member in members {
            written.insert(&*member.name);
            match fields.iter().find(|field| *field.name == *member.name) {
                Some(field) => self.again(field, member, &mut object)?,
                None if with_extensions && read::is_extension(self.form, member) => {
                    self.extension_again(member, &mut object);
                }
                None => object.member(&member.name, member.value.as_bytes()),
            }
        }
        let extensions_first = self.form.has_metadata();
        for field in fields {
            if written.contains(field.name) {
                continue;
            }
            let at_data = matches!(field.slot, Slot::Data | Slot::DataBase64);
            if at_data && with_extensions && !extensions_first {
                self.extensions(&mut written, &mut object);
            }
            self.anew(field, &mut object)?;
        }
        if with_extensions {
            self.extensions(&mut written, &mut object);
        }
        self.out = object.end();
        Ok(())
    }

    fn extensions<'w>(&self, written: &mut BTreeSet<&'w str>, object: &mut Object)
    where
        'a: 'w,
    {
        let envelope: &'a Envelope = self.envelope;
        for (name, value) in &envelope.extensions {
            if *name != *self.form.own_attribute && written.insert(name) {
                match serde_json::from_str::<IgnoredAny>(value) {
                    Ok(_) => object.member(name, value.as_bytes()),
                    Err(_) => object.member(name, json::quote(value).as_bytes()),
                }
            }
        }
    }

    /// A field that the event had when it was read.
    fn again(&mut self, field: &Field, member: &Member<'_>, object: &mut Object) -> Result<()> {
        let (name, value) = (field.name, member.value);
        match field.slot {
            Slot::Data | Slot::DataBase64 if self.slot == Some(field.slot) => {
                object.member(name, &self.data);
            }
            Slot::Data | Slot::DataBase64 => {}
            Slot::Metadata if value.starts_with('{') => {
                let members = read::parse(self.form, value.as_bytes(), name)?;
                object.name(name);
                self.nested(&members, object)?;
            }
            Slot::Metadata => {
                let more = self.metadata()?;
                if more.is_none() || value == "null" {
                    object.member(name, more.as_deref().unwrap_or(value.as_bytes()));
                } else {
                    let text = "the event has a field of its own where more must be written";
                    return Err(Error::new(ErrorKind::Unsupported, "event_form_full", text)
                        .with("form", self.form.dialect)
                        .with("field", name));
                }
            }
            slot if self.is_unchanged(slot) => object.member(name, value.as_bytes()),
            slot => {
                if let Some(value) = json_value(slot, Rule::Known, self.envelope) {
                    object.member(name, value.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// A field that the event had not.
    fn anew(&mut self, field: &Field, object: &mut Object) -> Result<()> {
        match field.slot {
            Slot::Data | Slot::DataBase64 if self.slot == Some(field.slot) => {
                object.member(field.name, &self.data);
            }
            Slot::Data | Slot::DataBase64 => {}
            Slot::Metadata => {
                if let Some(metadata) = self.metadata()? {
                    object.member(field.name, &metadata);
                }
            }
            _ if field.rule == Rule::Read => {}
            slot if self.base.is_some() && self.is_unchanged(slot) => {}
            slot => {
                if let Some(value) = json_value(slot, field.rule, self.envelope) {
                    object.member(field.name, value.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// The metadata of an event that had none, if it has any now.
    fn metadata(&mut self) -> Result<Option<Vec<u8>>> {
        let mut object = Object {
            out: Vec::new(),
            empty: true,
        };
        self.nested(&[], &mut object)?;
        Ok(Some(object.out).filter(|metadata| metadata != b"{}"))
    }

    fn nested(&mut self, members: &[Member<'_>], object: &mut Object) -> Result<()> {
        let outer = std::mem::take(&mut self.out);
        self.object(self.form.metadata, members, true)?;
        object.out.append(&mut self.out);
        self.out = outer;
        Ok(())
    }

    fn extension_again(&self, member: &Member<'_>, object: &mut Object) {
        let Some(now) = self.envelope.extension(&member.name) else {
            return;
        };
        // Binary mode makes a text of every value; that is no change.
        let value = if attribute_text(now) == attribute_text(member.value) {
            member.value.as_bytes()
        } else {
            now.as_bytes()
        };
        object.member(&member.name, value);
    }

    fn is_unchanged(&self, slot: Slot) -> bool {
        let (Some(base), now) = (self.base, self.envelope) else {
            return false;
        };
        match slot {
            Slot::SpecVersion | Slot::Data | Slot::DataBase64 | Slot::Metadata => true,
            Slot::Id => base.id == now.id,
            Slot::Type => base.event_type == now.event_type,
            Slot::Version => base.version == now.version,
            Slot::Time | Slot::Seconds => base.time == now.time,
            Slot::Source => base.source == now.source,
            Slot::Correlation => base.correlation_id == now.correlation_id,
            Slot::Causation => base.causation_id == now.causation_id,
            Slot::TraceId | Slot::SpanId | Slot::TraceParent => base.trace == now.trace,
            Slot::User => base.user_id == now.user_id,
            Slot::Key => base.key == now.key,
            Slot::Kind => base.kind == now.kind,
            Slot::Priority => base.priority == now.priority,
            Slot::ContentType => base.content_type == now.content_type,
        }
    }
}

/// The text of an extension's JSON value: of a text itself, of anything else its JSON.
pub(crate) fn attribute_text(value: &str) -> ByteString {
    let text = if value.starts_with('"') {
        serde_json::from_str::<String>(value).ok()
    } else {
        None
    };
    text.map_or_else(|| value.into(), ByteString::from)
}

/// A field's value as JSON, if it has one that must be written.
fn json_value(slot: Slot, rule: Rule, envelope: &Envelope) -> Option<String> {
    let text = value(slot, rule, envelope)?.into_text();
    Some(if slot == Slot::Seconds {
        text.to_string()
    } else {
        json::quote(&text)
    })
}
