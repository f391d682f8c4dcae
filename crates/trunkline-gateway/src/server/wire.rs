//! The bytes of a connection, whatever it carries.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::client::Client;

/// A connection to a client. While it carries HTTP this does nothing; once it is a tunnel, it ends after too
/// long a silence in both directions, and when the gateway cuts it.
pub(super) struct Wire<S> {
    inner: S,
    client: Arc<Client>,
    idle_max: Duration,
    cut: watch::Receiver<bool>,
    /// Only a tunnel has it.
    tunnel: Option<Box<Tunnel>>,
    /// Dropped with it: whoever waits for its end learns of it.
    _end: oneshot::Sender<()>,
}

struct Tunnel {
    /// When bytes went by last.
    last: Instant,
    wakes: Pin<Box<Sleep>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S> Wire<S> {
    pub(super) fn new(
        inner: S,
        client: Arc<Client>,
        (idle_max, cut): (Duration, watch::Receiver<bool>),
    ) -> (Self, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let wire = Self {
            inner,
            client,
            idle_max,
            cut,
            tunnel: None,
            _end: end,
        };
        (wire, ended)
    }

    fn tunnel(&mut self) -> &mut Tunnel {
        let (idle_max, cut) = (self.idle_max, &self.cut);
        self.tunnel.get_or_insert_with(|| {
            let (now, mut cut) = (Instant::now(), cut.clone());
            Box::new(Tunnel {
                last: now,
                wakes: Box::pin(sleep_until(now + idle_max)),
                // The sender lives as long as the server; if it is gone, so are we.
                cut: Box::pin(async move { drop(cut.wait_for(|cut| *cut).await) }),
            })
        })
    }

    /// What becomes of reading or writing in a tunnel.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if !self.client.is_tunnel() {
            return poll;
        }
        let idle_max = self.idle_max;
        let tunnel = self.tunnel();
        if poll.is_ready() {
            tunnel.last = Instant::now();
            return poll;
        }
        if tunnel.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        while tunnel.wakes.as_mut().poll(cx).is_ready() {
            let until = tunnel.last + idle_max;
            if until <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            tunnel.wakes.as_mut().reset(until);
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_read(cx, into);
        this.watched(cx, poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, from);
        this.watched(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, from);
        this.watched(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const IDLE_MAX: Duration = Duration::from_secs(60);

    fn tunnel() -> (Wire<DuplexStream>, DuplexStream, watch::Sender<bool>) {
        let (near, far) = tokio::io::duplex(64);
        let (cut, is_cut) = watch::channel(false);
        let client = Client::new(([127, 0, 0, 1], 1).into(), 80, None);
        client.switch(None);
        let (wire, _) = Wire::new(near, Arc::new(client), (IDLE_MAX, is_cut));
        (wire, far, cut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_after_a_silence_in_both_directions() {
        let (mut wire, mut far, _cut) = tunnel();
        let began = Instant::now();
        let talk = async {
            // Towards us, and from us.
            for _ in 0..3 {
                tokio::time::sleep(IDLE_MAX - Duration::from_secs(1)).await;
                far.write_u8(7).await.unwrap();
            }
        };
        let read = async {
            for _ in 0..3 {
                assert_eq!(wire.read_u8().await.unwrap(), 7);
            }
            tokio::time::sleep(IDLE_MAX - Duration::from_secs(1)).await;
            wire.write_u8(8).await.unwrap();
            wire.read_u8().await
        };
        let (error, ()) = tokio::join!(read, talk);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), IDLE_MAX * 5 - Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_when_it_is_cut() {
        let (mut wire, _far, cut) = tunnel();
        let cutting = async {
            tokio::task::yield_now().await;
            cut.send_replace(true);
        };
        let (read, ()) = tokio::join!(wire.read_u8(), cutting);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
