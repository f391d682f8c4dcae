use trunkline_telemetry::prometheus;

use super::gateway;

#[tokio::test]
async fn kongs_metrics_are_among_the_platforms() {
    let registry = prometheus::install().unwrap();
    let kit = gateway(
        "
services: [{name: echo, routes: [
  {name: counted, paths: [/counted]},
  {name: shut, paths: [/shut], plugins: [{name: request-termination, config: {status_code: 403}}]},
  {name: quiet, paths: [/quiet], plugins: [{name: prometheus}]}]}]
plugins:
- {name: key-auth, config: {anonymous: nobody}}
- {name: prometheus, config: {per_consumer: true, status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}}
consumers: [{username: ann, keyauth_credentials: [{key: ann-key}]}, {username: nobody}]",
    )
    .await;
    for _ in 0..2 {
        kit.send("POST /counted", "apikey: ann-key\r\n", "12345")
            .await;
    }
    kit.get("/shut").await;
    kit.get("/quiet").await;
    let text = registry.render();
    let lines_of = |route: &str| {
        let named = format!("route=\"{route}\"");
        let lines = text
            .lines()
            .filter(move |line| line.starts_with("kong_") && line.contains(&named));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let counted = lines_of("counted");
    let has = |name: &str, labels: &[&str], value: &str| {
        let fits = |line: &&String| {
            line.starts_with(name)
                && labels.iter().all(|label| line.contains(label))
                && line.ends_with(value)
        };
        counted.iter().any(|line| fits(&line))
    };
    let labels = [
        "code=\"200\"",
        "source=\"service\"",
        "consumer=\"ann\"",
        "service=\"echo\"",
        "workspace=\"default\"",
    ];
    assert!(
        has("kong_http_requests_total", &labels, " 2"),
        "{counted:#?}"
    );
    assert!(
        has(
            "kong_bandwidth_bytes",
            &["direction=\"ingress\"", "consumer=\"ann\""],
            " 10"
        ),
        "{counted:#?}"
    );
    for name in [
        "kong_request_latency_ms_count",
        "kong_upstream_latency_ms_count",
        "kong_kong_latency_ms_count",
    ] {
        assert!(has(name, &[], " 2"), "{name}: {counted:#?}");
    }
    assert!(
        has("kong_request_latency_ms_bucket", &["le=\"60000\""], " 2"),
        "{counted:#?}"
    );
    let shut = lines_of("shut").join("\n");
    assert!(
        shut.contains("source=\"kong\"") && shut.contains("code=\"403\""),
        "{shut}"
    );
    assert!(lines_of("quiet").is_empty());
}
