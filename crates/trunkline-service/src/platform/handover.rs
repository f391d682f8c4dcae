//! Addresses that go from one process to the next while both serve.
//!
//! A process that runs gives its listening sockets to whoever takes over what it runs: over a Unix socket in the data folder,
//! one for each part. From then on both accept from the same queues, so that nobody is refused in between; when the new process
//! says that it is up, the old one ends in order. A socket's queue is never closed, so what waits in it is not lost.

use std::collections::BTreeMap;
use std::fs::remove_file;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Error, Result};
use trunkline_gateway::Gateway;

use super::assemble::bind;
use crate::Config;

/// The system takes no more in one message (`SCM_MAX_FD`).
const SOCKETS_MAX: usize = 253;
/// Their names, and room for more.
const NAMES_BYTES_MAX: usize = 64 * 1024;
/// A process that gives does so at once, unless it gives to another already.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);
/// What the new process says when it takes requests.
const UP: &[u8] = b"up\n";

/// The sockets that this process listens on, bound by itself or taken over.
pub(super) struct Sockets {
    /// Taken over, and not yet asked for.
    taken: BTreeMap<String, std::net::TcpListener>,
    /// All that is listened on, for whoever takes over next.
    open: Vec<(String, OwnedFd)>,
    givers: Vec<UnixStream>,
}

impl Sockets {
    /// Those of the processes that run these parts now, if the configuration says that they are taken over. None where none runs.
    ///
    /// # Errors
    /// `Unavailable` when such a process does not give them; `InvalidInput` when it speaks another language.
    pub(super) async fn of(config: &Config, parts: &[&str]) -> Result<Self> {
        let mut sockets = Self {
            taken: BTreeMap::new(),
            open: Vec::new(),
            givers: Vec::new(),
        };
        if config.take_over {
            for part in parts {
                sockets.take(&place(&config.data, part)).await?;
            }
        }
        Ok(sockets)
    }

    async fn take(&mut self, place: &Path) -> Result<()> {
        let failed = |error: io::Error| {
            let text = "the process that runs this part does not give its addresses";
            Error::unavailable("take_over_failed", text)
                .with("socket", place.display())
                .with_source(error)
        };
        let giver = match UnixStream::connect(place).await {
            Ok(giver) => giver,
            Err(error) if is_nobody(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let received = timeout(GIVEN_WITHIN, receive(&giver)).await;
        let (names, sockets) = received
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        for (name, socket) in names.into_iter().zip(sockets) {
            // Where a process runs several parts, each of them gives all.
            self.taken.entry(name).or_insert(socket);
        }
        self.givers.push(giver);
        Ok(())
    }

    /// Listens at an address, on the socket that was taken over for it if there is one.
    ///
    /// # Errors
    /// Those of [`bind`].
    pub(super) async fn listen(
        &mut self,
        name: &str,
        address: SocketAddr,
        what: &'static str,
    ) -> Result<TcpListener> {
        let taken = self.taken.remove(name).filter(|socket| {
            let at = socket.local_addr();
            at.is_ok_and(|at| at.ip() == address.ip() && (address.port() == 0 || at == address))
        });
        let bad = |error| Error::internal("a listener can't be shared").with_source(error);
        let listener = match taken {
            Some(taken) => TcpListener::from_std(taken).map_err(bad)?,
            None => bind(address, what).await?,
        };
        let copy = listener.as_fd().try_clone_to_owned().map_err(bad)?;
        self.open.push((name.to_owned(), copy));
        Ok(listener)
    }

    /// This process is up: those that gave their sockets end, one after the other, and whoever takes over these parts is given
    /// all. The first is the one with the gateway, which calls the others until it has ended.
    pub(super) fn up(self, data: &Path, parts: &[&str], gateway: Option<Gateway>) -> Giver {
        let mut giver = Giver::start(self.open, (data, parts), gateway);
        let givers = self.givers;
        giver.ends.spawn(async move {
            for mut old in givers {
                // One that has died meanwhile needs no telling.
                drop(old.write_all(UP).await);
                drop(old.read(&mut [0]).await);
            }
        });
        giver
    }
}

/// Gives the sockets of this process to who takes over. Dropped, it gives no more.
pub(super) struct Giver {
    /// Whoever took over is up.
    pub(super) taken_over: CancellationToken,
    doors: JoinSet<UnixStream>,
    /// Those who took over: they see by the end of the connection that this process has ended.
    takers: Vec<UnixStream>,
    /// Waits for the ends of those whose sockets this process has.
    ends: JoinSet<()>,
}

impl Giver {
    fn start(
        sockets: Vec<(String, OwnedFd)>,
        (data, parts): (&Path, &[&str]),
        gateway: Option<Gateway>,
    ) -> Self {
        let taken_over = CancellationToken::new();
        let sockets = std::sync::Arc::new(sockets);
        let mut doors = JoinSet::new();
        for part in parts {
            let place = place(data, part);
            match open(&place) {
                Ok(door) => {
                    let (sockets, gateway) = (sockets.clone(), gateway.clone());
                    let taken_over = taken_over.clone();
                    doors.spawn(async move { give(door, &sockets, gateway, taken_over).await });
                }
                Err(error) => tracing::warn!(
                    %error, socket = %place.display(), "nobody will be able to take over from this process"
                ),
            }
        }
        Self {
            taken_over,
            doors,
            takers: Vec::new(),
            ends: JoinSet::new(),
        }
    }

    /// Gives no more, and keeps no socket open.
    pub(super) async fn end(&mut self) {
        self.doors.abort_all();
        while let Some(ended) = self.doors.join_next().await {
            self.takers.extend(ended);
        }
    }
}

/// Gives all sockets to whoever comes, one after the other, until one of them is up.
async fn give(
    door: UnixListener,
    sockets: &[(String, OwnedFd)],
    gateway: Option<Gateway>,
    taken_over: CancellationToken,
) -> UnixStream {
    loop {
        let Ok((mut taker, _)) = door.accept().await else {
            // Too many files are open, perhaps: it is tried again a little later.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if let Err(error) = send(&taker, sockets).await {
            tracing::warn!(%error, "the addresses could not be given to a process that takes over");
            continue;
        }
        let mut said = [0; UP.len()];
        // Its end before that says that it could not start: this process goes on.
        if taker.read_exact(&mut said).await.is_ok() && said == UP {
            tracing::info!("another process has taken over");
            if let Some(gateway) = gateway {
                gateway.is_followed();
            }
            taken_over.cancel();
            return taker;
        }
    }
}

/// Where the process that runs a part is asked for its sockets.
fn place(data: &Path, part: &str) -> PathBuf {
    data.join(format!(".take-{part}"))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Listens in the place of whoever did before.
fn open(place: &Path) -> io::Result<UnixListener> {
    match remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(place),
    }
}

async fn send(to: &UnixStream, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    let sockets = sockets.get(..SOCKETS_MAX).unwrap_or(sockets);
    let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    let text = serde_json::to_vec(&names).map_err(io::Error::other)?;
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("there are too many sockets"));
        }
        let sent = sendmsg(
            to,
            &[IoSlice::new(&text)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        match sent == text.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        }
    })
    .await
}

async fn receive(from: &UnixStream) -> io::Result<(Vec<String>, Vec<std::net::TcpListener>)> {
    from.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = vec![0; NAMES_BYTES_MAX];
        let into = &mut [IoSliceMut::new(&mut text)];
        let got = recvmsg(from, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds.map(std::net::TcpListener::from));
            }
        }
        let text = text.get(..got.bytes).unwrap_or_default();
        let names: Vec<String> = serde_json::from_slice(text)?;
        match names.len() == sockets.len() {
            true => Ok((names, sockets)),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} names and {} sockets", names.len(), sockets.len()),
            )),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sockets(data: &Path, take_over: bool) -> Sockets {
        let mut config = Config::default();
        config.data = data.to_owned();
        config.take_over = take_over;
        Sockets::of(&config, &["gateway", "wallet"]).await.unwrap()
    }

    #[tokio::test]
    async fn a_queue_goes_from_one_process_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut old = sockets(folder.path(), true).await;
        let first = old.listen("gateway", anywhere, "gateway").await.unwrap();
        let address = first.local_addr().unwrap();
        let mut giver = old.up(folder.path(), &["gateway", "wallet"], None);

        // Who dies before it is up has taken nothing.
        drop(sockets(folder.path(), true).await);
        let mut new = sockets(folder.path(), true).await;
        let second = new.listen("gateway", address, "gateway").await.unwrap();
        assert!(!giver.taken_over.is_cancelled());
        let waiting = tokio::net::TcpStream::connect(address).await.unwrap();
        let next = new.up(folder.path(), &["gateway", "wallet"], None);
        giver.taken_over.cancelled().await;
        giver.end().await;
        drop(first);
        let (_, from) = second.accept().await.unwrap();
        assert_eq!(from, waiting.local_addr().unwrap());
        drop((next, second));
    }

    #[tokio::test]
    async fn who_does_not_take_over_binds_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut old = sockets(folder.path(), true).await;
        let first = old.listen("gateway", anywhere, "gateway").await.unwrap();
        let address = first.local_addr().unwrap();
        let _giver = old.up(folder.path(), &["gateway"], None);
        let mut stranger = sockets(folder.path(), false).await;
        let refused = stranger.listen("gateway", address, "gateway").await;
        assert_eq!(refused.unwrap_err().code(), "address_unusable");
        // An address that has changed is bound anew.
        let mut new = sockets(folder.path(), true).await;
        let other = new.listen("admin", anywhere, "admin").await.unwrap();
        assert_ne!(other.local_addr().unwrap(), address);
    }
}
