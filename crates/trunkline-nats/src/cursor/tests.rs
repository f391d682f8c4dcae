use trunkline_bus::Settlement::{Ack, Retry};

use super::*;

const HOLD: Duration = Duration::from_secs(10);

fn message(stream: u64, consumer: u64, delivered: u64) -> (Place, Message) {
    let reply = format!("$JS.ACK.s.g-0.{delivered}.{stream}.{consumer}.1700000000000000000.0");
    let message = Message {
        subject: "t.0".into(),
        reply: Some(reply.as_str().into()),
        payload: "x".into(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    };
    (Place::read(&reply).unwrap(), message)
}

fn arrive(cursor: &mut Cursor, stream: u64, consumer: u64, delivered: u64) -> Arrived {
    let (place, message) = message(stream, consumer, delivered);
    cursor.arrive(place, message, Instant::now())
}

/// A cursor with messages 10, 20, 30 … out.
fn with(count: u64) -> Cursor {
    let mut cursor = Cursor::new(1, HOLD);
    for n in 1..=count {
        assert!(matches!(arrive(&mut cursor, n * 10, n, 1), Arrived::New(_)));
    }
    cursor
}

fn floor(cursor: &Cursor) -> Option<u64> {
    cursor
        .floor()
        .map(|reply| Place::read(reply).unwrap().stream)
}

#[test]
fn a_place_is_read_with_and_without_a_domain() {
    for prefix in ["$JS.ACK.stream.g-0", "$JS.ACK.hub.acc.stream.g-0"] {
        let suffix = if prefix.contains("hub") { ".rand" } else { "" };
        let place = Place::read(&format!("{prefix}.2.41.7.1700000000123456789.5{suffix}")).unwrap();
        assert_eq!((place.delivered, place.stream, place.consumer), (2, 41, 7));
        assert_eq!(place.at.as_nanosecond(), 1_700_000_000_123_456_789);
    }
    for wrong in ["", "_INBOX.a", "$JS.ACK.a.b.1.2", "$JS.ACK.a.b.x.2.3.4.5"] {
        assert_eq!(Place::read(wrong), None, "{wrong}");
    }
}

#[test]
fn the_floor_rises_to_the_oldest_that_is_not_settled() {
    let now = Instant::now();
    let mut cursor = with(4);
    assert_eq!(cursor.settle(1, Ack, now), Settled::Done);
    assert_eq!((floor(&cursor), cursor.tell()), (None, None));
    assert_eq!(cursor.settle(0, Ack, now), Settled::Done);
    assert_eq!(floor(&cursor), Some(20));
    assert!(cursor.tell().is_some() && cursor.tell().is_none());
    assert_eq!(cursor.settle(0, Ack, now), Settled::Not);
    assert_eq!((cursor.out(), cursor.unsettled(), cursor.span()), (2, 2, 2));
    cursor.settle(3, Ack, now);
    assert_eq!((cursor.unsettled(), cursor.span()), (1, 2));
}

#[test]
fn what_is_returned_comes_again_in_order_when_it_is_due() {
    let now = Instant::now();
    let mut cursor = with(3);
    cursor.settle(2, Retry(Duration::ZERO), now);
    cursor.settle(0, Retry(Duration::ZERO), now);
    cursor.settle(1, Retry(Duration::from_secs(1)), now);
    assert_eq!(cursor.due(), Some(now));
    let first = cursor.take_again(now).unwrap();
    assert_eq!((first.index, first.redeliveries), (0, 1));
    assert_eq!(cursor.take_again(now).unwrap().index, 2);
    assert!(cursor.take_again(now).is_none());
    assert_eq!(cursor.due(), Some(now + Duration::from_secs(1)));
    assert_eq!(
        cursor
            .take_again(now + Duration::from_secs(1))
            .unwrap()
            .index,
        1
    );
}

#[test]
fn a_long_pause_is_the_servers() {
    let now = Instant::now();
    let mut cursor = with(2);
    let away = cursor.settle(0, Retry(HOLD * 2), now);
    assert!(matches!(away, Settled::Away(reply) if Place::read(&reply).unwrap().stream == 10));
    assert_eq!(
        (cursor.out(), cursor.unsettled(), cursor.due()),
        (1, 2, None)
    );
    assert!(matches!(arrive(&mut cursor, 10, 3, 2), Arrived::Known));
    let again = cursor.take_again(now).unwrap();
    assert_eq!((again.index, again.redeliveries), (0, 2));
    cursor.settle(0, Ack, now);
    assert_eq!(floor(&cursor), Some(10));
}

#[test]
fn what_the_server_delivers_again_on_its_own_is_known() {
    let now = Instant::now();
    let mut cursor = with(2);
    cursor.settle(0, Ack, now);
    cursor.tell();
    // The second is out: nothing comes of it. The first is settled: the server is told once more.
    assert!(matches!(arrive(&mut cursor, 20, 3, 2), Arrived::Known));
    assert_eq!(cursor.tell(), None);
    assert!(matches!(arrive(&mut cursor, 10, 4, 2), Arrived::Known));
    assert!(cursor.tell().is_some());
    assert!(cursor.take_again(now).is_none());
    assert!(matches!(arrive(&mut cursor, 30, 5, 1), Arrived::New(_)));
}

#[test]
fn a_missing_delivery_is_seen() {
    let mut cursor = with(2);
    assert!(matches!(arrive(&mut cursor, 40, 4, 1), Arrived::Gap));
    assert_eq!(cursor.last(), 2);
}

#[test]
fn what_has_begun_is_counted_until_it_is_settled() {
    let now = Instant::now();
    let mut cursor = with(2);
    assert!(cursor.begin(0) && cursor.begin(0) && !cursor.begin(7));
    assert_eq!(cursor.begun(), 1);
    cursor.settle(0, Retry(Duration::ZERO), now);
    assert!(!cursor.begin(0), "it is not out");
    assert_eq!(cursor.begun(), 0);
    cursor.settle(1, Ack, now);
    assert!(!cursor.begin(1));
}

#[test]
fn the_server_hears_of_what_takes_long() {
    let now = Instant::now();
    let mut cursor = with(3);
    cursor.settle(1, Ack, now);
    cursor.settle(2, Retry(HOLD), now);
    let every = Duration::from_secs(10);
    assert!(cursor.silent(every, now + every / 2).is_empty());
    // Those that are settled behind one that is not are among them.
    assert_eq!(cursor.silent(every, now + every * 2).len(), 3);
    assert!(cursor.silent(every, now + every * 2).is_empty());
}
