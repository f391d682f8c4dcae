use trunkline_bus::{Transport, UNREADABLE};
use trunkline_core::ErrorKind;
use trunkline_testkit::numbered;
use trunkline_testkit::redis::Server;

use super::*;

#[tokio::test]
async fn what_no_trunkline_wrote_is_delivered_with_its_reason_and_reading_goes_on() {
    let prefix = prefix();
    let parameters = format!("prefix={prefix}&event_mib=8");
    let bus = open(Server::shared(), &parameters).await;
    declare(&bus, "t", 1, &["g"]).await;
    let stream = format!("{prefix}{{t}}:0");
    let client = redis::Client::open(Server::shared().url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    raw.set_response_timeout(COMES);
    let large = vec![b'{'; 10 << 20];
    let entries: [&[(&str, &[u8])]; 7] = [
        &[("temperature", b"21")],
        &[("data", b"no json")],
        &[("data", b"\xff\xfe\x00")],
        &[("specversion", b"1.0"), ("data", b"{}")],
        &[
            ("specversion", b"0.3"),
            ("id", b"1"),
            ("source", b"s"),
            ("type", b"t"),
            ("data", b"1"),
        ],
        &[("id", b"\xc3\x28"), ("data", b"1")],
        &[("data", &large)],
    ];
    for entry in entries {
        let mut add = redis::cmd("XADD");
        add.arg(&stream).arg("*");
        for (name, value) in entry {
            add.arg(name).arg(value);
        }
        let () = add.query_async(&mut raw).await.unwrap();
    }
    bus.publish(&[numbered("t", "k", 0)]).await.unwrap();
    let mut member = join(&bus, "t", "g").await;
    let taken = take(&mut *member, 8).await;
    for (number, delivery) in taken.into_iter().enumerate() {
        let error = &delivery.unreadable;
        if number == 7 {
            assert_eq!(delivery.envelope.id, "k/0");
            assert!(error.is_none());
        } else {
            let kind = error.as_ref().map(trunkline_core::Error::kind);
            let expected = if number == 6 {
                ErrorKind::TooLarge
            } else {
                ErrorKind::InvalidInput
            };
            assert_eq!(kind, Some(expected), "{number}: {error:?}");
            assert_eq!(delivery.envelope.event_type, UNREADABLE);
            assert!(delivery.envelope.id.starts_with("t/0/"), "it says where");
        }
        ack(delivery);
    }
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn entries_of_any_id_are_read_and_settled() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &["g"]).await;
    let stream = format!("{prefix}{{t}}:0");
    // A clock that stood still, one far ahead, and the last id that there is.
    let given = ["5-7", "5-18446744073709551615", "18446744073709551614-3"];
    for id in given {
        cli(Server::shared(), &["XADD", &stream, id, "data", "no event"]);
    }
    let mut member = join(&bus, "t", "g").await;
    let taken = take(&mut *member, 3).await;
    for (delivery, id) in taken.iter().zip(given) {
        assert_eq!(delivery.envelope.id, format!("t/0/{id}"));
    }
    assert!(taken.is_sorted_by_key(|delivery| delivery.offset));
    drop(taken);
    let again = take(&mut *member, 3).await;
    assert!(again.iter().all(|delivery| delivery.redeliveries == 1));
    again.into_iter().for_each(|delivery| drop(ack(delivery)));
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn the_lag_is_right_where_redis_loses_count() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 1, &[]).await;
    let batch: Vec<_> = (0..10).map(|n| numbered("t", "k", n)).collect();
    bus.publish(&batch).await.unwrap();
    let mut reader = bus
        .subscribe(&Subscribe {
            start: Start::Earliest,
            ..spec("t", None)
        })
        .await
        .unwrap();
    assert_eq!(reader.lag().await.unwrap(), 10);
    let taken = take(&mut *reader, 10).await;
    let middle = Start::Offset(taken[6].offset);
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    assert_eq!(reader.lag().await.unwrap(), 0);
    // Redis knows no lag of a group that begins in the middle.
    let mut member = bus
        .subscribe(&Subscribe {
            start: middle,
            ..spec("t", Some("g"))
        })
        .await
        .unwrap();
    let groups = cli(
        Server::shared(),
        &["XINFO", "GROUPS", &format!("{prefix}{{t}}:0")],
    );
    assert!(
        groups.ends_with("lag"),
        "it says nothing after it: {groups}"
    );
    assert!(
        (1..=10).contains(&member.lag().await.unwrap()),
        "an estimate"
    );
    let taken = take(&mut *member, 4).await;
    assert_eq!(ids(&taken), ["k/6", "k/7", "k/8", "k/9"]);
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    assert_eq!(member.lag().await.unwrap(), 0);
}
