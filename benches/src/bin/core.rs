//! The codecs and the makers of ids: nanoseconds per operation, one thread.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin core`

use std::hint::black_box;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use trunkline_benches::measure;
use trunkline_core::schema::Registry;
use trunkline_core::{Arrival, Context, Dialect, Env, Envelope, Kind, Priority, Version};

fn main() {
    let env = Env::system();
    let event = envelope(&env);
    let mut encoded = Vec::new();
    event.encode(&mut encoded);
    let encoded = Bytes::from(encoded);
    let arrival = Arrival::new("order-events", env.now());
    let mut results = Map::new();
    results.insert("encoded_bytes".into(), json!(encoded.len()));
    let mut buffer = Vec::with_capacity(4096);
    measure(&mut results, "encode", || {
        buffer.clear();
        event.encode(&mut buffer);
        black_box(buffer.len());
    });
    measure(&mut results, "decode", || {
        black_box(Envelope::decode(encoded.clone()).ok());
    });
    measure(&mut results, "id", || {
        black_box(env.id());
    });
    measure(&mut results, "random_u64", || {
        black_box(env.random_u64());
    });
    measure(&mut results, "context_root", || {
        black_box(Context::root(&env));
    });
    for dialect in Dialect::ALL {
        let text = dialect.write(&event).expect("every dialect can write it");
        measure(&mut results, &format!("{dialect}_write"), || {
            black_box(dialect.write(&event).ok());
        });
        measure(&mut results, &format!("{dialect}_read"), || {
            black_box(dialect.read(text.clone(), &arrival).ok());
        });
    }
    let schema = json!({"type": "object", "required": ["order_id", "items"], "properties": {
        "order_id": {"type": "string"}, "total": {"type": "integer", "minimum": 0},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}}}});
    let mut registry = Registry::default();
    registry
        .register("order.created", Version::new(1, 0), schema)
        .expect("it is a schema");
    measure(&mut results, "validate", || {
        registry
            .validate_event(black_box(&event))
            .expect("the event is valid");
    });
    println!("{}", Value::Object(results));
}

/// An event whose data has 300 bytes.
fn envelope(env: &Env) -> Envelope {
    let context = Context::root(env).with_user("user-1");
    let items: Vec<Value> = (0..4)
        .map(|n| json!({"sku": format!("sku-{n}"), "quantity": 1}))
        .collect();
    let mut data =
        json!({"order_id": env.id().to_string(), "total": 5998, "items": items, "note": ""});
    let missing = 300_usize.saturating_sub(data.to_string().len());
    data["note"] = json!("x".repeat(missing));
    Envelope {
        id: env.id().to_string().into(),
        event_type: "order.created".into(),
        version: Version::new(1, 0),
        source: "order-service".into(),
        time: env.now(),
        topic: "order-events".into(),
        key: Some(env.id().to_string().into()),
        correlation_id: context.correlation_id,
        causation_id: Some(env.id().to_string().into()),
        trace: Some(context.trace),
        user_id: context.user_id,
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: data.to_string().into(),
    }
}
