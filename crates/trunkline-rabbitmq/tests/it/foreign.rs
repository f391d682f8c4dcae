//! Messages of programs that know nothing of Trunkline: Python's aio-pika writes and reads.

use std::process::{Command, Stdio};

use trunkline_bus::{Delivery, Transport, UNREADABLE};
use trunkline_testkit::rabbitmq::Server;
use trunkline_testkit::{numbered, python};

const CONNECT: &str = r"
import asyncio, json, sys
import aio_pika

async def connected(work):
    connection = await aio_pika.connect(sys.argv[1])
    async with connection:
        await work(await connection.channel())
";

async fn run(program: &str, url: &str) -> String {
    let mut command: Command = python::program(&format!("{CONNECT}\n{program}"));
    command.arg(url).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    String::from_utf8(output.stdout).unwrap()
}

fn ack(delivery: Delivery) {
    delivery.receipt.ack();
}

#[tokio::test]
async fn a_python_client_publishes_events() {
    let url = Server::shared().url();
    let rabbit = crate::open(&url, "prefix=python.").await;
    crate::declare(&rabbit, "orders", "g").await;
    let mut member = crate::join(&rabbit, "orders", "g").await;
    let publish = r#"
async def work(channel):
    exchange = await channel.get_exchange("python.orders")
    attributes = {"specversion": "1.0", "id": "p-1", "source": "/python", "type": "order.created",
                  "partitionkey": "k", "count": 3}
    headers = {"cloudEvents:" + name: value for name, value in attributes.items()}
    headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await exchange.publish(aio_pika.Message(b'{"total": 5}', headers=headers, content_type="application/json"),
                           routing_key="1.order.created")
    structured = dict(attributes, id="p-2", data={"total": 6})
    await exchange.publish(aio_pika.Message(json.dumps(structured).encode(),
                           content_type="application/cloudevents+json"), routing_key="1.order.created")
asyncio.run(connected(work))
"#;
    run(publish, &url).await;
    let taken = crate::take(&mut *member, 2).await;
    for (delivery, id) in taken.iter().zip(["p-1", "p-2"]) {
        assert!(delivery.unreadable.is_none(), "{:?}", delivery.unreadable);
        assert_eq!(delivery.envelope.id, id);
        assert_eq!(delivery.envelope.event_type, "order.created");
        assert_eq!(
            (delivery.partition, &*delivery.envelope.topic),
            (1, "orders")
        );
    }
    let first = &taken[0].envelope;
    assert_eq!(first.key.as_deref(), Some("k"));
    assert_eq!(first.data, r#"{"total": 5}"#);
    let trace = first.trace.expect("a trace").to_string();
    assert!(trace.contains("0af7651916cd43dd8448eb211c80319c"));
    taken.into_iter().for_each(ack);
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_event_is_delivered_with_its_reason_and_nothing_stops() {
    let url = Server::shared().url();
    let rabbit = crate::open(&url, "prefix=strange.&event_mib=1").await;
    crate::declare(&rabbit, "t", "g").await;
    let mut member = crate::join(&rabbit, "t", "g").await;
    let publish = r#"
from datetime import datetime
async def work(channel):
    exchange = await channel.get_exchange("strange.t")
    async def send(body, **properties):
        await exchange.publish(aio_pika.Message(body, **properties), routing_key="0.whatever")
    await send(b"hello", content_type="text/plain")
    await send(bytes([0xff, 0xfe, 0]))
    await send(b"[1, 2", content_type="application/json")
    await send(b"{}", headers={"cloudEvents:specversion": "1.0", "cloudEvents:id": bytearray(b"\xff\xfe")})
    await send(b"{}", headers={"a": {"deep": [1, "x", None]}, "at": datetime.now(), "b": bytearray(b"\xff")})
    await send(b"x" * (10 << 20))
asyncio.run(connected(work))
"#;
    run(publish, &url).await;
    rabbit.publish(&[numbered("t", "k", 0)]).await.unwrap();
    let taken = crate::take(&mut *member, 7).await;
    let (good, bad): (Vec<_>, Vec<_>) = taken
        .into_iter()
        .partition(|delivery| delivery.unreadable.is_none());
    assert_eq!((good.len(), bad.len()), (1, 6));
    assert_eq!(good[0].envelope.id, "k/0");
    for delivery in &bad {
        assert_eq!(delivery.envelope.event_type, UNREADABLE);
        assert!(delivery.envelope.id.starts_with("t/0/"));
    }
    assert_eq!(bad[0].envelope.data, "hello");
    let code = |delivery: &Delivery| delivery.unreadable.as_ref().unwrap().code().to_owned();
    assert!(bad[..5].iter().all(|bad| code(bad) == "event_form_invalid"));
    assert_eq!(code(&bad[5]), "event_too_large");
    good.into_iter().chain(bad).for_each(ack);
}

#[tokio::test]
async fn a_python_client_reads_events() {
    let url = Server::shared().url();
    let rabbit = crate::open(&url, "prefix=read.").await;
    crate::declare(&rabbit, "orders", "g").await;
    let read = r##"
async def work(channel):
    queue = await channel.declare_queue("from-python", durable=True)
    await queue.bind("read.orders", "#")
    while True:
        message = await queue.get(fail=False)
        if message:
            break
        await asyncio.sleep(0.05)
    await message.ack()
    print(json.dumps({"headers": {name: str(value) for name, value in message.headers.items()},
                      "body": message.body.decode(), "type": message.type, "id": message.message_id,
                      "content_type": message.content_type, "key": message.routing_key}))
asyncio.run(connected(work))
"##;
    let bind = r##"
async def work(channel):
    queue = await channel.declare_queue("from-python", durable=True)
    await queue.bind("read.orders", "#")
asyncio.run(connected(work))
"##;
    run(bind, &url).await;
    let event = numbered("orders", "k", 0);
    rabbit.publish(std::slice::from_ref(&event)).await.unwrap();
    let read = run(read, &url).await;
    for expected in [
        format!(r#""cloudEvents:id": "{}""#, event.id),
        format!(r#""cloudEvents:type": "{}""#, event.event_type),
        r#""cloudEvents:specversion": "1.0""#.to_owned(),
        format!(r#""type": "{}""#, event.event_type),
        format!(r#""id": "{}""#, event.id),
        format!(r#""content_type": "{}""#, event.content_type),
        format!(r#".{}""#, event.event_type),
    ] {
        assert!(read.contains(&expected), "{expected} in {read}");
    }
}
