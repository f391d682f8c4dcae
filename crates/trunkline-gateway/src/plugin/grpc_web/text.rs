//! Base64, in which pages send and get messages that they could not read otherwise.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use trunkline_call::Body;

use crate::problem::malformed;

/// Each piece is padded, so that no message waits for the next.
pub(super) fn encode(bytes: &[u8]) -> Bytes {
    Bytes::from(STANDARD.encode(bytes))
}

/// A body that comes as base64, whole or in pieces that are each padded.
pub(super) struct Decoded {
    inner: Body,
    /// The beginning of the next four letters.
    rest: Vec<u8>,
}

impl Decoded {
    pub(super) fn new(inner: Body) -> Self {
        Self {
            inner,
            rest: Vec::new(),
        }
    }

    /// What these letters say, with those before them.
    fn decode(&mut self, letters: &[u8]) -> Option<Bytes> {
        self.rest.extend_from_slice(letters);
        let whole = self.rest.len() - self.rest.len() % 4;
        let later = self.rest.split_off(whole);
        let letters = std::mem::replace(&mut self.rest, later);
        if !letters.contains(&b'=') {
            return STANDARD.decode(&letters).ok().map(Bytes::from);
        }
        let mut bytes = Vec::with_capacity(letters.len());
        for four in letters.chunks(4) {
            STANDARD.decode_vec(four, &mut bytes).ok()?;
        }
        Some(Bytes::from(bytes))
    }
}

impl HttpBody for Decoded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let garbled = || Some(Err(axum::Error::new(malformed("expected base64"))));
        loop {
            let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
            let Some(frame) = frame else {
                return Poll::Ready((!this.rest.is_empty()).then(garbled).flatten());
            };
            let data = match frame?.into_data() {
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            match this.decode(&data) {
                // Of less than four letters nothing is known.
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => return Poll::Ready(garbled()),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn read(pieces: &[&str]) -> Option<Vec<u8>> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from((*piece).to_owned())))
            .collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        let read = Decoded::new(body).collect().await.ok()?;
        Some(read.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn text_is_read_however_it_is_cut() {
        let text = STANDARD.encode(b"one") + &STANDARD.encode(b"two?") + &STANDARD.encode(b"3");
        for cut in 1..text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(read(&[first, second]).await.unwrap(), b"onetwo?3", "{cut}");
        }
        assert_eq!(read(&[]).await.unwrap(), b"");
        for garbled in ["abc", "ab=c", "a b=", "####"] {
            assert_eq!(read(&[garbled]).await, None, "{garbled}");
        }
    }
}
