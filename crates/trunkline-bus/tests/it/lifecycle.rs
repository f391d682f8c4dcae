//! Starting, pausing, draining, and a transport that goes away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use trunkline_bus::memory::Memory;
use trunkline_bus::{Consumer, ConsumerConfig, Outcome, SubscriptionState};
use trunkline_core::{Env, ErrorKind, Priority};
use trunkline_testkit::{Expected, Faulty, Plan, eventually};

use crate::support::{LIMIT, Rig, busy, config, refused};

#[tokio::test]
async fn a_consumer_of_an_undeclared_topic_does_not_start() {
    let rig = Rig::new().await;
    let config = ConsumerConfig::new("g").topic("nowhere", &[Priority::Medium]);
    let worker = rig.worker("g", |_, _| async { Outcome::Done });
    let refused = Consumer::start(config, rig.ports(worker))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_paused_consumer_takes_up_nothing_until_it_is_resumed() {
    let rig = Rig::new().await;
    let consumer = rig.start(config(), |_, _| async { Outcome::Done }).await;
    rig.publish_numbered("k", 0..5).await;
    eventually(LIMIT, async || rig.history.handled("g") == 5).await;
    consumer.pause().await.unwrap();
    consumer.pause().await.unwrap();
    rig.publish_numbered("k", 5..10).await;
    let status = consumer.status().await.unwrap();
    assert_eq!(status.state, SubscriptionState::Paused);
    assert_eq!((status.lag, status.handled), (Some(5), 5));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.history.handled("g"), 5);
    consumer.resume().await.unwrap();
    eventually(LIMIT, async || rig.history.handled("g") == 10).await;
    assert_eq!(
        consumer.status().await.unwrap().state,
        SubscriptionState::Running
    );
    rig.history.assert(&Expected::exactly_once(&["g"]));
}

#[tokio::test(start_paused = true)]
async fn draining_ends_what_runs_gives_back_the_rest_and_parks_nothing() {
    let rig = Rig::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let first = rig
        .start(config(), move |event, _| {
            let held = held.clone();
            async move {
                match event.key.as_deref() {
                    Some("retries") => busy(),
                    Some("poisoned") => {
                        held.acquire().await.unwrap().forget();
                        refused()
                    }
                    _ => {
                        held.acquire().await.unwrap().forget();
                        Outcome::Done
                    }
                }
            }
        })
        .await;
    for key in ["retries", "poisoned", "a", "b"] {
        rig.publish_numbered(key, 0..5).await;
    }
    eventually(LIMIT, async || {
        let status = first.status().await.unwrap();
        status.in_flight == 3 && status.retrying_keys == 1
    })
    .await;
    let (drained, ()) = tokio::join!(first.drain(Duration::from_secs(10)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            first.status().await.unwrap().state,
            SubscriptionState::Draining
        );
        gate.add_permits(3);
    });
    drained.unwrap();
    first.drain(Duration::from_secs(1)).await.unwrap();
    assert_eq!(
        first.status().await.unwrap().state,
        SubscriptionState::Stopped
    );
    assert!(
        rig.letters().await.is_empty(),
        "shutdown makes no dead letters"
    );
    assert_eq!(rig.history.handled("g"), 2, "what was being handled ended");
    let second = rig.start(config(), |_, _| async { Outcome::Done }).await;
    eventually(LIMIT, async || rig.history.handled("g") == 20).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    eventually(LIMIT, async || {
        second.status().await.unwrap().lag == Some(0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlasts_the_limit_is_cancelled_and_its_event_comes_again() {
    let rig = Rig::new().await;
    let first = rig.start(config(), |_, _| std::future::pending()).await;
    rig.publish_numbered("k", 0..3).await;
    eventually(LIMIT, async || first.status().await.unwrap().in_flight == 1).await;
    let late = first.drain(Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    assert!(rig.letters().await.is_empty());
    let second = rig.start(config(), |_, _| async { Outcome::Done }).await;
    eventually(LIMIT, async || rig.history.handled("g") == 3).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    drop(second);
}

#[tokio::test]
async fn dropping_the_last_handle_gives_everything_back() {
    let rig = Rig::new().await;
    let first = rig.start(config(), |_, _| std::future::pending()).await;
    rig.publish_numbered("k", 0..3).await;
    eventually(LIMIT, async || first.status().await.unwrap().in_flight == 1).await;
    let clone = first.clone();
    drop(first);
    assert_eq!(
        clone.status().await.unwrap().in_flight,
        1,
        "one handle is left"
    );
    drop(clone);
    let second = rig.start(config(), |_, _| async { Outcome::Done }).await;
    eventually(LIMIT, async || rig.history.handled("g") == 3).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_broken_subscription_is_made_again() {
    let env = Env::seeded(3);
    let plan = Plan {
        seed: 3,
        disconnect: 0.2,
        ..Plan::default()
    };
    let faulty = Faulty::new(Memory::new(env.clone()), plan);
    let rig = Rig::over(Arc::new(faulty.clone()), env).await;
    let consumer = rig.start(config(), |_, _| async { Outcome::Done }).await;
    for n in 0..100 {
        rig.publish_numbered("k", n..n + 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually(LIMIT, async || rig.history.handled("g") == 100).await;
    assert!(faulty.faults() > 3, "it broke {} times", faulty.faults());
    rig.history
        .assert(&Expected::exactly_once(&["g"]).with_duplicates(100));
    faulty.set_active(false);
    let running = async || consumer.status().await.unwrap().state == SubscriptionState::Running;
    eventually(LIMIT, running).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_transport_is_waited_for_without_haste() {
    let rig = Rig::new().await;
    let consumer = rig.start(config(), |_, _| async { Outcome::Done }).await;
    rig.transport.close().await.unwrap();
    let down = async || consumer.status().await.unwrap().state == SubscriptionState::Reconnecting;
    eventually(LIMIT, down).await;
    assert_eq!(consumer.status().await.unwrap().lag, None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    consumer.drain(Duration::from_secs(1)).await.unwrap();
}
