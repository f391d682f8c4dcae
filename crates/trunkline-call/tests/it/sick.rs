//! A server with one thing wrong at a time, on a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It takes the request and says nothing.
    Hangs,
    /// Every other request is answered with 503.
    Flaps,
    /// It cuts the connection once the request is there.
    Resets,
    /// Its answer's head comes byte by byte.
    TricklesHead,
    /// Its answer's body comes byte by byte.
    TricklesBody,
    /// Its answer's body has no end.
    Endless,
    /// It answers with something else.
    Html,
    /// It does not speak HTTP.
    Garbage,
    /// It says that more comes than does.
    Short,
}

pub struct Sick {
    pub address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    requests: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Sick {
    pub async fn start(fault: Fault) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), fault)
    }

    pub fn at(listener: TcpListener, fault: Fault) -> Self {
        let address = listener.local_addr().unwrap();
        let fault = Arc::new(Mutex::new(fault));
        let requests = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        let (current, count) = (fault.clone(), requests.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, current.clone(), count.clone()));
            }
        });
        Self {
            address,
            fault,
            requests,
            _tasks: tasks,
        }
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// How many requests it got.
    pub fn load(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

const WELL: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";

async fn serve(mut stream: TcpStream, fault: Arc<Mutex<Fault>>, requests: Arc<AtomicU32>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let number = requests.fetch_add(1, Ordering::SeqCst);
    let fault = *fault.lock();
    let written = match fault {
        Fault::None => all(&mut stream, &[WELL, "true"]).await,
        Fault::Hangs => std::future::pending().await,
        Fault::Flaps if number % 2 == 1 => all(&mut stream, &[WELL, "true"]).await,
        Fault::Flaps => {
            let refused = "HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            all(&mut stream, &[refused]).await
        }
        Fault::Resets => {
            stream.set_zero_linger().unwrap();
            return;
        }
        Fault::TricklesHead => trickle(&mut stream, WELL).await,
        Fault::TricklesBody => {
            let long = WELL.replace("length: 4", "length: 400");
            if all(&mut stream, &[&long]).await {
                trickle(&mut stream, &" ".repeat(400)).await
            } else {
                false
            }
        }
        Fault::Endless => {
            let begin = WELL.replace("content-length: 4", "transfer-encoding: chunked");
            let chunk = format!("10000\r\n{}\r\n", "1".repeat(0x1_0000));
            let mut goes = all(&mut stream, &[&begin]).await;
            while goes {
                goes = all(&mut stream, &[&chunk]).await;
            }
            false
        }
        Fault::Html => {
            let html = WELL.replace("application/json", "text/html");
            all(&mut stream, &[&html, "<p/>"]).await
        }
        Fault::Garbage => all(&mut stream, &["\0\x01 not a protocol\r\n\r\n"]).await,
        Fault::Short => all(&mut stream, &[WELL, "tr"]).await,
    };
    if written {
        drop(stream.shutdown().await);
    }
}

async fn all(stream: &mut TcpStream, pieces: &[&str]) -> bool {
    for piece in pieces {
        if stream.write_all(piece.as_bytes()).await.is_err() {
            return false;
        }
    }
    true
}

async fn trickle(stream: &mut TcpStream, text: &str) -> bool {
    for byte in text.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}
