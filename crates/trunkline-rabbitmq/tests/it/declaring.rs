//! Many processes declare the same topics at once, and some of them die at it.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use trunkline_bus::{TopicSpec, Transport};
use trunkline_rabbitmq::RabbitMq;
use trunkline_testkit::conformance::Breakable;
use trunkline_testkit::numbered;
use trunkline_testkit::rabbitmq::Server;

const TOPICS: usize = 12;
const PARTITIONS: u16 = 2;

fn topics(groups: &[&str]) -> Vec<TopicSpec> {
    let topic = |number| TopicSpec {
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..trunkline_testkit::topic(&format!("t{number}"), PARTITIONS)
    };
    (0..TOPICS).map(topic).collect()
}

/// The queues of these groups and the topics' own, and a binding for each queue of a group, and nothing else: from what
/// the server lists.
fn assert_all_is_there(server: &Server, prefix: &str, groups: &[&str]) {
    let lines = |what: &[&str]| {
        let listed = server.control(what);
        let mut lines: Vec<_> = listed
            .lines()
            .filter(|line| line.starts_with(prefix))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let (mut queues, mut bindings) = (Vec::new(), Vec::new());
    for topic in 0..TOPICS {
        queues.push(format!("{prefix}t{topic}/shape\t{PARTITIONS}"));
        for (group, partition) in groups
            .iter()
            .flat_map(|group| (0..PARTITIONS).map(move |partition| (group, partition)))
        {
            let queue = format!("{prefix}{group}/t{topic}/{partition}");
            bindings.push(format!("{prefix}t{topic}\t{queue}\t{partition}.#"));
            queues.push(format!("{queue}\t0"));
        }
    }
    queues.sort();
    bindings.sort();
    assert_eq!(lines(&["list_queues", "name", "messages"]), queues);
    let columns = ["source_name", "destination_name", "routing_key"];
    assert_eq!(
        lines(&[&["list_bindings"][..], &columns].concat()),
        bindings
    );
}

/// Publishes an event to each topic, and looks that each group gets each.
async fn assert_all_arrives(rabbit: &RabbitMq, groups: &[&str], number: usize) {
    let events: Vec<_> = (0..TOPICS)
        .map(|topic| numbered(&format!("t{topic}"), "k", number))
        .collect();
    rabbit.publish(&events).await.unwrap();
    for group in groups {
        for topic in 0..TOPICS {
            let mut member = crate::join(rabbit, &format!("t{topic}"), group).await;
            let taken = crate::take(&mut *member, 1).await.remove(0);
            assert_eq!(&*taken.envelope.id, format!("k/{number}"));
            taken.receipt.ack();
            member.flush().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_declare_at_once_and_some_die_at_it() {
    let server = Server::shared();
    let (url, prefix) = (server.url(), "crowd.");
    let groups = ["a", "b", "trail"];
    let all = topics(&groups);
    let crowd = join_all((0..12).map(|_| crate::open(&url, "prefix=crowd."))).await;
    let declared = crowd.into_iter().enumerate().map(async |(place, rabbit)| {
        let declaring = rabbit.declare(&all);
        if place % 3 > 0 {
            // Its connection is cut as well, as if its process were killed.
            let limit = Duration::from_millis(place as u64 * 5);
            return timeout(limit, declaring).await.unwrap_or(Ok(()));
        }
        declaring.await
    });
    for declared in join_all(declared).await {
        declared.unwrap();
    }
    assert_all_is_there(server, prefix, &groups);
    let rabbit = crate::open(&url, "prefix=crowd.").await;
    assert_all_arrives(&rabbit, &groups, 0).await;
    // A later deploy has a new group, and knows nothing of one that was.
    rabbit.declare(&topics(&["a", "new"])).await.unwrap();
    let groups = ["a", "b", "trail", "new"];
    assert_all_is_there(server, prefix, &groups);
    assert_all_arrives(&rabbit, &groups, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_found_only_when_its_groups_have_their_queues() {
    let server = Server::start();
    let groups = ["a", "b", "c"];
    let declaration = |topic: &str| TopicSpec {
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..trunkline_testkit::topic(topic, 1)
    };
    let heals = crate::open(&server.url(), "").await;
    let (mut found, mut refused) = (0, 0);
    for bytes in (0..1_800).step_by(90) {
        let topic = format!("t{bytes}");
        let dies = crate::open(&server.proxied_url(), "timeout_ms=5000").await;
        server.cut_after(bytes);
        let declared = dies.declare(&[declaration(&topic)]).await;
        drop(dies);
        server.cut_after(u32::MAX);
        // It has not declared it, and publishes if it can be found; it waits but little for who will not come.
        let other = crate::open(&server.url(), "timeout_ms=1000").await;
        match other.publish(&[numbered(&topic, "k", 0)]).await {
            Ok(()) => {
                found += 1;
                for group in groups {
                    let mut member = crate::join(&other, &topic, group).await;
                    let taken = timeout(Duration::from_secs(10), member.next(1)).await;
                    let taken = taken.unwrap_or_else(|_| {
                        panic!("cut after {bytes} bytes, {group} has lost an event")
                    });
                    assert_eq!(taken.unwrap().len(), 1);
                }
            }
            Err(error) => {
                refused += 1;
                assert!(declared.is_err(), "{error:?}");
                let code = error.error.code();
                assert!(
                    ["topic_half_declared", "topic_not_declared"].contains(&code),
                    "{error:?}"
                );
                // Whoever declares it again ends what was begun.
                heals.declare(&[declaration(&topic)]).await.unwrap();
                heals.publish(&[numbered(&topic, "k", 0)]).await.unwrap();
            }
        }
    }
    assert!(
        found > 2 && refused > 10,
        "{found} found, {refused} refused"
    );
}
