//! Order sagas of four steps, one in ten of which fails at its second step and is compensated: `ours` is the engine with its
//! journal on disk, `platform` a service whose steps write rows and publish an event in the commit of their entry, and
//! `restate` the same saga by a Rust handler at Restate's server. Each entry is synced before the next step begins.
//!
//! ```sh
//! cargo run --release --manifest-path benches/Cargo.toml --features saga-platform --bin saga -- \
//!     --ways ours,platform,restate --concurrency 1,128 --rounds 3 --seconds 4 \
//!     --restate-server PATH/restate-server --restate-worker PATH/sagabench
//! cargo run --release --manifest-path benches/Cargo.toml --features saga --bin saga -- --mode waiting --count 100000
//! ```
//! The ways take turns, each from a start of its own on an empty folder in `--dir`. Prints a line of JSON for each turn, then
//! the medians, and the ratios to Restate.

mod load;
mod ours;
#[cfg(feature = "saga-platform")]
mod platform;
mod restate;
mod waiting;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use trunkline_benches::{Args, median, rounded};

use self::load::{Measured, Way};

#[tokio::main]
async fn main() {
    let args = Args::parse();
    match args.text("mode", "orders").as_str() {
        "waiting" => println!("{}", waiting::measure(&args).await),
        _ => orders(&args).await,
    }
}

async fn orders(args: &Args) {
    let (warm, seconds) = (args.seconds("warm", 2.0), args.seconds("seconds", 4.0));
    let rounds = args.number("rounds", 1);
    let ways = args.text("ways", "ours");
    let concurrency = args.text("concurrency", "1,128");
    let mut all: BTreeMap<(usize, String), Vec<Measured>> = BTreeMap::new();
    for round in 0..rounds {
        for way in ways.split(',') {
            let folder = tempfile::tempdir_in(args.text("dir", ".")).expect("a folder to write in");
            let started = start(way, args, folder.path()).await;
            for at_once in concurrency.split(',') {
                let at_once: usize = at_once.parse().expect("a number of sagas at a time");
                let measured = load::run(&started, at_once, (warm, seconds)).await;
                let mut line = measured.told();
                line.insert("way".into(), json!(way));
                line.insert("concurrency".into(), json!(at_once));
                line.insert("round".into(), json!(round));
                println!("{}", Value::Object(line));
                all.entry((at_once, way.to_owned()))
                    .or_default()
                    .push(measured);
            }
            started.stop().await;
            // What is still to be written does not slow down whoever comes next.
            rest(Duration::from_millis(500)).await;
        }
    }
    println!("{}", medians(&all));
}

async fn rest(pause: Duration) {
    tokio::time::sleep(pause).await;
}

async fn start(way: &str, args: &Args, folder: &Path) -> Arc<dyn Way> {
    match way {
        "ours" => Arc::new(ours::Ours::start(folder).await),
        #[cfg(feature = "saga-platform")]
        "platform" => Arc::new(platform::OfPlatform::start(folder).await),
        "restate" => Arc::new(restate::Restate::start(args, folder).await),
        other => panic!("no way is called {other}: expected ours, platform, restate"),
    }
}

/// The medians of all rounds by way and concurrency, and against Restate where it took part.
fn medians(all: &BTreeMap<(usize, String), Vec<Measured>>) -> Value {
    let of = |key: &(usize, String), what: fn(&Measured) -> f64| {
        all.get(key)
            .map(|turns| median(&mut turns.iter().map(what).collect::<Vec<_>>()))
    };
    let mut told = Map::new();
    for key in all.keys() {
        let theirs = (key.0, "restate".to_owned());
        let mut line = Map::new();
        for (name, what, digits) in Measured::FIGURES {
            let value = of(key, what).unwrap_or(f64::NAN);
            line.insert(name.into(), json!(rounded(value, digits)));
            if let Some(restate) = of(&theirs, what).filter(|_| *key != theirs) {
                let ratio = rounded(value / restate, 3);
                line.insert(format!("{name}_to_restate"), json!(ratio));
            }
        }
        told.insert(format!("{} at {}", key.1, key.0), Value::Object(line));
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    told.insert("load".into(), json!(load.split(' ').next()));
    Value::Object(told)
}
