use std::pin::pin;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::routing::any;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
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

/// Counts how often something was there to read.
struct Reads<S>(S, Arc<AtomicUsize>);

impl<S: AsyncRead + Unpin> AsyncRead for Reads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, into);
        if read.is_ready() {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A server on a thread of its own that answers with what it was sent, and how often it had something to read.
async fn echoing() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, reads) = (
        listener.local_addr().unwrap(),
        Arc::<AtomicUsize>::default(),
    );
    listener.set_nonblocking(true).unwrap();
    let count = reads.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let (stream, _) = TcpListener::from_std(listener)
                .unwrap()
                .accept()
                .await
                .unwrap();
            stream.set_nodelay(true).unwrap();
            let router = Router::new().fallback(any(|body: Bytes| async { body }));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let stream = TokioIo::new(Reads(stream, count));
            drop(
                builder
                    .serve_connection(stream, TowerToHyperService::new(router))
                    .await,
            );
        });
    });
    (at, reads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_http_2_is_written_at_once_and_has_no_task_of_its_own() {
    const CALLS: usize = 200;
    let (at, reads) = echoing().await;
    let wire = to(at, Speaks::Http2);
    // On a worker, as callers are.
    let mut caller = JoinSet::new();
    caller.spawn(async move {
        let echoed = async || {
            let body = ask(&wire).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        };
        echoed().await;
        let before = reads.load(Ordering::Relaxed);
        for _ in 0..CALLS {
            // This one's and the connection's.
            assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 2);
            echoed().await;
        }
        // A read for each request, perhaps one that finds nothing more, and none for a part of a request.
        let count = reads.load(Ordering::Relaxed) - before;
        assert!(count <= CALLS + CALLS / 4, "{count}");
        // Nor while its answer is waited for.
        let mut answer = pin!(ask(&wire));
        assert!(futures::poll!(&mut answer).is_pending());
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 2);
        assert!(answer.await.is_ok());
    });
    caller.join_all().await;
}

#[tokio::test]
async fn a_body_that_comes_piece_by_piece_is_sent_so_and_its_end_is_the_callers() {
    let router = Router::new().fallback(any(|request: Request<Body>| async {
        Response::new(request.into_body())
    }));
    let (at, _, _server) = served(router).await;
    let wire = to(at, Speaks::Http2);
    let (pieces, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let request = Request::post("/a").body(Body::from_stream(body)).unwrap();
    let answer = wire.send(request, &Stage::default()).await.unwrap();
    let mut answer = answer.into_body();
    // More than may be ahead of its reader.
    let piece = Bytes::from(vec![7; 300 * 1024]);
    for _ in 0..5 {
        pieces.send(Ok(piece.clone())).await.unwrap();
        let mut count = 0;
        while count < piece.len() {
            let frame = answer.frame().await.unwrap().unwrap();
            count += frame.data_ref().unwrap().len();
        }
        assert_eq!(count, piece.len());
    }
    let broken = std::io::Error::other("broken");
    pieces.send(Err(broken)).await.unwrap();
    assert!(answer.frame().await.unwrap().is_err());

    // One who gives up a request takes it back, and the connection goes on.
    let (pieces, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let request = Request::post("/a").body(Body::from_stream(body)).unwrap();
    drop(wire.send(request, &Stage::default()).await.unwrap());
    let given_up = tokio::time::timeout(Duration::from_secs(10), pieces.closed());
    assert!(given_up.await.is_ok());
    assert!(ask(&wire).await.is_ok());
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_is_the_callers_fault() {
    let router = Router::new().fallback(any(|body: Bytes| async { body }));
    let (at, connections, _server) = served(router).await;
    let wire = to(at, Speaks::Http2);
    for is_late in [false, true] {
        let body = futures::stream::unfold((0, is_late), async |(step, is_late)| {
            if is_late && step == 1 {
                tokio::task::yield_now().await;
            }
            let whole = Ok(Bytes::from_static(b"half"));
            let piece = if step == 0 {
                whole
            } else {
                Err(std::io::Error::other("broken"))
            };
            Some((piece, (step + 1, is_late)))
        });
        let request = Request::post("/a").body(Body::from_stream(body)).unwrap();
        let unanswered = wire.send(request, &Stage::default()).await.unwrap_err();
        assert_eq!(unanswered.error.code(), "request_broken");
        assert!(ask(&wire).await.is_ok());
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_silent_with_a_request_under_way_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wire = to(listener.local_addr().unwrap(), Speaks::Http2);
    let began = Instant::now();
    let unanswered = ask(&wire).await.unwrap_err();
    assert_eq!(unanswered.error.code(), "service_unreachable");
    // Asked after ten seconds, and given five.
    assert_eq!(began.elapsed().as_secs(), 15);
    assert!(unanswered.unsent.is_none());
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
