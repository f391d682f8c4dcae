//! Tokens and sealed data: nanoseconds per operation, one thread.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --features security --bin security`

use std::hint::black_box;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::{Map, Value, json};
use trunkline_benches::best_ns;
use trunkline_core::{Context, Env, Envelope, Kind, Priority, Version};
use trunkline_security::{
    Audit, Claims, EventSealer, Guard, Keyring, Permissions, Secret, ServiceTokens, Shown, Signer,
    TokenKeys, TokenKeysPolicy, Verifier,
};

/// Short enough that one ends before another program takes the processor.
const BATCH: u32 = 20;

const KIB: usize = 1024;

fn main() {
    let env = Env::system();
    let mut results = Map::new();
    users(&mut results, &env);
    services(&mut results, &env);
    sealing(&mut results, &env);
    println!("{}", Value::Object(results));
}

fn users(results: &mut Map<String, Value>, env: &Env) {
    let secret = Secret::generate(env);
    let claims = Claims::new("user-1", Duration::from_secs(3600), env).with_role("customer");
    let hmac = Signer::hs256(&secret);
    let eddsa = Signer::ed25519(&secret).expect("a key of Ed25519 is 32 bytes");
    let published = eddsa.jwks().to_string();
    let published = Verifier::jwks(&published, env.clone()).expect("it is a set of keys");
    for (name, signer, verifier) in [
        ("hs256", hmac, Verifier::hs256(&secret, env.clone())),
        ("eddsa", eddsa, published),
    ] {
        let token = signer.sign(&claims).expect("the claims are good");
        measure(results, &format!("{name}_sign"), || {
            black_box(signer.sign(&claims).ok());
        });
        measure(results, &format!("{name}_verify"), || {
            verifier.verify(black_box(&token)).expect("it is good");
        });
    }
}

fn services(results: &mut Map<String, Value>, env: &Env) {
    let folder = std::env::temp_dir().join(format!("trunkline-bench-{}", env.id()));
    let keys = TokenKeys::open(&folder, TokenKeysPolicy::default(), env.clone());
    let keys = keys.expect("the folder can be written");
    let permissions = Permissions::new().allow("order-service", "inventory-service");
    let tokens = ServiceTokens::new("shop", "order-service", keys.clone(), permissions.clone());
    let guard = Guard::new("inventory-service", Audit::to_log(env.clone()))
        .permissions(permissions)
        .trust("shop", keys)
        .expect("nobody is trusted yet");
    measure(results, "service_token", || {
        black_box(tokens.token("inventory-service").ok());
    });
    let token = tokens.token("inventory-service").expect("it is declared");
    measure(results, "service_guard", || {
        let shown = Shown {
            token: Some(token.as_bytes()),
            operation: "POST /reservations",
            ..Shown::default()
        };
        let checked = guard.check(black_box(shown)).now_or_never();
        let checked = checked.expect("keys of our own are at hand");
        checked.expect("it is declared");
    });
    std::fs::remove_dir_all(&folder).expect("the folder was made here");
}

fn sealing(results: &mut Map<String, Value>, env: &Env) {
    let key = [("k1".into(), Secret::generate(env))];
    let keys = Keyring::new("k1", key, env.clone()).expect("it is one good key");
    let sealer = EventSealer::new(keys.clone());
    let plain = envelope(env);
    let mut sealed = plain.clone();
    sealer.seal(&mut sealed).expect("it is short");
    results.insert("event_sealed_bytes".into(), json!(sealed.data.len()));
    measure(results, "event_seal_1_kib", || {
        let mut event = plain.clone();
        sealer.seal(black_box(&mut event)).expect("it is short");
    });
    measure(results, "event_open_1_kib", || {
        let mut event = sealed.clone();
        sealer
            .open(black_box(&mut event), true)
            .expect("it is good");
    });
    let text = keys.seal_text(&plain.data, b"place").expect("it is short");
    measure(results, "text_seal_1_kib", || {
        black_box(keys.seal_text(&plain.data, b"place").ok());
    });
    measure(results, "text_open_1_kib", || {
        keys.open_text(black_box(&text), b"place")
            .expect("it is good");
    });
}

/// An event whose data has 1 KiB.
fn envelope(env: &Env) -> Envelope {
    let context = Context::root(env);
    let empty = json!({ "note": "" }).to_string().len();
    let data = json!({ "note": "x".repeat(KIB - empty) }).to_string();
    Envelope {
        id: env.id().to_string().into(),
        event_type: "order.created".into(),
        version: Version::new(1, 0),
        source: "order-service".into(),
        time: env.now(),
        topic: "order-events".into(),
        key: Some(env.id().to_string().into()),
        correlation_id: context.correlation_id,
        causation_id: None,
        trace: None,
        user_id: None,
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: data.into(),
    }
}

fn measure(results: &mut Map<String, Value>, name: &str, operation: impl FnMut()) {
    results.insert(format!("{name}_ns"), json!(best_ns(BATCH, operation)));
}
