//! Connections of HTTP/1.1: what most clients ask is read and answered here, anything else by hyper.

mod read;
mod write;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::take;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{Method, Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use trunkline_core::Timestamp;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::read::{Read, read};
#[cfg(not(any(test, feature = "fuzzing")))]
use self::read::{Read, read};
use self::write::Framing;
use super::door::Line;
use super::opening::poll_more;
use super::wait::{Silent, Wait, Watch};
use crate::body::Inbound;
use crate::plugin::AnswerHeaders;

/// Data of a body up to this length is copied behind what goes before it, more is sent from where it is.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// What a client may still send that is not read any more, before the connection is closed.
const DISCARD_BYTES_MAX: usize = 256 * 1024;

/// What a longer answer was written with is not kept.
const KEPT_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// What a thread writes its answers with; nothing while one is written.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How the connection goes on.
pub(super) enum Rest {
    /// It has ended.
    Ended,
    /// The client says nothing: nothing of it is held.
    Silent,
    /// Somebody else has to read what is held, and whatever comes.
    Other(BytesMut),
}

/// What comes next.
enum Next {
    /// A request, and whether the connection is kept then.
    Plain(Request<()>, bool),
    Rest(Rest),
}

/// A connection, and what was read of it and not used.
struct Wire<'a, S> {
    stream: &'a mut S,
    held: BytesMut,
}

impl Line {
    /// Answers requests until the connection ends, the client says nothing, or something comes that is not a plain request.
    ///
    /// # Errors
    /// What breaks the connection.
    pub(super) async fn answer_plain<S>(&self, stream: &mut S, wait: &mut Wait) -> io::Result<Rest>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &self.gateway().limits;
        let held = BytesMut::new();
        let mut wire = Wire { stream, held };
        let mut stopping = self.door.stopping.clone();
        let stops = pin!(stopping.begun().fuse());
        let since = Instant::now();
        let timer = pin!(sleep_until(wait.first(since)));
        let mut watch = Watch {
            wait,
            since,
            timer,
            stops,
            linger: limits.linger,
        };
        loop {
            let (request, keeps) = match wire.next(limits.head_bytes_max, &mut watch).await? {
                Next::Plain(request, keeps) => (request, keeps),
                Next::Rest(rest) => return Ok(rest),
            };
            // In its place, and in no box: who is silent for long is parked, and copying it costs more than its place.
            if !self.exchange(&mut wire, request, keeps).await? {
                break;
            }
            watch.next(limits.head_within);
        }
        // A reset, because of what is not read any more, would take the answer with it.
        drop(Box::pin(timeout(limits.linger, wire.take_leave())).await);
        Ok(Rest::Ended)
    }

    /// Answers a request, and says whether the connection is kept.
    fn exchange<'a, S: AsyncRead + AsyncWrite + Unpin>(
        &'a self,
        wire: &'a mut Wire<'_, S>,
        request: Request<()>,
        keeps: bool,
    ) -> impl Future<Output = io::Result<bool>> {
        let method = request.method().clone();
        let entered = self
            .gateway()
            .begin(request.map(|()| Inbound::None), &self.client);
        async move {
            let work = pin!(self.gateway().answer(entered, &self.client));
            let mut answer = wire.unless_gone(work).await?;
            let told = answer.body_mut().take_told();
            let now = Instant::now();
            answer.body_mut().begin(now);
            let now = answer.body().ending().map(|arrival| arrival.time_at(now));
            let now = now.unwrap_or_else(|| self.gateway().inner.env.now());
            wire.send(answer, (&method, keeps), (told, now)).await
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<'_, S> {
    /// What the client sends next.
    async fn next<F: Future<Output = ()>>(
        &mut self,
        head_bytes_max: usize,
        watch: &mut Watch<'_, F>,
    ) -> io::Result<Next> {
        let mut known = 0;
        loop {
            match read(&mut self.held, known, head_bytes_max) {
                Read::Plain(request, keeps) => return Ok(Next::Plain(request, keeps)),
                Read::Other => return Ok(Next::Rest(Rest::Other(take(&mut self.held)))),
                Read::Part => known = self.held.len(),
            }
            let is_idle = known == 0;
            let more = poll_fn(|cx| match poll_more(self.stream, &mut self.held, cx) {
                Poll::Ready(more) => Poll::Ready(more.map(Ok)),
                Poll::Pending => watch.poll(is_idle, cx).map(|silent| Ok(Err(silent))),
            });
            let rest = match more.await? {
                Ok(0) if !is_idle => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Silent::Ends) if !is_idle => return Err(io::ErrorKind::TimedOut.into()),
                // Nobody is kept waiting.
                Ok(0) | Err(Silent::Ends) => Rest::Ended,
                Err(Silent::Parks) => Rest::Silent,
                Ok(_) => continue,
            };
            return Ok(Next::Rest(rest));
        }
    }

    /// Waits for what is done for the client, unless it goes away. What it sends meanwhile is read once, and no more.
    async fn unless_gone<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> io::Result<T> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if self.held.is_empty() && ready!(poll_more(self.stream, &mut self.held, cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Poll::Pending
        })
        .await
    }

    /// Sends an answer, and says whether the connection is kept. What is there of its body goes with its head.
    async fn send<B>(
        &mut self,
        answer: Response<B>,
        (method, keeps): (&Method, bool),
        (told, now): (AnswerHeaders, Timestamp),
    ) -> io::Result<bool>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let (head, mut body) = answer.into_parts();
        let mut out = KEPT.take();
        let length = body.size_hint().exact();
        let written = write::head(&mut out, (&head, &told), (method, length, keeps), now);
        drop(told);
        let (mut framing, keeps) = written.map_err(|write::Unfit| unfit())?;
        while !framing.is_over() {
            let next = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
            let next = match next {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    self.write([&out, &[], &[]]).await?;
                    out.clear();
                    let next = pin!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
                    self.unless_gone(next).await?
                }
            };
            let (mut data, is_last) = match next {
                // Trailers concern one connection, and are none of this one's.
                Some(Ok(frame)) => (frame.into_data().unwrap_or_default(), body.is_end_stream()),
                Some(Err(error)) => {
                    self.write([&out, &[], &[]]).await?;
                    return Err(io::Error::other(error));
                }
                None => (Bytes::new(), true),
            };
            let tail = framing.data(&mut out, &mut data, is_last);
            if data.len() <= COPY_BYTES_MAX {
                out.extend_from_slice(&data);
                out.extend_from_slice(tail);
            } else {
                self.write([&out, &data, tail]).await?;
                out.clear();
            }
        }
        self.write([&out, &[], &[]]).await?;
        if out.capacity() <= KEPT_BYTES_MAX {
            out.clear();
            KEPT.set(out);
        }
        match framing {
            Framing::Broken => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(keeps),
        }
    }

    async fn write(&mut self, pieces: [&[u8]; 3]) -> io::Result<()> {
        let mut slices = pieces.map(IoSlice::new);
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        poll_fn(|cx| {
            while let [first, rest @ ..] = &*left {
                let written = match rest.iter().all(|piece| piece.is_empty()) {
                    true => Pin::new(&mut *self.stream).poll_write(cx, first),
                    false => Pin::new(&mut *self.stream).poll_write_vectored(cx, left),
                };
                match ready!(written)? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => IoSlice::advance_slices(&mut left, written),
                }
            }
            Pin::new(&mut *self.stream).poll_flush(cx)
        })
        .await
    }

    /// Says that no more is sent, and passes over what still comes, until the client has closed too.
    async fn take_leave(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.stream).poll_shutdown(cx)).await?;
        let mut discarded = 0;
        while discarded < DISCARD_BYTES_MAX {
            self.held.clear();
            match poll_fn(|cx| poll_more(self.stream, &mut self.held, cx)).await? {
                0 => break,
                read => discarded += read,
            }
        }
        Ok(())
    }
}

fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer can't be sent")
}

#[cfg(test)]
mod tests;
