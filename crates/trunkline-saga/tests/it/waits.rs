//! Rests, signals and events.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use trunkline_core::{Env, Event};
use trunkline_saga::{
    Begin, Body, Definition, Journal, MemoryJournal, Message, Plain, Saga, State, Which,
};
use trunkline_testkit::eventually;

use crate::world::{Process, World, env, one, step};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Event, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[event(type = "payment.settled", version = "1.0", topic = "payments", key = order)]
struct Settled {
    order: String,
    amount: u32,
}

/// Reserves, waits a day for an approval, and then for its payment.
fn approval(world: &World) -> Definition<Plain> {
    let world = world.clone();
    Definition::named("approval").version(1, move |saga: Saga<Plain>, _: String| {
        let world = world.clone();
        async move {
            step(&saga, &world, "reserve").await?;
            saga.say(&"waits for approval")?;
            let Some(by) = saga.signal::<String>("approve", DAY).await? else {
                return Err(trunkline_core::Error::conflict(
                    "late",
                    "nobody approved it",
                ));
            };
            let paid = saga.event::<Settled>(DAY).await?;
            Ok(format!("{by} {}", paid.map_or(0, |paid| paid.amount)))
        }
    })
}

async fn rests(process: &Process, id: &Which) {
    eventually(Duration::from_secs(30), async || {
        let instance = process.engine.show(id).await.unwrap().instance;
        instance.state == State::Waiting && instance.owner.is_none()
    })
    .await;
}

fn settled(amount: u32) -> Settled {
    Settled {
        order: "o".into(),
        amount,
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_and_an_event_wake_it() {
    let world = World::default();
    let (_journal, process) = one([approval(&world)]);
    let id = Which::Id(process.start("approval", "a").await.id);
    rests(&process, &id).await;
    let status: String = process
        .engine
        .show(&id)
        .await
        .unwrap()
        .instance
        .status
        .unwrap()
        .get()
        .unwrap();
    assert_eq!(status, "waits for approval");
    for _ in 0..2 {
        // A second one of the same id changes nothing.
        process
            .engine
            .signal(id.clone(), "s-1", ("approve", &"Ada"))
            .await
            .unwrap();
    }
    rests(&process, &id).await;
    let event = ("payment.settled", &settled(5));
    process
        .engine
        .signal(id.clone(), "e-1", event)
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(
        record.instance.output.unwrap().get::<String>().unwrap(),
        "Ada 5"
    );
    let late = process.engine.signal(id, "s-2", ("approve", &"Bob")).await;
    assert_eq!(late.unwrap_err().code(), "saga_ended");
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_it_is_waited_for_counts() {
    let world = World::default();
    world.fails("reserve", [crate::world::away()]);
    let (_journal, process) = one([approval(&world)]);
    let id = Which::Key("approval".into(), "a".into());
    process.start("approval", "a").await;
    process
        .engine
        .signal(id.clone(), "e-1", ("payment.settled", &settled(7)))
        .await
        .unwrap();
    process
        .engine
        .signal(id.clone(), "s-1", ("approve", &"Ada"))
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(
        record.instance.output.unwrap().get::<String>().unwrap(),
        "Ada 7"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_wait_and_undoes() {
    let (world, env) = (World::default(), env());
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let process = Process::new(&journal, &env, [approval(&world)]);
    let began = env.now();
    let record = process.runs("approval", "a").await;
    assert_eq!(record.instance.state, State::Compensated);
    assert!(
        record
            .entries
            .iter()
            .any(|entry| entry.body == Body::Elapsed)
    );
    assert_eq!(world.story(), ["reserve", "undo reserve"]);
    let took = env.now().duration_since(began);
    assert!(took >= SignedDuration::from_hours(24) && took < SignedDuration::from_hours(25));
}

#[tokio::test(start_paused = true)]
async fn a_rest_outlives_its_process() {
    let (world, env) = (World::default(), env());
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let first = Process::new(&journal, &env, [approval(&world)]);
    let id = Which::Id(first.start("approval", "a").await.id);
    rests(&first, &id).await;
    first.dies().await;
    let message = Message {
        id: "s-1".into(),
        name: "approve".into(),
        data: trunkline_saga::Data::of("Ada").unwrap(),
        at: env.now(),
    };
    let tell = trunkline_saga::Write::Tell(id.clone(), message);
    journal.write(&[tell]).await.unwrap();
    let second = Process::new(&journal, &env, [approval(&world)]);
    eventually(Duration::from_secs(30), async || {
        let entries = second.engine.show(&id).await.unwrap().entries;
        entries
            .iter()
            .any(|entry| matches!(entry.body, Body::Received { .. }))
    })
    .await;
    rests(&second, &id).await;
}

#[tokio::test(start_paused = true)]
async fn another_process_is_told_through_the_journal() {
    let (world, env) = (World::default(), env());
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let first = Process::new(&journal, &env, [approval(&world)]);
    let second = Process::new(&journal, &env, [approval(&world)]);
    let id = Which::Id(first.start("approval", "a").await.id);
    second
        .engine
        .signal(id.clone(), "s-1", ("approve", &"Ada"))
        .await
        .unwrap();
    second
        .engine
        .signal(id.clone(), "e-1", ("payment.settled", &settled(1)))
        .await
        .unwrap();
    let record = first.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ends_a_wait_early_or_late_but_once() {
    for ahead in [true, false] {
        let (env, clock) = Env::manual(3);
        let journal = Arc::new(MemoryJournal::new(env.clone()));
        let naps =
            Definition::named("naps").version(1, |saga: Saga<Plain>, _: String| async move {
                saga.sleep("nap", DAY).await?;
                Ok(())
            });
        let process = Process::new(&journal, &env, [naps]);
        let id = Which::Id(process.start("naps", "n").await.id);
        rests(&process, &id).await;
        if !ahead {
            // An hour back: it waits an hour more, and is not lost.
            clock.set(env.now() - SignedDuration::from_hours(1));
            tokio::time::sleep(Duration::from_secs(5)).await;
            rests(&process, &id).await;
            clock.advance(Duration::from_secs(3600));
        }
        clock.advance(DAY);
        let record = process.settled(&id).await;
        assert_eq!(record.instance.state, State::Completed);
        let elapsed = record
            .entries
            .iter()
            .filter(|entry| entry.body == Body::Elapsed);
        assert_eq!(elapsed.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn many_rest_beyond_what_runs_at_a_time() {
    let world = World::default();
    let (_journal, process) = one([approval(&world)]);
    for n in 0..3_000 {
        let key = format!("a-{n}");
        process
            .engine
            .start("approval", &key, &key, Begin::flow("f"))
            .await
            .unwrap();
    }
    let all = |state| trunkline_saga::Query {
        state: Some(state),
        max: 1_000,
        ..trunkline_saga::Query::default()
    };
    eventually(Duration::from_secs(60), async || {
        process
            .engine
            .list(&all(State::Running))
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    assert_eq!(
        process
            .engine
            .list(&all(State::Waiting))
            .await
            .unwrap()
            .len(),
        1_000
    );
    assert_eq!(world.stands("reserve"), 3_000);
}
