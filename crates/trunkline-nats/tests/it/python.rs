use trunkline_testkit::python::program;

use super::*;

const READ_AND_WRITE: &str = r#"
import asyncio, sys
import nats

def partition_of(key, count):
    """Trunkline's: FNV-1a in 64 bits, both halves folded."""
    hash = 0xcbf29ce484222325
    for byte in key.encode():
        hash = (hash ^ byte) * 0x100000001b3 % 2**64
    return 0 if count == 1 else (hash ^ hash >> 32) % count

async def main(url, prefix):
    client = await nats.connect(url)
    js = client.jetstream()
    stream = (prefix + "t").replace(".", "=")
    reader = await js.pull_subscribe(f"{prefix}t.*", durable="python", stream=stream)
    for message in await reader.fetch(2, timeout=10):
        headers = message.headers
        print(message.subject.removeprefix(prefix), *(headers["ce-" + name] for name in (
            "specversion", "id", "source", "type", "partitionkey", "datacontenttype")),
            "traceparent" in headers, message.data.decode())
        await message.ack()
    subject = f"{prefix}t.{partition_of('k7', 3)}"
    await js.publish(subject, b'{"total": 12.50}', headers={
        "ce-specversion": "1.0", "ce-id": "from-python", "ce-source": "/till", "ce-type": "order.paid",
        "ce-time": "2026-01-02T03:04:05Z", "ce-partitionkey": "k7", "ce-correlationid": "flow%209",
        "traceparent": "00-000102030405060708090a0b0c0d0e0f-0102030405060708-01",
    })
    await js.publish(subject, b'{"specversion":"1.0","id":"whole","source":"/till","type":"sold","data":{"a":1}}',
        headers={"content-type": "application/cloudevents+json"})
    await js.publish(subject, b"neither")
    await client.close()

asyncio.run(main(*sys.argv[1:]))
"#;

#[tokio::test]
async fn a_python_client_reads_what_trunkline_writes_and_the_other_way_round() {
    let (nats, prefix) = fresh().await;
    declare(&nats, "t", 3, &["g"]).await;
    publish(&nats, "k7", 0..2).await;
    let mut command = program(READ_AND_WRITE);
    command.args([Server::shared().url(), prefix]);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let mut member = join(&nats, "t", "g").await;
    let taken = take(&mut *member, 5).await;
    let at = taken[0].partition;
    let expected: String = (0..2)
        .map(|n| format!("t.{at} 1.0 k7/{n} testkit test.happened k7 application/json False {n}\n"))
        .collect();
    assert_eq!(String::from_utf8_lossy(out), expected, "{err}");
    assert!(
        taken.iter().all(|delivery| delivery.partition == at),
        "it knows where a key belongs"
    );
    let paid = &taken[2].envelope;
    assert_eq!(
        (&*paid.id, &*paid.event_type, &*paid.source),
        ("from-python", "order.paid", "/till")
    );
    assert_eq!(
        (paid.key.as_deref(), &*paid.correlation_id),
        (Some("k7"), "flow 9")
    );
    assert_eq!(paid.time.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(
        paid.trace.map(|trace| trace.span_id),
        Some(0x0102_0304_0506_0708)
    );
    assert_eq!(paid.data, r#"{"total": 12.50}"#);
    let whole = &taken[3].envelope;
    assert_eq!((&*whole.id, &whole.data[..]), ("whole", &br#"{"a":1}"#[..]));
    assert!(taken[4].unreadable.is_some());
    assert_eq!(taken[4].envelope.data, "neither");
}
