//! The gateway as a proxy of its own, against nginx and HAProxy: CPU of the proxy for each request.
//!
//! Each proxy has one worker. All stand before the same upstream and are asked by the same client, over loopback, in turns.
//! `--ways` names some of: `ours` (routing, JWT, rate limit, retries, timeouts, metrics, access log), `ours_limit` (without JWT
//! and log), `nginx` (`limit_req`), `nginx_log` (with its access log), `haproxy` (JWT and rate limit), `haproxy_plain`.
//! `--mode idle [--idle 9000]` measures memory for each idle connection instead, `--mode reload [--routes 10000]` a reload.
//! `--mode grpc` asks by gRPC, HTTP/2 on both sides in the clear: `grpc` (rate limit), `grpc_quiet` (one that tells callers
//! nothing of what is left, as nginx's), `nginx_grpc` (`grpc_pass` and `limit_req`), `haproxy_grpc` (no limit). With `--calls N` it asks the first way N times and measures nothing, and
//! `--at PORT` asks whoever listens there, with the upstream at `--upstream PORT`.

mod grpc;
mod idle;
mod reload;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_benches::engines::Server;
use trunkline_benches::{Args, cpu_seconds, median, percentile, rounded};
use trunkline_core::{Env, Result};
use trunkline_gateway::Alone;
use trunkline_security::{Claims, Secret, Signer};
use trunkline_telemetry::{Format, Telemetry, init_logs_behind, prometheus};

/// What every answer ends with.
const END: &[u8] = b"-the end-";
/// So many connections each proxy can have, its own to the upstream among them. HAProxy keeps two files ready for each, and
/// 20,000 is a usual limit.
const CONNECTIONS_MAX: usize = 9_800;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const WAYS: &str = "ours,ours_limit,nginx,nginx_log,haproxy,haproxy_plain";

/// As what is shipped has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let serve = args.text("serve", "");
    if !serve.is_empty() {
        return serve_alone(Path::new(&serve), &args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(measure(&args))
}

/// The gateway's own process.
fn serve_alone(file: &Path, args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let filter = args.text("log", "info");
    let _logs = init_logs_behind(Format::Json, &filter)?;
    let _registry = prometheus::install()?;
    let port = u16::try_from(args.number("port", 0))?;
    let mut alone = Alone::new(file, [SocketAddr::from(([127, 0, 0, 1], port))]);
    alone.limits.connections_max = CONNECTIONS_MAX;
    alone.workers = usize::try_from(args.number("workers", 1))?;
    let env = Env::system();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let _running = alone.start(Telemetry::disabled(env.clone()), env)?;
        std::future::pending::<Result<(), Box<dyn std::error::Error>>>().await
    })
}

async fn measure(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let upstream = TcpListener::bind("127.0.0.1:0").await?;
    let port = upstream.local_addr()?.port();
    std::thread::spawn(move || upstream_loop(upstream));
    let ways = args.text("ways", WAYS);
    let ways: Vec<&str> = ways.split(',').collect();
    match &*args.text("mode", "") {
        "idle" => return idle::measure(args, (&ways, port, &folder)).await,
        "grpc" => return grpc::measure(args, &folder).await,
        "reload" => return reload::measure(args, port).await,
        _ => {}
    }
    let mut proxies = Vec::new();
    for way in &ways {
        proxies.push(start(way, port, &folder)?);
    }
    let seconds = args.seconds("seconds", 1.0);
    let mut all: Vec<Vec<Value>> = vec![Vec::new(); ways.len()];
    for connections in [64, 256] {
        for round in 0..args.number("rounds", 5) {
            for (at, (way, proxy)) in ways.iter().zip(&proxies).enumerate() {
                let took = ask(proxy, connections, seconds).await?;
                let mut line = json!({ "way": way, "connections": connections, "round": round });
                line.as_object_mut()
                    .unwrap()
                    .extend(took.as_object().unwrap().clone());
                println!("{line}");
                all[at].push(line);
            }
        }
    }
    summary(&ways, &all);
    Ok(())
}

fn summary(ways: &[&str], all: &[Vec<Value>]) {
    for connections in [64, 256] {
        for (way, lines) in ways.iter().zip(all) {
            let mut told = json!({ "median_of": way, "connections": connections });
            for what in ["cpu_us", "p50_us", "p99_us", "rps"] {
                let of = |lines: &[Value]| -> Vec<f64> {
                    let mine = lines
                        .iter()
                        .filter(|line| line["connections"] == connections);
                    mine.map(|line| line[what].as_f64().unwrap_or(f64::NAN))
                        .collect()
                };
                let own = of(lines);
                told[what] = json!(rounded(median(&mut own.clone()), 2));
                for (base, others) in ways.iter().zip(all) {
                    if what == "cpu_us"
                        && (base.starts_with("nginx") || base.starts_with("haproxy"))
                        && base != way
                    {
                        let mut ratios: Vec<f64> = own
                            .iter()
                            .zip(of(others))
                            .map(|(own, other)| own / other)
                            .collect();
                        told[format!("cpu_to_{base}")] = json!(rounded(median(&mut ratios), 3));
                    }
                }
            }
            println!("{told}");
        }
    }
}

/// Answers every request with the same, on one thread.
fn upstream_loop(listener: TcpListener) {
    let listener = listener.into_std().expect("a listener");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        let mut connections = JoinSet::new();
        let body = format!("{}{}", "x".repeat(119), String::from_utf8_lossy(END));
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer: Arc<str> = answer.into();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            drop(stream.set_nodelay(true));
            connections.spawn(async move {
                let mut bytes = vec![0; 8192];
                let mut held = 0;
                while let Ok(read) = stream.read(&mut bytes[held..]).await {
                    held += read;
                    if read == 0 {
                        return;
                    }
                    if bytes[..held].ends_with(b"\r\n\r\n") {
                        held = 0;
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

fn start(way: &str, upstream: u16, folder: &TempDir) -> std::io::Result<Server> {
    let dir = folder.path().join(way);
    fs::create_dir_all(&dir)?;
    let file = dir.join("conf");
    let log = dir.join("access.log");
    match way {
        "ours" | "ours_limit" => {
            let jwt = "- {name: jwt, config: {key_claim_name: iss}}";
            let plugins = if way == "ours" { jwt } else { "" };
            fs::write(
                &file,
                format!(
                    "_format_version: \"3.0\"\nconsumers:\n- username: bench\n  jwt_secrets: [{{key: bench, algorithm: HS256, secret: {SECRET}}}]\nservices:\n- name: api\n  url: http://127.0.0.1:{upstream}\n  retries: 3\n  connect_timeout: 1000\n  read_timeout: 5000\n  routes:\n  - {{name: orders, paths: [/api], strip_path: false}}\n  plugins:\n  - {{name: rate-limiting, config: {{minute: 1000000000, limit_by: ip, policy: local}}}}\n  {plugins}\n"
                ),
            )?;
            ours(&file, if way == "ours" { "info" } else { "warn" }, &log)
        }
        "nginx" | "nginx_log" => {
            let access = match way {
                "nginx" => "off".to_owned(),
                _ => format!("{} combined buffer=64k", log.display()),
            };
            nginx(&dir, upstream, |port| {
                format!(
                    " access_log {access};\n server {{ listen 127.0.0.1:{port}; location /api {{ limit_req zone=one burst=100000 nodelay; proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header X-Request-Id $request_id; }} }}\n"
                )
            })
        }
        _ => {
            let checks = match way {
                "haproxy" => format!(
                    " http-request set-var(txn.bearer) http_auth_bearer\n http-request deny unless {{ var(txn.bearer),jwt_verify(\"HS256\",\"{SECRET}\") -m int 1 }}\n stick-table type ip size 100k expire 60s store http_req_rate(60s)\n http-request track-sc0 src\n http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000000 }}\n"
                ),
                _ => String::new(),
            };
            haproxy(&dir, upstream, ["tune.maxrewrite 1024", "", &checks])
        }
    }
}

/// nginx with one worker; `rest` is what is said of its port.
fn nginx(dir: &Path, upstream: u16, rest: impl Fn(u16) -> String) -> std::io::Result<Server> {
    Server::start(|port| {
        let (file, rest, dir) = (dir.join("conf"), rest(port), dir.display());
        let conf = format!(
            "daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log crit;\nevents {{ worker_connections {CONNECTIONS_MAX}; }}\nhttp {{\n client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n keepalive_requests 100000000; tcp_nodelay on;\n limit_req_zone $binary_remote_addr zone=one:10m rate=1000000r/s;\n upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}\n{rest}}}\n"
        );
        fs::write(&file, conf).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.to_string()).arg("-c").arg(file);
        command
    })
}

/// HAProxy with one worker: a setting, how both sides are spoken to, and what is checked.
fn haproxy(
    dir: &Path,
    upstream: u16,
    [setting, protocol, checks]: [&str; 3],
) -> std::io::Result<Server> {
    Server::start(|port| {
        let file = dir.join("conf");
        let conf = format!(
            "global\n nbthread 1\n maxconn {CONNECTIONS_MAX}\n {setting}\ndefaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 5s\n retries 3\n http-reuse always\nfrontend f\n bind 127.0.0.1:{port} {protocol}\n unique-id-format %[uuid()]\n unique-id-header X-Request-Id\n{checks} default_backend b\nbackend b\n server s 127.0.0.1:{upstream} {protocol} pool-max-conn -1\n"
        );
        fs::write(&file, conf).expect("a file");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file).stdin(Stdio::null());
        command
    })
}

/// This program as a gateway of its own.
fn ours(file: &Path, level: &str, log: &Path) -> std::io::Result<Server> {
    let told = fs::File::create(log)?;
    Server::start(|port| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--serve", file.to_str().unwrap_or_default()])
            .args(["--port", &port.to_string(), "--log", level])
            .stderr(told);
        command
    })
}

/// Asks over so many connections for so long. CPU is the proxy's alone.
async fn ask(
    proxy: &Server,
    connections: usize,
    seconds: Duration,
) -> Result<Value, Box<dyn std::error::Error>> {
    let token = token()?;
    let request = format!(
        "GET /api/orders/42 HTTP/1.1\r\nhost: shop.example.com\r\nuser-agent: bench\r\naccept: application/json\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let request: Arc<str> = request.into();
    let counts = Arc::new(AtomicBool::new(false));
    let ends = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
        stream.set_nodelay(true)?;
        let (request, counts, ends) = (request.clone(), counts.clone(), ends.clone());
        clients.spawn(async move {
            let mut took = Vec::new();
            let mut bytes = vec![0; 8192];
            while !ends.load(Ordering::Relaxed) {
                let begun = Instant::now();
                stream.write_all(request.as_bytes()).await?;
                let mut held = 0;
                while !bytes[..held].ends_with(END) {
                    let read = stream.read(&mut bytes[held..]).await?;
                    if read == 0 {
                        return Err(std::io::Error::other(
                            String::from_utf8_lossy(&bytes[..held]).into_owned(),
                        ));
                    }
                    held += read;
                }
                assert!(
                    bytes.starts_with(b"HTTP/1.1 200"),
                    "{}",
                    String::from_utf8_lossy(&bytes[..held])
                );
                if counts.load(Ordering::Relaxed) {
                    took.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
            Ok(took)
        });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let pid = proxy.pid().to_string();
    let (begun, before) = (Instant::now(), cpu_seconds(&pid));
    counts.store(true, Ordering::Relaxed);
    tokio::time::sleep(seconds).await;
    ends.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    while let Some(client) = clients.join_next().await {
        took.extend(client.map_err(std::io::Error::other)??);
    }
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

/// A token of the consumer, good for a day.
fn token() -> Result<String> {
    let mut claims = Claims::new("u1", Duration::from_secs(86_400), &Env::system());
    claims.iss = Some("bench".into());
    Signer::hs256(&Secret::new(SECRET.as_bytes())?).sign(&claims)
}
