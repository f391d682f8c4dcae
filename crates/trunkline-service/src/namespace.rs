//! Namespaces of Socket.IO, as a service declares them.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_core::{ByteString, Context, Error, ErrorKind, Event, EventData, Result, Timestamp};
use trunkline_realtime::{Args, Handshake, Limits, Member, Of, Rate, Realtime, Socket};
use trunkline_security::Verifier;

use crate::Cx;
use crate::asyncapi::Handled;
use crate::events::Reaction;
use crate::platform::Backbones;
use crate::rooms::{Binding, Tell, Template, binding};
use crate::runtime::Runtime;

/// How long clients have to go when the service stops.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

type Make = Box<
    dyn FnOnce(trunkline_realtime::Namespace, &Arc<Runtime>) -> trunkline_realtime::Namespace
        + Send
        + Sync,
>;

/// A namespace of Socket.IO, as a service declares it with [`Service::namespace`](crate::Service::namespace). Browsers reach it under
/// `/socket.io/` of the gateway, where a route leads there.
///
/// # Guarantees
/// Each event is a piece of work of its own: what its handler writes and publishes with its [`Cx`] commits before the client gets the
/// acknowledgement. An error undoes it and goes to the sender alone.
#[must_use]
pub struct Namespace {
    pub(crate) name: ByteString,
    make: Vec<Make>,
    /// Events of the bus that it tells of.
    pub(crate) tells: Vec<Reaction>,
    /// Where it is served as frames of JSON.
    pub(crate) plain_at: Option<&'static str>,
    /// What it handles.
    pub(crate) handled: Vec<Handled>,
    /// How long those who were cut off may take to come back.
    pub(crate) recovers: Duration,
}

impl Namespace {
    /// A namespace of this name: `/`, or `/games`.
    pub fn at(name: impl Into<ByteString>) -> Self {
        Self {
            name: name.into(),
            make: Vec::new(),
            tells: Vec::new(),
            plain_at: None,
            handled: Vec::new(),
            recovers: Duration::ZERO,
        }
    }

    /// Asks who somebody is before they are connected; see [`trunkline_realtime::Namespace::admits`].
    pub fn admits<F, W>(self, check: F) -> Self
    where
        F: Fn(Cx, Handshake) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Member>> + Send + 'static,
    {
        let check = Arc::new(check);
        self.with(move |namespace, runtime| {
            let runtime = runtime.clone();
            namespace.admits(move |handshake| {
                let (runtime, check) = (runtime.clone(), check.clone());
                async move { work(&runtime, None, |cx| check(cx, handshake)).await }
            })
        })
    }

    /// Admits who shows a token that the service's [`Verifier`] takes (`.state(verifier)`): as its user, in its roles, until it expires.
    pub fn signed_in(self) -> Self {
        self.admits(|cx: Cx, handshake: Handshake| async move {
            let token = handshake.token().ok_or_else(|| {
                let text = "expected a token: `auth.token`, or the Authorization header";
                Error::new(ErrorKind::Unauthenticated, "token_missing", text)
            })?;
            let claims = cx.state::<Verifier>()?.verify(token)?;
            Ok(Member {
                user: Some(claims.sub),
                roles: claims.roles,
                until: Timestamp::from_second(claims.exp).ok(),
            })
        })
    }

    /// Handles an event, whose first argument is read as `T`; what the handler gives is the acknowledgement. One that can't be read so is
    /// answered with `payload_invalid`, and where it is wrong.
    pub fn on<T, R, F, W>(mut self, event: &'static str, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Cx, Socket, T) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R>> + Send + 'static,
    {
        self.handled.push(Handled::plain(event));
        self.handler(event, handler)
    }

    /// The same as [`Namespace::on`], and the forms of the data and of the acknowledgement are told in the service's `/asyncapi.json`.
    pub fn handles<T, R, F, W>(mut self, event: &'static str, handler: F) -> Self
    where
        T: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + Send + 'static,
        F: Fn(Cx, Socket, T) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R>> + Send + 'static,
    {
        self.handled.push(Handled::of::<T, R>(event));
        self.handler(event, handler)
    }

    fn handler<T, R, F, W>(self, event: &'static str, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Cx, Socket, T) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.with(move |namespace, runtime| {
            let runtime = runtime.clone();
            namespace.on(event, move |socket: Socket, args: Args| {
                let (runtime, handler) = (runtime.clone(), handler.clone());
                async move {
                    let data: T = args.get(0)?;
                    let member = socket.member().clone();
                    let run = |cx: Cx| {
                        let socket = socket.staged(cx.stage());
                        handler(cx, socket, data)
                    };
                    work(&runtime, Some(&member), run).await
                }
            })
        })
    }

    /// Tells a room of each event of the bus: as this event, with the same data. The room's name is made of fields of the data, as in
    /// `game:{game_id}` or `table:{table.id}`; where one is missing or `null`, nobody is told.
    ///
    /// # Guarantees
    /// It is a subscription of the service. Where the configuration names a backbone its processes share it: each event is in the nodes' log
    /// before it is acknowledged, and everybody who is connected to any of them gets it once. Without one each process reads every event
    /// for those who are connected to it. One that is older than people may take to come back, and than a minute, is told to nobody.
    pub fn tells<T: EventData>(self, event: &'static str, room: &'static str) -> Self {
        // One that can't be read is told at the start, when the service is checked.
        let template = Template::of(room).ok();
        let tell = move |event: &Event<T>| {
            let Some(template) = &template else {
                return Ok(Tell::nobody());
            };
            let data = serde_json::to_value(&event.data).map_err(|error| {
                Error::internal("an event can't be written as JSON").with_source(error)
            })?;
            let room = template.room(&data)?;
            Ok(room.map_or_else(Tell::nobody, Tell::to))
        };
        self.bind(event, Some(room), tell)
    }

    /// Tells of each event of the bus whom this says, and what. It may be asked again about an event, and has no effects.
    ///
    /// # Guarantees
    /// Those of [`Namespace::tells`].
    pub fn tells_by<T, F>(self, event: &'static str, tell: F) -> Self
    where
        T: EventData,
        F: Fn(&Event<T>) -> Result<Tell> + Send + Sync + 'static,
    {
        self.bind(event, None, tell)
    }

    fn bind<T: EventData>(
        mut self,
        event: &'static str,
        template: Option<&'static str>,
        tell: impl Fn(&Event<T>) -> Result<Tell> + Send + Sync + 'static,
    ) -> Self {
        let namespace = self.name.clone();
        let to = Binding {
            namespace,
            event,
            template,
        };
        self.tells.push(binding(to, tell));
        self
    }

    /// What is done when somebody has connected. An error disconnects them.
    pub fn on_connect<F, W>(self, handler: F) -> Self
    where
        F: Fn(Cx, Socket) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.with(move |namespace, runtime| {
            let runtime = runtime.clone();
            namespace.on_connect(move |socket: Socket| {
                let (runtime, handler) = (runtime.clone(), handler.clone());
                async move {
                    let member = socket.member().clone();
                    let run = |cx: Cx| {
                        let socket = socket.staged(cx.stage());
                        handler(cx, socket)
                    };
                    work(&runtime, Some(&member), run).await
                }
            })
        })
    }

    /// What is done when somebody has gone, with the rooms in which they were.
    pub fn on_disconnect<F, W>(self, handler: F) -> Self
    where
        F: Fn(Cx, Socket, BTreeSet<ByteString>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.with(move |namespace, runtime| {
            let runtime = runtime.clone();
            namespace.on_disconnect(move |socket: Socket, rooms, why| {
                let (runtime, handler) = (runtime.clone(), handler.clone());
                async move {
                    let member = socket.member().clone();
                    let run = |cx: Cx| {
                        let socket = socket.staged(cx.stage());
                        handler(cx, socket, rooms)
                    };
                    let done = work(&runtime, Some(&member), run).await;
                    if let Err(error) = done {
                        tracing::warn!(service = %runtime.name, %error, why, "what follows a disconnect could not be done");
                    }
                }
            })
        })
    }

    /// Serves it on a plain WebSocket too, as frames of JSON; see [`trunkline_realtime::Namespace::plain_at`]. A route of the gateway has to lead there.
    pub fn plain_at(mut self, path: &'static str) -> Self {
        self.plain_at = Some(path);
        self.with(move |namespace, _| namespace.plain_at(path))
    }

    /// How many events a socket may send; see [`trunkline_realtime::Namespace::rate`].
    pub fn rate(self, rate: Rate) -> Self {
        self.with(move |namespace, _| namespace.rate(rate))
    }

    /// In how many rooms a socket may be; see [`trunkline_realtime::Namespace::rooms_max`].
    pub fn rooms_max(self, rooms: usize) -> Self {
        self.with(move |namespace, _| namespace.rooms_max(rooms))
    }

    /// Lets who was cut off come back; see [`trunkline_realtime::Namespace::recovers`].
    pub fn recovers(mut self, within: Duration, packets: usize) -> Self {
        self.recovers = within;
        self.with(move |namespace, _| namespace.recovers(within, packets))
    }

    fn with(
        mut self,
        make: impl FnOnce(trunkline_realtime::Namespace, &Arc<Runtime>) -> trunkline_realtime::Namespace
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.make.push(Box::new(make));
        self
    }

    fn open(self, runtime: &Arc<Runtime>) -> trunkline_realtime::Namespace {
        let namespace = trunkline_realtime::Namespace::at(self.name);
        self.make
            .into_iter()
            .fold(namespace, |namespace, make| make(namespace, runtime))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Runs something with a [`Cx`] of its own, which commits when it is done.
async fn work<T, W>(
    runtime: &Arc<Runtime>,
    member: Option<&Member>,
    handler: impl FnOnce(Cx) -> W,
) -> Result<T>
where
    W: Future<Output = Result<T>>,
{
    let mut context = Context::root(&runtime.env);
    if let Some(member) = member {
        context.user_id = member.user.clone();
        context.user_roles.clone_from(&member.roles);
    }
    let cx = Cx::new(runtime.clone(), context);
    let done = match handler(cx.clone()).await {
        Ok(given) => cx.finish(None).await.map(|()| given),
        Err(error) => Err(error),
    };
    if done.is_err() {
        cx.undo().await;
    }
    done
}

/// The namespaces of a service while it is up.
#[derive(Default)]
pub(crate) struct Sockets(OnceLock<Realtime>, Past);

/// Until when events are of the past: they are kept for those who come back, and sent to nobody. None once all of them were read.
type Past = Mutex<Option<Timestamp>>;

impl Sockets {
    /// Opens what the service declares; what answers their clients.
    ///
    /// # Errors
    /// Those of [`Realtime::new`], [`Realtime::join`] and [`Realtime::watch`].
    pub(crate) async fn open(
        &self,
        namespaces: Vec<Namespace>,
        shared: Option<Backbones>,
        runtime: &Arc<Runtime>,
    ) -> Result<Router> {
        let namespaces = namespaces
            .into_iter()
            .map(|namespace| namespace.open(runtime));
        let realtime = Realtime::new(namespaces, Limits::default(), runtime.env.clone())?;
        if let Some(shared) = shared {
            realtime.join(shared.sent).await?;
            realtime.watch(shared.members).await?;
        }
        let router = realtime.router();
        drop(self.0.set(realtime));
        Ok(router)
    }

    /// What was published before now is of the past.
    pub(crate) fn begin(&self, now: Timestamp) {
        *self.1.lock() = Some(now);
    }

    pub(crate) fn is_past(&self, time: Timestamp) -> bool {
        self.1.lock().is_some_and(|begun| time < begun)
    }

    pub(crate) fn has_past(&self) -> bool {
        self.1.lock().is_some()
    }

    /// All of the past was read.
    pub(crate) fn is_at_present(&self) {
        *self.1.lock() = None;
    }

    /// Lets all clients go: they come back to wherever they are led then.
    pub(crate) async fn close(&self) {
        if let Some(realtime) = self.0.get() {
            realtime.close(CLOSED_WITHIN).await;
        }
    }
}

impl Cx {
    /// A namespace of this service, to send to those who are in it. What is sent is sent when this work has committed, and not if it is
    /// undone; [`Emit::at_once`](trunkline_realtime::Emit::at_once) does not wait. A process that ends between the commit and the sending has
    /// sent nothing: what nobody may miss is told from the event that was published with it.
    ///
    /// # Errors
    /// `PermissionDenied` for a namespace that the service does not declare.
    pub fn namespace(&self, name: &str) -> Result<Of> {
        let realtime = self.runtime().sockets.0.get();
        let found = realtime.and_then(|realtime| realtime.of(name).ok());
        let found = found.map(|of| of.staged(self.stage()));
        found.ok_or_else(|| {
            let text = "the service does not declare this namespace: add .namespace(…)";
            Error::new(ErrorKind::PermissionDenied, "namespace_undeclared", text)
                .with("service", self.service_name())
                .with("namespace", name)
        })
    }
}
