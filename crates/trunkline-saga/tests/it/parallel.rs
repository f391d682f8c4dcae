//! Branches, races and children.

use std::time::Duration;

use futures::join;
use trunkline_core::Error;
use trunkline_saga::{Body, Definition, Plain, Query, Saga, State, Which};
use trunkline_testkit::eventually;

use crate::world::{World, one, refused, step};

#[tokio::test(start_paused = true)]
async fn all_branches_end_before_one_failure_undoes_them() {
    let world = World::default();
    world.fails("b", [refused()]);
    let known = world.clone();
    let saga = Definition::named("all").version(1, move |saga: Saga<Plain>, _: String| {
        let world = known.clone();
        async move {
            saga.all("legs", ["a", "b", "c"], |leg, name| {
                let world = world.clone();
                async move { step(&leg, &world, name).await }
            })
            .await
        }
    });
    let (_journal, process) = one([saga]);
    let record = process.runs("all", "x").await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(world.story(), ["a", "c", "undo c", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn branches_by_hand_may_end_in_any_order() {
    let world = World::default();
    world.fails("slow", [crate::world::away()]);
    let known = world.clone();
    let saga = Definition::named("both").version(1, move |saga: Saga<Plain>, _: String| {
        let world = known.clone();
        async move {
            let (one, two) = (saga.branch("one"), saga.branch("two"));
            let first = async {
                step(&one, &world, "slow").await?;
                step(&one, &world, "then").await
            };
            let second = async {
                step(&two, &world, "quick").await?;
                two.sleep("rest", Duration::from_secs(60)).await?;
                step(&two, &world, "last").await
            };
            let (first, second) = join!(first, second);
            first.and(second)
        }
    });
    let (_journal, process) = one([saga]);
    let record = process.runs("both", "x").await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(world.story(), ["quick", "slow", "then", "last"]);
}

/// The first of three offers is taken; the second is the quickest.
fn race(world: &World, then: Option<Error>) -> Definition<Plain> {
    let (world, then) = (world.clone(), std::sync::Arc::new(then));
    Definition::named("race").version(1, move |saga: Saga<Plain>, _: String| {
        let (world, then) = (world.clone(), then.clone());
        async move {
            let offers = [("slow", 60), ("quick", 1), ("slower", 120)];
            let (index, offer) = saga
                .first("offers", offers, |branch, (name, seconds)| {
                    let world = world.clone();
                    async move {
                        step(&branch, &world, "hold").await?;
                        branch.sleep("answer", Duration::from_secs(seconds)).await?;
                        step(&branch, &world, name).await
                    }
                })
                .await?;
            step(&saga, &world, "book").await?;
            match &*then {
                Some(_) => Err(refused()),
                None => Ok(format!("{index} {offer}")),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_wins_and_what_the_others_did_is_undone_at_once() {
    let world = World::default();
    let (journal, process) = one([race(&world, None)]);
    let record = process.runs("race", "x").await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(
        record.instance.output.unwrap().get::<String>().unwrap(),
        "1 quick-done"
    );
    assert_eq!(world.stands("hold"), 1);
    assert_eq!(
        (
            world.stands("slow"),
            world.stands("quick"),
            world.stands("book")
        ),
        (0, 1, 1)
    );
    // Read again from anywhere, it ends the same.
    for cut in 0..=record.entries.len() {
        journal.cut(record.instance.id, u64::try_from(cut).unwrap());
        process.engine.poke();
        let again = process.settled(&Which::Id(record.instance.id)).await;
        assert_eq!(again.instance.state, State::Completed, "cut at {cut}");
        assert_eq!(world.stands("hold"), 1, "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_race_that_is_lost_later_undoes_the_winner_too() {
    let world = World::default();
    let (_journal, process) = one([race(&world, Some(refused()))]);
    let record = process.runs("race", "x").await;
    assert_eq!(record.instance.state, State::Compensated);
    for name in ["hold", "quick", "book"] {
        assert_eq!(world.stands(name), 0, "{name}: {:?}", world.story());
    }
}

/// Holds at the first provider and sends there; if that fails, at the second.
fn failover(world: &World) -> Definition<Plain> {
    let world = world.clone();
    Definition::named("failover").version(1, move |saga: Saga<Plain>, _: String| {
        let world = world.clone();
        async move {
            step(&saga, &world, "reserve").await?;
            let mut ended = Err(refused());
            for (hold, send) in [("hold north", "send north"), ("hold south", "send south")] {
                let world = world.clone();
                ended = saga
                    .part(send, |part| {
                        let world = world.clone();
                        async move {
                            step(&part, &world, hold).await?;
                            step(&part, &world, send).await
                        }
                    })
                    .await;
                if ended.is_ok() {
                    break;
                }
            }
            ended?;
            step(&saga, &world, "book").await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_is_undone_before_the_saga_goes_on_another_way() {
    let world = World::default();
    world.fails("send north", [refused()]);
    let (_journal, process) = one([failover(&world)]);
    let record = process.runs("failover", "f").await;
    assert_eq!(record.instance.state, State::Completed);
    let story = [
        "reserve",
        "hold north",
        "undo hold north",
        "hold south",
        "send south",
        "book",
    ];
    assert_eq!(world.story(), story);
}

#[tokio::test(start_paused = true)]
async fn parts_bear_every_fault() {
    let runs = trunkline_testkit::saga::exhaust(|about, probe| async move {
        let (world, env) = (World::default(), crate::world::env());
        let journal = std::sync::Arc::new(trunkline_saga::MemoryJournal::new(env.clone()));
        let how = (
            [failover(&world)],
            trunkline_saga::Settings::default(),
            Some(probe),
        );
        let process = crate::world::Process::with(&journal, &env, how);
        let record = process.runs("failover", "f").await;
        let done = usize::from(record.instance.state == State::Completed);
        assert_eq!(world.stands("reserve"), done, "{about}");
        assert_eq!(world.stands("book"), done, "{about}");
        let sent = world.stands("send north") + world.stands("send south");
        let held = world.stands("hold north") + world.stands("hold south");
        assert_eq!((sent, held), (done, done), "{about}: {:?}", world.story());
        record.instance.state
    })
    .await;
    assert!(runs > 50, "{runs} runs");
}

/// A parent that does something, has a child, and fails afterwards if it is told to.
fn family(world: &World, fails: bool) -> [Definition<Plain>; 2] {
    let (of_parent, of_child) = (world.clone(), world.clone());
    let parent = Definition::named("parent").version(1, move |saga: Saga<Plain>, _: String| {
        let world = of_parent.clone();
        async move {
            step(&saga, &world, "before").await?;
            let said: String = saga.child("child", &"go").await?;
            if fails { Err(refused()) } else { Ok(said) }
        }
    });
    let child = Definition::named("child").version(1, move |saga: Saga<Plain>, _: String| {
        let world = of_child.clone();
        async move {
            step(&saga, &world, "inner").await?;
            saga.sleep("inner rest", Duration::from_secs(600)).await?;
            step(&saga, &world, "more").await
        }
    });
    [parent, child]
}

async fn child_of(process: &crate::world::Process) -> trunkline_saga::Instance {
    let query = Query {
        saga: Some("child".into()),
        ..Query::default()
    };
    let mut found = process.engine.list(&query).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_parent_goes_on_as_soon_as_its_child_has_ended() {
    let world = World::default();
    let (_journal, process) = one(family(&world, false));
    let parent = process.runs("parent", "p").await.instance;
    assert_eq!(parent.changed_at, child_of(&process).await.changed_at);
}

#[tokio::test(start_paused = true)]
async fn a_child_gives_what_it_returns() {
    let world = World::default();
    let (_journal, process) = one(family(&world, false));
    let record = process.runs("parent", "p").await;
    assert_eq!(record.instance.state, State::Completed);
    assert_eq!(
        record.instance.output.unwrap().get::<String>().unwrap(),
        "more-done"
    );
    let child = child_of(&process).await;
    assert_eq!(child.parent, Some(record.instance.id));
    assert_eq!(child.correlation_id, "p");
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_fails_has_its_child_undo_itself() {
    let world = World::default();
    let (_journal, process) = one(family(&world, true));
    let record = process.runs("parent", "p").await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(
        world.story(),
        [
            "before",
            "inner",
            "more",
            "undo more",
            "undo inner",
            "undo before"
        ]
    );
    assert_eq!(child_of(&process).await.state, State::Compensated);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_fails_its_parent() {
    let world = World::default();
    world.fails("more", [refused()]);
    let (_journal, process) = one(family(&world, false));
    let record = process.runs("parent", "p").await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(record.instance.error.unwrap().code, "refused");
    assert_eq!(
        world.story(),
        ["before", "inner", "undo inner", "undo before"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_cancelled_cancels_its_child() {
    let world = World::default();
    let (_journal, process) = one(family(&world, false));
    let id = Which::Id(process.start("parent", "p").await.id);
    eventually(Duration::from_secs(30), async || world.stands("inner") == 1).await;
    process
        .engine
        .cancel(&id, "no need any more")
        .await
        .unwrap();
    let record = process.settled(&id).await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(record.instance.error.unwrap().code, "saga_cancelled");
    assert_eq!(child_of(&process).await.state, State::Compensated);
    assert_eq!(
        world.story(),
        ["before", "inner", "undo inner", "undo before"]
    );
    let undone = record
        .entries
        .iter()
        .filter(|e| matches!(e.body, Body::Undone { .. }));
    assert_eq!(undone.count(), 1);
}
