//! Spans and metrics of handled events.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use trunkline_bus::Outcome;
use trunkline_core::{Env, TraceContext};
use trunkline_telemetry::{SpanKind, SpanRecord, SpanSink, Telemetry};
use trunkline_testkit::{eventually, numbered};

use crate::support::{LIMIT, Rig, config, refused};

/// Keeps all spans.
#[derive(Default)]
struct Spans(Mutex<Vec<SpanRecord>>);

impl SpanSink for Spans {
    fn record(&self, span: &SpanRecord) {
        self.0.lock().push(span.clone());
    }
}

fn trace(span_id: u64) -> TraceContext {
    TraceContext {
        trace_id: 42,
        span_id,
        sampled: true,
    }
}

#[tokio::test]
async fn handling_an_event_is_a_span_of_its_trace() {
    let mut rig = Rig::new().await;
    let sink = Arc::new(Spans::default());
    rig.telemetry = Telemetry::new(Env::seeded(1)).with_sink(sink.clone());
    let seen = Arc::new(Mutex::new(None));
    let into = seen.clone();
    let consumer = rig
        .start(config(), move |event, _| {
            *into.lock() = event.trace;
            async { refused() }
        })
        .await;
    let mut event = numbered("t", "k", 0);
    event.trace = Some(trace(7));
    rig.publish(&[event]).await;
    eventually(LIMIT, async || rig.letters().await.len() == 1).await;
    let spans = sink.0.lock().clone();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].context.trace_id, 42);
    assert_eq!(spans[0].parent, Some(trace(7)));
    assert_eq!(spans[0].kind, SpanKind::Consumer);
    assert_eq!(spans[0].name, "handle test.happened");
    assert!(spans[0].error.as_deref().unwrap().contains("poisoned"));
    assert_eq!(
        *seen.lock(),
        Some(spans[0].context),
        "what the handler does is part of the span"
    );
    assert_eq!(
        rig.letters().await[0].envelope.trace,
        Some(trace(7)),
        "the letter keeps its own"
    );
    drop(consumer);
}

#[tokio::test]
async fn a_batch_is_one_span_with_links() {
    let mut rig = Rig::new().await;
    let sink = Arc::new(Spans::default());
    rig.telemetry = Telemetry::new(Env::seeded(1)).with_sink(sink.clone());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    let mut config = config();
    config.batch_max = 10;
    let events: Vec<_> = (0..3).map(|n| numbered("t", "k", n)).collect();
    let traced = events.into_iter().zip(1..).map(|(mut event, n)| {
        event.trace = Some(trace(n));
        event
    });
    rig.publish(&traced.collect::<Vec<_>>()).await;
    let consumer = rig
        .start(config, move |event, _| {
            into.lock().push(event.trace);
            async { Outcome::Done }
        })
        .await;
    eventually(LIMIT, async || rig.history.handled("g") == 3).await;
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().in_flight == 0
    })
    .await;
    let spans = sink.0.lock().clone();
    assert_eq!(spans.len(), 1);
    assert_ne!(
        spans[0].context.trace_id, 42,
        "it belongs to none of the traces alone"
    );
    assert_eq!(spans[0].links, [trace(1), trace(2), trace(3)]);
    assert_eq!(
        *seen.lock(),
        [1, 2, 3].map(|n| Some(trace(n))),
        "each event keeps its trace"
    );
}

#[test]
fn many_keys_make_no_new_series() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let rig = Rig::new().await;
            let consumer = rig
                .start(config(), |event, _| async move {
                    if event.id == "k3/1" { refused() } else { Outcome::Done }
                })
                .await;
            rig.publish_numbered("k", 0..2).await;
            rig.publish_numbered("k3", 0..2).await;
            eventually(LIMIT, async || rig.letters().await.len() == 1).await;
            let few = series(&handle.render());
            for key in 0..1_000 {
                rig.publish_numbered(&format!("order-{key}"), 0..1).await;
            }
            eventually(LIMIT, async || rig.history.handled("g") == 1_003).await;
            eventually(LIMIT, async || consumer.status().await.unwrap().lag == Some(0)).await;
            let text = handle.render();
            assert_eq!(series(&text), few, "{text}");
            let done = r#"trunkline_events_handled_total{service="g",group="g",event_type="test.happened",outcome="done"} 1003"#;
            assert!(text.contains(done), "{text}");
            assert!(text.contains("trunkline_consumer_lag"), "{text}");
            assert!(text.contains(r#"outcome="parked"} 1"#), "{text}");
        });
    });
}
