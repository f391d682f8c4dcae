//! A Kong file as entities, each with an id and what it belongs to: what the admin API shows and changes.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use trunkline_core::{Env, Error, Result};

use super::kinds::{Kind, SHAPES, Shape};
use crate::beside::{drop_each, give_way};

/// Everything in a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Document {
    /// What the file says of itself: its format's version and the like.
    pub(super) head: Map<String, Value>,
    pub(super) entities: Vec<Entity>,
}

/// One entity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entity {
    pub(super) kind: Kind,
    pub(super) id: String,
    /// Whether the file says the id; otherwise it is ours, and not written.
    pub(super) has_id: bool,
    pub(super) fields: Map<String, Value>,
    /// What it belongs to, by id.
    pub(super) owners: Vec<(Kind, String)>,
}

impl Document {
    /// The entities of a file that was read well.
    pub(crate) fn of(file: Value, env: &Env) -> Self {
        let mut document = Self::default();
        let Value::Object(mut fields) = file else {
            return document;
        };
        for shape in &SHAPES {
            let list = fields.remove(shape.list);
            document.take(shape, list, None, env);
        }
        document.head = fields;
        document.resolve();
        document
    }

    /// The same once more.
    pub(super) fn copy(&self) -> Self {
        let copy = |entity: &Entity| {
            give_way();
            entity.clone()
        };
        Self {
            head: self.head.clone(),
            entities: self.entities.iter().map(copy).collect(),
        }
    }

    /// Whether another says the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let mut both = self.entities.iter().zip(&other.entities);
        self.entities.len() == other.entities.len()
            && self.head == other.head
            && both.all(|(one, other)| {
                give_way();
                one == other
            })
    }

    /// Frees it, giving way meanwhile.
    pub(super) fn release(self) {
        drop_each(self.entities);
    }

    fn take(
        &mut self,
        shape: &'static Shape,
        list: Option<Value>,
        owner: Option<(Kind, &str)>,
        env: &Env,
    ) {
        let Some(Value::Array(items)) = list else {
            return;
        };
        for item in items {
            give_way();
            let mut fields = match item {
                Value::Object(fields) => fields,
                // A name alone: `snis: [shop.example.com]`.
                Value::String(name) => Map::from_iter([("name".to_owned(), Value::String(name))]),
                _ => continue,
            };
            let id = fields.remove("id").and_then(|id| text(&id));
            let owner = owner.map(|(kind, id)| (kind, id.to_owned()));
            let entity = Entity {
                kind: shape.kind,
                has_id: id.is_some(),
                id: id.unwrap_or_else(|| env.id().to_string()),
                owners: owner.into_iter().collect(),
                fields: Map::new(),
            };
            let id = entity.id.clone();
            let place = self.entities.len();
            self.entities.push(entity);
            for inner in SHAPES.iter().filter(|inner| shape.kind.holds(inner)) {
                let list = fields.remove(inner.list);
                self.take(inner, list, Some((shape.kind, &id)), env);
            }
            if let Some(entity) = self.entities.get_mut(place) {
                entity.fields = fields;
            }
        }
    }

    /// Turns what entities say of their owners into the owners' ids.
    fn resolve(&mut self) {
        let mut called = HashMap::new();
        for entity in &self.entities {
            give_way();
            let names = entity.kind.shape().names.iter();
            let names = names.filter_map(|name| entity.fields.get(*name).and_then(text));
            for name in std::iter::once(entity.id.clone()).chain(names) {
                let known = called.entry((entity.kind, name));
                known.or_insert_with(|| entity.id.clone());
            }
        }
        for entity in &mut self.entities {
            give_way();
            let fields = std::mem::take(&mut entity.fields);
            let (said, fields) = said_owners(entity.kind.shape(), fields);
            entity.fields = fields;
            for (kind, name) in said {
                let owner = called.get(&(kind, name)).cloned().map(|id| (kind, id));
                let new = owner.filter(|owner| !entity.owners.contains(owner));
                entity.owners.extend(new);
            }
        }
    }

    /// The entity of this id or name; of a group or a target, among those of one owner.
    pub(crate) fn find<'a>(
        &'a self,
        kind: Kind,
        called: &str,
        of: Option<(Kind, &'a str)>,
    ) -> Option<&'a Entity> {
        let mut by_id = self.list(kind, of);
        let mut by_name = by_id.clone();
        by_id
            .find(|entity| entity.id == called)
            .or_else(|| by_name.find(|entity| entity.is_called(called)))
    }

    /// Entities of a kind, of one owner or all, in the order of the file.
    pub(crate) fn list<'a>(
        &'a self,
        kind: Kind,
        of: Option<(Kind, &'a str)>,
    ) -> impl Iterator<Item = &'a Entity> + Clone {
        self.entities.iter().filter(move |entity| {
            let belongs = |(kind, id)| entity.owner(kind) == Some(id);
            entity.kind == kind && of.is_none_or(belongs)
        })
    }

    /// Adds an entity.
    ///
    /// # Errors
    /// `InvalidInput` for a body that is none; `NotFound` for an owner that is not there; `Conflict` for a name that is taken.
    pub(crate) fn create(
        &mut self,
        kind: Kind,
        body: Value,
        of: Option<(Kind, &str)>,
        env: &Env,
    ) -> Result<Entity> {
        let entity = self.entity(kind, body, of, env)?;
        if self.entities.iter().any(|other| other.id == entity.id) {
            return Err(taken(kind, "id", &entity.id));
        }
        self.has_own_name(&entity)?;
        self.entities.push(entity.clone());
        Ok(entity)
    }

    /// Puts an entity in the place of the one of this id or name, or adds it under this id or name.
    ///
    /// # Errors
    /// As [`Document::create`].
    pub(crate) fn put(
        &mut self,
        (kind, called): (Kind, &str),
        body: Value,
        of: Option<(Kind, &str)>,
        env: &Env,
    ) -> Result<Entity> {
        let before = self.find(kind, called, of).cloned();
        let Some(before) = before else {
            let mut body = body;
            let name = kind.shape().names.first();
            let is_id = looks_like_an_id(called);
            let field = if is_id { "id" } else { *name.unwrap_or(&"id") };
            if let Value::Object(fields) = &mut body {
                fields.entry(field).or_insert_with(|| Value::from(called));
            }
            return self.create(kind, body, of, env);
        };
        let mut entity = self.entity(kind, body, of, env)?;
        entity.id.clone_from(&before.id);
        entity.has_id = before.has_id;
        if entity.owners.is_empty() {
            entity.owners.clone_from(&before.owners);
        }
        if let Some(name) = kind.shape().names.first()
            && !entity.fields.contains_key(*name)
            && let Some(value) = before.fields.get(*name)
        {
            entity.fields.insert((*name).to_owned(), value.clone());
        }
        self.replace(entity)
    }

    /// Changes some fields of an entity; `null` takes one away, and fields inside of fields are changed one by one.
    ///
    /// # Errors
    /// As [`Document::create`]; `NotFound` for an entity that is not there.
    pub(crate) fn patch(
        &mut self,
        (kind, called): (Kind, &str),
        body: Value,
        of: Option<(Kind, &str)>,
        env: &Env,
    ) -> Result<Entity> {
        let before = self.known(kind, called, of)?.clone();
        let change = self.entity(kind, body, None, env)?;
        let mut entity = before;
        merge(&mut entity.fields, change.fields);
        for (kind, id) in change.owners {
            entity.owners.retain(|(other, _)| *other != kind);
            entity.owners.push((kind, id));
        }
        self.replace(entity)
    }

    /// Takes an entity away, and all that belongs to it. Nothing happens where there is none.
    pub(crate) fn delete(&mut self, kind: Kind, called: &str, of: Option<(Kind, &str)>) {
        let Some(entity) = self.find(kind, called, of) else {
            return;
        };
        let mut gone = vec![(entity.kind, entity.id.clone())];
        while let Some((kind, id)) = gone.pop() {
            let (out, kept) = std::mem::take(&mut self.entities)
                .into_iter()
                .partition(|entity| {
                    (entity.kind == kind && entity.id == id) || entity.owner(kind) == Some(&id)
                });
            self.entities = kept;
            let out: Vec<Entity> = out;
            let owned = out.into_iter().map(|entity| (entity.kind, entity.id));
            gone.extend(owned.filter(|other| *other != (kind, id.clone())));
        }
    }

    /// The entity of this id or name.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn known<'a>(
        &'a self,
        kind: Kind,
        called: &str,
        of: Option<(Kind, &'a str)>,
    ) -> Result<&'a Entity> {
        self.find(kind, called, of).ok_or_else(|| {
            let what = kind.shape().field;
            Error::not_found("entity_unknown", format!("there is no {what} `{called}`"))
        })
    }

    fn replace(&mut self, entity: Entity) -> Result<Entity> {
        self.has_own_name(&entity)?;
        let mut all = self.entities.iter_mut();
        if let Some(before) = all.find(|other| other.kind == entity.kind && other.id == entity.id) {
            before.clone_from(&entity);
        }
        Ok(entity)
    }

    /// What a client sent, as an entity.
    fn entity(
        &self,
        kind: Kind,
        body: Value,
        of: Option<(Kind, &str)>,
        env: &Env,
    ) -> Result<Entity> {
        let shape = kind.shape();
        let Value::Object(mut fields) = body else {
            return Err(invalid("expected an object with fields"));
        };
        for inner in SHAPES.iter().filter(|inner| kind.holds(inner)) {
            if fields.contains_key(inner.list) {
                let text = format!(
                    "expected no `{}` here: send them to /{}",
                    inner.list, inner.path
                );
                return Err(invalid(text));
            }
        }
        let id = match fields.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if !id.is_empty() => Some(id),
            Some(_) => return Err(invalid("id: expected a text")),
        };
        let (said, fields) = said_owners(shape, fields);
        let mut owners: Vec<(Kind, String)> = of
            .into_iter()
            .map(|(kind, id)| (kind, id.to_owned()))
            .collect();
        for (kind, called) in said {
            let owner = self.known(kind, &called, None)?;
            let owner = (kind, owner.id.clone());
            if owners
                .iter()
                .any(|(other, id)| *other == owner.0 && *id != owner.1)
            {
                let field = kind.shape().field;
                return Err(invalid(format!(
                    "{field}: expected the one of the path, or nothing"
                )));
            }
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        Ok(Entity {
            kind,
            has_id: id.is_some() || kind.is_known_by_id(),
            id: id.unwrap_or_else(|| env.id().to_string()),
            fields,
            owners,
        })
    }

    fn has_own_name(&self, entity: &Entity) -> Result<()> {
        // Two consumers may be in one group, and two upstreams have one target.
        let of = match entity.kind {
            Kind::Group | Kind::Target => entity.owners.first(),
            _ => None,
        };
        let of = of.map(|(kind, id)| (*kind, &**id));
        for name in entity.kind.shape().names {
            let Some(value) = entity.fields.get(*name).filter(|value| !value.is_null()) else {
                continue;
            };
            let mut others = self.list(entity.kind, of);
            if others.any(|other| other.id != entity.id && other.fields.get(*name) == Some(value)) {
                return Err(taken(entity.kind, name, &text(value).unwrap_or_default()));
            }
        }
        Ok(())
    }
}

impl Entity {
    /// What a client is shown: its fields, its id, and what it belongs to.
    pub(crate) fn view(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("id".to_owned(), Value::from(&*self.id));
        for (kind, id) in &self.owners {
            fields.insert(kind.shape().field.to_owned(), json!({ "id": id }));
        }
        Value::Object(fields)
    }

    /// The id of what it belongs to of a kind.
    pub(crate) fn owner(&self, kind: Kind) -> Option<&str> {
        let mut owners = self.owners.iter();
        let found = owners.find(|(other, _)| *other == kind);
        found.map(|(_, id)| &**id)
    }

    /// Whether it is tagged with this word.
    pub(crate) fn is_tagged(&self, tag: &str) -> bool {
        let tags = self.fields.get("tags").and_then(Value::as_array);
        tags.is_some_and(|tags| tags.iter().any(|one| one.as_str() == Some(tag)))
    }

    fn is_called(&self, called: &str) -> bool {
        let mut names = self.kind.shape().names.iter();
        names.any(|name| self.fields.get(*name).and_then(text).as_deref() == Some(called))
    }
}

/// What fields say of owners, and the other fields.
fn said_owners(
    shape: &Shape,
    mut fields: Map<String, Value>,
) -> (Vec<(Kind, String)>, Map<String, Value>) {
    let mut said = Vec::new();
    for owner in shape.owners {
        let field = owner.shape().field;
        let called = fields.get(field).and_then(|value| match value {
            Value::Object(inside) => {
                let mut names = ["id", "name", "username"].iter();
                names.find_map(|name| inside.get(*name).and_then(text))
            }
            other => text(other),
        });
        if let Some(called) = called {
            fields.remove(field);
            said.push((*owner, called));
        } else if fields.get(field).is_some_and(Value::is_null) {
            fields.remove(field);
        }
    }
    (said, fields)
}

fn merge(into: &mut Map<String, Value>, change: Map<String, Value>) {
    for (name, value) in change {
        match (into.get_mut(&name), value) {
            (_, Value::Null) => {
                into.remove(&name);
            }
            (Some(Value::Object(inside)), Value::Object(change)) => merge(inside, change),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// A text, and a number that stands for one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether it is a UUID, and so not a name.
fn looks_like_an_id(called: &str) -> bool {
    called.len() == 36
        && called.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

pub(super) fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid("entity_invalid", text)
}

fn taken(kind: Kind, field: &str, value: &str) -> Error {
    let what = kind.shape().field;
    let text = format!("{field}: expected one of its own, found another {what} with `{value}`");
    Error::conflict("entity_exists", text)
}

#[cfg(test)]
mod tests;
