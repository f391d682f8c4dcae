//! A client in another language, without Trunkline.

use std::process::{Command, Stdio};

use trunkline_bus::{Start, Transport as _};
use trunkline_testkit::kafka::Server;
use trunkline_testkit::{numbered, python, topic};

use crate::support::{open, prefix, spec, take};

/// Publishes an event by CloudEvents' binding, then reads two and prints them.
const CLIENT: &str = r#"
import json, sys
from kafka import KafkaConsumer, KafkaProducer
brokers, topic = sys.argv[1:]
producer = KafkaProducer(bootstrap_servers=brokers)
headers = [("ce_specversion", b"1.0"), ("ce_id", b"py-1"), ("ce_source", b"/python"), ("ce_type", b"sold"),
           ("ce_partitionkey", b"k"), ("content-type", b"application/json"),
           ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
producer.send(topic, key=b"k", value=b'{"price": 3}', headers=headers).get(timeout=20)
consumer = KafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest",
                         consumer_timeout_ms=20000)
for record in consumer:
    headers = {name: value.decode() for name, value in record.headers}
    print(json.dumps({"key": record.key.decode(), "value": record.value.decode(), "headers": headers,
                      "partition": record.partition}), flush=True)
    if headers["ce_id"] == "py-1":
        break
consumer.close()

class Latin(str):
    def encode(self, *_):
        return b"caf\xe9"

# A name that is not UTF-8, which no client should send.
producer.send(topic, key=b"k", value=b"{}", headers=[(Latin("name"), b"1")]).get(timeout=20)
"#;

#[tokio::test]
async fn a_python_client_reads_ours_and_we_read_its() {
    let prefix = prefix();
    let kafka = open(&prefix, "").await;
    kafka.declare(&[topic("t", 3)]).await.unwrap();
    let mut ours = numbered("t", "k", 0);
    ours.trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        .parse()
        .ok();
    kafka.publish(std::slice::from_ref(&ours)).await.unwrap();
    let run = Command::new(python::venv())
        .args([
            "-c",
            CLIENT,
            &Server::shared().brokers(),
            &format!("{prefix}t"),
        ])
        .stdin(Stdio::null())
        .output();
    let run = tokio::task::spawn_blocking(move || run)
        .await
        .unwrap()
        .expect("Python runs");
    let (told, wrong) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    let records: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(records.len(), 2, "{told}{wrong}");
    assert_eq!(records[0]["key"], "k");
    assert_eq!(records[0]["value"], "0");
    let headers = &records[0]["headers"];
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "k/0"),
        ("ce_type", "test.happened"),
        ("ce_source", "testkit"),
        ("ce_partitionkey", "k"),
        ("content-type", "application/json"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ] {
        assert_eq!(headers[name], value, "{name}: {headers}");
    }
    assert_eq!(
        records[0]["partition"], records[1]["partition"],
        "both put a key in one place"
    );

    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    let taken = take(&mut *reader, 3).await;
    assert_eq!(taken[0].envelope, ours);
    assert!(taken[1].unreadable.is_none(), "{:?}", taken[1].unreadable);
    let event = &taken[1].envelope;
    assert_eq!(
        (&*event.id, &*event.source, &*event.event_type),
        ("py-1", "/python", "sold")
    );
    assert_eq!(event.data, r#"{"price": 3}"#);
    assert_eq!(event.key.as_deref(), Some("k"));
    assert_eq!(event.trace, ours.trace);
    let error = taken[2]
        .unreadable
        .as_ref()
        .expect("its header has no name");
    assert!(error.to_string().contains("a header's name"), "{error}");
    assert_eq!(taken[2].envelope.data, "{}");
}
