use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use trunkline_core::{ByteString, Context, Env};

use super::{Format, Lines, init_logs};
use crate::Scope;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written by work in the scope of a context.
fn lines(format: Format, context: &Context, work: impl Fn()) -> String {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .event_format(Lines::new(format))
        .finish();
    let scope = Scope::new(&ByteString::from("order-service"), context);
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(scope.run(async { work() }));
    });
    let bytes = written.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_json_line_names_service_flow_and_trace() {
    let context = Context::root(&Env::seeded(7));
    let text = lines(Format::Json, &context, || {
        tracing::warn!(order = 7, paid = true, level = "mine", why = ?Some("x"), "not\n{} yet", "paid");
        tracing::info!(correlation_id = "its-own", "second");
    });
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    let first = &lines[0];
    assert_eq!(first["level"], "WARN");
    assert_eq!(first["message"], "not\npaid yet");
    assert_eq!(first["target"], "trunkline_telemetry::logs::tests");
    assert_eq!(first["order"], 7);
    assert_eq!(first["paid"], true);
    assert_eq!(first["why"], "Some(\"x\")");
    assert_eq!(first["service"], "order-service");
    assert_eq!(first["correlation_id"], *context.correlation_id);
    assert_eq!(
        first["trace_id"],
        format!("{:032x}", context.trace.trace_id)
    );
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
    // What the event says of itself goes before the scope.
    assert_eq!(lines[1]["correlation_id"], "its-own");
}

#[test]
fn whatever_is_in_a_field_the_line_is_one_object_that_says_it() {
    let context = Context::root(&Env::seeded(7));
    let odd = "\"quoted\" \\ \u{0}\u{8}\u{c}\u{1b}\u{7f}\r\n\t\u{2028} ü 漢 😀";
    let text = lines(Format::Json, &context, || {
        tracing::info!(
            text = odd,
            debug = ?odd,
            shown = %odd,
            least = i64::MIN,
            most = u64::MAX,
            part = 0.1,
            none = f64::NAN,
            absent = None::<&str>,
            target = "mine",
            timestamp = "never",
            text = "second",
            "{odd}"
        );
        tracing::info!(only = 1);
    });
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = &lines[0];
    for name in ["text", "shown", "message"] {
        assert_eq!(first[name], odd, "{name}");
    }
    assert_eq!(first["debug"], format!("{odd:?}"));
    assert_eq!(first["least"], i64::MIN);
    assert_eq!(first["most"], u64::MAX);
    assert_eq!(first["part"], 0.1);
    assert_eq!(first["none"], Value::Null);
    assert!(first.get("absent").is_none());
    assert_eq!(first["target"], "trunkline_telemetry::logs::tests");
    assert_eq!(lines[1]["message"], "");
    for line in &lines {
        let time = line["timestamp"].as_str().unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.123456Z".len(), "{time}");
        assert!(time.parse::<trunkline_core::Timestamp>().is_ok(), "{time}");
    }
    assert_eq!(text.matches("\"text\":").count(), 1);
    assert_eq!(text.matches("\"timestamp\":").count(), 2);
}

#[test]
fn a_line_for_people_is_one_line_whatever_is_in_it() {
    let context = Context::root(&Env::seeded(7));
    let text = lines(Format::Human, &context, || {
        tracing::info!(name = "a\nERROR forged\x1b[2J", "hello");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\x1b'));
    let expected = format!(
        " INFO trunkline_telemetry::logs::tests: hello name=a\\nERROR forged\\u{{1b}}[2J \
         service=order-service correlation_id={}\n",
        context.correlation_id
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn a_filter_that_cannot_be_understood_is_refused() {
    let error = init_logs(Format::Json, "info,=x=y").unwrap_err();
    assert_eq!(error.code(), "log_filter_invalid");
}
