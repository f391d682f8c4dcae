//! How long a file of many routes takes to be read and to hold, and how requests fare meanwhile.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_benches::{Args, percentile, rounded};
use trunkline_core::Env;
use trunkline_gateway::{Config, Gateway};
use trunkline_telemetry::Telemetry;

use super::END;

/// Routes a service.
const ROUTES: u64 = 100;

/// Reloads a gateway while it is asked over so many connections, each of which rests between two requests.
pub(super) async fn measure(args: &Args, upstream: u16) -> Result<(), Box<dyn std::error::Error>> {
    let count = args.number("routes", 10_000);
    let texts = [file(count, upstream, "a"), file(count, upstream, "b")];
    let config = Config::parse("a.yml", &texts[0])?;
    let env = Env::system();
    let gateway = Gateway::alone(&config, Telemetry::disabled(env.clone()), env)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let serving = gateway.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            serving.serve(listener, std::future::pending()).await;
        });
    });
    let (reloads, ends) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut clients = JoinSet::new();
    for n in 0..args.number("clients", 16) {
        clients.spawn(ask(port, n * ROUTES % count, reloads.clone(), ends.clone()));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut reading, mut holding) = (Vec::new(), Vec::new());
    for round in 0..usize::try_from(args.number("rounds", 9))? {
        let (gateway, text) = (gateway.clone(), texts[(round + 1) % 2].clone());
        reloads.store(true, Ordering::Relaxed);
        // As the follower of a file does: beside the threads that serve.
        let (read, held) = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let config = Config::parse("a.yml", &text);
            let read = begun.elapsed();
            let begun = Instant::now();
            config
                .and_then(|config| gateway.reload(&config))
                .expect("a good file");
            (read, begun.elapsed())
        })
        .await?;
        reloads.store(false, Ordering::Relaxed);
        reading.push(u64::try_from(read.as_micros())?);
        holding.push(u64::try_from(held.as_micros())?);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ends.store(true, Ordering::Relaxed);
    let (mut calm, mut during) = (Vec::new(), Vec::new());
    while let Some(client) = clients.join_next().await {
        let (one, other) = client??;
        calm.extend(one);
        during.extend(other);
    }
    for times in [&mut reading, &mut holding, &mut calm, &mut during] {
        times.sort_unstable();
    }
    let ms = |sorted: &[u64], at| rounded(percentile(sorted, at) as f64 / 1_000.0, 2);
    let times = |sorted: &[u64]| json!({ "p50_ms": ms(sorted, 0.5), "max_ms": ms(sorted, 1.0) });
    let asked = |sorted: &[u64]| json!({ "count": sorted.len(), "p50_ms": ms(sorted, 0.5), "p99_ms": ms(sorted, 0.99), "max_ms": ms(sorted, 1.0) });
    println!(
        "{}",
        json!({ "routes": count, "read": times(&reading), "reload": times(&holding), "calm": asked(&calm), "during": asked(&during) })
    );
    Ok(())
}

type Took = (Vec<u64>, Vec<u64>);

/// How long requests take, in microseconds: without a reload, and beside one.
async fn ask(
    port: u16,
    route: u64,
    reloads: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
) -> std::io::Result<Took> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET /api/{route}/42 HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
    let (mut calm, mut during) = (Vec::new(), Vec::new());
    let mut answer = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let before = reloads.load(Ordering::Relaxed);
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        while !answer.ends_with(END) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::Error::other("the connection was closed"));
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(&answer).into_owned(),
            ));
        }
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        if before || reloads.load(Ordering::Relaxed) {
            during.push(took);
        } else {
            calm.push(took);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok((calm, during))
}

/// Services with a hundred routes each; `mark` makes another file of it.
fn file(count: u64, upstream: u16, mark: &str) -> String {
    let mut text = "_format_version: \"3.0\"\nservices:\n".to_owned();
    for route in 0..count {
        if route % ROUTES == 0 {
            let service = route / ROUTES;
            let service = format!(
                "- name: service-{service}\n  url: http://127.0.0.1:{upstream}\n  tags: [{mark}]\n  routes:\n"
            );
            text.push_str(&service);
        }
        let line = format!(
            "  - {{name: route-{route}, paths: [/api/{route}], methods: [GET, POST], strip_path: false}}\n"
        );
        write!(text, "{line}").expect("a text has room");
    }
    text
}
