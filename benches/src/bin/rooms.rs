//! One room of many clients: deliveries, their delay, and the server's CPU time, of ours and of another server of Socket.IO. And what a
//! connection costs that nobody uses.
//!
//! The server is a child process that joins a client to a room (`join`, answered by `joined`) and sends what it gets with `pub` to `room1` as
//! `ev`. `--other "COMMAND"` is such a server on the port that replaces `PORT` in it. `bare` is none: it writes the same bytes to one
//! socket after the other, and does nothing else that a server does. `--rate 0` sends the next when all have the last.
//! `--mode idle --idle 20000` opens connections and looks at the server's memory.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use trunkline_benches::{Args, Span, percentile, rounded};
use trunkline_core::Env;
use trunkline_realtime::{Limits, Namespace, Rate, Realtime, Socket};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Ws = WebSocketStream<TcpStream>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    let port = args.number("serve", 0);
    if port > 0 {
        let port = u16::try_from(port)?;
        return match args.number("bare", 0) {
            0 => serve(port).await,
            _ => serve_bare(port).await,
        };
    }
    let ways = args.text("ways", "ours");
    let rounds = args.number("rounds", 1);
    for _ in 0..rounds {
        for way in ways.split(',') {
            let server = Server::start(way, &args).await?;
            match &*args.text("mode", "room") {
                "idle" => idle(way, &server, &args).await?,
                _ => room(way, &server, &args).await?,
            }
        }
    }
    Ok(())
}

async fn serve(port: u16) -> Outcome<()> {
    let most = Rate { burst: u32::MAX, per_second: u32::MAX };
    let namespace = Namespace::at("/")
        .rate(most)
        .on("join", |socket: Socket, args| async move {
            socket.join(args.get::<String>(0)?)?;
            socket.emit("joined", &"ok")
        })
        .on("pub", |socket: Socket, args| async move {
            let data: Value = args.get(0)?;
            socket.namespace().to("room1").emit("ev", &data)
        });
    let realtime = Realtime::new([namespace], Limits::default(), Env::system())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true)));
    axum::serve(listener, realtime.router()).await?;
    Ok(())
}

/// The least that a server can do: the frame is made once, and written to each socket in turn.
async fn serve_bare(port: u16) -> Outcome<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let room = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(attend(stream, room.clone()));
    }
}

/// A connection is in the room when it has joined, and is not read any more; until then it may publish.
async fn attend(stream: TcpStream, room: Arc<Mutex<Vec<TcpStream>>>) -> Outcome<()> {
    let mut ws = tokio_tungstenite::accept_async(stream).await?;
    ws.send(Message::text("0{}")).await?;
    while let Some(Ok(message)) = ws.next().await {
        let text = message.to_text()?;
        if text == "40" {
            ws.send(Message::text("40{}")).await?;
        } else if text.starts_with("42[\"join\"") {
            ws.send(Message::text("42[\"joined\",\"ok\"]")).await?;
            room.lock().push(ws.into_inner());
            return Ok(());
        } else if let Some(data) = text.strip_prefix("42[\"pub\",") {
            let text = format!("42[\"ev\",{data}");
            let mut frame = vec![0x81, 126];
            frame.extend(u16::try_from(text.len())?.to_be_bytes());
            frame.extend(text.as_bytes());
            let room = room.lock();
            let whole = room.iter().all(|one| one.try_write(&frame).is_ok_and(|n| n == frame.len()));
            if !whole {
                return Err("a client does not read".into());
            }
        }
    }
    Ok(())
}

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    async fn start(way: &str, args: &Args) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let mut command = match way {
            "ours" | "bare" => {
                let mut command = Command::new(std::env::current_exe()?);
                let bare = if way == "bare" { "1" } else { "0" };
                command.args(["--serve", &port.to_string(), "--bare", bare]);
                command
            }
            _ => {
                let line = args.text("other", "").replace("PORT", &port.to_string());
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exec {line}")]);
                command
            }
        };
        let child = command.stdout(Stdio::null()).spawn()?;
        let server = Self { child, port };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() > until {
                return Err("the server does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }
}

/// Reads until a packet begins like this, and answers heartbeats meanwhile.
async fn wait(ws: &mut Ws, begin: &str) -> Outcome<()> {
    loop {
        let message = ws.next().await.ok_or("the server has closed")??;
        match message.to_text().unwrap_or_default() {
            "2" => ws.send(Message::text("3")).await?,
            text if text.starts_with(begin) => return Ok(()),
            _ => {}
        }
    }
}

async fn connect(port: u16, from: [u8; 4]) -> Outcome<Ws> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut ws, _) = client_async(url, stream).await?;
    wait(&mut ws, "0").await?;
    ws.send(Message::text("40")).await?;
    wait(&mut ws, "40").await?;
    Ok(ws)
}

#[derive(Default)]
struct Seen {
    /// Of each message, how many have it; the one that is on its way.
    got: AtomicU64,
    delivered: AtomicU64,
    measures: AtomicBool,
    delays_us: Mutex<Vec<u64>>,
}

async fn room(way: &str, server: &Server, args: &Args) -> Outcome<()> {
    let (clients, rate) = (args.number("clients", 500), args.number("rate", 0));
    let (begun, seen) = (Instant::now(), Arc::new(Seen::default()));
    let window = Arc::new(Semaphore::new(usize::try_from(args.number("window", 4))?));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let mut ws = connect(server.port, [127, 0, 0, 1]).await?;
        ws.send(Message::text("42[\"join\",\"room1\"]")).await?;
        wait(&mut ws, "42[\"joined\"").await?;
        let (seen, window) = (seen.clone(), window.clone());
        readers.spawn(async move {
            let mut delays = Vec::new();
            while let Some(Ok(message)) = ws.next().await {
                let text = message.to_text().unwrap_or_default();
                if text == "2" {
                    drop(ws.send(Message::text("3")).await);
                    continue;
                }
                let Some(sent) = text.strip_prefix("42[\"ev\",{\"at\":") else {
                    continue;
                };
                let digits = sent.split(',').next().and_then(|at| at.parse::<u64>().ok());
                let now = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                if seen.measures.load(Ordering::Relaxed) {
                    delays.push(now.saturating_sub(digits.unwrap_or(now)) / 1_000);
                    seen.delivered.fetch_add(1, Ordering::Relaxed);
                } else if !delays.is_empty() {
                    seen.delays_us.lock().append(&mut delays);
                }
                if (seen.got.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(clients) {
                    window.add_permits(1);
                }
            }
        });
    }
    let mut publisher = connect(server.port, [127, 0, 0, 1]).await?;
    let (measures, sends) = (seen.clone(), Arc::new(AtomicBool::new(true)));
    let goes = sends.clone();
    let publishing = tokio::spawn(async move {
        let every = Duration::from_micros(1_000_000_u64.checked_div(rate).unwrap_or(1_000));
        let mut clock = tokio::time::interval(every);
        let filler = "x".repeat(260);
        while goes.load(Ordering::Relaxed) {
            if rate > 0 {
                clock.tick().await;
            } else if let Ok(Ok(permit)) =
                tokio::time::timeout(Duration::from_secs(2), window.acquire()).await
            {
                permit.forget();
            }
            let at = begun.elapsed().as_nanos();
            let text = format!("42[\"pub\",{{\"at\":{at},\"filler\":\"{filler}\"}}]");
            if publisher.send(Message::text(text)).await.is_err() {
                return;
            }
            while let Some(Some(Ok(message))) = futures::FutureExt::now_or_never(publisher.next()) {
                if message.to_text().unwrap_or_default() == "2" {
                    drop(publisher.send(Message::text("3")).await);
                }
            }
        }
    });
    tokio::time::sleep(args.seconds("warmup", 1.0)).await;
    measures.measures.store(true, Ordering::Relaxed);
    let span = Span::start(&[server.child.id()]);
    tokio::time::sleep(args.seconds("seconds", 5.0)).await;
    let delivered = seen.delivered.load(Ordering::Relaxed) as f64;
    let (wall, _, cpu) = span.stop();
    measures.measures.store(false, Ordering::Relaxed);
    // The next message has each reader hand in what it has.
    tokio::time::sleep(Duration::from_millis(500)).await;
    sends.store(false, Ordering::Relaxed);
    publishing.await?;
    let mut delays = std::mem::take(&mut *seen.delays_us.lock());
    delays.sort_unstable();
    println!(
        "{}",
        json!({
            "way": way, "clients": clients, "rate": rate,
            "deliveries_per_s": rounded(delivered / wall, 0),
            "cpu_s_per_100k": rounded(cpu / delivered.max(1.0) * 1e5, 3),
            "cpu_share": rounded(cpu / wall, 2),
            "p50_us": percentile(&delays, 0.5), "p99_us": percentile(&delays, 0.99),
            "rss_kb": resident_kb(server.child.id())?,
        })
    );
    Ok(())
}

async fn idle(way: &str, server: &Server, args: &Args) -> Outcome<()> {
    let count = args.number("idle", 20_000);
    let mut open = vec![connect(server.port, [127, 0, 0, 1]).await?];
    let before = resident_kb(server.child.id())?;
    for n in 0..count {
        // An address has some 28,000 ports.
        let from = [127, 0, 0, u8::try_from(1 + n / 10_000)?];
        open.push(connect(server.port, from).await?);
    }
    let after = resident_kb(server.child.id())?;
    let span = Span::start(&[server.child.id()]);
    tokio::time::sleep(args.seconds("seconds", 5.0)).await;
    let (_, _, cpu) = span.stop();
    println!(
        "{}",
        json!({
            "way": way, "connections": count, "cpu_s": rounded(cpu, 2),
            "kb_each": rounded((after as f64 - before as f64) / count as f64, 2),
        })
    );
    Ok(())
}

fn resident_kb(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.ok_or("a process has a size")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
