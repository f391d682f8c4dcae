//! What a connection costs that nobody uses: resident memory of the proxy for each.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trunkline_benches::{Args, rounded};

use super::{END, start, token};

/// Connections are idle when they have been silent for so long.
const IDLE_AFTER: Duration = Duration::from_secs(3);

/// Opens so many connections to each proxy, sends one request on each, and looks how much larger the proxy is when all are
/// idle.
pub(super) async fn measure(
    args: &Args,
    (ways, upstream, folder): (&[&str], u16, &TempDir),
) -> Result<(), Box<dyn std::error::Error>> {
    let count = args.number("idle", 9_000);
    let request = format!(
        "GET /api/orders/42 HTTP/1.1\r\nhost: shop.example.com\r\nauthorization: Bearer {}\r\n\r\n",
        token()?
    );
    for way in ways {
        let proxy = start(way, upstream, folder)?;
        let mut open = Vec::new();
        let mut before = 0;
        for n in 0..=count {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(END) {
                if stream.read_buf(&mut answer).await? == 0 {
                    return Err(String::from_utf8_lossy(&answer).into());
                }
            }
            open.push(stream);
            if n == 0 {
                before = resident_kb(proxy.pid())?;
            }
        }
        tokio::time::sleep(IDLE_AFTER).await;
        let after = resident_kb(proxy.pid())?;
        let each = (after as f64 - before as f64) / count as f64;
        println!(
            "{}",
            json!({ "way": way, "connections": count, "kb_before": before, "kb_after": after, "kb_each": rounded(each, 2) })
        );
    }
    Ok(())
}

fn resident_kb(pid: u32) -> Result<u64, Box<dyn std::error::Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.ok_or("a process has a size")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
