//! How a client begins.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::frames::PREFACE;
use super::writes::writes_by_inner;

const BYTES: usize = PREFACE.len();

/// The first bytes of a connection, as many as tell which version of HTTP it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Opening {
    bytes: [u8; BYTES],
    end: usize,
}

impl Opening {
    /// Reads on until it is clear.
    pub(super) async fn of<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Self> {
        let mut opening = Self::default();
        while PREFACE.starts_with(opening.read()) && !opening.is_h2() {
            let place = opening.bytes.get_mut(opening.end..).unwrap_or_default();
            match stream.read(place).await? {
                0 => break,
                read => opening.end += read,
            }
        }
        Ok(opening)
    }

    pub(super) fn is_h2(&self) -> bool {
        self.read() == PREFACE
    }

    fn read(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    /// The connection as it was before anything was read of it.
    pub(super) fn before<S>(self, stream: S) -> Resumed<S> {
        Resumed {
            inner: stream,
            opening: self,
            at: 0,
        }
    }
}

/// A connection of which something was read beforehand.
pub(super) struct Resumed<S> {
    inner: S,
    opening: Opening,
    at: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at == this.opening.end {
            return Pin::new(&mut this.inner).poll_read(cx, into);
        }
        let rest = this.opening.read().get(this.at..).unwrap_or_default();
        let taken = rest.len().min(into.remaining());
        into.put_slice(rest.get(..taken).unwrap_or_default());
        this.at += taken;
        Poll::Ready(Ok(()))
    }
}

writes_by_inner!(Resumed);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

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
            let opening = Opening::of(&mut near).await.unwrap();
            let mut all = Vec::new();
            let mut stream = opening.before(near);
            stream.read_to_end(&mut all).await.unwrap();
            (opening.is_h2(), all)
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
