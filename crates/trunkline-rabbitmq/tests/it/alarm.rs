//! A server whose memory is short takes nothing from publishers.

use std::time::Duration;

use trunkline_bus::Transport;
use trunkline_core::{ErrorKind, Retry};
use trunkline_testkit::rabbitmq::Server;
use trunkline_testkit::{eventually, numbered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_fails_within_its_limit_during_an_alarm_and_then_goes_on() {
    // An alarm is the whole server's, so it has one of its own.
    let server = Server::start();
    let rabbit = crate::open(&server.url(), "timeout_ms=2000").await;
    crate::declare(&rabbit, "t", "g").await;
    let mut member = crate::join(&rabbit, "t", "g").await;
    rabbit.publish(&[numbered("t", "k", 0)]).await.unwrap();
    server.control(&["set_vm_memory_high_watermark", "0"]);
    let mut sent = 1;
    let refused = loop {
        match rabbit.publish(&[numbered("t", "k", sent)]).await {
            // The alarm may not have reached this connection yet.
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.accepted, 0);
    assert_eq!(refused.error.kind(), ErrorKind::Unavailable);
    assert_ne!(refused.error.retry(), Retry::Permanent);
    eventually(Duration::from_secs(20), async || {
        let refused = rabbit.publish(&[numbered("t", "k", sent)]).await;
        refused.is_err_and(|refused| refused.error.code() == "rabbitmq_blocked")
    })
    .await;
    // Who reads is not held up.
    let mut taken = crate::take(&mut *member, sent).await;
    taken.drain(..).for_each(|delivery| delivery.receipt.ack());
    member.flush().await.unwrap();
    server.control(&["set_vm_memory_high_watermark", "0.6"]);
    eventually(Duration::from_secs(20), async || {
        rabbit.publish(&[numbered("t", "k", sent)]).await.is_ok()
    })
    .await;
    // What was refused without an answer may have been taken before it is sent again.
    let last = format!("k/{sent}");
    let id = crate::take(&mut *member, 1).await.remove(0).envelope.id;
    assert_eq!(id, last);
}
