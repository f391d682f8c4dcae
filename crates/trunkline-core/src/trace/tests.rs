use super::*;
use crate::ErrorKind;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_specifications_example_is_read_and_written() {
    let trace: TraceContext = PARENT.parse().unwrap();
    assert_eq!(trace.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!(trace.span_id, 0x00f0_67aa_0ba9_02b7);
    assert!(trace.sampled);
    assert_eq!(trace.to_string(), PARENT);
    let unsampled = PARENT.replace("-01", "-00");
    assert_eq!(
        unsampled.parse::<TraceContext>().unwrap().to_string(),
        unsampled
    );
}

#[test]
fn a_later_version_may_say_more_and_this_one_may_not() {
    let later = format!("cc{}-extra", &PARENT[2..]);
    assert_eq!(
        later.parse::<TraceContext>().unwrap(),
        PARENT.parse().unwrap()
    );
    assert!(format!("{PARENT}-extra").parse::<TraceContext>().is_err());
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
    let upper = PARENT.to_uppercase();
    let version = format!("ff{}", &PARENT[2..]);
    for bad in [
        "",
        "00",
        zero_trace,
        zero_span,
        &upper,
        &version,
        &PARENT[..54],
        "00-+-é-01",
    ] {
        let error = bad.parse::<TraceContext>().unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::InvalidInput, "traceparent_invalid")
        );
    }
}

#[test]
fn a_child_is_another_span_of_the_trace() {
    let env = Env::seeded(1);
    let root = TraceContext::root(&env);
    let child = root.child(&env);
    assert_eq!(child.trace_id, root.trace_id);
    assert_ne!(child.span_id, root.span_id);
}
