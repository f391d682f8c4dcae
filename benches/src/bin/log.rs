//! The log against a bare file, other embedded stores and brokers, through the public `Transport`.
//!
//!     cargo run --release --manifest-path benches/Cargo.toml --features peers --bin log -- \
//!         [--rounds 5] [--secs 3] [--windows 1000,1] [--modes synced,os] [--engines all] [--dir FOLDER]
//!
//! Each round runs every engine once, each in a process of its own. One line of JSON per run, then one
//! per engine with its medians and the ratio of ours to it in every round. `bare-zeroed` is the bare file
//! with its space written beforehand, so that a sync writes no metadata.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use trunkline_benches::engines::{self, Outcome, Setup};
use trunkline_benches::{Args, median, rounded};

const OURS: &str = "trunkline";

fn main() {
    let args = Args::parse();
    let engine = args.text("engine", "");
    if engine.is_empty() {
        return compare(&args);
    }
    let dir = tempfile_in(&args.text("dir", "target"), &engine);
    let setup = Setup {
        dir: dir.clone(),
        window: args.number("window", 1000),
        batch: args.number("batch", 64),
        synced: args.text("mode", "synced") == "synced",
        warm_up: args.seconds("warm-up", 0.7),
        measured: args.seconds("secs", 3.0),
    };
    let outcome = run(&engine, &setup);
    drop(std::fs::remove_dir_all(&dir));
    let mode = if setup.synced { "synced" } else { "os" };
    match outcome {
        Ok(mut result) => {
            result["engine"] = json!(engine);
            result["mode"] = json!(mode);
            println!("{result}");
        }
        Err(error) => {
            println!(
                "{}",
                json!({ "engine": engine, "mode": mode, "error": error.to_string() })
            );
            std::process::exit(1);
        }
    }
}

fn run(engine: &str, setup: &Setup) -> Outcome {
    match engine {
        OURS => engines::trunkline::run(setup),
        "bare" => engines::bare::run(setup, 0),
        "bare-zeroed" => engines::bare::run(setup, 1536),
        #[cfg(feature = "peers")]
        "sqlite" => engines::sqlite::run(setup),
        #[cfg(feature = "peers")]
        "fjall" => engines::fjall::run(setup),
        "redis" => engines::redis::run(setup),
        "nats" => engines::nats::run(setup),
        _ => Err("expected trunkline, bare, bare-zeroed, sqlite, fjall, redis or nats".into()),
    }
}

fn tempfile_in(parent: &str, engine: &str) -> std::path::PathBuf {
    let dir = Path::new(parent).join(format!("bench-{engine}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    dir
}

/// A setting: mode, window, engine.
type Case = (String, u64, String);

/// Interleaved rounds of all engines, and what they amount to.
fn compare(args: &Args) {
    let engines = match args.text("engines", "all").as_str() {
        "all" => "bare,bare-zeroed,trunkline,sqlite,fjall,redis,nats".to_owned(),
        some => some.to_owned(),
    };
    let mut rounds: BTreeMap<Case, Vec<Value>> = BTreeMap::new();
    for round in 0..args.number("rounds", 5) {
        for mode in args.text("modes", "synced,os").split(',') {
            for window in args.text("windows", "1000,1").split(',') {
                for engine in engines.split(',') {
                    let mut result = child(args, engine, mode, window);
                    result["round"] = json!(round);
                    println!("{result}");
                    let window = window.parse().unwrap_or(0);
                    let case = (mode.to_owned(), window, engine.to_owned());
                    rounds.entry(case).or_default().push(result);
                }
            }
        }
    }
    for ((mode, window, engine), results) in &rounds {
        let ours = (mode.clone(), *window, OURS.to_owned());
        let ours = rounds.get(&ours).map(Vec::as_slice).unwrap_or_default();
        let mut summary = summary(results, ours);
        summary["summary"] = json!(engine);
        summary["mode"] = json!(mode);
        summary["window"] = json!(window);
        println!("{summary}");
    }
}

fn child(args: &Args, engine: &str, mode: &str, window: &str) -> Value {
    let program = std::env::current_exe().expect("this program has a path");
    // What earlier runs left unwritten would slow the next one's syncs.
    drop(Command::new("sync").status());
    let output = Command::new(program)
        .args(["--engine", engine, "--mode", mode, "--window", window])
        .args([
            "--secs",
            &args.text("secs", "3"),
            "--dir",
            &args.text("dir", "target"),
        ])
        .args(["--batch", &args.text("batch", "64")])
        .output()
        .expect("this program runs");
    let failed = || json!({ "engine": engine, "mode": mode, "error": "no result" });
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| failed())
}

/// Medians of an engine, and how ours compares with it in each round: rates by the clock and by the
/// CPU time of client and server (above 1 is in our favour), and single events' times (below 1 is).
fn summary(results: &[Value], ours: &[Value]) -> Value {
    let number = |result: &Value, name: &str| result[name].as_f64();
    let middle = |name: &str| {
        let mut all: Vec<f64> = results.iter().filter_map(|r| number(r, name)).collect();
        rounded(median(&mut all), 4)
    };
    let cpu = |r: &Value| Some(number(r, "cpu_per_100k")? + number(r, "server_cpu_per_100k")?);
    let ratios = |of: &dyn Fn(&Value, &Value) -> Option<f64>| {
        let pairs = ours.iter().zip(results);
        let mut all: Vec<f64> = pairs.filter_map(|(own, other)| of(own, other)).collect();
        let each: Vec<f64> = all.iter().map(|ratio| rounded(*ratio, 2)).collect();
        json!({ "rounds": each, "median": rounded(median(&mut all), 2) })
    };
    json!({
        "per_second": middle("per_second"),
        "p50_us": middle("p50_us"), "p99_us": middle("p99_us"),
        "cpu_per_100k": middle("cpu_per_100k"),
        "server_cpu_per_100k": middle("server_cpu_per_100k"),
        "lost": middle("lost"), "out_of_order": middle("out_of_order"),
        "trunkline_rate": ratios(&|own, other| Some(number(own, "per_second")? / number(other, "per_second")?)),
        "trunkline_rate_by_cpu": ratios(&|own, other| Some(cpu(other)? / cpu(own)?)),
        "trunkline_p50": ratios(&|own, other| Some(number(own, "p50_us")? / number(other, "p50_us")?)),
    })
}
