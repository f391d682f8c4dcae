//! The log as a transport.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Error, Result};

use crate::config::LogConfig;
use crate::disk::{Disk, SystemDisk, private};
use crate::error;
use crate::group::Group;
use crate::journal::{Journal, Resume};
use crate::read::Files;
use crate::recovery::{Found, Recovery, make_dir, recover};
use crate::shared::{Control, Directory, Shared};
use crate::writer::{Schedule, Tail, Writer, build_directory};
use crate::{publish, subscribe};

/// The embedded durable log. Cheap to clone; clones are the same log.
///
/// # Guarantees
/// What a publish accepted is delivered to every group at least once, in the order of its key, as
/// long as retention keeps it; what no durable group has yet to do may be dropped, nothing else. With
/// `Always` it survives a loss of power. A partition belongs to one member of a group at a time.
///
/// A full disk refuses publishes as `Unavailable` with nothing accepted, and the log goes on when
/// there is space again. A sync that fails ends all writing until the log is opened again.
///
/// Dropping the last clone closes it, and waits for the last write.
#[derive(Debug, Clone)]
pub struct Log {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    recovery: Recovery,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in its folder, or makes it. It reads files: call it before serving, or off the
    /// async threads.
    ///
    /// # Errors
    /// `InvalidInput`: the configuration; `Conflict`: another process has it open;
    /// `PermissionDenied`: the folder can't be written; `Unavailable`: the disk is full or failing;
    /// `Corrupt`: the files are not what was written, and not merely torn at their end.
    pub fn open(config: LogConfig, env: Env) -> Result<Self> {
        Self::open_on(config, env, Arc::new(SystemDisk))
    }

    pub(crate) fn open_on(config: LogConfig, env: Env, disk: Arc<dyn Disk>) -> Result<Self> {
        config.check()?;
        make_dir(&config.dir)?;
        let lock = lock(&config.dir)?;
        let found = recover(&config, env.random_u64())?;
        let recovery = found.recovery.clone();
        if recovery.torn_bytes > 0 {
            let bytes = recovery.torn_bytes;
            tracing::warn!(
                bytes,
                "the log ended in a batch that was never acknowledged; it was cut"
            );
        }
        let resume = Resume {
            log_id: found.log_id,
            active: found.active,
            active_bytes: found.active_bytes,
            sequence: found.sequence,
            last_time: found.last_time,
        };
        let segment_bytes_max = config.segment_bytes_max as u64;
        let journal = Journal::open(config.dir.clone(), disk, segment_bytes_max, &resume)?;
        let shared = Arc::new(share(config, env, &found));
        let mut writer = Writer {
            shared: shared.clone(),
            catalog: found.catalog,
            journal,
            summaries: found.summaries,
            lock,
            schedule: Schedule::at_start(),
            tail: Tail::default(),
            repaired: (!found.recovery.quarantined.is_empty()).then_some(found.given_up),
            topics_changed: false,
            frame: Vec::new(),
        };
        writer.begin()?;
        let thread = std::thread::Builder::new()
            .name("trunkline-log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| Error::internal("no thread for the log").with_source(e))?;
        let owner = Owner {
            shared,
            recovery,
            writer: Mutex::new(Some(thread)),
        };
        Ok(Self {
            owner: Arc::new(owner),
        })
    }

    /// What was found when it was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.owner.recovery
    }

    /// Whether it can be written, as far as is known without writing.
    ///
    /// # Errors
    /// `Unavailable` after a sync failed or the log was closed.
    pub fn check(&self) -> Result<()> {
        if self.owner.shared.is_poisoned() {
            return Err(error::poisoned());
        }
        if self.owner.shared.pending.lock().closing {
            return Err(error::closed());
        }
        Ok(())
    }

    /// Lets go of a durable group that will not come back, so that what it never did may be dropped.
    ///
    /// # Errors
    /// `Conflict` if the group has members.
    pub async fn forget_group(&self, name: impl Into<ByteString>) -> Result<()> {
        self.owner.shared.ask(Control::Forget(name.into())).await
    }
}

impl Transport for Log {
    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::default();
        all.durable = true;
        all.ordered_by_key = true;
        all.groups = true;
        all.replay = true;
        all
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        async move {
            let known = {
                let directory = self.owner.shared.directory.read();
                topics.iter().all(|spec| {
                    let topic = directory.names.get(&spec.name);
                    let topic = topic.and_then(|at| directory.topics.get(*at));
                    topic.is_some_and(|topic| topic.spec.is_same_topic(spec))
                })
            };
            if known && !self.owner.shared.pending.lock().closing {
                return Ok(());
            }
            self.owner
                .shared
                .ask(Control::Declare(topics.to_vec()))
                .await
        }
        .boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        publish::publish(&self.owner.shared, batch).boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            let subscription = subscribe::subscribe(&self.owner.shared, spec).await?;
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.owner.shared.begin_close();
            self.owner.shared.wait_end().await;
            match self.owner.shared.failure.lock().take() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        }
        .boxed()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_close();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the log panicked");
        }
    }
}

/// Takes the folder for this process alone.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let file = private(options.create(true).truncate(false).write(true))
        .open(&path)
        .map_err(|e| error::io("the folder of the log can't be written", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = "another process has the log open, or this one has it open twice";
            Err(Error::conflict("log_in_use", message).with("folder", dir.display()))
        }
        Err(std::fs::TryLockError::Error(e)) => {
            Err(error::io("the folder of the log can't be locked", &path, e))
        }
    }
}

/// What everybody needs, from what was found.
fn share(config: LogConfig, env: Env, found: &Found) -> Shared {
    let files = Files::new(config.dir.clone(), found.log_id);
    for (segment, summary) in &found.summaries {
        files.set_end(*segment, summary.end);
    }
    let directory = build_directory(&found.catalog, &Directory::default());
    for partition in &directory.partitions {
        let mut state = partition.state.lock();
        let base = state.base;
        for summary in found.summaries.values() {
            let kept = summary
                .slots
                .get(&partition.slot)
                .is_some_and(|here| here.end > base);
            if kept {
                summary
                    .points(partition.slot)
                    .for_each(|point| state.add_point(point));
            }
        }
        for (slot, from, to) in &found.catalog.holes {
            if *slot == partition.slot {
                state.add_hole(*from, *to);
            }
        }
    }
    let shared = Shared::new(config, env, files);
    *shared.directory.write() = Arc::new(directory);
    let mut positions: BTreeMap<_, HashMap<_, _>> = BTreeMap::new();
    for ((group, slot), offset) in &found.catalog.positions {
        positions.entry(*group).or_default().insert(*slot, *offset);
    }
    let mut groups = shared.groups.lock();
    for (id, name) in &found.catalog.groups {
        let known = positions.remove(id).unwrap_or_default();
        groups.insert(
            name.clone(),
            Arc::new(Group::new(Some((*id, name.clone())), known)),
        );
    }
    drop(groups);
    shared
}

#[cfg(test)]
mod tests;
