//! How a client begins.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::frames::PREFACE;
use super::writes::writes_by_inner;

/// So much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// Reads what has come behind what is held, and says how much that is: nothing at the end. Who waits holds no buffer for it.
pub(super) fn poll_more<S: AsyncRead + Unpin>(
    stream: &mut S,
    held: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut space = [MaybeUninit::uninit(); READ_BYTES];
    let mut into = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut into))?;
    held.extend_from_slice(into.filled());
    Poll::Ready(Ok(into.filled().len()))
}

/// The first bytes of a connection, at least as many as tell which version of HTTP it is; these are there already.
pub(super) async fn begin<S>(stream: &mut S, mut held: BytesMut) -> io::Result<BytesMut>
where
    S: AsyncRead + Unpin,
{
    while PREFACE.starts_with(&held) && held.len() < PREFACE.len() {
        if poll_fn(|cx| poll_more(stream, &mut held, cx)).await? == 0 {
            break;
        }
    }
    Ok(held)
}

/// Whether these first bytes are those of HTTP/2.
pub(super) fn is_h2(held: &[u8]) -> bool {
    held.starts_with(PREFACE)
}

/// A connection of which something was read beforehand.
pub(super) struct Resumed<S> {
    inner: S,
    before: Bytes,
}

impl<S> Resumed<S> {
    /// The connection as it was before this was read of it.
    pub(super) fn new(inner: S, before: BytesMut) -> Self {
        Self {
            inner,
            before: before.freeze(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.before.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, into);
        }
        let taken = this.before.len().min(into.remaining());
        into.put_slice(this.before.get(..taken).unwrap_or_default());
        this.before.advance(taken);
        if this.before.is_empty() {
            this.before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

writes_by_inner!(Resumed);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What is told of a client that sends this piece by piece, and what is read of it afterwards.
    async fn told(pieces: &[&[u8]]) -> (bool, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let send = async {
            for piece in pieces {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        let read = async {
            let opening = begin(&mut near, BytesMut::new()).await.unwrap();
            let is_h2 = is_h2(&opening);
            let mut all = Vec::new();
            let mut stream = Resumed::new(near, opening);
            stream.read_to_end(&mut all).await.unwrap();
            (is_h2, all)
        };
        tokio::join!(read, send).0
    }

    #[tokio::test]
    async fn only_the_whole_preface_is_http_2_and_no_byte_is_lost() {
        let whole = [PREFACE, b"frames"].concat();
        let cases: [(&[&[u8]], bool); 8] = [
            (&[&whole], true),
            (&[b"P", b"RI * HT", &whole[8..]], true),
            (&[b"GET / HTTP/1.1\r\n\r\n"], false),
            (&[b"P", b"OST / HTTP/1.1\r\n\r\n"], false),
            (&[b"PRI * HTTP/1.1\r\nhost: h\r\n\r\n"], false),
            (&[b"PRI"], false),
            (&[b"X"], false),
            (&[], false),
        ];
        for (pieces, is_h2) in cases {
            assert_eq!(told(pieces).await, (is_h2, pieces.concat()), "{pieces:?}");
        }
    }
}
