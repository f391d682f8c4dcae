//! Sagas of a service: a trip books a hotel elsewhere, notes it here, waits for a word, and takes all of it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline_core::{Error, Event, Result};
use trunkline_saga::{Retries, State};
use trunkline_service::{Cx, Platform, Saga, SagaDefinition, Service};
use trunkline_store::{Migration, sql};
use trunkline_telemetry::Ring;
use trunkline_testkit::saga::exhaust;
use trunkline_testkit::{eventually, eventually_or};

use crate::sample::{Answer, SOON, Sample, Switches};

/// A trip is booked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "trip.booked", version = "1.0", topic = "trips", key = trip)]
struct TripBooked {
    trip: String,
}

/// The traveller has said whether to go.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "trip.decided", version = "1.0", topic = "trips", key = trip)]
struct TripDecided {
    trip: String,
    goes: bool,
}

const TABLES: &[Migration] = &[Migration {
    name: "0001_trips",
    sql: "CREATE TABLE notes (trip TEXT NOT NULL, id TEXT NOT NULL)",
}];

/// What the hotel saw, and what goes wrong.
#[derive(Debug, Default)]
struct World {
    /// Of each request: its idempotency key and user.
    asked: Mutex<Vec<(String, String)>>,
    /// So many bookings fail first.
    fails: AtomicU32,
    parked: Mutex<Vec<String>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Booking {
    trip: String,
}

async fn trip(saga: Saga, trip: String) -> Result<String> {
    let booking = Booking { trip: trip.clone() };
    let soon = Duration::from_millis(5);
    let quickly = Retries::attempts(5).pauses(soon, soon);
    saga.say(&"booking")?;
    let back = booking.clone();
    saga.step::<()>("hotel")
        .retries(quickly)
        .undo(move |cx, _| tell_hotel(cx, "/cancellations", back.clone()))
        .run(move |cx| tell_hotel(cx, "/bookings", booking.clone()))
        .await?;
    let noted = trip.clone();
    saga.step::<()>("note")
        .run(move |cx| note(cx, noted.clone()))
        .await?;
    if trip == "odd" {
        saga.step::<()>("odd")
            .or_park()
            .run(|_| async { Err(Error::invalid("trip_odd", "nobody knows what to do")) })
            .await?;
    }
    saga.say(&"waiting")?;
    match saga.event::<TripDecided>(Duration::from_secs(60)).await? {
        Some(TripDecided { goes: true, .. }) => Ok(format!("{trip} is on")),
        _ => Err(Error::conflict("trip_off", "the traveller stays at home")),
    }
}

async fn tell_hotel(cx: Cx, path: &'static str, booking: Booking) -> Result<()> {
    // One call an attempt, so that an attempt that fails is seen.
    let post = cx.service("hotel")?.post(path).no_retry();
    post.json(&booking).send::<Value>().await.map(drop)
}

async fn note(cx: Cx, trip: String) -> Result<()> {
    let mut tx = cx.tx().await?;
    sql("INSERT INTO notes (trip, id) VALUES ($1, $2)")
        .bind(&trip)
        .bind(cx.stable_id().to_string())
        .run(tx.conn())
        .await?;
    tx.publish(TripBooked { trip }).await
}

/// How often a step that books twice still fails after it has.
struct Lapses(AtomicU32);

/// Books two rooms in one step.
async fn pair(saga: Saga, trip: String) -> Result<()> {
    let soon = Duration::from_millis(5);
    saga.step::<()>("both")
        .retries(Retries::attempts(2).pauses(soon, soon))
        .run(move |cx| book_both(cx, trip.clone()))
        .await
}

async fn book_both(cx: Cx, trip: String) -> Result<()> {
    for number in [1, 2] {
        let trip = format!("{trip}-{number}");
        tell_hotel(cx.clone(), "/bookings", Booking { trip }).await?;
    }
    let lapses = cx.state::<Lapses>()?;
    if lapses.0.swap(0, Ordering::SeqCst) > 0 {
        return Err(Error::unavailable("lapse", "it forgot that it has booked"));
    }
    Ok(())
}

async fn start_pair(cx: Cx, Json(wanted): Json<Start>) -> Result<Json<String>> {
    let instance = cx.start_saga("pair", &wanted.trip, &wanted.trip).await?;
    Ok(Json(instance.id.to_string()))
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Start {
    trip: String,
    #[serde(default)]
    fails: bool,
}

async fn start(cx: Cx, Json(wanted): Json<Start>) -> Result<Json<String>> {
    let instance = cx.start_saga("trip", &wanted.trip, &wanted.trip).await?;
    if wanted.fails {
        return Err(Error::invalid("start_fails", "the handler fails after it"));
    }
    Ok(Json(instance.id.to_string()))
}

async fn decide(cx: Cx, Json(said): Json<Value>) -> Result<Json<()>> {
    let trip = said["trip"].as_str().unwrap().to_owned();
    let goes = said["goes"] == true;
    cx.publish(TripDecided { trip, goes }).await.map(Json)
}

#[derive(Debug, Serialize, JsonSchema)]
struct Status {
    state: Option<String>,
    says: Option<Value>,
    output: Option<Value>,
    code: Option<String>,
    notes: Vec<String>,
}

async fn status(cx: Cx, Path(trip): Path<String>) -> Result<Json<Status>> {
    let found = cx.saga_status("trip", &trip).await?;
    let mut reader = cx.read().await?;
    let notes = sql("SELECT id FROM notes WHERE trip = $1").bind(&trip);
    let notes = notes.all::<(String,)>(reader.conn()).await?;
    let json = |data: &trunkline_saga::Data| serde_json::from_str(data.text()).unwrap();
    Ok(Json(Status {
        state: found.as_ref().map(|one| one.state.name().to_owned()),
        says: found.as_ref().and_then(|one| one.status.as_ref().map(json)),
        output: found.as_ref().and_then(|one| one.output.as_ref().map(json)),
        code: found.and_then(|one| one.error.map(|error| error.code.to_string())),
        notes: notes.into_iter().map(|(id,)| id).collect(),
    }))
}

async fn undeclared(cx: Cx) -> Result<Json<()>> {
    cx.start_saga("cruise", "1", &()).await.map(|_| Json(()))
}

fn hotel(world: &Arc<World>) -> Service {
    async fn asked(cx: &Cx, what: &str) -> Result<()> {
        let world = cx.state::<Arc<World>>()?;
        let user = cx.context().user_id.clone().unwrap_or_default();
        world.asked.lock().push((what.to_owned(), user.to_string()));
        let fails = world.fails.load(Ordering::SeqCst);
        if fails > 0 {
            world.fails.store(fails - 1, Ordering::SeqCst);
            return Err(Error::unavailable("hotel_closed", "nobody is at the desk"));
        }
        Ok(())
    }
    async fn book(cx: Cx, Json(booking): Json<Booking>) -> Result<Json<String>> {
        asked(&cx, &format!("book {}", cx.stable_id())).await?;
        change(&cx, &booking.trip, 1).await
    }
    async fn cancel(cx: Cx, Json(booking): Json<Booking>) -> Result<Json<String>> {
        asked(&cx, &format!("cancel {}", cx.stable_id())).await?;
        change(&cx, &booking.trip, 0).await
    }
    async fn change(cx: &Cx, trip: &str, nights: i64) -> Result<Json<String>> {
        let mut tx = cx.tx().await?;
        let text = "INSERT INTO rooms (trip, nights, times) VALUES ($1, $2, 1) \
                    ON CONFLICT (trip) DO UPDATE SET nights = $2, times = rooms.times + 1";
        sql(text).bind(trip).bind(nights).run(tx.conn()).await?;
        Ok(Json("done".to_owned()))
    }
    async fn room(cx: Cx, Path(trip): Path<String>) -> Result<Json<[i64; 2]>> {
        let mut reader = cx.read().await?;
        let row = sql("SELECT nights, times FROM rooms WHERE trip = $1").bind(&trip);
        let found = row.first::<(i64, i64)>(reader.conn()).await?;
        let (nights, times) = found.unwrap_or_default();
        Ok(Json([nights, times]))
    }
    const ROOMS: &[Migration] = &[Migration {
        name: "0001_rooms",
        sql: "CREATE TABLE rooms (trip TEXT PRIMARY KEY, nights BIGINT NOT NULL, times BIGINT NOT NULL)",
    }];
    Service::new("hotel")
        .migrations(ROOMS)
        .state(world.clone())
        .idempotent_post("/bookings", book)
        .idempotent_post("/cancellations", cancel)
        .get("/rooms/{trip}", room)
}

fn trips() -> Service {
    Service::new("trips")
        .migrations(TABLES)
        .calls("hotel")
        .publishes::<TripBooked>()
        .publishes::<TripDecided>()
        .saga(
            SagaDefinition::named("trip")
                .version(1, trip)
                .wakes(|decided: &TripDecided| decided.trip.clone()),
        )
        .saga(SagaDefinition::named("pair").version(1, pair))
        .state(Lapses(AtomicU32::new(1)))
        .post("/trips", start)
        .post("/pairs", start_pair)
        .post("/decisions", decide)
        .get("/trips/{trip}", status)
        .post("/undeclared", undeclared)
}

fn platform(world: &Arc<World>) -> Platform {
    let told = world.clone();
    Platform::new("travel")
        .service(trips())
        .service(hotel(world))
        .on_saga_parked(move |service, instance| {
            let line = format!("{service} {} {}", instance.saga, instance.key);
            told.parked.lock().push(line);
        })
}

async fn begun(platform: Platform, folder: Option<TempDir>) -> Sample {
    let folder = folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
    Sample::start_this(platform, Arc::new(Switches::default()), folder).await
}

async fn go(sample: &Sample, trip: &str) -> Answer {
    let body = json!({ "trip": trip });
    let answer = sample.ask("trips").post("/trips", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn stands(sample: &Sample, trip: &str) -> Value {
    sample
        .ask("trips")
        .get(&format!("/trips/{trip}"))
        .await
        .body
}

async fn comes_to(sample: &Sample, trip: &str, state: &str) -> Value {
    let mut last = Value::Null;
    eventually(SOON, async || {
        last = stands(sample, trip).await;
        last["state"] == state
    })
    .await;
    last
}

/// How an instance stands once it has ended or is parked.
async fn settled(sample: &Sample, trip: &str, about: &str) -> Value {
    let last = Mutex::new(Value::Null);
    let is_over = async || {
        let now = stands(sample, trip).await;
        let state = now["state"].as_str().and_then(State::named);
        *last.lock() = now;
        state.is_some_and(|state| state.has_ended() || state == State::Parked)
    };
    eventually_or(SOON, is_over, || format!("{about}: {}", last.lock())).await;
    last.into_inner()
}

/// The instance waits for a word; then it gets it.
async fn decided(sample: &Sample, trip: &str, goes: bool) {
    eventually(SOON, async || {
        stands(sample, trip).await["says"] == "waiting"
    })
    .await;
    let body = json!({ "trip": trip, "goes": goes });
    sample.ask("trips").post("/decisions", body).await;
}

#[tokio::test]
async fn a_saga_books_waits_for_an_event_and_ends() {
    let world = Arc::new(World::default());
    world.fails.store(2, Ordering::SeqCst);
    let sample = begun(platform(&world), None).await;
    let first = go(&sample, "rome").await;
    assert_eq!(go(&sample, "rome").await.body, first.body, "one instance");
    // For somebody who is not there.
    decided(&sample, "rome", true).await;
    let other = json!({ "trip": "nowhere", "goes": true });
    sample.ask("trips").post("/decisions", other).await;
    let end = comes_to(&sample, "rome", "completed").await;
    assert_eq!(end["output"], "rome is on");
    assert_eq!(end["notes"].as_array().unwrap().len(), 1);
    // Each attempt asked with the same key, so for the same thing.
    let asked = world.asked.lock().clone();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|one| *one == asked[0]), "{asked:?}");
    assert_eq!(stands(&sample, "nowhere").await["state"], Value::Null);
    assert!(sample.letters().await.is_empty());
    sample.stop().await;
}

#[tokio::test]
async fn two_calls_of_one_operation_in_a_step_are_two() {
    let world = Arc::new(World::default());
    let sample = begun(platform(&world), None).await;
    let answer = sample.ask("trips").post("/pairs", json!({ "trip": "p" }));
    assert_eq!(answer.await.status, 200);
    let asked = || world.asked.lock().clone();
    // The second attempt asks again, and the hotel answers what it answered before.
    eventually_or(
        SOON,
        async || rooms(&sample).await == [json!([1, 1]), json!([1, 1])],
        || format!("{:?}", asked()),
    )
    .await;
    assert_eq!(asked().len(), 2, "{:?}", asked());
    sample.stop().await;
}

/// The two rooms of a pair.
async fn rooms(sample: &Sample) -> [Value; 2] {
    let room = |path| async move { sample.ask("hotel").get(path).await.body };
    [room("/rooms/p-1").await, room("/rooms/p-2").await]
}

#[tokio::test]
async fn a_failed_saga_takes_back_what_it_did() {
    let world = Arc::new(World::default());
    let sample = begun(platform(&world), None).await;
    go(&sample, "oslo").await;
    decided(&sample, "oslo", false).await;
    let end = comes_to(&sample, "oslo", "compensated").await;
    assert_eq!(end["code"], "trip_off");
    let room = sample.ask("hotel").get("/rooms/oslo").await.body;
    assert_eq!(room, json!([0, 2]), "booked once, cancelled once");
    sample.stop().await;
}

#[tokio::test]
async fn a_start_takes_effect_with_its_handler_or_not_at_all() {
    let sample = begun(platform(&Arc::default()), None).await;
    let body = json!({ "trip": "lima", "fails": true });
    let answer = sample.ask("trips").post("/trips", body).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(stands(&sample, "lima").await["state"], Value::Null);
    let answer = sample.ask("trips").post("/undeclared", json!({})).await;
    assert_eq!(answer.body["code"], "saga_undeclared", "{answer:?}");
    sample.stop().await;
}

#[tokio::test]
async fn a_saga_goes_on_in_the_next_process() {
    let world = Arc::new(World::default());
    let sample = begun(platform(&world), None).await;
    go(&sample, "bern").await;
    eventually(SOON, async || {
        stands(&sample, "bern").await["says"] == "waiting"
    })
    .await;
    let folder = sample.stop().await;
    let sample = begun(platform(&world), Some(folder)).await;
    decided(&sample, "bern", true).await;
    comes_to(&sample, "bern", "completed").await;
    assert_eq!(
        world.asked.lock().len(),
        1,
        "what was done is not done again"
    );
    sample.stop().await;
}

#[tokio::test]
async fn a_parked_saga_is_told_of() {
    let world = Arc::new(World::default());
    let sample = begun(platform(&world), None).await;
    go(&sample, "odd").await;
    comes_to(&sample, "odd", "parked").await;
    eventually(SOON, async || *world.parked.lock() == ["trips trip odd"]).await;
    // The service is well: it is the saga that waits for a person.
    let health = sample.admin().get("/health").await;
    let trips = health.body["services"].as_array().unwrap().iter();
    let trips = trips.clone().find(|one| one["service"] == "trips").unwrap();
    assert_eq!(trips["checks"]["sagas"], "ok", "{trips}");
    let sagas = &trips["details"]["sagas"];
    assert_eq!(
        (&sagas["parked"], &sagas["overdue"]),
        (&json!(1), &json!(0))
    );
    assert!(sagas["last_commit"].is_string(), "{sagas}");
    sample.stop().await;
}

#[tokio::test]
async fn every_attempt_is_a_span_of_the_trace_that_started_it() {
    let ring = Arc::new(Ring::new(1_000));
    let world = Arc::new(World::default());
    world.fails.store(1, Ordering::SeqCst);
    let sample = begun(platform(&world).span_sink(ring.clone()), None).await;
    let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let asks = sample.ask("trips").with(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    asks.post("/trips", json!({ "trip": "wien" })).await;
    decided(&sample, "wien", true).await;
    comes_to(&sample, "wien", "completed").await;
    let spans = ring.spans(trace);
    let attempts: Vec<bool> = spans
        .iter()
        .filter(|span| span.name == "saga trip hotel")
        .map(|span| span.error.is_some())
        .collect();
    assert_eq!(attempts, [true, false], "{spans:#?}");
    let has = |name: &str| spans.iter().any(|span| span.name == name);
    assert!(has("saga trip note") && has("POST /bookings"), "{spans:#?}");
    sample.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_bears_every_fault() {
    let runs = exhaust(|about, probe| async move {
        let world = Arc::new(World::default());
        let sample = begun(platform(&world).saga_probe(probe), None).await;
        go(&sample, "pisa").await;
        let body = json!({ "trip": "pisa", "goes": true });
        sample.ask("trips").post("/decisions", body).await;
        let end = settled(&sample, "pisa", &about).await;
        let state = State::named(end["state"].as_str().unwrap()).unwrap();
        let room = sample.ask("hotel").get("/rooms/pisa").await.body;
        let notes = end["notes"].as_array().unwrap().len();
        match state {
            State::Completed => {
                assert_eq!(room[0], 1, "{about}");
                assert!(
                    notes == 1 || about.contains("twice") && notes == 2,
                    "{about}: {end}"
                );
            }
            _ => assert_eq!(room[0], 0, "{about}"),
        }
        sample.stop().await;
        state
    })
    .await;
    assert!(runs > 20, "{runs} runs");
}

/// The instance of a trip, as the admin API lists it.
async fn listed(sample: &Sample, query: &str) -> Vec<Value> {
    let answer = sample.admin().get(&format!("/api/v1/sagas{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["sagas"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_admin_api_lists_shows_and_steers_sagas() {
    let world = Arc::new(World::default());
    let sample = begun(platform(&world), None).await;
    go(&sample, "odd").await;
    comes_to(&sample, "odd", "parked").await;
    go(&sample, "lund").await;
    eventually(SOON, async || {
        stands(&sample, "lund").await["says"] == "waiting"
    })
    .await;
    let keys = async |query: &str| -> Vec<Value> {
        let found = listed(&sample, query).await;
        found.iter().map(|one| one["key"].clone()).collect()
    };
    assert_eq!(keys("").await, ["lund", "odd"], "the newest first");
    assert_eq!(keys("?state=parked&service=trips").await, ["odd"]);
    assert_eq!(keys("?key=lund&saga=trip&older_than=0s").await, ["lund"]);
    assert!(keys("?older_than=1h").await.is_empty());
    assert!(keys("?service=hotel").await.is_empty());
    for bad in ["state=odd", "older_than=soon", "limit=0", "what=1"] {
        let answer = sample.admin().get(&format!("/api/v1/sagas?{bad}")).await;
        assert!([400, 422].contains(&answer.status), "{bad}: {answer:?}");
    }

    let odd = listed(&sample, "?key=odd").await.remove(0);
    assert_eq!(odd["code"], "trip_odd");
    let path = format!("/api/v1/sagas/trips/{}", odd["id"].as_str().unwrap());
    let shown = sample.admin().get(&path).await.body;
    let steps: Vec<_> = shown["steps"].as_array().unwrap().iter().collect();
    let names: Vec<_> = steps.iter().map(|step| &step["name"]).collect();
    assert_eq!(names, ["hotel", "note", "odd"]);
    assert_eq!(
        (&steps[0]["state"], &steps[2]["state"]),
        (&json!("done"), &json!("trying"))
    );
    assert_eq!(steps[2]["error"]["code"], "trip_odd");
    assert!(shown["entries"].as_array().unwrap().len() >= 3);

    let steer = async |action: &str, body: Value| {
        sample.admin().post(&format!("{path}/{action}"), body).await
    };
    assert_eq!(steer("skip", json!({})).await.code(), "body_invalid");
    assert_eq!(steer("explode", json!({})).await.status, 404);
    assert_eq!(steer("revoke", json!({})).await.code(), "saga_state_wrong");
    assert_eq!(steer("migrate", json!({})).await.code(), "body_invalid");
    let unknown = steer("migrate", json!({ "version": 9 })).await;
    assert_eq!(unknown.code(), "saga_version_missing");
    // It fits its own version, goes on, and is parked as before.
    let fits = json!({ "version": 1, "by": "bob" });
    assert_eq!(steer("migrate", fits).await.status, 200);
    comes_to(&sample, "odd", "parked").await;
    let skip = json!({ "step": "odd", "output": null, "by": "ann" });
    assert_eq!(steer("skip", skip).await.status, 200);
    decided(&sample, "odd", true).await;
    comes_to(&sample, "odd", "completed").await;
    let shown = sample.admin().get(&path).await.body;
    assert_eq!(shown["steps"][2]["by"], "ann");

    // Both the refusal and what was done are in the audit log.
    let audit = sample.admin().get("/api/v1/audit?service=trips").await.body;
    let noted: Vec<_> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| [&entry["actor"], &entry["action"], &entry["outcome"]])
        .collect();
    assert_eq!(
        noted,
        [
            ["admin", "saga.revoke", "failed"],
            ["admin", "saga.migrate", "failed"],
            ["bob", "saga.migrate", "done"],
            ["ann", "saga.skip", "done"]
        ]
    );
    let nowhere = "/api/v1/sagas/nobody/01890000-0000-7000-8000-000000000000";
    assert_eq!(sample.admin().get(nowhere).await.status, 404);
    assert_eq!(
        sample.admin().get("/api/v1/sagas/trips/7").await.code(),
        "saga_id_invalid"
    );
    sample.stop().await;
}
