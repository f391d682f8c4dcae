//! Redis as a transport.

use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Error, ErrorKind, Result};

use crate::config::{Mode, RedisConfig};
use crate::entry::Reader;
use crate::keys::Keys;
use crate::link::Link;
use crate::member::{End, Member};
use crate::publish::{PARTS_MAX, Part};
use crate::topics::Topics;
use crate::{error, publish, pubsub, retain, subscribe, value};

/// Redis, through Streams or Pub/Sub. Cheap to clone; clones share their connections.
///
/// # Guarantees
/// Streams: what a publish accepted is delivered to every group at least once, in the order of its key,
/// and a partition is read by one member of a group at a time; [the crate](crate) says what survives what.
/// Pub/Sub: whoever listens gets it at most once, in the order of its key.
///
/// A connection that is lost ends the subscriptions on it with `Unavailable`; a new one begins where the
/// group was. Dropping the last clone ends everything at once: close it first.
#[derive(Debug, Clone)]
pub struct Redis {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: RedisConfig,
    pub(crate) env: Env,
    pub(crate) keys: Keys,
    pub(crate) link: Link,
    pub(crate) topics: Topics,
    pub(crate) reader: Reader,
    pub(crate) parts: mpsc::Sender<Part>,
    pub(crate) members: Mutex<Vec<Weak<Member>>>,
    pub(crate) closed: watch::Sender<bool>,
}

impl Redis {
    /// Connects, checks the server, and warns of settings under which events do not survive what one
    /// would expect.
    ///
    /// # Errors
    /// `Unavailable`: the server can't be reached; `Unauthenticated`: it refuses user or password;
    /// `PermissionDenied`: the user may not; `NotFound`: there is no such database; `Unsupported`: it is
    /// older than 7.0, or a cluster.
    pub async fn connect(config: RedisConfig, env: Env) -> Result<Self> {
        let link = Link::new(&config)?;
        check(&link, &config).await?;
        let keys = Keys::new(config.prefix.clone());
        let (parts, queue) = mpsc::channel(PARTS_MAX);
        let shared = Arc::new(Shared {
            topics: Topics::new(config.mode, keys.clone()),
            reader: Reader {
                form: config.form,
                event_bytes_max: config.event_bytes_max,
                env: env.clone(),
            },
            keys,
            link,
            parts,
            members: Mutex::default(),
            closed: watch::Sender::new(false),
            env,
            config,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(publish::write(shared.clone(), queue));
        if shared.config.mode == Mode::Streams {
            tasks.spawn(until_closed(
                shared.clone(),
                retain::keep_trimming(shared.clone()),
            ));
        }
        let tasks = Mutex::new(tasks);
        Ok(Self {
            owner: Arc::new(Owner { shared, tasks }),
        })
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// `Unavailable` if it does not, or the transport was closed.
    pub async fn check(&self) -> Result<()> {
        let shared = self.shared();
        shared.open()?;
        let mut ping = Cmd::new();
        ping.arg("PING");
        shared
            .link
            .call("the server does not answer", &ping)
            .await?;
        Ok(())
    }

    /// Drops what the topics' retention allows, now rather than within half a minute.
    ///
    /// # Errors
    /// `Unavailable` if the server does not answer.
    pub async fn trim(&self) -> Result<()> {
        self.shared().open()?;
        retain::trim(self.shared()).await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Runs a task that ends with the transport.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.shared().open()?;
        let mut tasks = self.owner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
        Ok(())
    }
}

impl Shared {
    /// Whether the transport is open.
    pub(crate) fn open(&self) -> Result<()> {
        if *self.closed.borrow() {
            return Err(error::closed());
        }
        Ok(())
    }

    /// Waits until the transport is closed.
    pub(crate) async fn until_closed(&self) {
        // An error says that the sender is gone, and so is the transport.
        drop(self.closed.subscribe().wait_for(|closed| *closed).await);
    }

    fn begin_close(&self) {
        self.closed.send_replace(true);
        let members: Vec<_> = std::mem::take(&mut *self.members.lock());
        for member in members.iter().filter_map(Weak::upgrade) {
            member.end(End::Closed);
        }
    }
}

impl Transport for Redis {
    fn capabilities(&self) -> Capabilities {
        let streams = self.shared().config.mode == Mode::Streams;
        let mut all = Capabilities::default();
        all.durable = streams;
        all.ordered_by_key = true;
        all.groups = streams;
        all.replay = streams;
        all
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        async move {
            let shared = self.shared();
            shared.open()?;
            shared.topics.declare(&shared.link, topics).await
        }
        .boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        publish::publish(self.shared(), batch).boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            Ok(match self.shared().config.mode {
                Mode::Streams => Box::new(subscribe::subscribe(self, spec).await?) as _,
                Mode::PubSub => Box::new(pubsub::subscribe(self, spec).await?) as _,
            })
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            let shared = self.shared();
            shared.begin_close();
            let mut tasks = std::mem::take(&mut *self.owner.tasks.lock());
            let done = async { while tasks.join_next().await.is_some() {} };
            if timeout(shared.link.timeout(), done).await.is_err() {
                tracing::warn!(
                    "the server did not answer in time; what was settled last comes again"
                );
                tasks.shutdown().await;
            }
            Ok(())
        }
        .boxed()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

/// Runs a task until the transport closes.
async fn until_closed(shared: Arc<Shared>, task: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = shared.until_closed() => {}
        () = task => {}
    }
}

/// Checks that the server is one that this transport can use, and tells what its settings mean.
async fn check(link: &Link, config: &RedisConfig) -> Result<()> {
    let doing = "the server could not be asked about itself";
    let mut pipe = Pipeline::new();
    pipe.cmd("PING");
    for section in ["server", "persistence", "memory"] {
        pipe.cmd("INFO").arg(section);
    }
    let answers = link.calls(doing, &pipe).await.or_else(|error| {
        // A user who may not ask is taken at its word: the first command that fails will say so.
        let denied = error.kind() == ErrorKind::PermissionDenied;
        if denied { Ok(Vec::new()) } else { Err(error) }
    })?;
    let mut about = String::new();
    for text in answers.into_iter().filter_map(value::text) {
        about.push_str(&text);
        about.push('\n');
    }
    let field = |name: &str| {
        let value = |line: &str| {
            Some(
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim()
                    .to_owned(),
            )
        };
        about.lines().find_map(value)
    };
    let version = field("redis_version");
    let major = version
        .as_deref()
        .and_then(|text| text.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 7) {
        let message = "the server is too old; expected Redis 7.0 or later";
        let error = Error::new(ErrorKind::Unsupported, "redis_too_old", message);
        return Err(link.placed(error.with("found", version.unwrap_or_default())));
    }
    if field("redis_mode").as_deref() == Some("cluster") {
        let message = "the server is part of a cluster, which this transport does not speak to";
        return Err(link.placed(Error::new(ErrorKind::Unsupported, "redis_cluster", message)));
    }
    if config.mode == Mode::Streams {
        warn(
            link,
            config,
            field("aof_enabled"),
            field("maxmemory_policy"),
        )
        .await;
    }
    Ok(())
}

async fn warn(
    link: &Link,
    config: &RedisConfig,
    append_only: Option<String>,
    eviction: Option<String>,
) {
    let server = config.place();
    if append_only.as_deref() == Some("0") {
        tracing::warn!(
            %server,
            "the server keeps no append-only file: events that are newer than its last snapshot are lost \
             with it; set `appendonly yes`"
        );
    } else {
        let mut cmd = Cmd::new();
        cmd.arg("CONFIG").arg("GET").arg("appendfsync");
        let answer = link
            .call("the server's setting could not be read", &cmd)
            .await;
        let setting = answer.ok().and_then(value::array).unwrap_or_default();
        let setting = setting.into_iter().nth(1).and_then(value::text);
        if let Some(setting) = setting.filter(|setting| setting != "always") {
            tracing::info!(
                %server, appendfsync = %setting,
                "a loss of power loses what the server has not synced; `appendfsync always` loses nothing"
            );
        }
    }
    if eviction.is_some_and(|policy| policy.starts_with("allkeys")) {
        tracing::warn!(
            %server,
            "the server evicts keys when its memory is full, and whole streams with them; set \
             `maxmemory-policy noeviction`"
        );
    }
}
