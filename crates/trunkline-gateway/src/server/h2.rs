//! Connections of HTTP/2.

mod answer;
mod requests;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use self::requests::Requests;
use super::door::{Ended, Line};
use super::frames::Frames;
use crate::Limits;

/// What one request's body may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What all bodies of a connection may send ahead of their readers.
const LINE_WINDOW_BYTES: u32 = 1024 * 1024;
/// An answer is read this far ahead of its connection.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Requests that were taken back before anybody saw them: with more of them a connection ends.
const UNSEEN_RESETS_MAX: usize = 20;
/// Requests that were refused because they break the rules: with more of them a connection ends.
const REFUSED_MAX: usize = 1024;
/// Frames may still come for so many requests that are over.
const OVER_MAX: usize = 50;
/// A client that is silent for so long, or at most for twice as long, is asked whether it is there,
const ASK_AFTER: Duration = Duration::from_secs(20);
/// and has so long to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Line {
    /// Answers the requests of a connection of HTTP/2 until it ends. `stream` begins with the preface.
    pub(super) async fn answer_h2<S>(&self, stream: S) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.gateway().limits;
        let mut stopping = self.door.stopping.clone();
        let stream = Frames::new(stream);
        let heard = stream.heard();
        let begun = builder(&limits).handshake(stream);
        let mut connection = timeout(limits.head_within, begun).await??;
        let mut silent = std::pin::pin!(silence(connection.ping_pong(), heard));
        let mut serving = Serving {
            line: self,
            connection,
            requests: Requests::new(),
        };
        let (mut told, mut seen) = (false, None);
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| serving.poll(cx)) => return Ok(ended?),
                // What the client sent before it reads of this is still answered: GOAWAY says so.
                () = stopping.begun(), if !told => {
                    told = true;
                    serving.connection.graceful_shutdown();
                }
                () = sleep(limits.head_within) => {
                    let at_rest = serving.requests.at_rest();
                    let is_idle = at_rest.is_some() && at_rest == seen;
                    seen = at_rest;
                    match is_idle {
                        // One who does not even take its leave.
                        true if told => return Ok(()),
                        true => {
                            told = true;
                            serving.connection.graceful_shutdown();
                        }
                        false => {}
                    }
                }
                () = &mut silent => return Ok(()),
            }
        }
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINE_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(OVER_MAX)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(Some(REFUSED_MAX));
    builder
}

/// A connection at work, and what is done for it.
struct Serving<'a, S> {
    line: &'a Line,
    connection: Connection<Frames<S>, Bytes>,
    requests: Requests,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<'_, S> {
    /// Ends with the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        // What they say goes out when the connection is looked at, all of it together.
        self.requests.poll(cx);
        let mut has_more = false;
        while let Poll::Ready(next) = self.connection.poll_accept(cx) {
            let Some(next) = next.transpose()? else {
                return Poll::Ready(Ok(()));
            };
            self.requests.begin(self.line, next);
            has_more = true;
        }
        if has_more {
            // What is answered at once has the connection wake us.
            self.requests.poll(cx);
        }
        Poll::Pending
    }
}

/// Ends when the client has been silent and does not say that it is there.
async fn silence(mut pings: Option<PingPong>, heard: Arc<AtomicU64>) {
    let mut known = heard.load(Ordering::Relaxed);
    loop {
        sleep(ASK_AFTER).await;
        let now = heard.load(Ordering::Relaxed);
        if now == known
            && let Some(pings) = &mut pings
        {
            let asked = timeout(ANSWER_WITHIN, pings.ping(Ping::opaque())).await;
            if !matches!(asked, Ok(Ok(_))) {
                return;
            }
        }
        known = now;
    }
}
