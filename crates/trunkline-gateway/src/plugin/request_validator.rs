//! `request-validator`: only requests that are as a schema says, or the service's OpenAPI document.

mod document;
mod documents;
mod json;
mod operation;
mod parameter;
mod schema;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{ByteString, Error};

use self::document::Document;
use self::documents::{Remote, read};
use self::operation::{Media, Operation};
use self::schema::Draft;
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};
use crate::Means;

/// A longer body is refused where the settings say nothing else, and the most that they may say.
const BODY_BYTES: u64 = 1024 * 1024;
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    body_schema: Option<String>,
    parameter_schema: Option<Vec<parameter::Settings>>,
    allowed_content_types: Vec<String>,
    content_type_parameter_validation: bool,
    version: Version,
    verbose_response: Option<bool>,
    /// Ours: a file or an URL of an OpenAPI document. Without it and without a schema, it is what the service declares.
    openapi: Option<String>,
    /// Ours.
    body_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_schema: None,
            parameter_schema: None,
            allowed_content_types: vec!["application/json".to_owned()],
            content_type_parameter_validation: true,
            version: Version::Draft4,
            verbose_response: None,
            openapi: None,
            body_bytes_max: BODY_BYTES,
        }
    }
}

/// Which JSON Schema. Kong's own schemas are not among them.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Version {
    #[default]
    Draft4,
    Draft6,
    Draft7,
    #[serde(rename = "draft201909")]
    Draft201909,
    #[serde(rename = "draft202012")]
    Draft202012,
}

/// # Guarantees
/// Who is refused before it, by a key, a token, an address or a limit, has no body read. A body that is read is at most
/// `body_bytes_max` long and comes within 30 s; it goes on as it came. A mistake is named by its place and what was
/// expected there, never with what a client sent.
#[derive(Debug)]
struct RequestValidator {
    rules: Rules,
    body_bytes_max: u64,
    tells: bool,
}

/// What requests are held against.
#[derive(Debug)]
enum Rules {
    /// One operation, whatever the path.
    One(Box<Operation>),
    /// A document.
    Document(Arc<Document>),
    /// One that is fetched.
    Remote(Remote),
    /// What each service declares.
    Declared(Declared),
}

/// The documents of services, each compiled when it is first asked for.
struct Declared {
    means: Means,
    compiled: RwLock<HashMap<ByteString, Option<Arc<Document>>>>,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if !(1..=BODY_BYTES_MAX).contains(&settings.body_bytes_max) {
        let expected = format!("expected 1 to {BODY_BYTES_MAX} bytes");
        return Err(mistake("body_bytes_max", expected));
    }
    let (body_bytes_max, tells) = (
        settings.body_bytes_max,
        settings.verbose_response.unwrap_or(true),
    );
    Ok(Arc::new(RequestValidator {
        rules: rules(settings, making)?,
        body_bytes_max,
        tells,
    }))
}

fn rules(settings: Settings, making: &Making<'_>) -> Result<Rules, Mistake> {
    let has_schema = settings.body_schema.is_some() || settings.parameter_schema.is_some();
    match settings.openapi {
        Some(_) if has_schema => Err(mistake(
            "openapi",
            "expected either a document, or `body_schema` and `parameter_schema`",
        )),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            Remote::new(&url, making).map(Rules::Remote)
        }
        Some(path) => read(&path).map(|document| Rules::Document(Arc::new(document))),
        None if has_schema => one(&settings).map(|one| Rules::One(Box::new(one))),
        None => declared(making),
    }
}

/// Kong's settings as an operation.
fn one(settings: &Settings) -> Result<Operation, Mistake> {
    let draft = match settings.version {
        Version::Draft4 => Draft::Draft4,
        Version::Draft6 => Draft::Draft6,
        Version::Draft7 => Draft::Draft7,
        Version::Draft201909 => Draft::Draft201909,
        Version::Draft202012 => Draft::Draft202012,
    };
    let given = settings.parameter_schema.iter().flatten().enumerate();
    let parameters = given.map(|(index, given)| {
        let at = format!("parameter_schema[{index}]");
        given.parameter(draft).map_err(|(inside, expected)| {
            let dot = if inside.is_empty() { "" } else { "." };
            (format!("{at}{dot}{inside}"), expected)
        })
    });
    let parameters = parameters.collect::<Result<_, _>>()?;
    let media = match &settings.body_schema {
        None => None,
        Some(text) => {
            let schema = schema::parse(text, draft).map_err(|why| mistake("body_schema", why))?;
            let schema = Arc::new(schema);
            let strict = settings.content_type_parameter_validation;
            let types = settings.allowed_content_types.iter().enumerate();
            let types = types.map(|(index, text)| {
                let at = format!("allowed_content_types[{index}]");
                Media::parse(text, strict, Some(schema.clone()))
                    .ok_or_else(|| mistake(&at, "expected a content type such as application/json"))
            });
            Some(types.collect::<Result<_, _>>()?)
        }
    };
    Ok(Operation {
        parameters,
        media,
        is_required: settings.body_schema.is_some(),
    })
}

fn declared(making: &Making<'_>) -> Result<Rules, Mistake> {
    let declared = Declared {
        means: making.means.clone(),
        compiled: RwLock::default(),
    };
    if let Some(service) = making.service {
        let document = making.means.document(service).ok_or_else(|| {
            let expected = "expected `body_schema`, `parameter_schema` or `openapi`: the service declares nothing here";
            mistake("", expected)
        })?;
        let compiled = Document::new(document).map_err(|why| {
            mistake(
                "",
                format!("expected the service to declare what can be held to: {why}"),
            )
        })?;
        let service = ByteString::from(service);
        declared
            .compiled
            .write()
            .insert(service, Some(Arc::new(compiled)));
    } else if making.means.documents.is_none() {
        let expected = "expected `body_schema`, `parameter_schema` or `openapi`";
        return Err(mistake("", expected));
    }
    Ok(Rules::Declared(declared))
}

impl Declared {
    fn of(&self, service: &ByteString) -> Option<Arc<Document>> {
        if let Some(known) = self.compiled.read().get(service) {
            return known.clone();
        }
        // There are as many as services of the configuration.
        let made = self.means.document(service).and_then(|document| {
            let made = Document::new(document);
            made.inspect_err(|why| {
                tracing::error!(service = &**service, why, "no OpenAPI document")
            })
            .ok()
        });
        let made = made.map(Arc::new);
        self.compiled.write().insert(service.clone(), made.clone());
        made
    }
}

impl RequestValidator {
    async fn check(&self, exchange: &mut Exchange) -> Result<(), Error> {
        let document = match &self.rules {
            Rules::One(operation) => {
                return self.hold(operation, &[], exchange).await;
            }
            Rules::Document(document) => document.clone(),
            Rules::Remote(remote) => remote.document().await?,
            Rules::Declared(declared) => declared.of(&exchange.service).ok_or_else(|| {
                Error::internal("the service has no document that requests could be held against")
            })?,
        };
        let request = &exchange.request;
        let (operation, captured) = document.find(&request.method, request.uri.path())?;
        self.hold(operation, &captured, exchange).await
    }

    async fn hold(
        &self,
        operation: &Operation,
        captured: &[(&str, String)],
        exchange: &mut Exchange,
    ) -> Result<(), Error> {
        operation.check_parameters(exchange, captured, self.tells)?;
        let Some(media) = operation.media_of(&exchange.request.headers, exchange.body_bytes)?
        else {
            return Ok(());
        };
        let body = exchange.read_body(self.body_bytes_max).await?;
        operation.check_body(media, &body, self.tells)
    }
}

impl Plugin for RequestValidator {
    fn sees_answers(&self) -> bool {
        false
    }

    /// A document that was fetched once need not be fetched again for a new configuration.
    fn remembers(&self) -> bool {
        matches!(self.rules, Rules::Remote(_))
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if exchange.is_preflight() {
            return Verdict::Next;
        }
        Verdict::Later
    }

    fn wait<'a>(&'a self, exchange: &'a mut Exchange) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match self.check(exchange).await {
                Ok(()) => Verdict::Next,
                Err(error) => Verdict::Refuse(error),
            }
        })
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.compiled.read().keys()).finish()
    }
}
