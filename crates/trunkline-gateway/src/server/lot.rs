//! Where connections are that say nothing: without a task, in a hundred bytes each.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use parking_lot::Mutex;
use slab::Slab;
use tokio::io::Interest as TokioInterest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::door::{Guest, Open};
use super::wait::Wait;

/// So many are fetched at once; those that are left over are fetched next.
const FETCHED_MAX: usize = 256;

/// The connections of a listener that are parked: no more than it may have.
///
/// The system watches them by a queue of their own, so that what it costs to be watched is the system's memory and not ours.
pub(super) struct Lot {
    registry: Registry,
    spaces: Mutex<Spaces>,
}

#[derive(Default)]
struct Spaces {
    parked: Slab<Parked>,
    is_closed: bool,
}

/// Tells of parked connections that say something or have ended.
pub(super) struct Watcher {
    queue: AsyncFd<Poll>,
    events: Events,
}

/// A connection without a task.
struct Parked {
    stream: StdStream,
    remote: SocketAddr,
    place: OwnedSemaphorePermit,
    open: Open,
    until: Instant,
    is_new: bool,
}

impl Lot {
    /// A lot, and who watches it.
    ///
    /// # Errors
    /// Where the system gives no queue.
    pub(super) fn new() -> io::Result<(Self, Watcher)> {
        let poll = Poll::new()?;
        let lot = Self {
            registry: poll.registry().try_clone()?,
            spaces: Mutex::default(),
        };
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe: a queue has its descriptor for as long as it lives, which is what that asks for"
        )]
        let queue = AsyncFd::with_interest(poll, TokioInterest::READABLE)?;
        let watcher = Watcher {
            queue,
            events: Events::with_capacity(FETCHED_MAX),
        };
        Ok((lot, watcher))
    }

    /// Parks a connection, or gives it back: after the lot is closed, and where the system can't watch it.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn park(&self, guest: Guest) -> io::Result<Option<Guest>> {
        let mut spaces = self.spaces.lock();
        if spaces.is_closed {
            return Ok(Some(guest));
        }
        let space = spaces.parked.vacant_entry();
        let fd = guest.stream.as_raw_fd();
        // What has come by now is told of too.
        let watched =
            self.registry
                .register(&mut SourceFd(&fd), Token(space.key()), Interest::READABLE);
        if let Err(error) = watched {
            tracing::debug!(service = "gateway", %error, "a connection can't be parked");
            return Ok(Some(guest));
        }
        space.insert(Parked::new(guest)?);
        Ok(None)
    }

    /// Fetches those that the watcher told of.
    pub(super) fn fetch(&self, watcher: &Watcher) -> Vec<Guest> {
        let mut spaces = self.spaces.lock();
        let told = watcher.events.iter();
        let fetched = told.filter_map(|event| spaces.parked.try_remove(event.token().0));
        fetched.filter_map(|parked| self.leave(parked)).collect()
    }

    /// Fetches all. From now on nobody is parked.
    pub(super) fn close(&self) -> Vec<Guest> {
        let mut spaces = self.spaces.lock();
        spaces.is_closed = true;
        let parked = std::mem::take(&mut spaces.parked);
        let parked = parked.into_iter();
        parked
            .filter_map(|(_, parked)| self.leave(parked))
            .collect()
    }

    /// Closes those whose time is over.
    pub(super) fn sweep(&self, now: Instant) {
        let mut spaces = self.spaces.lock();
        spaces.parked.retain(|_, parked| parked.until > now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spaces.lock().parked.is_empty()
    }

    /// Nothing when the system takes it no longer.
    fn leave(&self, parked: Parked) -> Option<Guest> {
        let fd: RawFd = parked.stream.as_raw_fd();
        let left = self.registry.deregister(&mut SourceFd(&fd));
        match left.and_then(|()| parked.into_guest()) {
            Ok(guest) => Some(guest),
            Err(error) => {
                tracing::warn!(service = "gateway", %error, "a connection that was parked is lost");
                None
            }
        }
    }
}

impl Watcher {
    /// Waits until there is something to fetch.
    ///
    /// # Errors
    /// The system tells no more.
    pub(super) async fn told(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.queue.readable_mut().await?;
            let poll = ready.get_inner_mut();
            match poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Ok(()) if self.events.is_empty() => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                told => return told,
            }
        }
    }
}

impl Parked {
    fn new(guest: Guest) -> io::Result<Self> {
        let mut open = guest.open;
        open.park();
        Ok(Self {
            stream: guest.stream.into_std()?,
            remote: guest.remote,
            place: guest.place,
            open,
            until: guest.wait.until,
            is_new: guest.wait.is_new,
        })
    }

    fn into_guest(self) -> io::Result<Guest> {
        let mut open = self.open;
        open.unpark();
        Ok(Guest {
            stream: TcpStream::from_std(self.stream)?,
            remote: self.remote,
            place: self.place,
            open,
            wait: Wait {
                until: self.until,
                parks: true,
                is_new: self.is_new,
            },
        })
    }
}

#[cfg(test)]
mod tests;
