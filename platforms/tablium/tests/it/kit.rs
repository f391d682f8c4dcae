//! The crash kit over the saga of a match, in a site that runs.

use std::sync::Arc;

use serde_json::json;
use trunkline::saga::State;
use trunkline_testkit::saga::{Switch, exhaust};
use trunkline_testkit::{eventually, eventually_or};

use crate::world::{SOON, User, World, quick};

#[tokio::test(flavor = "multi_thread")]
async fn a_match_bears_every_fault() {
    let switch = Arc::new(Switch::default());
    let probe = switch.clone();
    let world = World::extended(|platform| platform.saga_probe(probe)).await;
    let [ada, bob] = &[world.user("ada").await, world.user("bob").await];
    let (world, switch) = (&world, &switch);
    let runs = exhaust(|about, probe| async move {
        let before = [points(ada).await, points(bob).await];
        let mut open = quick("connect-four");
        open["stake"] = json!({ "amount": "1", "currency": "PTS" });
        switch.set(probe);
        let game = ada.opens(open).await;
        bob.joins(&game).await;
        let begun = async || world.status(&game).await != "waiting";
        eventually(SOON, begun).await;
        // Whoever called it off was first, or it is resigned now.
        world.resigns(bob, &game).await;
        let state = world.match_state(&game).await;
        world.holds_nothing().await;
        let won = i64::from(state == State::Completed);
        let after = [before[0] + won, before[1] - won];
        let settled = async || [points(ada).await, points(bob).await] == after;
        let about = || format!("{about}: {state:?}, {before:?}");
        eventually_or(SOON, settled, about).await;
        state
    })
    .await;
    assert!(runs > 30, "{runs} runs");
}

async fn points(user: &User) -> i64 {
    user.has().await.parse().unwrap()
}
