//! What a person does by hand.

use std::time::Duration;

use trunkline_saga::{Body, Data, Definition, Plain, Retries, Saga, State, Which};
use trunkline_testkit::eventually;

use crate::order::order;
use crate::world::{Process, World, away, one, refused, step};

/// Reserves, asks somebody until a person helps, and books.
fn stubborn(world: &World) -> Definition<Plain> {
    let world = world.clone();
    Definition::named("stubborn").version(1, move |saga: Saga<Plain>, _: String| {
        let world = world.clone();
        async move {
            step(&saga, &world, "reserve").await?;
            let asks = world.clone();
            let answer: String = saga
                .step("ask")
                .retries(Retries::attempts(2))
                .or_park()
                .run(move |at| {
                    let done = asks.does(&at);
                    async move { done }
                })
                .await?;
            step(&saga, &world, "book").await?;
            Ok(answer)
        }
    })
}

async fn parked(world: &World, times: usize) -> (Process, Which) {
    world.fails("ask", std::iter::repeat_with(away).take(times));
    let (_journal, process) = one([stubborn(world)]);
    let record = process.runs("stubborn", "s").await;
    assert_eq!(record.instance.state, State::Parked);
    assert_eq!(record.instance.error.unwrap().code, "away");
    (process, Which::Id(record.instance.id))
}

#[tokio::test(start_paused = true)]
async fn a_parked_step_is_tried_again() {
    let world = World::default();
    let (process, id) = parked(&world, 3).await;
    process.engine.retry(&id).await.unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(record.instance.error, None);
    assert_eq!(world.story(), ["reserve", "ask", "book"]);
}

#[tokio::test(start_paused = true)]
async fn a_parked_step_is_answered_by_hand() {
    let world = World::default();
    let (process, id) = parked(&world, 2).await;
    let answer = Data::of("by phone").unwrap();
    process
        .engine
        .skip(&id, "ask", (answer, "ada"))
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(
        record.instance.output.unwrap().get::<String>().unwrap(),
        "by phone"
    );
    let by_hand = |body: &Body| matches!(body, Body::Done { by: Some(by), .. } if by == "ada");
    assert!(record.entries.iter().any(|entry| by_hand(&entry.body)));
    assert_eq!(world.story(), ["reserve", "book"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_wrong_form_parks_it_again() {
    let world = World::default();
    let (process, id) = parked(&world, 2).await;
    let answer = Data::of(&5).unwrap();
    process
        .engine
        .skip(&id, "ask", (answer, "ada"))
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Parked);
    assert_eq!(record.instance.error.unwrap().code, "saga_data_unreadable");
}

#[tokio::test(start_paused = true)]
async fn a_parked_one_is_cancelled_and_undone() {
    let world = World::default();
    let (process, id) = parked(&world, 2).await;
    process
        .engine
        .cancel(&id, "the customer left")
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Compensated);
    let error = record.instance.error.unwrap();
    assert_eq!(error.code, "saga_cancelled");
    assert!(
        error.message.contains("the customer left"),
        "{}",
        error.message
    );
    assert_eq!(world.story(), ["reserve", "undo reserve"]);
}

#[tokio::test(start_paused = true)]
async fn a_compensation_is_skipped_by_hand() {
    let world = World::default();
    world.fails("confirm", [refused()]);
    world.fails("undo charge", [refused()]);
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "o").await;
    assert_eq!(record.instance.state, State::Parked);
    let id = Which::Id(record.instance.id);
    process
        .engine
        .skip(&id, "charge", (Data::null(), "ada"))
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(world.story(), ["reserve", "charge", "undo reserve"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_one_is_tried_again_from_its_step() {
    let world = World::default();
    world.fails("reserve", [refused()]);
    let (_journal, process) = one([order(&world)]);
    let record = process.runs("order", "o").await;
    assert_eq!(record.instance.state, State::Failed);
    let id = Which::Id(record.instance.id);
    process.engine.retry(&id).await.unwrap();
    assert_eq!(process.settled(&id).await.instance.state, State::Completed);
    let again = process.engine.retry(&id).await.unwrap_err();
    assert_eq!(again.code(), "saga_state_wrong");
}

#[tokio::test(start_paused = true)]
async fn a_step_and_all_after_it_are_made_again() {
    let world = World::default();
    let (process, id) = parked(&world, 2).await;
    process.engine.retry_from(&id, "reserve").await.unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
    // The same key: it was not reserved a second time.
    assert_eq!(world.stands("reserve"), 1);
    let unknown = process.engine.retry_from(&id, "nothing").await.unwrap_err();
    assert_eq!(unknown.code(), "saga_step_unknown");
    assert!(unknown.to_string().contains("reserve"), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn what_was_undone_is_not_tried_again() {
    let world = World::default();
    world.fails("confirm", [refused()]);
    let (_journal, process) = one([order(&world)]);
    let id = Which::Id(process.runs("order", "o").await.instance.id);
    let error = process.engine.retry(&id).await.unwrap_err();
    assert_eq!(error.code(), "saga_state_wrong");
    let error = process.engine.retry_from(&id, "charge").await.unwrap_err();
    assert_eq!(error.code(), "saga_undone");
    let error = process.engine.cancel(&id, "late").await.unwrap_err();
    assert_eq!(error.code(), "saga_ended");
}

#[tokio::test(start_paused = true)]
async fn it_is_cancelled_between_two_attempts_and_while_it_rests() {
    let pause = Duration::from_secs(3600);
    let world = World::default();
    world.fails("ask", [away()]);
    let known = world.clone();
    let saga = Definition::named("asks").version(1, move |saga: Saga<Plain>, rests: String| {
        let world = known.clone();
        async move {
            step(&saga, &world, "reserve").await?;
            if rests == "rests" {
                return saga.sleep("rest", pause).await;
            }
            let asks = world.clone();
            saga.step("ask")
                .retries(Retries::attempts(3).pauses(pause, pause))
                .run(move |at| {
                    let done = asks.does(&at).map(drop);
                    async move { done }
                })
                .await
        }
    });
    let (_journal, process) = one([saga]);
    for key in ["tries", "rests"] {
        let id = Which::Id(process.start("asks", key).await.id);
        eventually(Duration::from_secs(30), async || {
            process.engine.show(&id).await.unwrap().instance.state == State::Waiting
        })
        .await;
        process.engine.cancel(&id, "enough").await.unwrap();
        let record = process.settled(&id).await;
        assert_eq!(record.instance.state, State::Compensated, "{key}");
        assert_eq!(world.stands("reserve"), 0, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_completed_one_is_revoked() {
    let world = World::default();
    let (_journal, process) = one([order(&world)]);
    let id = Which::Id(process.runs("order", "o").await.instance.id);
    process.engine.revoke(&id, "a mistake").await.unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(world.stands("charge"), 0);
    assert_eq!(
        process
            .engine
            .revoke(&id, "again")
            .await
            .unwrap_err()
            .code(),
        "saga_state_wrong"
    );
}
