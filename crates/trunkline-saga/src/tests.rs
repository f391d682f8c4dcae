use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use trunkline_core::{ByteString, Envelope, Kind, Priority, Version};

use crate::{Flow, FlowError, FlowState, Obstacle, ObstacleKind};

fn order() -> Flow {
    Flow::named("order", "order_id")
        .starts_with("order.created")
        .after(
            "order.created",
            Duration::from_secs(60),
            &["payment.success", "payment.failed"],
        )
        .after(
            "payment.success",
            Duration::from_secs(10),
            &["order.confirmed"],
        )
        .after("payment.failed", Duration::from_secs(10), &["order.failed"])
        .after(
            "order.failed",
            Duration::from_secs(10),
            &["inventory.released"],
        )
        .succeeds_on("order.confirmed")
        .fails_on("inventory.released")
}

fn event(id: &str, event_type: &str, cause: Option<&str>, second: i64) -> Envelope {
    Envelope {
        id: id.into(),
        event_type: event_type.into(),
        version: Version::new(1, 0),
        source: "order-service".into(),
        time: Timestamp::from_second(second).unwrap(),
        topic: "order-events".into(),
        key: Some("42".into()),
        correlation_id: "c".into(),
        causation_id: cause.map(ByteString::from),
        trace: None,
        user_id: None,
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: r#"{"order_id":"42"}"#.into(),
    }
}

fn failed_order() -> Vec<Envelope> {
    vec![
        event("1", "order.created", None, 100),
        event("2", "payment.failed", Some("1"), 101),
        event("3", "order.failed", Some("2"), 102),
        event("4", "inventory.released", Some("3"), 103),
    ]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_running_flow_says_what_it_waits_for() {
    let story = order().story(&failed_order()[..1], &[], at(110));
    assert_eq!(story.state, FlowState::Running);
    assert_eq!(story.key.as_deref(), Some("42"));
    assert_eq!(story.expected.len(), 1);
    assert_eq!(
        story.expected[0].one_of,
        ["payment.success", "payment.failed"]
    );
    assert_eq!(story.expected[0].due, at(160));
    assert!(!story.expected[0].overdue);
}

#[test]
fn an_overdue_step_makes_it_stuck_on_that_step() {
    let story = order().story(&failed_order()[..2], &[], at(500));
    assert_eq!(story.state, FlowState::Stuck);
    assert_eq!(story.stuck_on.len(), 1);
    assert_eq!(story.stuck_on[0].event_id, "2");
    assert_eq!(story.stuck_on[0].kind, ObstacleKind::Overdue);
}

#[test]
fn a_dead_letter_of_the_story_is_named_and_others_are_not() {
    let obstacle = |event_id: &str| Obstacle {
        event_id: event_id.into(),
        kind: ObstacleKind::DeadLetter,
        at: "order-service".into(),
        reason: "a column is missing".into(),
    };
    let story = order().story(
        &failed_order()[..2],
        &[obstacle("2"), obstacle("elsewhere")],
        at(102),
    );
    assert_eq!(story.state, FlowState::Stuck);
    assert_eq!(story.stuck_on, [obstacle("2")]);
}

#[test]
fn events_are_told_in_causal_order_whatever_order_they_came_in() {
    let mut events = failed_order();
    for event in &mut events {
        event.time = at(100);
    }
    events.reverse();
    events.push(events[0].clone());
    let story = order().story(&events, &[], at(100));
    let told: Vec<_> = story
        .events
        .iter()
        .map(|told| told.event_type.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "order.created",
            "payment.failed",
            "order.failed",
            "inventory.released"
        ]
    );
    assert_eq!(story.events[3].depth, 3);
    assert_eq!(story.state, FlowState::Failed);
}

#[test]
fn without_its_start_it_is_unknown() {
    assert_eq!(
        order().story(&failed_order()[1..], &[], at(103)).state,
        FlowState::Unknown
    );
}

#[test]
fn what_came_about_in_another_way_meets_an_expectation() {
    // The order fails because its time is up; its payment fails after that.
    let events = [
        event("1", "order.created", None, 100),
        event("2", "order.failed", Some("elsewhere"), 110),
        event("3", "payment.failed", Some("1"), 111),
        event("4", "inventory.released", Some("2"), 112),
    ];
    assert_eq!(
        order().story(&events, &[], at(500)).state,
        FlowState::Failed
    );
}

#[test]
fn causes_in_a_circle_end() {
    let events = [
        event("1", "order.created", Some("2"), 1),
        event("2", "order.failed", Some("1"), 1),
    ];
    assert_eq!(order().story(&events, &[], at(1)).state, FlowState::Running);
}

#[test]
fn a_declaration_without_sense_is_refused_by_name() {
    assert_eq!(Flow::named("f", "id").check(), Err(FlowError::NoStart("f")));
    let open = Flow::named("f", "id").starts_with("a");
    assert_eq!(open.check(), Err(FlowError::NoEnd("f")));
    let dead_end = Flow::named("f", "id")
        .starts_with("a")
        .after("a", Duration::ZERO, &["b", "c"])
        .succeeds_on("b");
    assert_eq!(
        dead_end.check(),
        Err(FlowError::DeadEnd {
            flow: "f",
            event: "c"
        })
    );
    let unreachable = Flow::named("f", "id")
        .starts_with("a")
        .succeeds_on("a")
        .after("x", Duration::ZERO, &["a"]);
    assert_eq!(
        unreachable.check(),
        Err(FlowError::Unreachable {
            flow: "f",
            event: "x"
        })
    );
    assert_eq!(order().check(), Ok(()));
}

proptest! {
    /// Whatever part of a valid history is known, and whenever it is looked at, the flow is not called
    /// ended before its last event is there.
    #[test]
    fn no_part_of_a_history_is_called_ended(known in 0usize..15, now in 0i64..10_000) {
        let history = failed_order();
        let part: Vec<_> =
            history.iter().enumerate().filter(|(i, _)| known & (1 << i) != 0).map(|(_, e)| e.clone()).collect();
        let state = order().story(&part, &[], at(now)).state;
        // 15 would be all four of them.
        prop_assert!(!matches!(state, FlowState::Succeeded), "{state:?}");
        if part.iter().all(|event| &*event.event_type != "inventory.released") {
            prop_assert!(!matches!(state, FlowState::Failed), "{state:?}");
        }
    }
}
