use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use trunkline_gateway::{Limits, Route};

use crate::kit::{config, read_until, start_with};

#[tokio::test]
async fn an_answer_is_passed_on_while_it_is_being_made() {
    let go_on = Arc::new(Semaphore::new(0));
    let gate = go_on.clone();
    let answer = move || {
        let gate = gate.clone();
        let pieces = futures::stream::iter(["first", "second"]).then(move |piece| {
            let gate = gate.clone();
            async move {
                if piece == "second" {
                    gate.acquire().await.unwrap().forget();
                }
                Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))
            }
        });
        async { Body::from_stream(pieces) }
    };
    let router = Router::new().route("/", get(answer));
    let kit = start_with(
        config([Route::new("api", "/api")]),
        router,
        Limits::default(),
    )
    .await;
    let mut stream = kit.connect().await;
    stream
        .write_all(b"GET /api HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let said = read_until(&mut stream, "first").await;
    assert!(!said.contains("second"));
    go_on.add_permits(1);
    read_until(&mut stream, "second").await;
}

#[tokio::test]
async fn a_body_is_passed_on_while_it_comes() {
    let (seen, mut pieces) = tokio::sync::mpsc::channel::<Bytes>(8);
    let take = move |request: Request| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body().into_data_stream();
            while let Some(piece) = body.next().await {
                seen.send(piece.unwrap()).await.unwrap();
            }
            "all of it"
        }
    };
    let router = Router::new().route("/", post(take));
    let kit = start_with(
        config([Route::new("api", "/api")]),
        router,
        Limits::default(),
    )
    .await;
    let mut stream = kit.connect().await;
    let head = "POST /api HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(pieces.recv().await.unwrap(), "first");
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(pieces.recv().await.unwrap(), "second");
    read_until(&mut stream, "all of it").await;
}
