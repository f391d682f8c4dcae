use std::time::Duration;

use rdkafka::Timestamp;
use rdkafka::message::OwnedMessage;
use trunkline_core::Env;

use super::*;
use crate::wire::Scratch;

fn records(offsets: &[i64]) -> Vec<(i64, Raw)> {
    let record = |offset: &i64| {
        let (topic, at) = ("t".to_owned(), Timestamp::CreateTime(0));
        let record = OwnedMessage::new(None, None, topic, at, 0, *offset, None);
        let raw = Raw::copy(&record, &Env::system(), &mut Scratch::default());
        (*offset, raw)
    };
    offsets.iter().map(record).collect()
}

fn ledger(offsets: &[i64]) -> Ledger {
    let mut ledger = Ledger::new(None);
    assert_eq!(ledger.next_token(), 0);
    assert!(ledger.out(0, records(offsets)));
    assert_eq!(ledger.next_token(), offsets.len() as u64);
    ledger
}

#[test]
fn tokens_told_before_hold_whatever_is_settled_until_they_are_out() {
    let now = Instant::now();
    // Nothing is settled meanwhile, some of it in any order, or all of it.
    for settled in [&[][..], &[0], &[2], &[2, 0], &[1, 2, 0]] {
        let mut ledger = ledger(&[10, 11, 12]);
        let first = ledger.next_token();
        for token in settled {
            assert!(ledger.ack(*token));
        }
        assert!(!ledger.ack(first), "it is not out yet");
        assert!(!ledger.retry(first, now), "it is not out yet");
        assert!(!ledger.begin(first), "it is not out yet");
        assert!(ledger.out(first, records(&[20, 21])));
        assert!(ledger.retry(first + 1, now));
        let again: Vec<_> = ledger.due(9, now).iter().map(|one| one.offset).collect();
        assert_eq!(again, [21], "{settled:?}");
        for token in (0..first + 2).filter(|token| !settled.contains(token)) {
            assert!(ledger.ack(token), "{token} after {settled:?}");
        }
        assert_eq!(ledger.uncommitted(), Some(22));
    }
}

#[test]
fn the_position_is_the_lowest_unfinished_offset_over_gaps() {
    let mut ledger = ledger(&[10, 11, 15, 16]);
    assert_eq!(ledger.uncommitted(), None);
    assert!(ledger.ack(1));
    assert_eq!(
        (ledger.progress(), ledger.uncommitted()),
        ((Some(10), 1), None)
    );
    assert!(ledger.ack(0));
    assert_eq!(ledger.uncommitted(), Some(15));
    ledger.committed = Some(15);
    assert!(ledger.ack(3));
    assert_eq!(ledger.uncommitted(), None);
    assert!(ledger.ack(2));
    assert_eq!(
        (ledger.progress(), ledger.uncommitted()),
        ((Some(17), 0), Some(17))
    );
    assert!(!ledger.ack(2), "it was settled before");
    assert!(!ledger.ack(9), "there is no such token");
}

#[test]
fn what_is_given_back_comes_again_in_order_when_it_is_due() {
    let mut ledger = ledger(&[1, 2, 3]);
    let now = Instant::now();
    assert!(ledger.retry(2, now));
    assert!(ledger.retry(0, now));
    assert!(ledger.retry(1, now + Duration::from_secs(1)));
    assert!(!ledger.ack(0), "it is no longer out");
    assert_eq!(ledger.next_due(), Some(now));
    let again = ledger.due(9, now);
    let told: Vec<_> = again
        .iter()
        .map(|one| (one.offset, one.redeliveries))
        .collect();
    assert_eq!(told, [(1, 1), (3, 1)]);
    assert_eq!(ledger.next_due(), Some(now + Duration::from_secs(1)));
    assert!(ledger.due(9, now).is_empty());
    assert!(ledger.ack(0));
    assert_eq!(ledger.uncommitted(), Some(2));
    let later = now + Duration::from_secs(1);
    assert!(ledger.due(0, later).is_empty());
    assert_eq!(ledger.due(1, later).len(), 1);
}

#[test]
fn nothing_begins_in_a_partition_that_moves_and_what_ended_is_void() {
    let mut ledger = ledger(&[1, 2]);
    assert!(ledger.begin(0));
    assert!(!ledger.begin(0), "it has begun");
    ledger.moving = true;
    assert!(!ledger.begin(1));
    assert_eq!(ledger.begun, 1);
    assert!(ledger.ack(0));
    assert_eq!((ledger.begun, ledger.uncommitted()), (0, Some(2)));
    assert!(!ledger.out(2, Vec::new()));
    assert_eq!(ledger.end(), 1);
    assert!(!ledger.ack(1));
    assert!(!ledger.retry(1, Instant::now()));
    assert_eq!(ledger.uncommitted(), Some(2), "it can still be committed");
}
