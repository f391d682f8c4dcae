//! What `request-transformer` and `response-transformer` share: lists of `name:value`, and texts with places in them.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use trunkline_core::ByteString;

use super::{Exchange, Mistake, mistake};

/// What is changed, by kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Lists {
    pub(super) headers: Vec<String>,
    pub(super) querystring: Vec<String>,
    pub(super) uri: Option<String>,
    body: Vec<String>,
    json: Vec<String>,
    json_types: Vec<String>,
}

impl Lists {
    /// Refuses what would have to read a body.
    pub(super) fn check(&self, at: &str) -> Result<(), Mistake> {
        let bodies = [
            ("body", &self.body),
            ("json", &self.json),
            ("json_types", &self.json_types),
        ];
        match bodies.iter().find(|(_, list)| !list.is_empty()) {
            None => Ok(()),
            Some((name, _)) => {
                let expected = "expected nothing: a body is passed on as it comes, and not read";
                Err(mistake(&format!("{at}.{name}"), expected))
            }
        }
    }
}

/// What is done with names, in this order.
pub(super) const KINDS: [&str; 5] = ["remove", "rename", "replace", "add", "append"];

/// What is changed, in the order of [`KINDS`].
#[derive(Debug)]
pub(super) struct Changes<N> {
    pub(super) remove: Vec<N>,
    pub(super) rename: Vec<(N, N)>,
    pub(super) replace: Vec<(N, Template)>,
    pub(super) add: Vec<(N, Template)>,
    pub(super) append: Vec<(N, Template)>,
}

impl<N> Changes<N> {
    /// Reads the lists of one kind of names, as `list` picks them.
    pub(super) fn of(
        kind: &str,
        all: [&Lists; 5],
        list: impl Fn(&Lists) -> &Vec<String>,
        name: impl Fn(&str) -> Option<N>,
    ) -> Result<Self, Mistake> {
        let [remove, rename, replace, add, append] = all.map(list);
        let rename = rename.iter().enumerate().map(|(index, text)| {
            let both = text.split_once(':');
            let both = both.and_then(|(old, new)| Some((name(old)?, name(new)?)));
            both.ok_or_else(|| {
                let at = format!("rename.{kind}[{index}]");
                mistake(&at, format!("expected `old:new`, found `{text}`"))
            })
        });
        Ok(Self {
            remove: names(&format!("remove.{kind}"), remove, &name)?,
            rename: rename.collect::<Result<_, _>>()?,
            replace: pairs(&format!("replace.{kind}"), replace, &name)?,
            add: pairs(&format!("add.{kind}"), add, &name)?,
            append: pairs(&format!("append.{kind}"), append, &name)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.rename.is_empty()
            && [&self.replace, &self.add, &self.append]
                .iter()
                .all(|list| list.is_empty())
    }
}

impl Changes<HeaderName> {
    /// Gives headers other names, with all their values.
    pub(super) fn rename(&self, headers: &mut HeaderMap) {
        for (old, new) in &self.rename {
            let values: Vec<HeaderValue> = headers.get_all(old).iter().cloned().collect();
            if headers.remove(old).is_some() {
                headers.remove(new);
                for value in values {
                    headers.append(new.clone(), value);
                }
            }
        }
    }
}

/// A header that may be changed: not one that only the gateway may say, and not one of framing.
pub(super) fn changeable(name: &str) -> Option<HeaderName> {
    let name = HeaderName::try_from(name.trim()).ok()?;
    (!crate::headers::is_ours(&name)).then_some(name)
}

/// `name:value` of a list, each with the name checked by `name`.
fn pairs<N>(
    at: &str,
    list: &[String],
    name: impl Fn(&str) -> Option<N>,
) -> Result<Vec<(N, Template)>, Mistake> {
    let pair = |(index, text): (usize, &String)| {
        let at = format!("{at}[{index}]");
        let found = text
            .split_once(':')
            .and_then(|(left, value)| Some((name(left)?, value)));
        let (name, value) =
            found.ok_or_else(|| mistake(&at, format!("expected `name:value`, found `{text}`")))?;
        Ok((name, Template::parse(&at, value)?))
    };
    list.iter().enumerate().map(pair).collect()
}

fn names<N>(
    at: &str,
    list: &[String],
    name: impl Fn(&str) -> Option<N>,
) -> Result<Vec<N>, Mistake> {
    let one = |(index, text): (usize, &String)| {
        name(text).ok_or_else(|| {
            mistake(
                &format!("{at}[{index}]"),
                format!("expected a name, found `{text}`"),
            )
        })
    };
    list.iter().enumerate().map(one).collect()
}

/// A text with places for what the request has: `$(headers.x)`, `$(query_params.x)`, `$(uri_captures.x)`.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Header(String),
    Parameter(String),
    Capture(String),
}

impl Template {
    pub(super) fn parse(at: &str, text: &str) -> Result<Self, Mistake> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("$(") {
            let (inside, after) = after
                .split_once(')')
                .ok_or_else(|| mistake(at, "expected `)` after `$(`"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(place(inside.trim()).ok_or_else(|| {
                let expected = format!(
                    "expected headers, query_params or uri_captures with a name, such as $(headers.x), found `$({inside})`"
                );
                mistake(at, expected)
            })?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text for a request; none where something is missing that it has a place for.
    pub(super) fn fill(&self, exchange: &Exchange) -> Option<String> {
        let request = &exchange.request;
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Header(name) => filled.push_str(header(&request.headers, name)?),
                Part::Parameter(name) => {
                    let query = request.uri.query().unwrap_or_default();
                    let mut pairs = form_urlencoded::parse(query.as_bytes());
                    let (_, value) = pairs.find(|(given, _)| **given == **name)?;
                    filled.push_str(&value);
                }
                Part::Capture(name) => filled.push_str(capture(&exchange.captures, name)?),
            }
        }
        Some(filled)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn capture<'a>(captures: &'a [(ByteString, ByteString)], name: &str) -> Option<&'a str> {
    let found = captures.iter().find(|(known, _)| **known == *name);
    found.map(|(_, value)| &**value)
}

/// `headers.x`, `headers["x"]` and so on.
fn place(text: &str) -> Option<Part> {
    let end = text.find(['.', '['])?;
    let (kind, name) = text.split_at_checked(end)?;
    let name = match name.strip_prefix('.') {
        Some(name) => name,
        None => {
            let inside = name.strip_prefix('[')?.strip_suffix(']')?;
            inside.trim_matches(['"', '\''])
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    match kind {
        "headers" => Some(Part::Header(name.to_ascii_lowercase())),
        "query_params" => Some(Part::Parameter(name.to_owned())),
        "uri_captures" => Some(Part::Capture(name.to_owned())),
        _ => None,
    }
}
