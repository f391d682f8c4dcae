//! Steps and compensation.

use std::time::Duration;

use trunkline_core::Retry;
use trunkline_saga::{Begin, Body, Definition, Plain, Retries, State};

use crate::world::{World, away, one, plain, refused, step};

/// Reserve, charge, confirm, notify.
pub(crate) fn order(world: &World) -> Definition<Plain> {
    let world = world.clone();
    Definition::named("order").version(1, move |saga, order: String| {
        let world = world.clone();
        async move {
            step(&saga, &world, "reserve").await?;
            step(&saga, &world, "charge").await?;
            step(&saga, &world, "confirm").await?;
            plain(&saga, &world, "notify").await?;
            Ok(format!("{order} confirmed"))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn steps_run_in_order_and_are_kept() {
    let world = World::default();
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "ord-1").await;
    assert_eq!(record.instance.state, State::Completed);
    let output: String = record.instance.output.unwrap().get().unwrap();
    assert_eq!(output, "ord-1 confirmed");
    assert_eq!(world.story(), ["reserve", "charge", "confirm", "notify"]);
    let names: Vec<_> = record.entries.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, ["reserve", "charge", "confirm", "notify"]);
    assert!(
        record
            .entries
            .iter()
            .zip(0..)
            .all(|(entry, n)| entry.seq == n)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_undoes_what_was_done_the_last_first() {
    let world = World::default();
    world.fails("confirm", [refused()]);
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "ord-1").await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(record.instance.error.unwrap().code, "refused");
    assert_eq!(
        world.story(),
        ["reserve", "charge", "undo charge", "undo reserve"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_with_nothing_to_undo_is_failed() {
    let world = World::default();
    world.fails("reserve", [refused()]);
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "ord-1").await;
    assert_eq!(record.instance.state, State::Failed);
    assert_eq!(world.story(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_again_and_its_attempts_are_kept() {
    let world = World::default();
    world.fails("charge", [away(), away()]);
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "ord-1").await;
    assert_eq!(record.instance.state, State::Completed);
    let charge: Vec<_> = record
        .entries
        .iter()
        .filter(|e| e.name == "charge")
        .collect();
    assert!(matches!(charge[0].body, Body::Tried { attempt: 1, .. }));
    assert!(matches!(charge[1].body, Body::Tried { attempt: 2, .. }));
    assert!(matches!(charge[2].body, Body::Done { attempt: 3, .. }));
    let paused = charge[2].at.duration_since(charge[0].at);
    assert!(
        paused >= jiff::SignedDuration::from_millis(1_500),
        "{paused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_undone_too() {
    let world = World::default();
    let unknown = || away().with_retry(Retry::Unknown);
    world.fails("charge", [unknown(), unknown(), unknown()]);
    let known = world.clone();
    let saga = Definition::named("order").version(
        1,
        move |saga: trunkline_saga::Saga<Plain>, _: String| {
            let world = known.clone();
            async move {
                step(&saga, &world, "reserve").await?;
                let (does, tells) = (world.clone(), world.clone());
                saga.step("charge")
                    .undo(move |_, paid: Option<String>| {
                        tells.tells(format!("refund {paid:?}"));
                        async { Ok(()) }
                    })
                    .run(move |at| {
                        let done = does.does(&at);
                        async move { done }
                    })
                    .await
            }
        },
    );
    let (_journal, process) = one([saga]);
    let record = process.runs("order", "ord-1").await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(world.story(), ["reserve", "refund None", "undo reserve"]);
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_gives_up_parks_and_is_never_called_compensated() {
    let world = World::default();
    world.fails("confirm", [refused()]);
    world.fails("undo charge", std::iter::repeat_with(away).take(12));
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "ord-1").await;
    assert_eq!(record.instance.state, State::Parked);
    let error = record.instance.error.unwrap();
    assert_eq!(error.code, "saga_compensation_failed");
    assert!(error.message.contains("charge"), "{}", error.message);
    assert_eq!(world.stands("charge"), 1);
    assert_eq!(
        world.stands("reserve"),
        1,
        "what came before waits for its turn"
    );
    let which = trunkline_saga::Which::Id(record.instance.id);
    process.engine.retry(&which).await.unwrap();
    let record = process.settled(&which).await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!((world.stands("charge"), world.stands("reserve")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_came_to_nothing_is_told_when_all_is_undone() {
    for step in ["reserve", "confirm"] {
        let world = World::default();
        world.fails(step, [refused()]);
        let tells = world.clone();
        let tried = std::sync::atomic::AtomicBool::new(false);
        let saga = order(&world).failed(move |_, order: String, error| {
            let again = !tried.swap(true, std::sync::atomic::Ordering::Relaxed);
            tells.tells(format!("{order}: {}", error.code()));
            async move { if again { Err(away()) } else { Ok(()) } }
        });
        let (_journal, process) = one([saga]);
        let record = process.runs("order", "ord-1").await;
        let state = if step == "reserve" {
            State::Failed
        } else {
            State::Compensated
        };
        assert_eq!(record.instance.state, state);
        let story = world.story();
        assert_eq!(
            story[story.len() - 2..],
            ["ord-1: refused", "ord-1: refused"],
            "{story:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_is_one_instance() {
    let world = World::default();
    let (_journal, process) = one([order(&world)]);
    let first = process.runs("order", "ord-1").await.instance;
    let again = process.start("order", "ord-1").await;
    assert_eq!(again.id, first.id);
    assert_eq!(world.story().len(), 4);
    let other = process
        .engine
        .start("order", "ord-1", &"another input", Begin::flow("x"))
        .await
        .unwrap_err();
    assert_eq!(other.code(), "saga_key_taken");
}

#[tokio::test(start_paused = true)]
async fn a_step_says_how_it_is_tried() {
    let world = World::default();
    world.fails("ask", std::iter::repeat_with(away).take(4));
    let known = world.clone();
    let saga = Definition::named("asks").version(
        1,
        move |saga: trunkline_saga::Saga<Plain>, _: String| {
            let world = known.clone();
            async move {
                let pause = Duration::from_secs(60);
                saga.step("ask")
                    .retries(Retries::attempts(5).pauses(pause, pause))
                    .run(move |at| {
                        let done = world.does(&at);
                        async move { done }
                    })
                    .await
            }
        },
    );
    let (_journal, process) = one([saga]);
    let record = process.runs("asks", "a").await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(record.entries.len(), 5);
    // It rested between its attempts, and belonged to nobody.
    let took = record.entries[4].at.duration_since(record.entries[0].at);
    assert!(took >= jiff::SignedDuration::from_secs(120), "{took:?}");
}
