use bytes::Bytes;
use trunkline_core::{Env, Form};

use super::*;

/// A reader's member of one lane, to which `count` messages have come.
fn member(count: u64, in_flight_max: usize) -> Arc<Member> {
    let reader = Reader {
        form: Form::default(),
        event_bytes_max: 1 << 20,
        env: Env::system(),
    };
    let lanes = vec![Lane::new("t".into(), None, "q".to_owned())];
    let rebalance = Duration::from_secs(1);
    let member = Arc::new(Member::new(true, lanes, in_flight_max, rebalance, reader));
    let events = LaneEvents {
        member: member.clone(),
        lane: 0,
        epoch: 0,
    };
    for tag in 1..=count {
        events.delivered(Delivered {
            tag,
            redelivered: false,
            routing_key: Bytes::from_static(b"0.x"),
            properties: Bytes::new(),
            body: Bytes::new(),
        });
    }
    member
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_waits_for_others_and_no_longer_than_its_delay() {
    let member = member(1, 100);
    assert_eq!(member.acknowledge_due(), None, "nothing is settled");
    let begun = Instant::now();
    for delivery in member.next(1).await.unwrap() {
        delivery.receipt.ack();
    }
    assert_eq!(member.acknowledge_due(), Some(begun + ACK_DELAY));
    tokio::time::advance(ACK_DELAY).await;
    assert_eq!(member.acknowledge_due(), None, "it has waited");
    assert_eq!(member.state.lock().acks.count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_quarter_of_what_may_be_out_waits_no_longer() {
    let member = member(25, 100);
    let mut taken = member.next(25).await.unwrap();
    let last = taken.pop().unwrap();
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    assert!(member.acknowledge_due().is_some(), "one is missing");
    last.receipt.ack();
    assert_eq!(member.acknowledge_due(), None);
    assert_eq!(member.state.lock().acks.count, 0);
}
