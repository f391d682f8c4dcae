//! A gateway that runs alone: a thread for each core, each with connections of its own.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::thread;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use trunkline_core::{Env, Error, Result, report};
use trunkline_telemetry::Telemetry;

use crate::{Config, Gateway, Keeper, Limits};

/// So many connections wait to be accepted by each thread.
const BACKLOG: u32 = 4_096;

/// A gateway that runs alone, by a file. [`Alone::start`] starts it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Alone {
    /// Kong's file.
    pub file: PathBuf,
    /// Where it takes requests. With port 0 the system chooses one.
    pub listen: Vec<SocketAddr>,
    /// Where it takes them with TLS, by the file's certificates.
    pub listen_tls: Vec<SocketAddr>,
    /// Whether changes by the admin API are written back to the file.
    pub writes: bool,
    /// How many threads take requests.
    pub workers: usize,
    /// What a client may take up; connections by each thread.
    pub limits: Limits,
}

/// A gateway that runs alone. Dropped, it stops at once; [`AloneRunning::shutdown`] ends it well.
pub struct AloneRunning {
    gateway: Gateway,
    keeper: Keeper,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    workers: Vec<oneshot::Receiver<()>>,
    _following: JoinSet<()>,
}

impl Alone {
    /// By this file, on these addresses, with a thread for each core.
    pub fn new(file: impl Into<PathBuf>, listen: impl IntoIterator<Item = SocketAddr>) -> Self {
        let cores = thread::available_parallelism();
        Self {
            file: file.into(),
            listen: listen.into_iter().collect(),
            listen_tls: Vec::new(),
            writes: false,
            workers: cores.map_or(1, Into::into),
            limits: Limits::default(),
        }
    }

    /// Reads the file, binds the addresses and takes requests. The file is followed from then on.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is wrong, with every mistake, and for one without certificates (`certificate_missing`) where
    /// TLS is asked for; `Unavailable` (`address_unavailable`) for an address that can't be
    /// bound; `Internal` if a thread can't be started.
    pub fn start(self, telemetry: Telemetry, env: Env) -> Result<AloneRunning> {
        let opened = Config::open(&self.file);
        let (config, text) = opened.map_err(|error| everything(error, &self.file, &env))?;
        if !self.listen_tls.is_empty() && config.certificates.is_empty() {
            let text = "expected `certificates` in the gateway's file, for TLS";
            return Err(Error::invalid("certificate_missing", text));
        }
        let gateway = Gateway::alone(&config, telemetry, env.clone())?.with_limits(self.limits);
        let keeper = Keeper::new(gateway.clone(), text, env).with_file(self.file, self.writes);
        let (stop, _) = watch::channel(false);
        let mut running = AloneRunning {
            gateway,
            addresses: Vec::with_capacity(self.listen.len()),
            tls_addresses: Vec::with_capacity(self.listen_tls.len()),
            stop,
            workers: Vec::new(),
            _following: follow(&keeper),
            keeper,
        };
        let workers = self.workers.max(1);
        for address in self.listen {
            let bound = running.open(address, workers, false)?;
            running.addresses.push(bound);
        }
        for address in self.listen_tls {
            let bound = running.open(address, workers, true)?;
            running.tls_addresses.push(bound);
        }
        Ok(running)
    }
}

impl AloneRunning {
    /// Where it takes requests, in the order in which they were asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it takes them with TLS.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Its admin API, and its file.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Takes requests at an address, on so many threads.
    fn open(&mut self, address: SocketAddr, count: usize, is_secured: bool) -> Result<SocketAddr> {
        let (listeners, bound) = listen(address, count)?;
        for listener in listeners {
            let gateway = self.gateway.clone();
            let worker = work((gateway, is_secured), listener, self.stop.subscribe())?;
            self.workers.push(worker);
        }
        Ok(bound)
    }

    /// Lets go as [`Gateway::serve`] does. When this returns, no thread of it is left.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        for worker in self.workers.drain(..) {
            // One that is gone has ended.
            drop(worker.await);
        }
    }
}

/// Where a file's form is wrong, what a gateway has against the rest of it too.
fn everything(error: Error, file: &Path, env: &Env) -> Error {
    let Ok(text) = std::fs::read_to_string(file) else {
        return error;
    };
    let checked = Config::check(&file.display().to_string(), &text, env);
    checked.err().unwrap_or(error)
}

fn follow(keeper: &Keeper) -> JoinSet<()> {
    let keeper = keeper.clone();
    let mut following = JoinSet::new();
    following.spawn(async move { keeper.follow().await });
    following
}

/// Listeners of one address, among which the system shares its connections, and the address.
fn listen(address: SocketAddr, count: usize) -> Result<(Vec<StdListener>, SocketAddr)> {
    let unavailable = |error: io::Error| {
        let text = format!("{address} can't be listened at");
        Error::unavailable("address_unavailable", text).with_source(error)
    };
    // Those below would share it with whoever else shares it.
    drop(bind(address, false).map_err(unavailable)?);
    let mut listeners = Vec::with_capacity(count);
    let mut bound = address;
    for _ in 0..count {
        let listener = bind(bound, true).map_err(unavailable)?;
        // The first of port 0 says which the others share.
        bound = listener.local_addr().map_err(unavailable)?;
        listeners.push(listener);
    }
    Ok((listeners, bound))
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<StdListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(is_shared)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Serves a listener on a thread of its own; what it gives is heard when it has ended.
fn work(
    (gateway, is_secured): (Gateway, bool),
    listener: StdListener,
    mut stopping: watch::Receiver<bool>,
) -> Result<oneshot::Receiver<()>> {
    let unstarted =
        |error: io::Error| Error::internal("a worker can't be started").with_source(error);
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(unstarted)?;
    let (ended, end) = oneshot::channel();
    let serve = async move {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "a worker can't listen"),
        };
        // A sender that is gone says so too.
        let stop = async { drop(stopping.wait_for(|stop| *stop).await) };
        if !is_secured {
            return gateway.serve(listener, stop).await;
        }
        if let Err(error) = gateway.serve_tls(listener, stop).await {
            tracing::error!(error = %report(&error), "a worker can't take connections with TLS");
        }
    };
    let body = move || {
        runtime.block_on(serve);
        drop(ended);
    };
    thread::Builder::new()
        .name("gateway".to_owned())
        .spawn(body)
        .map_err(unstarted)?;
    Ok(end)
}

impl fmt::Debug for AloneRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AloneRunning")
            .field("addresses", &self.addresses)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}
