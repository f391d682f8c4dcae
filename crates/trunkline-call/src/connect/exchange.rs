//! One request on a connection of HTTP/2, and its answer.
//!
//! A request goes onto its connection at once, with its body if that is at hand: nobody but the connection's own task is
//! woken for it, and the answer wakes who waits for it and nobody else.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::{AbortHandle, JoinSet};

use super::line::Bundle;
use crate::Body;
use crate::headers::{spare_table, strip_connection};
use crate::load::Place;
use crate::stream::{Ahead, Cut, Received, Sending};

/// Why a request has no answer.
pub(super) enum Failure {
    /// Its connection takes no more requests: here it is again.
    Unsent(Box<Request<Body>>),
    /// Its own body broke off.
    Own(axum::Error),
    /// The stream broke, or its connection.
    Broken(h2::Error),
}

/// Sends a request and waits for the head of its answer. What of its body is not at hand is sent by one of `tasks`.
pub(super) async fn exchange(
    (sender, is_first): (SendRequest<Bytes>, bool),
    mut request: Request<Body>,
    tasks: &Mutex<JoinSet<()>>,
) -> Result<Response<Carried>, Failure> {
    strip_connection(request.headers_mut());
    if !is_first {
        spare_table(request.headers_mut(), |_| false);
    }
    let mut given = Some((sender, request));
    let (answer, upload) = poll_fn(|cx| match given.take() {
        Some((sender, request)) => Poll::Ready(begin(sender, request, tasks, cx)),
        None => Poll::Pending,
    })
    .await?;
    match answer.await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let body = Received::new(body, &head.headers);
            Ok(Response::from_parts(head, Carried::new(body, upload)))
        }
        Err(error) => match upload.and_then(Upload::broken) {
            Some(own) => Err(Failure::Own(own)),
            None => Err(Failure::Broken(error)),
        },
    }
}

fn begin(
    mut sender: SendRequest<Bytes>,
    request: Request<Body>,
    tasks: &Mutex<JoinSet<()>>,
    cx: &mut Context<'_>,
) -> Result<(ResponseFuture, Option<Upload>), Failure> {
    if let Poll::Ready(Err(_)) = sender.poll_ready(cx) {
        return Err(Failure::Unsent(Box::new(request)));
    }
    let (head, body) = request.into_parts();
    let mut head = Request::from_parts(head, ());
    tell_length(&mut head, &body);
    let body = Ahead::new(body, cx);
    let is_empty = body.is_empty();
    let (answer, stream) = sender
        .send_request(head, is_empty)
        .map_err(Failure::Broken)?;
    if is_empty {
        return Ok((answer, None));
    }
    let mut sending = body.on(stream);
    match Pin::new(&mut sending).poll(cx) {
        Poll::Pending => Ok((answer, Some(Upload::of(sending, tasks)))),
        Poll::Ready(Err(Cut::Own(error))) => Err(Failure::Own(error)),
        // One who wants no more of it may have answered.
        Poll::Ready(Ok(()) | Err(Cut::Other)) => Ok((answer, None)),
    }
}

/// Says how long a body is, where that is known and not said.
fn tell_length(head: &mut Request<()>, body: &Body) {
    let Some(length) = body.size_hint().exact() else {
        return;
    };
    let has_none = [Method::GET, Method::HEAD, Method::DELETE];
    if length > 0 || !has_none.contains(head.method()) {
        let headers = head.headers_mut();
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
}

/// What is still to come of a request's body. Dropped, it comes no more.
struct Upload {
    task: Option<AbortHandle>,
    broken: Arc<OnceLock<axum::Error>>,
}

impl Upload {
    fn of(sending: Sending, tasks: &Mutex<JoinSet<()>>) -> Self {
        let broken: Arc<OnceLock<axum::Error>> = Arc::default();
        let told = broken.clone();
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let task = tasks.spawn(async move {
            if let Err(Cut::Own(error)) = sending.await {
                // It breaks off once.
                drop(told.set(error));
            }
        });
        Self {
            task: Some(task),
            broken,
        }
    }

    /// Lets it go on by itself: the answer is whole.
    fn leave(mut self) {
        self.task = None;
    }

    /// Why it broke off, if it did.
    fn broken(mut self) -> Option<axum::Error> {
        Arc::get_mut(&mut self.broken)?.take()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// An answer's body; its connection has it to do until it ends.
pub(super) struct Carried {
    inner: Received,
    holds: Option<Holds>,
    upload: Option<Upload>,
}

struct Holds {
    _place: Place,
    /// Whoever lets go of a goal lets go of its connections; not of one that this comes by.
    _bundle: Arc<Bundle>,
}

impl Carried {
    fn new(inner: Received, upload: Option<Upload>) -> Self {
        Self {
            inner,
            holds: None,
            upload,
        }
    }

    /// The same that holds what it comes by.
    pub(super) fn holding(mut self, place: Place, bundle: Arc<Bundle>) -> Self {
        self.holds = Some(Holds {
            _place: place,
            _bundle: bundle,
        });
        if self.inner.is_end_stream() {
            self.end();
        }
        self
    }

    fn end(&mut self) {
        self.holds = None;
        if let Some(upload) = self.upload.take() {
            upload.leave();
        }
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if !frame.is_trailers() => {}
            // Nothing comes after trailers.
            Some(Ok(_)) | None => self.end(),
            Some(Err(_)) => {
                self.holds = None;
                self.upload = None;
            }
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
