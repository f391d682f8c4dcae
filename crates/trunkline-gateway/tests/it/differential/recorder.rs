//! A service that notes what it gets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A service that answers everything with 200, and knows by the host which request is which.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    _tasks: Arc<JoinSet<()>>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<BTreeMap<String, Vec<String>>>>::default();
        let notes = seen.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let notes = notes.clone();
                open.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while answer(&mut stream, &notes).await.is_some() {}
                });
            }
        });
        Self {
            address,
            seen,
            _tasks: Arc::new(tasks),
        }
    }

    /// What it got of a request.
    pub(super) fn got(&self, name: &str) -> String {
        match self.seen.lock().get(name) {
            Some(seen) => seen.join(" + "),
            None => "nothing".to_owned(),
        }
    }
}

/// Takes one request; none if there is none, or no other can follow.
async fn answer(
    stream: &mut BufReader<TcpStream>,
    notes: &Mutex<BTreeMap<String, Vec<String>>>,
) -> Option<()> {
    let mut lines = Vec::new();
    loop {
        let line = line_of(stream).await?;
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end_matches("\r\n").to_owned());
    }
    let header = |name: &str| {
        lines.iter().skip(1).find_map(|line| {
            let (given, value) = line.split_once(':')?;
            given
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let length = header("content-length").and_then(|length| length.parse().ok());
    let body = match header("transfer-encoding") {
        Some(_) => chunked(stream).await,
        None => exactly(stream, length.unwrap_or(0)).await,
    };
    let line = lines.first()?.trim_end_matches(" HTTP/1.1").to_owned();
    let mut note = line.clone();
    for line in &lines {
        let line = line.to_ascii_lowercase();
        if ["x-odd", "x_odd", "te:", "expect:", "trailer:", "upgrade:"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            note.push_str(&format!(" [{line}]"));
        }
    }
    let name = header("x-name").unwrap_or_default();
    match &body {
        Some(body) if body.is_empty() => {}
        Some(body) => note.push_str(&format!(" {:?}", String::from_utf8_lossy(body))),
        None => note.push_str(" and no whole body"),
    }
    notes.lock().entry(name).or_default().push(note);
    body?;
    let answer = match header("upgrade") {
        Some(_) => {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        }
        None if line.contains("/early") => {
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        }
        None => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    };
    let answer = match line.starts_with("HEAD ") {
        true => answer.trim_end_matches("ok"),
        false => answer,
    };
    stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
    (!answer.starts_with("HTTP/1.1 101")).then_some(())
}

/// A line with its end, as text; none after the last one.
async fn line_of(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await.ok()?;
    (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
}

async fn exactly(stream: &mut BufReader<TcpStream>, length: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn chunked(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = line_of(stream).await?;
        let size = usize::from_str_radix(line.trim_end().split(';').next()?, 16).ok()?;
        if size == 0 {
            // No trailers are expected: they are noted as a part of the body.
            loop {
                let line = line_of(stream).await?;
                if line.trim_end().is_empty() {
                    return Some(body);
                }
                body.extend(b" trailer ");
                body.extend(line.trim_end().as_bytes());
            }
        }
        body.extend(exactly(stream, size).await?);
        line_of(stream).await?;
    }
}
