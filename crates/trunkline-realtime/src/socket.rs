//! One client in one namespace.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use trunkline_core::{Error, ErrorKind, Result, report};

use crate::client::Client;
use crate::emit::Emit;
use crate::namespace::{Member, ROOM_BYTES_MAX, Rate, Space};
use crate::packet::{Args, Frame};
use crate::queue::Out;
use crate::realtime;
use crate::recovery::Back;
use crate::stage::Stage;

/// So many acknowledgements may be waited for at once.
const ACKS_MAX: usize = 1_024;

/// What of a client belongs to one namespace.
pub(crate) struct Inner {
    pub(crate) id: ByteString,
    /// By which it is known when it comes back.
    pub(crate) pid: Option<ByteString>,
    pub(crate) space: Arc<Space>,
    pub(crate) member: Member,
    pub(crate) is_back: bool,
    client: Weak<Client>,
    realtime: Weak<realtime::Inner>,
    gone: AtomicBool,
    allowance: Mutex<Allowance>,
    acks: Mutex<HashMap<u64, oneshot::Sender<Args>>>,
    next_ack: AtomicU64,
}

struct Allowance {
    left: f64,
    at: Instant,
}

impl Inner {
    pub(crate) fn new(
        client: &Arc<Client>,
        space: Arc<Space>,
        member: Member,
        back: Option<&Back>,
    ) -> Arc<Self> {
        let realtime = &client.realtime;
        let new_pid = || space.recovery.is_some().then(|| realtime.new_id());
        let allowance = Allowance {
            left: f64::from(space.rate.burst),
            at: Instant::now(),
        };
        Arc::new(Self {
            id: back.map_or_else(|| realtime.new_id(), |back| back.id.clone()),
            pid: back.map(|back| back.pid.clone()).or_else(new_pid),
            space,
            member,
            is_back: back.is_some(),
            client: Arc::downgrade(client),
            realtime: Arc::downgrade(realtime),
            gone: AtomicBool::new(false),
            allowance: Mutex::new(allowance),
            acks: Mutex::default(),
            next_ack: AtomicU64::new(0),
        })
    }

    pub(crate) fn send(&self, out: Out) {
        if let Some(client) = self.client.upgrade() {
            client.send(out);
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// It is over, for this reason.
    pub(crate) fn gone(self: &Arc<Self>, why: &'static str) {
        if self.gone.swap(true, Ordering::AcqRel) {
            return;
        }
        self.acks.lock().clear();
        let rooms = self.space.rooms.remove(&self.id).unwrap_or_default();
        // Who said goodbye does not come back.
        let was_cut_off = !why.contains("disconnect") && why != "token expired";
        if let Some((recovery, pid)) = self.space.recovery.as_ref().zip(self.pid.clone())
            && was_cut_off
        {
            let away = recovery.away((&self.id, self.member.user.as_ref()), rooms.clone());
            let remembered = self.space.remember(pid, away);
            if let Some((remembered, realtime)) = remembered.zip(self.realtime.upgrade()) {
                realtime.tasks.spawn(remembered);
            }
        }
        let left = self.space.left(Socket::of(self.clone()), rooms, why);
        if let Some((left, realtime)) = left.zip(self.realtime.upgrade()) {
            realtime.tasks.spawn(left);
        }
    }

    pub(crate) fn acknowledged(&self, ack: u64, args: Args) {
        if let Some(waits) = self.acks.lock().remove(&ack) {
            // Whoever waited may have given up.
            drop(waits.send(args));
        }
    }

    /// Whether one more event is within the rate.
    fn may(&self, rate: Rate) -> bool {
        let mut allowance = self.allowance.lock();
        let now = Instant::now();
        let more = now.duration_since(allowance.at).as_secs_f64() * f64::from(rate.per_second);
        allowance.left = (allowance.left + more).min(f64::from(rate.burst));
        allowance.at = now;
        let may = allowance.left >= 1.0;
        if may {
            allowance.left -= 1.0;
        }
        may
    }
}

/// Handles an event of a client, and answers it.
pub(crate) async fn event(socket: &Arc<Inner>, ack: Option<u64>, mut args: Args) {
    if args.is_empty() {
        return;
    }
    let name = args.values.remove(0);
    let name = name.as_str().unwrap_or_default();
    let done = if socket.may(socket.space.rate) {
        socket
            .space
            .handle(Socket::of(socket.clone()), name, args)
            .await
    } else {
        Err(Error::new(
            ErrorKind::Overloaded,
            "rate_limited",
            "too many events: slow down",
        ))
    };
    let namespace = &socket.space.name;
    let frame = match (done, ack) {
        (Ok(_), None) => return,
        (Ok(data), Some(ack)) => Frame::ack(namespace, ack, data.as_ref()),
        (Err(error), ack) => {
            if error.kind() == ErrorKind::Internal {
                tracing::error!(event = name, error = %report(&error), "an event could not be handled");
            }
            let told = told(&error);
            match ack {
                Some(ack) => Frame::ack(namespace, ack, Some(&json!({ "error": told }))),
                None => Frame::event(namespace, None, ("error", &told), (Vec::new(), None)),
            }
        }
    };
    match frame {
        Ok(frame) => socket.send(Out::of(frame)),
        Err(error) => {
            tracing::error!(event = name, error = %report(&error), "an answer can't be written")
        }
    }
}

/// What a client is told of an error: nothing of what is inside.
fn told(error: &Error) -> Value {
    let message = match error.kind() {
        ErrorKind::Internal => "something went wrong",
        _ => error.message(),
    };
    json!({ "code": error.code(), "message": message })
}

/// A socket has connected: its namespace greets it.
pub(crate) async fn connected(socket: &Arc<Inner>) {
    if let Err(error) = socket.space.connected(Socket::of(socket.clone())).await {
        tracing::info!(error = %report(&error), "somebody who connected is not wanted");
        let this = Socket::of(socket.clone());
        drop(this.emit("error", &told(&error)));
        this.disconnect();
    }
}

/// A client in a namespace. Cheap to clone.
#[derive(Clone)]
pub struct Socket {
    inner: Arc<Inner>,
    /// What is sent by way of it waits here.
    stage: Option<Stage>,
}

impl Socket {
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self { inner, stage: None }
    }

    /// The same one, but what is sent by way of it, and its end, wait for the work that this stage belongs to; what is
    /// [asked](Socket::ask) does not.
    #[must_use]
    pub fn staged(mut self, stage: &Stage) -> Self {
        self.stage = Some(stage.clone());
        self
    }

    /// Its id, which is also the name of a room that it alone is in.
    pub fn id(&self) -> &ByteString {
        &self.inner.id
    }

    /// Who it is, as the namespace's check has said.
    pub fn member(&self) -> &Member {
        &self.inner.member
    }

    /// Its user.
    ///
    /// # Errors
    /// `Unauthenticated` where the namespace's check has named none.
    pub fn user(&self) -> Result<&ByteString> {
        self.inner.member.user.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unauthenticated,
                "user_missing",
                "expected somebody with a token",
            )
        })
    }

    /// Whether it was cut off and came back, with its rooms.
    pub fn is_recovered(&self) -> bool {
        self.inner.is_back
    }

    /// Sends it an event.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON.
    pub fn emit(&self, event: &str, data: &impl Serialize) -> Result<()> {
        self.to_itself().emit(event, data)
    }

    /// Sends it an event that may be lost when it is behind.
    ///
    /// # Errors
    /// Those of [`Socket::emit`].
    pub fn emit_volatile(&self, event: &str, data: &impl Serialize) -> Result<()> {
        self.to_itself().volatile().emit(event, data)
    }

    /// Sends it an event with bytes, which are further arguments.
    ///
    /// # Errors
    /// Those of [`Socket::emit`], and for more than 64 attachments.
    pub fn emit_bytes(&self, event: &str, data: &impl Serialize, bytes: Vec<Bytes>) -> Result<()> {
        self.to_itself().emit_bytes(event, data, bytes)
    }

    /// Sends it an event and waits for its answer.
    ///
    /// # Errors
    /// Those of [`Socket::emit`]; `DeadlineExceeded` when it does not answer in time, `Unavailable` when it has gone, `Overloaded`
    /// when it owes 1,024 answers.
    pub async fn ask(&self, event: &str, data: &impl Serialize, within: Duration) -> Result<Args> {
        let socket = &self.inner;
        let (answer, answered) = oneshot::channel();
        let ack = socket.next_ack.fetch_add(1, Ordering::Relaxed);
        let frame = Frame::event(
            &socket.space.name,
            Some(ack),
            (event, data),
            (Vec::new(), None),
        )?;
        {
            let mut acks = socket.acks.lock();
            if acks.len() >= ACKS_MAX {
                let text = "the client owes too many answers";
                return Err(Error::new(ErrorKind::Overloaded, "answers_owed", text));
            }
            acks.insert(ack, answer);
        }
        let gone = || Error::unavailable("client_gone", "the client has gone");
        if socket.is_gone() {
            socket.acks.lock().remove(&ack);
            return Err(gone());
        }
        socket.send(Out::of(frame));
        match timeout(within, answered).await {
            Ok(answered) => answered.map_err(|_| gone()),
            Err(_) => {
                socket.acks.lock().remove(&ack);
                let text = "the client did not answer in time";
                Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "client_silent",
                    text,
                ))
            }
        }
    }

    /// Puts it into a room.
    ///
    /// # Errors
    /// `InvalidInput` (`room_invalid`) for an empty name or one above 256 bytes; `Overloaded` (`rooms_full`) when it is in as many as it may be.
    pub fn join(&self, room: impl Into<ByteString>) -> Result<()> {
        let room = room.into();
        if room.is_empty() || room.len() > ROOM_BYTES_MAX {
            let text = "expected a room's name of 1 to 256 bytes";
            return Err(Error::invalid("room_invalid", text));
        }
        let space = &self.inner.space;
        if space.rooms.join(&self.inner.id, &room, space.rooms_max) || self.inner.is_gone() {
            return Ok(());
        }
        let text = "it is in as many rooms as it may be";
        Err(Error::new(ErrorKind::Overloaded, "rooms_full", text))
    }

    /// Puts it into a room and gives it what was sent there after what it saw last: the offset that each event has as its last argument in a
    /// namespace that [recovers](crate::Namespace::recovers). Whether it has everything now; if not, the offset is none or too old, and
    /// it has to ask how things stand.
    ///
    /// # Errors
    /// Those of [`Socket::join`].
    pub fn join_since(&self, room: impl Into<ByteString>, last: Option<&str>) -> Result<bool> {
        let room = room.into();
        let seen = last.and_then(|last| last.parse().ok());
        let space = &self.inner.space;
        space.join_since(&self.inner, &room, seen, || self.join(room.clone()))
    }

    /// Takes it out of a room.
    pub fn leave(&self, room: &str) {
        self.inner.space.rooms.leave(&self.inner.id, room);
    }

    /// The rooms in which it is.
    pub fn rooms(&self) -> BTreeSet<ByteString> {
        self.inner.space.rooms.of(&self.inner.id)
    }

    /// To everybody else in a room.
    pub fn to(&self, room: impl Into<ByteString>) -> Emit {
        self.namespace().to(room).except(self.inner.id.clone())
    }

    /// To everybody else in the namespace.
    pub fn broadcast(&self) -> Emit {
        self.namespace().except(self.inner.id.clone())
    }

    /// To anybody in the namespace, itself too.
    pub fn namespace(&self) -> Emit {
        Emit::of(self.inner.space.clone(), self.stage.clone())
    }

    /// Ends it; within staged work, when that is over, however it ends.
    pub fn disconnect(&self) {
        if let Some(stage) = &self.stage {
            return stage.disconnect(Self::of(self.inner.clone()));
        }
        if let Some(client) = self.inner.client.upgrade() {
            client.disconnect(&self.inner.space.name);
        }
    }

    fn to_itself(&self) -> Emit {
        let id = self.inner.id.clone();
        Emit::here(self.inner.space.clone(), id, self.stage.clone())
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.inner.id)
            .field("namespace", &self.inner.space.name)
            .field("user", &self.inner.member.user)
            .finish_non_exhaustive()
    }
}
