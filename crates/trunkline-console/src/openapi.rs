//! The OpenAPI document of the admin API.

use axum::Json;
use serde_json::{Map, Value, json};

/// Method, path, what it does, query parameters (name, type, meaning), and the fields of its JSON body.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: &'static [Field],
    body: &'static [Field],
}

type Field = (&'static str, &'static str, &'static str);

const LIMIT: Field = (
    "limit",
    "integer",
    "At most this many: 1 to 1000, 100 by default.",
);

const EVENT_FILTER: &[Field] = &[
    ("id", "string", "The event with this id."),
    ("correlation_id", "string", "Events of this correlation id."),
    ("type", "string", "Events of this type."),
    (
        "business_key",
        "string",
        "Events with this business key, such as an order's id.",
    ),
    (
        "since",
        "string",
        "Events that happened at or after this time (RFC 3339).",
    ),
    (
        "after",
        "integer",
        "Events after this position: the cursor of the page before.",
    ),
    LIMIT,
    (
        "newest_first",
        "boolean",
        "The newest first; `after` then goes back in time.",
    ),
    (
        "follow",
        "boolean",
        "As text/event-stream, with each new one: those after `after` or the header Last-Event-ID, or from now on. An \
         event's id is its position. Who falls far behind gets an event `behind` and is let go; it may come again.",
    ),
];

const LETTER_FILTER: &[Field] = &[
    ("group", "string", "Letters of this group."),
    ("key", "string", "Letters of this key."),
    ("type", "string", "Letters of this event type."),
    (
        "after",
        "string",
        "Letters after this id: the cursor of the page before.",
    ),
    LIMIT,
];

const SAGA_FILTER: &[Field] = &[
    ("service", "string", "Instances of this service's sagas."),
    ("saga", "string", "Instances of this saga."),
    (
        "state",
        "string",
        "running, waiting, compensating, completed, failed, compensated or parked.",
    ),
    ("correlation_id", "string", "Instances of this flow."),
    (
        "key",
        "string",
        "Instances that were started with this key.",
    ),
    (
        "older_than",
        "string",
        "Instances that were started longer ago than this, such as 15m.",
    ),
    (
        "after",
        "string",
        "Instances older than this id: the cursor of the page before.",
    ),
    LIMIT,
];

const SAGA_HAND: &[Field] = &[
    ("why", "string", "Why: of cancel and revoke."),
    ("step", "string", "Which step: of skip and retry-from."),
    ("output", "object", "What the step gave: of skip."),
    ("by", "string", "Who does it, for the audit log."),
    ("name", "string", "Which signal."),
    ("data", "object", "What the signal says."),
    (
        "version",
        "integer",
        "To which version of the code: of migrate.",
    ),
];

const BY: &[Field] = &[("by", "string", "Who does it, for the audit log.")];

const AUDIT_FILTER: &[Field] = &[
    ("service", "string", "Entries of this service's log."),
    (
        "actor",
        "string",
        "Entries of this actor: a service, `user:<id>`, or `unknown`.",
    ),
    (
        "action",
        "string",
        "Entries of this action, such as `call`.",
    ),
    (
        "outcome",
        "string",
        "Entries that ended so: done, refused or failed.",
    ),
    ("correlation_id", "string", "Entries of this flow."),
    ("since", "string", "Entries from this time on (RFC 3339)."),
    ("until", "string", "Entries before this time (RFC 3339)."),
    LIMIT,
];

const REPLAY: &[Field] = &[
    ("group", "string", "Only of this group."),
    ("key", "string", "Only this key."),
    (
        "type",
        "string",
        "Only keys with a letter of this event type.",
    ),
    ("id", "string", "Only the key of this letter."),
    (
        "rate_per_second",
        "integer",
        "At most so many letters a second.",
    ),
    (
        "dry_run",
        "boolean",
        "Only tell of each letter whether it would pass: it is handled, and what that did is undone.",
    ),
    (
        "force",
        "boolean",
        "Replay even what was replayed in vain too often.",
    ),
];

const fn op(method: &'static str, path: &'static str, summary: &'static str) -> Operation {
    Operation {
        method,
        path,
        summary,
        query: &[],
        body: &[],
    }
}

const OPERATIONS: &[Operation] = &[
    op(
        "get",
        "/health",
        "The health of every service and of what they stand on.",
    ),
    op("get", "/health/live", "Whether the process runs."),
    op("get", "/health/ready", "Whether it takes requests."),
    op("get", "/metrics", "Metrics in Prometheus' text format."),
    op("get", "/api/v1/topology", "The declared topology."),
    Operation {
        query: EVENT_FILTER,
        ..op(
            "get",
            "/api/v1/events",
            "Events in the order in which they were recorded.",
        )
    },
    Operation {
        query: &[
            ("flow", "string", "Instances of this flow."),
            (
                "state",
                "string",
                "unknown, running, stuck, succeeded or failed.",
            ),
            LIMIT,
        ],
        ..op(
            "get",
            "/api/v1/flows",
            "The newest instances of the declared flows.",
        )
    },
    op(
        "get",
        "/api/v1/flows/{id}",
        "The story of one correlation id or business key.",
    ),
    Operation {
        query: LETTER_FILTER,
        ..op("get", "/api/v1/dead-letters", "Dead letters, oldest first.")
    },
    op("get", "/api/v1/dead-letters/{id}", "One dead letter."),
    Operation {
        body: REPLAY,
        ..op(
            "post",
            "/api/v1/dead-letters/replay",
            "Replays keys in order; closing the connection interrupts.",
        )
    },
    Operation {
        body: LETTER_FILTER,
        ..op(
            "post",
            "/api/v1/dead-letters/discard",
            "Discards the letters of a key or type, for good.",
        )
    },
    Operation {
        body: &[("data", "object", "The new data of the event.")],
        ..op(
            "post",
            "/api/v1/dead-letters/{id}/edit",
            "Replaces the data; the original is kept.",
        )
    },
    op(
        "post",
        "/api/v1/dead-letters/{id}/discard",
        "Discards one letter, for good.",
    ),
    Operation {
        query: SAGA_FILTER,
        ..op(
            "get",
            "/api/v1/sagas",
            "Instances of sagas, the newest first.",
        )
    },
    op(
        "get",
        "/api/v1/sagas/{service}/{id}",
        "One instance with each of its steps, and its journal as it is.",
    ),
    Operation {
        body: SAGA_HAND,
        ..op(
            "post",
            "/api/v1/sagas/{service}/{id}/{action}",
            "A hand on an instance: retry, cancel, skip, retry-from, migrate, revoke or signal. It is noted in the audit log.",
        )
    },
    op(
        "get",
        "/api/v1/projections",
        "Projections: how many events they show, and how many they do not yet.",
    ),
    Operation {
        body: BY,
        ..op(
            "post",
            "/api/v1/projections/{service}/{name}/rebuild",
            "Begins to build one anew, beside the tables that are read. It is noted in the audit log.",
        )
    },
    op(
        "get",
        "/api/v1/subscriptions",
        "Subscriptions with their lag and state.",
    ),
    op(
        "post",
        "/api/v1/subscriptions/{group}/pause",
        "Takes up no more work.",
    ),
    op(
        "post",
        "/api/v1/subscriptions/{group}/resume",
        "Takes up work again.",
    ),
    Operation {
        query: AUDIT_FILTER,
        ..op(
            "get",
            "/api/v1/audit",
            "The newest entries of the services' audit logs, the newest last.",
        )
    },
    op(
        "get",
        "/api/v1/audit/check",
        "Whether each audit log is what was written, and the first place where one is not.",
    ),
    op(
        "get",
        "/api/v1/outbox",
        "What waits in the outboxes, and what is stuck there.",
    ),
    op(
        "post",
        "/api/v1/outbox/{event_id}/retry",
        "Tries a stuck event again.",
    ),
    op(
        "post",
        "/api/v1/outbox/{event_id}/discard",
        "Throws a stuck event away.",
    ),
];

pub(crate) async fn document() -> Json<Value> {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_owned(), described(operation));
        }
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "Trunkline admin API", "version": "1" },
        "paths": paths,
        "components": {
            "responses": { "Problem": {
                "description": "What was wrong, as RFC 9457 says it.",
                "content": { "application/problem+json": { "schema": { "type": "object" } } }
            } },
            "securitySchemes": { "admin": { "type": "http", "scheme": "bearer" } }
        },
        "security": [{ "admin": [] }, {}]
    }))
}

fn described(operation: &Operation) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        )
    });
    let in_query = operation.query.iter().map(|(name, kind, meaning)| {
        json!({ "name": name, "in": "query", "description": meaning, "schema": { "type": kind } })
    });
    let content = if operation.path == "/metrics" {
        "text/plain"
    } else {
        "application/json"
    };
    let mut described = json!({
        "summary": operation.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "As asked.", "content": { content: {} } },
            "default": { "$ref": "#/components/responses/Problem" }
        }
    });
    if let (false, Some(described)) = (operation.body.is_empty(), described.as_object_mut()) {
        let properties: Map<String, Value> = operation
            .body
            .iter()
            .map(|(name, kind, meaning)| {
                (
                    (*name).to_owned(),
                    json!({ "type": kind, "description": meaning }),
                )
            })
            .collect();
        let schema =
            json!({ "type": "object", "properties": properties, "additionalProperties": false });
        let body = json!({ "content": { "application/json": { "schema": schema } } });
        described.insert("requestBody".to_owned(), body);
    }
    described
}
