use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::routing::any;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::*;

fn to(at: SocketAddr, speaks: Speaks) -> Wire {
    let mut config = WireConfig::new(at.ip().to_string(), at.port());
    config.speaks = speaks;
    Wire::new(config).unwrap()
}

async fn ask(wire: &Wire) -> Result<Response<WireBody>, Unanswered> {
    let request = Request::post("/a").body(Body::from("abc")).unwrap();
    wire.send(request, &Stage::default()).await
}

/// A server of this, and how many connections it has taken.
async fn served(router: Router) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let connections: Arc<AtomicUsize> = Arc::default();
    let count = connections.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let service = TowerToHyperService::new(router.clone());
            open.spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(
                    builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    (at, connections, tasks)
}

#[tokio::test]
async fn a_request_that_nobody_takes_is_given_back_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    for speaks in [Speaks::Http1, Speaks::Http2, Speaks::Either] {
        let unanswered = ask(&to(at, speaks)).await.unwrap_err();
        assert_eq!(unanswered.error.code(), "service_unreachable");
        let body = unanswered.unsent.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }
}

#[tokio::test]
async fn a_connection_becomes_a_tunnel_where_both_ends_say_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wire = to(listener.local_addr().unwrap(), Speaks::Http1);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
    };
    let client = async {
        let request = Request::get("/")
            .header("connection", "upgrade")
            .header(UPGRADE, "echo")
            .body(Body::empty())
            .unwrap();
        let answer = wire.send(request, &Stage::default()).await.unwrap();
        assert_eq!(answer.status(), 101);
        let tunnel = hyper::upgrade::on(answer).await.unwrap();
        let mut tunnel = TokioIo::new(tunnel);
        let mut said = [0; 9];
        tunnel.read_exact(&mut said[..5]).await.unwrap();
        tunnel.write_all(b"more").await.unwrap();
        tunnel.read_exact(&mut said[5..]).await.unwrap();
        assert_eq!(&said, b"firstmore");
    };
    futures::join!(server, client);
}

#[tokio::test]
async fn many_requests_at_once_have_more_connections_of_http_2() {
    // Nobody is answered before all have come.
    let all = Arc::new(Barrier::new(400));
    let router = Router::new().fallback(any(move || async move {
        all.wait().await;
    }));
    let (at, connections, _server) = served(router).await;
    let wire = to(at, Speaks::Http2);
    let asked = (0..400).map(|_| ask(&wire));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!((3..=32).contains(&connections), "{connections}");
}

#[tokio::test]
async fn where_nothing_is_agreed_on_it_is_http_1() {
    let router = Router::new().fallback(any(|request: Request<Body>| async move {
        format!("{:?}", request.version())
    }));
    let (at, connections, _server) = served(router).await;
    let wire = to(at, Speaks::Either);
    for _ in 0..3 {
        let body = ask(&wire).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "HTTP/1.1");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn each_runtime_has_connections_of_its_own() {
    let (at, connections, _server) = served(Router::new().fallback(any(|| async {}))).await;
    let wire = Arc::new(to(at, Speaks::Http1));
    assert!(ask(&wire).await.is_ok());
    let other = wire.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .unwrap()
            .block_on(async { ask(&other).await.is_ok() && ask(&other).await.is_ok() })
    });
    assert!(asked.await.unwrap());
    assert!(ask(&wire).await.is_ok());
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    // The other runtime is gone, and what it left is in nobody's way.
    assert_eq!(wire.shards.load().len(), 2);
}

#[tokio::test]
async fn a_connection_to_where_the_name_no_longer_is_is_given_no_more_requests() {
    let (at, connections, _server) = served(Router::new().fallback(any(|| async {}))).await;
    let wire = Wire::new(WireConfig::new("localhost", at.port())).unwrap();
    for _ in 0..2 {
        assert!(ask(&wire).await.is_ok());
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    wire.dial.address.moves_to("127.0.0.9:1".parse().unwrap());
    // The one that was kept has one more request, and is then not kept.
    assert!(ask(&wire).await.is_ok());
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    wire.dial.address.moves_to(at);
    assert!(ask(&wire).await.is_ok());
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[test]
fn what_is_no_host_is_refused() {
    for host in ["", "a b", "a/b"] {
        let error = Wire::new(WireConfig::new(host, 80)).unwrap_err();
        assert_eq!(error.code(), "address_invalid", "{host}");
    }
    assert!(Wire::new(WireConfig::new("::1", 80)).is_ok());
}
