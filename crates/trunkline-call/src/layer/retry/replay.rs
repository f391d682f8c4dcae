//! A request's body that can be sent again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::Body;

/// What an attempt to send leaves for the next.
pub(crate) enum Replay {
    /// The whole body, in hand.
    Whole(Bytes),
    /// A body that is read as it is sent.
    Streamed(Arc<Mutex<Tape>>),
}

/// What was read of a body so far, and what is not read yet.
pub(crate) struct Tape {
    frames: Vec<Bytes>,
    bytes: usize,
    bytes_max: usize,
    trailers: Option<HeaderMap>,
    rest: Option<Body>,
    /// It was too long, or broke off: it can't be sent again.
    is_torn: bool,
}

impl Replay {
    /// Keeps at most `bytes_max` of a body. What is in memory already is taken as it is; anything else is recorded as
    /// the target takes it, never read ahead.
    pub(crate) fn of(mut body: Body, bytes_max: usize) -> Self {
        if body.is_end_stream() {
            return Self::Whole(Bytes::new());
        }
        let in_memory = body
            .size_hint()
            .exact()
            .is_some_and(|bytes| bytes <= bytes_max as u64);
        let mut tape = Tape {
            frames: Vec::new(),
            bytes: 0,
            bytes_max,
            trailers: None,
            rest: None,
            is_torn: false,
        };
        let first = in_memory.then(|| body.frame().now_or_never().flatten());
        match first.flatten() {
            None => {}
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if body.is_end_stream() => return Self::Whole(data),
                Ok(data) => tape.keep(data),
                Err(frame) => tape.trailers = frame.into_trailers().ok(),
            },
            // Whoever sends it is told, as if nobody had looked.
            Some(Err(error)) => {
                body = Body::from_stream(futures::stream::iter([Err::<Bytes, _>(error)]));
            }
        }
        tape.rest = tape.trailers.is_none().then_some(body);
        Self::Streamed(Arc::new(Mutex::new(tape)))
    }

    /// The body from its beginning; none if it can't be sent again.
    pub(crate) fn body(&self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::from(bytes.clone())),
            Self::Streamed(tape) => {
                if tape.lock().is_torn {
                    return None;
                }
                Some(Body::new(Player {
                    tape: tape.clone(),
                    at: 0,
                    over: false,
                }))
            }
        }
    }

    /// Whether it could be sent again now.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Streamed(tape) => !tape.lock().is_torn,
        }
    }
}

impl Tape {
    fn keep(&mut self, data: Bytes) {
        self.bytes += data.len();
        self.frames.push(data);
    }

    /// Reads on; what is read is kept, up to the bound.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(rest) = &mut self.rest else {
            let trailers = self.trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let frame = std::task::ready!(Pin::new(rest).poll_frame(cx));
        match &frame {
            None => self.rest = None,
            Some(Err(_)) => self.tear(),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if self.bytes + data.len() > self.bytes_max {
                        self.tear();
                    } else if !self.is_torn {
                        self.keep(data.clone());
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                    self.rest = None;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn tear(&mut self) {
        self.is_torn = true;
        self.frames = Vec::new();
    }
}

/// Plays what was recorded, then records on.
struct Player {
    tape: Arc<Mutex<Tape>>,
    at: usize,
    over: bool,
}

impl HttpBody for Player {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let tape = self.tape.clone();
        let mut tape = tape.lock();
        if let Some(data) = tape.frames.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        let frame = std::task::ready!(tape.read(cx));
        self.at = tape.frames.len();
        self.over = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        let tape = self.tape.lock();
        let Some(rest) = &tape.rest else {
            let left = tape
                .frames
                .iter()
                .skip(self.at)
                .map(Bytes::len)
                .sum::<usize>();
            return SizeHint::with_exact(left as u64);
        };
        let kept = tape
            .frames
            .iter()
            .skip(self.at)
            .map(Bytes::len)
            .sum::<usize>() as u64;
        let hint = rest.size_hint();
        let mut all = SizeHint::new();
        if let Some(upper) = hint.upper() {
            all.set_upper(upper.saturating_add(kept));
        }
        all.set_lower(hint.lower().saturating_add(kept));
        all
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: Body) -> String {
        let bytes = body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn stream(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())))
            .collect();
        Body::from_stream(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_is_sent_again_as_it_was_also_after_a_part_of_it() {
        for body in [Body::from("onetwo"), stream(&["one", "two"])] {
            let replay = Replay::of(body, 6);
            let mut first = replay.body().unwrap();
            let frame = first.frame().await.unwrap().unwrap();
            assert!(frame.is_data());
            drop(first);
            for _ in 0..2 {
                assert_eq!(read(replay.body().unwrap()).await, "onetwo");
            }
        }
        assert_eq!(read(Replay::of(Body::empty(), 0).body().unwrap()).await, "");
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_sent_once_and_whole() {
        for body in [Body::from("onetwo"), stream(&["one", "two"])] {
            let replay = Replay::of(body, 5);
            assert_eq!(read(replay.body().unwrap()).await, "onetwo");
            assert!(!replay.is_whole());
            assert!(replay.body().is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_sent_again() {
        let broken = [
            Ok(Bytes::from_static(b"one")),
            Err(std::io::Error::other("no")),
        ];
        let replay = Replay::of(Body::from_stream(futures::stream::iter(broken)), 100);
        replay.body().unwrap().collect().await.unwrap_err();
        assert!(replay.body().is_none());
        // One that says how long it is, and is looked at beforehand.
        let short = Short(SizeHint::with_exact(3));
        let replay = Replay::of(Body::new(short), 100);
        replay.body().unwrap().collect().await.unwrap_err();
        assert!(replay.body().is_none());
    }

    /// Breaks off at once.
    struct Short(SizeHint);

    impl HttpBody for Short {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            let was = std::mem::replace(&mut self.0, SizeHint::with_exact(0));
            Poll::Ready((was.exact() != Some(0)).then(|| Err(std::io::Error::other("cut"))))
        }

        fn size_hint(&self) -> SizeHint {
            self.0
        }
    }
}
