//! Requests without a body by HTTP/1.1, from a head that stays where it is.
//!
//! A proxy that keeps a request's head, to send it again or to tell of it, would have to copy it for a client that takes
//! requests over. Here the head is written to the connection as it stands. Whoever waits for the answer drives the
//! connection, and so does whoever reads its body; in between it belongs to nobody and holds no buffers.

mod body;
mod chunked;
mod head;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use trunkline_core::{Error, Result};

pub(super) use self::body::Answer;
pub use self::head::RequestHead;
use super::dial::{Asks, Dial, Dialled, Stream};
use super::idle::{Bounds, Idle, Peered};
use super::line::Verdict;
use super::pool::is_reset;
use super::unreached;
use super::wire::{Stage, Unanswered};

/// A longer head of an answer, with the informational ones before it, is refused: what 100 headers of 4 KiB take.
const HEAD_BYTES_MAX: usize = 408 * 1024;
/// So much is read at once of an answer's head, and of what came with it.
const READ_BYTES: usize = 16 * 1024;

/// The connections to one place for requests without a body.
pub(super) struct Client {
    dial: Arc<dyn Dial>,
    /// What requests say that they are for, if they say nothing else.
    host: HeaderValue,
    idle: Arc<Idle<Line>>,
}

/// A connection.
pub(super) struct Line {
    stream: Stream,
    peer: Option<SocketAddr>,
    verdict: Verdict,
}

impl Peered for Line {
    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// Why a request has no answer.
enum Failure {
    /// The connection had been closed before anything was sent.
    Unsent,
    /// It broke before a byte of an answer came.
    Broken(io::Error),
    /// The answer makes no sense, or broke off.
    Wrong(io::Error),
}

impl Client {
    pub(super) fn to(host: HeaderValue, dial: Arc<dyn Dial>, bounds: Bounds) -> Self {
        Self {
            idle: Idle::new(dial.clone(), bounds),
            dial,
            host,
        }
    }

    /// Sends a request on a connection that is kept, or on a new one.
    ///
    /// # Errors
    /// As [`super::wire::Wire::send_head`].
    pub(super) async fn send(
        &self,
        head: RequestHead<'_>,
        stage: &Stage,
    ) -> Result<Response<Answer>, Unanswered> {
        let bytes = head.encode(&self.host);
        let mut now = stage.began();
        loop {
            let kept = self.idle.take_at(now);
            let is_kept = kept.is_some();
            let mut line = match kept {
                Some(line) => line,
                None => {
                    stage.set(false);
                    let made = Box::pin(self.dial.dial(Asks::Http1)).await;
                    made.map(Line::new).map_err(Unanswered::untouched)?
                }
            };
            stage.set(true);
            let answer = poll_fn(|cx| line.poll_unused(cx)).await;
            let answer = match answer {
                Ok(()) => line.exchange(&bytes, head.method).await,
                Err(failure) => Err(failure),
            };
            match answer {
                Ok(received) => return Ok(self.answer(received, line)),
                // It was closed while nobody used it.
                Err(Failure::Unsent) if is_kept => now = Instant::now(),
                Err(failure) => return Err(line.broke(failure, is_kept)),
            }
        }
    }

    /// Takes a connection that was made, to be used by the next request.
    pub(super) fn begin(&self, dialled: Dialled) {
        self.idle.put(Line::new(dialled));
    }

    /// Those that nobody uses, for whoever else can use them.
    pub(super) fn idle(&self) -> Arc<Idle<Line>> {
        self.idle.clone()
    }

    fn answer(&self, received: head::Received, line: Line) -> Response<Answer> {
        let head::Received {
            response,
            framing,
            rest,
            keeps,
        } = received;
        let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let home = (keeps && !is_switched).then(|| self.idle.clone());
        response.map(|()| Answer::new(line, framing, rest, home))
    }
}

impl Line {
    fn new(dialled: Dialled) -> Self {
        Self {
            stream: dialled.stream,
            peer: dialled.peer,
            verdict: dialled.verdict,
        }
    }

    /// The connection as it was made.
    pub(super) fn into_dialled(self) -> Dialled {
        Dialled {
            stream: self.stream,
            peer: self.peer,
            is_h2: false,
            verdict: self.verdict,
        }
    }

    /// Whether nothing has come that nobody asked for. The task is woken when something comes.
    fn poll_unused(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut byte = [0];
        let mut into = ReadBuf::new(&mut byte);
        Poll::Ready(match Pin::new(&mut self.stream).poll_read(cx, &mut into) {
            Poll::Pending => Ok(()),
            Poll::Ready(_) => Err(Failure::Unsent),
        })
    }

    /// Sends a head and waits for that of the answer.
    async fn exchange(&mut self, bytes: &[u8], method: &Method) -> Result<head::Received, Failure> {
        let written = self.write(bytes).await;
        // A place may answer before it has read everything, and close.
        let mut held = BytesMut::new();
        let mut seen = 0;
        loop {
            let known = held.len();
            let read = poll_fn(|cx| self.poll_read(cx, &mut held)).await;
            match (read, &written) {
                (Ok(0), Err(error)) if seen == 0 => {
                    return Err(Failure::Broken(error.kind().into()));
                }
                (Ok(0), _) => {
                    let eof = io::ErrorKind::UnexpectedEof.into();
                    return Err(match seen {
                        0 => Failure::Broken(eof),
                        _ => Failure::Wrong(eof),
                    });
                }
                (Ok(read), _) => seen += read,
                (Err(error), _) if seen == 0 => return Err(Failure::Broken(error)),
                (Err(error), _) => return Err(Failure::Wrong(error)),
            }
            if let Some(received) =
                head::receive(&mut held, known, method).map_err(Failure::Wrong)?
            {
                return Ok(received);
            }
            if seen > HEAD_BYTES_MAX {
                return Err(Failure::Wrong(invalid(
                    "the head of the answer is too long",
                )));
            }
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                bytes = bytes.get(written..).unwrap_or_default();
            }
            Pin::new(&mut self.stream).poll_flush(cx)
        })
        .await
    }

    /// Reads what there is behind what is held, and says how much that is: nothing at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, held: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut space = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut into = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
        held.extend_from_slice(into.filled());
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Why a request that it took has no answer.
    fn broke(&self, failure: Failure, is_kept: bool) -> Unanswered {
        let (error, is_silent) = match failure {
            Failure::Unsent => {
                let text = "the service speaks before it is asked";
                return Unanswered::untouched(unreached(true, invalid(text)));
            }
            Failure::Broken(error) => (error, true),
            Failure::Wrong(error) => (error, false),
        };
        let is_end = error.kind() == io::ErrorKind::UnexpectedEof || is_reset(&error);
        let refusal = self.verdict.refusal();
        let error: Error = refusal.unwrap_or_else(|| unreached(false, error));
        Unanswered {
            was_kept: is_kept && is_silent && is_end,
            ..Unanswered::from(error)
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;
