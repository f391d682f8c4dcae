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
            self.parameters.push(json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()),
                "schema": schema,
            }));
        }
    }

    /// Sets the body.
    pub(crate) fn body<T: JsonSchema>(&mut self) {
        let schema = self.schemas.subschema_for::<T>();
        let body =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        self.described.insert("requestBody".to_owned(), body);
    }

    /// Adds an answer with a body.
    pub(crate) fn answer<T: JsonSchema>(&mut self, status: StatusCode, location: bool) {
        let schema = self.schemas.subschema_for::<T>().to_value();
        let schema = match self.responses {
            Responses::Plain => schema,
            Responses::Data => json!({
                "type": "object", "properties": { "data": schema }, "required": ["data"],
            }),
        };
        let mut answer = json!({
            "description": status.canonical_reason().unwrap_or("Answer"),
            "content": { "application/json": { "schema": schema } },
        });
        if let (true, Some(answer)) = (location, answer.as_object_mut()) {
            let header = json!({ "Location": {
                "description": "Where it is found.", "schema": { "type": "string" },
            } });
            answer.insert("headers".to_owned(), header);
        }
        self.answers.insert(status.as_u16().to_string(), answer);
    }

    /// Adds an answer without a body.
    pub(crate) fn no_answer(&mut self, status: StatusCode) {
        let description = status.canonical_reason().unwrap_or("Answer");
        self.answers.insert(
            status.as_u16().to_string(),
            json!({ "description": description }),
        );
    }
}

/// The document of a service.
pub(crate) fn document(service: &Service) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in &service.routes {
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

/// `get_api_v1_orders_id`: a name for programs that are made from the document.
fn operation_id(route: &Route) -> String {
    let words = route
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let method = route.method.as_str().to_ascii_lowercase();
    std::iter::once(&*method)
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

fn problem_answer() -> Value {
    json!({
        "description": "What was wrong, as RFC 9457 says it.",
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" }, "title": { "type": "string" },
            "status": { "type": "integer" }, "detail": { "type": "string" },
            "code": { "type": "string" }, "retry": { "type": "string" },
            "correlation_id": { "type": "string" }
        },
        "required": ["type", "title", "status", "detail", "code"]
    })
}
