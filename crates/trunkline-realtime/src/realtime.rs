//! All namespaces behind one path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Env, Error, Result};

use crate::backbone::{self, Backbone};
use crate::emit::Emit;
use crate::engine;
use crate::engine::link::Link;
use crate::namespace::{Namespace, Space};
use crate::presence::{self, Presence};
use crate::queue::Bounds;
use crate::stage::Stage;

/// The bounds and times of connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// How often a client is asked whether it is there: 25 s.
    pub ping_every: Duration,
    /// How long it may take to say so: 20 s.
    pub ping_within: Duration,
    /// How long it may take to connect to a first namespace: 45 s.
    pub connect_within: Duration,
    /// How long a write to it may take: 20 s.
    pub write_within: Duration,
    /// How large a packet of a client may be, and a body of polling: 1,000,000 bytes.
    pub payload_max: usize,
    /// How many packets may wait for a client before it is disconnected: 4,096.
    pub waiting_max: usize,
    /// How many bytes of them: 4 MiB.
    pub waiting_bytes_max: usize,
    /// How many events of a client may wait to be handled before it is disconnected: 256.
    pub unhandled_max: usize,
    /// How many clients may be connected: 100,000. Others are refused with 503.
    pub clients_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(25),
            ping_within: Duration::from_secs(20),
            connect_within: Duration::from_secs(45),
            write_within: Duration::from_secs(20),
            payload_max: 1_000_000,
            waiting_max: 4_096,
            waiting_bytes_max: 4 * 1024 * 1024,
            unhandled_max: 256,
            clients_max: 100_000,
        }
    }
}

impl Limits {
    pub(crate) fn waiting(&self) -> Bounds {
        Bounds {
            packets: self.waiting_max,
            bytes: self.waiting_bytes_max,
        }
    }
}

/// A server of Socket.IO. Cheap to clone.
#[derive(Clone)]
pub struct Realtime(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) limits: Limits,
    pub(crate) env: Env,
    spaces: BTreeMap<ByteString, Arc<Space>>,
    links: Mutex<std::collections::HashMap<ByteString, Arc<Link>>>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: Tasks,
}

/// What runs for its clients.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock();
        // Those that have ended are let go of when others begin.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }
}

impl Realtime {
    /// A server of these namespaces.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no namespace may have, or that two have.
    pub fn new(
        namespaces: impl IntoIterator<Item = Namespace>,
        limits: Limits,
        env: Env,
    ) -> Result<Self> {
        let mut spaces = BTreeMap::new();
        let mut paths = BTreeSet::new();
        for namespace in namespaces {
            let space = namespace.open(env.clone())?;
            if spaces.insert(space.name.clone(), space.clone()).is_some() {
                let text = "two namespaces have the same name";
                return Err(Error::invalid("namespace_invalid", text).with("found", &space.name));
            }
            if space.plain_at.is_some_and(|path| !paths.insert(path)) {
                let text = "two namespaces are at the same path";
                return Err(Error::invalid("namespace_invalid", text).with("found", &space.name));
            }
        }
        Ok(Self(Arc::new(Inner {
            limits,
            env,
            spaces,
            links: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: Tasks::default(),
        })))
    }

    /// What answers under `/socket.io/`.
    pub fn router(&self) -> Router {
        engine::router(self.0.clone())
    }

    /// A namespace, to send to those who are in it.
    ///
    /// # Errors
    /// `NotFound` (`namespace_unknown`) when there is none of this name.
    pub fn of(&self, name: &str) -> Result<Of> {
        let space = self.0.spaces.get(name).cloned();
        let of = space.map(|space| Of { space, stage: None });
        of.ok_or_else(|| {
            Error::not_found("namespace_unknown", "there is no such namespace").with("name", name)
        })
    }

    /// Takes part in a group of nodes: rooms span all of them, and who is cut off from one may come back at another.
    ///
    /// # Guarantees
    /// What is sent reaches clients in one order everywhere, that of the nodes' log. While that is away what is sent waits, 4,096 packets of it;
    /// then sending fails with `Overloaded`.
    ///
    /// # Errors
    /// What the log says.
    pub async fn join(&self, backbone: Arc<dyn Backbone>) -> Result<()> {
        backbone::join(&self.0, backbone).await
    }

    /// Tells other nodes who is connected here, and learns who is there, by a log of its own: not the one of [`Realtime::join`].
    ///
    /// # Guarantees
    /// [`Of::presence`] is that of all nodes, as they were a moment ago. A node that dies is known to be dead after 15 to 20 s, and its members are
    /// gone then; who comes back from it to one that [joined](Realtime::join) is who they were.
    ///
    /// # Errors
    /// What the log says.
    pub async fn watch(&self, log: Arc<dyn Backbone>) -> Result<()> {
        presence::join(&self.0, log).await
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.0.links.lock().len()
    }

    /// Disconnects everybody, and waits at most so long until they have gone and what follows is done; they come back by themselves, to
    /// wherever they are led then.
    pub async fn close(&self, within: Duration) {
        self.0.stop.cancel();
        let ended = async {
            loop {
                let mut tasks = std::mem::take(&mut *self.0.tasks.0.lock());
                if tasks.is_empty() {
                    return;
                }
                // Whoever goes leaves something to do: what follows a disconnect.
                while tasks.join_next().await.is_some() {}
            }
        };
        if timeout(within, ended).await.is_err() {
            tracing::warn!("clients were still there at the limit and were cut off");
        }
    }
}

impl Inner {
    pub(crate) fn spaces(&self) -> impl Iterator<Item = &Arc<Space>> {
        self.spaces.values()
    }

    pub(crate) fn space(&self, name: &str) -> Option<Arc<Space>> {
        self.spaces.get(name).cloned()
    }

    /// 128 bits that nobody guesses.
    pub(crate) fn new_id(&self) -> ByteString {
        let mut bytes = [0; 16];
        self.env.random_bytes(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes).into()
    }

    pub(crate) fn link(&self, id: &str) -> Option<Arc<Link>> {
        self.links.lock().get(id).cloned()
    }

    /// Keeps a connection; whether there is room for it.
    pub(crate) fn keep(&self, link: &Arc<Link>) -> bool {
        let mut links = self.links.lock();
        if links.len() >= self.limits.clients_max {
            return false;
        }
        links.insert(link.client.id.clone(), link.clone());
        true
    }

    pub(crate) fn forget(&self, id: &str) {
        self.links.lock().remove(id);
    }
}

/// A namespace of a server that runs. Cheap to clone.
#[derive(Clone)]
pub struct Of {
    space: Arc<Space>,
    stage: Option<Stage>,
}

impl Of {
    /// The same one, but what is sent by way of it waits for the work that this stage belongs to.
    #[must_use]
    pub fn staged(mut self, stage: &Stage) -> Self {
        self.stage = Some(stage.clone());
        self
    }

    /// To everybody in it.
    pub fn all(&self) -> Emit {
        Emit::of(self.space.clone(), self.stage.clone())
    }

    /// Who is in a room, at all nodes that [watch](Realtime::watch).
    pub fn presence(&self, room: impl Into<ByteString>) -> Presence {
        self.space.presence(Some(&room.into()))
    }

    /// Who is in the namespace, at all nodes that [watch](Realtime::watch).
    pub fn present(&self) -> Presence {
        self.space.presence(None)
    }

    /// To those in a room.
    pub fn to(&self, room: impl Into<ByteString>) -> Emit {
        self.all().to(room)
    }
}

impl fmt::Debug for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Of").field(&self.space.name).finish()
    }
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime")
            .field("namespaces", &self.0.spaces.keys())
            .field("clients", &self.clients())
            .finish_non_exhaustive()
    }
}
