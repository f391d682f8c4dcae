//! How a connection comes about, and the bytes that it carries.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use trunkline_core::Result;

use super::line::Verdict;
#[cfg(feature = "tls")]
use super::tls::Judged;

/// Which protocols a connection is asked for. In the clear nothing is agreed on: one is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Http1,
    Http2,
    /// Whichever of them the other end prefers.
    Either,
}

/// Makes connections to one place.
pub(super) trait Dial: Send + Sync {
    fn dial(&self, asks: Asks) -> BoxFuture<'_, Result<Dialled>>;

    /// Whether a connection to this peer still leads there.
    fn leads_to(&self, peer: Option<SocketAddr>) -> bool {
        let _ = peer;
        true
    }

    /// Learns where the place is now, if that was a while ago.
    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A connection that was made.
pub(super) struct Dialled {
    pub(super) stream: Stream,
    pub(super) peer: Option<SocketAddr>,
    /// Whether HTTP/2 was agreed on.
    pub(super) is_h2: bool,
    pub(super) verdict: Verdict,
}

impl Dialled {
    pub(super) fn plain(stream: TcpStream, peer: Option<SocketAddr>) -> Self {
        Self {
            stream: Stream::Plain(stream),
            peer,
            is_h2: false,
            verdict: Verdict::default(),
        }
    }
}

/// An address in the clear.
impl Dial for Authority {
    fn dial(&self, _: Asks) -> BoxFuture<'_, Result<Dialled>> {
        Box::pin(async { Ok(Dialled::plain(super::tcp(self, 80).await?, None)) })
    }
}

/// What a connection of HTTP goes over.
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Secured(Box<Judged>),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Self::Secured($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, from))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, from))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
