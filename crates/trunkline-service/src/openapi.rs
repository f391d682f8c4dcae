//! The OpenAPI 3.1 document of a service, from the types of its handlers.

use http::StatusCode;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use trunkline_call::Responses;

use crate::Service;
use crate::http::Route;

/// One operation while it is described.
#[derive(Debug)]
pub struct Operation {
    schemas: SchemaGenerator,
    responses: Responses,
    idempotent: bool,
    described: Map<String, Value>,
    parameters: Vec<Value>,
    answers: Map<String, Value>,
}

impl Operation {
    /// Adds the query's parameters: the fields of `T`.
    pub(crate) fn query<T: JsonSchema>(&mut self) {
        // A schema of its own, so that a struct of parameters is no component of the document.
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let schema = settings
            .into_generator()
            .into_root_schema_for::<T>()
            .to_value();
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        for (name, schema) in fields {
            let mut schema = without_null(schema.clone());
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()),
                "schema": schema,
            });
            if let (Some(text), Some(parameter)) = (description, parameter.as_object_mut()) {
                parameter.insert("description".to_owned(), text);
            }
            self.parameters.push(parameter);
        }
    }

    /// Sets the body.
    pub(crate) fn body<T: JsonSchema>(&mut self) {
        let schema = plain(self.schemas.subschema_for::<T>().to_value());
        let body =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        self.described.insert("requestBody".to_owned(), body);
    }

    /// Adds an answer with a body.
    pub(crate) fn answer<T: JsonSchema>(&mut self, status: StatusCode, location: bool) {
        let schema = plain(self.schemas.subschema_for::<T>().to_value());
        let schema = match self.responses {
            Responses::Plain => schema,
            Responses::Data => json!({
                "type": "object", "properties": { "data": schema }, "required": ["data"],
            }),
        };
        let mut headers = self.headers();
        if location {
            let header = header("Where it is found.", "string");
            headers.insert("Location".to_owned(), header);
        }
        let answer = json!({
            "description": status.canonical_reason().unwrap_or("Answer"),
            "headers": headers,
            "content": { "application/json": { "schema": schema } },
        });
        self.answers.insert(status.as_u16().to_string(), answer);
    }

    /// Adds an answer without a body.
    pub(crate) fn no_answer(&mut self, status: StatusCode) {
        let description = status.canonical_reason().unwrap_or("Answer");
        self.answers.insert(
            status.as_u16().to_string(),
            json!({ "description": description, "headers": self.headers() }),
        );
    }

    /// The headers of every answer that is no problem.
    fn headers(&self) -> Map<String, Value> {
        let mut headers = request_id();
        if self.idempotent {
            let meaning =
                "`true` when the key was used before: this is the answer that it got then.";
            headers.insert("Idempotency-Replayed".to_owned(), header(meaning, "string"));
        }
        headers
    }
}

fn header(meaning: &str, kind: &str) -> Value {
    json!({ "description": meaning, "schema": { "type": kind } })
}

fn request_id() -> Map<String, Value> {
    let reference = json!({ "$ref": "#/components/headers/RequestId" });
    Map::from_iter([("X-Request-Id".to_owned(), reference)])
}

/// Any value at all is `true` in JSON Schema; the same as an object is what programs that read documents expect.
fn plain(schema: Value) -> Value {
    if schema == Value::Bool(true) {
        json!({})
    } else {
        schema
    }
}

/// A query has no way to say null: a parameter that may be left out is one that is not required.
fn without_null(mut schema: Value) -> Value {
    let is_null = |kind: &Value| kind == "null" || kind.get("type").is_some_and(|t| t == "null");
    let Some(fields) = schema.as_object_mut() else {
        return plain(schema);
    };
    for name in ["type", "anyOf"] {
        let Some(Value::Array(kinds)) = fields.get_mut(name) else {
            continue;
        };
        kinds.retain(|kind| !is_null(kind));
        if kinds.len() == 1
            && let Some(only) = kinds.pop()
        {
            fields.remove(name);
            match only {
                Value::Object(only) => fields.extend(only),
                only => drop(fields.insert(name.to_owned(), only)),
            }
        }
    }
    schema
}

/// The document of a service.
pub(crate) fn document(service: &Service) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in service.routes.iter().filter(|route| !route.is_asset()) {
        let (described, after) = describe(route, service.responses, schemas);
        schemas = after;
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_ascii_lowercase(), described);
        }
    }
    let mut components = schemas.take_definitions(true);
    components.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": { "title": &*service.name, "version": &*service.version },
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {
                "RequestId": header("The request's id: its own, or one that it was given.", "string"),
                "RetryAfter": header("Seconds after which trying again makes sense.", "integer"),
            },
            "responses": { "Problem": problem_answer() },
            "securitySchemes": {
                "user": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" }
            }
        }
    })
}

fn describe(
    route: &Route,
    responses: Responses,
    schemas: SchemaGenerator,
) -> (Value, SchemaGenerator) {
    let mut operation = Operation {
        schemas,
        responses,
        idempotent: route.idempotent,
        described: Map::new(),
        parameters: Vec::new(),
        answers: Map::new(),
    };
    for name in route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    {
        operation.parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
        }));
    }
    if route.idempotent {
        operation.parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": true,
            "description": "The same key with the same body gets the same answer, for 24 hours.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
        }));
    }
    (route.describe)(&mut operation);
    let Operation {
        schemas,
        mut described,
        parameters,
        mut answers,
        ..
    } = operation;
    answers.insert(
        "default".to_owned(),
        json!({ "$ref": "#/components/responses/Problem" }),
    );
    described.insert("operationId".to_owned(), json!(operation_id(route)));
    if route.idempotent {
        for (status, meaning) in [
            ("409", "A request with this key is still running."),
            (
                "422",
                "The content is refused, or the key was used with another body.",
            ),
        ] {
            let mut problem = problem_answer();
            if let Some(problem) = problem.as_object_mut() {
                problem.insert("description".to_owned(), json!(meaning));
            }
            answers.insert(status.to_owned(), problem);
        }
    }
    if !parameters.is_empty() {
        described.insert("parameters".to_owned(), json!(parameters));
    }
    described.insert("responses".to_owned(), Value::Object(answers));
    described.insert("security".to_owned(), json!([{ "user": [] }, {}]));
    (Value::Object(described), schemas)
}

/// `get_api_v1_orders_by_id`: a name for programs that are made from the document. `/orders/{id}` and `/orders/id` have
/// names of their own.
fn operation_id(route: &Route) -> String {
    let mut words = vec![route.method.as_str().to_ascii_lowercase()];
    for part in route.path.split('/').filter(|part| !part.is_empty()) {
        if part.starts_with('{') {
            words.push("by".to_owned());
        }
        let split = part.split(|c: char| !c.is_ascii_alphanumeric());
        words.extend(split.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    words.join("_")
}

fn problem_answer() -> Value {
    let mut headers = request_id();
    let reference = json!({ "$ref": "#/components/headers/RetryAfter" });
    headers.insert("Retry-After".to_owned(), reference);
    json!({
        "description": "What was wrong, as RFC 9457 says it.",
        "headers": headers,
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
}

fn problem_schema() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "properties": {
            "type": text("`about:blank`: the code says what it is."),
            "title": text("The status in words."),
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": text("What was wrong, for people."),
            "code": text("What was wrong, for programs; it stays the same."),
            "retry": {
                "type": "string", "enum": ["permanent", "transient", "unknown"],
                "description": "Whether trying again helps: no; yes, it had no effect; perhaps, it may have had its effect.",
            },
            "kind": text("`corrupt`, where the status does not tell."),
            "correlation_id": text("The flow that it belongs to."),
            "request_id": text("The request."),
        },
        "required": ["type", "title", "status", "detail", "code"]
    })
}
