//! Wrong credentials, a missing virtual host, nobody there.

use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, Error, ErrorKind};
use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
use trunkline_testkit::rabbitmq::Server;

async fn refusal(url: &str) -> Error {
    let config = RabbitConfig::from_url(url).unwrap();
    let opened = RabbitMq::connect(config, Env::system()).await;
    opened.expect_err("it is refused")
}

#[tokio::test]
async fn wrong_credentials_are_told_and_never_the_password() {
    let port = Server::shared().port();
    let error = refusal(&format!("amqp://guest:hunter2@127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(error.code(), "rabbitmq_credentials");
    let text = format!("{error:?}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_missing_virtual_host_is_told() {
    let server = Server::shared().url();
    let error = refusal(&format!("{server}/nowhere")).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.code(), "rabbitmq_vhost_missing");
    assert!(format!("{error:?}").contains("nowhere"));
}

#[tokio::test]
async fn a_virtual_host_that_is_not_the_users_is_told() {
    let server = Server::shared();
    server.control(&["add_vhost", "others"]);
    let error = refusal(&format!("{}/others", server.url())).await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = trunkline_testkit::free_port().unwrap();
    let error = refusal(&format!("amqp://127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.code(), "rabbitmq_unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_ends_its_subscription_and_comes_back_with_the_next() {
    let server = Server::shared();
    let rabbit = crate::open(&server.url(), "prefix=deleted.").await;
    crate::declare(&rabbit, "t", "g").await;
    let mut member = crate::join(&rabbit, "t", "g").await;
    server.control(&["delete_queue", "deleted.g/t/0"]);
    let error = member.next(1).await.expect_err("its queue is gone");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let mut member = crate::join(&rabbit, "t", "g").await;
    let events: Vec<_> = (0..10)
        .map(|n| trunkline_testkit::numbered("t", &format!("k{n}"), 0))
        .collect();
    rabbit.publish(&events).await.unwrap();
    assert_eq!(crate::take(&mut *member, 10).await.len(), 10);
}

#[tokio::test]
async fn a_reader_has_no_past() {
    let rabbit = crate::open(&Server::shared().url(), "prefix=past.").await;
    crate::declare(&rabbit, "t", "g").await;
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: None,
        start: Start::Committed,
        in_flight_max: 1,
    };
    let refused = rabbit.subscribe(&spec).await;
    let error = refused.expect_err("nothing was kept for it");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
