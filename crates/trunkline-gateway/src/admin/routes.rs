//! The admin API's requests: Kong's paths, over a document instead of a database.

use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use trunkline_call::Body;
use trunkline_core::{Error, ErrorKind, Result};

use super::document::{Document, Entity, invalid};
use super::form;
use super::keeper::Keeper;
use super::kinds::Kind;
use crate::problem;

/// A larger body is refused.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// So many entities are listed where nobody says how many.
const SIZE: usize = 100;
const SIZE_MAX: usize = 1_000;
/// A body has to be whole within this time.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The routes of the admin API.
pub(super) fn router(keeper: Keeper) -> Router {
    Router::new().fallback(answer).with_state(keeper)
}

async fn answer(State(keeper): State<Keeper>, request: Request) -> Response<Body> {
    let answered = Box::pin(dispatch(&keeper, request)).await;
    answered.unwrap_or_else(|error| {
        let id = keeper.env().id().to_string();
        if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt) {
            crate::proxy::log_failure(&error, &id);
        }
        problem::response(&error, &id, &id)
    })
}

async fn dispatch(keeper: &Keeper, request: Request) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let steps: Vec<String> = path
        .split('/')
        .filter(|step| !step.is_empty())
        .map(decoded)
        .collect::<Result<_>>()?;
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let method = parts.method.clone();
    match (&method, &*steps) {
        (&Method::GET, []) => Ok(json_of(StatusCode::OK, &about())),
        (&Method::GET, ["status"]) => Ok(json_of(StatusCode::OK, &keeper.status().await)),
        (&Method::GET, ["config"]) => Ok(yaml_of(keeper.text().await)),
        (&Method::POST | &Method::PUT, ["config"]) => {
            let text = String::from_utf8(bytes(body).await?.to_vec())
                .map_err(|_| invalid("expected the text of a file, in UTF-8"))?;
            let tag = parts
                .headers
                .get(IF_MATCH)
                .and_then(|tag| tag.to_str().ok());
            let tag = keeper
                .load(text, tag.map(|tag| tag.trim_matches('"')))
                .await?;
            let mut response = json_of(StatusCode::CREATED, &json!({ "tag": tag }));
            set_tag(response.headers_mut(), &tag);
            Ok(response)
        }
        (_, ["config" | "status"] | []) => Err(wrong_method(&method)),
        (_, steps) => entities(keeper, &parts, steps, body).await,
    }
}

/// What a path means: all of a kind, or one, perhaps among those of an owner.
struct Asked {
    kind: Kind,
    called: Option<String>,
    owner: Option<(Kind, String)>,
}

impl Asked {
    fn of(steps: &[&str]) -> Option<Self> {
        let (kind, called, owner) = match *steps {
            [list] => (Kind::at(list)?, None, None),
            [list, called] => (Kind::at(list)?, Some(called), None),
            [owners, owner, list] => (Kind::at(list)?, None, Some((Kind::at(owners)?, owner))),
            [owners, owner, list, called] => (
                Kind::at(list)?,
                Some(called),
                Some((Kind::at(owners)?, owner)),
            ),
            _ => return None,
        };
        let belongs = |(owner, _): (Kind, &str)| kind.shape().owners.contains(&owner);
        owner.is_none_or(belongs).then_some(Self {
            kind,
            called: called.map(str::to_owned),
            owner: owner.map(|(kind, called)| (kind, called.to_owned())),
        })
    }

    /// The owner by its id.
    fn owner<'d>(&self, document: &'d Document) -> Result<Option<(Kind, &'d str)>> {
        let Some((kind, called)) = &self.owner else {
            return Ok(None);
        };
        Ok(Some((*kind, &document.known(*kind, called, None)?.id)))
    }

    /// Changes the document, among what belongs to the owner.
    fn within<T>(
        &self,
        document: &mut Document,
        change: impl FnOnce(&mut Document, Option<(Kind, &str)>) -> Result<T>,
    ) -> Result<T> {
        let owner = self.owner(document)?;
        let owner = owner.map(|(kind, id)| (kind, id.to_owned()));
        let owner = owner.as_ref().map(|(kind, id)| (*kind, &**id));
        change(document, owner)
    }
}

async fn entities(
    keeper: &Keeper,
    parts: &http::request::Parts,
    steps: &[&str],
    body: axum::body::Body,
) -> Result<Response<Body>> {
    let asked = Asked::of(steps)
        .ok_or_else(|| Error::not_found("route_unknown", "there is nothing here; see /"))?;
    let (kind, called) = (asked.kind, asked.called.clone());
    let env = keeper.env().clone();
    let touched = |entity: &Entity| Some((entity.kind, entity.id.clone()));
    match (&parts.method, called) {
        (&Method::GET, None) => {
            let path = parts.uri.path();
            let query = parts.uri.query().unwrap_or_default();
            let page = keeper
                .read(|document| page(document, &asked, path, query))
                .await?;
            Ok(json_of(StatusCode::OK, &page))
        }
        (&Method::GET, Some(called)) => {
            let view = |document: &Document| {
                let owner = asked.owner(document)?;
                Ok(document.known(kind, &called, owner)?.view())
            };
            Ok(json_of(StatusCode::OK, &keeper.read(view).await?))
        }
        (&Method::POST, None) => {
            let body = fields(&parts.headers, body).await?;
            let change = move |document: &mut Document| {
                asked.within(document, |document, owner| {
                    document.create(kind, body, owner, &env)
                })
            };
            let made = keeper.change(touched, change).await?;
            Ok(json_of(StatusCode::CREATED, &made.view()))
        }
        (&Method::PUT | &Method::PATCH, Some(called)) => {
            let body = fields(&parts.headers, body).await?;
            let is_whole = parts.method == Method::PUT;
            let change = move |document: &mut Document| {
                asked.within(document, |document, owner| match is_whole {
                    true => document.put((kind, &called), body, owner, &env),
                    false => document.patch((kind, &called), body, owner, &env),
                })
            };
            let made = keeper.change(touched, change).await?;
            Ok(json_of(StatusCode::OK, &made.view()))
        }
        (&Method::DELETE, Some(called)) => {
            let change = move |document: &mut Document| {
                asked.within(document, |document, owner| {
                    document.delete(kind, &called, owner);
                    Ok(())
                })
            };
            keeper.change(|()| None, change).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        (method, _) => Err(wrong_method(method)),
    }
}

/// A page of a list: `size`, `offset` and `tags`, as Kong has them.
fn page(document: &Document, asked: &Asked, path: &str, query: &str) -> Result<Value> {
    let (mut size, mut offset, mut tags) = (SIZE, 0, String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || {
            let number = value.parse::<usize>();
            number.map_err(|_| query_invalid(format!("{name}: expected a number, found `{value}`")))
        };
        match &*name {
            "size" => size = number()?,
            "offset" => offset = number()?,
            "tags" => tags = value.into_owned(),
            _ => {
                return Err(query_invalid(format!(
                    "expected size, offset or tags, found `{name}`"
                )));
            }
        }
    }
    if !(1..=SIZE_MAX).contains(&size) {
        return Err(query_invalid(format!("size: expected 1 to {SIZE_MAX}")));
    }
    let owner = asked.owner(document)?;
    let fits = |entity: &&Entity| match tags.split_once('/') {
        Some(_) => tags.split('/').any(|tag| entity.is_tagged(tag)),
        None => tags.is_empty() || tags.split(',').all(|tag| entity.is_tagged(tag)),
    };
    let mut all = document
        .list(asked.kind, owner)
        .filter(fits)
        .skip(offset)
        .peekable();
    let shown: Vec<Value> = all.by_ref().take(size).map(Entity::view).collect();
    let next = all.peek().map(|_| offset.saturating_add(shown.len()));
    let tags = match &*tags {
        "" => String::new(),
        tags => format!("&tags={tags}"),
    };
    Ok(json!({
        "data": shown,
        "next": next.map(|next| format!("{path}?size={size}&offset={next}{tags}")),
        "offset": next.map(|next| next.to_string()),
    }))
}

/// The fields that a client sent: JSON, or a form.
async fn fields(headers: &HeaderMap, body: axum::body::Body) -> Result<Value> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or("application/json");
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let body = bytes(body).await?;
    match &*kind {
        _ if body.is_empty() => Ok(json!({})),
        "application/json" => serde_json::from_slice(&body)
            .map_err(|error| Error::invalid("json_malformed", format!("expected JSON: {error}"))),
        "application/x-www-form-urlencoded" => form::parse(&body),
        other => {
            let text = format!(
                "expected application/json or application/x-www-form-urlencoded, found `{other}`"
            );
            Err(Error::invalid("content_type_unsupported", text))
        }
    }
}

async fn bytes(body: axum::body::Body) -> Result<bytes::Bytes> {
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX)).await;
    let read = read.map_err(|_| problem::body_slow())?;
    read.map_err(|error| {
        problem::body_too_large(BODY_BYTES_MAX.try_into().unwrap_or(u64::MAX)).with_source(error)
    })
}

fn decoded(step: &str) -> Result<String> {
    let text = percent_decode(step).and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::invalid("path_invalid", "expected a path of UTF-8, percent-encoded"))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

fn about() -> Value {
    let lists = super::kinds::SHAPES.iter();
    let lists: Vec<_> = lists.map(|shape| format!("/{}", shape.path)).collect();
    json!({
        "tagline": "Trunkline's gateway",
        "version": env!("CARGO_PKG_VERSION"),
        "configuration": "/config",
        "status": "/status",
        "lists": lists,
    })
}

fn json_of(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn yaml_of((text, tag): (String, String)) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let yaml = HeaderValue::from_static("application/yaml");
    response.headers_mut().insert(CONTENT_TYPE, yaml);
    set_tag(response.headers_mut(), &tag);
    response
}

fn set_tag(headers: &mut HeaderMap, tag: &str) {
    crate::headers::put(headers, ETAG, &format!("\"{tag}\""));
}

fn query_invalid(text: String) -> Error {
    Error::invalid("query_invalid", text)
}

fn wrong_method(method: &Method) -> Error {
    let text = format!("this path does not take {method}");
    Error::new(ErrorKind::Unsupported, "method_not_allowed", text)
}
