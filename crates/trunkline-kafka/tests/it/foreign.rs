//! Messages that no Trunkline wrote.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig as _;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use trunkline_bus::{Start, Transport as _, UNREADABLE};
use trunkline_testkit::kafka::Server;
use trunkline_testkit::{numbered, topic};

use crate::support::{group, open, prefix, producer, send, spec, take};

fn headers(pairs: &[(&str, &[u8])]) -> OwnedHeaders {
    pairs
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(*value),
            })
        })
}

#[tokio::test]
async fn what_is_no_event_comes_with_its_reason_and_the_next_goes_on() {
    let prefix = prefix();
    let kafka = open(&prefix, "").await;
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    let full = format!("{prefix}t");
    let foreign = producer();
    let record = || BaseRecord::<[u8], [u8]>::to(&full);
    let latin: &[u8] = b"caf\xe9";
    send(&foreign, record().payload(b"hello"));
    send(&foreign, record().payload(latin).key(latin));
    send(
        &foreign,
        record().payload(b"{\"no\": \"event\"}").key(b"a key"),
    );
    // A tombstone: no value at all.
    send(&foreign, record().key(b"gone"));
    let half: &[(&str, &[u8])] = &[("ce_specversion", b"1.0"), ("ce_id", b"1")];
    send(&foreign, record().payload(b"{}").headers(headers(half)));
    let wrong: &[(&str, &[u8])] = &[("ce_specversion", b"1.0"), ("ce_id", latin)];
    send(&foreign, record().payload(b"{}").headers(headers(wrong)));
    kafka.publish(&[numbered("t", "k", 0)]).await.unwrap();

    let mut member = group(&kafka, "t").await;
    let mut taken = take(&mut *member, 7).await;
    let good = taken.pop().unwrap();
    assert_eq!(good.envelope, numbered("t", "k", 0));
    assert!(good.unreadable.is_none());
    good.receipt.ack();
    let bodies: [&[u8]; 6] = [b"hello", latin, b"{\"no\": \"event\"}", b"", b"{}", b"{}"];
    let keys = [None, None, Some("a key"), Some("gone"), None, None];
    for (delivery, (body, key)) in taken.iter().zip(bodies.into_iter().zip(keys)) {
        let error = delivery.unreadable.as_ref().expect("it is no event");
        assert_eq!(error.code(), "event_form_invalid");
        assert_eq!(delivery.envelope.event_type, UNREADABLE);
        assert_eq!(delivery.envelope.data, body);
        assert_eq!(delivery.envelope.key.as_deref(), key);
        let place = format!("t/0/{}", delivery.offset);
        assert_eq!(delivery.envelope.id, place);
    }
    let tombstone = taken[3].unreadable.as_ref().unwrap().to_string();
    assert!(tombstone.contains("tombstone"), "{tombstone}");
    let header = taken[5].unreadable.as_ref().unwrap().to_string();
    assert!(header.contains("header: id"), "{header}");
    // Given back, it comes again with the same reason.
    drop(taken);
    let again = take(&mut *member, 6).await;
    assert!(again.iter().all(|delivery| delivery.redeliveries == 1));
    let told = again[3].unreadable.as_ref().unwrap().to_string();
    assert!(told.contains("tombstone"), "{told}");
    again
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn ten_mebibytes_come_whole() {
    let prefix = prefix();
    let full = format!("{prefix}t");
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", Server::shared().brokers());
    let admin = AdminClient::<DefaultClientContext>::from_config(&settings).unwrap();
    let large = NewTopic::new(&full, 1, TopicReplication::Fixed(1));
    let large = large.set("max.message.bytes", "20000000");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let made = admin.create_topics([&large], &options).await.unwrap();
    made.into_iter().for_each(|made| drop(made.unwrap()));
    let body = vec![b'x'; 10 << 20];
    send(&producer(), BaseRecord::to(&full).payload(&body[..]));
    let kafka = open(&prefix, "event_bytes_max=20000000").await;
    let event = trunkline_testkit::event("t", "k", "large", body.clone());
    kafka.publish(std::slice::from_ref(&event)).await.unwrap();
    let mut member = group(&kafka, "t").await;
    let taken = take(&mut *member, 2).await;
    assert!(taken[0].unreadable.is_some());
    assert_eq!(taken[0].envelope.data.len(), body.len());
    assert!(taken[1].envelope == event, "ours comes as it was");
}

#[tokio::test]
async fn a_foreign_event_is_read_in_either_mode() {
    let prefix = prefix();
    let kafka = open(&prefix, "").await;
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    let full = format!("{prefix}t");
    let foreign = producer();
    let binary: &[(&str, &[u8])] = &[
        ("ce_specversion", b"1.0"),
        ("ce_id", b"b-1"),
        ("ce_source", b"/shop"),
        ("ce_type", b"sold"),
        ("ce_shelf", b"7"),
        ("content-type", b"text/plain; charset=utf-8"),
        (
            "traceparent",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("something-else", b"\xff"),
    ];
    let record = BaseRecord::to(&full)
        .payload(&b"a coat"[..])
        .key(&b"customer-7"[..]);
    send(&foreign, record.headers(headers(binary)));
    let structured: &[(&str, &[u8])] = &[(
        "content-type",
        b"application/cloudevents+json; charset=UTF-8",
    )];
    let body = br#"{"specversion":"1.0","id":"s-1","source":"/shop","type":"sold","data":{"a":1}}"#;
    send(
        &foreign,
        BaseRecord::to(&full)
            .payload(&body[..])
            .headers(headers(structured)),
    );
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    let taken = take(&mut *reader, 2).await;
    let [first, second] = &taken[..] else {
        panic!()
    };
    assert!(first.unreadable.is_none(), "{:?}", first.unreadable);
    let event = &first.envelope;
    assert_eq!(
        (&*event.id, &*event.event_type, &event.data[..]),
        ("b-1", "sold", &b"a coat"[..])
    );
    assert_eq!(
        event.key.as_deref(),
        Some("customer-7"),
        "the record's key is the event's"
    );
    assert_eq!(event.content_type, "text/plain; charset=utf-8");
    assert_eq!(event.extension("shelf").map(|text| &**text), Some("\"7\""));
    let trace = event.trace.unwrap().to_string();
    assert_eq!(
        trace,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );
    assert!(second.unreadable.is_none(), "{:?}", second.unreadable);
    assert_eq!(
        (&*second.envelope.id, &second.envelope.data[..]),
        ("s-1", &b"{\"a\":1}"[..])
    );
}

#[tokio::test]
async fn a_configured_dialect_is_what_stands_on_the_wire() {
    let prefix = prefix();
    let kafka = open(&prefix, "form=storefront").await;
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    kafka.publish(&[numbered("t", "k", 0)]).await.unwrap();
    // Read without knowing the dialect, it is no event; the body is the storefront's.
    let plain = open(&prefix, "").await;
    let mut reader = plain
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    let raw = take(&mut *reader, 1).await.pop().unwrap();
    assert!(raw.unreadable.is_some());
    let body: serde_json::Value = serde_json::from_slice(&raw.envelope.data).unwrap();
    assert_eq!(body["event_id"], "k/0");
    assert_eq!(body["event_type"], "test.happened");
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    assert_eq!(
        take(&mut *reader, 1).await[0].envelope,
        numbered("t", "k", 0)
    );
}

#[tokio::test]
async fn compressed_batches_come_as_they_were() {
    let prefix = prefix();
    open(&prefix, "")
        .await
        .declare(&[topic("t", 1)])
        .await
        .unwrap();
    for (number, compression) in ["none", "gzip", "lz4", "snappy"].into_iter().enumerate() {
        let kafka = open(&prefix, &format!("compression={compression}")).await;
        let batch = [
            numbered("t", "k", 2 * number),
            numbered("t", "k", 2 * number + 1),
        ];
        kafka.publish(&batch).await.unwrap();
        kafka.close().await.unwrap();
    }
    let kafka = open(&prefix, "").await;
    let mut member = group(&kafka, "t").await;
    let taken = take(&mut *member, 8).await;
    for (number, delivery) in taken.iter().enumerate() {
        assert_eq!(delivery.envelope, numbered("t", "k", number));
    }
}
