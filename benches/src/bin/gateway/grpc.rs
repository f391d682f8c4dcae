//! Unary calls of gRPC through the gateway, nginx and HAProxy, HTTP/2 by prior knowledge on both sides.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_benches::engines::Server;
use trunkline_benches::{Args, cpu_seconds, percentile, rounded};

const WAYS: &str = "grpc,grpc_quiet,nginx_grpc,haproxy_grpc";
/// A message of 20 bytes with its prefix.
const QUESTION: &[u8] = b"\0\0\0\0\x14tea-earl-grey-250-02";
const ANSWER: &[u8] = b"\0\0\0\0\x14tea-earl-grey-250-ok";

type Outcome<T> = Result<T, Box<dyn Error>>;

pub async fn measure(args: &Args, folder: &TempDir) -> Outcome<()> {
    let wanted = args.number("upstream", 0);
    let upstream = TcpListener::bind(("127.0.0.1", u16::try_from(wanted)?)).await?;
    let port = upstream.local_addr()?.port();
    let upstream = upstream.into_std()?;
    std::thread::spawn(move || serve(upstream));
    let lines = usize::try_from(args.number("connections", 8))?;
    let streams = args.text("streams", "64,256");
    let streams: Vec<usize> = streams.split(',').flat_map(str::parse).collect();
    let (calls, at) = (args.number("calls", 0), args.number("at", 0));
    if at > 0 {
        let load = Load::over(u16::try_from(at)?, lines, streams[0], calls).await?;
        load.ended().await?;
        return Ok(());
    }
    let ways = args.text("ways", WAYS);
    let ways: Vec<&str> = ways.split(',').collect();
    let mut proxies = Vec::new();
    for way in &ways {
        proxies.push(start(way, port, folder)?);
    }
    if calls > 0 {
        let load = Load::over(proxies[0].port, lines, streams[0], calls).await?;
        load.ended().await?;
        return Ok(());
    }
    let seconds = args.seconds("seconds", 1.0);
    let mut all: Vec<Vec<Value>> = vec![Vec::new(); ways.len()];
    for streams in &streams {
        for round in 0..args.number("rounds", 5) {
            for (at, (way, proxy)) in ways.iter().zip(&proxies).enumerate() {
                let took = ask(proxy, (lines, *streams), seconds).await?;
                let mut line = json!({ "way": way, "connections": streams, "round": round });
                let told = line.as_object_mut().expect("an object");
                told.extend(took.as_object().expect("an object").clone());
                println!("{line}");
                all[at].push(line);
            }
        }
    }
    super::summary(&ways, &all);
    Ok(())
}

/// Answers every call with the same message, on one thread.
fn serve(listener: std::net::TcpListener) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            connections.spawn(async move {
                let begun = h2::server::Builder::new()
                    .max_concurrent_streams(1_024)
                    .initial_connection_window_size(1024 * 1024)
                    .handshake::<_, Bytes>(stream)
                    .await;
                let Ok(mut connection) = begun else { return };
                let mut calls = JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    while calls.try_join_next().is_some() {}
                    calls.spawn(async move { drop(answer(request, respond).await) });
                }
            });
        }
    });
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    assert_eq!(request.uri().path(), "/bench.Stock/Reserve");
    let mut question = request.into_body();
    while let Some(data) = question.data().await {
        question.flow_control().release_capacity(data?.len())?;
    }
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut body = respond.send_response(response, false)?;
    body.send_data(Bytes::from_static(ANSWER), false)?;
    body.send_trailers(trailers)
}

fn start(way: &str, upstream: u16, folder: &TempDir) -> std::io::Result<Server> {
    let dir = folder.path().join(way);
    fs::create_dir_all(&dir)?;
    let file = dir.join("conf");
    match way {
        "grpc" | "grpc_quiet" => {
            let is_quiet = way == "grpc_quiet";
            let config = format!(
                "_format_version: \"3.0\"\nservices:\n- name: stock\n  url: grpc://127.0.0.1:{upstream}\n  retries: 3\n  connect_timeout: 1000\n  read_timeout: 5000\n  routes:\n  - {{name: stock, paths: [/bench.Stock], protocols: [grpc], strip_path: false}}\n  plugins:\n  - {{name: rate-limiting, config: {{minute: 1000000000, limit_by: ip, policy: local, hide_client_headers: {is_quiet}}}}}\n"
            );
            fs::write(&file, config)?;
            super::ours(&file, "warn", &dir.join("log"))
        }
        "nginx_grpc" => super::nginx(&dir, upstream, |port| {
            format!(
                " access_log off; http2_max_concurrent_streams 1024;\n server {{ listen 127.0.0.1:{port} http2; location /bench.Stock {{ limit_req zone=one burst=100000 nodelay; grpc_pass grpc://up; grpc_set_header X-Request-Id $request_id; }} }}\n"
            )
        }),
        _ => super::haproxy(
            &dir,
            upstream,
            ["tune.h2.max-concurrent-streams 1024", "proto h2", ""],
        ),
    }
}

/// Calls under way.
struct Load {
    callers: JoinSet<Result<Vec<u64>, h2::Error>>,
    /// Drive the connections; they end with this value.
    drivers: JoinSet<()>,
    counts: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
}

impl Load {
    /// So many callers over so many connections, until they are told to end or have made so many calls together.
    async fn over(port: u16, lines: usize, streams: usize, calls: u64) -> Outcome<Self> {
        let mut load = Self {
            callers: JoinSet::new(),
            drivers: JoinSet::new(),
            counts: Arc::default(),
            ends: Arc::default(),
        };
        let left = Arc::new(AtomicU64::new(if calls == 0 { u64::MAX } else { calls }));
        let mut senders = Vec::new();
        for _ in 0..lines.min(streams) {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::Builder::new()
                .initial_connection_window_size(1024 * 1024)
                .handshake::<_, Bytes>(stream)
                .await?;
            load.drivers.spawn(async move { drop(connection.await) });
            senders.push(sender);
        }
        for at in 0..streams {
            let mut sender = senders[at % senders.len()].clone();
            let (counts, ends, left) = (load.counts.clone(), load.ends.clone(), left.clone());
            load.callers.spawn(async move {
                let mut took = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    if left.fetch_sub(1, Ordering::Relaxed) == 0 {
                        ends.store(true, Ordering::Relaxed);
                        break;
                    }
                    let begun = Instant::now();
                    sender = call(sender).await?;
                    if counts.load(Ordering::Relaxed) {
                        took.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                    }
                }
                Ok(took)
            });
        }
        Ok(load)
    }

    async fn ended(mut self) -> Outcome<Vec<u64>> {
        let mut took = Vec::new();
        while let Some(caller) = self.callers.join_next().await {
            took.extend(caller??);
        }
        self.drivers.shutdown().await;
        Ok(took)
    }
}

async fn call(sender: SendRequest<Bytes>) -> Result<SendRequest<Bytes>, h2::Error> {
    let mut sender = sender.ready().await?;
    let request = Request::post("http://stock.example.com/bench.Stock/Reserve")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "bench")
        .body(())
        .expect("a request");
    let (answer, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(QUESTION), true)?;
    let answer = answer.await?;
    assert!(!answer.headers().contains_key("grpc-status"), "{answer:?}");
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        bytes += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    assert_eq!(bytes, ANSWER.len());
    let trailers = body.trailers().await?.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    Ok(sender)
}

/// Asks for so long. CPU is the proxy's alone.
async fn ask(
    proxy: &Server,
    (lines, streams): (usize, usize),
    seconds: Duration,
) -> Outcome<Value> {
    let load = Load::over(proxy.port, lines, streams, 0).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let pid = proxy.pid().to_string();
    let (begun, before) = (Instant::now(), cpu_seconds(&pid));
    load.counts.store(true, Ordering::Relaxed);
    tokio::time::sleep(seconds).await;
    load.ends.store(true, Ordering::Relaxed);
    let mut took = load.ended().await?;
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(&pid) - before);
    took.sort_unstable();
    let count = took.len() as f64;
    Ok(json!({
        "cpu_us": rounded(cpu * 1e6 / count, 2),
        "rps": rounded(count / wall, 0),
        "p50_us": percentile(&took, 0.5),
        "p99_us": percentile(&took, 0.99),
    }))
}
