use metrics::{counter, describe_counter, gauge, histogram, with_local_recorder};

use super::Registry;
use super::family::SERIES_MAX;

fn recorded(work: impl FnOnce()) -> String {
    let registry = Registry::default();
    with_local_recorder(&registry, work);
    registry.render()
}

#[test]
fn counters_and_gauges_are_written_with_their_help() {
    let text = recorded(|| {
        describe_counter!("calls_total", "Calls,\nall of them");
        counter!("calls_total", "service" => "a\"b\\c\n").increment(2);
        counter!("calls_total", "service" => "a\"b\\c\n").increment(1);
        counter!("calls_total").increment(7);
        gauge!("lag.now").set(1.5);
        gauge!("lag.now").decrement(2.0);
    });
    let expected = "# HELP calls_total Calls,\\nall of them\n# TYPE calls_total counter\ncalls_total 7\n\
        calls_total{service=\"a\\\"b\\\\c\\n\"} 3\n# TYPE lag_now gauge\nlag_now -0.5\n";
    assert_eq!(text, expected);
}

#[test]
fn a_histogram_counts_what_lies_at_or_below_each_bound() {
    let text = recorded(|| {
        for seconds in [0.001, 0.001_1, 60.0] {
            histogram!("took_seconds", "service" => "s").record(seconds);
        }
        histogram!("rows").record(3.0);
    });
    for line in [
        "took_seconds_bucket{service=\"s\",le=\"0.0005\"} 0",
        "took_seconds_bucket{service=\"s\",le=\"0.001\"} 1",
        "took_seconds_bucket{service=\"s\",le=\"0.0025\"} 2",
        "took_seconds_bucket{service=\"s\",le=\"30\"} 2",
        "took_seconds_bucket{service=\"s\",le=\"+Inf\"} 3",
        "took_seconds_sum{service=\"s\"} 60.0021",
        "took_seconds_count{service=\"s\"} 3",
        "rows_bucket{le=\"2\"} 0",
        "rows_bucket{le=\"5\"} 1",
        "rows_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn ids_in_a_label_make_a_bounded_number_of_series() {
    let text = recorded(|| {
        for id in 0..100_000 {
            counter!("calls_total", "order" => id.to_string()).increment(1);
        }
    });
    let series = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(series.count(), SERIES_MAX + 1);
    let rest = 100_000 - SERIES_MAX;
    assert!(text.contains(&format!("calls_total{{overflow=\"true\"}} {rest}\n")));
}

#[test]
fn a_name_keeps_its_kind() {
    let text = recorded(|| {
        counter!("x").increment(1);
        gauge!("x").set(9.0);
        histogram!("x", "other" => "label").record(9.0);
    });
    assert_eq!(text, "# TYPE x counter\nx 1\n");
}
