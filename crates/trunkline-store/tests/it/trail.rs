//! The trail: every event, found by what is known of it.

use std::time::Duration;

use trunkline_core::{Envelope, Timestamp};
use trunkline_store::{EventQuery, Trail, TrailEntry};
use trunkline_testkit::event;

use crate::common::{Place, count, on_both_engines};

on_both_engines!(
    events_are_found_by_what_is_known,
    whatever_an_event_holds_comes_back,
    an_event_is_recorded_once,
    a_cursor_goes_through_all,
    the_oldest_are_pruned,
);

fn entry(n: usize, set: impl FnOnce(&mut Envelope)) -> TrailEntry {
    let mut envelope = event("t", "k", &format!("e{n}"), format!("{n}"));
    set(&mut envelope);
    let business_keys = vec![format!("order-{}", n % 3).into(), "all".into()];
    TrailEntry {
        position: 0,
        recorded_at: Timestamp::UNIX_EPOCH,
        envelope,
        business_keys,
    }
}

async fn filled(place: &Place, events: usize) -> Trail {
    let trail = Trail::open(place.open().await).await.unwrap();
    let entries: Vec<_> = (0..events)
        .map(|n| {
            entry(n, |envelope| {
                envelope.correlation_id = format!("flow-{}", n % 2).into();
                envelope.event_type = format!("type.{}", n % 5).into();
                envelope.time = Timestamp::from_second(i64::try_from(n).unwrap()).unwrap();
            })
        })
        .collect();
    for batch in entries.chunks(100) {
        trail.append(batch).await.unwrap();
    }
    trail
}

fn ids(entries: &[TrailEntry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry.envelope.id.as_ref() as &str)
        .collect()
}

async fn find(trail: &Trail, set: impl FnOnce(&mut EventQuery)) -> String {
    let mut query = EventQuery::default();
    set(&mut query);
    ids(&trail.query(&query).await.unwrap()).join(" ")
}

async fn events_are_found_by_what_is_known(place: Place) {
    let trail = filled(&place, 12).await;
    assert_eq!(
        find(&trail, |query| query.id = Some("e7".into())).await,
        "e7"
    );
    assert_eq!(
        find(&trail, |query| query.id = Some("nobody".into())).await,
        ""
    );
    let flow = find(&trail, |query| query.correlation_id = Some("flow-1".into()));
    assert_eq!(flow.await, "e1 e3 e5 e7 e9 e11");
    let of_type = find(&trail, |query| query.event_type = Some("type.1".into()));
    assert_eq!(of_type.await, "e1 e6 e11");
    let both = find(&trail, |query| {
        query.correlation_id = Some("flow-1".into());
        query.event_type = Some("type.1".into());
    });
    assert_eq!(both.await, "e1 e11");
    let order = find(&trail, |query| query.business_key = Some("order-2".into()));
    assert_eq!(order.await, "e2 e5 e8 e11");
    let late = Timestamp::from_second(10).unwrap();
    assert_eq!(
        find(&trail, |query| query.since = Some(late)).await,
        "e10 e11"
    );
    let newest = find(&trail, |query| {
        (query.newest_first, query.limit) = (true, 2)
    });
    assert_eq!(newest.await, "e11 e10");
}

async fn whatever_an_event_holds_comes_back(place: Place) {
    let trail = Trail::open(place.open().await).await.unwrap();
    let odd = "a\0b\u{E000}c".to_owned();
    let mut kept = entry(1, |envelope| {
        envelope.id = odd.clone().into();
        envelope.key = Some(odd.clone().into());
        envelope.correlation_id = odd.clone().into();
        envelope.data = vec![0, 255, 0].into();
    });
    kept.business_keys = vec![odd.clone().into()];
    trail.append(&[kept.clone()]).await.unwrap();
    let query = EventQuery {
        business_key: Some(odd.into()),
        ..EventQuery::default()
    };
    let found = trail.query(&query).await.unwrap();
    assert_eq!(found[0].envelope, kept.envelope);
    assert_eq!(found[0].business_keys, kept.business_keys);
}

async fn an_event_is_recorded_once(place: Place) {
    let trail = Trail::open(place.open().await).await.unwrap();
    let other = entry(1, |envelope| envelope.source = "another".into());
    trail
        .append(&[entry(1, |_| {}), entry(1, |_| {}), other])
        .await
        .unwrap();
    trail
        .append(&[entry(1, |envelope| envelope.data = "9".into())])
        .await
        .unwrap();
    trail.append(&[]).await.unwrap();
    let found = trail.query(&EventQuery::default()).await.unwrap();
    assert_eq!(
        ids(&found),
        ["e1", "e1"],
        "the same id of another source is another event"
    );
    assert_eq!(found[0].envelope.data, "1");
}

async fn a_cursor_goes_through_all(place: Place) {
    let trail = filled(&place, 250).await;
    for newest_first in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let query = EventQuery {
                after,
                limit: 37,
                newest_first,
                ..EventQuery::default()
            };
            let page = trail.query(&query).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.position);
            seen.extend(page.into_iter().map(|entry| entry.envelope.id.to_string()));
        }
        let mut all: Vec<String> = (0..250).map(|n| format!("e{n}")).collect();
        if newest_first {
            all.reverse();
        }
        assert_eq!(seen, all);
    }
}

async fn the_oldest_are_pruned(place: Place) {
    let trail = filled(&place, 1300).await;
    let day = Duration::from_secs(86_400);
    assert_eq!(trail.prune(day, 2000).await.unwrap(), 0);
    assert_eq!(trail.prune(day, 100).await.unwrap(), 1200);
    let found = trail.query(&EventQuery::default()).await.unwrap();
    assert_eq!(found.len(), 100);
    assert_eq!(found[0].envelope.id, "e1200");
    assert_eq!(trail.prune(Duration::ZERO, 2000).await.unwrap(), 100);
    let store = place.open().await;
    assert_eq!(
        count(&store, "SELECT COUNT(*) FROM trunkline_trail_key").await,
        0
    );
}
