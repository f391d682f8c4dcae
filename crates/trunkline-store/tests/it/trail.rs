//! The trail: every event, found by what is known of it.

use std::time::Duration;

use trunkline_core::{Envelope, Timestamp};
use trunkline_store::{EventQuery, Trail, TrailEntry};
use trunkline_testkit::event;

use crate::common::{Place, count, on_both_engines};

on_both_engines!(
    events_are_found_by_what_is_known,
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

async fn events_are_found_by_what_is_known(place: Place) {
    let trail = filled(&place, 12).await;
    let find = async |query: EventQuery| {
        let found = trail.query(&query).await.unwrap();
        ids(&found).join(" ")
    };
    let all = EventQuery::default;
    assert_eq!(
        find(EventQuery {
            id: Some("e7".into()),
            ..all()
        })
        .await,
        "e7"
    );
    let flow = Some("flow-1".into());
    assert_eq!(
        find(EventQuery {
            correlation_id: flow.clone(),
            ..all()
        })
        .await,
        "e1 e3 e5 e7 e9 e11"
    );
    let event_type = Some("type.1".into());
    assert_eq!(
        find(EventQuery {
            event_type: event_type.clone(),
            ..all()
        })
        .await,
        "e1 e6 e11"
    );
    let both = EventQuery {
        correlation_id: flow,
        event_type,
        ..all()
    };
    assert_eq!(find(both).await, "e1 e11");
    let business_key = Some("order-2".into());
    assert_eq!(
        find(EventQuery {
            business_key,
            ..all()
        })
        .await,
        "e2 e5 e8 e11"
    );
    let since = Some(Timestamp::from_second(10).unwrap());
    assert_eq!(find(EventQuery { since, ..all() }).await, "e10 e11");
    assert_eq!(
        find(EventQuery {
            newest_first: true,
            limit: 2,
            ..all()
        })
        .await,
        "e11 e10"
    );
    assert_eq!(
        find(EventQuery {
            id: Some("nobody".into()),
            ..all()
        })
        .await,
        ""
    );
    let found = trail
        .query(&EventQuery {
            id: Some("e1".into()),
            ..all()
        })
        .await
        .unwrap();
    assert_eq!(found[0].business_keys, ["order-1", "all"]);
    assert_eq!(found[0].envelope.data, "1");
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
