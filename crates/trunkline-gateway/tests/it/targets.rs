//! Servers that a gateway is put in front of: they write down what they get, and misbehave on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use trunkline_gateway::Config;

/// What a target does with a request that it has read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Does {
    /// Answers with this status and its own name.
    Answers(u16),
    /// Answers the first request of a connection, and closes it at the second.
    AnswersOnce,
    /// Nothing, for ever.
    Hangs,
    /// Closes the connection.
    Closes,
    /// Writes this and closes.
    Says(&'static str),
    /// Writes this for ever.
    Repeats(&'static str),
    /// Answers byte by byte.
    Drips,
    /// Answers half of what it says it will, and pauses for ever.
    Pauses,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Heads as they came.
    pub(crate) heads: Mutex<Vec<String>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    /// Connections that are open now.
    pub(crate) open: AtomicUsize,
}

pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) at: SocketAddr,
    pub(crate) log: Arc<Log>,
    does: Arc<Mutex<Does>>,
    /// A connection is closed after so many answers.
    answers_max: Arc<AtomicUsize>,
    /// Whether the last of them says so.
    tells: Arc<AtomicBool>,
    tls: Option<TlsAcceptor>,
    server: JoinSet<()>,
}

impl Target {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::start_with(name, None).await
    }

    pub(crate) async fn start_with(name: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serving(name, listener, tls)
    }

    pub(crate) fn serving(
        name: &'static str,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let mut target = Self {
            name,
            at: listener.local_addr().unwrap(),
            log: Arc::default(),
            does: Arc::new(Mutex::new(Does::Answers(200))),
            answers_max: Arc::new(AtomicUsize::new(usize::MAX)),
            tells: Arc::default(),
            tls,
            server: JoinSet::new(),
        };
        target.serve(listener);
        target
    }

    pub(crate) fn does(&self, does: Does) {
        *self.does.lock() = does;
    }

    pub(crate) fn closes_after(&self, answers: usize, tells: bool) {
        self.answers_max.store(answers, Relaxed);
        self.tells.store(tells, Relaxed);
    }

    pub(crate) fn requests(&self) -> usize {
        self.log.requests.load(Relaxed)
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Relaxed)
    }

    pub(crate) fn last_head(&self) -> String {
        self.log.heads.lock().last().unwrap().clone()
    }

    /// Ends at once, with all its connections.
    pub(crate) async fn dies(&mut self) {
        self.server.shutdown().await;
    }

    pub(crate) async fn lives_again(&mut self) {
        let listener = TcpListener::bind(self.at).await.unwrap();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let one = One {
            name: self.name,
            log: self.log.clone(),
            does: self.does.clone(),
            answers_max: self.answers_max.clone(),
            tells: self.tells.clone(),
        };
        let tls = self.tls.clone();
        self.server.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                one.log.connections.fetch_add(1, Relaxed);
                let (one, tls) = (one.clone(), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => one.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                one.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
    }
}

#[derive(Clone)]
struct One {
    name: &'static str,
    log: Arc<Log>,
    does: Arc<Mutex<Does>>,
    answers_max: Arc<AtomicUsize>,
    tells: Arc<AtomicBool>,
}

impl One {
    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.log.open.fetch_add(1, Relaxed);
        let answers_max = self.answers_max.load(Relaxed);
        for left in (0..answers_max).rev() {
            let Some(head) = read_request(&mut stream).await else {
                break;
            };
            self.log.requests.fetch_add(1, Relaxed);
            self.log.heads.lock().push(head);
            let does = match *self.does.lock() {
                Does::AnswersOnce if left + 1 < answers_max => Does::Closes,
                Does::AnswersOnce => Does::Answers(200),
                does => does,
            };
            let closes = left == 0 && self.tells.load(Relaxed);
            if self.answer(&mut stream, does, closes).await.is_none() {
                break;
            }
        }
        self.log.open.fetch_sub(1, Relaxed);
    }

    /// Nothing where the connection ends.
    async fn answer(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        does: Does,
        closes: bool,
    ) -> Option<()> {
        let name = self.name;
        match does {
            Does::Answers(status) => {
                let length = name.len();
                let close = if closes { "connection: close\r\n" } else { "" };
                let text = format!(
                    "HTTP/1.1 {status} so\r\ncontent-length: {length}\r\n{close}x-target: {name}\r\n\r\n{name}"
                );
                stream.write_all(text.as_bytes()).await.ok()
            }
            Does::Hangs | Does::AnswersOnce => {
                // Until the other end goes away.
                drop(stream.read_u8().await);
                None
            }
            Does::Closes => None,
            Does::Says(text) => {
                drop(stream.write_all(text.as_bytes()).await);
                drop(stream.shutdown().await);
                None
            }
            Does::Repeats(text) => {
                while stream.write_all(text.as_bytes()).await.is_ok() {}
                None
            }
            Does::Drips => {
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nslow!" {
                    stream.write_all(&[*byte]).await.ok()?;
                    stream.flush().await.ok()?;
                    tokio::task::yield_now().await;
                }
                Some(())
            }
            Does::Pauses => {
                let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
                stream.write_all(half.as_bytes()).await.ok()?;
                std::future::pending().await
            }
        }
    }
}

/// Reads a request, its body too. The head of it, unless the connection ends.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

/// A gateway's file. `service` has fields of the service, `rest` what stands beside it.
pub(crate) fn file(url: &str, service: &str, rest: &str) -> Config {
    let text = format!(
        "_format_version: '3.0'\nservices:\n- name: s\n  url: {url}\n{service}  routes:\n  - name: r\n    paths: [/r]\n{rest}"
    );
    Config::parse("kong.yml", &text).unwrap()
}

/// An upstream named `u` of these targets, each with its weight; `more` has its other fields.
pub(crate) fn upstream(targets: &[(&Target, u16)], more: &str) -> String {
    let targets = targets
        .iter()
        .map(|(target, weight)| format!("  - {{target: '{}', weight: {weight}}}\n", target.at));
    let targets: String = targets.collect();
    format!("upstreams:\n- name: u\n{more}  targets:\n{targets}")
}
