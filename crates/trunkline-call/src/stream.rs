//! Bodies over streams of HTTP/2, as the `h2` crate has them: what both ends of a call read and send by.
//!
//! ```
//! use std::future::poll_fn;
//! use std::task::Poll;
//!
//! use bytes::Bytes;
//! use h2::server::SendResponse;
//! use http::Response;
//! use trunkline_call::Body;
//! use trunkline_call::stream::{Ahead, Cut};
//!
//! async fn answer(mut to: SendResponse<Bytes>, answer: Response<Body>) -> Result<(), Cut> {
//!     let (head, body) = answer.into_parts();
//!     let mut body = Some(body);
//!     let body = poll_fn(|cx| Poll::Ready(Ahead::new(body.take().unwrap_or_default(), cx))).await;
//!     let is_empty = body.is_empty();
//!     match to.send_response(Response::from_parts(head, ()), is_empty) {
//!         Ok(stream) if !is_empty => body.on(stream).await,
//!         _ => Ok(()),
//!     }
//! }
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::Body;

/// The body that a stream brings. What was read makes room for more.
pub struct Received {
    inner: RecvStream,
    /// What is still to come, where the head says so.
    left: Option<u64>,
    state: State,
    /// Whether it was at its end when somebody read of it last: the stream itself is behind a lock, and many ask.
    has_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Over,
}

impl Received {
    /// The body that comes after these headers.
    pub fn new(inner: RecvStream, headers: &HeaderMap) -> Self {
        let has_ended = inner.is_end_stream();
        let state = match has_ended {
            true => State::Over,
            false => State::Data,
        };
        let length = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
        let length = length.and_then(|length| length.ok()?.parse().ok());
        Self {
            left: length.filter(|_| state == State::Data),
            inner,
            state,
            has_ended,
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if this.state == State::Data {
            match ready!(this.inner.poll_data(cx)) {
                Some(Ok(data)) => {
                    let count = data.len();
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(count as u64);
                    }
                    // It fails where the stream is over, and then there is nothing to make room for.
                    drop(this.inner.flow_control().release_capacity(count));
                    this.has_ended = this.inner.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The other end has said all, and wants no more of ours.
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    this.state = State::Over;
                }
                Some(Err(error)) => {
                    this.state = State::Over;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.state = State::Trailers,
            }
        }
        if this.state == State::Over {
            return Poll::Ready(None);
        }
        let trailers = ready!(this.inner.poll_trailers(cx));
        this.state = State::Over;
        Poll::Ready(
            trailers
                .transpose()
                .map(|trailers| trailers.map(Frame::trailers)),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over || self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        match (self.is_end_stream(), self.left) {
            (true, _) => SizeHint::with_exact(0),
            (false, Some(left)) => SizeHint::with_exact(left),
            (false, None) => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for Ahead<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Sending<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").finish_non_exhaustive()
    }
}

/// A body, looked at one piece ahead: the last one says itself that it is.
pub struct Ahead<B = Body> {
    body: B,
    next: Option<Next>,
}

enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    Broken(axum::Error),
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin> Ahead<B> {
    /// Looks at the first piece, if it is there.
    pub fn new(body: B, cx: &mut Context<'_>) -> Self {
        let mut ahead = Self { body, next: None };
        ahead.look(cx);
        ahead
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self.next, Some(Next::End))
    }

    /// Sends it on a stream.
    pub fn on(self, stream: SendStream<Bytes>) -> Sending<B> {
        Sending {
            ahead: self,
            stream,
            held: None,
            has_begun: false,
            is_over: false,
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        if self.next.is_some() {
            return;
        }
        if self.body.is_end_stream() {
            self.next = Some(Next::End);
            return;
        }
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.next = Some(match frame.map(|frame| frame.map(Frame::into_data)) {
                None => Next::End,
                Some(Err(error)) => Next::Broken(error),
                // It would be a frame that brings nothing.
                Some(Ok(Ok(data))) if data.is_empty() => continue,
                Some(Ok(Ok(data))) => Next::Data(data),
                Some(Ok(Err(frame))) => match frame.into_trailers() {
                    Ok(trailers) => Next::Trailers(trailers),
                    Err(_) => continue,
                },
            });
            return;
        }
    }
}

/// A body on its way onto a stream. Dropped before its end, it takes the stream back.
///
/// Of the body no more is asked than one piece that waits for room, and one more that tells whether it is the last.
pub struct Sending<B = Body> {
    ahead: Ahead<B>,
    stream: SendStream<Bytes>,
    held: Option<Bytes>,
    has_begun: bool,
    is_over: bool,
}

/// Why a body did not reach its end.
#[derive(Debug)]
pub enum Cut {
    /// The one who sends broke off.
    Own(axum::Error),
    /// The other end wants no more, or is gone.
    Other,
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin> Future for Sending<B> {
    type Output = Result<(), Cut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let sent = ready!(self.send(cx));
        if let Err(Cut::Own(error)) = &sent {
            self.stream.send_reset(reason_of(error));
        }
        self.is_over = true;
        Poll::Ready(sent)
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin> Sending<B> {
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let other = |_| Cut::Other;
        loop {
            self.ahead.look(cx);
            if let Some(held) = self.held.take() {
                match self.room(cx) {
                    Poll::Ready(room) => room?,
                    Poll::Pending => {
                        self.held = Some(held);
                        return Poll::Pending;
                    }
                }
                let is_last = self.ahead.is_empty();
                self.stream.send_data(held, is_last).map_err(other)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            match self.ahead.next.take() {
                Some(Next::Data(data)) => {
                    // The first piece goes out whatever room there is: it is there, and another one is not asked for.
                    if self.has_begun {
                        self.stream.reserve_capacity(1);
                    }
                    self.held = Some(data);
                }
                Some(Next::Trailers(trailers)) => {
                    self.stream.reserve_capacity(0);
                    return Poll::Ready(self.stream.send_trailers(trailers).map_err(other));
                }
                Some(Next::End) => {
                    let ended = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(ended.map_err(other));
                }
                Some(Next::Broken(error)) => return Poll::Ready(Err(Cut::Own(error))),
                None => {
                    // Whoever wants no more of it is heard while there is none.
                    let reset = ready!(self.stream.poll_reset(cx));
                    drop(reset);
                    return Poll::Ready(Err(Cut::Other));
                }
            }
        }
    }

    /// Waits until the other end takes some more.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Poll::Ready(Ok(()));
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Cut::Other)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<B> Drop for Sending<B> {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

/// What the other end is told of a body that breaks off: where it came by HTTP/2 itself, what was told there.
fn reason_of(error: &(dyn std::error::Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let h2 = error.downcast_ref::<h2::Error>();
        if let Some(reason) = h2.and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
