use trunkline_bus::Settlement::{Ack, Retry};
use trunkline_testkit::numbered;

use super::*;

fn id(number: u64) -> Id {
    Id {
        millis: number,
        sequence: 0,
    }
}

fn read(number: u64) -> Read {
    Read {
        envelope: numbered("t", "k", usize::try_from(number).unwrap()),
        unreadable: None,
    }
}

/// A cursor with entries `1..=count` to take.
fn cursor(count: u64) -> Cursor {
    let mut cursor = Cursor::new("t".into(), 0, "s".into());
    cursor.open(Id::ZERO, Some(100), Phase::Fresh);
    for number in 1..=count {
        cursor.fill(Fetched {
            id: id(number),
            read: read(number),
            bytes: 10,
        });
    }
    cursor
}

fn take(cursor: &mut Cursor, room: usize) -> Vec<(u64, u32)> {
    let mut taken = Vec::new();
    cursor.take(room, Instant::now(), &mut taken);
    let taken = taken.into_iter();
    taken.map(|one| (one.id.millis, one.redeliveries)).collect()
}

fn settle(cursor: &mut Cursor, number: u64, how: Settlement) -> bool {
    cursor.settle(id(number), how, Instant::now())
}

/// Plans and writes; gives what was acknowledged, what became pending, and the position with its count.
type Written = (Vec<u64>, Vec<(u32, u64)>, Option<(u64, Option<u64>)>);

fn write(cursor: &mut Cursor, all: bool) -> Option<Written> {
    let plan = cursor.plan(all)?;
    cursor.apply(&plan);
    Some((
        plan.acknowledge.iter().map(|id| id.millis).collect(),
        plan.claim
            .iter()
            .map(|(tries, id)| (*tries, id.millis))
            .collect(),
        plan.position.map(|(id, count)| (id.millis, count)),
    ))
}

#[test]
fn what_is_settled_in_order_only_moves_the_position() {
    let mut cursor = cursor(5);
    assert_eq!(take(&mut cursor, 4), [(1, 0), (2, 0), (3, 0), (4, 0)]);
    assert_eq!(write(&mut cursor, false), None);
    assert!(settle(&mut cursor, 1, Ack));
    assert!(settle(&mut cursor, 2, Ack));
    assert_eq!(
        write(&mut cursor, false),
        Some((vec![], vec![], Some((2, Some(102)))))
    );
    assert_eq!(write(&mut cursor, false), None);
    assert!(
        !settle(&mut cursor, 2, Ack),
        "what is done can't be done again"
    );
}

#[test]
fn what_was_overtaken_is_pending_until_it_is_done() {
    let mut cursor = cursor(4);
    take(&mut cursor, 4);
    settle(&mut cursor, 3, Ack);
    let overtaken = vec![(1, 1), (1, 2)];
    assert_eq!(
        write(&mut cursor, false),
        Some((vec![], overtaken, Some((3, Some(103)))))
    );
    settle(&mut cursor, 2, Ack);
    settle(&mut cursor, 1, Ack);
    assert_eq!(write(&mut cursor, false), Some((vec![2, 1], vec![], None)));
    assert_eq!(cursor.pending(), 0);
}

#[test]
fn what_is_settled_while_it_is_being_written_is_not_forgotten() {
    let mut cursor = cursor(3);
    take(&mut cursor, 3);
    settle(&mut cursor, 2, Ack);
    let plan = cursor.plan(false).unwrap();
    settle(&mut cursor, 1, Ack);
    settle(&mut cursor, 3, Ack);
    cursor.apply(&plan);
    assert_eq!(
        write(&mut cursor, false),
        Some((vec![1], vec![], Some((3, Some(103)))))
    );
}

#[test]
fn what_is_returned_comes_again_before_what_is_new_and_is_counted() {
    let mut cursor = cursor(3);
    take(&mut cursor, 2);
    settle(&mut cursor, 2, Retry(Duration::ZERO));
    settle(&mut cursor, 1, Retry(Duration::ZERO));
    assert_eq!(take(&mut cursor, 9), [], "it is fetched first");
    let ids = cursor.fetch_due(9, Instant::now());
    assert_eq!(take(&mut cursor, 9), [], "it is still being fetched");
    for id in ids {
        cursor.refill(id, Some(read(id.millis)));
    }
    assert_eq!(take(&mut cursor, 9), [(1, 1), (2, 1), (3, 0)]);
    // All three are out, two for the second time.
    let pending = vec![(1, 3), (2, 1), (2, 2)];
    assert_eq!(
        write(&mut cursor, true),
        Some((vec![], pending, Some((3, Some(103)))))
    );
    settle(&mut cursor, 1, Retry(Duration::from_secs(3600)));
    assert!(!cursor.is_due(Instant::now()));
    assert!(cursor.next_due(Instant::now()).is_some());
    assert_eq!(cursor.pending(), 3);
}

#[test]
fn what_was_pending_comes_first_with_its_count() {
    let mut cursor = cursor(0);
    cursor.open(id(10), None, Phase::Pending(Id::ZERO));
    cursor.fill(Fetched {
        id: id(11),
        read: read(11),
        bytes: 1,
    });
    assert_eq!(
        take(&mut cursor, 9),
        [],
        "nothing new before what was pending"
    );
    let now = Instant::now();
    cursor.pend(&[(id(4), 2), (id(7), 1), (id(8), 5)], None, now);
    cursor.fill(Fetched {
        id: id(11),
        read: read(11),
        bytes: 1,
    });
    for id in cursor.fetch_due(9, now) {
        // Entry 7 was deleted meanwhile.
        cursor.refill(id, (id.millis != 7).then(|| read(id.millis)));
    }
    assert_eq!(take(&mut cursor, 9), [(4, 2), (8, 5), (11, 0)]);
    settle(&mut cursor, 11, Ack);
    let written = (vec![7], vec![(3, 4), (6, 8)], Some((11, None)));
    assert_eq!(write(&mut cursor, false), Some(written));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_or_begun_once_the_lease_may_be_over() {
    let mut cursor = cursor(2);
    cursor.lease_until = Some(Instant::now() + Duration::from_secs(1));
    assert_eq!(take(&mut cursor, 1), [(1, 0)]);
    assert!(cursor.begin(id(1), Instant::now()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!cursor.begin(id(1), Instant::now()));
    assert_eq!(take(&mut cursor, 1), []);
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_given_back_when_nothing_of_it_has_begun() {
    let patience = Duration::from_secs(1);
    let mut cursor = cursor(3);
    take(&mut cursor, 2);
    assert!(
        !cursor.is_drained(patience, Instant::now()),
        "nobody else's yet"
    );
    cursor.releasing = Some(Instant::now());
    assert_eq!(take(&mut cursor, 1), [], "nothing new is taken");
    assert!(cursor.begin(id(1), Instant::now()));
    assert!(!cursor.is_drained(patience, Instant::now()));
    tokio::time::advance(patience).await;
    assert!(
        !cursor.is_drained(patience, Instant::now()),
        "one has begun"
    );
    settle(&mut cursor, 1, Ack);
    assert!(cursor.is_drained(patience, Instant::now()));
    assert_eq!(cursor.revoke(), 1);
    assert!(!cursor.begin(id(2), Instant::now()));
    assert!(!settle(&mut cursor, 2, Ack));
    let left = (vec![], vec![(1, 2)], Some((2, Some(102))));
    assert_eq!(
        write(&mut cursor, true),
        Some(left),
        "what did not begin is pending"
    );
    let tenure = cursor.tenure;
    cursor.close();
    assert!(!cursor.is_held() && cursor.tenure > tenure);
}

#[test]
fn a_plan_of_an_earlier_tenure_changes_nothing() {
    let mut cursor = cursor(1);
    take(&mut cursor, 1);
    settle(&mut cursor, 1, Ack);
    let plan = cursor.plan(false).unwrap();
    cursor.open(Id::ZERO, None, Phase::Fresh);
    cursor.apply(&plan);
    assert_eq!(cursor.position(), Id::ZERO);
}
