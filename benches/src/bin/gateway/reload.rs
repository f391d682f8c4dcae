//! How long a file of many routes takes to be read and to hold, and how requests fare meanwhile.
//!
//! `--by config` sends the whole by the admin API, `--by change` one route more each time. `--busy N` has so many threads
//! take whatever the processor gives them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_benches::{Args, median, percentile, rounded};
use trunkline_core::Env;
use trunkline_gateway::{Config, Gateway, Keeper};
use trunkline_telemetry::Telemetry;

use super::END;

/// Routes a service.
const ROUTES: u64 = 100;
/// Between two reloads; its second half is the calm that a reload is compared with.
const REST: Duration = Duration::from_millis(500);
/// What is asked so soon after a reload still counts as beside it.
const AFTER: Duration = Duration::from_millis(50);

/// Reloads a gateway while it is asked over so many connections, each of which rests between two requests.
pub(super) async fn measure(args: &Args, upstream: u16) -> Result<(), Box<dyn std::error::Error>> {
    let count = args.number("routes", 10_000);
    let texts = [file(count, upstream, "a"), file(count, upstream, "b")];
    let config = Config::parse("a.yml", &texts[0])?;
    let env = Env::system();
    let gateway = Gateway::alone(&config, Telemetry::disabled(env.clone()), env.clone())?;
    drop(config);
    let keeper = Keeper::new(gateway.clone(), &*texts[0], env);
    let port = on_a_thread(move |listener| async move {
        gateway.serve(listener, std::future::pending()).await;
    })?;
    let admin = on_a_thread(move |listener| async move {
        let router = keeper.router(axum::Router::new(), None);
        drop(axum::serve(listener, router).await);
    })?;
    let ends = Arc::new(AtomicBool::new(false));
    for _ in 0..args.number("busy", 0) {
        let ends = ends.clone();
        std::thread::spawn(move || while !ends.load(Ordering::Relaxed) {});
    }
    let mut clients = JoinSet::new();
    for n in 0..args.number("clients", 16) {
        clients.spawn(ask(port, n * ROUTES % count, ends.clone()));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut reloads = Vec::new();
    for round in 0..usize::try_from(args.number("rounds", 9))? {
        tokio::time::sleep(REST).await;
        let (path, body) = match &*args.text("by", "config") {
            "change" => (
                "/services/service-0/routes",
                format!("{{\"name\": \"more-{round}\", \"paths\": [\"/more/{round}\"]}}"),
            ),
            _ => ("/config", texts[(round + 1) % 2].clone()),
        };
        let begun = Instant::now();
        post(admin, path, &body).await?;
        reloads.push((begun, begun.elapsed()));
    }
    tokio::time::sleep(AFTER * 2).await;
    ends.store(true, Ordering::Relaxed);
    let mut requests = Vec::new();
    while let Some(client) = clients.join_next().await {
        requests.extend(client??);
    }
    let mut told = told(&reloads, &requests);
    told["routes"] = json!(count);
    println!("{told}");
    Ok(())
}

/// When something began, and how long it took.
type Took = (Instant, Duration);

/// What requests took beside reloads and just before them, over all reloads and in the median of them.
fn told(reloads: &[Took], requests: &[Took]) -> Value {
    let within = |from: Instant, to: Instant| {
        let inside = |(begun, took): &&Took| *begun < to && *begun + *took >= from;
        let inside = requests.iter().filter(inside);
        let mut inside: Vec<_> = inside.map(|(_, took)| micros(*took)).collect();
        inside.sort_unstable();
        inside
    };
    let (mut during, mut calm) = (Vec::new(), Vec::new());
    let (mut p99s, mut spikes) = (Vec::new(), Vec::new());
    for (begun, took) in reloads {
        let beside = within(*begun, *begun + *took + AFTER);
        let before = within(*begun - REST / 2, *begun);
        let p99 = |sorted: &[u64]| percentile(sorted, 0.99) as f64 / 1_000.0;
        p99s.push(p99(&beside));
        spikes.push(p99(&beside) - p99(&before));
        during.extend(beside);
        calm.extend(before);
    }
    let mut times: Vec<_> = reloads.iter().map(|(_, took)| micros(*took)).collect();
    for times in [&mut times, &mut during, &mut calm] {
        times.sort_unstable();
    }
    let ms = |sorted: &[u64], at| rounded(percentile(sorted, at) as f64 / 1_000.0, 2);
    let asked = |sorted: &[u64]| json!({ "count": sorted.len(), "p50_ms": ms(sorted, 0.5), "p99_ms": ms(sorted, 0.99), "max_ms": ms(sorted, 1.0) });
    json!({
        "reload": { "p50_ms": ms(&times, 0.5), "max_ms": ms(&times, 1.0) },
        "calm": asked(&calm),
        "during": asked(&during),
        "p99_ms_of_each": p99s.iter().map(|ms| rounded(*ms, 2)).collect::<Vec<_>>(),
        "spike_ms": rounded(median(&mut spikes), 2),
    })
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Has a listener served by a thread of its own; tells its port.
fn on_a_thread<F: Future<Output = ()>>(
    serve: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            serve(TcpListener::from_std(listener).expect("a listener")).await;
        });
    });
    Ok(port)
}

/// Asks the admin API for a change, and waits until it is made.
async fn post(port: u16, path: &str, body: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.starts_with("HTTP/1.1 201") {
        true => Ok(()),
        false => Err(std::io::Error::other(answer)),
    }
}

/// Asks until it ends; when each request began, and how long it took.
async fn ask(port: u16, route: u64, ends: Arc<AtomicBool>) -> std::io::Result<Vec<Took>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET /api/{route}/42 HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
    let (mut all, mut answer) = (Vec::new(), Vec::new());
    while !ends.load(Ordering::Relaxed) {
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
        all.push((begun, begun.elapsed()));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(all)
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
