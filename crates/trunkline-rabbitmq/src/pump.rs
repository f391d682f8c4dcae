//! The task of a subscription: it acknowledges, wakes who waits for what is due, and shares with other members.

use std::sync::Arc;

use futures::future::join_all;
use tokio::time::{Instant, sleep_until};
use trunkline_core::Result;

use crate::amqp::{Connection, Consume};
use crate::lane::{Lane, Share};
use crate::member::{End, LaneEvents, Member};

pub(crate) struct Pump {
    pub(crate) member: Arc<Member>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) prefetch: u16,
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Pump {
    /// Works until the subscription ends, and takes leave.
    pub(crate) async fn run(self) {
        let member = self.member.clone();
        while !member.has_ended() {
            if let Err(error) = self.share().await {
                member.end(End::Failed(error));
                break;
            }
            let acks = member.acknowledge_due();
            tokio::select! {
                biased;
                () = member.work.notified() => {}
                () = until(self.next_due()) => member.ready.notify_one(),
                () = until(acks) => {}
            }
        }
        member.acknowledge();
        self.connection.close().await;
        // Whoever still holds a channel holds nothing any more.
        let mut state = member.state.lock();
        let channels: Vec<_> = state.lanes.iter_mut().map(Lane::give_up).collect();
        drop(state);
        drop(channels);
    }

    fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.member.state.lock();
        let dues = state.lanes.iter().filter_map(Lane::next_due);
        // What is due already waits for room or for its reader.
        dues.filter(|due| *due > now).min()
    }

    async fn share(&self) -> Result<()> {
        if self.member.is_reader {
            return Ok(());
        }
        self.ask().await;
        loop {
            let free = {
                let state = self.member.state.lock();
                let mut lanes = state.lanes.iter();
                lanes.position(|lane| lane.share == Share::Leaving && lane.is_free())
            };
            let Some(index) = free else {
                return Ok(());
            };
            self.give_away(index).await?;
        }
    }

    /// Finds out how many members there are, and marks what this one has beyond its share.
    async fn ask(&self) {
        let asked: Vec<_> = {
            let mut state = self.member.state.lock();
            let now = Instant::now();
            let is_new = state.lanes.iter().any(|lane| lane.share == Share::Asking);
            let is_due = now >= state.ask_at && state.out > 0;
            if !is_new && !is_due {
                return;
            }
            state.ask_at = now + self.member.rebalance;
            let lanes = state.lanes.iter();
            let active = lanes.filter(|lane| matches!(lane.share, Share::Asking | Share::Ours));
            active
                .filter_map(|lane| Some((lane.channel.clone()?, lane.queue.clone())))
                .collect()
        };
        let looks = asked.iter().map(|(channel, queue)| channel.look(queue));
        let looks = join_all(looks).await;
        // If it can't be told, the connection is about to end, and sharing is not what matters.
        let members = looks
            .into_iter()
            .flatten()
            .map(|queue| queue.consumers)
            .max();
        let members = usize::try_from(members.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        let mut state = self.member.state.lock();
        let share_max = state.lanes.len().div_ceil(members);
        let mut ours: Vec<&mut Lane> = Vec::new();
        for lane in &mut state.lanes {
            match lane.share {
                Share::Asking | Share::Ours => {
                    lane.share = Share::Ours;
                    ours.push(lane);
                }
                Share::Idle | Share::Leaving => {}
            }
        }
        // What is idle here moves at once; what is out has to be settled first.
        ours.sort_by_key(|lane| lane.unsettled());
        let surplus = ours.len().saturating_sub(share_max);
        for lane in ours.into_iter().take(surplus) {
            lane.share = Share::Leaving;
        }
        drop(state);
        self.member.ready.notify_one();
    }

    /// Closes a lane's channel, which gives its events back in order and makes the next member the active one, and
    /// stands in line again.
    async fn give_away(&self, index: usize) -> Result<()> {
        self.member.acknowledge();
        let channel = {
            let mut state = self.member.state.lock();
            let given = state.lanes.get_mut(index).map(Lane::give_up);
            let (channel, out) = given.unwrap_or_default();
            state.out -= out;
            channel
        };
        if let Some(channel) = channel {
            channel.close().await?;
        }
        self.begin(index).await
    }

    /// Begins to read a lane's queue.
    pub(crate) async fn begin(&self, index: usize) -> Result<()> {
        let (epoch, queue) = {
            let state = self.member.state.lock();
            let lane = state.lanes.get(index);
            lane.map(|lane| (lane.epoch, lane.queue.clone()))
                .unwrap_or_default()
        };
        let events = LaneEvents {
            member: self.member.clone(),
            lane: index,
            epoch,
        };
        let channel = Arc::new(self.connection.channel(Arc::new(events)).await?);
        // Known before the first event comes: it may be settled at once.
        if let Some(lane) = self.member.state.lock().lanes.get_mut(index) {
            lane.channel = Some(channel.clone());
        }
        let consume = Consume {
            queue: &queue,
            prefetch: self.prefetch,
        };
        channel.consume(consume).await
    }
}
