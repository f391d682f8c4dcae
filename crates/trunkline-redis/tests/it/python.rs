use trunkline_bus::Transport;
use trunkline_testkit::numbered;
use trunkline_testkit::python::program;
use trunkline_testkit::redis::Server;

use super::*;

const READ_AND_WRITE: &str = r#"
import sys
import redis

url, stream = sys.argv[1:]
r = redis.Redis.from_url(url, decode_responses=True)
r.xgroup_create(stream, "python", id="0", mkstream=True)
[[name, entries]] = r.xreadgroup("python", "me", {stream: ">"}, count=10)
for number, fields in entries:
    for field in ("specversion", "id", "source", "type", "partitionkey", "datacontenttype", "data"):
        print(field, fields[field])
    r.xack(stream, "python", number)
assert r.xpending(stream, "python")["pending"] == 0
r.xadd(stream, {
    "specversion": "1.0", "id": "from-python", "source": "/till", "type": "order.paid",
    "time": "2026-01-02T03:04:05Z", "partitionkey": "k", "correlationid": "flow-9",
    "traceparent": "00-000102030405060708090a0b0c0d0e0f-0102030405060708-01",
    "datacontenttype": "application/json", "data": '{"total": 12.50}',
})
r.xadd(stream, {
    "datacontenttype": "application/cloudevents+json",
    "data": '{"specversion":"1.0","id":"whole","source":"/till","type":"order.paid","data":{"a":1}}',
})
r.xadd(stream, {"data": "neither"})
"#;

const LISTEN: &str = r#"
import json, sys
import redis

url, channel = sys.argv[1:]
r = redis.Redis.from_url(url, decode_responses=True)
listener = r.pubsub()
listener.subscribe(channel)
for message in listener.listen():
    if message["type"] == "subscribe":
        print("ready", flush=True)
    else:
        event = json.loads(message["data"])
        print(event["id"], event["type"], event["data"], flush=True)
        break
r.publish(channel, json.dumps({
    "specversion": "1.0", "id": "from-python", "source": "/till", "type": "order.paid", "data": 7,
}))
"#;

#[tokio::test]
async fn a_python_client_reads_what_trunkline_writes_and_the_other_way_round() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    bus.publish(&[numbered("t", "k", 7)]).await.unwrap();
    let stream = format!("{prefix}{{t}}:0");
    let mut command = program(READ_AND_WRITE);
    command.args([&Server::shared().url(), &stream]);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    let expected = "specversion 1.0\nid k/7\nsource testkit\ntype test.happened\npartitionkey k\n\
                    datacontenttype application/json\ndata 7\n";
    assert_eq!(String::from_utf8_lossy(out), expected, "{err}");
    assert!(output.status.success(), "{err}");

    let mut member = join(&bus, "t", "g").await;
    let taken = take(&mut *member, 4).await;
    let paid = &taken[1].envelope;
    assert_eq!(
        (&*paid.id, &*paid.event_type, &*paid.source),
        ("from-python", "order.paid", "/till")
    );
    assert_eq!(paid.key.as_deref(), Some("k"));
    assert_eq!(paid.correlation_id, "flow-9");
    assert_eq!(paid.time.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(
        paid.trace.map(|trace| trace.span_id),
        Some(0x0102_0304_0506_0708)
    );
    assert_eq!(paid.data, r#"{"total": 12.50}"#);
    assert_eq!(
        (&*taken[2].envelope.id, &taken[2].envelope.data[..]),
        ("whole", &br#"{"a":1}"#[..])
    );
    assert!(taken[3].unreadable.is_some());
    assert_eq!(taken[3].envelope.data, "neither");
}

#[tokio::test]
async fn a_python_client_listens_and_tells() {
    use std::io::{BufRead, BufReader};
    let prefix = prefix();
    let bus = open(Server::shared(), &format!("mode=pubsub&prefix={prefix}")).await;
    declare(&bus, "t", 1, &[]).await;
    let mut reader = bus.subscribe(&spec("t", None)).await.unwrap();
    let channel = format!("{prefix}{{t}}");
    let mut command = program(LISTEN);
    command.args([&Server::shared().url(), &channel]);
    command.stdout(std::process::Stdio::piped());
    let mut child = trunkline_testkit::Child::spawn(&mut command).unwrap();
    let mut lines = BufReader::new(child.process().stdout.take().unwrap()).lines();
    let ready = tokio::task::spawn_blocking(move || (lines.next(), lines))
        .await
        .unwrap();
    let (first, mut lines) = ready;
    assert_eq!(first.unwrap().unwrap(), "ready");
    bus.publish(&[numbered("t", "k", 7)]).await.unwrap();
    let heard = tokio::task::spawn_blocking(move || lines.next())
        .await
        .unwrap();
    assert_eq!(heard.unwrap().unwrap(), "k/7 test.happened 7");
    let taken = take(&mut *reader, 2).await;
    assert_eq!(ids(&taken), ["k/7", "from-python"]);
    assert_eq!(taken[1].envelope.data, "7");
}
