use async_nats::HeaderMap;
use trunkline_bus::UNREADABLE;
use trunkline_core::{ErrorKind, Retry, report};
use trunkline_testkit::event;

use super::*;

#[tokio::test]
async fn wrong_credentials_are_named_and_not_printed() {
    let lines =
        "jetstream { store_dir: data }\nauthorization { user: shop, password: \"s3cret/@\" }";
    let server = Server::start_with(lines);
    let connect = async |who: &str| {
        let url = server.url().replace("nats://", &format!("nats://{who}"));
        Nats::connect(NatsConfig::from_url(&url)?, Env::system()).await
    };
    for who in ["", "shop:wr0ng@", "nobody:s3cret%2F%40@", "t0ken@"] {
        let error = connect(who).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{who}: {error:?}");
        let text = format!("{error:?} {}", report(&error));
        assert!(!text.contains("wr0ng") && !text.contains("s3cret") && !text.contains("t0ken"));
        assert!(
            text.contains(&server.port().to_string()),
            "it says where: {text}"
        );
    }
    let nats = connect("shop:s3cret%2F%40@").await.unwrap();
    assert!(!format!("{nats:?}").contains("s3cret"));
    let lines = "jetstream { store_dir: data }\nauthorization { token: \"t0ken\" }";
    let server = Server::start_with(lines);
    let url = server.url().replace("nats://", "nats://t0ken@");
    let config = NatsConfig::from_url(&url).unwrap();
    Nats::connect(config, Env::system()).await.unwrap();
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused() {
    let server = Server::start_with("");
    let error = try_open(&server, "").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unsupported, "nats_jetstream_disabled")
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = trunkline_testkit::free_port().unwrap();
    let url = format!("nats://127.0.0.1:{port}?timeout_ms=500");
    let config = NatsConfig::from_url(&url).unwrap();
    let error = Nats::connect(config, Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_gone_is_not_found() {
    let (nats, prefix) = fresh().await;
    declare(&nats, "t", 1, &["g"]).await;
    publish(&nats, "k", 0..1).await;
    let stream = format!("{}t", prefix.replace('.', "="));
    bare(Server::shared())
        .await
        .delete_stream(&stream)
        .await
        .unwrap();
    let refused = nats.publish(&[numbered("t", "k", 1)]).await.unwrap_err();
    assert_eq!(refused.accepted, 0);
    assert_eq!(refused.error.kind(), ErrorKind::NotFound);
    assert_eq!(refused.error.retry(), Retry::Permanent);
    assert!(
        refused.error.to_string().contains(&stream),
        "{}",
        refused.error
    );
    let refused = nats.subscribe(&spec("t", Some("g"))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    declare(&nats, "t", 1, &["g"]).await;
    publish(&nats, "k", 1..2).await;
}

#[tokio::test]
async fn an_event_larger_than_the_server_takes_is_refused_alone() {
    let (nats, _) = fresh().await;
    declare(&nats, "t", 1, &["g"]).await;
    let large = event("t", "k", "large", vec![b'x'; 10 << 20]);
    let batch = [numbered("t", "k", 0), large, numbered("t", "k", 1)];
    let refused = nats.publish(&batch).await.unwrap_err();
    assert_eq!(refused.accepted, 1);
    assert_eq!(refused.error.kind(), ErrorKind::TooLarge);
    assert_eq!(refused.error.retry(), Retry::Permanent);
    let text = refused.error.to_string();
    assert!(
        text.contains("large") && text.contains("max_payload: 1048576"),
        "{text}"
    );
    publish(&nats, "k", 2..3).await;
    let taken = take(&mut *join(&nats, "t", "g").await, 2).await;
    assert_eq!(ids(&taken), ["k/0", "k/2"]);
}

#[tokio::test]
async fn what_no_trunkline_wrote_is_delivered_with_its_reason_and_reading_goes_on() {
    let server = Server::start_with("jetstream { store_dir: data }\nmax_payload: 16MB");
    let nats = open(&server, "").await;
    declare(&nats, "t", 1, &["g"]).await;
    let bare = bare(&server).await;
    let header = |name: &str, value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers
    };
    let large = vec![b'{'; 10 << 20];
    let foreign: [(HeaderMap, &[u8]); 6] = [
        (HeaderMap::new(), b""),
        (HeaderMap::new(), b"no json"),
        (HeaderMap::new(), b"\xff\xfe\x00"),
        (header("ce-specversion", "1.0"), b"{}"),
        (
            header("content-type", "application/cloudevents+json"),
            b"[1]",
        ),
        (HeaderMap::new(), &large),
    ];
    let count = foreign.len();
    for (headers, body) in foreign {
        let sent = bare
            .publish_with_headers("t.0", headers, body.to_vec().into())
            .await;
        sent.unwrap().await.unwrap();
    }
    publish(&nats, "k", 0..1).await;
    let mut member = join(&nats, "t", "g").await;
    let taken = take(&mut *member, count + 1).await;
    for (n, delivery) in taken.iter().take(count).enumerate() {
        let error = delivery.unreadable.as_ref().expect("it is no event");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(delivery.envelope.event_type, UNREADABLE);
        assert_eq!(delivery.envelope.id, format!("t/0/{}", n + 1));
    }
    assert_eq!(taken[count - 1].envelope.data, large);
    assert_eq!(taken[count].envelope.id, "k/0");
    assert!(taken[count].unreadable.is_none());
    ack(taken);
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}
