//! Code and input that are wrong.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use trunkline_saga::{
    Begin, Definition, ENTRIES_MAX, Engine, MESSAGES_MAX, MemoryJournal, Plain, Retries, Saga,
    Settings, State, Which,
};

use crate::order::order;
use crate::world::{Process, World, away, env, one, plain, step};

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_is_tried_and_then_fails() {
    let world = World::default();
    let known = world.clone();
    let saga = Definition::named("bad").version(1, move |saga: Saga<Plain>, _: String| {
        let world = known.clone();
        async move {
            step(&saga, &world, "reserve").await?;
            let tells = world.clone();
            saga.step("boom")
                .run(move |_| {
                    tells.tells("boom");
                    async { panic!("no such luck") }
                })
                .await as trunkline_core::Result<String>
        }
    });
    let (_journal, process) = one([saga]);
    let record = process.runs("bad", "b").await;
    assert_eq!(record.instance.state, State::Compensated);
    let error = record.instance.error.unwrap();
    assert_eq!(error.code, "saga_panicked");
    assert!(error.message.contains("no such luck"), "{}", error.message);
    assert_eq!(
        world.story(),
        ["reserve", "boom", "boom", "boom", "undo reserve"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_is_parked() {
    let saga = Definition::named("bad").version(1, |saga: Saga<Plain>, _: String| async move {
        saga.sleep("nap", Duration::from_secs(1)).await?;
        if true {
            panic!("a defect");
        }
        Ok(())
    });
    let (_journal, process) = one([saga]);
    let record = process.runs("bad", "b").await;
    assert_eq!(record.instance.state, State::Parked);
    assert_eq!(record.instance.error.unwrap().code, "saga_panicked");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_never_returns_is_given_up() {
    let saga = Definition::named("bad").version(1, |saga: Saga<Plain>, _: String| async move {
        saga.step("for ever")
            .within(Duration::from_secs(5))
            .retries(Retries::none())
            .run(|_| pending::<trunkline_core::Result<String>>())
            .await
    });
    let (_journal, process) = one([saga]);
    let record = process.runs("bad", "b").await;
    assert_eq!(record.instance.state, State::Failed);
    assert_eq!(record.instance.error.unwrap().code, "saga_step_too_long");
}

/// One code for an order, and the same with a step of another form, another name, or none.
fn changed(world: &World, how: &'static str) -> Definition<Plain> {
    let world = world.clone();
    Definition::named("order").version(1, move |saga: Saga<Plain>, _: String| {
        let world = world.clone();
        async move {
            match how {
                "form" => {
                    let make = saga.step::<u32>("reserve").run(|_| async { Ok(1) });
                    let _: u32 = make.await?;
                }
                "name" => drop(plain(&saga, &world, "hold").await?),
                "sort" => saga.sleep("reserve", Duration::from_secs(1)).await?,
                "none" => return Ok(String::new()),
                _ => drop(step(&saga, &world, "reserve").await?),
            }
            plain(&saga, &world, "charge").await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn code_that_no_longer_fits_is_named_and_never_run() {
    let cases = [
        ("form", "saga_data_unreadable"),
        ("name", "saga_code_changed"),
        ("sort", "saga_code_changed"),
        ("none", "saga_code_changed"),
    ];
    for (how, code) in cases {
        let (world, env) = (World::default(), env());
        world.fails("charge", std::iter::repeat_with(away).take(2));
        let journal = Arc::new(MemoryJournal::new(env.clone()));
        let first = Process::new(&journal, &env, [changed(&world, "as it was")]);
        let id = Which::Id(first.start("order", "o").await.id);
        trunkline_testkit::eventually(Duration::from_secs(30), async || {
            !first.engine.show(&id).await.unwrap().entries.is_empty()
        })
        .await;
        first.dies().await;
        let second = Process::new(&journal, &env, [changed(&world, how)]);
        let record = second.settled(&id).await;
        assert_eq!(record.instance.state, State::Parked, "{how}");
        let error = record.instance.error.unwrap();
        assert_eq!(error.code, code, "{how}: {}", error.message);
        assert!(
            how == "form" || error.message.contains("`reserve`"),
            "{}",
            error.message
        );
        assert_eq!(world.story(), ["reserve"], "{how}");
        second.dies().await;
        // The code that fits takes it up where it stood.
        let third = Process::new(&journal, &env, [changed(&world, "as it was")]);
        third.engine.retry(&id).await.unwrap();
        assert_eq!(
            third.settled(&id).await.instance.state,
            State::Completed,
            "{how}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_goes_on_with_the_version_that_it_began_with() {
    let (world, env) = (World::default(), env());
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let (old, new) = (world.clone(), world.clone());
    let one = Definition::named("order").version(1, move |saga: Saga<Plain>, _: String| {
        let world = old.clone();
        async move {
            saga.sleep("night", Duration::from_secs(3600)).await?;
            plain(&saga, &world, "old").await
        }
    });
    let first = Process::new(&journal, &env, [one]);
    let id = Which::Id(first.start("order", "o").await.id);
    trunkline_testkit::eventually(Duration::from_secs(30), async || {
        first.engine.show(&id).await.unwrap().instance.state == State::Waiting
    })
    .await;
    first.dies().await;
    let newest = Definition::named("order").version(2, move |saga: Saga<Plain>, _: String| {
        let world = new.clone();
        async move { plain(&saga, &world, "new").await }
    });
    let second = Process::new(&journal, &env, [newest]);
    assert_eq!(second.runs("order", "p").await.instance.version, 2);
    let record = second.settled(&id).await;
    assert_eq!(record.instance.state, State::Parked);
    let error = record.instance.error.unwrap();
    assert_eq!(error.code, "saga_version_missing");
    assert_eq!(world.story(), ["new"]);
    // The new code has no rest where the old one rested.
    let error = second.engine.migrate(&id, 2).await.unwrap_err();
    assert_eq!(error.code(), "saga_code_changed");
    assert!(error.to_string().contains("night"), "{error}");
    let error = second.engine.migrate(&id, 3).await.unwrap_err();
    assert_eq!(error.code(), "saga_version_missing");
    second.dies().await;
    let fitting = Definition::named("order").version(3, move |saga: Saga<Plain>, _: String| {
        let world = world.clone();
        async move {
            saga.sleep("night", Duration::from_secs(60)).await?;
            plain(&saga, &world, "newest").await
        }
    });
    let third = Process::new(&journal, &env, [fitting]);
    third.engine.migrate(&id, 3).await.unwrap();
    let record = third.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(record.instance.version, 3);
    assert_eq!(
        record.instance.output.unwrap().get::<String>().unwrap(),
        "newest-done"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_without_end_is_parked() {
    let saga = Definition::named("bad").version(1, |saga: Saga<Plain>, _: String| async move {
        loop {
            saga.step("again").run(|_| async { Ok(()) }).await?;
            if false {
                return Ok(());
            }
        }
    });
    let (_journal, process) = one([saga]);
    let record = process.runs("bad", "b").await;
    assert_eq!(record.instance.state, State::Parked);
    assert_eq!(record.instance.error.unwrap().code, "saga_too_long");
    assert!(u64::try_from(record.entries.len()).unwrap() <= ENTRIES_MAX + 1);
}

#[tokio::test(start_paused = true)]
async fn keys_inputs_and_signals_have_bounds() {
    let world = World::default();
    let (_journal, process) = one([order(&world)]);
    let start = async |saga: &'static str, key: String, input: String| {
        let begun = process
            .engine
            .start(saga, &key, &input, Begin::flow("f"))
            .await;
        begun.unwrap_err().code().to_owned()
    };
    assert_eq!(
        start("order", String::new(), "o".into()).await,
        "saga_key_invalid"
    );
    assert_eq!(
        start("order", "k".repeat(257), "o".into()).await,
        "saga_key_invalid"
    );
    assert_eq!(start("other", "k".into(), "o".into()).await, "saga_unknown");
    let large = "x".repeat(2 * 1024 * 1024);
    assert_eq!(
        start("order", "k".into(), large).await,
        "saga_data_too_large"
    );
    let nobody = Which::Key("order".into(), "nobody".into());
    let told = process
        .engine
        .signal(nobody.clone(), "s", ("go", &1))
        .await
        .unwrap_err();
    assert_eq!(told.code(), "saga_not_found");
    assert_eq!(
        process.engine.show(&nobody).await.unwrap_err().code(),
        "saga_not_found"
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_signals_are_refused() {
    let naps = Definition::named("naps").version(1, |saga: Saga<Plain>, _: String| async move {
        saga.sleep("nap", Duration::from_secs(3600)).await
    });
    let (_journal, process) = one([naps]);
    let id = Which::Id(process.start("naps", "n").await.id);
    for n in 0..MESSAGES_MAX {
        process
            .engine
            .signal(id.clone(), n.to_string(), ("go", &n))
            .await
            .unwrap();
    }
    let full = process
        .engine
        .signal(id, "more", ("go", &0))
        .await
        .unwrap_err();
    assert_eq!(full.code(), "saga_messages_full");
}

#[tokio::test(start_paused = true)]
async fn a_signal_of_another_form_parks() {
    let saga = Definition::named("bad").version(1, |saga: Saga<Plain>, _: String| async move {
        saga.signal::<u32>("count", Duration::from_secs(60)).await
    });
    let (_journal, process) = one([saga]);
    let id = Which::Id(process.start("bad", "b").await.id);
    process
        .engine
        .signal(id.clone(), "s", ("count", &"three"))
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Parked);
    assert_eq!(record.instance.error.unwrap().code, "saga_data_unreadable");
}

#[test]
fn two_sagas_of_one_name_are_refused() {
    let env = env_of_a_runtime();
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let world = World::default();
    let twice = [order(&world), order(&world)];
    let error = Engine::new(Plain, journal, env, twice, Settings::default()).unwrap_err();
    assert_eq!(error.code(), "saga_name_taken");
}

fn env_of_a_runtime() -> trunkline_core::Env {
    trunkline_core::Env::seeded(1)
}
