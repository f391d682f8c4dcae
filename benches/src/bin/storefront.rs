//! The whole store as a process: the time of its start, its memory, what it costs when nobody does anything.
//!
//! `storefront [--program target/release/storefront] [--idle 30] [--orders 500]`
//!
//! It starts the release build on an empty folder and free ports, with the whole catalogue, measures from outside
//! through `/proc`, and stops it. Prints one line of JSON.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunkline_benches::{Args, cpu_seconds, rounded};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args = Args::parse();
    let program = args.text("program", "target/release/storefront");
    let idle = args.seconds("idle", 30.0);
    let data = std::env::temp_dir().join(format!("storefront-bench-{}", std::process::id()));
    let measured = measure(&program, &data, idle, args.number("orders", 500));
    drop(std::fs::remove_dir_all(&data));
    println!("{}", measured?);
    Ok(())
}

fn measure(program: &str, data: &Path, idle: Duration, orders: u64) -> Result<Value> {
    let begun = Instant::now();
    let store = Store::start(program, data)?;
    store.ready()?;
    let first_start = begun.elapsed();
    let started = store.memory()?;
    let resting = store.rest(idle);
    let (took, cpu) = store.order(program, orders)?;
    let after = store.memory()?;
    let resting_after = store.rest(idle / 3);
    let begun = Instant::now();
    drop(store);
    let stopped = begun.elapsed();
    let begun = Instant::now();
    let store = Store::start(program, data)?;
    store.ready()?;
    Ok(json!({
        "bench": "storefront",
        "first_start_s": rounded(first_start.as_secs_f64(), 2),
        "second_start_s": rounded(begun.elapsed().as_secs_f64(), 2),
        "stop_s": rounded(stopped.as_secs_f64(), 2),
        "rss_mib": started, "idle": resting,
        "orders": orders, "orders_per_second": rounded(orders as f64 / took.as_secs_f64(), 1),
        "cpu_ms_per_order": rounded(cpu * 1e3 / orders.max(1) as f64, 2),
        "rss_mib_after_orders": after, "idle_after_orders": resting_after,
        "rss_mib_second_start": store.memory()?,
    }))
}

/// A running store; it is asked to end with this value.
struct Store {
    process: Child,
    gateway: u16,
    admin: u16,
    data: PathBuf,
}

impl Store {
    fn start(program: &str, data: &Path) -> Result<Self> {
        let [gateway, admin, sandbox] = free_ports()?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let process = Command::new(program)
            .args([
                "--quiet",
                "--gateway",
                &address(gateway),
                "--admin",
                &address(admin),
            ])
            .args(["--sandbox", &address(sandbox), "--data"])
            .arg(data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            process,
            gateway,
            admin,
            data: data.to_owned(),
        })
    }

    fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if get(self.admin, "/health/ready", "").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the store is not ready within a minute".into())
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process.id());
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Resident memory, and its part that is not the files' (which the system may take back).
    fn memory(&self) -> Result<Value> {
        let status = self.proc("status");
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
            kib.map(|kib| rounded(kib / 1024.0, 1))
        };
        let all = mib("VmRSS:").ok_or("the store has ended")?;
        Ok(json!({ "all": all, "anonymous": mib("RssAnon:"), "highest": mib("VmHWM:") }))
    }

    /// What it does when nobody asks for anything: its share of a core, and how often its threads wake.
    fn rest(&self, lasts: Duration) -> Value {
        std::thread::sleep(Duration::from_secs(2));
        let pid = self.process.id().to_string();
        let (cpu, wakes) = (cpu_seconds(&pid), self.wakes());
        std::thread::sleep(lasts);
        let share = (cpu_seconds(&pid) - cpu) / lasts.as_secs_f64() * 100.0;
        let wakes = self.wakes().saturating_sub(wakes) as f64 / lasts.as_secs_f64();
        json!({ "seconds": lasts.as_secs(), "core_percent": rounded(share, 2),
            "wakes_per_second": rounded(wakes, 1) })
    }

    /// Voluntary switches of the threads that there are; of those that end meanwhile they are lost.
    fn wakes(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let switches = |thread: std::io::Result<std::fs::DirEntry>| {
            let status = std::fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
            let line = status
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        threads.into_iter().flatten().filter_map(switches).sum()
    }

    /// Places orders one after the other, and waits for the last: how long it took and its CPU seconds.
    fn order(&self, program: &str, count: u64) -> Result<(Duration, f64)> {
        let token = Command::new(program)
            .args(["token", "--user", "bench", "--data"])
            .arg(&self.data)
            .output()?;
        let token = String::from_utf8(token.stdout)?.trim().to_owned();
        let (_, products) = get(self.gateway, "/api/products?limit=100", "")?;
        let all = products["items"].as_array().ok_or("no products")?;
        let mut products = Vec::new();
        for product in all.iter().filter_map(|product| product["id"].as_str()) {
            let (_, stock) = get(self.gateway, &format!("/api/inventory/{product}"), "")?;
            if stock["available"].as_u64() >= Some(count.div_ceil(10)) {
                products.push(product.to_owned());
            }
        }
        let (begun, cpu) = (Instant::now(), cpu_seconds(&self.process.id().to_string()));
        let mut last = String::new();
        for n in 0..count {
            let product = products.get(usize::try_from(n)? % products.len().max(1));
            let item = json!({ "product_id": product.ok_or("no stock")?, "quantity": 1 });
            let signed = format!("Authorization: Bearer {token}\r\n");
            let (status, answer) = post(self.gateway, "/api/cart/items", &signed, &item)?;
            if status >= 300 {
                return Err(format!("the cart refused {item}: {status} {answer}").into());
            }
            let keyed = format!("{signed}Idempotency-Key: bench-{n}\r\n");
            let (status, answer) = post(self.gateway, "/api/v1/orders", &keyed, &json!({}))?;
            let id = answer["order_id"].as_str();
            last = id
                .ok_or_else(|| format!("no order: {status} {answer}"))?
                .to_owned();
        }
        let signed = format!("Authorization: Bearer {token}\r\n");
        let path = format!("/api/v1/orders/{last}");
        while get(self.gateway, &path, &signed)?.1["status"] == "pending" {
            if begun.elapsed() > Duration::from_secs(120) {
                return Err("the last order is still pending".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let cpu = cpu_seconds(&self.process.id().to_string()) - cpu;
        Ok((begun.elapsed(), cpu))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let asked = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        if asked.is_err() {
            drop(self.process.kill());
        }
        drop(self.process.wait());
    }
}

fn free_ports() -> Result<[u16; 3]> {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(held) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn get(port: u16, path: &str, headers: &str) -> Result<(u16, Value)> {
    send(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: store\r\nConnection: close\r\n{headers}\r\n"),
    )
}

fn post(port: u16, path: &str, headers: &str, body: &Value) -> Result<(u16, Value)> {
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: store\r\nConnection: close\r\n{headers}");
    let kind = "Content-Type: application/json\r\n";
    send(
        port,
        &format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len()),
    )
}

fn send(port: u16, request: &str) -> Result<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).ok_or("no status")?.parse()?;
    let mut length = 0;
    while {
        line.clear();
        answer.read_line(&mut line)?
    } > 2
    {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body)?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
