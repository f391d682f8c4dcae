use std::time::Duration;

use super::*;
use crate::testing::envelope;

#[test]
fn an_event_hands_on_flow_user_and_trace_and_becomes_the_cause() {
    let env = Env::seeded(1);
    let event = envelope();
    let context = Context::of_event(&event, &env);
    assert_eq!(context.correlation_id, event.correlation_id);
    assert_eq!(context.causation_id.as_ref(), Some(&event.id));
    assert_eq!(context.user_id, event.user_id);
    assert_eq!(context.deadline, None);
    let trace = event.trace.unwrap();
    assert_eq!(context.trace.trace_id, trace.trace_id);
    assert_ne!(context.trace.span_id, trace.span_id);
}

#[test]
fn an_event_without_a_trace_begins_one() {
    let env = Env::seeded(1);
    let event = Envelope {
        trace: None,
        ..envelope()
    };
    assert_ne!(Context::of_event(&event, &env).trace.trace_id, 0);
}

#[test]
fn a_deadline_is_only_ever_shortened() {
    let (env, clock) = Env::manual(1);
    let context = Context::root(&env).within(Duration::from_secs(5), &env);
    let context = context.within(Duration::from_secs(9), &env);
    assert_eq!(context.remaining(&env), Some(Duration::from_secs(5)));
    let context = context.within(Duration::from_secs(2), &env);
    clock.advance(Duration::from_secs(1));
    assert_eq!(context.remaining(&env), Some(Duration::from_secs(1)));
    clock.advance(Duration::from_secs(5));
    assert_eq!(context.remaining(&env), Some(Duration::ZERO));
    assert_eq!(Context::root(&env).remaining(&env), None);
}

#[test]
fn a_child_is_another_span_of_the_same_flow() {
    let env = Env::seeded(1);
    let parent = Context::root(&env).with_user("ada");
    let child = parent.child(&env);
    assert_eq!(child.trace.trace_id, parent.trace.trace_id);
    assert_ne!(child.trace.span_id, parent.trace.span_id);
    assert_eq!(
        Context {
            trace: parent.trace,
            ..child
        },
        parent
    );
}
