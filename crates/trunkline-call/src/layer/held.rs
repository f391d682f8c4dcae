//! A response's body that holds something until it has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::Body;

/// What is told how a body ends; dropped before, nobody knows.
pub(crate) trait Ending: Send + Unpin + 'static {
    /// Whether it wants each piece of data.
    fn data(&mut self, _: &Bytes) {}

    /// It ended, with its trailers if it had some.
    fn ended(self, trailers: Option<&HeaderMap>);

    /// It broke off.
    fn broken(self);
}

/// A body that tells its end.
pub(crate) struct Held<E> {
    inner: Body,
    ending: Option<E>,
}

/// Says of a response, among its extensions, that its body is in memory whole: what waits for its end need not wait. It
/// does not leave the channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtHand;

impl AtHand {
    pub(crate) fn is(response: &Response<Body>) -> bool {
        response.extensions().get::<Self>().is_some()
    }

    pub(crate) fn forget(mut response: Response<Body>) -> Response<Body> {
        response.extensions_mut().remove::<Self>();
        response
    }
}

impl<E: Ending> Held<E> {
    /// The same of a response, for what does not look at the data.
    pub(crate) fn keep(response: Response<Body>, ending: E) -> Response<Body> {
        if AtHand::is(&response) {
            ending.ended(None);
            return response;
        }
        response.map(|body| Self::wrap(body, ending))
    }

    /// A body that has nothing more to come ends at once.
    pub(crate) fn wrap(inner: Body, ending: E) -> Body {
        if inner.is_end_stream() {
            ending.ended(None);
            return inner;
        }
        let ending = Some(ending);
        Body::new(Self { inner, ending })
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, axum::Error>>) {
        match frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(ending)) = (frame.data_ref(), &mut self.ending) {
                    ending.data(data);
                }
                if (frame.is_trailers() || self.inner.is_end_stream())
                    && let Some(ending) = self.ending.take()
                {
                    ending.ended(frame.trailers_ref());
                }
            }
            Some(Err(_)) => {
                if let Some(ending) = self.ending.take() {
                    ending.broken();
                }
            }
            None => {
                if let Some(ending) = self.ending.take() {
                    ending.ended(None);
                }
            }
        }
    }
}

impl<E: Ending> HttpBody for Held<E> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;

    struct Told(#[expect(dead_code, reason = "held")] Arc<()>);

    impl Ending for Told {
        fn ended(self, _: Option<&HeaderMap>) {}

        fn broken(self) {}
    }

    #[tokio::test]
    async fn what_is_in_memory_has_ended_and_the_rest_ends_when_it_was_read() {
        let place = Arc::new(());
        let mut response = Response::new(Body::from("all of it"));
        response.extensions_mut().insert(AtHand);
        let response = Held::keep(response, Told(place.clone()));
        assert_eq!(Arc::strong_count(&place), 1);
        let response = AtHand::forget(response);

        let mut response = Held::keep(response, Told(place.clone()));
        assert_eq!(Arc::strong_count(&place), 2);
        let read = response.body_mut().collect().await.unwrap().to_bytes();
        assert_eq!(read, "all of it");
        assert_eq!(Arc::strong_count(&place), 1);
    }
}
