use trunkline_bus::Transport;
use trunkline_core::ErrorKind;
use trunkline_testkit::redis::Server;
use trunkline_testkit::{eventually, numbered};

use super::*;

fn lease(prefix: &str, partition: u16) -> String {
    format!("{prefix}{{t}}:{partition}:lease:g")
}

#[test]
fn what_a_killed_member_had_out_comes_again_to_another_in_order_and_counted() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (dies, lives) = (runtime(), runtime());
    let (bus, prefix) = lives.block_on(fresh());
    let batch: Vec<_> = (0..5).map(|n| numbered("t", "k", n)).collect();
    lives.block_on(async {
        declare(&bus, "t", 1, &["g"]).await;
        bus.publish(&batch).await.unwrap();
    });
    let held = dies.block_on(async {
        let parameters = format!("prefix={prefix}&takeover_ms=1000");
        let bus = open(Server::shared(), &parameters).await;
        let mut member = join(&bus, "t", "g").await;
        let held = take(&mut *member, 3).await;
        let stream = format!("{prefix}{{t}}:0");
        eventually(COMES, async || {
            let pending = cli(Server::shared(), &["XPENDING", &stream, "g"]);
            pending.starts_with('3')
        })
        .await;
        // Neither is dropped: nothing of it ends in order.
        std::mem::forget((bus, member));
        held
    });
    dies.shutdown_background();
    lives.block_on(async {
        let mut member = join(&bus, "t", "g").await;
        let taken = take(&mut *member, 5).await;
        assert_eq!(ids(&taken), ["k/0", "k/1", "k/2", "k/3", "k/4"]);
        let counts: Vec<_> = taken.iter().map(|delivery| delivery.redeliveries).collect();
        assert_eq!(counts, [1, 1, 1, 0, 0]);
    });
    drop(held);
}

#[tokio::test]
async fn who_lost_a_partition_changes_nothing_in_it() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    bus.publish(&[numbered("t", "k", 0)]).await.unwrap();
    let mut first = join(&bus, "t", "g").await;
    let taken = take(&mut *first, 1).await;
    // Somebody else has it, as if the first had been paused for long.
    let lease = lease(&prefix, 0);
    cli(
        Server::shared(),
        &["SET", &lease, "another", "PX", "600000"],
    );
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    first.flush().await.unwrap();
    assert_eq!(first.lag().await.unwrap(), 1, "it did not count");
    cli(Server::shared(), &["DEL", &lease]);
    let again = take(&mut *first, 1).await;
    assert_eq!(ids(&again), ["k/0"]);
}

#[tokio::test]
async fn a_delivery_that_is_anothers_by_now_is_not_begun() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    let batch = [numbered("t", "k", 0), numbered("t", "k", 1)];
    bus.publish(&batch).await.unwrap();
    let mut member = join(&bus, "t", "g").await;
    let taken = take(&mut *member, 2).await;
    assert!(taken[0].receipt.begin());
    let lease = lease(&prefix, 0);
    cli(
        Server::shared(),
        &["SET", &lease, "another", "PX", "600000"],
    );
    eventually(COMES, async || !taken[1].receipt.begin()).await;
    assert!(!taken[0].receipt.begin());
}

#[tokio::test]
async fn partitions_are_shared_out_evenly_and_given_up_when_nothing_of_them_has_begun() {
    let prefix = prefix();
    // Leases that don't run out on a busy machine.
    let bus = open(
        Server::shared(),
        &format!("prefix={prefix}&takeover_ms=8000"),
    )
    .await;
    declare(&bus, "t", 5, &["g"]).await;
    for key in 0..50 {
        bus.publish(&[numbered("t", &format!("k{key}"), 0)])
            .await
            .unwrap();
    }
    let mut first = join(&bus, "t", "g").await;
    let mut held = take(&mut *first, 50).await;
    let begun: Vec<_> = held
        .iter()
        .filter(|delivery| delivery.partition == 0)
        .collect();
    assert!(!begun.is_empty());
    assert!(begun.iter().all(|delivery| delivery.receipt.begin()));
    let second = join(&bus, "t", "g").await;
    let third = join(&bus, "t", "g").await;
    let holders = || {
        let holders =
            (0..5).map(|partition| cli(Server::shared(), &["GET", &lease(&prefix, partition)]));
        holders.collect::<Vec<_>>()
    };
    let before = holders()[0].clone();
    eventually(COMES, async || {
        let holders = holders();
        let mut counts: Vec<_> = ["first", "second", "third"].iter().map(|_| 0).collect();
        let mut names: Vec<_> = holders.iter().filter(|name| !name.is_empty()).collect();
        names.sort();
        names.dedup();
        for (count, name) in counts.iter_mut().zip(&names) {
            *count = holders.iter().filter(|holder| holder == name).count();
        }
        counts.sort_unstable();
        counts == [1, 2, 2]
    })
    .await;
    assert_eq!(holders()[0], before, "what has begun stays");
    // What was given up can't be begun any more; what stays can.
    held.retain(|delivery| delivery.receipt.begin());
    let partitions: std::collections::BTreeSet<_> = held.iter().map(|one| one.partition).collect();
    assert!(
        partitions.contains(&0) && partitions.len() <= 2,
        "{partitions:?}"
    );
    drop((second, third));
    drop(held);
    take(&mut *first, 50).await;
}

#[tokio::test]
async fn a_group_that_is_destroyed_ends_its_subscriptions() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    let mut member = join(&bus, "t", "g").await;
    bus.publish(&[numbered("t", "k", 0), numbered("t", "k", 1)])
        .await
        .unwrap();
    let taken = take(&mut *member, 2).await;
    cli(
        Server::shared(),
        &["XGROUP", "DESTROY", &format!("{prefix}{{t}}:0"), "g"],
    );
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    let ended = tokio::time::timeout(COMES, member.next(1)).await.unwrap();
    let error = ended.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "redis_group_lost")
    );
    drop(member);
    // Who comes next makes it anew, from the earliest.
    let mut member = join(&bus, "t", "g").await;
    assert_eq!(ids(&take(&mut *member, 2).await), ["k/0", "k/1"]);
}

#[tokio::test]
async fn many_pending_events_come_in_pages_before_what_is_new() {
    let (bus, _) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    let batch: Vec<_> = (0..3000).map(|n| numbered("t", "k", n)).collect();
    bus.publish(&batch[..2500]).await.unwrap();
    let many = Subscribe {
        in_flight_max: 5000,
        ..spec("t", Some("g"))
    };
    let mut member = bus.subscribe(&many).await.unwrap();
    let held = take(&mut *member, 2500).await;
    drop(member);
    drop(held);
    bus.publish(&batch[2500..]).await.unwrap();
    let mut member = bus.subscribe(&many).await.unwrap();
    let taken = take(&mut *member, 3000).await;
    assert!(
        taken
            .iter()
            .zip(&batch)
            .all(|(got, sent)| got.envelope.id == sent.id)
    );
    let counts: Vec<_> = taken.iter().map(|delivery| delivery.redeliveries).collect();
    assert!(counts[..2500].iter().all(|count| *count == 1));
    assert!(counts[2500..].iter().all(|count| *count == 0));
}

#[tokio::test]
async fn starting_anew_forgets_what_was_pending() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    let batch: Vec<_> = (0..4).map(|n| numbered("t", "k", n)).collect();
    bus.publish(&batch).await.unwrap();
    let mut member = join(&bus, "t", "g").await;
    drop(take(&mut *member, 2).await);
    drop(member);
    let earliest = Subscribe {
        start: Start::Earliest,
        ..spec("t", Some("g"))
    };
    let mut member = bus.subscribe(&earliest).await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 4);
    let taken = take(&mut *member, 4).await;
    assert_eq!(ids(&taken), ["k/0", "k/1", "k/2", "k/3"]);
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    member.flush().await.unwrap();
    let pending = cli(
        Server::shared(),
        &["XPENDING", &format!("{prefix}{{t}}:0"), "g"],
    );
    assert!(pending.starts_with('0'), "{pending}");
    drop(member);
    // Only a topic's hash, its stream and a note of the last change are left.
    eventually(COMES, async || {
        let keys = cli(Server::shared(), &["KEYS", &format!("{prefix}*")]);
        keys.lines().count() == 3
    })
    .await;
}
