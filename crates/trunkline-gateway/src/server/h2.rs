//! Connections of HTTP/2.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::sleep;
use trunkline_call::headers::spare_table;

use super::door::{Answer, Line};
use super::frames::Frames;

/// What one request's body may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What all bodies of a connection may send ahead of their readers.
const LINE_WINDOW_BYTES: u32 = 1024 * 1024;
/// An answer is read this far ahead of its connection.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// A client that is silent is asked after so long whether it is there,
const ASK_AFTER: Duration = Duration::from_secs(20);
/// and has so long to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Line {
    /// Answers the requests of a connection of HTTP/2 until it ends. `stream` begins with the preface.
    pub(super) async fn answer_h2<S>(&self, stream: S) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.gateway().limits;
        let mut stopping = self.door.stopping.clone();
        let streams = Streams::default();
        let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        let connection = Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(head_bytes_max)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(LINE_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(ASK_AFTER)
            .keep_alive_timeout(ANSWER_WITHIN)
            .serve_connection(
                TokioIo::new(Frames::new(stream)),
                self.service(spares_table()),
            );
        let mut connection = std::pin::pin!(connection);
        let (mut told, mut seen) = (false, None);
        loop {
            tokio::select! {
                biased;
                ended = &mut connection => return ended,
                // What the client sent before it reads of this is still answered: GOAWAY says so.
                () = stopping.begun(), if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep(limits.head_within) => {
                    let at_rest = streams.at_rest();
                    let is_idle = at_rest.is_some() && at_rest == seen;
                    seen = at_rest;
                    match is_idle {
                        // One who does not even take its leave.
                        true if told => return Ok(()),
                        true => {
                            told = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        false => {}
                    }
                }
            }
        }
    }
}

/// Keeps what comes once out of the table of headers that both ends keep; the names of the first answer come into it.
fn spares_table() -> impl Fn(&mut Answer) + Clone + Send + 'static {
    let has_answered = Arc::<AtomicBool>::default();
    move |answer: &mut Answer| {
        if has_answered.swap(true, Ordering::Relaxed) {
            spare_table(answer.headers_mut(), is_of_limits);
        }
    }
}

/// Whether a header tells what is left of a limit: that is less each time.
fn is_of_limits(name: &str) -> bool {
    name.starts_with("ratelimit") || name.starts_with("x-ratelimit-remaining")
}

/// The requests of one connection; they end with it.
#[derive(Clone, Default)]
struct Streams(Arc<UnderWay>);

#[derive(Default)]
struct UnderWay {
    tasks: Mutex<JoinSet<()>>,
    begun: AtomicUsize,
}

impl Streams {
    /// How many requests there were, if none is under way.
    fn at_rest(&self) -> Option<usize> {
        let mut tasks = self.0.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks
            .is_empty()
            .then(|| self.0.begun.load(Ordering::Relaxed))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        let mut tasks = self.0.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(stream);
    }
}
