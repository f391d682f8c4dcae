//! One form for schemas that mean the same, so that they can be compared.
//!
//! References are put in their place, annotations dropped, `allOf` merged, `const` written as `enum`,
//! and whatever offers a choice (`anyOf`, `oneOf`, several types) becomes a flat `anyOf` of branches
//! that offer none.

use serde_json::{Map, Value, json};

/// Stands for a reference to a schema that the reference is part of: so many references further up.
pub(super) const RECURSION: &str = "$recursion";

const ANNOTATIONS: [&str; 14] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// The form in which two schemas can be compared.
pub(super) fn normal(schema: &Value) -> Value {
    Normalizer {
        root: schema,
        references: Vec::new(),
    }
    .node(schema)
}

/// The choices that a normal schema offers: its branches, or itself alone.
pub(super) fn branches(node: &Value) -> Vec<&Value> {
    match node.get("anyOf").and_then(Value::as_array) {
        Some(branches) => branches.iter().collect(),
        None => vec![node],
    }
}

struct Normalizer<'a> {
    root: &'a Value,
    /// The references that are being followed, outermost first.
    references: Vec<String>,
}

impl Normalizer<'_> {
    fn node(&mut self, schema: &Value) -> Value {
        let Value::Object(schema) = schema else {
            // `true` admits everything, as does no constraint at all.
            return if *schema == Value::Bool(true) {
                json!({})
            } else {
                schema.clone()
            };
        };
        let mut rest = Map::new();
        let mut parts = Vec::new();
        let mut choices = Vec::new();
        for (keyword, value) in schema {
            match keyword.as_str() {
                annotation if ANNOTATIONS.contains(&annotation) => {}
                "$ref" => parts.push(self.reference(value)),
                "allOf" => parts.extend(list(value).map(|member| self.node(member))),
                "anyOf" | "oneOf" => {
                    choices.push(
                        list(value)
                            .map(|member| self.node(member))
                            .collect::<Vec<_>>(),
                    );
                }
                "const" => drop(rest.insert("enum".into(), json!([value]))),
                "unevaluatedProperties" => {
                    rest.insert("additionalProperties".into(), self.node(value));
                }
                "items" | "additionalProperties" | "contains" | "propertyNames" | "not" => {
                    rest.insert(keyword.clone(), self.node(value));
                }
                "properties" | "patternProperties" => {
                    let members = value.as_object().into_iter().flatten();
                    let members: Map<_, _> = members
                        .map(|(name, value)| (name.clone(), self.node(value)))
                        .collect();
                    rest.insert(keyword.clone(), Value::Object(members));
                }
                "prefixItems" => {
                    let items = list(value).map(|item| self.node(item)).collect();
                    rest.insert(keyword.clone(), Value::Array(items));
                }
                "required" => drop(rest.insert(keyword.clone(), sorted(value))),
                _ => drop(rest.insert(keyword.clone(), value.clone())),
            }
        }
        let mut node = Value::Object(rest);
        for part in parts {
            node = merge(node, part);
        }
        for choice in choices {
            let whole = node;
            let each = choice
                .into_iter()
                .map(|branch| merge(whole.clone(), branch));
            node = any_of(each.collect());
        }
        any_of(branches(&node).into_iter().flat_map(by_type).collect())
    }

    fn reference(&mut self, to: &Value) -> Value {
        let to = to.as_str().unwrap_or_default();
        if let Some(at) = self
            .references
            .iter()
            .rev()
            .position(|reference| reference == to)
        {
            return json!({ RECURSION: at });
        }
        let Some(target) = to
            .strip_prefix('#')
            .and_then(|pointer| self.root.pointer(pointer))
        else {
            return json!({ "$ref": to });
        };
        self.references.push(to.to_owned());
        let node = self.node(target);
        self.references.pop();
        node
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn sorted(value: &Value) -> Value {
    let mut names: Vec<&str> = list(value).filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    json!(names)
}

/// Both constraints at once.
fn merge(left: Value, right: Value) -> Value {
    let (Value::Object(mut left), Value::Object(right)) = (left, right) else {
        // One of them is `false`.
        return Value::Bool(false);
    };
    if left.contains_key("anyOf") || right.contains_key("anyOf") {
        let (left, right) = (Value::Object(left), Value::Object(right));
        let pairs = branches(&left).into_iter().flat_map(|l| {
            branches(&right)
                .into_iter()
                .map(move |r| merge(l.clone(), r.clone()))
        });
        return any_of(pairs.collect());
    }
    for (keyword, value) in right {
        let merged = match (keyword.as_str(), left.remove(&keyword)) {
            (_, None) => value,
            ("properties" | "patternProperties", Some(Value::Object(mut members))) => {
                if let Value::Object(others) = value {
                    for (name, other) in others {
                        let both = match members.remove(&name) {
                            Some(member) => merge(member, other),
                            None => other,
                        };
                        members.insert(name, both);
                    }
                }
                Value::Object(members)
            }
            ("required", Some(names)) => {
                sorted(&list(&names).chain(list(&value)).cloned().collect())
            }
            ("items" | "additionalProperties", Some(other)) => merge(other, value),
            ("enum", Some(other)) => list(&other)
                .filter(|one| list(&value).any(|it| it == *one))
                .cloned()
                .collect(),
            ("type", Some(other)) => match common_types(&other, &value) {
                Some(types) => types,
                None => return Value::Bool(false),
            },
            _ => value,
        };
        left.insert(keyword, merged);
    }
    Value::Object(left)
}

fn types(value: &Value) -> Vec<&str> {
    value
        .as_str()
        .into_iter()
        .chain(list(value).filter_map(Value::as_str))
        .collect()
}

fn common_types(left: &Value, right: &Value) -> Option<Value> {
    let (left, right) = (types(left), types(right));
    let both =
        |one: &&&str| right.contains(*one) || (**one == "integer" && right.contains(&"number"));
    let mut common: Vec<&str> = left.iter().filter(both).copied().collect();
    if left.contains(&"number") && right.contains(&"integer") {
        common.push("integer");
    }
    match common.as_slice() {
        [] => None,
        [one] => Some(json!(one)),
        several => Some(json!(several)),
    }
}

/// A flat choice without branches that admit nothing, and without one that stands twice.
fn any_of(nodes: Vec<Value>) -> Value {
    let mut flat: Vec<Value> = Vec::new();
    for node in nodes {
        for branch in branches(&node) {
            if branch.is_object() && !flat.contains(branch) {
                flat.push(branch.clone());
            }
        }
    }
    let flat = join_enums(flat);
    match flat.as_slice() {
        [] => Value::Bool(false),
        [one] => one.clone(),
        several => json!({ "anyOf": several }),
    }
}

/// One branch for all that only list values of one type: an enum is the same whether its variants
/// have descriptions or not.
fn join_enums(branches: Vec<Value>) -> Vec<Value> {
    let mut joined: Vec<Value> = Vec::new();
    for branch in branches {
        let only_values = |node: &Value| {
            node.as_object().is_some_and(|node| {
                node.contains_key("enum") && node.keys().all(|k| k == "enum" || k == "type")
            })
        };
        let same = joined.iter_mut().find(|other| {
            only_values(&branch) && only_values(other) && other.get("type") == branch.get("type")
        });
        match same
            .and_then(|other| other.get_mut("enum"))
            .and_then(Value::as_array_mut)
        {
            Some(values) => values.extend(branch.get("enum").into_iter().flat_map(list).cloned()),
            None => joined.push(branch),
        }
    }
    joined
}

/// The branches of a node that admits several types, or of an enum without a type.
fn by_type(node: &Value) -> Vec<Value> {
    let Value::Object(node) = node else {
        return vec![node.clone()];
    };
    let values = node
        .get("enum")
        .map(|values| list(values).collect::<Vec<_>>());
    let types: Vec<String> = match (node.get("type"), &values) {
        (Some(given), _) => types(given).into_iter().map(str::to_owned).collect(),
        (None, Some(values)) => {
            let mut found: Vec<String> = Vec::new();
            for value in values {
                let name = type_of(value).to_owned();
                if !found.contains(&name) {
                    found.push(name);
                }
            }
            found
        }
        (None, None) => return vec![Value::Object(node.clone())],
    };
    let mut result = Vec::new();
    for name in types {
        let mut branch = if name == "null" {
            Map::new()
        } else {
            node.clone()
        };
        if let Some(values) = &values {
            let of_type: Vec<_> = values.iter().filter(|value| is_a(value, &name)).collect();
            if of_type.is_empty() {
                continue;
            }
            if name != "null" {
                branch.insert("enum".into(), json!(of_type));
            }
        }
        branch.insert("type".into(), Value::String(name));
        result.push(Value::Object(branch));
    }
    result
}

pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    let found = type_of(value);
    found == name || (found == "integer" && name == "number")
}
