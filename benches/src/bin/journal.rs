//! The journal of sagas in a store: sagas of four steps, as an engine writes them, in batches.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --features store --bin journal -- --seconds 3`

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use trunkline_benches::{Args, Span, rounded};
use trunkline_core::Env;
use trunkline_saga::{Body, Change, Data, Entry, Instance, Journal, State, Went, Write, Written};
use trunkline_store::Store;
use trunkline_testkit::postgres::Postgres;

const STEPS: u64 = 4;

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let seconds = args.seconds("seconds", 3.0).as_secs_f64();
    let folder = tempfile::tempdir_in(args.text("dir", ".")).expect("a folder to write in");
    let engines = args.text("engines", "sqlite");
    let mut results = Map::new();
    for engine in engines.split(',') {
        let server = (engine == "postgres").then(Postgres::start);
        let mut of_engine = Map::new();
        for batch in [1_usize, 16, 128, 512] {
            let url = match &server {
                None => format!("sqlite:{}/{batch}.db", folder.path().display()),
                Some(server) => server.schema_url("bench"),
            };
            let env = Env::system();
            let store = Store::open(&url, "bench", env.clone())
                .await
                .expect("a store");
            let measured = batches(Arc::new(store.sagas()), &env, batch, seconds).await;
            of_engine.insert(format!("batch_{batch}"), measured);
            store.close().await;
        }
        results.insert(engine.to_owned(), Value::Object(of_engine));
    }
    println!("{}", Value::Object(results));
}

/// `batch` sagas at a time, each at another place of its course, so that a batch holds starts, steps and ends.
async fn batches(journal: Arc<dyn Journal>, env: &Env, batch: usize, seconds: f64) -> Value {
    let mut running: Vec<(Instance, u64)> =
        (0..batch).map(|n| (instance(env), n as u64 % 6)).collect();
    // Each begins somewhere, so that the first batch is like all others.
    let starts: Vec<Write> = running
        .iter()
        .filter(|(_, at)| *at > 0)
        .map(|(one, _)| Write::Start(Box::new(one.clone())))
        .collect();
    journal.write(&starts).await.expect("starts");
    let span = Span::start(&[]);
    let begun = Instant::now();
    let (mut writes, mut sagas, mut count) = (0_u64, 0_u64, 0_u64);
    while begun.elapsed().as_secs_f64() < seconds {
        let round: Vec<Write> = running.iter().map(|(one, at)| write(one, *at)).collect();
        let written = journal.write(&round).await.expect("a batch");
        assert!(written.iter().all(|written| *written == Written::Done));
        writes += round.len() as u64;
        count += 1;
        for (one, at) in &mut running {
            *at += 1;
            if *at > STEPS + 1 {
                (*one, *at) = (instance(env), 0);
                sagas += 1;
            }
        }
    }
    let (wall, cpu, _) = span.stop();
    json!({
        "writes_per_second": (writes as f64 / wall).round(),
        "sagas_per_second": (sagas as f64 / wall).round(),
        "batches_per_second": (count as f64 / wall).round(),
        "cpu_micros_per_write": rounded(cpu * 1e6 / writes as f64, 2),
    })
}

fn instance(env: &Env) -> Instance {
    let now = env.now();
    let id = env.id();
    Instance {
        id,
        saga: "order".into(),
        key: format!("order-{id}").into(),
        version: 1,
        state: State::Running,
        input: Data::of(&json!({ "order": id, "cents": 1999, "hotel": "seaside", "nights": 3 }))
            .expect("an input"),
        context: Data::of(
            &json!({ "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }),
        )
        .expect("a context"),
        correlation_id: id.to_string().into(),
        status: None,
        output: None,
        error: None,
        started_at: now,
        changed_at: now,
        wake_at: None,
        owner: Some("owner-1".into()),
        parent: None,
    }
}

/// What an instance writes at a place of its course: 0 is its start, 5 its end.
fn write(one: &Instance, at: u64) -> Write {
    let went = |entries, change: Option<Change>| {
        Write::Went(Went {
            id: one.id,
            owner: "owner-1".into(),
            entries,
            status: None,
            change: change.map(Box::new),
        })
    };
    match at {
        0 => Write::Start(Box::new(one.clone())),
        at if at <= STEPS => {
            let entry = Entry {
                seq: at - 1,
                place: (at - 1).to_string().into(),
                name: "reserve".into(),
                began: one.started_at,
                at: one.started_at,
                body: Body::Done {
                    input: None,
                    output: Data::of(&json!({ "reservation": one.id, "room": 12 }))
                        .expect("an output"),
                    attempt: 1,
                    by: None,
                },
            };
            went(vec![entry], None)
        }
        _ => {
            let change = Change {
                output: Some(Data::of(&json!({ "booked": true })).expect("an output")),
                release: true,
                messages: Some(0),
                ..Change::to(State::Completed)
            };
            went(vec![], Some(change))
        }
    }
}
