//! A namespace: who may connect to it, and what is done with their events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytestring::ByteString;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use trunkline_core::{Env, Error, Result};

use crate::backbone::{Offset, Sent, Shared};
use crate::client::Handshake;
use crate::emit::Once;
use crate::others::Member as Present;
use crate::packet::{Args, Frame};
use crate::presence::Presence;
use crate::queue::Out;
use crate::recovery::{Away, Back, Recovery};
use crate::rooms::{Rooms, Target};
use crate::socket::{Inner, Socket};

/// How long a handler may take, and a check of who somebody is.
const HANDLED_WITHIN: Duration = Duration::from_secs(30);
/// A socket is in so many rooms at most, unless its namespace says otherwise.
const ROOMS_MAX: usize = 256;
/// A room's name is so long at most.
pub(crate) const ROOM_BYTES_MAX: usize = 256;

/// Who somebody is that may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The user; none for somebody whom nobody knows.
    pub user: Option<ByteString>,
    /// The user's roles.
    pub roles: Vec<ByteString>,
    /// Until when that holds. Then the socket is told so (`error` with `token_expired`) and disconnected.
    pub until: Option<Timestamp>,
}

/// How many events a socket may send: so many at once, and so many a second over time. One that is too much is answered with
/// `rate_limited` and not handled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// A second.
    pub per_second: u32,
}

type Admits = Arc<dyn Fn(Handshake) -> BoxFuture<'static, Result<Member>> + Send + Sync>;
type Handles = Arc<
    dyn Fn(Socket, Args) -> BoxFuture<'static, Result<Option<serde_json::Value>>> + Send + Sync,
>;
type Connects = Arc<dyn Fn(Socket) -> BoxFuture<'static, Result<()>> + Send + Sync>;
type Leaves =
    Arc<dyn Fn(Socket, BTreeSet<ByteString>, &'static str) -> BoxFuture<'static, ()> + Send + Sync>;

/// A namespace, as it is declared.
#[must_use]
pub struct Namespace {
    name: ByteString,
    admits: Option<Admits>,
    handlers: BTreeMap<&'static str, Handles>,
    connects: Option<Connects>,
    leaves: Option<Leaves>,
    rate: Rate,
    rooms_max: usize,
    recovery: Option<(Duration, usize)>,
    plain_at: Option<&'static str>,
}

impl Namespace {
    /// A namespace of this name: `/`, or `/games`.
    pub fn at(name: impl Into<ByteString>) -> Self {
        Self {
            name: name.into(),
            admits: None,
            handlers: BTreeMap::new(),
            connects: None,
            leaves: None,
            rate: Rate {
                burst: 50,
                per_second: 20,
            },
            rooms_max: ROOMS_MAX,
            recovery: None,
            plain_at: None,
        }
    }

    /// Serves it on a plain WebSocket too, at this path such as `/ws/games`, for those who want no Socket.IO. Each text is a frame of JSON: `{"type":
    /// "game-move", "data": …, "id": 7}`, which is answered with `{"type": "ack", "id": 7, "data": …}`. The token is in the query (`?token=`) or in
    /// the header `Authorization`, and so are `pid` and `offset` of who comes back. All else is the same.
    pub fn plain_at(mut self, path: &'static str) -> Self {
        self.plain_at = Some(path);
        self
    }

    /// Asks who somebody is before they are connected; who is refused gets `connect_error` with the message, and the code as `data.code`.
    /// Without this everybody may connect.
    pub fn admits<F, W>(mut self, check: F) -> Self
    where
        F: Fn(Handshake) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Member>> + Send + 'static,
    {
        self.admits = Some(Arc::new(move |handshake| check(handshake).boxed()));
        self
    }

    /// Handles an event. What the handler gives is the acknowledgement, if the client asked for one; `()` is an empty one. An error goes to the
    /// sender alone: as the acknowledgement `{ "error": { "code", "message" } }`, or else as the event `error`.
    pub fn on<F, W, R>(mut self, event: &'static str, handler: F) -> Self
    where
        F: Fn(Socket, Args) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R>> + Send + 'static,
        R: Serialize,
    {
        let handler = Arc::new(handler);
        let handles: Handles = Arc::new(move |socket, args| {
            let handler = handler.clone();
            async move {
                let given = handler(socket, args).await?;
                let value = serde_json::to_value(given).map_err(|error| {
                    Error::internal("an acknowledgement can't be written as JSON")
                        .with_source(error)
                })?;
                Ok((!value.is_null()).then_some(value))
            }
            .boxed()
        });
        self.handlers.insert(event, handles);
        self
    }

    /// What is done when somebody has connected. An error disconnects them.
    pub fn on_connect<F, W>(mut self, handler: F) -> Self
    where
        F: Fn(Socket) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.connects = Some(Arc::new(move |socket| handler(socket).boxed()));
        self
    }

    /// What is done when somebody has gone: they are told with the rooms in which they were, and why they went.
    pub fn on_disconnect<F, W>(mut self, handler: F) -> Self
    where
        F: Fn(Socket, BTreeSet<ByteString>, &'static str) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.leaves = Some(Arc::new(move |socket, rooms, why| {
            handler(socket, rooms, why).boxed()
        }));
        self
    }

    /// How many events a socket may send; without this 50 at once and 20 a second.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// In how many rooms a socket may be; without this 256.
    pub fn rooms_max(mut self, rooms: usize) -> Self {
        self.rooms_max = rooms;
        self
    }

    /// Lets who was cut off come back within this time: the same id, the same rooms, and what was sent to them meanwhile, as far as it is among
    /// the last `packets` of the namespace. Each event then carries its offset as its last argument.
    pub fn recovers(mut self, within: Duration, packets: usize) -> Self {
        self.recovery = Some((within, packets));
        self
    }

    pub(crate) fn open(self, env: Env) -> Result<Arc<Space>> {
        let fits = self.name.starts_with('/') && !self.name.contains([',', '?']);
        if !fits {
            let text = "expected a namespace's name to begin with `/` and to have no `,` or `?`";
            return Err(Error::invalid("namespace_invalid", text).with("found", &self.name));
        }
        // What a router takes, and what no other namespace has by itself.
        let is_path =
            |path: &str| path.starts_with('/') && !path.contains(['{', '}', '*', '?', '#']);
        if let Some(path) = self.plain_at
            && (!is_path(path) || path.starts_with("/socket.io"))
        {
            let text = "expected a path such as `/ws/games`, without parameters";
            return Err(Error::invalid("namespace_invalid", text).with("found", path));
        }
        let recovery = self
            .recovery
            .map(|(within, packets)| Recovery::new(within, packets, env));
        Ok(Arc::new(Space {
            name: self.name,
            admits: self.admits,
            handlers: self.handlers,
            connects: self.connects,
            leaves: self.leaves,
            rate: self.rate,
            rooms_max: self.rooms_max,
            rooms: Rooms::default(),
            plain_at: self.plain_at,
            recovery,
            shared: OnceLock::new(),
        }))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("events", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

/// A namespace while it is open.
pub(crate) struct Space {
    pub(crate) name: ByteString,
    admits: Option<Admits>,
    handlers: BTreeMap<&'static str, Handles>,
    connects: Option<Connects>,
    leaves: Option<Leaves>,
    pub(crate) rate: Rate,
    pub(crate) rooms_max: usize,
    pub(crate) rooms: Rooms,
    /// Where it is served as frames of JSON.
    pub(crate) plain_at: Option<&'static str>,
    pub(crate) recovery: Option<Recovery>,
    /// The way to other nodes, where there are any.
    shared: OnceLock<Arc<Shared>>,
}

impl Space {
    pub(crate) async fn admit(&self, handshake: Handshake) -> Result<Member> {
        match &self.admits {
            None => Ok(Member::default()),
            Some(admits) => bounded(admits(handshake)).await,
        }
    }

    /// Who was here before and shows that, if they may be again who they were.
    pub(crate) async fn recover(&self, auth: &serde_json::Value, member: &Member) -> Option<Back> {
        let recovery = self.recovery.as_ref()?;
        let shown = recovery.shown(auth)?;
        let away = match self.shared.get() {
            Some(shared) => match shared.recall(&self.known_as(&shown.0)).await {
                // Its node has died, or has not noticed yet that it was cut off.
                None => self.elsewhere(&shown.0),
                away => away,
            },
            None => recovery.recall(&shown.0),
        };
        recovery.back(shown, away?, member)
    }

    /// Who is still known as a member of another node.
    fn elsewhere(&self, pid: &str) -> Option<Away> {
        let watch = self.rooms.told.watch()?;
        let member = watch.others.lock().known(pid)?.clone();
        (member.namespace == self.name)
            .then(|| self.away(&member))
            .flatten()
    }

    /// Somebody of another node, as one who was cut off now.
    pub(crate) fn away(&self, member: &Present) -> Option<Away> {
        let recovery = self.recovery.as_ref()?;
        let who = (&member.id, member.user.as_ref());
        Some(recovery.away(who, member.rooms.clone()))
    }

    /// Somebody who is connected here, as other nodes are told of them.
    pub(crate) fn member(&self, id: &str) -> Option<Present> {
        let (socket, rooms) = self.rooms.get(id)?;
        Some(Present {
            namespace: self.name.clone(),
            id: socket.id.clone(),
            pid: socket.pid.clone(),
            user: socket.member.user.clone(),
            rooms,
        })
    }

    /// Everybody who is connected here.
    pub(crate) fn members(&self) -> Vec<Present> {
        let ids = self.rooms.ids();
        ids.iter().filter_map(|id| self.member(id)).collect()
    }

    /// Who is in a room, here and at other nodes; in the namespace if none is named.
    pub(crate) fn presence(&self, room: Option<&ByteString>) -> Presence {
        let mut sockets = BTreeMap::new();
        if let Some(watch) = self.rooms.told.watch() {
            watch.others.lock().collect(&self.name, room, &mut sockets);
        }
        let target = Target {
            rooms: room.into_iter().cloned().collect(),
            except: None,
        };
        // Who has just come back is still known where they were: they are one by their id.
        self.rooms.each(&target, |socket| {
            sockets.insert(socket.id.clone(), socket.member.user.clone());
        });
        Presence::of(sockets)
    }

    /// Remembers who was cut off: at once, or where all nodes can find them.
    pub(crate) fn remember(
        self: &Arc<Self>,
        pid: ByteString,
        away: Away,
    ) -> Option<BoxFuture<'static, ()>> {
        let within = self.recovery.as_ref()?.within;
        match self.shared.get().cloned() {
            Some(shared) => {
                let key = self.known_as(&pid);
                Some(async move { shared.remember(&key, &away, within).await }.boxed())
            }
            None => {
                self.recovery.as_ref()?.remember(&pid, away);
                None
            }
        }
    }

    fn known_as(&self, pid: &str) -> String {
        format!("{}:{pid}", self.name)
    }

    /// How many packets it keeps for those who come back.
    pub(crate) fn packets_max(&self) -> usize {
        self.recovery
            .as_ref()
            .map_or(0, |recovery| recovery.packets_max)
    }

    /// From now on what is sent goes to other nodes too.
    pub(crate) fn share(&self, shared: Arc<Shared>) {
        drop(self.shared.set(shared));
    }

    /// Puts a socket into its rooms, and gives it what it missed since it was there.
    pub(crate) fn enter(
        &self,
        socket: &Arc<Inner>,
        rooms: &BTreeSet<ByteString>,
        back: Option<Back>,
    ) {
        let add = || self.rooms.add(socket.clone(), rooms);
        match (&self.recovery, back) {
            (Some(recovery), Some(back)) => {
                recovery.catch_up(&back, &socket.id, add, |out| socket.send(out));
            }
            _ => add(),
        }
        // Who left meanwhile was not there to be taken out.
        if socket.is_gone() {
            self.rooms.remove(&socket.id);
        }
    }

    pub(crate) async fn handle(
        &self,
        socket: Socket,
        event: &str,
        args: Args,
    ) -> Result<Option<serde_json::Value>> {
        let handler = self.handlers.get(event).ok_or_else(|| {
            Error::not_found("event_unknown", "nobody handles this event").with("event", event)
        })?;
        bounded(handler(socket, args)).await
    }

    pub(crate) async fn connected(&self, socket: Socket) -> Result<()> {
        match &self.connects {
            None => Ok(()),
            Some(connects) => bounded(connects(socket)).await,
        }
    }

    pub(crate) fn left(
        &self,
        socket: Socket,
        rooms: BTreeSet<ByteString>,
        why: &'static str,
    ) -> Option<BoxFuture<'static, ()>> {
        self.leaves
            .as_ref()
            .map(|leaves| leaves(socket, rooms, why))
    }

    /// Sends to everybody who is meant, here and at other nodes.
    pub(crate) fn send(
        &self,
        target: &Target,
        (name, data): (&str, &impl Serialize),
        (attachments, shape): (Vec<bytes::Bytes>, Shape),
    ) -> Result<()> {
        if let Some(shared) = self.shared.get() {
            let here = (&self.name, target);
            return shared.send(here, (name, data), (&attachments, shape));
        }
        self.spread((target, None), (name, data), (attachments, shape), true)
    }

    /// Sends what may come again, and reaches everybody once.
    pub(crate) async fn send_once(
        &self,
        target: &Target,
        once: Once,
        event: (&str, &(impl Serialize + Sync)),
        shape: Shape,
    ) -> Result<()> {
        match self.shared.get() {
            // What is of the past stands in the log.
            Some(_) if once.is_past => Ok(()),
            Some(shared) => {
                let to = (&self.name, target);
                shared.send_once(once.id.1, to, event, shape).await
            }
            None => {
                let what = (Vec::new(), shape);
                self.spread((target, Some(once.id)), event, what, !once.is_past)
            }
        }
    }

    /// Puts a socket into a room and sends it what was sent there since it saw an offset; whether that is still known.
    pub(crate) fn join_since(
        &self,
        socket: &Arc<Inner>,
        room: &ByteString,
        seen: Option<Offset>,
        join: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        if self.rooms.is_in(&socket.id, room) {
            return Ok(true);
        }
        let Some(recovery) = &self.recovery else {
            return join().map(|()| false);
        };
        recovery.since(seen, (room, &socket.id), join, |out| socket.send(out))
    }

    /// Sends to one socket that is connected here. It is not kept for it where other nodes are: nobody else could give it.
    pub(crate) fn send_here(
        &self,
        target: &Target,
        event: (&str, &impl Serialize),
        what: (Vec<bytes::Bytes>, Shape),
    ) -> Result<()> {
        if self.shared.get().is_none() {
            return self.spread((target, None), event, what, true);
        }
        let (attachments, shape) = what;
        let frame = Frame::event(&self.name, None, event, (attachments, None))?;
        let out = out(frame, shape);
        self.rooms.each(target, |socket| socket.send(out.clone()));
        Ok(())
    }

    /// Gives what stands in the nodes' log to those who are meant and are here.
    pub(crate) fn deliver(&self, offset: Offset, sent: &Sent, sends: bool) -> Result<()> {
        let event = (&*sent.event, &sent.data);
        let what = (sent.attachments(), sent.shape());
        self.spread((&sent.target(), Some(offset)), event, what, sends)
    }

    fn spread(
        &self,
        (target, offset): (&Target, Option<Offset>),
        event: (&str, &impl Serialize),
        (attachments, shape): (Vec<bytes::Bytes>, Shape),
        sends: bool,
    ) -> Result<()> {
        let is_volatile = shape.volatile;
        let write = |offset: Option<&str>| {
            let frame = Frame::event(&self.name, None, event, (attachments, offset));
            frame.map(|frame| out(frame, shape))
        };
        let send = |out: &Out| {
            if sends {
                self.rooms.each(target, |socket| socket.send(out.clone()));
            }
        };
        match self.recovery.as_ref().filter(|_| !is_volatile) {
            None => write(None).map(|out| send(&out)),
            Some(recovery) => recovery.note((target, offset), write, send),
        }
    }
}

fn out(frame: Frame, shape: Shape) -> Out {
    Out {
        frame: Arc::new(frame),
        latest: shape.latest,
        volatile: shape.volatile,
    }
}

/// How something is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub(crate) volatile: bool,
    pub(crate) latest: Option<ByteString>,
}

async fn bounded<T>(work: BoxFuture<'static, Result<T>>) -> Result<T> {
    let caught = std::panic::AssertUnwindSafe(work).catch_unwind();
    match tokio::time::timeout(HANDLED_WITHIN, caught).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(Error::internal("the handler panicked")),
        Err(_) => Err(Error::new(
            trunkline_core::ErrorKind::DeadlineExceeded,
            "handler_too_long",
            "the event was not handled in time",
        )),
    }
}
