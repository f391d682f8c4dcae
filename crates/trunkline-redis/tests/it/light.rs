use trunkline_bus::Transport;
use trunkline_core::ErrorKind;
use trunkline_testkit::numbered;
use trunkline_testkit::redis::Server;

use super::*;

async fn light() -> (Redis, String) {
    let prefix = prefix();
    let parameters = format!("mode=pubsub&prefix={prefix}&takeover_ms=1000");
    (open(Server::shared(), &parameters).await, prefix)
}

#[tokio::test]
async fn what_is_returned_comes_again_and_what_is_no_event_is_told() {
    let (bus, prefix) = light().await;
    declare(&bus, "t", 2, &[]).await;
    let mut reader = bus.subscribe(&spec("t", None)).await.unwrap();
    bus.publish(&[numbered("t", "k", 0)]).await.unwrap();
    cli(
        Server::shared(),
        &["PUBLISH", &format!("{prefix}{{t}}"), "hello"],
    );
    let taken = take(&mut *reader, 2).await;
    assert_eq!(taken[0].envelope, numbered("t", "k", 0));
    let kind = taken[1]
        .unreadable
        .as_ref()
        .map(trunkline_core::Error::kind);
    assert_eq!(kind, Some(ErrorKind::InvalidInput));
    assert_eq!(taken[1].envelope.data, "hello");
    drop(taken);
    let again = take(&mut *reader, 2).await;
    assert!(again.iter().all(|delivery| delivery.redeliveries == 1));
    assert_eq!(again[0].envelope.id, "k/0");
    assert!(again[1].unreadable.is_some());
}

#[tokio::test]
async fn a_lost_connection_is_told_and_another_is_made() {
    let server = Server::start();
    let bus = open(&server, "mode=pubsub").await;
    declare(&bus, "t", 1, &[]).await;
    let mut reader = bus.subscribe(&spec("t", None)).await.unwrap();
    cli(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]);
    let error = tokio::time::timeout(COMES, reader.next(1))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut reader = bus.subscribe(&spec("t", None)).await.unwrap();
    bus.publish(&[numbered("t", "k", 0)]).await.unwrap();
    assert_eq!(ids(&take(&mut *reader, 1).await), ["k/0"]);
}
