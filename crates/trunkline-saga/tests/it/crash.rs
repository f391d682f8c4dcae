//! The crash kit over this crate's sagas, journals that are cut, and processes that die.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use trunkline_saga::{
    Claim, Definition, Journal, MemoryJournal, Plain, Saga, Settings, State, Which,
};
use trunkline_testkit::saga::exhaust;

use crate::order::order;
use crate::world::{Process, World, away, env, one, plain, step, within};

/// What an order leaves in the world: everything once, or nothing.
fn whole(world: &World, state: State, about: &str) {
    let stands = ["reserve", "charge", "confirm"].map(|name| world.stands(name));
    match state {
        State::Completed => {
            assert_eq!(stands, [1, 1, 1], "{about}");
            assert_eq!(world.stands("notify"), 1, "{about}");
        }
        _ => assert_eq!(stands, [0, 0, 0], "{about}: {:?}", world.story()),
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_bears_every_fault() {
    let runs = exhaust(|about, probe| async move {
        let (world, env) = (World::default(), env());
        let journal = Arc::new(MemoryJournal::new(env.clone()));
        let how = ([order(&world)], Settings::default(), Some(probe));
        let process = Process::with(&journal, &env, how);
        let record = process.runs("order", "ord-1").await;
        whole(&world, record.instance.state, &about);
        record.instance.state
    })
    .await;
    assert!(runs > 60, "{runs} runs");
}

/// Two legs side by side, three offers of which one is taken, a child, and a rest.
fn trip(world: &World) -> [Definition<Plain>; 2] {
    let (of_trip, of_ride) = (world.clone(), world.clone());
    let trip = Definition::named("trip").version(1, move |saga: Saga<Plain>, _: String| {
        let world = of_trip.clone();
        async move {
            saga.all("legs", ["hotel", "flight"], |leg, name| {
                let world = world.clone();
                async move {
                    step(&leg, &world, name).await?;
                    plain(&leg, &world, "mail").await
                }
            })
            .await?;
            saga.sleep("a night", Duration::from_secs(3600)).await?;
            saga.child::<String>("ride", &"to the airport").await?;
            step(&saga, &world, "insurance").await
        }
    });
    let ride = Definition::named("ride").version(1, move |saga: Saga<Plain>, _: String| {
        let world = of_ride.clone();
        async move { step(&saga, &world, "taxi").await }
    });
    [trip, ride]
}

#[tokio::test(start_paused = true)]
async fn a_trip_with_branches_and_a_child_bears_every_fault() {
    let runs = exhaust(|about, probe| async move {
        let (world, env) = (World::default(), env());
        let journal = Arc::new(MemoryJournal::new(env.clone()));
        let how = (trip(&world), Settings::default(), Some(probe));
        let process = Process::with(&journal, &env, how);
        let record = process.runs("trip", "t-1").await;
        let stands = ["hotel", "flight", "taxi", "insurance"].map(|name| world.stands(name));
        let all = usize::from(record.instance.state == State::Completed);
        assert_eq!(stands, [all; 4], "{about}: {:?}", world.story());
        record.instance.state
    })
    .await;
    assert!(runs > 100, "{runs} runs");
}

#[tokio::test(start_paused = true)]
async fn a_journal_cut_anywhere_goes_on_from_there() {
    for fails in [false, true] {
        let world = World::default();
        if fails {
            world.fails("confirm", [crate::world::refused()]);
        }
        let (journal, process) = one([order(&world)]);
        let first = process.runs("order", "ord-1").await;
        let id = first.instance.id;
        for cut in 0..=first.entries.len() {
            if fails {
                world.fails("confirm", [crate::world::refused()]);
            }
            journal.cut(id, u64::try_from(cut).unwrap());
            process.engine.poke();
            let again = process.settled(&Which::Id(id)).await;
            assert_eq!(again.instance.state, first.instance.state, "cut at {cut}");
            // A step that may have been begun is undone too.
            let more = again.entries.len() - first.entries.len();
            assert!(more <= usize::from(fails), "cut at {cut}: {more} more");
            whole(&world, again.instance.state, &format!("cut at {cut}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_up_what_a_dead_one_left() {
    let (world, env) = (World::default(), env());
    world.fails("charge", [away(), away()]);
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let first = Process::new(&journal, &env, [order(&world)]);
    let second = Process::new(&journal, &env, [order(&world)]);
    let id = Which::Id(first.start("order", "ord-1").await.id);
    // It has reserved, and waits to charge.
    trunkline_testkit::eventually(Duration::from_secs(30), async || {
        !first.engine.show(&id).await.unwrap().entries.is_empty()
    })
    .await;
    first.dies().await;
    let began = env.now();
    let record = second.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
    whole(&world, State::Completed, "after the death");
    let took = env.now().duration_since(began);
    assert!(took < SignedDuration::from_secs(30), "{took:?}");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_gives_its_instances_back_at_once() {
    let (world, env) = (World::default(), env());
    world.fails("charge", [away()]);
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let first = Process::new(&journal, &env, [order(&world)]);
    let id = Which::Id(first.start("order", "ord-1").await.id);
    trunkline_testkit::eventually(Duration::from_secs(30), async || {
        first.engine.show(&id).await.unwrap().entries.len() == 1
    })
    .await;
    first.stop().await;
    let record = journal.load(&id).await.unwrap().unwrap();
    assert_eq!(record.instance.owner, None);
    let second = Process::new(&journal, &env, [order(&world)]);
    let record = second.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn two_owners_of_one_instance_write_one_story() {
    let (world, env) = (World::default(), env());
    world.fails("charge", [away(), away()]);
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let first = Process::new(&journal, &env, [order(&world)]);
    let id = first.start("order", "ord-1").await.id;
    trunkline_testkit::eventually(Duration::from_secs(30), async || {
        !first
            .engine
            .show(&Which::Id(id))
            .await
            .unwrap()
            .entries
            .is_empty()
    })
    .await;
    // Somebody whose clock is far ahead takes it from the living, and gives it to a second process.
    let thief = Claim {
        owner: "thief".into(),
        lease: Duration::ZERO,
        sagas: vec!["order".into()],
        max: 10,
    };
    journal.forget_owners();
    journal.claim(&thief).await.unwrap();
    let second = Process::new(&journal, &env, [order(&world)]);
    let record = within(second.settled(&Which::Id(id))).await;
    assert_eq!(record.instance.state, State::Completed);
    let seqs: Vec<u64> = record.entries.iter().map(|entry| entry.seq).collect();
    let mut once = seqs.clone();
    once.dedup();
    assert_eq!(seqs, once);
    whole(&world, State::Completed, "with two owners");
}

/// Dies after every write.
struct Dies;

impl trunkline_saga::Probe for Dies {
    fn crashes_after(&self, _: &trunkline_saga::Went) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_is_not_written_again_by_each_process() {
    let (world, env) = (World::default(), env());
    let of_saga = world.clone();
    let says = Definition::named("says").version(1, move |saga: Saga<Plain>, _: String| {
        let world = of_saga.clone();
        async move {
            saga.say(&"begins")?;
            step(&saga, &world, "reserve").await
        }
    });
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let how = ([says], Settings::default(), Some(Arc::new(Dies) as _));
    let process = Process::with(&journal, &env, how);
    let record = process.runs("says", "s-1").await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(world.stands("reserve"), 1);
}

/// A step of 40 s, longer than a lease.
fn long(world: &World) -> Definition<Plain> {
    let world = world.clone();
    Definition::named("long").version(1, move |saga: Saga<Plain>, _: String| {
        let world = world.clone();
        async move {
            let long = saga.step::<()>("long").within(Duration::from_secs(60));
            long.run(move |_| {
                world.tells("long");
                async {
                    tokio::time::sleep(Duration::from_secs(40)).await;
                    Ok(())
                }
            })
            .await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_always_busy_keeps_what_it_has() {
    let (world, env) = (World::default(), env());
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let busy = Process::new(&journal, &env, [long(&world), order(&World::default())]);
    let id = Which::Id(busy.start("long", "l").await.id);
    trunkline_testkit::eventually(Duration::from_secs(30), async || !world.story().is_empty())
        .await;
    let idle = Process::new(&journal, &env, [long(&world)]);
    // More often than it looks into its journal.
    for n in 0..100 {
        busy.start("order", &format!("ord-{n}")).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let record = busy.settled(&id).await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(world.story(), ["long"], "nobody else took it up");
    idle.stop().await;
}
