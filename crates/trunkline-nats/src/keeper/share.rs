//! Taking and giving up partitions.

use async_nats::jetstream::consumer::{DeliverPolicy, Info, pull};
use futures::future::try_join_all;
use tokio::time::Instant;
use trunkline_core::{Error, Result};

use super::{Keeper, WRITES_MAX, confirm};
use crate::cursor::Cursor;
use crate::member::Source;
use crate::record::Record;
use crate::{consumers, names, store};

/// A partition's consumer, before it is opened.
struct Found {
    partition: u16,
    /// The first that is not settled.
    from: u64,
    /// The consumer, if nothing of it is out: it can be read as it is.
    clean: Option<Info>,
}

impl Keeper {
    /// Brings a topic's record up to date: who is dead, what is to be given up, what can be taken; then reads
    /// what is this member's. With `beat`, shows that this member lives.
    pub(super) async fn tend(&mut self, at: usize, mut beat: bool) -> Result<()> {
        let me = self.id.clone();
        for _ in 0..WRITES_MAX {
            self.fence(at);
            let (mut wanted, found) = self.wanted(at, beat).await?;
            let held = self.held(at);
            held.stale = false;
            if wanted == held.kept.record {
                return self.open_all(at, found).await;
            }
            if !beat && wanted.has(&me) {
                // Others count from this change on, so it has to be one that they see.
                wanted.beat(&me);
            }
            let (subject, revision) = (held.record.clone(), held.kept.revision);
            let sent = Instant::now();
            match store::save(&self.link, &subject, &wanted, revision).await? {
                Some(revision) => {
                    let until = sent + self.config.lease;
                    let held = self.held(at);
                    held.kept.record = wanted;
                    held.kept.revision = revision;
                    held.seen.look(&held.kept, sent);
                    beat = false;
                    if held.kept.record.has(&me) {
                        self.member.lease(at, until);
                    }
                    self.open_all(at, found).await?;
                }
                None => self.reload(at).await?,
            }
        }
        let message = "the record of a group is written by too many at once";
        Err(Error::unavailable("nats_group_busy", message).with("group", &self.group))
    }

    /// Drops what is somebody else's by now.
    fn fence(&mut self, at: usize) {
        let me = self.id.clone();
        let owned: Vec<u16> = self.held(at).kept.record.owned(&me).collect();
        let lost = |source: &Source| {
            source.topic == at
                && source
                    .partition
                    .is_none_or(|number| !owned.contains(&number))
        };
        drop(self.member.remove(lost));
    }

    /// The record as it ought to be, and the partitions that are to be opened when it is.
    async fn wanted(&mut self, at: usize, beat: bool) -> Result<(Record, Vec<Found>)> {
        let (now, lease, me) = (Instant::now(), self.config.lease, self.id.clone());
        let leaving = self.member.is_leaving();
        let held = self.held(at);
        held.seen.look(&held.kept, now);
        let mut wanted = held.kept.record.clone();
        for dead in held.seen.dead(&me, lease, now) {
            tracing::info!(member = %dead, "a member of the group is not heard of any more");
            wanted.remove(&dead);
        }
        if wanted.members.iter().any(|member| member.id != me) {
            held.moves = None;
        }
        if beat || !(leaving || wanted.has(&me)) {
            wanted.beat(&me);
        }
        let quota = if leaving { 0 } else { wanted.quota(&me) };
        let owned: Vec<u16> = wanted.owned(&me).collect();
        for number in owned.iter().skip(quota) {
            if self.let_go(at, *number, leaving).await?
                && let Some(share) = wanted.share_mut(*number)
            {
                share.owner = None;
            }
        }
        if leaving {
            if wanted.owned(&me).next().is_none() {
                wanted.remove(&me);
            }
            return Ok((wanted, Vec::new()));
        }
        let kept: Vec<u16> = owned.into_iter().take(quota).collect();
        let open = self.stay(at, &kept);
        let missing = kept.iter().copied().filter(|number| !open.contains(number));
        let free = wanted.free().take(quota.saturating_sub(kept.len()));
        let opening: Vec<u16> = missing.chain(free).collect();
        let looks = opening.iter().map(|number| self.look(at, *number, &wanted));
        let found = try_join_all(looks).await?;
        for one in &found {
            if let Some(share) = wanted.share_mut(one.partition) {
                share.owner = Some(me.clone());
                if one.clean.is_none() {
                    share.from = Some(one.from);
                }
            }
        }
        Ok((wanted, found))
    }

    /// Partitions that stay here; says which of them are open.
    fn stay(&self, at: usize, kept: &[u16]) -> Vec<u16> {
        let mut stays = false;
        let open = self.member.each(|source| {
            let number = source
                .partition
                .filter(|number| source.topic == at && kept.contains(number));
            stays |= number.is_some() && source.moving.take().is_some();
            number
        });
        if stays {
            self.member.wake.notify_one();
        }
        open
    }

    /// Gives a partition up when nothing of it is out, or, after the time of a lease, when nothing of it has
    /// begun; who leaves does not wait for what has not begun. Until then it hands out no more of it.
    async fn let_go(&mut self, at: usize, number: u16, leaving: bool) -> Result<bool> {
        let (now, lease) = (Instant::now(), self.config.lease);
        let mut ready = true;
        self.member.each(|source| {
            if source.topic == at && source.partition == Some(number) {
                let since = *source.moving.get_or_insert(now);
                let patient = !leaving && now.duration_since(since) < lease;
                ready = source.cursor.begun() == 0 && !(patient && source.cursor.out() > 0);
            }
            None::<()>
        });
        if !ready {
            return Ok(false);
        }
        let is_it = |source: &Source| source.topic == at && source.partition == Some(number);
        let given = self.member.remove(is_it);
        let floors = given
            .iter()
            .filter_map(|source| source.cursor.floor().cloned());
        confirm(&self.link, floors.collect()).await?;
        Ok(true)
    }

    /// Looks where a group is in a partition.
    async fn look(&self, at: usize, partition: u16, record: &Record) -> Result<Found> {
        let Some(held) = self.topics.get(at) else {
            return Err(Error::internal("a topic of the keeper is missing"));
        };
        let target = held
            .moves
            .as_ref()
            .and_then(|moves| moves.get(usize::from(partition)));
        if let Some(from) = target {
            let clean = None;
            return Ok(Found {
                partition,
                from: *from,
                clean,
            });
        }
        let name = names::consumer(&self.group, partition);
        let info = consumers::info(&self.link, &held.stream, &name).await?;
        let from = match &info {
            Some(info) => info.ack_floor.stream_sequence + 1,
            None => record
                .share(partition)
                .and_then(|share| share.from)
                .unwrap_or(1),
        };
        let clean = info.filter(|info| info.num_ack_pending == 0 && info.num_waiting == 0);
        Ok(Found {
            partition,
            from,
            clean,
        })
    }

    async fn open_all(&mut self, at: usize, found: Vec<Found>) -> Result<()> {
        let opens = found.into_iter().map(|found| self.open(at, found));
        for source in try_join_all(opens).await? {
            self.member.open(source);
        }
        Ok(())
    }

    /// Reads a partition from the first event that is not settled. What the one before had out would come only
    /// after newer ones, and its pull requests may still wait: so the consumer is made anew.
    async fn open(&self, at: usize, found: Found) -> Result<Source> {
        let Some(held) = self.topics.get(at) else {
            return Err(Error::internal("a topic of the keeper is missing"));
        };
        let name = names::consumer(&self.group, found.partition);
        let subject = self.names.partition(&held.name, found.partition);
        let policy = DeliverPolicy::ByStartSequence {
            start_sequence: found.from.max(1),
        };
        let config: pull::Config = consumers::durable(&self.config, &name, subject, policy);
        let info = match found.clean {
            Some(info) => info,
            None => {
                consumers::delete(&self.link, &held.stream, &name).await?;
                consumers::create(&self.link, &held.stream, &config).await?
            }
        };
        let next = info.delivered.consumer_sequence + 1;
        let batch = self.member.terms.in_flight_max;
        let stream = consumers::pull(&self.link, config, info, batch).await?;
        Ok(Source {
            topic: at,
            partition: Some(found.partition),
            stream,
            cursor: Cursor::new(next, self.config.ack_wait),
            moving: None,
        })
    }
}
