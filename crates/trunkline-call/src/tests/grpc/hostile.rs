//! Services and clients that do not keep to the protocol.

use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;

/// A network on which `there` is at this address.
fn network(address: std::net::SocketAddr) -> (Network, Client) {
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    let url = format!("http://{address}");
    network.remote("there", &url, Responses::Plain).unwrap();
    let client = Client::new(network.channel("here", "there"), Context::root(&env));
    (network, client)
}

type Stream = (
    http::Request<h2::RecvStream>,
    h2::server::SendResponse<Bytes>,
);

/// What a service of HTTP/2 does with each request, and what a client then sees.
async fn served(does: fn(Stream)) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_network, client) = network(listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok(stream)) = connection.accept().await {
                    does(stream);
                }
            });
        }
    });
    let mut client = StockClient::new(client.grpc());
    let levels = match client.watch(line("tea", 1)).await {
        Ok(levels) => levels.into_inner().collect::<Vec<_>>().await,
        Err(status) => vec![Err(status)],
    };
    error(levels.into_iter().find_map(Result::err).expect("an error"))
}

fn begins() -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(()).unwrap()
}

fn told(error: &Error) -> (ErrorKind, Retry) {
    (error.kind(), error.retry())
}

#[tokio::test]
async fn a_service_that_resets_is_unavailable() {
    let refused = served(|(_, mut answer)| answer.send_reset(h2::Reason::REFUSED_STREAM)).await;
    assert_eq!(told(&refused), (ErrorKind::Unavailable, Retry::Transient));
    let reset = served(|(_, mut answer)| answer.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    assert_eq!(told(&reset), (ErrorKind::Unavailable, Retry::Unknown));
    let midway = served(|(_, mut answer)| {
        let mut body = answer.send_response(begins(), false).unwrap();
        body.send_reset(h2::Reason::CANCEL);
    });
    assert_eq!(
        told(&midway.await),
        (ErrorKind::Unavailable, Retry::Unknown)
    );
}

#[tokio::test]
async fn an_answer_without_an_end_or_of_another_form_is_an_error() {
    let short = served(|(_, mut answer)| {
        let mut body = answer.send_response(begins(), false).unwrap();
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), true)
            .unwrap();
    });
    let short = short.await;
    assert_eq!(
        (short.code(), short.retry()),
        ("answer_broken", Retry::Unknown)
    );
    let nothing = served(|(_, mut answer)| {
        answer.send_response(begins(), true).unwrap();
    });
    assert_eq!(nothing.await.code(), "answer_broken");
    let malformed = served(|(_, mut answer)| {
        let mut body = answer.send_response(begins(), false).unwrap();
        body.send_data(Bytes::from_static(&[9, 0, 0, 0, 1, 0]), true)
            .unwrap();
    });
    assert_eq!(malformed.await.kind(), ErrorKind::Internal);
    let vast = served(|(_, mut answer)| {
        let mut body = answer.send_response(begins(), false).unwrap();
        body.send_data(Bytes::from_static(&[0, 255, 255, 255, 255]), true)
            .unwrap();
    });
    assert_eq!(vast.await.code(), "out_of_range");
    let strange = served(|(_, mut answer)| {
        let mut body = answer.send_response(begins(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "ninety".parse().unwrap());
        trailers.insert("grpc-status-details-bin", "!!!".parse().unwrap());
        body.send_trailers(trailers).unwrap();
    });
    assert_eq!(strange.await.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_service_that_speaks_something_else_is_told_apart() {
    let routes = Router::new().route("/stock.v1.Stock/Watch", post(|| async { "levels" }));
    let telemetry = Telemetry::new(Env::system());
    both_ways(
        routes,
        telemetry.clone(),
        Responses::Plain,
        |client, _| async move {
            let mut client = StockClient::new(client.grpc());
            let found = error(client.watch(line("tea", 1)).await.unwrap_err());
            assert_eq!(
                (found.kind(), found.code()),
                (ErrorKind::Corrupt, "answer_invalid")
            );
            // No route: what answers knows nothing of gRPC.
            let found = error(client.reserve(line("tea", 1)).await.unwrap_err());
            assert_eq!(found.kind(), ErrorKind::NotFound);
        },
    )
    .await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_network, client) = network(listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut client = StockClient::new(client.grpc());
    let found = error(client.reserve(line("tea", 1)).await.unwrap_err());
    assert_eq!(found.kind(), ErrorKind::Unavailable, "{found:?}");
}

/// An address where the room is served, until dropped.
async fn room() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let telemetry = Telemetry::new(Env::system());
    let router = layer(
        router(&Room::default()),
        "there",
        telemetry,
        Limits::default(),
    );
    let server = JoinSet::from_iter([serve(listener, router, std::future::pending())]);
    (address, server)
}

#[tokio::test]
async fn clients_that_send_nonsense_are_cut_off_and_others_go_on() {
    let (address, _server) = room().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let nonsense: [&[u8]; 4] = [
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        // A frame on a stream that nobody opened, one beyond every bound, one that is cut short.
        &[preface.as_slice(), &[0, 0, 4, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4]].concat(),
        &[preface.as_slice(), &[255, 255, 255, 4, 0, 0, 0, 0, 0]].concat(),
        &[preface.as_slice(), &[0, 0, 6, 4]].concat(),
    ];
    for bytes in nonsense {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // It ends, in whatever way.
        let _ended = tokio::time::timeout(SOON, stream.read_to_end(&mut answer))
            .await
            .unwrap();
    }
    let (_network, client) = network(address);
    let mut client = StockClient::new(client.grpc());
    client.reserve(line("tea", 1)).await.unwrap();
}

#[tokio::test]
async fn a_question_that_breaks_off_or_is_malformed_is_refused() {
    let (address, _server) = room().await;
    for (bytes, code) in [
        (&[9_u8, 0, 0, 0, 1, 0][..], "13"),
        (&[0, 0, 0, 0, 9, 1], "13"),
        (&[0, 255, 255, 255, 255], "11"),
        (&[0, 0, 0, 0, 2, 255, 255], "13"),
    ] {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let request = http::Request::post(format!("http://{address}/stock.v1.Stock/Reserve"));
        let request = request
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let mut sender = sender.ready().await.unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::copy_from_slice(bytes), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], code, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_service_that_was_started_again_is_found_by_the_next_call() {
    let (address, server) = room().await;
    let (_network, client) = network(address);
    let mut client = StockClient::new(client.grpc());
    client.reserve(line("tea", 1)).await.unwrap();
    drop(server);
    let listener = eventually_bound(address).await;
    let telemetry = Telemetry::new(Env::system());
    let room = Room::default();
    let router = layer(router(&room), "there", telemetry, Limits::default());
    let _server = JoinSet::from_iter([serve(listener, router, std::future::pending())]);
    eventually(SOON, async || client.reserve(line("tea", 1)).await.is_ok()).await;
}

async fn eventually_bound(address: std::net::SocketAddr) -> TcpListener {
    let mut bound = None;
    eventually(SOON, async || {
        bound = TcpListener::bind(address).await.ok();
        bound.is_some()
    })
    .await;
    bound.unwrap()
}
