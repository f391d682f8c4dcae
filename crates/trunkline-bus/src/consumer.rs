//! The consumer runtime: per-key order, bounded work, retries, dead letters, lanes.

mod actor;
mod arrivals;
mod call;
mod command;
mod config;
mod item;
mod lag;
mod lanes;
mod meters;
mod oldest;
mod parked;
mod rehearse;
mod replay;
mod settle;
mod source;
mod status;
mod trace;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Env, Error, ErrorKind, Result};
use trunkline_telemetry::Telemetry;

use self::actor::Actor;
use self::arrivals::Arrivals;
use self::command::Command;
use self::lanes::Lanes;
use self::oldest::Oldest;
use self::parked::Parked;
use crate::{DeadLetter, DeadLetterQuery, Handler, ParkingLot, Transport};

pub use self::config::{ConsumerConfig, RetryPolicy};
pub use self::status::{
    ReplayOutcome, ReplayReport, ReplayRequest, ReplayedLetter, SubscriptionState,
    SubscriptionStatus,
};

/// What a consumer stands on.
#[derive(Debug, Clone)]
pub struct ConsumerPorts {
    /// Where events come from.
    pub transport: Arc<dyn Transport>,
    /// Who does the work.
    pub handler: Arc<dyn Handler>,
    /// Where dead letters are kept.
    pub lot: Arc<dyn ParkingLot>,
    /// Where spans go.
    pub telemetry: Telemetry,
    /// Clock, randomness and ids.
    pub env: Env,
}

/// A running subscription of one group in this process. Cheap to clone; dropping the last handle stops it at once,
/// and what it had not settled goes back to the transport.
///
/// Several consumers of one group, in one process or in many, are its members: they share the work by
/// partition and the parked keys by the lot. A key that one of them parks is parked for all of them, and
/// a replay by any of them frees it for all.
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Inner>,
}

struct Inner {
    config: ConsumerConfig,
    ports: ConsumerPorts,
    commands: mpsc::Sender<Command>,
    /// Held by a replay, an edit or a discard of this consumer.
    admin: tokio::sync::Mutex<()>,
    /// The consumer ends: a replay stops after its letter.
    stopping: CancellationToken,
    oldest: Arc<Oldest>,
    /// The loop; it ends with the last handle.
    _tasks: Mutex<JoinSet<()>>,
}

/// How many requests of handles may wait for the loop; beyond it they wait to be sent.
const COMMANDS_MAX: usize = 64;

impl Consumer {
    /// Reads the keys that are parked, subscribes and begins to work.
    ///
    /// # Guarantees
    /// Each key is handled serially, in the order in which its lane delivers it; other keys run side by
    /// side. An event is acknowledged only after its effect, or its dead letter, is durable.
    ///
    /// # Errors
    /// `InvalidInput` for a configuration that cannot work; what the lot or the transport say otherwise.
    pub async fn start(config: ConsumerConfig, ports: ConsumerPorts) -> Result<Self> {
        config.check()?;
        // Heard from before it is read, so that nothing is missed in between.
        let arrivals = Arrivals::new(ports.lot.changes());
        let parked = ports.lot.parked_keys(&config.group, None).await?;
        let mut lanes = Lanes::new(&config);
        for lane in lanes.all.iter_mut().filter(|lane| lane.source.is_used()) {
            let subscription = ports.transport.subscribe(&lane.source.spec).await?;
            lane.source.open(subscription);
        }
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let oldest = Arc::new(Oldest::new(&config));
        let parked = Parked::new(config.group.clone(), parked, oldest.clone());
        let knowledge = (arrivals, parked);
        let actor = Actor::new(config.clone(), ports.clone(), lanes, knowledge, requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(actor.run());
        let inner = Inner {
            config,
            ports,
            commands,
            admin: tokio::sync::Mutex::new(()),
            stopping: CancellationToken::new(),
            oldest,
            _tasks: Mutex::new(tasks),
        };
        inner.oldest.left(&inner.ports, &inner.all()).await;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The durable group whose work it does.
    pub fn group(&self) -> &ByteString {
        &self.inner.config.group
    }

    /// Stops taking up work: what is being handled ends, nothing new begins. Idempotent.
    ///
    /// # Errors
    /// `Unavailable` if its loop is gone.
    pub async fn pause(&self) -> Result<()> {
        self.inner.ask(Command::Pause).await
    }

    /// Takes up work again. Idempotent.
    ///
    /// # Errors
    /// `Unavailable` if its loop is gone.
    pub async fn resume(&self) -> Result<()> {
        self.inner.ask(Command::Resume).await
    }

    /// How it stands.
    ///
    /// # Errors
    /// `Unavailable` if its loop is gone.
    pub async fn status(&self) -> Result<SubscriptionStatus> {
        self.inner.ask(Command::Status).await
    }

    /// Ends gracefully: what is being handled may end within `limit`, the rest goes back to the
    /// transport, unsettled. Idempotent.
    ///
    /// # Guarantees
    /// Nothing is lost, and nothing becomes a dead letter because of it.
    ///
    /// # Errors
    /// `DeadlineExceeded` if a handler was still running at the limit; it is cancelled.
    pub async fn drain(&self, limit: Duration) -> Result<()> {
        let until = tokio::time::Instant::now() + limit;
        self.inner.stopping.cancel();
        let drained = self
            .inner
            .ask(|done| Command::Drain { limit, done })
            .await?;
        // A replay ends after the letter at hand; it uses the handler, so it ends before the drain does.
        let replay = tokio::time::timeout_at(until, self.inner.admin.lock()).await;
        drained.and(replay.map(drop).map_err(|_| {
            let message = "a replay was still running at the limit";
            Error::new(ErrorKind::DeadlineExceeded, "drain_timeout", message)
        }))
    }

    /// Dead letters of this group, oldest first.
    ///
    /// # Errors
    /// What the lot says.
    pub async fn dead_letters(&self, query: DeadLetterQuery) -> Result<Vec<DeadLetter>> {
        let group = self.inner.all().group;
        self.inner
            .ports
            .lot
            .list(&DeadLetterQuery { group, ..query })
            .await
    }

    /// Replays dead letters, key by key, each key's letters in order through the same handler.
    /// Dropping the future interrupts it after the letter at hand; run it again to go on.
    ///
    /// # Guarantees
    /// Events of a key that come meanwhile queue behind, whichever member gets them; the key is free when
    /// its queue is empty.
    ///
    /// # Errors
    /// `Conflict` while another replay, edit or discard of this group runs, in whatever process; what the
    /// lot says.
    pub async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport> {
        self.inner.replay(request).await
    }

    /// Replaces the data of a dead letter; the original is kept. Its count of replays begins anew.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for data that is not JSON where it should be; `Conflict` as for replay.
    pub async fn edit(&self, id: &str, data: Bytes) -> Result<DeadLetter> {
        self.inner.edit(id, data).await
    }

    /// Drops the dead letters that match, for good; a key without letters is free again.
    /// Says how many.
    ///
    /// # Errors
    /// `InvalidInput` for a query that names no key, type or id; `Conflict` as for replay.
    pub async fn discard(&self, query: DeadLetterQuery) -> Result<usize> {
        let discarded = self.inner.discard(query).await;
        self.inner.letters_left().await;
        discarded
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.inner.config.group)
            .finish_non_exhaustive()
    }
}
