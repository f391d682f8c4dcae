use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::handshake::Tuned;
use super::*;

struct Nobody;

impl Events for Nobody {
    fn ended(&self, _: Error) {}
}

const LIMIT: Duration = Duration::from_secs(10);

/// A channel whose server is the test.
fn channel() -> Channel {
    let tuned = Tuned {
        channel_max: 1,
        frame_max: 4096,
        heartbeat: Duration::from_secs(5),
    };
    let wire = Arc::new(Wire::new(&tuned, LIMIT));
    let slot = Slot {
        events: Some(Arc::new(Nobody)),
        orphaned: false,
        replies: Default::default(),
        answered: 0,
    };
    wire.channels.lock().open.insert(1, slot);
    Channel { wire, id: 1 }
}

/// Answers `count` questions, each so long after the one before.
async fn answer(channel: &Channel, count: usize, pause: Duration) {
    for _ in 0..count {
        sleep(pause).await;
        let mut channels = channel.wire.channels.lock();
        let slot = channels.open.get_mut(&1).unwrap();
        let reply = slot.next_reply().unwrap();
        // Who no longer waits need not know.
        drop(reply.send(Ok(Bytes::new())));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_last_in_line_waits_while_the_others_are_answered() {
    let channel = channel();
    let begun = Instant::now();
    let asked = futures::future::join_all((0..5).map(|_| channel.qos(1)));
    let (answers, ()) = futures::join!(asked, answer(&channel, 5, LIMIT * 8 / 10));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(begun.elapsed(), LIMIT * 4);
}

#[tokio::test(start_paused = true)]
async fn who_hears_nothing_waits_no_longer_than_the_limit() {
    let channel = channel();
    let begun = Instant::now();
    let error = channel.qos(1).await.unwrap_err();
    assert_eq!(error.code(), "rabbitmq_timeout");
    assert_eq!(begun.elapsed(), LIMIT);
    // One answer and then silence: at most one more limit after the one in which it came.
    let asked = futures::future::join_all((0..2).map(|_| channel.qos(1)));
    let first = answer(&channel, 2, Duration::from_secs(1));
    let (answers, ()) = futures::join!(asked, first);
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    assert!(begun.elapsed() <= LIMIT * 3);
}
