use trunkline_bus::Transport;
use trunkline_core::{ErrorKind, Retry};
use trunkline_testkit::redis::Server;
use trunkline_testkit::{event, free_port, numbered, topic};

use super::*;

/// The kind, and the whole text, which never has the password.
async fn refused(server: &Server, url: &str) -> (ErrorKind, String, String) {
    let url = url.replace("HOST", &format!("127.0.0.1:{}", server.port()));
    let config = RedisConfig::from_url(&format!("{url}?timeout_ms=2000")).unwrap();
    let error = Redis::connect(config, Env::system()).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(!text.contains("hunter2"), "{text}");
    (error.kind(), error.code().to_owned(), text)
}

#[tokio::test]
async fn who_may_not_in_is_told_why_without_the_password() {
    let server = Server::start_with(&["--requirepass", "right"]);
    let place = format!("127.0.0.1:{}", server.port());
    for url in [
        "redis://HOST",
        "redis://:hunter2@HOST",
        "redis://joe:hunter2@HOST",
    ] {
        let (kind, code, text) = refused(&server, url).await;
        assert_eq!(
            (kind, &*code),
            (ErrorKind::Unauthenticated, "redis_credentials"),
            "{text}"
        );
        assert!(text.contains(&place), "it says where: {text}");
    }
    let (kind, code, text) = refused(&server, "redis://:right@HOST/999").await;
    assert_eq!(
        (kind, &*code),
        (ErrorKind::NotFound, "redis_db_missing"),
        "{text}"
    );
    let config = format!("redis://:right@{place}/1");
    let bus = Redis::connect(RedisConfig::from_url(&config).unwrap(), Env::system()).await;
    bus.unwrap().check().await.unwrap();
}

#[tokio::test]
async fn who_may_not_write_is_told_so() {
    let server = Server::start();
    let user = "reader on >secret ~* &* +@read +ping +hello +select";
    let mut arguments = vec!["ACL", "SETUSER"];
    arguments.extend(user.split(' '));
    assert_eq!(cli(&server, &arguments), "OK");
    let url = format!("redis://reader:secret@127.0.0.1:{}", server.port());
    // INFO and CONFIG are denied, too: it connects without having asked.
    let bus = Redis::connect(RedisConfig::from_url(&url).unwrap(), Env::system()).await;
    let error = bus.unwrap().declare(&[topic("t", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert_eq!(error.retry(), Retry::Permanent);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = free_port().unwrap();
    let config = RedisConfig::from_url(&format!("redis://127.0.0.1:{port}")).unwrap();
    let error = Redis::connect(config, Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn somebody_elses_keys_are_left_alone() {
    let (bus, prefix) = fresh().await;
    let server = Server::shared();
    let stream = format!("{prefix}{{t}}:1");
    cli(server, &["SET", &stream, "mine"]);
    let error = bus.declare(&[topic("t", 2)]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "redis_wrong_type")
    );
    let text = error.to_string();
    assert!(text.contains(&stream) && text.contains("string"), "{text}");
    assert_eq!(cli(server, &["GET", &stream]), "mine");
    let found = bus.publish(&[numbered("t", "k", 0)]).await.unwrap_err();
    assert_eq!(
        found.error.kind(),
        ErrorKind::NotFound,
        "nothing was declared"
    );

    // The same, found out later.
    cli(server, &["DEL", &stream]);
    declare(&bus, "t", 2, &["g"]).await;
    for partition in 0..2 {
        let stream = format!("{prefix}{{t}}:{partition}");
        cli(server, &["DEL", &stream]);
        cli(server, &["SET", &stream, "mine"]);
    }
    let batch = [numbered("t", "k", 0), numbered("t", "k", 1)];
    let refused = bus.publish(&batch).await.unwrap_err();
    assert_eq!(
        (refused.accepted, refused.error.kind()),
        (0, ErrorKind::Conflict)
    );
    assert_eq!(refused.error.retry(), Retry::Permanent);
    let refused = bus.subscribe(&spec("t", Some("g"))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
    let refused = bus.subscribe(&spec("t", None)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
}

#[tokio::test]
async fn a_topic_of_the_other_mode_is_a_conflict() {
    let (bus, prefix) = fresh().await;
    declare(&bus, "t", 2, &[]).await;
    let light = open(Server::shared(), &format!("mode=pubsub&prefix={prefix}")).await;
    for error in [
        light.declare(&[topic("t", 2)]).await.unwrap_err(),
        light.subscribe(&spec("t", None)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert!(error.to_string().contains("streams"), "{error}");
    }
}

#[tokio::test]
async fn an_event_beyond_the_bound_is_refused_and_its_prefix_kept() {
    let parameters = format!("prefix={}&event_mib=1", prefix());
    let bus = open(Server::shared(), &parameters).await;
    declare(&bus, "t", 1, &["g"]).await;
    let large = event("t", "k", "large", vec![b'1'; (1 << 20) + 1]);
    let batch = [numbered("t", "k", 0), large, numbered("t", "k", 1)];
    let refused = bus.publish(&batch).await.unwrap_err();
    assert_eq!(
        (refused.accepted, refused.error.kind()),
        (1, ErrorKind::TooLarge)
    );
    assert_eq!(refused.error.retry(), Retry::Permanent);
    let mut member = join(&bus, "t", "g").await;
    assert_eq!(ids(&take(&mut *member, 1).await), ["k/0"]);
}

#[tokio::test]
async fn a_full_server_refuses_whole_batches_and_consuming_goes_on() {
    let server = Server::start_with(&["--maxmemory-policy", "noeviction"]);
    let bus = open(&server, "takeover_ms=1000").await;
    declare(&bus, "t", 4, &["g"]).await;
    let batch: Vec<_> = (0..100)
        .map(|n| numbered("t", &format!("k{}", n % 7), n))
        .collect();
    bus.publish(&batch).await.unwrap();
    cli(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    for batch in [&batch[..], &batch[..1]] {
        let refused = bus.publish(batch).await.unwrap_err();
        assert_eq!(refused.accepted, 0);
        let (kind, code) = (refused.error.kind(), refused.error.code());
        assert_eq!(
            (kind, code),
            (ErrorKind::Unavailable, "redis_out_of_memory")
        );
    }
    // Members join, keep their partitions and settle: it is how the server gets less full.
    let mut first = join(&bus, "t", "g").await;
    let held = take(&mut *first, 100).await;
    let mut member = join(&bus, "t", "g").await;
    let again = take(&mut *member, 1).await;
    assert_eq!(
        again[0].redeliveries, 1,
        "two of the four partitions were given up"
    );
    drop((first, held, again));
    let taken = take(&mut *member, 100).await;
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    member.flush().await.unwrap();
    cli(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(member.lag().await.unwrap(), 0);
    bus.publish(&batch).await.unwrap();
    take(&mut *member, 100).await;
}

#[tokio::test]
async fn replicas_that_are_not_there_are_missed() {
    let parameters = format!("prefix={}&replicas=1&timeout_ms=200", prefix());
    let bus = open(Server::shared(), &parameters).await;
    declare(&bus, "t", 1, &[]).await;
    let refused = bus.publish(&[numbered("t", "k", 0)]).await.unwrap_err();
    assert_eq!(refused.error.code(), "redis_no_replicas");
    assert_eq!(
        refused.error.retry(),
        Retry::Unknown,
        "the server itself has it"
    );
}
