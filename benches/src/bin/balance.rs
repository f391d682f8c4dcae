//! Choosing an instance, and saying how the call went: nanoseconds, one thread.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin balance`

use std::hint::black_box;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use trunkline_benches::best_ns;
use trunkline_call::balance::{Ask, Balance, Pool};
use trunkline_call::discovery::Instance;
use trunkline_core::Env;

fn main() {
    let mut results = Map::new();
    for count in [1, 3, 16, 256] {
        let even = pool(count, |_| 1);
        both(&mut results, &format!("even_{count}"), &even, None);
        both(
            &mut results,
            &format!("key_{count}"),
            &even,
            Some(b"user-4711"),
        );
    }
    let uneven = pool(16, u64::from);
    both(&mut results, "weighted_16", &uneven, None);
    println!("{}", Value::Object(results));
}

fn pool(count: u16, weight: impl Fn(u16) -> u64) -> Arc<Pool> {
    let pool = Pool::new("there", Balance::default(), Env::system());
    let at = |port| {
        let instance = Instance::at("10.0.0.1", port).expect("an address");
        instance.with_weight(weight(port))
    };
    pool.update((1..=count).map(at).collect());
    Arc::new(pool)
}

/// The whole of it: chosen, counted in flight, told that it went well, and let go.
fn both(results: &mut Map<String, Value>, name: &str, pool: &Arc<Pool>, key: Option<&[u8]>) {
    measure(results, name, || {
        let ask = Ask {
            key,
            ..Ask::default()
        };
        let mut held = pool.choose(&ask).expect("somebody is there");
        held.tell(false);
        black_box(held);
    });
}

fn measure(results: &mut Map<String, Value>, name: &str, operation: impl FnMut()) {
    // A batch ends before another program takes the processor.
    results.insert(format!("{name}_ns"), json!(best_ns(200, operation)));
}
