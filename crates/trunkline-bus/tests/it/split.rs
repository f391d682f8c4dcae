//! A bus of two engines.

use std::sync::Arc;

use trunkline_bus::memory::Memory;
use trunkline_bus::{Split, Start, Subscribe, Transport};
use trunkline_core::{Env, Envelope, ErrorKind, Priority};
use trunkline_testkit::{numbered, topic};

fn on(topic: &str, numbers: std::ops::Range<usize>) -> Vec<Envelope> {
    numbers
        .map(|number| numbered(topic, "key", number))
        .collect()
}

async fn ids(transport: &dyn Transport, topics: &[&str], count: usize) -> Vec<String> {
    let spec = Subscribe {
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: 100,
    };
    let mut subscription = transport.subscribe(&spec).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < count {
        for delivery in subscription.next(10).await.unwrap() {
            ids.push(delivery.envelope.id.to_string());
            delivery.receipt.ack();
        }
    }
    subscription.flush().await.unwrap();
    assert_eq!(subscription.lag().await.unwrap(), 0);
    ids.sort();
    ids
}

fn of(events: &[Envelope]) -> Vec<String> {
    let mut ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn each_topic_with_its_lanes_is_on_its_engine_and_is_read_with_the_others() {
    let [main, light] = [(); 2].map(|()| Arc::new(Memory::new(Env::system())));
    let split = Split::new(main.clone()).topic("chat", light.clone());
    let low = trunkline_bus::lane("chat", Priority::Low);
    split
        .declare(&[topic("games", 2), topic("chat", 2), topic(&low, 2)])
        .await
        .unwrap();
    let (games, chat, quiet) = (on("games", 0..3), on("chat", 3..6), on(&low, 6..9));
    let mixed: Vec<Envelope> = [&games[..2], &chat, &games[2..], &quiet].concat();
    split.publish(&mixed).await.unwrap();
    assert_eq!(ids(&*main, &["games"], 3).await, of(&games));
    let on_light = [chat, quiet].concat();
    assert_eq!(ids(&*light, &["chat", &low], 6).await, of(&on_light));
    for absent in [(&main, "chat"), (&light, "games")] {
        let published = absent.0.publish(&on(absent.1, 20..21)).await;
        assert_eq!(published.unwrap_err().error.kind(), ErrorKind::NotFound);
    }
    let again = on("games", 9..12);
    split.publish(&again).await.unwrap();
    let said = on("chat", 12..15);
    split.publish(&said).await.unwrap();
    let both = [again, said].concat();
    assert_eq!(ids(&split, &["games", "chat"], 6).await, of(&both));
}

#[tokio::test]
async fn what_was_published_is_a_prefix_and_all_engines_are_closed() {
    let [main, light] = [(); 2].map(|()| Arc::new(Memory::new(Env::system())));
    let split = Split::new(main.clone()).topic("chat", light.clone());
    split
        .declare(&[topic("games", 1), topic("chat", 1)])
        .await
        .unwrap();
    light.close().await.unwrap();
    let mixed: Vec<Envelope> = [on("games", 0..2), on("chat", 2..3), on("games", 3..4)].concat();
    let failed = split.publish(&mixed).await.unwrap_err();
    assert_eq!(
        (failed.accepted, failed.error.kind()),
        (2, ErrorKind::Unavailable)
    );
    let first = on("games", 0..2);
    assert_eq!(ids(&*main, &["games"], 2).await, of(&first));
    split.close().await.unwrap();
    let closed = main.publish(&on("games", 5..6)).await.unwrap_err();
    assert_eq!(closed.error.kind(), ErrorKind::Unavailable);
}
