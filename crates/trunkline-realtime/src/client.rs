//! One client: its connection, whatever that is made of, and the namespaces to which it is connected.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Error, Result, report};

use crate::engine::packet::bad;
use crate::namespace::Space;
use crate::packet::{Args, Frame, Kind, Packet};
use crate::queue::{Out, Queue};
use crate::realtime;
use crate::socket::Inner;

/// What a client shows when it connects to a namespace.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The headers of the request with which its connection began.
    pub headers: Arc<HeaderMap>,
    /// What it gave as `auth`; an empty object if it gave nothing.
    pub auth: Value,
}

impl Handshake {
    /// Its token: `auth.token`, or else the `Authorization` header's.
    pub fn token(&self) -> Option<&str> {
        let given = self.auth.get("token").and_then(Value::as_str);
        given
            .map(|token| token.strip_prefix("Bearer ").unwrap_or(token))
            .or_else(|| {
                let header = self.headers.get(http::header::AUTHORIZATION)?;
                header.to_str().ok()?.strip_prefix("Bearer ")
            })
    }
}

/// A packet whose attachments are still to come.
struct Partial {
    packet: Packet,
    attachments: Vec<Bytes>,
}

/// What is done in its turn.
enum Turn {
    Packet(Packet, Vec<Bytes>),
    /// The connection is over, for this reason; what came before it has been handled, a goodbye too.
    End(&'static str),
}

/// What is still to be done.
#[derive(Default)]
struct Inbox {
    turns: VecDeque<Turn>,
    /// Somebody works on them.
    is_open: bool,
}

pub(crate) struct Client {
    pub(crate) id: ByteString,
    pub(crate) realtime: Arc<realtime::Inner>,
    pub(crate) queue: Queue,
    /// It is over: whoever serves it ends.
    pub(crate) closed: CancellationToken,
    /// When it has to be looked at next may have changed.
    pub(crate) expires: Notify,
    headers: Arc<HeaderMap>,
    partial: Mutex<Option<Partial>>,
    inbox: Mutex<Inbox>,
    sockets: Mutex<BTreeMap<ByteString, Arc<Inner>>>,
}

impl Client {
    pub(crate) fn new(realtime: Arc<realtime::Inner>, headers: HeaderMap) -> Arc<Self> {
        Arc::new(Self {
            id: id(&realtime, &headers),
            realtime,
            queue: Queue::default(),
            closed: CancellationToken::new(),
            expires: Notify::new(),
            headers: Arc::new(headers),
            partial: Mutex::default(),
            inbox: Mutex::default(),
            sockets: Mutex::default(),
        })
    }

    /// Sends a packet, or ends the connection of a client that is behind.
    pub(crate) fn send(&self, out: Out) {
        if self
            .queue
            .push(out, self.realtime.limits.waiting())
            .is_err()
        {
            tracing::info!(client = %self.id, "a client that does not read what it is sent is disconnected");
            self.closed.cancel();
        }
    }

    fn say(&self, frame: Frame) {
        self.send(Out::of(frame));
    }

    /// A text of the client.
    ///
    /// # Errors
    /// `InvalidInput` when it is no packet, or not one that may come now: the connection is to end.
    pub(crate) fn message(self: &Arc<Self>, text: &str) -> Result<()> {
        let packet = Packet::of_text(text)?;
        let mut partial = self.partial.lock();
        if partial.is_some() {
            return Err(bad("expected the attachments of the packet before"));
        }
        if packet.attachments > 0 {
            *partial = Some(Partial {
                packet,
                attachments: Vec::new(),
            });
            return Ok(());
        }
        drop(partial);
        self.take(packet, Vec::new())
    }

    /// Bytes of the client: an attachment.
    ///
    /// # Errors
    /// `InvalidInput` when none is expected.
    pub(crate) fn bytes(self: &Arc<Self>, bytes: Bytes) -> Result<()> {
        let mut partial = self.partial.lock();
        let Some(waiting) = partial.as_mut() else {
            return Err(bad("expected no bytes: no packet before has attachments"));
        };
        waiting.attachments.push(bytes);
        if waiting.attachments.len() < waiting.packet.attachments {
            return Ok(());
        }
        let whole = partial.take();
        drop(partial);
        match whole {
            Some(Partial {
                packet,
                attachments,
            }) => self.take(packet, attachments),
            None => Ok(()),
        }
    }

    /// Puts a packet where it is handled in its turn.
    fn take(self: &Arc<Self>, packet: Packet, attachments: Vec<Bytes>) -> Result<()> {
        if packet.kind == Kind::Ack {
            // Whoever waits for it may be the handler of the event before.
            self.acknowledged(packet, attachments);
            return Ok(());
        }
        let inbox = self.inbox.lock();
        if inbox.turns.len() >= self.realtime.limits.unhandled_max {
            let text = "more events than can be handled";
            return Err(Error::invalid("client_floods", text));
        }
        self.put(inbox, Turn::Packet(packet, attachments));
        Ok(())
    }

    fn put(self: &Arc<Self>, mut inbox: MutexGuard<'_, Inbox>, turn: Turn) {
        inbox.turns.push_back(turn);
        if !std::mem::replace(&mut inbox.is_open, true) {
            self.realtime.tasks.spawn(self.clone().work());
        }
    }

    /// Handles what came, one after the other, until there is no more.
    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut inbox = self.inbox.lock();
                let next = inbox.turns.pop_front();
                inbox.is_open = next.is_some();
                next
            };
            match next {
                None => return,
                Some(Turn::Packet(packet, attachments)) => self.handle(packet, attachments).await,
                Some(Turn::End(why)) => {
                    let sockets = std::mem::take(&mut *self.sockets.lock());
                    for socket in sockets.into_values() {
                        socket.gone(why);
                    }
                }
            }
        }
    }

    async fn handle(self: &Arc<Self>, packet: Packet, attachments: Vec<Bytes>) {
        match packet.kind {
            Kind::Connect => self.connect(packet).await,
            Kind::Disconnect => {
                if let Some(socket) = self.sockets.lock().remove(&packet.namespace) {
                    socket.gone("client namespace disconnect");
                }
            }
            Kind::Event => {
                let socket = self.sockets.lock().get(&packet.namespace).cloned();
                // One that is not connected there has not heard of it yet.
                if let Some(socket) = socket {
                    let args = args(packet.data, attachments);
                    crate::socket::event(&socket, packet.ack, args).await;
                }
            }
            Kind::Ack | Kind::ConnectError => {}
        }
    }

    fn acknowledged(&self, packet: Packet, attachments: Vec<Bytes>) {
        let socket = self.sockets.lock().get(&packet.namespace).cloned();
        if let Some((socket, ack)) = socket.zip(packet.ack) {
            let values = match packet.data {
                Some(Value::Array(values)) => values,
                _ => Vec::new(),
            };
            socket.acknowledged(
                ack,
                Args {
                    values,
                    attachments,
                },
            );
        }
    }

    async fn connect(self: &Arc<Self>, packet: Packet) {
        let name = packet.namespace;
        if self.sockets.lock().contains_key(&name) {
            return;
        }
        let Some(space) = self.realtime.space(&name) else {
            return self.refuse(&name, &json!({ "message": "Invalid namespace" }));
        };
        let handshake = Handshake {
            headers: self.headers.clone(),
            auth: packet.data.unwrap_or_else(|| json!({})),
        };
        match Box::pin(self.admit(&space, handshake)).await {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(namespace = %name, error = %report(&error), "a client was refused");
                let data = json!({ "code": error.code() });
                self.refuse(&name, &json!({ "message": error.message(), "data": data }));
            }
        }
    }

    async fn admit(self: &Arc<Self>, space: &Arc<Space>, handshake: Handshake) -> Result<()> {
        let member = space.admit(handshake.clone()).await?;
        let back = space.recover(&handshake.auth, &member).await;
        let socket = Inner::new(self, space.clone(), member, back.as_ref());
        let name = space.name.clone();
        self.sockets.lock().insert(name.clone(), socket.clone());
        if socket.member.until.is_some() {
            self.expires.notify_one();
        }
        // Who left while it was asked who it is has to be let go again.
        if self.closed.is_cancelled() {
            self.sockets.lock().remove(&name);
            return Ok(());
        }
        let data = match &socket.pid {
            Some(pid) => json!({ "sid": socket.id, "pid": pid }),
            None => json!({ "sid": socket.id }),
        };
        self.say(Frame::of(Kind::Connect, &name, Some(&data)));
        let rooms = back
            .as_ref()
            .map(|back| back.rooms.clone())
            .unwrap_or_default();
        space.enter(&socket, &rooms, back);
        crate::socket::connected(&socket).await;
        Ok(())
    }

    fn refuse(&self, namespace: &str, data: &Value) {
        self.say(Frame::of(Kind::ConnectError, namespace, Some(data)));
    }

    /// When the first of its sockets has to show a new token.
    pub(crate) fn good_until(&self) -> Option<Timestamp> {
        self.sockets
            .lock()
            .values()
            .filter_map(|socket| socket.member.until)
            .min()
    }

    /// Ends those whose tokens have expired.
    pub(crate) fn expire(&self, now: Timestamp) {
        let mut sockets = self.sockets.lock();
        let is_over = |socket: &Arc<Inner>| socket.member.until.is_some_and(|until| until <= now);
        let over: Vec<_> = sockets
            .values()
            .filter(|socket| is_over(socket))
            .cloned()
            .collect();
        for socket in &over {
            sockets.remove(&socket.space.name);
        }
        drop(sockets);
        for socket in over {
            let data = json!({ "code": "token_expired", "message": "the token has expired" });
            let told = Frame::event(
                &socket.space.name,
                None,
                ("error", &data),
                (Vec::new(), None),
            );
            drop(told.map(|frame| self.say(frame)));
            self.say(Frame::of(Kind::Disconnect, &socket.space.name, None));
            socket.gone("token expired");
        }
    }

    /// Takes a socket out, and tells the client, if it asked for nothing of the sort.
    pub(crate) fn disconnect(&self, namespace: &ByteString) {
        if let Some(socket) = self.sockets.lock().remove(namespace) {
            self.say(Frame::of(Kind::Disconnect, namespace, None));
            socket.gone("server namespace disconnect");
        }
    }

    /// Its connection is over, for this reason.
    pub(crate) fn ends(self: &Arc<Self>, why: &'static str) {
        self.closed.cancel();
        self.realtime.forget(&self.id);
        self.put(self.inbox.lock(), Turn::End(why));
    }
}

/// The header by which a gateway says what this node is called there.
const INSTANCE: HeaderName = HeaderName::from_static("x-trunkline-instance");
/// A longer one is not of a gateway.
const INSTANCE_BYTES_MAX: usize = 20;

/// A new connection's id. What its node is called stands behind it, so that the gateway finds the way back.
fn id(realtime: &realtime::Inner, headers: &HeaderMap) -> ByteString {
    let id = realtime.new_id();
    let tag = headers.get(INSTANCE).and_then(|tag| tag.to_str().ok());
    let is_tag = |tag: &&str| {
        let fits = tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits && !tag.is_empty() && tag.len() <= INSTANCE_BYTES_MAX
    };
    match tag.filter(is_tag) {
        Some(tag) => format!("{id}.{tag}").into(),
        None => id,
    }
}

fn args(data: Option<Value>, attachments: Vec<Bytes>) -> Args {
    let values = match data {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    };
    Args {
        values,
        attachments,
    }
}
